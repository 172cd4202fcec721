"""An access mask that keeps the steps which the loss misses most when they are shut."""

import tensorflow as tf

from santm_tf.access import AccessMask, halved
from santm_tf.keras import register
from santm_tf.ops import at_least_float32
from santm_tf.types import Shape

PROBES = 4  # one sequence in so many of a batch
KEPT = 0.97  # of a score, a probe of its step
LEAST = 1e-30  # the score of an open step; at 0 it would be shut


@register
class AblationMask(AccessMask):
    """An `AccessMask` that shuts the steps which matter least: it tries what shutting them does.

    While D falls every fourth sequence of a batch is a probe: one more step t is shut in it, drawn from the
    open ones. What its loss then still asks for is `G_b = |d loss / d y_b|^2`, y_b what the layer gives.
    `s_t <- 0.97 s_t + 0.03 G_b / mean_b G_b` for each probe b of step t

    The mean is over the whole batch, so that a step which nothing misses comes to 1 or less. Where the model
    fits, G_b is near 0 in all sequences but the probes of steps that matter. To prune by what a removal does
    is the oracle of Molchanov et al. 2017 (arXiv 1611.06440, section 2.2). Probes are not trained on: their
    gradient ends here, so that the model does not learn to do without single steps. The optimiser has no
    part in the scores: Adam moves them all at one pace, however little their steps matter. `L0Projection`
    lowers D, and `AtMost` keeps the D highest. What is shut stays shut.

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
    >>> int(tf.argmax(mask.scores))
    1
    """

    trained = False

    def build(self, input_shape: Shape | None = None) -> None:
        super().build(input_shape)
        self.falls = self.add_weight(name="falls", shape=[], dtype="int32", trainable=False,
                                     initializer="zeros")

    def limit(self, count: int, spare: int = 0) -> None:
        """See `AccessMask.limit`; with spare places D is yet to fall, and batches have probes.

        A shut step needs no place in the plan, as it stays shut.
        """
        super().limit(count, spare)
        if spare:
            self.plan_size = halved(self.period, count)
        self.falls.assign(int(spare > 0))

    def gates_of(self, t: tf.Tensor, rows: int | tf.Tensor,
                 training: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
        a, delta = super().gates_of(t, rows, training)
        if training:
            shut = t % self.period == self._probed(rows)[:, None]
            a = tf.where(shut, tf.zeros_like(a), a)
        return a, delta

    def watched(self, y: tf.Tensor) -> tf.Tensor:
        """y `[B, ...]`, of which the way back scores the steps that were shut in probes."""
        probed = self._probed(tf.shape(y)[0])

        @tf.custom_gradient
        def watch(y):
            def backward(gradient):
                self._score(probed, gradient)
                trained = tf.reshape(probed < 0, [-1] + [1] * (gradient.shape.rank - 1))
                return tf.where(trained, gradient, tf.zeros_like(gradient))

            return tf.identity(y), backward

        return watch(y)

    def _probed(self, rows):
        """The step that each sequence probes, int32 `[B]`, -1 for none: the same until the next `plan`."""
        drawn = tf.random.stateless_uniform([rows, self.period], self._key(1))
        step = tf.argmax(tf.where(self.openings() > 0, drawn, -1.0), 1, tf.int32)
        return tf.where((tf.range(rows) % PROBES == 0) & (self.falls > 0), step, -1)

    def _score(self, probed, gradient):
        """Takes the gradients `[B, ...]` of what the layer gave into the scores."""
        asked = tf.reduce_sum(tf.reshape(at_least_float32(gradient), [tf.shape(probed)[0], -1]) ** 2, 1)
        share = tf.math.divide_no_nan(asked, tf.reduce_mean(asked))
        mine = probed[:, None] == tf.range(self.period)
        probes = tf.reduce_sum(tf.cast(mine, share.dtype), 0)
        found = tf.math.divide_no_nan(tf.reduce_sum(tf.where(mine, share[:, None], 0.0), 0), probes)
        kept = tf.pow(KEPT, probes)
        scores = tf.convert_to_tensor(self.scores)
        new = tf.maximum(kept * scores + (1 - kept) * found, LEAST)
        told = (probes > 0) & tf.math.is_finite(new) & (tf.reduce_sum(asked) > 0)
        self.scores.assign(tf.where(told, new, scores))
