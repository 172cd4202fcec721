"""The gradients' global norm, noted inside the optimiser's step."""

import tensorflow as tf

from santm_tf.keras import before_updates


class GradientNorm:
    """Mean over steps of the gradients' global norm before clipping, `sqrt(sum_i ||g_i||^2)`.

    It is noted where the optimiser is handed the gradients, without a second backward pass. The optimiser's
    class and what it saves stay the same.

    Args:
      optimizer: a compiled model's, of any Keras kind; what is traced afterwards notes the norm. In a
        `LossScaleOptimizer` it is that of the unscaled gradients, in the steps that are applied.

    >>> optimizer, weights = tf.keras.optimizers.SGD(global_clipnorm=1.0), tf.Variable([0.0, 0.0])
    >>> norm = GradientNorm(optimizer)
    >>> for gradient in ([3.0, 4.0], [0.0, 1.0]):
    ...     _ = optimizer.apply_gradients([(tf.constant(gradient), weights)])
    >>> norm.mean_and_reset()
    3.0
    """

    def __init__(self, optimizer):
        # Their sum, and of how many steps. Kept outside the optimiser, which would save it.
        self._noted = tf.Variable(tf.zeros([2]), trainable=False)
        before_updates(getattr(optimizer, "inner_optimizer", optimizer), self._note)

    def mean_and_reset(self):
        """The mean over the steps since it was last asked for; 0 without any."""
        total, steps = self._noted.numpy()
        self._noted.assign(tf.zeros([2]))
        return float(total / max(steps, 1))

    def _note(self, gradients):
        norm = tf.linalg.global_norm(gradients)
        self._noted.assign_add([tf.cast(norm, tf.float32), 1])
