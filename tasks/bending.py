"""Training sequences bent in time, scaled and overlaid with noise, so that few go further."""

import math

import tensorflow as tf

WAVES, BEND, SCALE, NOISE = 4, 0.05, 0.1, 0.05  # at an amount of 1


def bent(lengths, steps, amount, key):
    """Where each step of a sequence is read, so that it runs now faster and now slower (Um et al. 2017).

    `t' = t + L sum_k a_k sin(pi k t / L)`, `a_k ~ N(0, (0.05 amount / k)^2)`, k = 1 to 4, L being the last
    step; both ends stay where they are.

    Args:
      lengths: steps of each sequence, `[B]`. steps: T. amount: how much. key: int `[2]`, the random key.

    Returns:
      float32 `[B, T]`, from 0 to L.

    >>> bent(tf.constant([5, 3]), 5, 0.0, [0, 0]).numpy().tolist()
    [[0.0, 1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 2.0, 2.0, 2.0]]
    """
    last = tf.cast(lengths, tf.float32)[:, None] - 1
    t = tf.minimum(tf.range(steps, dtype=tf.float32)[None], last)
    k = tf.range(1, 1 + WAVES, dtype=tf.float32)
    a = amount * BEND * tf.random.stateless_normal([tf.size(lengths), WAVES], key) / k
    wave = tf.sin(math.pi * k * (t / tf.maximum(last, 1))[..., None])
    return tf.clip_by_value(t + last * tf.einsum("bk,btk->bt", a, wave), 0.0, last)


def between(values, place):
    """Values `[B, T, n]` at places between steps, `[B, T]`, linearly; missing (NaN) beside a missing one."""
    below = tf.floor(place)
    low, high = (tf.gather(values, tf.cast(step, tf.int32), axis=1, batch_dims=1)
                 for step in (below, tf.math.ceil(place)))
    share = (place - below)[..., None]
    return tf.where(share > 0, low + share * (high - low), low)


def scaled(values, mean, scale, amount, key):
    """Values `[B, T, n]` with each channel of a sequence stretched about its mean by `N(1, (0.1 amount)^2)`,
    and `N(0, (0.05 amount)^2)` of its scale added at each step.

    Args:
      mean, scale: of each channel, `[n]`.
    """
    stretch, noise = tf.unstack(tf.random.split(tf.cast(key, tf.int64)))
    batch, _, count = tf.unstack(tf.shape(values))
    factor = 1 + amount * SCALE * tf.random.stateless_normal([batch, 1, count], stretch)
    added = amount * NOISE * scale * tf.random.stateless_normal(tf.shape(values), noise)
    return mean + factor * (values - mean) + added
