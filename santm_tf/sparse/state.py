"""What a sparse memory carries from step to step, and what a run over it gives to the recall."""

from typing import NamedTuple

import tensorflow as tf

from santm_tf.ops import last_two_joined
from santm_tf.scan import swap_time
from santm_tf.sparse.rows import Rows
from santm_tf.visits import Heads


class Controller(NamedTuple):
    """What of a sparse memory's state is carried and kept from step to step."""

    h: tf.Tensor  # [B, H], the controller's output
    c: tf.Tensor  # [B, H], the controller's cell
    read: tf.Tensor  # [B, R, W], the vectors read
    slots: tf.Tensor  # int32 [B, R + writes, k], where the heads were
    values: tf.Tensor  # [B, R + writes, k], and their weights there
    total: tf.Tensor  # float32 or better [B, W], of the rows of all slots that were written
    written: tf.Tensor  # likewise [B, 1], how many those are


# The parts of a `Controller`; the memory, `[B, N, W]`; its slots, int32 `[B, N]`, as `Recency` orders them.
SparseMemoryState = NamedTuple("SparseMemoryState", [*Controller.__annotations__.items(),
                                                     ("memory", tf.Tensor), ("order", tf.Tensor)])


class SparseVisits(NamedTuple):
    """`santm_tf.visits.Visits` of a memory whose heads keep k weights, time-major."""

    read: tf.Tensor  # [states, B, R, W], the vectors read
    values: tf.Tensor  # [states, B, R, k], the weights of the slots read
    mean: tf.Tensor  # [states, B, W], of the slots that were written; all slots of a learned memory
    near: tf.Tensor  # int32 [states, B, R, k, 2 reach + 1], rows in and around those slots
    memory: Rows  # whose rows these are
    heads: Heads | None

    def recalled(self, attention):
        """`o = [sum_i w^r_i Y_i ; mean_i M_i]`, `[B, states, (R + 1) W]`; r without an attention.

        The attention is evaluated on the neighbourhoods of the slots read alone. So its mean over all slots
        is not known. The mean of what was written takes its place.
        """
        if attention is None:
            return swap_time(last_two_joined(self.read))
        y = attention.at_centre(self.memory.rows(self.near))  # [V, B, R, k, W]
        read = tf.reduce_sum(self.values[..., None] * y, 3)
        return swap_time(tf.concat([last_two_joined(read), self.mean], -1))
