"""Models by name, for `train.py --model`: SANTM and its rivals, each a Keras layer.

A model is one file with a `MODEL` (`baselines.model.Model`), and its name here. To import this package
imports no TensorFlow.
"""

import importlib
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from santm_tf.baselines.model import Model
    from santm_tf.keras import keras

NAMES = ("santm", "lstm", "lnlstm", "skip_lstm", "dilated_lstm", "drr_lstm", "ntm", "uw_ntm", "cuw_ntm",
         "transformer", "mamba", "lmu")
MODELS = {name: f"santm_tf.baselines.{name}" for name in NAMES}


def load(name: str) -> "Model":
    """The `Model` of a name."""
    return importlib.import_module(MODELS[name]).MODEL


def parameters(make):
    """What a `make` takes, `{name: Parameter}`: first that of the `make` that its `**` is annotated with."""
    own = inspect.signature(make).parameters
    others = [p.annotation for p in own.values() if p.kind is p.VAR_KEYWORD]
    return {**(parameters(*others) if others else {}),
            **{name: p for name, p in own.items() if p.kind is not p.VAR_KEYWORD}}


def options(name: str) -> list[str]:
    """The names of a model's options, in their order."""
    return [p.name for p in parameters(load(name).make).values() if p.kind is not p.KEYWORD_ONLY]


def make(name: str, given: Mapping[str, Any], *, stateful: bool = False,
         **context: Any) -> "keras.layers.Layer":
    """The layer of a model.

    Args:
      name: one of `NAMES`.
      given: options of the model, `{name: value}`; the others keep their defaults.
      stateful: keep the state from batch to batch.
      **context: `steps`, T of the training sequences; `return_sequences`, an output at each step or at the
        last valid one; `seed`; `jit_compile`. A model gets those that it asks for.

    Returns:
      A Keras layer from `[B, T, d]` to `[B, T, units]` or `[B, units]`.

    Raises:
      ArgumentError: an option that the model does not take, sizes that cannot work, or a model that
        cannot be stateful.
    """
    from santm_tf.errors import ArgumentError  # here, as it imports TensorFlow

    taken, asked = options(name), parameters(load(name).make)
    for option, value in given.items():
        if option not in taken:
            raise ArgumentError(f"model={name}: it has no option {option}={value}; it takes "
                                f"{', '.join(taken)}")
    if stateful:
        if "stateful" not in asked:
            raise ArgumentError(f"model={name}: it cannot go on from window to window as this task asks")
        context["stateful"] = True
    return load(name).make(**given, **{key: value for key, value in context.items() if key in asked})
