"""A trained SANTM as a SavedModel: whole sequences, streams, scores."""

import importlib

__all__ = ["FACTS", "check", "export", "servable"]


def __getattr__(name):  # on demand: `python -m santm_tf.export --help` needs no TensorFlow
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("santm_tf.export.saved_model"), name)
