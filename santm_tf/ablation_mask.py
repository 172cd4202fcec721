"""An access mask that keeps the steps which the loss misses most when they are shut."""

import numpy as np
import tensorflow as tf

from santm_tf.access import AccessMask
from santm_tf.gradients import custom_gradient
from santm_tf.keras import register
from santm_tf.ops import at_least_float32
from santm_tf.replicas import mean, own_rows, total
from santm_tf.types import Shape

PROBES = 4  # one sequence in so many of a batch has an open step shut, one in twice as many a shut one opened
KEPT = 0.97  # of a worth, a probe of its step
MARGIN = 0.3  # by which a shut step's worth is above that of the open one whose place it takes
DROPPED = 0.5  # of the steps that are to go, in sequences that are no probes
LOWEST = 1e-3  # score of the least open step, above `projection.LEAST`, that of a mask kept from being empty
DRAWS = 2 ** 30  # more than a run has batches: other keys than those of probes
RESTING, PROBING, DROPPING = range(3)


@register
class AblationMask(AccessMask):
    """An `AccessMask` that learns which steps matter from what the loss asks without each of them.

    While D falls, and for a third of the fall after it, some sequences of a batch are probes. Each has the
    mask but for one step t: an open one, drawn at random, is shut, or a shut one is open. What its loss then
    asks for is `G_b = |d loss / d y_b|^2`, y_b what the layer gives. R is the mean of G over the sequences
    that are no probes. For each probe b of step t

    `w_t <- 0.97 w_t + 0.03 (G_b - R) / mean_b G_b`, and `(R - G_b)` where t is open in b alone

    Both say what is lost where t is shut: w_t is what step t is worth. Where the model fits, G_b is near 0 in
    all sequences but the probes of steps that matter. To prune by what a removal does is the oracle of
    Molchanov et al. 2017 (arXiv 1611.06440, section 2.2). Probes are not trained on: their gradient ends
    here, so that the model does not learn to do without single steps. The optimiser has no part in the
    scores: Adam moves them all at one pace, however little their steps matter.

    After each epoch the scores follow the worths, and `L0Projection` has the D highest stay. A shut step that
    is worth more by 0.3 takes the place of an open one, one in 25 steps an epoch. From the first scores on,
    each open step that is not among the D* highest is dropped from half of the sequences that are no probes
    (targeted dropout, Gomez et al. 2019, arXiv 1905.13678, at the level of steps). So the model learns to do
    without what is to go. Else it leans on steps that it could do without, all open ones are worth the same
    near D*, and the last to be shut are drawn by chance.

    What is found before the task is learned is noise: let the fall wait for the loss (`below` of
    `L0Projection`). Arguments, shapes and errors are `AccessMask`'s; `support` and `surrogate` have no
    meaning here.

    >>> from santm_tf import AblationMask
    >>> mask = AblationMask(period=3, seed=0)
    >>> x = tf.ones([64, 3, 1])
    >>> _ = mask(x)
    >>> mask.limit(3, spare=1)  # as `L0Projection` does while D falls
    >>> with tf.GradientTape() as tape:  # of x only the second step matters
    ...     loss = tf.reduce_mean((1 - mask(x, training=True)[:, 1]) ** 2)
    >>> _ = tape.gradient(loss, mask.step_weight)
    >>> int(tf.argmax(mask.worth))
    1
    """

    trained = False
    settling = 1 / 3

    def build(self, input_shape: Shape | None = None) -> None:
        super().build(input_shape)
        self.stage = self.add_weight(name="stage", shape=[], dtype="int32", trainable=False,
                                     initializer="zeros")
        self.worth = self.add_weight(name="worth", shape=[self.period], trainable=False, autocast=False,
                                     initializer="zeros")

    def limit(self, count: int, spare: int = 0) -> None:
        """See `AccessMask.limit`; with spare places batches have probes."""
        super().limit(count, spare)
        self.stage.assign(max(PROBING, int(self.stage.numpy())) if spare else RESTING)

    def exchange(self) -> None:
        """Has the scores follow the worths, and shut steps take the places of those that are worth less."""
        worth, on = self.worth.numpy(), self.scores.numpy() > 0
        if self.stage.numpy() == RESTING:
            return
        for _ in range(max(1, self.period // 25) if not on.all() else 0):
            out, into = np.argmin(np.where(on, worth, np.inf)), np.argmax(np.where(on, -np.inf, worth))
            if worth[into] <= worth[out] + MARGIN:
                break
            on[out], on[into] = False, True
        self.scores.assign(np.where(on, worth - worth[on].min() + LOWEST, 0.0))
        self.stage.assign(DROPPING)

    def gates_of(self, t: tf.Tensor, rows: int | tf.Tensor,
                 training: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
        a, delta = super().gates_of(t, rows, training)
        if training:
            probed, place = self._probed(rows)[:, None], t % self.period
            dropped = tf.gather(self._dropped(rows), place, axis=1) & (probed < 0)
            a = tf.where(place == probed, 1 - a, tf.where(dropped, tf.zeros_like(a), a))
        return a, delta

    def watched(self, y: tf.Tensor) -> tf.Tensor:
        """y `[B, ...]`, of which the way back tells what the steps are worth that were turned over."""
        probed = self._probed(tf.shape(y)[0])

        @custom_gradient
        def watch(y):
            def backward(gradient):
                self._tell(probed, gradient)
                trained = tf.reshape(probed < 0, [-1] + [1] * (gradient.shape.rank - 1))
                return tf.where(trained, gradient, tf.zeros_like(gradient))

            return tf.identity(y), backward

        return watch(y)

    def _probed(self, rows):
        """The step that each sequence probes, int32 `[B]`, -1 for none: the same until the next `plan`."""
        drawn = self._drawn(rows, self._key(1))
        row, on = own_rows(tf.range, rows)[:, None], self.openings() > 0
        chosen = self._chosen(True)
        visited = tf.scatter_nd(chosen[:, None], tf.ones_like(chosen), [self.period]) > 0
        may = tf.where(row % PROBES == 0, on, (row % (2 * PROBES) == PROBES // 2) & ~on & visited)
        step = tf.argmax(tf.where(may, drawn, -1.0), 1, tf.int32)
        return tf.where(tf.reduce_any(may, 1) & (self.stage >= PROBING), step, -1)

    def _dropped(self, rows):
        """Which steps each sequence is without, bool `[B, P]`."""
        scores = tf.convert_to_tensor(self.scores)
        goes = scores < tf.math.top_k(scores, self.aim or self.period).values[-1]
        drawn = self._drawn(rows, self._key(1) + [0, DRAWS])
        return goes & (drawn < DROPPED) & (self.stage == DROPPING)

    def _drawn(self, rows, key):
        return own_rows(lambda every: tf.random.stateless_uniform([every, self.period], key), rows)

    def _tell(self, probed, gradient):
        """Takes the gradients `[B, ...]` of what the layer gave into the worths."""
        asked = tf.reduce_sum(tf.reshape(at_least_float32(gradient), [tf.shape(probed)[0], -1]) ** 2, 1)
        usual, rest = mean(asked), tf.cast(probed < 0, asked.dtype)
        rest = tf.math.divide_no_nan(*total(tf.reduce_sum(rest * asked), tf.reduce_sum(rest)))
        share = tf.math.divide_no_nan(asked - rest, usual)
        mine = probed[:, None] == tf.range(self.period)
        probes, found = total(tf.reduce_sum(tf.cast(mine, share.dtype), 0),
                              tf.reduce_sum(tf.where(mine, share[:, None], 0.0), 0))
        found = tf.math.divide_no_nan(found, probes)
        found = tf.where(self.openings() > 0, found, -found)
        kept, before = tf.pow(KEPT, probes), tf.convert_to_tensor(self.worth)
        told = (probes > 0) & tf.math.is_finite(found) & (usual > 0)
        self.worth.assign(tf.where(told, kept * before + (1 - kept) * found, before))
