"""What a run over an external memory is asked to keep, and what it gives."""

from typing import NamedTuple

import tensorflow as tf

from santm_tf.ops import last_two_joined


class Keep(NamedTuple):
    """What of a run is wanted afterwards: as little as possible, as it is stored for every step."""

    every: bool = True  # the state before the first step and that after each, or the last alone
    reach: int | None = None  # how far around the slots read the recall looks; None: it does not
    heads: bool = False  # `Heads`
    partly: bool = False  # whether a gate between 0 and 1 reads in part, where a memory's state cannot say so


EVERY = Keep()


class Heads(NamedTuple):
    """Where the heads were at each of S steps. A head has weights over k slots: in a dense memory all N."""

    h: tf.Tensor  # [S, B, H], the controller's output
    read_slots: tf.Tensor  # int32 [S, B, R, k]
    read_weights: tf.Tensor  # [S, B, R, k]
    write_slots: tf.Tensor  # int32 [S, B, writes, k']
    write_weights: tf.Tensor  # [S, B, writes, k'], times the gate a
    left: tf.Tensor  # [S, B], the share of the whole memory's content that the writes of the step left


class Visits(NamedTuple):
    """Some states of a run over a dense memory: the first and those after each step, or the last alone."""

    read: tf.Tensor | None  # [B, states, R, W], the vectors read
    weights: tf.Tensor | None  # [B, states, R, N], the read weights
    memory: tf.Tensor | None  # [B, states, N, W]
    heads: Heads | None

    def recalled(self, attention):
        """`o = [sum_i w^r_i Y_i ; mean_i Y_i]`, `[B, states, (R + 1) W]`; r without an attention."""
        if attention is None:
            return last_two_joined(self.read)
        slots, width = self.memory.shape[-2:]
        y = attention(tf.reshape(self.memory, [-1, slots, width]))
        read = tf.matmul(tf.reshape(self.weights, [-1, self.weights.shape[-2], slots]), y)
        o = tf.concat([last_two_joined(read), tf.reduce_mean(y, 1)], -1)
        return tf.reshape(o, tf.concat([tf.shape(self.memory)[:-2], [o.shape[-1]]], 0))
