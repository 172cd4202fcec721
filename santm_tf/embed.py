"""Channels of categories among channels of numbers, embedded."""

from collections.abc import Sequence

import tensorflow as tf

from santm_tf.errors import ArgumentError
from santm_tf.keras import Layer, keras, shape_of


@keras.saving.register_keras_serializable("santm_tf")
class EmbedCategories(Layer):
    """Embeds the last channels of each step, which are codes, beside the first ones, which are numbers.

    `y = [x_1 .. x_n ; E_1[c_1] ; .. ; E_m[c_m]]`, where `E_i` is learned, `[sizes_i, width_i]`. Code 0 stands
    for a value that is not known.

    Args:
      sizes: of each channel of codes, how many there are, the unknown one counted.
      width: of each embedding; None for `min(32, ceil(1.6 sizes_i^0.56))` (the rule of the fastai library).

    Input `[..., n + m]`, output `[..., n + width_1 + .. + width_m]`. A mask passes through.

    >>> layer = EmbedCategories([3, 5], width=4)
    >>> layer(tf.constant([[[0.5, 2.0, 4.0]]])).shape
    TensorShape([1, 1, 9])
    """

    stepwise = True  # it computes each step by itself, so that streams pass

    def __init__(self, sizes: Sequence[int], width: int | None = None, **kwargs):
        super().__init__(**kwargs)
        if not sizes or min(sizes) < 1:
            raise ArgumentError(f"EmbedCategories: sizes={list(sizes)}; each must be at least 1")
        self.sizes, self.width = tuple(sizes), width
        self.widths = [width or min(32, -(-int(160 * size ** 0.56) // 100)) for size in self.sizes]
        self.supports_masking = True

    def build(self, input_shape: tf.TensorShape) -> None:
        if input_shape[-1] < len(self.sizes):
            raise ArgumentError(f"EmbedCategories: the input has {input_shape[-1]} channels; it must have at "
                                f"least {len(self.sizes)}")
        self.tables = [self.add_weight(name=f"embedding_{i}", shape=(size, width), initializer="uniform")
                       for i, (size, width) in enumerate(zip(self.sizes, self.widths, strict=True))]
        self.built = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        count = inputs.shape[-1] - len(self.sizes)
        codes = tf.cast(inputs[..., count:], tf.int32)
        parts = [tf.gather(table, tf.clip_by_value(codes[..., i], 0, size - 1))
                 for i, (table, size) in enumerate(zip(self.tables, self.sizes, strict=True))]
        return tf.concat([inputs[..., :count], *(tf.cast(part, inputs.dtype) for part in parts)], -1)

    def compute_mask(self, inputs: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor | None:
        return mask

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        return shape_of(*input_shape[:-1], input_shape[-1] - len(self.sizes) + sum(self.widths))

    def get_config(self) -> dict:
        return {**super().get_config(), "sizes": list(self.sizes), "width": self.width}
