"""The Skip LSTM, which learns at which steps to update its state."""

from typing import Annotated

import tensorflow as tf

from santm_tf import Recurrent
from santm_tf.analysis import cost as costs
from santm_tf.analysis import counting
from santm_tf.baselines.layer import Configured, SequenceLayer, built
from santm_tf.baselines.lstm import gate_bias, with_dropout
from santm_tf.baselines.model import Model
from santm_tf.errors import at_least
from santm_tf.keras import Cell, keras
from santm_tf.lstm import lstm
from santm_tf.ops import product, sigmoid, straight_through
from santm_tf.replicas import mean, total


@keras.saving.register_keras_serializable("baselines")
class SkipLSTMCell(Configured, Cell):
    """An LSTM that skips steps until enough probability of an update has added up.

    `u_t = round(u~_t)`                                                  (straight-through)
    `s_t = u_t LSTM(x_t, s_{t-1}) + (1 - u_t) s_{t-1}`,  `s = (h, c)`
    `delta_t = sigmoid(c_t w + b)`
    `u~_{t+1} = u_t delta_t + (1 - u_t) (u~_t + min(delta_t, 1 - u~_t))`,  `u~_1 = 1`

    Campos et al., "Skip RNN: learning to skip state updates in recurrent neural networks", ICLR 2018,
    arXiv 1708.06834, section 3. A skipped step holds c, and with it delta. `gate_bias` explains the
    arguments.

    Input `[B, d]`; output `(h, u)`, `[B, H]` and `[B, 1]`; state `[h, c, u~]`. u~ has the weights'
    precision, in which small probabilities still add up.

    Raises:
      ArgumentError: a size below 1.

    >>> import tensorflow as tf
    >>> from santm_tf.baselines.skip_lstm import SkipLSTMCell
    >>> from santm_tf import Recurrent
    >>> h, u = Recurrent(SkipLSTMCell(8), return_sequences=True)(tf.zeros([2, 5, 3]))
    >>> h.shape.as_list(), u[0, :2, 0].numpy().tolist()
    ([2, 5, 8], [1.0, 1.0])
    """

    def __init__(self, units, memory_horizon=None, **kwargs):
        super().__init__(dict(units=units, memory_horizon=memory_horizon), **kwargs)
        at_least("SkipLSTM", 1, units=units)
        self.units = units
        self.bias_initializer = gate_bias(units, memory_horizon)
        self.state_size = [units, units, 1]
        self.output_size = [units, 1]

    def build(self, input_shape):
        units = self.units
        self.kernel = self.add_weight(name="kernel", shape=[input_shape[-1], 4 * units])
        self.recurrent_kernel = self.add_weight(name="recurrent_kernel", shape=[units, 4 * units],
                                                initializer="orthogonal")
        self.bias = self.add_weight(name="bias", shape=[4 * units], initializer=self.bias_initializer)
        self.update_kernel = self.add_weight(name="update_kernel", shape=[units, 1])
        self.update_bias = self.add_weight(name="update_bias", shape=[1], initializer="ones")
        super().build(input_shape)

    def get_initial_state(self, inputs=None, batch_size=None, dtype=None):
        if inputs is not None:
            batch_size, dtype = tf.shape(inputs)[0], inputs.dtype
        zeros = tf.zeros([batch_size, self.units], dtype or self.compute_dtype)
        return [zeros, zeros, tf.ones([batch_size, 1], self.variable_dtype)]

    def project(self, inputs):
        """`x W + b` for any leading axes: what depends on the input alone."""
        return product(inputs, self.kernel) + self.bias

    def call(self, inputs, states, projected=False):
        z = inputs if projected else self.project(inputs)
        h, c, probability = states
        u = straight_through(probability)
        gate = tf.cast(u, h.dtype)
        h_new, c_new = lstm(z + h @ self.recurrent_kernel, c)
        h, c = gate * h_new + (1 - gate) * h, gate * c_new + (1 - gate) * c
        delta = sigmoid(tf.cast(c @ self.update_kernel + self.update_bias, u.dtype))
        held = probability + tf.minimum(delta, 1 - probability)
        return (h, gate), [h, c, u * delta + (1 - u) * held]


@keras.saving.register_keras_serializable("baselines")
class SkipLSTM(SequenceLayer):
    """A `SkipLSTMCell` over a sequence, and the price of its updates.

    `loss += cost_per_sample * mean_batch(sum_t u_t)`   (Campos et al. 2018, section 3.2)

    Adds the metric `update_rate`, the share of valid steps that update: one sequence alone would need no
    others. A batch computes skipped steps too and throws them away.

    Args:
      cost_per_sample: lambda, the price of an update. The paper takes 1e-6 to 1e-3.
      memory_horizon: see `gate_bias`. jit_compile: see `Recurrent`.

    Input and output: see `SequenceLayer`. Masked steps cost nothing.

    Raises:
      ArgumentError: a size below 1, or a negative price.

    >>> import tensorflow as tf
    >>> from santm_tf.baselines.skip_lstm import SkipLSTM
    >>> SkipLSTM(8, cost_per_sample=1e-4)(tf.zeros([2, 5, 3])).shape.as_list()
    [2, 8]
    """

    def __init__(self, units, cost_per_sample=0.0, memory_horizon=None, return_sequences=False,
                 jit_compile=False, **kwargs):
        super().__init__(dict(units=units, cost_per_sample=cost_per_sample, memory_horizon=memory_horizon,
                              return_sequences=return_sequences, jit_compile=jit_compile), **kwargs)
        at_least("SkipLSTM", 0, cost_per_sample=cost_per_sample)
        self.cost_per_sample = cost_per_sample
        self.reports("update_rate")
        policy = self.dtype_policy
        self.recurrent = Recurrent(SkipLSTMCell(units, memory_horizon, dtype=policy), return_sequences=True,
                                   jit_compile=jit_compile, dtype=policy)

    def build(self, input_shape):
        built(self.recurrent, input_shape)
        super().build(input_shape)

    def call(self, inputs, mask=None):
        h, u = self.recurrent(inputs, mask=mask)
        u = tf.cast(u[..., 0], tf.float32)  # float16 counts to 2,048
        valid = tf.ones_like(u) if mask is None else tf.cast(mask, tf.float32)
        updates = tf.reduce_sum(u * valid, 1)
        done, steps = total(tf.reduce_sum(updates), tf.reduce_sum(valid))
        rate = done / tf.maximum(steps, 1)
        self.report(update_rate=tf.fill(tf.shape(updates), rate))  # counted once a row
        if self.cost_per_sample:
            self.add_loss(self.cost_per_sample * mean(updates))
        return h if self.return_sequences else h[:, -1]

    def first_state(self, batch):
        return self.recurrent.first_state(batch)

    def step(self, x, state, valid=None):
        (h, _), state = self.recurrent.step(x, state, valid)
        return h, state


def make(units: int = 32, cost_per_sample: Annotated[float, "[0, inf)"] = 0.0,
         memory_horizon: int | None = None, dropout: Annotated[float, "[0, 1)"] = 0.0, *,
         return_sequences=False, seed=None, jit_compile=True):
    """A `SkipLSTM`, with dropout.

    Args:
      units: Units of the cell and of the output, H.
      cost_per_sample: What each step used adds to the loss.
      memory_horizon: Longest memory wanted of the gates at first, in steps (default: the plain forget bias).
      dropout: Share of features dropped before the output.
    """
    return with_dropout(SkipLSTM(units, cost_per_sample, memory_horizon, return_sequences, jit_compile),
                        dropout, seed)


@counting.checked
def cost(features, units, steps, update_rate=1.0):
    """`u T (lstm + 8 H + 14)` FLOPs: a skipped step costs nothing, as it is known at the step before.

    Args:
      update_rate: u, the share of steps that update the state.

    >>> cost(1, 32, steps=784, update_rate=0.5).flops / cost(1, 32, steps=784).flops
    0.5
    """
    gate = counting.dense(units, 1) + counting.Cost(6 * units + 13) + counting.state(1)
    step = costs.lstm(features, units) + gate
    return update_rate * steps * step


MODEL = Model(make, cost)
