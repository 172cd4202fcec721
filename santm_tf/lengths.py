"""Sequences filled up to one of few lengths: XLA compiles a program for each, and keeps it."""

import tensorflow as tf

from santm_tf.ops import in_xla, steps_of

PARTS = 4  # lengths from one power of two to the next


def varies(inputs):
    """Whether inputs `[B, T, ...]` may next have another length, and enter a program of their own."""
    return not in_xla() and (tf.executing_eagerly() or tf.nest.flatten(inputs)[0].shape[1] is None)


def room(steps):
    """The next of the lengths 1, 2, ..., 8, 10, 12, 14, 16, 20, 24, ...: at most a quarter more.

    Args:
      steps: int or scalar int32, at least 0.

    >>> [room(steps) for steps in (1, 7, 8, 9, 17, 784)]
    [1, 7, 8, 10, 20, 896]
    """
    if isinstance(steps, int):
        unit = max(1, 2 ** max(0, steps.bit_length() - 1) // PARTS)
    else:
        powers = 2 ** tf.range(31)
        unit = tf.maximum(1, tf.reduce_max(tf.where(powers <= steps, powers, 0)) // PARTS)
    return -(-steps // unit) * unit


def every(inputs):
    """The mask `[B, T]` of inputs that have no padding."""
    return tf.ones(tf.shape(inputs)[:2], tf.bool)


def filled(nested, start=False):
    """A nest of `[B, T, ...]` and `None`s with zeros (False) behind, or before, up to `room(T)` steps."""
    steps = steps_of(next(v for v in tf.nest.flatten(nested) if v is not None))
    missing = room(steps) - steps

    def fill(v):
        if v is None:
            return None
        ends = [missing, 0] if start else [0, missing]
        return tf.pad(v, [[0, 0], ends, *[[0, 0]] * (v.shape.rank - 2)])

    return tf.nest.map_structure(fill, nested)
