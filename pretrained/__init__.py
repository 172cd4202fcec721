"""Trained models that come with the library: a folder each, which is a run's, with a card.

To import this package imports no TensorFlow.
"""

import importlib.resources
from typing import TYPE_CHECKING

from santm_tf.errors import ArgumentError

if TYPE_CHECKING:
    from santm_tf.keras import keras

NAMES = ("digits", "mnist", "speakers", "recall")


def folder(name: str) -> str:
    """The folder of a pretrained model, for `santm-evaluate --workdir=` and the other commands.

    Raises:
      ArgumentError: there is no such model.

    >>> import os
    >>> sorted(os.listdir(folder("digits")))
    ['README.md', 'best', 'flags.cfg', 'metrics.json', 'outline.json']
    >>> folder("letters")
    Traceback (most recent call last):
        ...
    santm_tf.errors.ArgumentError: pretrained: name='letters'; it must be digits, mnist, speakers or recall
    """
    if name not in NAMES:
        raise ArgumentError(f"pretrained: name={name!r}; it must be {', '.join(NAMES[:-1])} or {NAMES[-1]}")
    return str(importlib.resources.files("santm_tf.pretrained") / name)


def load_pretrained(name: str, jit_compile: bool = False) -> "keras.Model":
    """A trained Keras model that comes with the library. No data are read, nothing is downloaded.

    It gives logits. It is not compiled; it can be trained further, or its layers be taken for another model.

    Args:
      name: "digits", "mnist", "speakers" or "recall". The card in its folder, `README.md`, says what it
        takes and gives, of what data it is, and what it scores; `santm_tf.pretrained.folder` finds it.
      jit_compile: compile with XLA: the first batch takes some 15 s, those after it are faster.

    Returns:
      A Keras model, from `[B, T, features]` to logits, `[B, classes]` or `[B, T, bits]`.

    Raises:
      ArgumentError: there is no such model.

    >>> import numpy as np
    >>> model = load_pretrained("digits")
    >>> model(np.zeros([2, 64, 1])).shape
    TensorShape([2, 10])
    """
    from santm_tf.training.run import load_model  # on demand: it imports TensorFlow

    return load_model(folder(name), *["--nojit_compile"] * (not jit_compile))
