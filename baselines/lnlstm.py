"""The layer-normalised LSTM (Ba, Kiros and Hinton 2016, arXiv 1607.06450)."""

from santm_tf.addons import addons
from santm_tf.analysis import cost as costs
from santm_tf.analysis import counting
from santm_tf.baselines import lstm
from santm_tf.baselines.layer_norm_lstm import LayerNormLSTMCell
from santm_tf.baselines.model import Model


def make(**options: lstm.make):
    """`Recurrent` over `tfa.rnn.LayerNormLSTMCell`, with the options of `lstm`.

    `z = LN(x W) + LN(h U) + b`, the gates as in an LSTM, `c' = LN(f c + i g)`, `h' = o tanh(c')`

    Where tensorflow-addons cannot be imported it is our `LayerNormLSTMCell`, which is the same.
    """
    module = addons()
    return lstm.of_cell(LayerNormLSTMCell if module is None else module.rnn.LayerNormLSTMCell, **options)


@counting.checked
def cost(features, units, steps=1):
    """`T (lstm + 65 H)` FLOPs: `LN(x W)` and `LN(h U)` on 4 H numbers and `LN(c)` on H, each 9 a number.

    The gates are one sigmoid operation, which counts nothing, and so 16 H less than in `lstm`. Where Keras
    fuses a norm, the profiler sees only its scale and offset.

    >>> cost(1, 32).flops - costs.lstm(1, 32).flops == 65 * 32
    True
    """
    norms = 2 * counting.norm(4 * units) + counting.norm(units)
    return steps * (costs.lstm(features, units) + norms + counting.Cost(-16 * units))


MODEL = Model(make, cost)
