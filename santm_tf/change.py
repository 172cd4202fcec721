"""Boundaries where the input changes."""

from typing import Any

import tensorflow as tf

from santm_tf.cells import first_bias
from santm_tf.keras import Layer, keras, register
from santm_tf.ops import at_least_float32, sigmoid, straight_through
from santm_tf.replicas import total
from santm_tf.types import Config, Shape

EPSILON = 1e-6  # inside the logarithm and the root
MOMENTUM = 0.95  # of the moving statistics
LOGISTIC = 1.7  # a logistic variable is about so many times a normal one (Johnson and Kotz 1970)


@register
class ChangeBoundary(Layer):
    """A segment ends where the input changes more than it mostly does.

    `f_t = log(mean_i (x_{t,i} - x_{t-1,i})^2 + eps)`
    `p_t = sigmoid(u_f (f_t - mean) / deviation + u_0)`,   `beta_t = 1[p_t > 1/2]` (straight-through)

    f is the spectral flux of audio onset detection (Bello et al. 2005, "A tutorial on onset detection in
    music signals", section III), for any input. `adapt` moves its mean and its deviation while training. u_f
    and u_0 are learned. Once the mean and the deviation fit, about one step in L is a boundary. x gets no
    gradient. The first step of a sequence has no change.

    Args:
      segment_length: L >= 1, the expected length of a segment in steps.

    Input: x `[B, T, d]`, and what `after` gave for the steps before; output beta `[B, T, 1]`.

    >>> boundary = ChangeBoundary(segment_length=3)
    >>> x = tf.constant([0.0, 0.1, 3.0, 3.1])[None, :, None]
    >>> boundary(x)[0, :, 0].numpy().tolist()
    [0.0, 0.0, 1.0, 0.0]
    """

    def __init__(self, segment_length: float = 4.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.segment_length = segment_length

    def build(self, input_shape: Shape) -> None:
        self.width = input_shape[-1]
        constant = keras.initializers.Constant
        bias = first_bias(self.segment_length)
        self.weight = self.add_weight(name="weight", shape=[1], initializer=constant(LOGISTIC))
        self.bias = self.add_weight(name="bias", shape=[1], initializer=constant(bias))
        self.mean = self.add_weight(name="mean", shape=[1], initializer="zeros", trainable=False)
        self.variance = self.add_weight(name="variance", shape=[1], initializer="ones", trainable=False)
        super().build(input_shape)

    def first(self, batch: int | tf.Tensor, dtype: tf.DType | None = None) -> tf.Tensor:
        """What `after` gives before the first step, `[B, d + 1]`."""
        return tf.zeros([batch, self.width + 1], dtype or self.compute_dtype)

    def call(self, x: tf.Tensor, before: tf.Tensor | None = None) -> tf.Tensor:
        flux = self._flux(x, before)
        weight, bias, mean, variance = (tf.cast(v, flux.dtype) for v in (
            self.weight, self.bias, self.mean, self.variance))
        p = sigmoid(weight * (flux - mean) * tf.math.rsqrt(variance + EPSILON) + bias)
        return tf.cast(straight_through(p), x.dtype)

    def after(self, x: tf.Tensor, before: tf.Tensor | None, count: tf.Tensor) -> tf.Tensor:
        """The last input and a one, `[B, d + 1]`, after the first `count` `[B]` steps of x."""
        return tf.gather(self._steps(x, before), count, axis=1, batch_dims=1)

    def adapt(self, x: tf.Tensor, mask: tf.Tensor | None = None) -> None:
        """Moves the mean and the deviation towards those of x, mask bool `[B, T]`."""
        flux = self._flux(x)[:, 1:, 0]
        valid = tf.ones_like(flux) if mask is None else tf.cast(mask[:, 1:] & mask[:, :-1], flux.dtype)
        count, mean = total(tf.reduce_sum(valid), tf.reduce_sum(valid * flux))
        mean = tf.math.divide_no_nan(mean, count)
        variance = tf.math.divide_no_nan(total(tf.reduce_sum(valid * (flux - mean) ** 2)), count)
        pace = tf.where(count > 0, tf.cast(1 - MOMENTUM, flux.dtype), 0)
        for kept, now in (self.mean, mean), (self.variance, variance):
            kept.assign_add(tf.cast(pace * (now - tf.cast(kept, flux.dtype)), kept.dtype))

    def _flux(self, x, before=None):
        """`f_t`, `[B, T, 1]`."""
        steps = tf.stop_gradient(self._steps(x, before))
        moved = (steps[:, 1:, :-1] - steps[:, :-1, :-1]) * steps[:, :-1, -1:]
        return tf.math.log(tf.reduce_mean(at_least_float32(moved) ** 2, -1, keepdims=True) + EPSILON)

    def _steps(self, x, before):
        """`before`, then the inputs with a one each, `[B, 1 + T, d + 1]`."""
        before = self.first(tf.shape(x)[0], x.dtype) if before is None else before
        return tf.concat([before[:, None], tf.concat([x, tf.ones_like(x[..., :1])], -1)], 1)

    def get_config(self) -> Config:
        return {**super().get_config(), "segment_length": self.segment_length}
