"""Which slots were accessed least recently: a linked list of each sequence's slots, as tensors."""

from typing import NamedTuple

import tensorflow as tf


class Recency(NamedTuple):
    """The slots of each sequence in the order of their last access, as a ring through a node N.

    An access moves a slot to the ring's end, in a number of steps that does not depend on N: what Sparse
    Access Memory's usage comes to (Rae et al. 2016, arXiv 1610.09027, section 3.2), exactly.

    >>> order = Recency.start(1, 4).accessed(tf.constant([[0, 2]]))
    >>> order.least_recent(3).numpy().tolist()
    [[1, 3, 0]]
    """

    older: tf.Tensor  # int32 [B (N + 1)], of each node the one before it
    newer: tf.Tensor  # the same for the one after it

    @classmethod
    def start(cls, batch, slots):
        """Slot 0 being the least recent, slot N - 1 the most."""
        offset = tf.range(batch)[:, None] * (slots + 1)
        node = tf.range(slots + 1)
        return cls(tf.reshape(offset + (node + slots) % (slots + 1), [-1]),
                   tf.reshape(offset + (node + 1) % (slots + 1), [-1]))

    def _ends(self, batch):
        """The node N of each sequence, `[B]`, and how many nodes a sequence has."""
        nodes = tf.shape(self.older)[0] // batch
        return tf.range(1, batch + 1) * nodes - 1, nodes

    def least_recent(self, count, batch=1):
        """The `count` slots accessed longest ago, the oldest first: int32 `[B, count]`."""
        end, nodes = self._ends(batch)
        found, node = [], end
        for _ in range(count):
            node = tf.gather(self.newer, node)
            found.append(node % nodes)
        return tf.stack(found, 1)

    def accessed(self, slots, active=None):
        """After accesses, in their order.

        Args:
          slots: int32 `[B, m]`.
          active: bool `[B]` or None: sequences where nothing is accessed.
        """
        batch = tf.shape(slots)[0]
        end, nodes = self._ends(batch)
        older, newer = self
        for n in range(slots.shape[1]):
            node = slots[:, n] + end + 1 - nodes
            if active is not None:  # to move the newest to the end changes nothing
                node = tf.where(active, node, tf.gather(older, end))
            before, after = tf.gather(older, node), tf.gather(newer, node)
            newer, older = _set(newer, before, after), _set(older, after, before)
            last = tf.gather(older, end)
            newer, older = _set(newer, last, node), _set(older, node, last)
            newer, older = _set(newer, node, end), _set(older, end, node)
        return Recency(older, newer)


def _set(values, places, new):
    return tf.tensor_scatter_nd_update(values, places[:, None], new)
