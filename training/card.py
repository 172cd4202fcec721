"""What a run is: its flags, its model and its versions, as a text card and as hyperparameters."""

import platform

import numpy as np
import tensorflow as tf

from santm_tf.keras import keras
from santm_tf.training.config import MODEL, OPTIMISER, TASK
from santm_tf.training.models import parameters

# Of every run, given or not, so that runs can be compared by them.
COMPARED = ("model", "units", "access_rate", "segment_length", "memory_slots", "slot_width", "optimizer",
            "learning_rate", "task", "epochs", "batch_size", "seed")


def card(config, model):
    """The run as Markdown: its command, its weights and the versions."""
    command = " \\\n".join(["santm-train", *(f"  {text}" for text in config.given().values())])
    weights = [f"| {layer.name} | {type(layer).__name__} | {parameters(layer):,} |" for layer in model.layers]
    versions = {"Python": platform.python_version(), "TensorFlow": tf.__version__,
                "Keras": keras.__version__, "NumPy": np.__version__}
    return "\n".join([
        f"# {config.model} on {config.task}", "", "```", command, "```", "",
        "| layer | kind | weights |", "| --- | --- | ---: |", *weights,
        f"| **all** | | **{parameters(model):,}** |", "",
        ", ".join(f"{name} {version}" for name, version in versions.items())])


def hparams(config):
    """The options of `COMPARED` and all others given that change what is learned: `{name: value}`."""
    values = {option.name: value for option, value in config.values().items()}
    given = [option.name for option in config.given(MODEL, OPTIMISER, TASK) if option.name != "data_dir"]
    names = [name for name in dict.fromkeys([*COMPARED, *given]) if values.get(name) is not None]
    return {name: values[name] for name in names}
