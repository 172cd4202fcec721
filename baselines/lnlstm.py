"""The layer-normalised LSTM of tensorflow-addons (Ba, Kiros and Hinton 2016, arXiv 1607.06450)."""

from baselines import lstm
from baselines.model import Model
from santm_tf import compat
from santm_tf.analysis import cost as costs
from santm_tf.errors import ArgumentError


def make(**options: lstm.make):
    """`Recurrent` over `tfa.rnn.LayerNormLSTMCell`, with the options of `lstm`.

    `z = LN(x W) + LN(h U) + b`, the gates as in an LSTM, `c' = LN(f c + i g)`, `h' = o tanh(c')`

    A saved one is loaded after `santm_tf.compat.addons()`, which makes the cell known to Keras.

    Raises:
      ArgumentError: tensorflow-addons is not installed.
    """
    try:
        addons = compat.addons()
    except ImportError as error:
        raise ArgumentError(f"model=lnlstm: {error}") from error
    return lstm.of_cell(addons.rnn.LayerNormLSTMCell, **options)


@costs.checked
def cost(features, units, steps=1):
    """`T (lstm + 65 H)` FLOPs: `LN(x W)` and `LN(h U)` on 4 H numbers and `LN(c)` on H, each 9 a number.

    The gates are one sigmoid operation, which counts nothing, and so 16 H less than in `lstm`. Where Keras
    fuses a norm, the profiler sees only its scale and offset.

    >>> cost(1, 32).flops - costs.lstm(1, 32).flops == 65 * 32
    True
    """
    norms = 2 * costs.norm(4 * units) + costs.norm(units)
    return steps * (costs.lstm(features, units) + norms + costs.Cost(-16 * units))


MODEL = Model(make, cost)
