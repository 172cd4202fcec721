"""What a run is: its flags, its model and its versions, as a text card and as hyperparameters."""

import platform

import numpy as np
import tensorflow as tf
import tf_keras

from training import flags, models

FLAGS = flags.FLAGS
# Of every run, given or not, so that runs can be compared by them.
COMPARED = ("model", "units", "access_rate", "segment_length", "memory_slots", "slot_width", "optimizer",
            "learning_rate", "task", "epochs", "batch_size", "seed")


def card(model):
    """The run as Markdown: its command, its weights and the versions.

    Args:
      model: a compiled model.
    """
    command = " \\\n".join(["train.py", *(f"  {text}" for text in flags.given(*flags.GROUPS).values())])
    weights = [f"| {layer.name} | {type(layer).__name__} | {_size(layer):,} |" for layer in model.layers]
    versions = {"Python": platform.python_version(), "TensorFlow": tf.__version__,
                "Keras": tf_keras.__version__, "NumPy": np.__version__}
    return "\n".join([
        f"# {FLAGS.model} on {FLAGS.task}", "", "```", command, "```", "",
        "| layer | kind | weights |", "| --- | --- | ---: |", *weights,
        f"| **all** | | **{models.parameters(model):,}** |", "",
        ", ".join(f"{name} {version}" for name, version in versions.items())])


def hparams():
    """The flags of `COMPARED` and all others given that change what is learned: `{name: value}`."""
    given = [name for group in (flags.MODEL, flags.OPTIMISER, flags.TASK) for name in flags.given(group)
             if name != "data_dir"]
    values = {name: FLAGS[name].value for name in dict.fromkeys([*COMPARED, *given])}
    return {name: value for name, value in values.items() if value is not None}


def _size(layer):
    return sum(weight.shape.num_elements() for weight in layer.trainable_weights)
