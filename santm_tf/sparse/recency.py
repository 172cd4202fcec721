"""Which slots were accessed least recently, in a time that does not depend on how many there are."""

from typing import NamedTuple

import tensorflow as tf


class Recency(NamedTuple):
    """The slots of each sequence in the order of their last access, as a queue of all accesses.

    Positions 0 to N - 1 of the queue are the slots in their first order. Behind them are the accesses. A slot
    is where it was accessed last. The first n such slots are kept at hand, and the search for the next never
    goes back. So `least_recent` is exact (Rae et al. 2016, arXiv 1610.09027, section 3.2), and the time of an
    access does not, on average, depend on N.

    >>> order = Recency.start(batch=1, slots=4, accesses=2, at_hand=3).accessed(tf.constant([[0, 2]]))
    >>> order.least_recent(3).numpy().tolist(), order.of_each().numpy().tolist()
    ([[1, 3, 0]], [[1, 3, 0, 2]])
    """

    first: tf.Tensor  # int32 [B, N], the slots in their first order
    last: tf.Tensor  # int32 [B N], the position of each slot's last access
    queue: tf.Tensor  # int32 [B, accesses], the slots accessed
    count: tf.Tensor  # int32 [], how many of those there are
    waiting: tf.Tensor  # int32 [B, n], the positions of the least recent slots
    at_hand: tf.Tensor  # int32 [B, n], those slots, so that a step writes to the queue before it reads it
    front: tf.Tensor  # int32 [B], from which on the next one is to be found

    @classmethod
    def start(cls, batch, slots, accesses, at_hand):
        """Slot 0 being the least recent, slot N - 1 the most.

        Args:
          batch: B. slots: N.
          accesses: how many there will be at most.
          at_hand: n <= N, how many of the least recent will be asked for at most.
        """
        first = tf.broadcast_to(tf.range(slots), [batch, slots])
        return cls.of(first, accesses, at_hand, last=first)

    @classmethod
    def of(cls, first, accesses, at_hand, last=None):
        """Of slots `[B, N]`, the least recent first, and the place of each among them, if it is known."""
        batch, last = tf.shape(first)[0], tf.argsort(first, -1) if last is None else last
        return cls(first, tf.reshape(last, [-1]), tf.zeros([batch, accesses + 1], tf.int32), tf.constant(0),
                   tf.broadcast_to(tf.range(at_hand), [batch, at_hand]), first[:, :at_hand],
                   tf.fill([batch], at_hand))

    def of_each(self):
        """The slots, the least recent first: int32 `[B, N]`."""
        return tf.argsort(tf.reshape(self.last, tf.shape(self.first)), -1)

    def least_recent(self, count):
        """The `count` <= n slots accessed longest ago, the oldest first: int32 `[B, count]`."""
        return self.at_hand[:, :count]

    def accessed(self, slots, active=None):
        """After accesses, in their order.

        Args:
          slots: int32 `[B, m]`.
          active: bool `[B]` or None: sequences where nothing is accessed.
        """
        batch, slots_of_one = tf.unstack(tf.shape(self.first))
        position = slots_of_one + self.count + tf.range(slots.shape[1])
        queue = tf.transpose(tf.tensor_scatter_nd_update(
            tf.transpose(self.queue), (position - slots_of_one)[:, None], tf.transpose(slots)))
        position = tf.broadcast_to(position, tf.shape(slots))
        if active is not None:
            position = tf.where(active[:, None], position, -1)
        own = tf.range(batch)[:, None] * slots_of_one
        last = tf.tensor_scatter_nd_max(self.last, (own + slots)[..., None], position)
        return self._replace(last=last, queue=queue, count=self.count + slots.shape[1])._refilled()

    def _at(self, positions):
        """The slots at positions `[B, n]` of the queue."""
        slots = tf.shape(self.first)[1]
        early = tf.gather(self.first, tf.minimum(positions, slots - 1), batch_dims=1)
        late = tf.gather(self.queue, tf.clip_by_value(positions - slots, 0, tf.shape(self.queue)[1] - 1),
                         batch_dims=1)
        return tf.where(positions < slots, early, late)

    def _is_last(self, positions):
        """Whether a slot was accessed last at its position, bool `[B, n]`."""
        own = tf.range(tf.shape(positions)[0])[:, None] * tf.shape(self.first)[1]
        return tf.gather(self.last, own + self._at(positions)) == positions

    def _refilled(self):
        """With those at hand replaced that were accessed again."""
        alive = self._is_last(self.waiting)
        kept = tf.sort(tf.where(alive, self.waiting, tf.int32.max))
        missing = tf.reduce_sum(tf.cast(~alive, tf.int32), 1)

        def look(waiting, missing, front):
            found = (missing > 0) & self._is_last(front[:, None])[:, 0]
            place = tf.range(waiting.shape[1]) == (waiting.shape[1] - missing)[:, None]
            waiting = tf.where(place & found[:, None], front[:, None], waiting)
            front += tf.cast(missing > 0, tf.int32)
            return waiting, missing - tf.cast(found, tf.int32), front

        waiting, _, front = tf.while_loop(lambda waiting, missing, front: tf.reduce_any(missing > 0), look,
                                          (kept, missing, self.front))
        return self._replace(waiting=waiting, at_hand=self._at(waiting), front=front)
