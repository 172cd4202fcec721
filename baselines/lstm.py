"""The plain LSTM, and what the other LSTMs share with it."""

from typing import Annotated

from santm_tf import Recurrent
from santm_tf.analysis.cost import lstm as cost
from santm_tf.baselines.model import Model
from santm_tf.errors import at_least
from santm_tf.keras import keras
from santm_tf.lstm import ChronoBias, forget_one


def gate_bias(units, memory_horizon=None):
    """Initialiser of an LSTM's bias `[4H]`, gates in the order i, f, g, o.

    `b_f = log U(1, memory_horizon - 1), b_i = -b_f` (`ChronoBias`; Tallec and Ollivier 2018, equation 16), or
    without the longest memory wanted, in steps, `b_f = 1` (`forget_one`). The rest is zero.

    Raises:
      ArgumentError: a `memory_horizon` below 1.

    >>> from santm_tf.baselines.lstm import gate_bias
    >>> gate_bias(2)([8]).numpy().tolist()
    [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    """
    if memory_horizon is None:
        return forget_one(units)
    at_least("LSTM", 1, memory_horizon=memory_horizon)
    return ChronoBias(memory_horizon)


@keras.saving.register_keras_serializable("baselines")
class WithDropout(keras.Sequential):
    """A recurrent layer, then dropout. See `with_dropout`."""

    def compute_mask(self, inputs, mask=None):  # without it Keras 3 says that the mask is lost
        return self.layers[0].compute_mask(inputs, mask)


def with_dropout(layer, dropout, seed):
    """The layer, its outputs dropped out while training (Zaremba et al. 2014, arXiv 1409.2329).

    >>> import tensorflow as tf
    >>> from santm_tf.baselines.lstm import with_dropout
    >>> with_dropout(tf.keras.layers.LSTM(8), dropout=0.1, seed=0)(tf.zeros([2, 5, 3])).shape
    TensorShape([2, 8])
    """
    return WithDropout([layer, keras.layers.Dropout(dropout, seed=seed)])


def of_cell(cell, units=32, memory_horizon=None, dropout=0.0, seed=None, **options):
    """`Recurrent` over an LSTM cell of Keras' arguments, with `gate_bias` and dropout."""
    cell = cell(units, bias_initializer=gate_bias(units, memory_horizon), unit_forget_bias=False)
    return with_dropout(Recurrent(cell, **options), dropout, seed)


def make(units: int = 32, memory_horizon: int | None = None, dropout: Annotated[float, "[0, 1)"] = 0.0, *,
         return_sequences=False, stateful=False, seed=None, jit_compile=True):
    """`Recurrent` over Keras' `LSTMCell`.

    Args:
      units: Units of the cell and of the output, H.
      memory_horizon: Longest memory wanted of the gates at first, in steps (default: the plain forget bias).
      dropout: Share of features dropped before the output.
    """
    return of_cell(keras.layers.LSTMCell, units, memory_horizon, dropout, seed, jit_compile=jit_compile,
                   return_sequences=return_sequences, stateful=stateful)


MODEL = Model(make, cost)
