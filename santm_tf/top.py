"""SANTM's top level over the steps that a plan visits, and what is recalled at each of them."""

import tensorflow as tf

from santm_tf.memory import MemoryState
from santm_tf.recurrent import split
from santm_tf.scan import scan, swap_time


def dense(cell, recall, m, a, state, sequences, visits=None):
    """Over a memory whose weights are over all slots: `o = [sum_i w_i Y_i ; mean_i Y_i]`.

    Args:
      cell: `MemoryCell`.
      recall: `ChebAttention`, or None for the plain vectors read.
      m: `[S, B, H]`. a: `[S, B, 1]`.
      state: `MemoryState` before the first step.
      sequences: whether o is wanted for the state before the first step and after each, or for the last.
      visits: how many of the S steps to run, an int tensor (default: all); o beyond is of no meaning.

    Returns:
      `(o, state)`: `[B, 1 + S, .]`, or `[B, .]`; and the state after the last step run.
    """
    first = MemoryState(*state)
    (m, a), options = split(cell, (m, a))

    def step(x, s):
        emitted, new = cell(x, s, **options)
        if not sequences:
            return (), new
        return (emitted if recall is not None else MemoryState(*new).read), new

    visited, end = scan(step, (m, a), list(first), steps=visits)
    end = MemoryState(*end)

    def wanted(name, after):
        """`[B, 1 + S, ...]` or `[B, ...]`."""
        return (tf.concat([getattr(first, name)[:, None], swap_time(after)], 1) if sequences
                else getattr(end, name))

    if recall is None:
        return joined(wanted("read", visited)), list(end)
    after = visited if sequences else (None, None)
    weights, memory = wanted("read_weights", after[0]), wanted("memory", after[1])
    return recalled(recall, weights, memory), list(end)


def recalled(recall, weights, memory):
    """o of memories `[..., N, W]` that are read by weights `[..., R, N]`."""
    slots, width = memory.shape[-2:]
    y = recall(tf.reshape(memory, [-1, slots, width]))
    read = tf.matmul(tf.reshape(weights, [-1, weights.shape[-2], slots]), y)
    o = tf.concat([joined(read), tf.reduce_mean(y, 1)], -1)
    return tf.reshape(o, tf.concat([tf.shape(memory)[:-2], [o.shape[-1]]], 0))


def sparse(cell, recall, m, a, state, sequences):
    """Over a memory whose heads keep k weights: `o = [sum_i w_i Y_i ; mean_i M_i]`.

    The attention is evaluated on the neighbourhoods of the slots read alone (`ChebAttention.at_centre`), so
    its mean over all slots is not known; the mean of what was written (`Visits`) takes its place.
    Arguments and returns as of `dense`, with a `SparseMemoryCell` and its `SparseMemoryState`, or None for
    the first, whose memory then need not be made.
    """
    visits, end = cell.run(m, a, state, reach=recall.reach if recall is not None else 0)
    o = recalled_at(recall, visits, slice(None) if sequences else slice(-1, None))
    return (swap_time(o) if sequences else o[0]), list(end)


def recalled_at(recall, visits, wanted):
    """o of some of a sparse memory's `Visits`, time-major."""
    if recall is None:
        return joined(visits.read[wanted])
    y = recall.at_centre(visits.memory.rows(visits.near[wanted]))  # [V, B, R, k, W]
    read = tf.reduce_sum(visits.values[wanted][..., None] * y, 3)
    return tf.concat([joined(read), visits.mean[wanted]], -1)


def joined(x):
    """The last two axes as one."""
    return tf.reshape(x, tf.concat([tf.shape(x)[:-2], [x.shape[-2] * x.shape[-1]]], 0))
