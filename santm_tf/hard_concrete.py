"""Hard-concrete gates: the access mask as random gates whose expected number is constrained."""

import math

import tensorflow as tf

from santm_tf.access import AccessMask, halved
from santm_tf.ops import sigmoid

TEMPERATURE, BELOW, ABOVE = 2 / 3, -0.1, 1.1  # beta, gamma, zeta of Louizos et al. 2018, section 3


@tf.keras.utils.register_keras_serializable("santm_tf")
class HardConcreteMask(AccessMask):
    """An `AccessMask` of hard-concrete gates (Louizos et al. 2018, arXiv 1712.01312, equations 10 to 13).

    `u_t ~ U(0, 1)`,   `s_t = sigma((log u_t - log(1 - u_t) + log alpha_t) / beta)`
    `a_t = min(1, max(0, s_t (zeta - gamma) + gamma))`
    `P(a_t > 0) = sigma(log alpha_t - beta log(-gamma / zeta))`

    While training the gates of a step are drawn once for the whole batch; otherwise
    `s_t = sigma(log alpha_t)`, and gates may lie between 0 and 1. The access rate is held at most at
    rho = k / P by a Lagrangian: `penalty` adds `lambda (mean_t P(a_t > 0) - rho)` to what is minimised,
    and lambda >= 0 climbs on it. `L0Projection` lowers rho as it lowers an `AccessMask`'s k. Where the
    gates drawn open are more than the plan has places, the least open stay shut; where none would be
    open, the likeliest is, wholly.

    Arguments, shapes and errors are `AccessMask`'s; `support` and `surrogate` have no meaning here. The plan
    is the whole period until `L0Projection` or `fit_plan` shortens it: unlikely gates are open at rest too.

    >>> from santm_tf import HardConcreteMask
    >>> layer = HardConcreteMask(period=64, access_rate=0.25, seed=0)
    >>> layer(tf.ones([1, 64, 1])).shape.as_list()
    [1, 64, 1]
    >>> round(float(tf.reduce_mean(layer.chances())), 2)
    0.25
    """

    def __init__(self, period=None, access_rate=1.0, plan_size=None, seed=None, **kwargs):
        super().__init__(period, access_rate, plan_size, seed, **kwargs)

    def _first_plan_size(self):
        return self.period

    def build(self, input_shape=None):
        super().build(input_shape)
        self.multiplier = self.add_weight("multiplier", [], initializer="ones",
                                          constraint=tf.keras.constraints.NonNeg())

    def _add_scores(self, count):
        rate = min(count / self.period, 0.99)

        def first(shape, dtype=None):
            noise = tf.random.stateless_normal(shape, [self.seed or 0, 0], 0, 0.01, dtype)
            return noise + math.log(rate / (1 - rate)) + TEMPERATURE * math.log(-BELOW / ABOVE)

        return self.add_weight("log_alpha", [self.period], initializer=first)

    def call(self, inputs, mask=None, training=None):
        self.draws.assign_add(int(bool(training)))
        self.add_loss(self.penalty())
        return super().call(inputs, mask, training)

    def openings(self, training=False):
        """a over a period, `[P]`: drawn, the same until the next `plan`, or as it is after training."""
        location = _float32(self.scores)
        if training:
            u = tf.random.stateless_uniform([self.period], self._key(1), 1e-6, 1 - 1e-6)
            location = (tf.math.log(u) - tf.math.log1p(-u) + location) / TEMPERATURE
        a = tf.clip_by_value(sigmoid(location) * (ABOVE - BELOW) + BELOW, 0.0, 1.0)
        best = tf.one_hot(tf.argmax(location), self.period)
        return tf.cast(tf.where(tf.reduce_max(a) > 0, a, best), self.compute_dtype)

    def emptied(self):
        return float(tf.reduce_max(self.scores)) <= math.log(-BELOW / ABOVE)

    def chances(self):
        """`P(a_t > 0)`, `[P]`."""
        return sigmoid(_float32(self.scores) - TEMPERATURE * math.log(-BELOW / ABOVE))

    def penalty(self):
        """0, with the gradient of `lambda (mean P - rho)` to log alpha, and its opposite to lambda."""
        excess = tf.reduce_mean(self.chances()) - tf.cast(self.budget, tf.float32) / self.period
        held = tf.stop_gradient
        multiplier = _float32(self.multiplier)
        return held(multiplier) * (excess - held(excess)) - (multiplier - held(multiplier)) * held(excess)

    def limit(self, count, spare=0):
        """See `AccessMask.limit`; the plan holds what is open at rest, and what is drawn to 3 deviations."""
        self.budget.assign(count)
        expected = max(count, float(tf.reduce_sum(self.chances())))
        at_rest = float(tf.reduce_sum(tf.cast(self.openings() > 0, tf.float32)))
        wanted = max(expected + 3 * math.sqrt(expected), at_rest)
        self.plan_size = halved(self.period, wanted + spare)


def _float32(weight):
    """A weight's value, where the layer computes in half precision too."""
    return tf.cast(tf.convert_to_tensor(weight), tf.float32)
