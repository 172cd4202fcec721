"""The two lower levels: a recurrent cell that cuts the sequence, and an LSTM that moves only at the cuts."""

import math
from typing import Any

import tensorflow as tf

from santm_tf.errors import ArgumentError, at_least, whole
from santm_tf.gradients import custom_gradient
from santm_tf.keras import Cell, keras, register
from santm_tf.lstm import ChronoBias, forget_one, lstm
from santm_tf.ops import gated, product, sigmoid
from santm_tf.recurrent import training_option
from santm_tf.saving import OldNames
from santm_tf.stepping import first_of_cell
from santm_tf.types import Config, Nest, Shape, States

BOUNDARIES = "learned", "given"


def first_bias(segment_length):
    """`log((1/L) / (1 - 1/L))`, at most 1: the score at which a boundary has the probability 1/L."""
    p = 1.0 / segment_length
    return 1.0 if p >= 1.0 else min(1.0, math.log(p / (1.0 - p)))


class _LSTMCell(OldNames, Cell):
    """What both LSTM cells share: sizes, weights, and a first state of zeros, an `LSTMState` as a list."""

    def __init__(self, units: int, **kwargs: Any):
        super().__init__(**kwargs)
        whole(type(self).__name__, 1, units=units)
        self.units = units
        self.state_size = [units, units]

    def _build_lstm(self, features, bias):
        self.kernel = self.add_weight(name="kernel", shape=[features, 4 * self.units],
                                      initializer="glorot_uniform")
        self.recurrent_kernel = self.add_weight(name="recurrent_kernel", shape=[self.units, 4 * self.units],
                                                initializer="orthogonal")
        self.bias = self.add_weight(name="bias", shape=[4 * self.units], initializer=bias)

    def get_initial_state(self, inputs: Nest = None, batch_size: int | tf.Tensor | None = None,
                          dtype: tf.DType | str | None = None) -> list[tf.Tensor]:
        if inputs is not None:
            first = tf.nest.flatten(inputs)[0]
            batch_size, dtype = tf.shape(first)[0], first.dtype
        zeros = tf.zeros([batch_size, self.units], dtype or self.compute_dtype)
        return [zeros, zeros]

    def get_config(self) -> Config:
        return {**super().get_config(), "units": self.units}


@custom_gradient
def _boundary(score, c, kernel):
    """`1[p > 1/2]`, `p = sigmoid(score + c u)`, twice: what comes back by the second gives c no gradient."""
    p = sigmoid(score + c @ kernel)
    beta = tf.cast(p > 0.5, p.dtype)

    def backward(whole, reset):
        slope = p * (1 - p)
        both = slope * (whole + reset)
        return both, tf.matmul(slope * whole, kernel, transpose_b=True), tf.matmul(c, both, transpose_a=True)

    return (beta, beta), backward


class _Cutting:
    """What cells that cut the input share: the boundary's weights u_x, u_c and u_0, and beta as an input."""

    def _set_boundaries(self, segment_length, boundaries):
        name = type(self).__name__
        at_least(name, 1, segment_length=segment_length)
        if boundaries not in BOUNDARIES:
            raise ArgumentError(f"{name}: boundaries={boundaries!r}; use 'learned' or 'given'")
        self.segment_length, self.boundaries = segment_length, boundaries
        self.input_count = 1 if boundaries == "learned" else 2  # for Recurrent

    def _input_width(self, input_shape):
        return (input_shape if self.boundaries == "learned" else input_shape[0])[-1]

    def _build_boundaries(self, features, units):
        if self.boundaries == "given":
            return
        self.boundary_kernel = self.add_weight(name="boundary_kernel", shape=[features, 1],
                                               initializer="glorot_uniform")
        self.boundary_recurrent_kernel = self.add_weight(name="boundary_recurrent_kernel", shape=[units, 1],
                                                         initializer="glorot_uniform")
        first = keras.initializers.Constant(first_bias(self.segment_length))
        self.boundary_bias = self.add_weight(name="boundary_bias", shape=[1], initializer=first)

    def _boundary_score(self, inputs):
        """`u_x.x_t + u_0` for any leading axes."""
        return product(inputs, self.boundary_kernel) + self.boundary_bias

    def _cut(self, score, gathered):
        """beta_t from `_boundary_score` and what the segment has gathered, c_{t-1}; and again, for the reset.

        The gradient that the reset gives beta goes to u_x, u_c and u_0, and not on to c_{t-1}. From c by
        beta to c it would grow by up to `|c| |u_c| / 4` a step.
        """
        if self.boundaries == "given":
            return score, score
        return _boundary(score, gathered, tf.convert_to_tensor(self.boundary_recurrent_kernel))

    def get_config(self) -> Config:
        return {**super().get_config(), "segment_length": self.segment_length, "boundaries": self.boundaries}


@register
class SegmentLSTMCell(_Cutting, _LSTMCell):
    """An LSTM that cuts its input into segments, and forgets its cell state at every cut.

    `h_t, c~_t = LSTM(x_t; h_{t-1}, c_{t-1})`,   `c_t = (1 - beta_t) c~_t`
    `p_t = sigmoid(u_x.x_t + u_c.c_{t-1} + u_0)`,   `beta_t = 1[p_t > 1/2]` (straight-through)

    SANTM's bottom level (Shan et al. 2025; docs/equations.md, bottom). The reset gives c_{t-1} no
    gradient by p.

    Args:
      units: H.
      segment_length: L >= 1, the expected length of a segment in steps. At first
        `u_0 = log((1/L) / (1 - 1/L))`, at most 1, so that p starts at 1/L. The paper's authors start it at 1
        (L = 1.4), at which nearly every step is a boundary.
      boundaries: "learned" as above, or "given": beta is an input, and there are no u_x, u_c and u_0.

    Input `[B, d]`, or `(x, beta)` of `[B, d]` and `[B, 1]` where boundaries are given; output `(h, beta)`,
    `[B, H]` and `[B, 1]`; state `LSTMState`.

    >>> from santm_tf import Recurrent, SegmentLSTMCell
    >>> h, beta = Recurrent(SegmentLSTMCell(8), return_sequences=True)(tf.zeros([2, 5, 3]))
    >>> h.shape.as_list(), beta.shape.as_list()
    ([2, 5, 8], [2, 5, 1])
    """

    def __init__(self, units: int, segment_length: float = 4.0, boundaries: str = "learned", **kwargs: Any):
        super().__init__(units, **kwargs)
        self._set_boundaries(segment_length, boundaries)
        self.output_size = [units, 1]

    def build(self, input_shape: Shape) -> None:
        features = self._input_width(input_shape)
        self._build_lstm(features, forget_one(self.units))
        self._build_boundaries(features, self.units)
        super().build(input_shape)

    def project(self, inputs: Nest) -> tuple[tf.Tensor, tf.Tensor]:
        """What needs no state, for any leading axes: the gates' part, and the boundary's score or beta."""
        x, score = inputs if self.boundaries == "given" else (inputs, None)
        z = product(x, self.kernel) + self.bias
        return z, self._boundary_score(x) if score is None else score

    def call(self, inputs: Nest, states: States, projected: bool = False) -> tuple[Nest, list[tf.Tensor]]:
        z, score = inputs if projected else self.project(inputs)
        h, c = states
        beta, reset = self._cut(score, c)
        h, c = lstm(z + h @ self.recurrent_kernel, c)
        return (h, beta), [h, (1 - reset) * c]


@register
class SegmentCell(_Cutting, Cell):
    """Any Keras cell as a bottom level: it cuts the input, and forgets what it gathered at every cut.

    The equations are those of `SegmentLSTMCell` with the cell in place of the LSTM. c is the last part of the
    cell's state: an LSTM's cell, a GRU's only state.

    Args:
      cell: a Keras cell whose output and last part of the state are `[B, .]`.
      segment_length, boundaries: see `SegmentLSTMCell`.

    Input, output as in `SegmentLSTMCell`; state: the last output, then the cell's state.

    >>> from santm_tf import Recurrent, SegmentCell
    >>> cell = SegmentCell(tf.keras.layers.GRUCell(8))
    >>> y, beta = Recurrent(cell, return_sequences=True)(tf.zeros([2, 5, 3]))
    >>> y.shape.as_list(), beta.shape.as_list()
    ([2, 5, 8], [2, 5, 1])
    """

    def __init__(self, cell: keras.layers.Layer, segment_length: float = 4.0, boundaries: str = "learned",
                 **kwargs: Any):
        super().__init__(**kwargs)
        if not hasattr(cell, "state_size"):
            raise ArgumentError(f"SegmentCell: cell={cell!r}; give a Keras cell, such as GRUCell(32)")
        self._set_boundaries(segment_length, boundaries)
        self.cell = cell
        self.units = int(tf.nest.flatten(getattr(cell, "output_size", cell.state_size))[0])
        self.state_size = [self.units, *tf.nest.flatten(cell.state_size)]
        self.output_size = [self.units, 1]

    def build(self, input_shape: Shape) -> None:
        features = self._input_width(input_shape)
        if not self.cell.built:  # it is when it comes from a file
            with tf.name_scope(self.cell.name):
                self.cell.build(tf.TensorShape([None, features]))
        self._build_boundaries(features, int(self.state_size[-1]))
        super().build(input_shape)

    def get_initial_state(self, inputs: Nest = None, batch_size: int | tf.Tensor | None = None,
                          dtype: tf.DType | str | None = None) -> list[tf.Tensor]:
        if inputs is not None:
            first = tf.nest.flatten(inputs)[0]
            batch_size, dtype = tf.shape(first)[0], first.dtype
        dtype = dtype or self.compute_dtype
        return [tf.zeros([batch_size, self.units], dtype), *_first_state(self.cell, batch_size, dtype)]

    def call(self, inputs: Nest, states: States,
             training: bool | None = None) -> tuple[Nest, list[tf.Tensor]]:
        x, score = inputs if self.boundaries == "given" else (inputs, self._boundary_score(inputs))
        beta, reset = self._cut(score, states[-1])
        before = tf.nest.pack_sequence_as(self.cell.state_size, list(states[1:]))
        y, after = self.cell(x, before, **training_option(self.cell, training))
        *after, last = tf.nest.flatten(after)
        return (y, beta), [y, *after, (1 - reset) * last]

    def get_config(self) -> Config:
        return {**super().get_config(), "cell": keras.layers.serialize(self.cell)}

    @classmethod
    def from_config(cls, config: Config) -> "SegmentCell":
        return cls(**{**config, "cell": keras.layers.deserialize(config["cell"])})


def _first_state(cell, batch_size, dtype):
    """A cell's state before the first step, a flat list. Keras 3 asks a cell for it in no precision."""
    return [tf.cast(v, dtype) if v.dtype.is_floating else v
            for v in tf.nest.flatten(first_of_cell(cell, batch_size, dtype))]


@register
class CascadeLSTMCell(_LSTMCell):
    """An LSTM over the segments: its state moves where `beta_t = 1` and is held elsewhere.

    `h~_t, c~_t = LSTM(x_t; h_{t-1}, c_{t-1})`
    `h_t = beta_t h~_t + (1 - beta_t) h_{t-1}`, and so c.

    SANTM's middle level (Shan et al. 2025; docs/equations.md, middle). Its gates start as `ChronoBias` says.

    Args:
      units: H.
      memory_horizon: the longest memory wanted, in steps, which sets the gates' first biases.

    Input `(x, beta)`, `[B, d]` and `[B, 1]`; output `[B, H]`; state `LSTMState`.

    >>> from santm_tf import CascadeLSTMCell, Recurrent
    >>> Recurrent(CascadeLSTMCell(8))((tf.zeros([2, 5, 3]), tf.ones([2, 5, 1]))).shape.as_list()
    [2, 8]
    """

    input_count = 2  # for Recurrent

    def __init__(self, units: int, memory_horizon: int = 100, **kwargs: Any):
        super().__init__(units, **kwargs)
        at_least("CascadeLSTMCell", 1, memory_horizon=memory_horizon)
        self.memory_horizon = memory_horizon
        self.output_size = units

    def build(self, input_shape: Shape) -> None:
        self._build_lstm(input_shape[0][-1], ChronoBias(self.memory_horizon))
        super().build(input_shape)

    def project(self, inputs: Nest) -> tuple[tf.Tensor, tf.Tensor]:
        """What needs no state, for any leading axes."""
        x, beta = inputs
        return product(x, self.kernel) + self.bias, beta

    def call(self, inputs: Nest, states: States,
             projected: bool = False) -> tuple[tf.Tensor, list[tf.Tensor]]:
        z, beta = inputs if projected else self.project(inputs)
        h, c = states
        h_new, c_new = lstm(z + h @ self.recurrent_kernel, c)
        h, c = gated(beta, h_new, h), gated(beta, c_new, c)
        return h, [h, c]

    def get_config(self) -> Config:
        return {**super().get_config(), "memory_horizon": self.memory_horizon}
