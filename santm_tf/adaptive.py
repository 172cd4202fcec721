"""When the memory is accessed, decided by what was read: a gate of the levels below it."""

from typing import Any

import tensorflow as tf

from santm_tf import hard_concrete
from santm_tf.errors import ArgumentError
from santm_tf.keras import Layer, keras, register
from santm_tf.ops import at_least_float32, product, steps_of
from santm_tf.replicas import mean, own_rows
from santm_tf.types import Config, Shape

# The price of an excess, at once and for each unit of the multiplier. An optimiser such as Adam moves the
# multiplier at one pace, however small the excess. What gathers while rho falls must not outweigh the first.
AT_ONCE, LATER = 10.0, 0.1


@register
class AdaptiveAccess(Layer):
    """An access gate that depends on the input: each sequence accesses the memory at steps of its own.

    `s_t = v.x_t + v_0`,   `a_t = beta_t hard_concrete(s_t)`

    In a `SANTM` x is `[h^m_t ; h_t]`, and beta_t is 1 where a segment ends. `hard_concrete` is
    `santm_tf.hard_concrete.gate` (Louizos et al. 2018, arXiv 1712.01312): while training it is drawn, for
    each step of each sequence; at rest it follows from s alone. A Lagrangian holds the expected rate, the
    mean of `beta_t Pr(a_t > 0)` over the valid steps, at rho (`penalty`). It holds it from both sides: a
    memory that is not learned yet is a burden, and gates that could shut would shut before it is of use.
    Where rho is 1 every gate is open, as without one. `L0Projection` lowers rho: learn first, then choose.

    A step is accessed or not only once it is read. So the plan visits every step, and a batch of whole
    sequences takes as long as at a rate of 1. A stream still saves what a shut gate saves (`SANTM.step`).
    An `AccessMask` is known before, and saves in both.

    Args:
      access_rate: rho at first, in (0, 1].
      seed: of what is drawn.

    As a layer it gates a sequence by itself, x being the sequence and beta 1: `[B, T, d]`.

    Raises:
      ArgumentError: a rate outside (0, 1].

    >>> from santm_tf import AdaptiveAccess
    >>> layer = AdaptiveAccess(0.5)
    >>> layer.build([None, None, 1])
    >>> _ = layer.kernel.assign([[1.0]])
    >>> _ = layer.bias.assign([0.0])
    >>> layer(tf.constant([[[-4.0], [0.0], [1.0], [4.0]]])).numpy().ravel().round(2) + 0.0
    array([0.  , 0.  , 0.78, 4.  ], dtype=float32)
    """

    adaptive = True  # `AccessMask` is not
    period = 1  # nothing repeats: any number of steps is whole

    def __init__(self, access_rate: float = 1.0, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        if not 0 < access_rate <= 1:
            raise ArgumentError(f"AdaptiveAccess: access_rate={access_rate}; it must be in (0, 1]")
        self.initial_rate, self.seed, self.supports_masking = access_rate, seed, True

    def build(self, input_shape: Shape) -> None:
        constant = keras.initializers.Constant
        self.kernel = self.add_weight(name="kernel", shape=[input_shape[-1], 1], initializer="zeros",
                                      autocast=False)
        self.bias = self.add_weight(name="bias", shape=[1], autocast=False, initializer=constant(
            hard_concrete.location_of(self.initial_rate)))
        self.multiplier = self.add_weight(name="multiplier", shape=[], initializer="zeros", autocast=False)
        self.target = self.add_weight(name="target", shape=[], initializer=constant(self.initial_rate),
                                      trainable=False, autocast=False)
        self.draws = self.add_weight(name="draws", shape=[], dtype="int32", trainable=False,
                                     initializer="zeros")
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, mask: tf.Tensor | None = None,
             training: bool | None = None) -> tf.Tensor:
        t, _ = self.plan(steps_of(inputs), bool(training))
        moved, _ = self.gates_of(t, steps_of(inputs, axis=0), bool(training))
        a, chance = self.opened(inputs, moved)
        valid = tf.ones_like(chance) if mask is None else tf.cast(mask, chance.dtype)
        expected = tf.reduce_sum(chance * valid, 1) / tf.maximum(tf.reduce_sum(valid, 1), 1)
        self.add_loss(tf.cast(self.penalty(expected), keras.backend.floatx()))
        return inputs * a[..., None]

    def opened(self, x: tf.Tensor, moved: tf.Tensor | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        """The gate where x is `[..., d]`, and how likely it is to be open.

        Args:
          moved: as `gates_of` gives it; None at rest.

        Returns:
          `[...]` both.
        """
        precise = at_least_float32(x)
        kernel, bias = (tf.cast(w, precise.dtype) for w in (self.kernel, self.bias))
        moved = None if moved is None else tf.cast(moved, precise.dtype)
        location = (product(precise, kernel) + bias)[..., 0]
        a, chance = hard_concrete.gate(location, moved), hard_concrete.chance(location)
        everywhere = tf.convert_to_tensor(self.target) >= 1
        a, chance = (tf.where(everywhere, tf.ones_like(v), v) for v in (a, chance))
        return tf.cast(a, x.dtype), chance

    def plan(self, steps: int | tf.Tensor, training: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
        """Every step, as `AccessMask.plan` gives them; while training the next draw begins."""
        if training:
            self.draws.assign_add(1)
        t = tf.range(steps)
        return t, tf.ones_like(t, tf.bool)

    def shortest_plan(self, steps: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Every step."""
        return self.plan(steps)

    def visits(self, steps: int) -> int:
        """How many of so many steps the plan visits: all."""
        return steps

    def fit_plan(self) -> None:
        """Nothing: there is no shorter plan."""

    def gates(self, t: tf.Tensor) -> tuple[None, float]:
        """What `gates_of` gives at rest, and so for one step."""
        del t
        return None, 1.0

    def gates_of(self, t: tf.Tensor, rows: int | tf.Tensor,
                 training: bool = False) -> tuple[tf.Tensor | None, float]:
        """What is drawn for `opened` at the steps t `[S]` of each sequence, `[B, S]`; and delta, 1."""
        if not training:
            return self.gates(t)
        key = tf.stack([self.seed or 0, tf.convert_to_tensor(self.draws)])
        return own_rows(lambda every: hard_concrete.noise([every, steps_of(t, axis=0)], key), rows), 1.0

    def watched(self, y: tf.Tensor) -> tf.Tensor:
        """y, as `AccessMask.watched` has it."""
        return y

    def penalty(self, expected: tf.Tensor) -> tf.Tensor:
        """0, with the gradient of `(10 e + nu / 10) e`, the price held; e is the mean expected less rho.

        nu gets -e/10. This is an augmented Lagrangian (Nocedal and Wright 2006, section 17.3).

        Args:
          expected: the expected rate of each sequence, `[B]`; of no sequences there is no excess.
        """
        target, multiplier = (tf.cast(w, tf.float32) for w in (self.target, self.multiplier))
        excess = mean(tf.cast(expected, tf.float32), of_none=target) - target
        price = LATER * multiplier + AT_ONCE * tf.stop_gradient(excess)
        return hard_concrete.lagrangian(price, excess)

    def hold_at(self, rate: float) -> None:
        """Sets rho."""
        self.target.assign(rate)

    def get_config(self) -> Config:
        return {**super().get_config(), "access_rate": self.initial_rate, "seed": self.seed}
