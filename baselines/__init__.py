"""Models by name, for `train.py --model`: SANTM and its rivals, each a Keras layer."""

import inspect

from baselines import (
    cuw_ntm,
    dilated_lstm,
    drr_lstm,
    lnlstm,
    lstm,
    mamba,
    ntm,
    santm,
    skip_lstm,
    transformer,
    uw_ntm,
)
from santm_tf.errors import ArgumentError

_MAKERS = {
    "santm": santm.make,
    "lstm": lstm.make,
    "lnlstm": lnlstm.make,
    "skip_lstm": skip_lstm.make,
    "dilated_lstm": dilated_lstm.make,
    "drr_lstm": drr_lstm.make,
    "ntm": ntm.make,
    "uw_ntm": uw_ntm.make,
    "cuw_ntm": cuw_ntm.make,
    "transformer": transformer.make,
    "mamba": mamba.make,
}
NAMES = tuple(_MAKERS)


def make(name, flags, *, steps, return_sequences, stateful=False):
    """The layer of a model.

    Args:
      name: one of `NAMES`.
      flags: an object with the sizes as attributes, named as the flags.
      steps: T of the training sequences.
      return_sequences: an output at each step, or at the last valid one.
      stateful: keep the state from batch to batch.

    Returns:
      A Keras layer from `[B, T, d]` to `[B, T, units]` or `[B, units]`.

    Raises:
      ArgumentError: sizes that cannot work, or a model that cannot be stateful.
    """
    options = {"steps": steps, "return_sequences": return_sequences}
    if stateful:
        if "stateful" not in inspect.signature(_MAKERS[name]).parameters:
            raise ArgumentError(f"model={name}: it cannot go on from window to window as this task asks")
        options["stateful"] = True
    return _MAKERS[name](flags, **options)
