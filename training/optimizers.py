"""Optimisers that Keras 2 does not have: RectifiedAdam, which Keras 3 does not have either, and Lamb."""

import tensorflow as tf

from santm_tf.keras import keras, place_of, register


class _OfMoments(keras.optimizers.Adam):
    """`theta_t = theta_{t-1} - rate * change(...)`, of Adam's bias-corrected moments of the gradient."""

    def update_step(self, gradient, variable, learning_rate=None):
        def cast(value):
            return tf.cast(tf.convert_to_tensor(value), variable.dtype)

        rate = cast(self.learning_rate if learning_rate is None else learning_rate)
        steps, gradient, place = cast(self.iterations + 1), cast(gradient), place_of(self, variable)
        b1, b2 = (tf.constant(beta, variable.dtype) for beta in (self.beta_1, self.beta_2))
        m, v = self._momentums[place], self._velocities[place]
        m.assign(m + (gradient - m) * (1 - b1))
        v.assign(v + (gradient ** 2 - v) * (1 - b2))
        mean, size = m / (1 - b1 ** steps), tf.sqrt(v / (1 - b2 ** steps)) + self.epsilon
        variable.assign_sub(rate * self.change(variable, mean, size, steps))

    def change(self, variable, mean, size, steps):
        """What the learning rate is multiplied by.

        Args:
          variable: the weight. mean: of its gradient. size: square root of the gradient's mean square, plus
            epsilon. steps: how many updates there were, with this one.
        """
        raise NotImplementedError


@register
class RectifiedAdam(_OfMoments):
    """Adam whose first updates do without the gradient's mean square, and the next trust it little.

    `rho_t = rho - 2 t b^t / (1 - b^t)`, `rho = 2 / (1 - b) - 1`, `b = beta_2`
    `r_t = sqrt((rho_t - 4) (rho_t - 2) rho / ((rho - 4) (rho - 2) rho_t))`
    `theta_t = theta_{t-1} - rate (r_t m_t / v_t if rho_t >= 5 else m_t)`, `m_t`, `v_t` as in Adam

    Liu et al. 2020, arXiv 1908.03265. Arguments are those of `keras.optimizers.Adam`.

    >>> optimizer, weight = RectifiedAdam(0.1), tf.Variable(1.0)
    >>> optimizer.build([weight])
    >>> _ = optimizer.apply_gradients([(tf.constant(2.0), weight)])
    >>> round(float(weight), 6)
    0.8
    """

    def change(self, variable, mean, size, steps):
        power = tf.constant(self.beta_2, size.dtype) ** steps
        most = 2 / (1 - self.beta_2) - 1
        length = most - 2 * steps * power / (1 - power)
        rectifier = tf.sqrt((length - 4) / (most - 4) * (length - 2) / (most - 2) * most / length)
        return tf.where(length >= 5, rectifier * mean / size, mean)


@register
class Lamb(_OfMoments):
    """Adam whose update of each weight is as long as the weight, times the learning rate.

    `theta_t = theta_{t-1} - rate u ||theta_{t-1}|| / ||u||`, `u = m_t / v_t` as in Adam; the ratio is 1 where
    one of the norms is 0. You et al. 2020, arXiv 1904.00962. Arguments are those of `keras.optimizers.Adam`.

    >>> optimizer, weight = Lamb(0.1), tf.Variable([3.0, 4.0])
    >>> optimizer.build([weight])
    >>> _ = optimizer.apply_gradients([(tf.constant([0.0, 2.0]), weight)])
    >>> weight.numpy().round(4).tolist()
    [3.0, 3.5]
    """

    def __init__(self, learning_rate=1e-3, beta_1=0.9, beta_2=0.999, epsilon=1e-6, **kwargs):
        super().__init__(learning_rate, beta_1, beta_2, epsilon, **kwargs)

    def change(self, variable, mean, size, steps):
        update = mean / size
        weight_norm, norm = tf.norm(variable), tf.norm(update)
        return update * tf.where((weight_norm > 0) & (norm > 0), weight_norm / norm, 1.0)


def constant_rate(optimizer):
    """The learning rate of an optimiser that has no schedule, else None."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)  # of half precision
    return None if callable(inner._learning_rate) else float(inner._learning_rate)
