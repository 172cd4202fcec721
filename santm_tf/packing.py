"""Packs the steps that matter of each sequence together, so that a loop runs over those alone."""

import tensorflow as tf


def pack(keep):
    """For each sequence the kept steps first, in order.

    Args:
      keep: bool `[B, T]`.

    Returns:
      `(order, place)`, both int `[B, T]`: the kept steps, then 0; and how many kept ones there are at or
      before each step.

    >>> order, place = pack(tf.constant([[False, True, False, True]]))
    >>> order.numpy().tolist(), place.numpy().tolist()
    ([[1, 3, 0, 0]], [[0, 1, 1, 2]])
    """
    place = tf.cumsum(tf.cast(keep, tf.int32), axis=1)
    batch, steps = tf.unstack(tf.shape(keep))
    step = tf.tile(tf.range(steps)[None], [batch, 1])
    row = tf.tile(tf.range(batch)[:, None], [1, steps])
    column = tf.where(keep, place - 1, steps)  # the column past the end takes what is dropped
    order = tf.scatter_nd(tf.stack([row, column], -1), tf.where(keep, step, 0), [batch, steps + 1])
    return order[:, :steps], place


def at_steps(x, steps):
    """Rows of `[B, T, ...]` at `[B, S]` steps: `[B, S, ...]`."""
    return tf.gather(x, steps, axis=1, batch_dims=1)


def valid_first(inputs, mask):
    """Sequences with their masked steps moved behind the valid ones.

    Returns:
      `(inputs, mask, place)`: both moved, and how many valid steps there are at or before each step.

    >>> x, mask, place = valid_first(tf.constant([[[1.0], [2.0], [3.0]]]), tf.constant([[False, True, True]]))
    >>> x.numpy().ravel()[:2].tolist(), mask.numpy().tolist(), place.numpy().tolist()
    ([2.0, 3.0], [[True, True, False]], [[0, 1, 2]])
    """
    order, place = pack(mask)
    return at_steps(inputs, order), tf.range(tf.shape(mask)[1]) < place[:, -1:], place


def back_in_place(x, place, before):
    """Of `[B, T, ...]` over valid steps: at each step the last valid one's, first `before` `[B, ...]`."""
    return at_steps(tf.concat([before[:, None], x], 1), place)
