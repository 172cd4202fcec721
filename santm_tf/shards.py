"""Runs one XLA program per slice of the batch, side by side on the cores."""

import functools
import os

import tensorflow as tf

from santm_tf.ops import in_xla
from santm_tf.program import Program

_SMALLEST_SLICE = 8  # rows; below it a loop's fixed cost outweighs a second core
_MOST_SLICES = 4


class Sharded:
    """`function(batched, *rest)` compiled by XLA and run on slices of the batch at the same time.

    XLA's CPU code uses one core for most of a small loop, and runs two loops of one program one after the
    other. Two *programs* run side by side. Gradients flow as through the plain function, of any order. It
    takes a nest of tensors `[B, ...]` and `None`s, then tensors or what is hashable; it gives a nest of
    tensors `[B, ...]`.

    It is the plain function where XLA compiles what is around it, since a program inside a program is
    compiled again at every step; and where a strategy runs several replicas, which take the cores already.
    """

    def __init__(self, function):
        self._function, self._program = function, Program(function)

    def __call__(self, batched, *rest):
        if in_xla() or tf.distribute.get_strategy().num_replicas_in_sync > 1:
            return self._function(batched, *rest)
        leaves = [v for v in tf.nest.flatten(batched) if v is not None]
        batch = leaves[0].shape[0]
        count = _slices(batch)
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
    most = min(_cores(), _MOST_SLICES)
    return most if batch is None else max(1, min(most, batch // _SMALLEST_SLICE))


@functools.cache
def _cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
