"""Mamba: selective state spaces (Gu and Dao 2023, arXiv 2312.00752)."""

import math
from typing import Annotated

import tensorflow as tf

from santm_tf.analysis import counting
from santm_tf.baselines.associative_scan import selective_scan
from santm_tf.baselines.layer import Configured, SequenceLayer, built, only_valid
from santm_tf.baselines.model import Model
from santm_tf.baselines.pooling import last_valid
from santm_tf.errors import at_least
from santm_tf.keras import keras
from santm_tf.ops import product
from santm_tf.shards import Sharded
from santm_tf.stepping import held

LIMIT = 1e4  # of what enters the state space; training comes nowhere near it


@keras.saving.register_keras_serializable("baselines")
class MambaBlock(Configured):
    """One residual block of Mamba.

    `[x ; z] = rms(u) W_in`,  `x = silu(conv(x))`, a causal depthwise convolution over time
    `[d ; B ; C] = x W_x`,  `delta = softplus(d W_delta + b_delta)`
    `h_t = exp(delta_t A) h_{t-1} + delta_t B_t x_t`,  `y_t = C_t h_t + D x_t`
    output `u + dropout((y silu(z)) W_out)`

    Gu and Dao 2023, arXiv 2312.00752, algorithm 2 and figure 3. x and z have E = expand * W features,
    d has ceil(W / 16). First values are the paper's (section 3.6): `A = -(1 .. N)` for each feature,
    kept as its log; `D = 1`; `softplus(b_delta)` log-uniform in [0.001, 0.1]. The state space runs in
    float32 whatever the policy. What enters it is kept within `LIMIT`. A masked step holds the state, and
    enters the convolution as zero.

    Args:
      state_size, conv_width, expand: see `make`.
      dropout: share of the block's output dropped before the residual.
      chunk_length: see `selective_scan`. None does less work where one step fills the machine: 2 cores
        under XLA at B=16, T=1024 (benchmarks/mamba.py).
      jit_compile: compile the state space with XLA and run it on slices of the batch side by side.

    Input `[B, T, W]` and a mask `[B, T]`; output `[B, T, W]`.

    >>> import tensorflow as tf
    >>> from santm_tf.baselines.mamba import MambaBlock
    >>> MambaBlock(jit_compile=False)(tf.zeros([2, 5, 8])).shape.as_list()
    [2, 5, 8]
    """

    def __init__(self, state_size=16, conv_width=4, expand=2, dropout=0.0, chunk_length=64,
                 jit_compile=True, **kwargs):
        super().__init__(dict(state_size=state_size, conv_width=conv_width, expand=expand, dropout=dropout,
                              chunk_length=chunk_length, jit_compile=jit_compile), **kwargs)
        at_least("Mamba", 1, state_size=state_size, conv_width=conv_width, expand=expand,
                 chunk_length=1 if chunk_length is None else chunk_length)
        self.supports_masking = True
        self._dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy)
        self._scan = Sharded(_scan_slice) if jit_compile else _scan_slice

    def build(self, input_shape):
        width, states = input_shape[-1], self._config["state_size"]
        inner, rank = self._config["expand"] * width, math.ceil(width / 16)
        taps, uniform = self._config["conv_width"], keras.initializers.RandomUniform

        def weight(name, shape, **options):
            return self.add_weight(name=name, shape=shape, **options)

        self.scale = weight("scale", [width], initializer="ones")
        self.input_kernel = weight("input_kernel", [width, 2 * inner])
        self.conv_kernel = weight("conv_kernel", [taps, inner], initializer=uniform(-taps**-0.5, taps**-0.5))
        self.conv_bias = weight("conv_bias", [inner], initializer="zeros")
        self.select_kernel = weight("select_kernel", [inner, rank + 2 * states])
        self.step_kernel = weight("step_kernel", [rank, inner], initializer=uniform(-rank**-0.5, rank**-0.5))
        # Read in float32 under half precision too: a small step size would be lost.
        self.step_bias = weight("step_bias", [inner], initializer=_step_bias, autocast=False)
        self.log_a = weight("log_a", [states, inner], initializer=_log_a, autocast=False)
        self.skip = weight("skip", [inner], initializer="ones")
        self.output_kernel = weight("output_kernel", [inner, width])
        super().build(input_shape)

    def call(self, inputs, mask=None, training=None):
        x, z = self._entered(inputs)
        taps = self.conv_kernel.shape[0]
        x = self._convolve(tf.pad(only_valid(x, mask), [[0, 0], [taps - 1, 0], [0, 0]]))
        y = self._scan(self._selected(x, mask), self._rates(), self._config["chunk_length"])
        return inputs + self._dropout(self._left(y, x, z), training=training)

    def first_state(self, batch):
        """The convolution's last inputs, and h `[B, N, E]`."""
        taps, inner = self.conv_kernel.shape
        return {"conv": tf.zeros([batch, taps - 1, inner], self.compute_dtype),
                "h": tf.zeros([batch, *self.log_a.shape], self.log_a.dtype)}

    def step(self, x, state, valid=None):
        inputs, mask = x[:, None], None if valid is None else valid[:, None]
        x, z = self._entered(inputs)
        seen = tf.concat([state["conv"], only_valid(x, mask)], 1)
        x = self._convolve(seen)
        u, delta, b, c = (v[:, 0] for v in self._selected(x, mask))
        h = tf.exp(self._rates() * delta[:, None]) * state["h"] + b[..., None] * (delta * u)[:, None]
        y = tf.reduce_sum(c[..., None] * h, 1)[:, None]
        return (inputs + self._left(y, x, z))[:, 0], {"conv": seen[:, 1:], "h": h}

    def _entered(self, inputs):
        """`(x, z)`."""
        return tf.split(bounded(product(rms_norm(inputs, self.scale), self.input_kernel)), 2, -1)

    def _convolve(self, padded):
        """From `[B, J - 1 + T, E]` to `[B, T, E]`."""
        taps = self.conv_kernel.shape[0]
        steps = tf.shape(padded)[1] - taps + 1
        return bounded(tf.nn.silu(sum(self.conv_kernel[k] * padded[:, k:k + steps] for k in range(taps))
                                  + self.conv_bias))

    def _rates(self):
        """A. Where its log is above that of `LIMIT`, a step leaves nothing of the state either way."""
        return -tf.exp(tf.minimum(self.log_a, math.log(LIMIT)))

    def _selected(self, x, mask):
        """What the state space takes: x, delta, B and C."""
        states, rank = self._config["state_size"], self.step_kernel.shape[0]
        d, b, c = tf.split(bounded(product(x, self.select_kernel)), [rank, states, states], -1)
        delta = tf.nn.softplus(tf.cast(product(d, self.step_kernel), self.step_bias.dtype) + self.step_bias)
        delta = bounded(delta)
        return tuple(tf.cast(v, delta.dtype) for v in (x, only_valid(delta, mask), b, c))

    def _left(self, y, x, z):
        """What leaves the block, before the residual."""
        return product((tf.cast(y, x.dtype) + self.skip * x) * tf.nn.silu(z), self.output_kernel)


@keras.saving.register_keras_serializable("baselines")
class Mamba(SequenceLayer):
    """`rms(block_L(... block_1(x W + b)))`: a stack of `MambaBlock`s of one width.

    Gu and Dao 2023, arXiv 2312.00752. The dense layer in front takes the place of an embedding.

    Args:
      units, layers: see `make`. The others: see `MambaBlock`.

    Input and output: see `SequenceLayer`. Padding is before or after; outputs there mean nothing.

    Raises:
      ArgumentError: a size below 1.

    >>> import tensorflow as tf
    >>> from santm_tf.baselines.mamba import Mamba
    >>> Mamba(8, jit_compile=False)(tf.zeros([2, 5, 3])).shape.as_list()
    [2, 8]
    """

    def __init__(self, units, layers=2, state_size=16, conv_width=4, expand=2, dropout=0.0,
                 chunk_length=64, jit_compile=True, return_sequences=False, **kwargs):
        block = dict(state_size=state_size, conv_width=conv_width, expand=expand, dropout=dropout,
                     chunk_length=chunk_length, jit_compile=jit_compile)
        super().__init__(
            dict(units=units, layers=layers, return_sequences=return_sequences, **block), **kwargs)
        at_least("Mamba", 1, units=units, layers=layers)
        self.embedding = keras.layers.Dense(units, name="embedding", dtype=self.dtype_policy)
        self.blocks = [MambaBlock(**block, name=f"block_{i}", dtype=self.dtype_policy)
                       for i in range(layers)]

    def build(self, input_shape):
        built(self.embedding, input_shape)
        for block in self.blocks:
            built(block, self.units)
        self.scale = self.add_weight(name="scale", shape=[self.units], initializer="ones")
        super().build(input_shape)

    def call(self, inputs, mask=None, training=None):
        mask = None if mask is None else tf.cast(mask, tf.bool)
        x = self.embedding(only_valid(inputs, mask))
        for block in self.blocks:
            x = block(x, mask=mask, training=training)
        if not self.return_sequences:
            x = last_valid(x, mask)
        return rms_norm(x, self.scale)

    def first_state(self, batch):
        return {"y": tf.zeros([batch, self.units], self.compute_dtype),
                **{f"{block.name}_{name}": v for block in self.blocks
                   for name, v in block.first_state(batch).items()}}

    def step(self, x, state, valid=None):
        y, after = self.embedding(x if valid is None else tf.where(valid[:, None], x, tf.zeros_like(x))), {}
        for block in self.blocks:
            y, new = block.step(y, {name: state[f"{block.name}_{name}"] for name in ("conv", "h")}, valid)
            after |= {f"{block.name}_{name}": v for name, v in new.items()}
        after["y"], = held(valid, [y], [state["y"]])
        return rms_norm(y if self.return_sequences else after["y"], self.scale), after


def bounded(x):
    """x within `LIMIT` either way, so that products of it stay finite, whatever the weights are."""
    return tf.clip_by_value(x, -LIMIT, LIMIT)


def rms_norm(x, scale):
    """`x / sqrt(mean(x^2) + 1e-5) * scale` over the last axis (Zhang and Sennrich 2019, arXiv 1910.07467).

    Of numbers above 1 it is that of `x / max|x|`, whose squares stay finite.
    """
    wide = tf.cast(x, tf.float32) if x.dtype.size < 4 else x
    most = tf.stop_gradient(tf.maximum(tf.reduce_max(tf.abs(wide), -1, keepdims=True), 1.0))
    small = wide / most
    mean = tf.reduce_mean(small * small, -1, keepdims=True)
    return tf.cast(small * tf.math.rsqrt(mean + 1e-5 / most**2), x.dtype) * scale


def make(units: int = 32, layers: Annotated[int, "[1, 1000]"] = 2, state_size: int = 16, conv_width: int = 4,
         expand: int = 2,
         dropout: Annotated[float, "[0, 1)"] = 0.0, *, return_sequences=False, jit_compile=True):
    """A `Mamba`.

    Args:
      units: Width of every layer and of the output, W.
      layers: How many blocks.
      state_size: States of a feature, N.
      conv_width: Steps that the convolution sees, J.
      expand: Inner width over units, E / W.
      dropout: Share of features dropped before the output.
    """
    return Mamba(units, layers, state_size, conv_width, expand, dropout, jit_compile=jit_compile,
                 return_sequences=return_sequences)


@counting.checked
def cost(features, units, steps, layers=2, state_size=16, conv_width=4, expand=2, chunk_length=64):
    """FLOPs; a step of a block with E = expand W features of N states, r = ceil(W / 16), takes

    `6 W E + 2 E (r + 2 N) + 2 r E`   maps in and out, to the step size, B and C, and back
    `6 N E`                           `h = exp(delta A) h + delta B x`, `y = C h`
    `(2 J + 10) E + 5 W`              a convolution over J steps, gates; norm and residual
    C = ceil(T / chunk_length) chunks, where C > 2, add `4 N E` a step and `3 N E C ceil(log2 C)`. There are
    `(2 d + 1) T W` for the embedding and 4 W for the last norm. The state is a block's N E.

    >>> cost(1, 32, 784).flops > cost(1, 32, 784, chunk_length=None).flops
    True
    """
    inner, rank, states = expand * units, math.ceil(units / 16), state_size * expand * units
    maps = (counting.dense(units, 2 * inner, steps, bias=False) + counting.dense(rank, inner, steps)
            + counting.dense(inner, rank + 2 * state_size + units, steps, bias=False))
    around = counting.Cost(((2 * conv_width + 9) * inner + 5 * units) * steps,
                        bytes=4 * ((conv_width + 2) * inner + states + units))
    scan = steps * (counting.Cost(6 * states) + counting.state(states))
    if chunk_length and steps > 2 * chunk_length:
        chunks = math.ceil(steps / chunk_length)
        scan += steps * (counting.Cost(4 * states) + counting.state(states))
        scan += counting.Cost(3 * states * chunks * math.ceil(math.log2(chunks)))
    return (counting.dense(features, units, steps) + layers * (maps + around + scan)
            + counting.Cost(4 * units, bytes=4 * units))


MODEL = Model(make, cost)


def _scan_slice(batched, a, chunk_length):
    x, delta, b, c = batched
    return selective_scan(x, delta, a, b, c, chunk_length)


def _step_bias(shape, dtype=None, **_):
    delta = tf.exp(keras.initializers.RandomUniform(math.log(1e-3), math.log(1e-1))(shape, dtype))
    return tf.math.log(tf.math.expm1(delta))  # the inverse of softplus


def _log_a(shape, dtype=None, **_):
    states = tf.range(1, shape[0] + 1, dtype=dtype or tf.float32)
    return tf.tile(tf.math.log(states)[:, None], [1, shape[1]])
