"""Copies of layers as they are served: in float32, for any batch and length, nothing kept or reported."""

import tensorflow as tf

from santm_tf.errors import ArgumentError
from santm_tf.keras import keras, layers_of
from santm_tf.santm import SANTM

_FLOATS = ("float16", "bfloat16", "float32", "float64", "mixed_float16", "mixed_bfloat16")
_OFF = ("stateful", "return_state", "jit_compile")
_NAMES = ("name", "build_config")  # what tells apart two layers that compute the same


def copied(layer, *shapes):
    """A built copy of a layer, with its weights, for inputs of these shapes.

    Raises:
      ArgumentError: a layer that cannot be made anew from its configuration.
    """
    try:
        copy = type(layer).from_config(_served(layer.get_config()))
    except Exception as error:  # whatever a user's own layer may raise
        raise ArgumentError(f"export: {layer.name} ({type(layer).__name__}) cannot be made anew from its "
                            f"get_config(): {str(error).strip().splitlines()[0]}") from error
    if isinstance(copy, keras.Model):  # whose layers are built by what it does with them
        copy(tf.zeros([size or 1 for size in shapes[0]], tf.float32 if len(shapes[0]) > 2 else tf.int32))
    elif not copy.built:
        copy.build(shapes[0] if len(shapes) == 1 else list(shapes))
    copy.set_weights(layer.get_weights())
    if hasattr(copy, "finalize_state"):  # of Normalization
        copy.finalize_state()
    for part in layers_of(copy):
        _settle(part)
    return copy


def _settle(layer):
    """Fits a SANTM's plan to its mask; has a layer report and add to the loss nothing."""
    if isinstance(layer, SANTM):
        layer.access.fit_plan()  # the plan holds the accessed steps alone
        if layer.recall is not None:
            layer.recall.sparse = False  # TensorFlow Lite has no tf.sparse products, nor XLA
    layer.add_loss = _nothing
    if hasattr(layer, "report"):
        layer.report = _nothing


def _nothing(*_, **__):
    pass


def _served(config):
    """A configuration with every float type float32, and nothing stateful, returned beside or compiled."""
    if isinstance(config, list | tuple):
        return (tuple if isinstance(config, tuple) else list)(map(_served, config))
    if not isinstance(config, dict):
        return config
    if config.get("class_name") in ("Policy", "DTypePolicy"):
        return "float32" if config["config"]["name"] in _FLOATS else config
    return {name: False if name in _OFF and isinstance(value, bool) else
            "float32" if name == "dtype" and value in _FLOATS else _served(value)
            for name, value in config.items()}


def nameless(config):
    """A configuration without what two layers that compute the same may differ in."""
    if isinstance(config, list | tuple):
        return [nameless(part) for part in config]
    if isinstance(config, dict):
        return {name: nameless(value) for name, value in config.items() if name not in _NAMES}
    return config
