"""SANTM's top level over the steps that a plan visits, and what is recalled at each of them."""

import tensorflow as tf

from santm_tf.memory import MemoryState
from santm_tf.recurrent import split
from santm_tf.scan import scan, swap_time


def dense(cell, recall, m, a, state, sequences):
    """Over a memory whose weights are over all slots: `o = [sum_i w_i Y_i ; mean_i Y_i]`.

    Args:
      cell: `MemoryCell`.
      recall: `ChebAttention`, or None for the plain vectors read.
      m: `[S, B, H]`. a: `[S, B, 1]`.
      state: `MemoryState` before the first step.
      sequences: whether o is wanted for the state before the first step and after each, or for the last.

    Returns:
      `(o, state)`: `[B, 1 + S, .]`, or `[B, .]`; and the state after the last step.
    """
    first = MemoryState(*state)
    (m, a), options = split(cell, (m, a))

    def step(x, s):
        emitted, new = cell(x, s, **options)
        if not sequences:
            return (), new
        return (emitted if recall is not None else MemoryState(*new).read), new

    visited, end = scan(step, (m, a), list(first))
    end = MemoryState(*end)

    def visits(name, after):
        """`[B, 1 + S, ...]` or `[B, ...]`."""
        return (tf.concat([getattr(first, name)[:, None], swap_time(after)], 1) if sequences
                else getattr(end, name))

    if recall is None:
        return _joined(visits("read", visited)), list(end)
    after = visited if sequences else (None, None)
    weights, memory = visits("read_weights", after[0]), visits("memory", after[1])
    slots, width = memory.shape[-2:]
    y = recall(tf.reshape(memory, [-1, slots, width]))
    read = tf.matmul(tf.reshape(weights, [-1, weights.shape[-2], slots]), y)
    o = tf.concat([_joined(read), tf.reduce_mean(y, 1)], -1)
    return (tf.reshape(o, [-1, tf.shape(memory)[1], o.shape[-1]]) if sequences else o), list(end)


def sparse(cell, recall, m, a, state, sequences):
    """Over a memory whose heads keep k weights: `o = [sum_i w_i Y_i ; mean_i M_i]`.

    The attention is evaluated on the neighbourhoods of the slots read alone (`ChebAttention.at_centre`), so
    its mean over all slots is not known; the mean of what was written (`Visits`) takes its place.
    Arguments and returns as of `dense`, with a `SparseMemoryCell` and its `SparseMemoryState`, or None for
    the first, whose memory then need not be made.
    """
    visits, end = cell.run(m, a, state, reach=recall.reach if recall is not None else 0)
    wanted = slice(None) if sequences else slice(-1, None)
    if recall is None:
        o = _joined(visits.read[wanted])
    else:
        y = recall.at_centre(visits.memory.rows(visits.near[wanted]))  # [V, B, R, k, W]
        read = tf.reduce_sum(visits.values[wanted][..., None] * y, 3)
        o = tf.concat([_joined(read), visits.mean[wanted]], -1)
    return (swap_time(o) if sequences else o[0]), list(end)


def _joined(x):
    """The last two axes as one."""
    return tf.reshape(x, tf.concat([tf.shape(x)[:-2], [x.shape[-2] * x.shape[-1]]], 0))
