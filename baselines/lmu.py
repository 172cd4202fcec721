"""The Legendre Memory Unit (Voelker, Kajic and Eliasmith 2019, NeurIPS 32)."""

from typing import Annotated

import numpy as np
import tensorflow as tf

from santm_tf import Recurrent
from santm_tf.analysis.cost import lmu as cost
from santm_tf.baselines.layer import Configured
from santm_tf.baselines.lstm import with_dropout
from santm_tf.baselines.model import Model
from santm_tf.errors import at_least, whole
from santm_tf.keras import Cell, keras
from santm_tf.machine import check_fits


def legendre(order, theta):
    """What a step does to the Legendre memory of one signal: `m_t = A m_{t-1} + B u_t`.

    `theta dm/dt = a m + b u`, `a_ij = (2i + 1) (-1 if i < j else (-1)^(i - j + 1))`, `b_i = (2i + 1) (-1)^i`
    (equations 1 and 2), i and j from 0. With u held for a step (zero-order hold) it is
    `[A B; 0 1] = exp([a b; 0 0] / theta)`. Then `sum_i m_i P_i(2 s / theta - 1)` is about what u was s steps
    ago, for s from 0 to theta (equation 3; P_i the Legendre polynomials).

    Args:
      order: how many polynomials. theta: the length of what is remembered, in steps.

    Returns:
      A `[order, order]` and B `[order]`, float64.

    >>> from santm_tf.baselines.lmu import legendre
    >>> [v.round(3).tolist() for v in legendre(order=2, theta=4.0)]
    [[[0.718, -0.148], [0.445, 0.421]], [0.282, -0.445]]
    """
    # Some ten such matrices are there at once, of i, j, and of what the exponential is made of.
    check_fits(f"LMU: order={order}", 10 * 8 * order ** 2, "use a lower one")
    i, j = np.indices([order, order])
    a = (2 * i + 1) * np.where(i < j, -1.0, (-1.0) ** (i - j + 1))
    b = (2 * i[:, :1] + 1) * (-1.0) ** i[:, :1]
    with tf.init_scope():
        both = tf.linalg.expm(np.pad(np.hstack([a, b]), [(0, 1), (0, 0)]) / theta).numpy()
    return both[:-1, :-1], both[:-1, -1]


@keras.saving.register_keras_serializable("baselines")
class LMUCell(Configured, Cell):
    """A Legendre Memory Unit: a linear memory of the last theta steps, and a layer that looks at it.

    `u_t = x_t E`,   `m_t = A m_{t-1} + B u_t` for each of its numbers (`legendre`)
    `h_t = tanh(x_t W_x + m_t W_m + h_{t-1} W_h + b)`

    Voelker, Kajic and Eliasmith 2019, equations 4 to 7. The memory hears the input alone, as in KerasLMU's
    model of permuted MNIST: the paper's weights from h and m to u are left out. A and B are not trained.

    Args:
      units: H.
      order: Legendre polynomials of a signal. With some half more than theta they hold theta steps exactly.
      theta: the length of what is remembered, in steps.
      memory_d: signals that are remembered. Where they are as many as the features, `u = x` without an E.
      recurrent: whether h_{t-1} has a part in h_t. Without it the memory is all of the state: as SANTM's
        `controller` the cell then forgets at a boundary all that it has seen.

    Input `[B, d]`; output h, `[B, H]`; state `[h, m]`, or `[m]`: `[B, H]` and `[B, memory_d order]`.

    Raises:
      ArgumentError: a size below 1.

    >>> import tensorflow as tf
    >>> from santm_tf import SANTM, Recurrent
    >>> from santm_tf.baselines.lmu import LMUCell
    >>> Recurrent(LMUCell(8, order=6, theta=5))(tf.zeros([2, 5, 3])).shape.as_list()
    [2, 8]
    >>> cell = LMUCell(8, order=6, theta=4, recurrent=False)
    >>> SANTM(8, controller=cell, segment_length=4, boundaries="fixed")(tf.zeros([2, 12, 3])).shape.as_list()
    [2, 8]
    """

    def __init__(self, units, order=64, theta=100.0, memory_d=1, recurrent=True, **kwargs):
        super().__init__(dict(units=units, order=order, theta=theta, memory_d=memory_d, recurrent=recurrent),
                         **kwargs)
        whole("LMU", 1, units=units, order=order, memory_d=memory_d)
        at_least("LMU", 1, theta=theta)
        self.units, self.order, self.theta = units, order, theta
        self.memory_d, self.recurrent = memory_d, recurrent
        self.state_size = [units, memory_d * order][not recurrent:]
        self.output_size = units

    def build(self, input_shape):
        features, self.encoder = input_shape[-1], None
        for name, v in zip(("transition", "entry"), legendre(self.order, self.theta), strict=True):
            setattr(self, name, self.add_weight(
                name=name, shape=v.shape, initializer=keras.initializers.Constant(v), trainable=False))
        if features != self.memory_d:
            self.encoder = self.add_weight(name="encoder", shape=[features, self.memory_d],
                                           initializer="glorot_uniform")
        seen = features + self.memory_d * self.order
        self.kernel = self.add_weight(name="kernel", shape=[seen, self.units], initializer="glorot_uniform")
        if self.recurrent:
            self.recurrent_kernel = self.add_weight(
                name="recurrent_kernel", shape=[self.units, self.units], initializer="orthogonal")
        self.bias = self.add_weight(name="bias", shape=[self.units], initializer="zeros")
        super().build(input_shape)

    def call(self, inputs, states):
        *h, m = tf.nest.flatten(states)
        u = inputs if self.encoder is None else inputs @ self.encoder
        m = tf.reshape(m, [-1, self.memory_d, self.order])
        m = tf.matmul(m, self.transition, transpose_b=True) + u[..., None] * self.entry
        m = tf.reshape(m, [-1, self.memory_d * self.order])
        z = tf.concat([inputs, m], -1) @ self.kernel + self.bias
        if self.recurrent:
            z += h[0] @ self.recurrent_kernel
        h = tf.tanh(z)
        return h, [h, m][not self.recurrent:]


def make(units: int = 32, order: int = 64, theta: Annotated[float, "[1, inf)"] | None = None,
         memory_d: int = 1, dropout: Annotated[float, "[0, 1)"] = 0.0, *, steps=None, return_sequences=False,
         stateful=False, seed=None, jit_compile=True):
    """`Recurrent` over an `LMUCell`, with dropout.

    Args:
      units: Units of the cell and of the output, H.
      order: Legendre polynomials by which a signal is remembered.
      theta: Length of what is remembered, in steps (default: that of a training sequence, or 100).
      memory_d: Signals that are remembered.
      dropout: Share of features dropped before the output.
    """
    cell = LMUCell(units, order, theta or steps or 100, memory_d)
    return with_dropout(Recurrent(cell, return_sequences=return_sequences, stateful=stateful,
                                  jit_compile=jit_compile), dropout, seed)


MODEL = Model(make, cost)
