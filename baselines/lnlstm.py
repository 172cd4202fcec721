"""The layer-normalised LSTM of tensorflow-addons (Ba, Kiros and Hinton 2016, arXiv 1607.06450)."""

from baselines.lstm import gate_bias, with_dropout
from santm_tf import Recurrent, compat
from santm_tf.errors import ArgumentError


def make(flags, *, steps, return_sequences, stateful=False):
    """`Recurrent` over `tfa.rnn.LayerNormLSTMCell`.

    `z = LN(x W) + LN(h U) + b`, the gates as of an LSTM, `c' = LN(f c + i g)`, `h' = o tanh(c')`

    A saved one is loaded after `santm_tf.compat.addons()`, which makes the cell known to Keras.

    Raises:
      ArgumentError: tensorflow-addons is not installed.
    """
    del steps
    try:
        addons = compat.addons()
    except ImportError as error:
        raise ArgumentError(f"model=lnlstm: {error}") from error
    cell = addons.rnn.LayerNormLSTMCell(
        flags.units, bias_initializer=gate_bias(flags.units, flags.max_memory), unit_forget_bias=False)
    return with_dropout(
        Recurrent(cell, return_sequences=return_sequences, stateful=stateful, jit_compile=flags.jit_compile),
        flags)
