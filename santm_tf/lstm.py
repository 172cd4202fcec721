"""The arithmetic that the LSTMs of all three levels share."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from santm_tf.gradients import custom_gradient
from santm_tf.keras import keras, register
from santm_tf.saving import OldNames
from santm_tf.types import Config


class LSTMState(NamedTuple):
    """What an LSTM carries from step to step."""

    h: tf.Tensor  # [B, H], the output
    c: tf.Tensor  # [B, H], the cell


def lstm(z: tf.Tensor, c: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """One step of an LSTM from its pre-activations (Hochreiter and Schmidhuber 1997; Gers 2000).

    `c' = sigmoid(z_f) c + sigmoid(z_i) tanh(z_c)`,   `h' = sigmoid(z_o) tanh(c')`

    All four gates come from one tanh over the whole of z: under XLA on a CPU the step is 2.5 times faster
    than with four separate activations. z is `[B, 4H]`, in Keras' order i, f, c, o; the others are `[B, H]`.
    """
    units = z.shape[-1] // 4
    scale = tf.constant(np.repeat([0.5, 0.5, 1.0, 0.5], units), z.dtype)

    @custom_gradient
    def run(z, c):
        i, f, g, o = tf.split(tf.tanh(z * scale) * scale + (1 - scale), 4, axis=-1)
        c_new = f * c + i * g
        squashed = tf.tanh(c_new)

        def backward(dh, dc):
            # By hand, since XLA would compute what the four gates share once for each of them.
            dc += dh * o * (1 - squashed * squashed)
            dz = [dc * g * i * (1 - i), dc * c * f * (1 - f), dc * i * (1 - g * g),
                  dh * squashed * o * (1 - o)]
            return tf.concat(dz, -1), dc * f

        return (o * squashed, c_new), backward

    return run(z, c)


def forget_one(units):
    """Initialiser of an LSTM's bias `[4H]`, gates in the order i, f, c, o: `b_f = 1`, the rest zero.

    Gers, Schmidhuber and Cummins 2000; Jozefowicz, Zaremba and Sutskever 2015.
    """
    return keras.initializers.Constant([0.0] * units + [1.0] * units + [0.0] * 2 * units)


def is_plain(cell):
    """Whether a cell is Keras' `LSTMCell` as it comes: `keras_lstm` computes the same, faster."""
    return (type(cell) is keras.layers.LSTMCell and cell.activation is keras.activations.tanh
            and cell.recurrent_activation is keras.activations.sigmoid
            and cell.dropout == cell.recurrent_dropout == 0)


def keras_lstm(cell, x, states):
    """`cell(x, states)` of a plain Keras `LSTMCell`, by `lstm`."""
    h, c = states
    x = tf.cast(x, h.dtype)  # it may be of whole numbers
    kernel, recurrent_kernel = tf.cast(cell.kernel, x.dtype), tf.cast(cell.recurrent_kernel, x.dtype)
    z = x @ kernel + h @ recurrent_kernel
    h, c = lstm(z + tf.cast(cell.bias, x.dtype) if cell.use_bias else z, c)
    return h, [h, c]


@register
class ChronoBias(OldNames, keras.initializers.Initializer):
    """Gate biases for a memory of some steps: `b_f = log U(1, memory_horizon - 1)`, `b_i = -b_f`.

    Tallec and Ollivier, "Can recurrent neural networks warp time?", ICLR 2018, equation 16. For a bias `[4H]`
    in the order i, f, c, o; the other two are zero.

    >>> ChronoBias(100, seed=0)([8]).shape.as_list()
    [8]
    """

    def __init__(self, memory_horizon: int, seed: int | None = None):
        self.memory_horizon, self.seed = memory_horizon, seed

    def __call__(self, shape, dtype=None, **_):
        units = shape[0] // 4
        longest = max(float(self.memory_horizon) - 1.0, 1.0)
        dtype = dtype or keras.backend.floatx()
        forget = tf.math.log(keras.initializers.RandomUniform(1.0, longest, self.seed)([units], dtype))
        zero = tf.zeros([units], dtype)
        return tf.concat([-forget, forget, zero, zero], 0)

    def get_config(self) -> Config:
        return {"memory_horizon": self.memory_horizon, "seed": self.seed}
