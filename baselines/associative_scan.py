"""Linear recurrences computed side by side over time, and Mamba's state space on top of them."""

import tensorflow as tf

from santm_tf.gradients import custom_gradient
from santm_tf.ops import steps_of
from santm_tf.scan import scan, swap_time


def linear_recurrence(a, b):
    """`h_t = a_t h_{t-1} + b_t`, `h_{-1} = 0`, for all t in `ceil(log2 T)` rounds.

    Steps compose associatively, `(a', b') o (a, b) = (a' a, a' b + b')`. Round k composes each with the
    one `2^k` before it (Hillis and Steele, "Data parallel algorithms", 1986): T log T products. The
    gradient is the same recurrence backwards, and keeps only a and h:
    `g_t = dh_t + a_{t+1} g_{t+1}`, `da_t = g_t h_{t-1}`, `db_t = g_t`.

    Args:
      a, b: `[B, T, ...]`, the shape of h, T >= 1. Products of a must stay finite: meant for `|a| <= 1`.

    >>> import tensorflow as tf
    >>> from santm_tf.baselines.associative_scan import linear_recurrence
    >>> linear_recurrence(tf.constant([[0.5, 0.5, 0.5]]), tf.constant([[1.0, 0.0, 2.0]])).numpy().tolist()
    [[1.0, 0.5, 2.25]]
    """

    @custom_gradient
    def run(a, b):
        h = _composed(a, b)

        def backward(dh):
            after = tf.concat([a[:, 1:], tf.zeros_like(a[:, :1])], 1)
            g = tf.reverse(_composed(tf.reverse(after, [1]), tf.reverse(dh, [1])), [1])
            return g * delayed(h), g

        return h, backward

    return run(tf.convert_to_tensor(a), tf.convert_to_tensor(b))


def delayed(x):
    """`x_{t-1}` at t, zeros first, for `[B, T, ...]`."""
    return tf.concat([tf.zeros_like(x[:, :1]), x[:, :-1]], 1)


def _composed(a, b):
    steps = tf.shape(a)[1]
    t = tf.reshape(tf.range(steps), [-1, *[1] * (a.shape.rank - 2)])
    one, zero = tf.ones([], a.dtype), tf.zeros([], a.dtype)

    def double(reach, a, b):
        inside = t >= reach
        earlier_a = tf.where(inside, tf.roll(a, reach, 1), one)
        earlier_b = tf.where(inside, tf.roll(b, reach, 1), zero)
        return 2 * reach, a * earlier_a, a * earlier_b + b

    return tf.while_loop(lambda reach, *_: reach < steps, double, (1, a, b))[2]


def selective_scan(x, delta, a, b, c, chunk_length=None):
    """Mamba's state space, with a step size, input map and output map of each step's own.

    `h_t = exp(delta_t A) h_{t-1} + delta_t B_t x_t`, `h_{-1} = 0`;  `y_t = C_t h_t`

    Gu and Dao 2023, arXiv 2312.00752, equations 2 and 4 with B discretised by Euler's rule, as in the
    authors' code. A is diagonal: each feature of x has N states of its own. A step with
    `delta_t = 0` holds the state exactly.

    Chunks of L steps run side by side, twice. The first pass starts from zero and gives what a chunk adds
    to the state; a chunk keeps `exp(A sum delta)` of the state that enters it. A `linear_recurrence` over
    the chunks gives the states that enter, and the second pass starts from them. That is twice the work,
    in `2 L + log2(T / L)` steps one after the other instead of T. A known T of at most 2 L is one chunk.
    The gradient keeps the states, `[B, T, N, E]`, once a pass.

    Args:
      x, delta: `[B, T, E]`, the result's shape. Step sizes delta are not negative.
      a: A, `[N, E]`, not positive.
      b, c: `[B, T, N]`.
      chunk_length: L; None for all steps one after the other.

    >>> import tensorflow as tf
    >>> from santm_tf.baselines.associative_scan import selective_scan
    >>> one = tf.ones([1, 3, 1])
    >>> selective_scan(one, one, tf.zeros([1, 1]), one, one).numpy().ravel().tolist()
    [1.0, 2.0, 3.0]
    """
    rows, steps = tf.shape(x)[0], steps_of(x)
    single = chunk_length is None or (isinstance(steps, int) and steps <= 2 * chunk_length)
    chunks = 1 if single else -(-steps // chunk_length)
    length = -(-steps // chunks)
    states, features = a.shape

    def cut(v):
        """`[B, T, k]` to `[length, B * chunks, k]`; the steps added at the end hold the state."""
        v = tf.pad(v, [[0, 0], [0, chunks * length - steps], [0, 0]])
        return swap_time(tf.reshape(v, [rows * chunks, length, v.shape[-1]]))

    def advance(inputs, h, a):
        delta, u, b = inputs
        return (), tf.exp(delta[:, None] * a) * h + b[:, :, None] * u[:, None]

    def observe(inputs, h, a):
        *inputs, c = inputs
        _, h = advance(inputs, h, a)
        return tf.reduce_sum(c[:, :, None] * h, 1), h

    delta, u, b, c = (cut(v) for v in (delta, delta * x, b, c))
    h = tf.zeros([rows * chunks, states, features], x.dtype)
    if not single:
        _, added = scan(advance, (delta, u, b), h, constants=a)
        kept = tf.exp(tf.reduce_sum(delta, 0)[:, None] * a)
        kept, added = (tf.reshape(v, [rows, chunks, states, features]) for v in (kept, added))
        h = tf.reshape(delayed(linear_recurrence(kept, added)), [rows * chunks, states, features])
    y, _ = scan(observe, (delta, u, b, c), h, constants=a)
    return tf.reshape(swap_time(y), [rows, chunks * length, features])[:, :steps]
