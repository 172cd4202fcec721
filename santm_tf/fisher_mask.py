"""An access mask that keeps the steps whose gates matter most to the loss, by their Fisher information."""

import tensorflow as tf

from santm_tf.access import AccessMask
from santm_tf.keras import register
from santm_tf.ops import at_least_float32

DECAY = 0.99  # of the running mean, a batch
LEAST = 1e-30  # the score of an open step; at 0 it would be shut


@register
class FisherMask(AccessMask):
    """An `AccessMask` that shuts the steps which matter least: its scores are the gates' Fisher information.

    `F_t = mean_b (d loss_b / d a_t)^2`,   `s_t <- 0.99 s_t + 0.01 F_t / mean F`   where step t is open

    b runs over the sequences of a batch. Half of F_t is what shutting gate t adds to the loss, to second
    order, where the loss is a log-likelihood that the model fits (Theis et al. 2018, arXiv 1801.05787,
    equations 5 to 8). It is gathered in the backward pass. The optimiser has no part in it: Adam moves all
    scores at one pace, however little their steps matter. `L0Projection` lowers D, and `AtMost` keeps the D
    highest. What is shut stays shut. What is gathered before the task is learned is noise: let the fall wait
    for the loss (`below` of `L0Projection`).

    Arguments, shapes and errors are `AccessMask`'s; `support` and `surrogate` have no meaning here.

    >>> from santm_tf import FisherMask
    >>> mask = FisherMask(period=4, seed=0)
    >>> mask.build()
    >>> with tf.GradientTape() as tape:
    ...     a, _ = mask.gates_of(tf.range(4), rows=2, training=True)
    ...     loss = tf.reduce_mean(tf.reduce_sum(a * [0.0, 3.0, 1.0, 0.0], 1))
    >>> before = mask.scores.numpy()
    >>> _ = tape.gradient(loss, mask.step_weight)
    >>> (mask.scores.numpy() > before).tolist()
    [False, True, False, False]
    """

    trained = False

    def gates_of(self, t: tf.Tensor, rows: int | tf.Tensor,
                 training: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
        a, delta = super().gates_of(t, rows, training)
        if not training:
            return a, delta

        @tf.custom_gradient
        def watched(a, delta):
            def backward(d_a, d_delta):
                self._gather(t, d_a)
                return d_a, d_delta

            return (tf.identity(a), tf.identity(delta)), backward

        return watched(a, delta)  # delta, which is trained, has a tape come here

    def _gather(self, t, gradient):
        """Takes the gradients `[B, S]` of the gates at the steps t into the scores."""
        of_steps = tf.transpose(at_least_float32(gradient))
        of_gates = tf.math.unsorted_segment_sum(of_steps, t % self.period, self.period)
        scores = tf.convert_to_tensor(self.scores)
        open_ = tf.cast(scores > 0, tf.float32)
        fisher = open_ * tf.reduce_sum(of_gates ** 2, 1)
        total = tf.reduce_sum(fisher)
        share = tf.math.divide_no_nan(fisher, total) * tf.reduce_sum(open_)
        told = (scores > 0) & (total > 0) & tf.math.is_finite(total)
        new = tf.maximum(DECAY * scores + (1 - DECAY) * share, LEAST)
        self.scores.assign(tf.where(told, new, scores))
