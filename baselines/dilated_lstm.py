"""The Dilated LSTM, whose layers look back over growing distances."""

import math
from typing import Annotated

import tensorflow as tf

from santm_tf import Recurrent
from santm_tf.analysis import cost as costs
from santm_tf.analysis import counting
from santm_tf.baselines.layer import SequenceLayer, built
from santm_tf.baselines.lstm import gate_bias, with_dropout
from santm_tf.baselines.model import Model
from santm_tf.baselines.pooling import last_valid
from santm_tf.errors import ArgumentError
from santm_tf.keras import keras
from santm_tf.ops import steps_of
from santm_tf.stepping import held


def interleaved(x, dilation):
    """The sequences of every d-th step: `y[b d + r, n] = x[b, n d + r]`.

    From `[B, T, ...]` to `[B d, ceil(T / d), ...]`. A zero (or False) ends those that are shorter.

    >>> import tensorflow as tf
    >>> from santm_tf.baselines.dilated_lstm import interleaved
    >>> interleaved(tf.constant([[1, 2, 3, 4, 5]]), 2).numpy().tolist()
    [[1, 3, 5], [2, 4, 0]]
    """
    steps, rest = steps_of(x), x.shape[2:]
    length = -(-steps // dilation)
    x = tf.pad(x, [[0, 0], [0, length * dilation - steps], *[[0, 0]] * len(rest)])
    return tf.reshape(_transposed(tf.reshape(x, [-1, length, dilation, *rest])), [-1, length, *rest])


def in_time_order(y, dilation, steps):
    """`interleaved` undone: `[B d, ceil(T / d), ...]` to `[B, T, ...]`."""
    length, rest = steps_of(y), y.shape[2:]
    x = _transposed(tf.reshape(y, [-1, dilation, length, *rest]))
    return tf.reshape(x, [-1, length * dilation, *rest])[:, :steps]


def dilated(layer, x, dilation, mask=None):
    """Runs a recurrent layer so that each state follows from the one d steps before.

    `y_t, s_t = cell(x_t, s_{t-d})`   (Chang et al. 2017, arXiv 1710.02224, section 2.1)

    The d interleaved sequences do not depend on each other. They run side by side as one batch, in
    `ceil(T / d)` steps.

    Args:
      layer: a `Recurrent` with `return_sequences`, from x `[B, T, d_in]` to `[B, T, units]`.
      dilation: d.
      mask: optional bool `[B, T]`.

    >>> import tensorflow as tf
    >>> from santm_tf.baselines.dilated_lstm import dilated
    >>> from santm_tf import Recurrent
    >>> layer = Recurrent(tf.keras.layers.LSTMCell(8), return_sequences=True)
    >>> dilated(layer, tf.zeros([2, 5, 3]), dilation=2).shape.as_list()
    [2, 5, 8]
    """
    if mask is not None:
        mask = interleaved(mask, dilation)
    return in_time_order(layer(interleaved(x, dilation), mask=mask), dilation, steps_of(x))


@keras.saving.register_keras_serializable("baselines")
class DilatedLSTM(SequenceLayer):
    """A stack of LSTMs, each looking back over a longer distance.

    `h^l_t, c^l_t = LSTM^l(h^{l-1}_t; h^l_{t-d_l}, c^l_{t-d_l})`,  `h^0 = x`,  `d_l = 1, 2, 4, ...`
    `y_t = h^L_t`, or where the first dilation is above 1 `y_t = sum_{j<d_1} W_j h^L_{t-j} + b`

    Chang et al., "Dilated recurrent neural networks", NeurIPS 2017, arXiv 1710.02224, section 2. Where
    the first dilation is above 1, no layer connects all steps; a convolution over the last d_1 outputs
    does.

    Args:
      units: H, of every layer.
      dilations: d_l from the first layer to the last.
      memory_horizon: see `gate_bias`, in steps of the input; a layer has `memory_horizon / d_l` of its own.
      jit_compile: see `Recurrent`.

    Input and output: see `SequenceLayer`. Padding is at the end; outputs there mean nothing.

    Raises:
      ArgumentError: no dilation, or one below 1.

    >>> import tensorflow as tf
    >>> from santm_tf.baselines.dilated_lstm import DilatedLSTM
    >>> DilatedLSTM(8, dilations=(1, 2, 4))(tf.zeros([2, 13, 3])).shape.as_list()
    [2, 8]
    """

    def __init__(self, units, dilations=(1, 2, 4), memory_horizon=None, return_sequences=False,
                 jit_compile=False, **kwargs):
        dilations = list(dilations)
        super().__init__(dict(units=units, dilations=dilations, memory_horizon=memory_horizon,
                              return_sequences=return_sequences, jit_compile=jit_compile), **kwargs)
        if not dilations or min(dilations) < 1:
            raise ArgumentError(f"DilatedLSTM: dilations={dilations}; give one or more, each at least 1")
        self.dilations = dilations
        policy = self.dtype_policy
        biases = [gate_bias(units, memory_horizon and math.ceil(memory_horizon / d)) for d in dilations]
        cells = [keras.layers.LSTMCell(units, unit_forget_bias=False, bias_initializer=bias, dtype=policy)
                 for bias in biases]
        self.stack = [Recurrent(cell, return_sequences=True, jit_compile=jit_compile, name=f"layer_{n}",
                                dtype=policy) for n, cell in enumerate(cells, 1)]
        self.fusion = None if dilations[0] == 1 else keras.layers.Conv1D(
            units, dilations[0], padding="causal", name="fusion", dtype=policy)

    def build(self, input_shape):
        features = input_shape[-1]
        for layer in [*self.stack, self.fusion]:
            if layer is not None:
                built(layer, features)
            features = self.units
        super().build(input_shape)

    def call(self, inputs, mask=None):
        y, mask = inputs, None if mask is None else tf.cast(mask, tf.bool)
        for layer, dilation in zip(self.stack, self.dilations, strict=True):
            y = dilated(layer, y, dilation, mask)
        if self.fusion is not None:
            y = self.fusion(y)
        return y if self.return_sequences else last_valid(y, mask)

    def first_state(self, batch):
        """The states and outputs of each layer's last d steps, oldest first; y of the last valid step."""
        state = {f"{layer.name}_{name}": tf.repeat(v[:, None], d, 1)
                 for layer, d in zip(self.stack, self.dilations, strict=True)
                 for name, v in layer.first_state(batch).items()}
        y = tf.zeros([batch, self.units], self.compute_dtype)
        if self.fusion is not None:
            state["fused"] = tf.repeat(y[:, None], self.dilations[0] - 1, 1)
        return {**state, "y": y}

    def step(self, x, state, valid=None):
        y, after = x, {}
        for layer in self.stack:
            last = {name.removeprefix(f"{layer.name}_"): v for name, v in state.items()
                    if name.startswith(f"{layer.name}_")}
            y, new = layer.step(y, {name: v[:, 0] for name, v in last.items()}, valid)
            after |= {f"{layer.name}_{name}": tf.concat([last[name][:, 1:], v[:, None]], 1)
                      for name, v in new.items()}
        if self.fusion is not None:
            seen = tf.concat([state["fused"], y[:, None]], 1)
            y, after["fused"] = self.fusion(seen)[:, -1], seen[:, 1:]
        after["y"], = held(valid, [y], [state["y"]])
        return (y if self.return_sequences else after["y"]), after


def make(units: int = 32, layers: Annotated[int, "[1, 24]"] = 3, memory_horizon: int | None = None,
         dropout: Annotated[float, "[0, 1)"] = 0.0, *, return_sequences=False, seed=None, jit_compile=True):
    """A `DilatedLSTM`, with dropout.

    Args:
      units: Units of every layer and of the output, H.
      layers: How many layers; their dilations are 1, 2, 4, ...
      memory_horizon: Longest memory wanted of the gates at first, in steps (default: the plain forget bias).
      dropout: Share of features dropped before the output.
    """
    dilations = [2**n for n in range(layers)]
    return with_dropout(DilatedLSTM(units, dilations, memory_horizon, return_sequences, jit_compile),
                        dropout, seed)


@counting.checked
def cost(features, units, steps, layers=3):
    """`T (lstm(d, H) + (layers - 1) lstm(H, H))` FLOPs, whatever the dilations.

    >>> cost(1, 32, steps=784, layers=1) == costs.lstm(1, 32, steps=784)
    True
    """
    return costs.lstm(features, units, steps) + (layers - 1) * costs.lstm(units, units, steps)


MODEL = Model(make, cost)


def _transposed(x):
    return tf.transpose(x, [0, 2, 1, *range(3, x.shape.rank)])
