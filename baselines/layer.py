"""What the layers of this folder share: configuration, mask, shapes, and how their parts are built."""

import tensorflow as tf

from santm_tf.keras import Layer, shape_of
from santm_tf.saving import OldNames


class Configured(OldNames, Layer):
    """A layer whose `config` is the arguments it was made with, `{name: value}`."""

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        self._config = config

    def get_config(self):
        return {**super().get_config(), **self._config}


class SequenceLayer(Configured):
    """A layer over `[B, T, d]`, with an optional mask `[B, T]` that is False at padded steps.

    Its output is `[B, T, units]` with `return_sequences`, and `[B, units]` without, at the last valid step.
    Both are in its `config`.
    """

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.units, self.return_sequences = config["units"], config["return_sequences"]
        self.supports_masking = True

    def compute_mask(self, inputs, mask=None):
        return mask if self.return_sequences else None

    def compute_output_shape(self, input_shape):
        batch, steps = input_shape[:2]
        return shape_of(batch, steps, self.units) if self.return_sequences else shape_of(batch, self.units)


def built(layer, shape):
    """The layer, its weights made under its name, for inputs of a shape or, given a number, of that width."""
    with tf.name_scope(layer.name):
        layer.build(shape_of(None, None, shape) if isinstance(shape, int) else shape_of(*shape))
    return layer


def only_valid(x, mask):
    """`[B, T, d]` with zeros where the mask `[B, T]` is False; None for no mask."""
    return x if mask is None else tf.where(tf.cast(mask, tf.bool)[..., None], x, tf.zeros_like(x))
