"""Packs the steps that matter of each sequence together, so that a loop runs over those alone."""

import tensorflow as tf


def pack(keep):
    """For each sequence the kept steps first, in order.

    Args:
      keep: bool `[B, T]`.

    Returns:
      `(order, place)`: int `[B, T]` both. `order[b, s]` is the step of the s-th kept one (beyond
      them, the others); `place[b, t]` is how many kept steps there are at or before t.

    >>> import tensorflow as tf
    >>> from santm_tf.segments import pack
    >>> order, place = pack(tf.constant([[False, True, False, True]]))
    >>> order.numpy().tolist(), place.numpy().tolist()
    ([[1, 3, 0, 2]], [[0, 1, 1, 2]])
    """
    kept = tf.cast(keep, tf.int32)
    order = tf.argsort(1 - kept, axis=1, stable=True)
    return order, tf.cumsum(kept, axis=1)


def take(x, steps):
    """Rows of `[B, T, ...]` at `[B, S]` steps: `[B, S, ...]`."""
    return tf.gather(x, steps, axis=1, batch_dims=1)
