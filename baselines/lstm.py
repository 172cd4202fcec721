"""The plain LSTM (Hochreiter and Schmidhuber 1997)."""

import tensorflow as tf

from santm_tf import Recurrent


def make(flags, *, steps, return_sequences):
    del steps
    return Recurrent(tf.keras.layers.LSTMCell(flags.units), return_sequences=return_sequences,
                     jit_compile=flags.jit_compile)
