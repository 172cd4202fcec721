"""Models by name, for `train.py --model`: SANTM and its rivals, each a Keras layer."""

from baselines import lstm, santm

_MAKERS = {"santm": santm.make, "lstm": lstm.make}
NAMES = tuple(_MAKERS)


def make(name, flags, *, steps, return_sequences):
    """The layer of a model.

    Args:
      name: one of `NAMES`.
      flags: an object with the sizes as attributes, named as the flags.
      steps: T of the training sequences.
      return_sequences: an output at each step, or at the last valid one.

    Returns:
      A Keras layer from `[B, T, d]` to `[B, T, units]` or `[B, units]`.
    """
    return _MAKERS[name](flags, steps=steps, return_sequences=return_sequences)
