"""The Transformer's encoder, pre-norm (Vaswani et al. 2017, arXiv 1706.03762)."""

import math
from typing import Annotated, Literal

import tensorflow as tf

from santm_tf.analysis import counting
from santm_tf.baselines.layer import Configured, SequenceLayer, built, only_valid
from santm_tf.baselines.model import Model
from santm_tf.baselines.pooling import last_valid, mean_valid
from santm_tf.errors import ArgumentError, at_least
from santm_tf.keras import keras
from santm_tf.ops import steps_of


@keras.saving.register_keras_serializable("baselines")
class EncoderBlock(Configured):
    """Self-attention and a feed-forward network, each with its residual, normalised before.

    `Z = X + dropout(attention(norm(X)))`,  output `Z + dropout(relu(norm(Z) W_1 + b_1) W_2 + b_2)`
    `attention(X) = [Y_1 ; ... ; Y_A] W_O`,  `Y_i = softmax(X W^Q_i (X W^K_i)^T / sqrt(W/A)) X W^V_i`

    Vaswani et al. 2017, arXiv 1706.03762, equations 1 and 2 and section 3.2.2, with the norm before
    each part instead of after (Xiong et al. 2020, arXiv 2002.04745), which needs no warm-up.

    Args:
      attention_heads, feed_forward: see `make`.
      dropout: share of each part's output dropped before the residual.

    Input and output `[B, T, W]`. `allowed`, bool, broadcast to `[B, A, T, T]`, says whether a query (second
    to last axis) may see a key (last); None for all.

    >>> import tensorflow as tf
    >>> from santm_tf.baselines.transformer import EncoderBlock
    >>> EncoderBlock(attention_heads=2)(tf.ones([3, 5, 8])).shape.as_list()
    [3, 5, 8]
    """

    def __init__(self, attention_heads=4, feed_forward=None, dropout=0.0, **kwargs):
        super().__init__(dict(attention_heads=attention_heads, feed_forward=feed_forward, dropout=dropout),
                         **kwargs)
        self._dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy)

    def build(self, input_shape):
        width, heads = input_shape[-1], self._config["attention_heads"]
        _require(width % heads == 0, f"attention_heads={heads}; it must divide the width {width}")
        hidden = self._config["feed_forward"] or 4 * width

        def dense(size, features=width, **options):
            return built(keras.layers.Dense(size, dtype=self.dtype_policy, **options), features)

        self.attention_norm = _norm("attention_norm", width, self.dtype_policy)
        self.qkv = dense(3 * width, use_bias=False, name="qkv")
        self.output_map = dense(width, use_bias=False, name="output")
        self.feed_norm = _norm("feed_norm", width, self.dtype_policy)
        self.hidden = dense(hidden, activation="relu", name="hidden")
        self.feed = dense(width, hidden, name="feed")
        super().build(input_shape)

    def call(self, inputs, allowed=None, training=None):
        z = inputs + self._dropout(self._attend(self.attention_norm(inputs), allowed), training=training)
        return z + self._dropout(self.feed(self.hidden(self.feed_norm(z))), training=training)

    def _attend(self, x, allowed):
        heads, width = self._config["attention_heads"], x.shape[-1]
        batch, steps = tf.unstack(tf.shape(x)[:2])
        qkv = tf.reshape(self.qkv(x), [batch, steps, 3, heads, width // heads])
        q, k, v = tf.unstack(tf.transpose(qkv, [2, 0, 3, 1, 4]))  # [B, A, T, W/A]
        scores = tf.matmul(q * (width // heads) ** -0.5, k, transpose_b=True)
        scores = tf.cast(scores, tf.float32) if scores.dtype.size < 4 else scores
        if allowed is not None:  # finite: a query that may see nothing still needs a softmax
            scores = tf.where(allowed, scores, tf.constant(-1e9, scores.dtype))
        y = tf.matmul(tf.cast(tf.nn.softmax(scores), v.dtype), v)
        return self.output_map(tf.reshape(tf.transpose(y, [0, 2, 1, 3]), [batch, steps, width]))


@keras.saving.register_keras_serializable("baselines")
class Transformer(SequenceLayer):
    """`norm(block_L(... block_1(dropout(x W + b + positions))))`: a pre-norm encoder of `EncoderBlock`s.

    Vaswani et al. 2017, arXiv 1706.03762; positions "sinusoidal" are its section 3.5. A token is `patch`
    consecutive steps, `[B, T, d]` to `[B, T/patch, patch d]`, the last one filled up with zeros
    (Dosovitskiy et al. 2020, arXiv 2010.11929, do so with images).

    Without `return_sequences` the output is the mean over valid tokens. If `causal` it is the last valid
    token's, since no other has seen everything.

    Args:
      units, layers, attention_heads, feed_forward, positions, causal: see `make`.
      max_length: the longest sequence in steps; learned positions need it.
      patch: steps a token. More than 1 goes without `return_sequences` only: a token has one output,
        which has seen the token's later steps.
      dropout: share dropped in the blocks, and of the sum of embeddings and positions.

    Input and output: see `SequenceLayer`. Masked steps are left out as keys and from the mean; outputs
    there mean nothing.

    Raises:
      ArgumentError: sizes below 1, heads that do not divide W, unknown positions, learned positions
        without max_length or with longer sequences, patches where outputs at each step are wanted.

    >>> import tensorflow as tf
    >>> from santm_tf.baselines.transformer import Transformer
    >>> Transformer(8, layers=1, patch=4)(tf.zeros([2, 10, 3])).shape.as_list()
    [2, 8]
    """

    def __init__(self, units, layers=6, attention_heads=4, positions="sinusoidal", max_length=None,
                 causal=False, patch=1, dropout=0.0, return_sequences=False, feed_forward=None, **kwargs):
        super().__init__(dict(
            units=units, layers=layers, attention_heads=attention_heads, positions=positions,
            max_length=max_length, causal=causal, patch=patch, dropout=dropout,
            return_sequences=return_sequences, feed_forward=feed_forward), **kwargs)
        at_least("Transformer", 1, units=units, layers=layers, attention_heads=attention_heads, patch=patch)
        _require(units % attention_heads == 0,
                 f"attention_heads={attention_heads}; it must divide units={units}")
        _require(positions in ("learned", "sinusoidal"),
                 f"positions={positions!r}; use 'learned' or 'sinusoidal'")
        _require(positions == "sinusoidal" or max_length, "positions='learned' needs max_length, the longest "
                 "sequence in steps; sequences of unknown length go with 'sinusoidal'")
        _require(patch == 1 or not return_sequences,
                 f"patch={patch}; it must be 1 where an output at each step is wanted")
        self._dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy)
        self.embedding = keras.layers.Dense(units, name="embedding", dtype=self.dtype_policy)
        self.blocks = [EncoderBlock(attention_heads, feed_forward, dropout, name=f"block_{i}",
                                    dtype=self.dtype_policy) for i in range(layers)]

    def build(self, input_shape):
        patch = self._config["patch"]
        built(self.embedding, patch * input_shape[-1])
        for block in self.blocks:
            built(block, self.units)
        self.norm = _norm("norm", self.units, self.dtype_policy)
        if self._config["positions"] == "learned":
            tokens = math.ceil(self._config["max_length"] / patch)
            self.position_table = self.add_weight(name="positions", shape=[tokens, self.units],
                                                  initializer=keras.initializers.RandomNormal(stddev=0.02))
        super().build(input_shape)

    def call(self, inputs, mask=None, training=None):
        mask = None if mask is None else tf.cast(mask, tf.bool)
        x, mask = self._tokens(only_valid(inputs, mask), mask)
        x = self.embedding(x)
        x = self._dropout(x + self._positions(x), training=training)
        allowed = self._allowed(tf.shape(x)[1], mask)
        for block in self.blocks:
            x = block(x, allowed, training=training)
        x = self.norm(x)
        if self.return_sequences:
            return x
        return last_valid(x, mask) if self._config["causal"] else mean_valid(x, mask)

    def first_state(self, batch):
        raise ArgumentError("attention looks at all steps, so that there is no state to go on from")

    def _tokens(self, x, mask):
        """Tokens `[B, ceil(T / patch), patch d]` and which of them hold a valid step."""
        patch = self._config["patch"]
        if patch == 1:
            return x, mask
        steps, batch = steps_of(x), tf.shape(x)[0]
        tokens = -(-steps // patch)
        missing = [0, tokens * patch - steps]
        x = tf.pad(x, [[0, 0], missing, [0, 0]])
        if mask is not None:
            mask = tf.reduce_any(tf.reshape(tf.pad(mask, [[0, 0], missing]), [batch, tokens, patch]), -1)
        return tf.reshape(x, [batch, tokens, patch * x.shape[-1]]), mask

    def _positions(self, x):
        tokens = steps_of(x)
        if self._config["positions"] == "sinusoidal":
            return tf.cast(sinusoids(tokens, self.units), x.dtype)
        table, longest = self.position_table, self._config["max_length"]
        message = (f"a sequence is longer than max_length={longest}, and positions='learned' end there; "
                   "use 'sinusoidal'")
        if isinstance(tokens, int):
            _require(tokens <= table.shape[0], message)
            return table[:tokens]
        short_enough = tf.debugging.assert_less_equal(tokens, table.shape[0], f"Transformer: {message}")
        with tf.control_dependencies([short_enough]):
            return table[:tokens]

    def _allowed(self, tokens, mask):
        keys = None if mask is None else mask[:, None, None]
        if not self._config["causal"]:
            return keys
        t = tf.range(tokens)
        past = t[:, None] >= t
        return past if keys is None else past & keys


def sinusoids(length, width):
    """`P_{t, 2i} = sin(t / 10000^(2i/W))`, `P_{t, 2i+1} = cos(t / 10000^(2i/W))`, `[length, width]`.

    Vaswani et al. 2017, arXiv 1706.03762, section 3.5.

    >>> from santm_tf.baselines.transformer import sinusoids
    >>> sinusoids(2, 4).numpy().round(2).tolist()[0]
    [0.0, 1.0, 0.0, 1.0]
    """
    pairs = (width + 1) // 2
    frequency = tf.exp(tf.range(pairs, dtype=tf.float32) * (-2 * math.log(10000.0) / width))
    angle = tf.cast(tf.range(length), tf.float32)[:, None] * frequency
    return tf.reshape(tf.stack([tf.sin(angle), tf.cos(angle)], -1), [length, 2 * pairs])[:, :width]


def make(units: int = 32, layers: Annotated[int, "[1, 1000]"] = 6, attention_heads: int = 4,
         feed_forward: int | None = None,
         positions: Literal["sinusoidal", "learned"] = "sinusoidal", causal: bool = False, patch: int = 1,
         dropout: Annotated[float, "[0, 1)"] = 0.0, *, steps=None, return_sequences=False):
    """A `Transformer`.

    Args:
      units: Width of every layer and of the output, W.
      layers: How many blocks.
      attention_heads: Heads of the attention, A; divides units.
      feed_forward: Width of the feed-forward part (default: 4 units).
      positions: What tells a step its place: sines, for any length, or a table that is learned.
      causal: Attend to earlier steps only.
      patch: Steps joined to one token.
      dropout: Share of features dropped before the output.
    """
    return Transformer(units, layers, attention_heads, positions, steps, causal, patch, dropout,
                       return_sequences, feed_forward)


@counting.checked
def cost(features, units, steps, layers=6, attention_heads=4, feed_forward=None, patch=1):
    """FLOPs of S = T / patch tokens; a layer of width W, A heads and hidden width F (default 4 W) takes

    `8 S W^2 + 4 S W F`        Q, K, V and the output; the feed-forward part
    `4 S^2 W + 5 A S^2`        scores, softmax, values
    `22 S W + S F`             two norms, the queries' scale, residuals, biases
    The embedding with positions, the last norm and the mean take `(2 patch d + 12) S W`. The state is a
    layer's keys and values. A causal encoder costs the same.

    >>> round(cost(1, 32, 784).flops / cost(1, 32, 392).flops, 2)
    3.39
    """
    tokens, hidden = math.ceil(steps / patch), feed_forward or 4 * units
    attention = (counting.dense(units, 4 * units, tokens, bias=False) + counting.state(2 * tokens * units)
                 + counting.Cost((4 * units + 5 * attention_heads) * tokens ** 2 + tokens * units))
    feed = counting.dense(units, hidden, tokens) + counting.dense(hidden, units, tokens)
    layer = attention + feed + 2 * counting.norm(units, tokens) + counting.Cost(2 * tokens * units)
    around = counting.dense(patch * features, units, tokens) + counting.norm(units, tokens)
    return around + layers * layer + counting.Cost(2 * tokens * units)


MODEL = Model(make, cost, multiple="attention_heads", finer="feed_forward")


def _require(holds, message):
    if not holds:
        raise ArgumentError(f"Transformer: {message}")


def _norm(name, width, dtype):
    return built(keras.layers.LayerNormalization(epsilon=1e-5, name=name, dtype=dtype), width)
