"""Losses, metrics and fronts of a task as JSON, and made of it again, under either Keras."""

import importlib

import tensorflow as tf

from santm_tf.answers import Answer
from santm_tf.keras import keras
from santm_tf.tasks.errors import TaskError

OURS = "santm_tf."
KINDS = keras.losses.Loss, keras.metrics.Metric, tf.Module, Answer  # what a task has; no other is made
LEFT_OUT = "dtype", "fn", "reduction"  # which the two Kerases say in other words; no task chooses them


def recipe(thing):
    """What `made` makes the like of: `{"class": "module:name", "config": {...}}`; None for None.

    Args:
      thing: a Keras loss or metric, or one of this library's classes with `get_config()`, or a dataclass.

    >>> recipe(keras.metrics.BinaryAccuracy("accuracy", threshold=0.0))["class"]
    'keras.metrics:BinaryAccuracy'
    """
    if thing is None:
        return None
    config = thing.get_config() if hasattr(thing, "get_config") else vars(thing)
    module, name = type(thing).__module__, type(thing).__name__
    for place in "losses", "metrics":
        if getattr(getattr(keras, place), name, None) is type(thing):
            module = f"keras.{place}"
    return {"class": f"{module}:{name}", "config": {
        option: value for option, value in config.items() if option not in LEFT_OUT and value is not None}}


def made(found):
    """What a recipe describes.

    Raises:
      TaskError: a class that is neither Keras' nor this library's, or is not there.

    >>> made(recipe(keras.losses.MeanSquaredError())).name
    'mean_squared_error'
    """
    if found is None:
        return None
    module, _, name = found["class"].partition(":")
    try:
        if module in ("keras.losses", "keras.metrics"):
            kind = getattr(getattr(keras, module.removeprefix("keras.")), name)
        elif module.startswith(OURS):
            kind = getattr(importlib.import_module(module), name)
        else:
            raise ImportError("no class of this library")
        if not (isinstance(kind, type) and issubclass(kind, KINDS)):
            raise ImportError("no loss, metric, front or answer")
    except (ImportError, AttributeError) as error:
        raise TaskError(f"{found['class']}: {error}; write the shards anew with this version") from error
    try:
        return kind(**found["config"])
    except (TypeError, ValueError) as error:
        raise TaskError(f"{found['class']}: {' '.join(str(error).split())}; write the shards anew with this "
                        "version") from error
