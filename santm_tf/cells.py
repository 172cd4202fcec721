"""The two lower levels: an LSTM that cuts the sequence, and one that moves only at the cuts."""

import math

import tensorflow as tf

from santm_tf.errors import ArgumentError
from santm_tf.lstm import ChronoBias, forget_one, lstm, product, sigmoid


@tf.custom_gradient
def straight_through(p):
    """`1[p > 1/2]` forward, the identity backward (Bengio et al. 2013, arXiv 1308.3432)."""
    return tf.cast(p > 0.5, p.dtype), lambda upstream: upstream


class _LSTMCell(tf.keras.layers.Layer):
    """What both cells share: sizes, weights of an LSTM, and a state `[h, c]` of zeros."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        if units < 1:
            raise ArgumentError(f"{type(self).__name__}: units={units}; it must be at least 1")
        self.units = units
        self.state_size = [units, units]

    def _build_lstm(self, features, bias):
        self.kernel = self.add_weight("kernel", [features, 4 * self.units],
                                      initializer="glorot_uniform")
        self.recurrent_kernel = self.add_weight(
            "recurrent_kernel", [self.units, 4 * self.units], initializer="orthogonal")
        self.bias = self.add_weight("bias", [4 * self.units], initializer=bias)

    def get_initial_state(self, inputs=None, batch_size=None, dtype=None):
        if inputs is not None:
            first = tf.nest.flatten(inputs)[0]
            batch_size, dtype = tf.shape(first)[0], first.dtype
        return [tf.zeros([batch_size, self.units], dtype or self.compute_dtype) for _ in range(2)]

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@tf.keras.utils.register_keras_serializable("santm_tf")
class SegmentLSTMCell(_LSTMCell):
    """An LSTM that cuts its input into segments, and forgets its cell state at every cut.

    `c~_t, h_t = LSTM(x_t; c_{t-1}, h_{t-1})`
    `p_t = sigmoid(u.x_t + v.c_{t-1} + b)`, `beta_t = 1[p_t > 1/2]` (straight-through)
    `c_t = (1 - beta_t) c~_t`

    SANTM's bottom level (Shan et al. 2025; the equations are DESIGN.md, section 3).

    Args:
      units: H.
      segment_length: L >= 1, the expected length of a segment in steps. It sets the boundaries'
        first bias, `b = log((1/L) / (1 - 1/L))` (clipped to 1 at L = 1), so that p starts at 1/L.
        The paper's authors start b at 1 (L = 1.4), at which nearly every step is a boundary.
      boundaries: "learned" as above, or "given": beta is an input, and u, v and b do not exist.

    Input `[B, d]`, or `(x, beta)` of `[B, d]` and `[B, 1]` where boundaries are given; output `(h, beta)`,
    `[B, H]` and `[B, 1]`; state `[h, c]`.

    >>> import tensorflow as tf
    >>> from santm_tf import Recurrent, SegmentLSTMCell
    >>> h, beta = Recurrent(SegmentLSTMCell(8), return_sequences=True)(tf.zeros([2, 5, 3]))
    >>> h.shape.as_list(), beta.shape.as_list()
    ([2, 5, 8], [2, 5, 1])
    """

    def __init__(self, units, segment_length=4.0, boundaries="learned", **kwargs):
        super().__init__(units, **kwargs)
        if not segment_length >= 1:
            raise ArgumentError(f"SegmentLSTMCell: segment_length={segment_length}; it must be at least 1")
        if boundaries not in ("learned", "given"):
            raise ArgumentError(f"SegmentLSTMCell: boundaries={boundaries!r}; use 'learned' or 'given'")
        self.segment_length, self.boundaries = segment_length, boundaries
        self.input_count = 1 if boundaries == "learned" else 2  # for Recurrent
        self.output_size = [units, 1]

    def build(self, input_shape):
        given = self.boundaries == "given"
        features = (input_shape[0] if given else input_shape)[-1]
        self._build_lstm(features, forget_one(self.units))
        if not given:
            self._build_boundaries(features)
        super().build(input_shape)

    def _build_boundaries(self, features):
        self.boundary_kernel = self.add_weight("boundary_kernel", [features, 1],
                                               initializer="glorot_uniform")
        self.boundary_recurrent_kernel = self.add_weight(
            "boundary_recurrent_kernel", [self.units, 1], initializer="glorot_uniform")
        p = 1.0 / self.segment_length
        logit = 1.0 if p >= 1.0 else min(1.0, math.log(p / (1.0 - p)))
        self.boundary_bias = self.add_weight(
            "boundary_bias", [1], initializer=tf.keras.initializers.Constant(logit))

    def project(self, inputs):
        """`(x W + b, u.x + b_beta)`, or `(x W + b, beta)`, for any leading axes: all that needs no state."""
        if self.boundaries == "given":
            x, beta = inputs
            return product(x, self.kernel) + self.bias, beta
        return (product(inputs, self.kernel) + self.bias,
                product(inputs, self.boundary_kernel) + self.boundary_bias)

    def call(self, inputs, states, projected=False):
        z, beta = inputs if projected else self.project(inputs)
        h, c = states
        if self.boundaries == "learned":
            beta = straight_through(sigmoid(beta + c @ self.boundary_recurrent_kernel))
        h, c = lstm(z + h @ self.recurrent_kernel, c)
        return (h, beta), [h, (1 - beta) * c]

    def get_config(self):
        return {**super().get_config(), "segment_length": self.segment_length, "boundaries": self.boundaries}


@tf.keras.utils.register_keras_serializable("santm_tf")
class CascadeLSTMCell(_LSTMCell):
    """An LSTM over the segments: its state moves where `beta_t = 1` and is held elsewhere.

    `h~_t, c~_t = LSTM(x_t; h_{t-1}, c_{t-1})`
    `h_t = beta_t h~_t + (1 - beta_t) h_{t-1}`, and so c.

    SANTM's middle level (Shan et al. 2025; DESIGN.md, section 3), chrono-initialised (`ChronoBias`).

    Args:
      units: H.
      max_steps: the longest memory wanted, in steps (chrono initialisation).

    Input `(x, beta)`, `[B, d]` and `[B, 1]`; output `[B, H]`; state `[h, c]`.

    >>> import tensorflow as tf
    >>> from santm_tf import CascadeLSTMCell, Recurrent
    >>> Recurrent(CascadeLSTMCell(8))((tf.zeros([2, 5, 3]), tf.ones([2, 5, 1]))).shape.as_list()
    [2, 8]
    """

    input_count = 2  # for Recurrent

    def __init__(self, units, max_steps=100, **kwargs):
        super().__init__(units, **kwargs)
        if max_steps < 1:
            raise ArgumentError(f"CascadeLSTMCell: max_steps={max_steps}; it must be at least 1")
        self.max_steps = max_steps
        self.output_size = units

    def build(self, input_shape):
        self._build_lstm(input_shape[0][-1], ChronoBias(self.max_steps))
        super().build(input_shape)

    def project(self, inputs):
        """`(x W + b, beta)` for any leading axes."""
        x, beta = inputs
        return product(x, self.kernel) + self.bias, beta

    def call(self, inputs, states, projected=False):
        z, beta = inputs if projected else self.project(inputs)
        h, c = states
        h_new, c_new = lstm(z + h @ self.recurrent_kernel, c)
        h, c = beta * h_new + (1 - beta) * h, beta * c_new + (1 - beta) * c
        return h, [h, c]

    def get_config(self):
        return {**super().get_config(), "max_steps": self.max_steps}
