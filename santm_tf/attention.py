"""Local multi-head self-attention over memory slots, as a Chebyshev graph convolution."""

import math
from typing import Any

import tensorflow as tf

from santm_tf.errors import ArgumentError, whole
from santm_tf.graph import chebyshev, diagonals, ring, symmetric
from santm_tf.keras import Layer, keras, register
from santm_tf.ops import at_least_float32, in_xla, product
from santm_tf.types import Config, Shape

# The banded form wins above this many slots per unit of locality (benchmarks/attention.py).
SLOTS_PER_OFFSET = 24
# From this locality on the products of tf.sparse are faster, for heads narrower than that, on a CPU
# (benchmarks/sparse_products.py); they keep a third less in training.
SPARSE_FROM, SPARSE_BELOW = 8, 32


@register
class ChebAttention(Layer):
    """Multi-head self-attention whose attention is a graph Laplacian under a Chebyshev filter.

    Slots are nodes on a ring, neighbours within l. A head has W/A columns of Q, K_ and V_, linear in M:

    `E = (Q K_^T + K_ Q^T) / (2 sqrt(W/A))` on neighbours,   `G_ij = exp(E_ij - (lse_i + lse_j) / 2)`
    `sum_{n<K} Cheb_n V_ Theta_n`,   `Cheb_0 V_ = V_`, `Cheb_1 V_ = -G V_`, and as in `graph.chebyshev`
    `Z = M + [those sums of all heads] W_o`,   output `Z + relu(Z W_1 + b_1) W_2 + b_2`.

    lse_i is the log-sum-exp of E over the neighbours of i. G is symmetric with its spectrum in [-1, 1]. The
    filter is ChebNet's (Defferrard, Bresson and Vandergheynst 2016, arXiv 1606.09375, equation 4). That SANTM
    recalls by it is Shan et al. 2025; the equations are ours (docs/equations.md, recall). A slot receives
    from those within (K-1) l. The weights depend on slots l further. `l >= N/2` is global attention.

    Args:
      heads: A; divides the slot width.
      order: K >= 1, the number of Chebyshev terms.
      locality: l >= 1, in slots.
      feed_forward: the width of the feed-forward block (default W).
      form: "dense" (`N^2` products), "banded" (`2 l N`), "sparse" (as many, by products of `tf.sparse`; XLA
        has none, there it is "banded"), or "auto", the fastest for the sizes. A plain `tf.function` that ran
        the sparse form cannot be called by a compiled one: call the layer there, or choose another form.

    Input and output `[B, N, W]`, N and W known when it is built. A mask is handed on and hides nothing.

    Raises:
      ValueError: heads that do not divide W, an order or locality below 1, fewer than 2 slots, a band
        wider than the ring.

    >>> from santm_tf import ChebAttention
    >>> ChebAttention(heads=2, order=3, locality=1)(tf.ones([4, 8, 6])).shape.as_list()
    [4, 8, 6]
    """

    def __init__(self, heads: int = 4, order: int = 3, locality: int = 4, feed_forward: int | None = None,
                 form: str = "auto", **kwargs: Any):
        super().__init__(**kwargs)
        whole("ChebAttention", 1, heads=heads, order=order, locality=locality)
        if form not in ("auto", "dense", "banded", "sparse"):
            raise ArgumentError(f"ChebAttention: form={form!r}; use 'auto', 'dense', 'banded' or 'sparse'")
        self.heads, self.order, self.locality = heads, order, locality
        self.feed_forward, self.form, self.supports_masking = feed_forward, form, True

    def build(self, input_shape: Shape) -> None:
        slots, width = input_shape[-2], input_shape[-1]
        if slots is None or width is None:
            raise ArgumentError("ChebAttention: the number of slots and their width must be known")
        if width % self.heads:
            raise ArgumentError(f"ChebAttention: heads={self.heads} does not divide the slot width {width}")
        if slots < 2:
            raise ArgumentError(f"ChebAttention: slots={slots}; a graph of slots needs at least 2")
        fits = 2 * self.locality < slots
        if self.form in ("banded", "sparse") and not fits:
            raise ArgumentError(f"ChebAttention: locality={self.locality} is as wide as the ring of "
                             f"{slots} slots; use form='dense'")
        self.slots = slots
        self._banded = self.form in ("banded", "sparse") or (
            self.form == "auto" and fits and slots > SLOTS_PER_OFFSET * self.locality)
        head, hidden = width // self.heads, self.feed_forward or width
        faster = (self._banded and self.locality >= SPARSE_FROM and head < SPARSE_BELOW
                  and not tf.config.list_logical_devices("GPU"))
        self.sparse = self.form == "sparse" or (self.form == "auto" and faster)
        weight = self.add_weight
        self.qkv_kernel = weight(name="qkv_kernel", shape=[width, 3 * width], initializer="glorot_uniform")
        self.theta = weight(name="theta", shape=[self.order, self.heads, head, head],
                            initializer=keras.initializers.VarianceScaling(1.0 / self.order, "fan_in"))
        self.output_kernel = weight(name="output_kernel", shape=[width, width], initializer="glorot_uniform")
        self.hidden_kernel = weight(name="hidden_kernel", shape=[width, hidden], initializer="glorot_uniform")
        self.hidden_bias = weight(name="hidden_bias", shape=[hidden], initializer="zeros")
        self.feed_kernel = weight(name="feed_kernel", shape=[hidden, width], initializer="glorot_uniform")
        self.feed_bias = weight(name="feed_bias", shape=[width], initializer="zeros")
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        attention = self._banded_attention if self._banded else self._dense_attention
        if self.sparse and not in_xla():
            attention = self._sparse_attention
        return self._filtered(inputs, attention, slice(None))

    @property
    def adjacency(self) -> tf.SparseTensor:
        """The slots' graph, `tf.sparse.SparseTensor` `[N, N]`."""
        return ring(self.slots, self.locality)

    @property
    def reach(self) -> int:
        """How far from a slot there are others on which its output depends: K l, or 0 for K = 1."""
        return self.order * self.locality if self.order > 1 else 0

    def at_centre(self, neighbourhoods: tf.Tensor) -> tf.Tensor:
        """The output for the slots in the middle of neighbourhoods, as from the whole memory.

        Beyond (K-1) l from its middle a neighbourhood lacks neighbours, and what is computed there is wrong.
        In K-1 steps of the recurrence nothing comes from there to the middle.

        Args:
          neighbourhoods: `[..., 2 reach + 1, W]`, slots in the ring's order. They go around a shorter ring
            more than once; it must have more than 2 l slots.

        Returns:
          `[..., W]`.

        >>> attention, memory = ChebAttention(heads=2, order=2, locality=1), tf.random.normal([1, 9, 4])
        >>> whole, near = attention(memory), memory[:, 2:7]
        >>> float(tf.reduce_max(tf.abs(attention.at_centre(near) - whole[:, 4]))) < 1e-5
        True
        """
        places, width = neighbourhoods.shape[-2:]
        middle = places // 2
        y = self._filtered(tf.reshape(neighbourhoods, [-1, places, width]), self._banded_attention,
                           slice(middle, middle + 1))
        return tf.reshape(y, tf.concat([tf.shape(neighbourhoods)[:-2], [width]], 0))

    def _filtered(self, inputs, attention, wanted):
        """The outputs for a slice of the slots."""
        q, k, v = self._project(inputs)
        attend = attention(q, k) if self.order > 1 else None
        filtered = sum(
            tf.einsum("band,ade->bane", term[:, :, wanted], self.theta[i])
            for i, term in enumerate(chebyshev(lambda x: -attend(x), v, self.order)))
        inputs = inputs[:, wanted]
        slots, width = inputs.shape[-2:]
        all_heads = tf.reshape(tf.transpose(filtered, [0, 2, 1, 3]), [-1, slots, width])
        z = inputs + product(all_heads, self.output_kernel)
        hidden = tf.nn.relu(product(z, self.hidden_kernel) + self.hidden_bias)
        return z + product(hidden, self.feed_kernel) + self.feed_bias

    def attention(self, inputs: tf.Tensor) -> tf.Tensor:
        """G of a memory `[B, N, W]`, dense: `[B, A, N, N]`, symmetric, zero off the band."""
        q, k, _ = self._project(tf.cast(inputs, self.variable_dtype))
        return self._dense_weights(q, k)

    def band(self, inputs: tf.Tensor) -> tf.Tensor:
        """G of a memory `[B, N, W]` between slots i and i + j - l: `[B, A, N, 2l + 1]`. Needs 2l < N."""
        q, k, _ = self._project(tf.cast(inputs, self.variable_dtype))
        ahead = self._diagonals(q, k)
        behind = [_ahead(a, -n) for n, a in enumerate(ahead, 1)]
        return tf.concat([*behind[::-1], tf.zeros_like(ahead[0]), *ahead], -1)

    def _project(self, inputs):
        """Q, K_ and V_, each `[B, A, N, W/A]`."""
        slots, width = inputs.shape[-2:]
        qkv = tf.reshape(product(inputs, self.qkv_kernel), [-1, slots, 3, self.heads, width // self.heads])
        return tf.unstack(tf.transpose(qkv, [2, 0, 3, 1, 4]))

    def _dense_attention(self, q, k):
        """The function `x -> G x` on `[B, A, N, W/A]`, through the whole of G."""
        weights = self._dense_weights(q, k)
        return lambda x: tf.matmul(weights, x)

    def _dense_weights(self, q, k):
        """G, `[B, A, N, N]`."""
        dtype, scale = q.dtype, 0.5 / math.sqrt(q.shape[-1])
        scores = tf.matmul(at_least_float32(q), at_least_float32(k), transpose_b=True)
        scores = (scores + tf.linalg.matrix_transpose(scores)) * scale
        neighbours = tf.sparse.to_dense(self.adjacency) > 0
        # E_ij - lse_i is taken as one log-softmax: apart, a large E would swallow the sum's log.
        log_p = tf.nn.log_softmax(tf.where(neighbours, scores, -float("inf")))
        return tf.cast(tf.exp(0.5 * (log_p + tf.linalg.matrix_transpose(log_p))), dtype)

    def _banded_attention(self, q, k):
        """The same function from the l diagonals above the main one: G is symmetric."""
        weights = list(enumerate(self._diagonals(q, k), 1))

        def attend(x):
            return sum(a * _ahead(x, n) + _ahead(a * x, -n) for n, a in weights)

        return attend

    def _sparse_attention(self, q, k):
        """The same function by `tf.sparse`."""
        pairs = map(at_least_float32, (tf.concat([q, k], -1), tf.concat([k, q], -1)))
        scores = tf.split(diagonals(*pairs, self.locality), self.locality, -1)
        return symmetric(tf.concat(self._normalised(scores, q), -1))

    def _diagonals(self, q, k):
        """`G_{i, i + n}` for n = 1, ..., l, each `[B, A, N, 1]`."""
        exact_q, exact_k = map(at_least_float32, (q, k))
        return self._normalised([
            tf.reduce_sum(exact_q * _ahead(exact_k, n) + exact_k * _ahead(exact_q, n), -1, keepdims=True)
            for n in range(1, self.locality + 1)], q)

    def _normalised(self, products, like):
        """G from what `Q K_^T + K_ Q^T` has on the same diagonals."""
        offsets, scale = range(1, self.locality + 1), 0.5 / math.sqrt(like.shape[-1])
        ahead = [s * scale for s in products]
        both = ahead + [_ahead(s, -n) for s, n in zip(ahead, offsets, strict=True)]
        log_p = tf.split(tf.nn.log_softmax(tf.concat(both, -1)), 2 * self.locality, -1)
        return [tf.cast(tf.exp(0.5 * (log_p[n - 1] + _ahead(log_p[self.locality + n - 1], n))), like.dtype)
                for n in offsets]

    def get_config(self) -> Config:
        names = ("heads", "order", "locality", "feed_forward", "form")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _ahead(x, offset):
    """Node i gets what node i + offset has, on the ring of axis -2."""
    return tf.roll(x, -offset, -2)
