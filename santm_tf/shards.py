"""Runs one XLA program per slice of the batch, side by side on the cores."""

import os

import tensorflow as tf

_SMALLEST_SLICE = 8  # rows; below it a loop's fixed cost outweighs a second core
_MOST_SLICES = 4


class Sharded:
    """`function(batched, *rest)` compiled by XLA and run on slices of the batch at the same time.

    XLA's CPU code uses one core for most of a small loop, and runs two loops of one program one after the
    other. Two *programs* run side by side. Gradients flow as through the plain function. It takes a nest of
    tensors `[B, ...]` and `None`s, then tensors or what is hashable; it gives a nest of tensors `[B, ...]`.
    """

    def __init__(self, function):
        self._program = tf.function(function, jit_compile=True, autograph=False)

    def __call__(self, batched, *rest, whole=False):
        leaves = [v for v in tf.nest.flatten(batched) if v is not None]
        batch = leaves[0].shape[0]
        count = 1 if whole else _slices(batch)
        if count == 1:
            return self._program(batched, *rest)
        rows = tf.shape(leaves[0])[0] if batch is None else batch
        bounds = [rows * i // count for i in range(count + 1)]
        slices = [tf.nest.map_structure(lambda v: v if v is None else v[a:b], batched)  # noqa: B023
                  for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
        parts = [self._program(part, *rest) for part in slices]
        return tf.nest.map_structure(lambda *pieces: tf.concat(pieces, 0), *parts)


def _slices(batch):
    if tf.config.list_logical_devices("GPU"):
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    most = min(cores or 1, _MOST_SLICES)
    return most if batch is None else max(1, min(most, batch // _SMALLEST_SLICE))
