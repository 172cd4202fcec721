"""An access mask of random gates whose expected number is constrained."""

import math

import tensorflow as tf

from santm_tf import hard_concrete
from santm_tf.access import AccessMask, halved
from santm_tf.keras import keras, register
from santm_tf.types import Shape


@register
class HardConcreteMask(AccessMask):
    """An `AccessMask` of hard-concrete gates (Louizos et al. 2018, arXiv 1712.01312, equations 10 to 13).

    `a_t = min(1, max(0, 1.2 sigmoid((log xi - log(1 - xi) + s_t) / (2/3)) - 0.1))`, `xi ~ U(0, 1)`

    While training a step's gate is drawn once for the whole batch. At rest `sigmoid(s_t)` takes the place of
    the sigmoid. A gate may lie between 0 and 1. A Lagrangian holds the rate at most at rho = D / P: `penalty`
    adds `nu (mean_t Pr(a_t > 0) - rho)` to what is minimised, and nu >= 0 climbs on it (docs/equations.md,
    access mask). `L0Projection` lowers D. Where more gates are drawn open than the plan has places, the least
    open stay shut. Where none would be open, the likeliest is, wholly.

    Arguments, shapes and errors are `AccessMask`'s; `support` and `surrogate` have no meaning here. The plan
    is the whole period until `L0Projection` or `fit_plan` shortens it: unlikely gates are open at rest too.

    >>> from santm_tf import HardConcreteMask
    >>> layer = HardConcreteMask(period=64, access_rate=0.25, seed=0)
    >>> layer(tf.ones([1, 64, 1])).shape.as_list()
    [1, 64, 1]
    >>> round(float(tf.reduce_mean(layer.chances())), 2)
    0.25
    """

    def _places(self, training):
        """As in `AccessMask`. What is drawn in training needs the whole period, unless `limit` says less."""
        return self._plan_size if training else super()._places(training)

    def build(self, input_shape: Shape | None = None) -> None:
        self._plan_size = self._plan_size or self.period or input_shape[1]
        super().build(input_shape)
        self.multiplier = self.add_weight(name="multiplier", shape=[], initializer="ones",
                                          constraint=keras.constraints.NonNeg())

    def _add_scores(self, count):
        def first(shape, dtype=None):
            noise = tf.random.stateless_normal(shape, [self.seed or 0, 0], 0, 0.01, dtype)
            return noise + hard_concrete.location_of(count / self.period)

        return self.add_weight(name="log_alpha", shape=[self.period], initializer=first)

    def call(self, inputs: tf.Tensor, mask: tf.Tensor | None = None,
             training: bool | None = None) -> tf.Tensor:
        self.add_loss(self.penalty())
        return super().call(inputs, mask, training)

    def openings(self, training: bool = False) -> tf.Tensor:
        """a over a period, `[P]`: drawn, the same until the next `plan`, or as it is after training."""
        location = _float32(self.scores)
        moved = hard_concrete.noise([self.period], self._key(1)) if training else tf.zeros([self.period])
        a = hard_concrete.gate(location, moved if training else None)
        best = tf.one_hot(tf.argmax(location + moved), self.period)
        return tf.cast(tf.where(tf.reduce_max(a) > 0, a, best), self.compute_dtype)

    def emptied(self) -> bool:
        return float(tf.reduce_max(self.scores)) <= hard_concrete.SHUT

    def chances(self) -> tf.Tensor:
        """`Pr(a_t > 0)`, `[P]`."""
        return hard_concrete.chance(_float32(self.scores))

    def penalty(self) -> tf.Tensor:
        """0, with the gradient of `nu (mean Pr - rho)` to s, and its opposite to nu."""
        excess = tf.reduce_mean(self.chances()) - tf.cast(self.budget, tf.float32) / self.period
        return hard_concrete.lagrangian(_float32(self.multiplier), excess)

    def limit(self, count: int, spare: int = 0) -> None:
        """See `AccessMask.limit`; the plan holds what is open at rest, and what is drawn to 3 deviations."""
        self.budget.assign(count)
        expected = max(count, float(tf.reduce_sum(self.chances())))
        at_rest = float(tf.reduce_sum(tf.cast(self.openings() > 0, tf.float32)))
        wanted = max(expected + 3 * math.sqrt(expected), at_rest)
        self.plan_size = halved(self.period, wanted + spare)


def _float32(weight):
    """A weight's value, where the layer computes in half precision too."""
    return tf.cast(tf.convert_to_tensor(weight), tf.float32)
