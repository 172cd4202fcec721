"""When the memory is accessed: a learned binary mask over time, and the plan that follows it."""

from typing import Any

import numpy as np
import tensorflow as tf

from santm_tf.errors import ArgumentError
from santm_tf.gradients import custom_gradient
from santm_tf.keras import Layer, keras, known, register
from santm_tf.ops import sigmoid, steps_of
from santm_tf.projection import LEAST, AtMost, accesses
from santm_tf.types import Config, Shape


def _sigmoid_slope(s):
    p = sigmoid(s)
    return p * (1 - p)


def _double_tanh_slope(s, u=1.0):
    far, near = tf.tanh(2 * u - s), tf.tanh(-s)
    return tf.where(s < u, 0.5 * ((1 - far ** 2) + (1 - near ** 2)), 0.0)


FIXED = ("uniform", "random")  # supports that are not learned
SURROGATES = {"sigmoid": _sigmoid_slope, "double_tanh": _double_tanh_slope}


def accessed(scores, surrogate="sigmoid"):
    """`1[s > 0]` forward, the slope of a smooth step backward.

    `sigmoid`: that of `sigmoid(s)`. `double_tanh`: that of the paper's
    `1 - relu((tanh(x + 1) + tanh(x - 1)) / 2)` at x = 1 - s. It is steeper at 0, and flat from 1 on, so that
    steps well inside the support stay there.

    >>> accessed(tf.constant([-1.0, 0.0, 2.0])).numpy().tolist()
    [0.0, 0.0, 1.0]
    """
    @custom_gradient
    def step(s):
        def slope(upstream):
            d = upstream * SURROGATES[surrogate](s)
            return tf.where(tf.math.is_finite(d), d, 0)  # a NaN in the data shuts no step

        return tf.cast(s > 0, s.dtype), slope

    return step(scores)


@register
class AccessMask(Layer):
    """A learned binary access mask over time, the same for every sequence: `m_t = a_t delta_t h_t`.

    `a_t = 1[s_{t mod P} > 0]` under `||a||_0 <= D` a period, which `AtMost` keeps; delta a learned weight of
    each step. Shan et al. 2025; docs/equations.md, access mask. The mask does not depend on the input, so the
    steps to access are known before the sequence is read: `plan` gives them. `L0Projection` lowers D.

    Args:
      period: P, in steps (default: the length of the sequences). In longer sequences the mask repeats.
      access_rate: the share of a period's steps accessed at first, in (0, 1], at equal gaps. At 1 the scores
        start random, so that what `L0Projection` drops first is not a matter of order.
      support: "learned"; or fixed, "uniform" at equal gaps or "random", for comparison.
      surrogate: "sigmoid" or "double_tanh", see `accessed`.
      plan_size: steps of a period in a plan (default: D; see `plan`).

    As a layer it gates a sequence: input and output `[B, T, d]`.

    Raises:
      ValueError: a period below 1, a rate outside (0, 1].

    >>> from santm_tf import AccessMask
    >>> AccessMask(period=4, access_rate=0.5)(tf.ones([1, 8, 1])).numpy().ravel().tolist()
    [0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0]
    """

    trained = True  # whether the optimiser moves the scores of a learned support
    adaptive = False  # the mask does not depend on the input
    settling = 0.0  # the share of a fall, its end, in which D stays and steps are exchanged
    aim = None  # D*, while `L0Projection` lowers D

    def __init__(self, period: int | None = None, access_rate: float = 1.0, plan_size: int | None = None,
                 seed: int | None = None, support: str = "learned", surrogate: str = "sigmoid",
                 **kwargs: Any):
        super().__init__(**kwargs)
        if period is not None and period < 1:
            raise ArgumentError(f"AccessMask: period={period}; it must be at least 1")
        if not 0 < access_rate <= 1:
            raise ArgumentError(f"AccessMask: access_rate={access_rate}; it must be in (0, 1]")
        if support not in ("learned", *FIXED):
            raise ArgumentError(f"AccessMask: support={support!r}; use one of learned, {', '.join(FIXED)}")
        if surrogate not in SURROGATES:
            raise ArgumentError(f"AccessMask: surrogate={surrogate!r}; use one of {', '.join(SURROGATES)}")
        self.period, self.initial_rate, self.seed = period, access_rate, seed
        self.support, self.surrogate = support, surrogate
        self.supports_masking = True
        self._plan_size, self._follows = plan_size, plan_size is None

    def build(self, input_shape: Shape | None = None) -> None:
        self.period = self.period or input_shape[1]
        if self.period is None:
            raise ArgumentError("AccessMask: period=None, and the sequences' length is unknown; give it")
        count = accesses(self.initial_rate, self.period)
        self._plan_size = self._plan_size or count
        self.budget = self.add_weight(name="budget", shape=[], dtype="int32", trainable=False,
                                      initializer=keras.initializers.Constant(count))
        self.draws = self.add_weight(name="draws", shape=[], dtype="int32", trainable=False,
                                     initializer="zeros")
        self.scores = self._add_scores(count)
        self.step_weight = self.add_weight(name="step_weight", shape=[self.period], initializer="ones")
        super().build(input_shape)

    @property
    def plan_size(self) -> int:
        """How many steps of a period a plan holds."""
        return self._plan_size

    @plan_size.setter
    def plan_size(self, size: int):
        self._plan_size, self._follows = size, False

    def _add_scores(self, count):
        def first(shape, dtype=None):
            if count == self.period:
                return tf.random.uniform(shape, 0.5, 1.5, dtype, seed=self.seed)
            on = accessed_at_equal_gaps(self.period, count)
            if self.support == "random":
                on = np.random.RandomState(self.seed).permutation(self.period)[:count]
            scores = np.full(shape, -0.5, np.float32)
            scores[on] = 0.5
            return tf.cast(scores, dtype)

        return self.add_weight(name="scores", shape=[self.period], initializer=first,
                               trainable=self.trained and self.support == "learned",
                               constraint=AtMost(self.budget))

    def call(self, inputs: tf.Tensor, mask: tf.Tensor | None = None,
             training: bool | None = None) -> tf.Tensor:
        steps = steps_of(inputs)
        if training:
            self.draws.assign_add(1)
        a, delta = self.gates_of(tf.range(steps), tf.shape(inputs)[0], bool(training))
        gated = inputs * tf.reshape(a * delta, [-1, steps] + [1] * (inputs.shape.rank - 2))
        return self.watched(gated) if training else gated

    def openings(self, training: bool = False) -> tf.Tensor:
        """a over a period, `[P]`."""
        return accessed(tf.convert_to_tensor(self.scores), self.surrogate)

    def penalty(self) -> tf.Tensor:
        """What the mask adds to the loss, a scalar: nothing, as `AtMost` holds the constraint."""
        return tf.zeros([])

    def gates(self, t: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
        """`(a_t, delta_t)` at the steps t, each of t's shape."""
        both = tf.stack([self.openings(training), tf.convert_to_tensor(self.step_weight)], -1)
        return tf.unstack(tf.gather(both, t % self.period), axis=-1)

    def gates_of(self, t: tf.Tensor, rows: int | tf.Tensor,
                 training: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
        """`(a_t, delta_t)` at the steps t `[S]` for each sequence of a batch: `[B, S]` and `[S]`."""
        a, delta = self.gates(t, training)
        return tf.repeat(a[None], rows, 0), delta

    def watched(self, y: tf.Tensor) -> tf.Tensor:
        """What the gated sequences came to, `[B, ...]`, as it is: for masks that learn on the way back."""
        return y

    @tf.autograph.experimental.do_not_convert
    def plan(self, steps: int | tf.Tensor, training: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
        """The steps that the top level visits: every accessed one, in order, and perhaps some more.

        A plan has `plan_size` places a period. Free places go to other steps, while training to a random
        sample: those get a gradient, and so can come back. The result is the same for every plan.

        Args:
          steps: T, int or scalar tensor.

        Returns:
          `(t, inside)`: int `[S]` ascending, S = plan_size * ceil(T / P), and bool `[S]`, False for
          places past the end of the sequence.
        """
        if training:
            self.draws.assign_add(1)
        periods = -(-steps // self.period)
        t = tf.reshape(tf.range(periods)[:, None] * self.period + self._chosen(training), [-1])
        return t, t < steps

    def _chosen(self, training):
        """The steps of a period that a plan has, ascending: the same until the next `plan`."""
        size = self._places(training)
        sampled = training and size < self.period
        spare = (tf.random.stateless_uniform([self.period], self._key(0)) if sampled
                 else tf.zeros([self.period]))
        a = tf.cast(self.openings(training), tf.float32)
        return tf.sort(tf.math.top_k(tf.where(a > 0, 1 + a, spare), size).indices)

    def visits(self, steps: int) -> int:
        """How many of so many steps the plan has places for, those past their end among them."""
        return -(-steps // self.period) * self.plan_size

    def _places(self, training):
        """The plan's size. What is traced now must hold the mask, of loaded weights too, and no more.

        While training without `limit` the plan has D places, in which steps may come back.
        """
        opened = self._opened()
        if opened is not None and self._follows:
            self._plan_size = int(known(self.budget)) if training else opened
        return max(self._plan_size, opened or 1)

    def _opened(self):
        """How many steps of a period are open, at least 1; None where the scores are not known yet."""
        if known(self.scores) is None:
            return None
        with tf.init_scope():
            return max(1, int(tf.reduce_sum(tf.cast(self.openings() > 0, tf.int32))))

    def shortest_plan(self, steps: int) -> tuple[tf.Tensor, tf.Tensor]:
        """The accessed steps alone, as `plan` gives them; in eager mode. Without any, a step past the end."""
        a, _ = self.gates(tf.range(steps))
        t = tf.where(a > 0)[:, 0]
        found = len(t) > 0
        return tf.cast(t if found else [0], tf.int32), tf.fill([max(len(t), 1)], found)

    def _key(self, use):
        """The key of this draw's random numbers for one use."""
        return tf.stack([2 * (self.seed or 0) + use, tf.convert_to_tensor(self.draws)])

    def limit(self, count: int, spare: int = 0) -> None:
        """Sets D, projects the scores onto it, and resizes the plan; what was traced keeps the old size.

        Args:
          count: D.
          spare: places wanted for unaccessed steps. With some, the plan's size is the next of P, P/2, P/4,
            ..., so that a falling D seldom changes it; with none it is D.
        """
        self.budget.assign(count)
        self.scores.assign(self.scores.constraint(self.scores))
        self.plan_size = halved(self.period, count + spare) if spare else count

    def exchange(self) -> None:
        """Has other steps take the places of open ones, at the end of an epoch; here the optimiser does."""

    def emptied(self) -> bool:
        """Whether the optimiser would access no step, and the best is kept only as the last one."""
        return float(tf.reduce_max(self.scores)) <= LEAST

    def fit_plan(self) -> None:
        """Makes the plan as short as the present mask allows; call it after weights were loaded."""
        self.plan_size = self._opened()

    @property
    def rate(self) -> tf.Tensor:
        """The access rate, `mean(a > 0)`, a scalar tensor; NaN where the scores are."""
        known = tf.reduce_all(tf.math.is_finite(tf.convert_to_tensor(self.scores)))
        return tf.where(known, tf.reduce_mean(tf.cast(self.openings() > 0, tf.float32)), float("nan"))

    def get_config(self) -> Config:
        return {**super().get_config(), "period": self.period, "access_rate": self.initial_rate,
                "plan_size": self.plan_size, "seed": self.seed, "support": self.support,
                "surrogate": self.surrogate}


def halved(period, wanted):
    """The least of P, P/2, P/4, ... (rounded down) that is at least `wanted`, or P.

    >>> halved(64, wanted=17)
    32
    """
    while period // 2 >= wanted:
        period //= 2
    return period


def accessed_at_equal_gaps(period, count):
    """The last step of each of `count` equal gaps: `[count]` ints, ending at `period - 1`."""
    return (np.arange(1, count + 1) * period) // count - 1
