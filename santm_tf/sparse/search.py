"""Which slots of a memory hold what is most similar to a key: among all, among the written, or hashed."""

import functools
import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from santm_tf.addressing import EPSILON, similarity

TABLES, PROBES, LOAD = 8, 2, 3  # of `Hashed`: load is the room of a bucket, in rows per bucket
MIN_ROOM = 8


def nearest(keys, memory, count):
    """The slots of the largest `addressing.similarity` to each key, by looking at all of them.

    Args:
      keys: `[B, J, W]`. memory: `[B, N, W]`. count: k.

    Returns:
      int32 `[B, J, k]`.
    """
    return tf.math.top_k(similarity(keys, memory), count, sorted=False).indices


def nearest_or_other(keys, memory, count, others, unwritten):
    """`nearest`, which of slots that were never written, and so are alike, takes the others first.

    So a search through a state that was handed on finds what the index `Written` finds.

    Args:
      others: int32 `[B, C]`, different slots.
      unwritten: `[W]`, what unwritten slots hold.
    """
    scores = _similarity(keys, memory, unwritten)
    best = tf.math.top_k(scores, count)
    others = tf.repeat(others[:, None], tf.shape(keys)[1], 1)
    return best_distinct(tf.concat([others, best.indices], -1),
                         tf.concat([tf.gather(scores, others, batch_dims=2), best.values], -1), count)


def _similarity(keys, memory, unwritten):
    """`similarity`; to unwritten rows the same to the last bit, which a product's may differ in."""
    row = tf.broadcast_to(unwritten, [tf.shape(keys)[0], 1, keys.shape[-1]])
    alike = tf.reduce_all(memory == row, -1)[:, None]
    return tf.where(alike, similarity(keys, row), similarity(keys, memory))


def best_distinct(slots, scores, count):
    """The `count` different slots with the highest scores: `[B, J, C]` twice to int32 `[B, J, count]`.

    >>> best_distinct(tf.constant([[[5, 7, 5, 2]]]), tf.constant([[[0.9, 0.1, 0.8, 0.3]]]), 2).numpy()
    array([[[5, 2]]], dtype=int32)
    """
    found = []
    for _ in range(count):
        best = tf.gather(slots, tf.argmax(scores, -1), batch_dims=2)
        found.append(best)
        scores = tf.where(slots == best[..., None], scores.dtype.min, scores)
    return tf.stack(found, -1)


class Written(NamedTuple):
    """An index of what was written to a `rows.Rows`; what was never written is all of one row.

    A search looks at every written row that a slot still holds. A row that is as it was counts as unwritten.
    The time depends on the rows of a sequence, one of which is spare, and not on N.
    """

    scale: tf.Tensor  # [B rows], 1 / |row| of written rows that a slot holds, 0 of the others
    slot: tf.Tensor  # int32 [B rows], which slot that is, from 0 to N - 1
    last: tf.Tensor  # int32 [B, m], the slots that the last step wrote, as `rows.Rows` numbers them
    gone: tf.Tensor  # int32 [B, m], the places among the written of what those held before

    @classmethod
    def start(cls, memory, batch, writes):
        """Before the first step, of which each writes so many slots."""
        rows = tf.shape(memory.written)[0]
        nowhere = tf.shape(memory.holds)[0] - 1
        return cls(tf.zeros([rows], memory.written.dtype), tf.zeros([rows], tf.int32),
                   tf.fill([batch, writes], nowhere), tf.fill([batch, writes], rows - 1))

    def noted(self, memory):
        """With what the last step wrote, and without what that replaced."""
        numbers, valid, rows = self._of_last(memory)
        inverse = tf.where(valid, tf.math.rsqrt(tf.reduce_sum(rows * rows, -1) + EPSILON), 0)
        slots = (tf.shape(memory.holds)[0] - 1) // tf.shape(self.last)[0]
        # Both at once, before any is read: XLA copies, every step, what is read before it is written.
        scale = tf.tensor_scatter_nd_update(self.scale, tf.concat([self.gone, numbers], 1)[..., None],
                                            tf.concat([tf.zeros_like(inverse), inverse], 1))
        return self._replace(scale=scale, slot=tf.tensor_scatter_nd_update(self.slot, numbers[..., None],
                                                                          self.last % slots))

    def _of_last(self, memory):
        """Rows that the last step wrote: their places among the written, whether they count, and they."""
        valid = self.last < tf.shape(memory.holds)[0] - 1
        spare = tf.shape(memory.written)[0] - 1
        numbers = tf.gather(memory.holds, self.last) - tf.shape(memory.initial)[0]
        numbers = tf.where(valid, numbers, spare)
        rows = tf.gather(memory.written, numbers)
        return numbers, valid & tf.reduce_any(rows != memory.initial[0], -1), rows

    def replaced(self, memory, writes, accessed=None):
        """Of slots that are to be written now.

        Args:
          writes: int32 `[B, m]`, the slots as `memory` numbers them.
          accessed: bool `[B]` or None: where it is False each slot is given what it held.
        """
        nowhere = tf.shape(memory.holds)[0] - 1
        old = tf.gather(memory.holds, writes) - tf.shape(memory.initial)[0]
        old = tf.where((old >= 0) & (writes < nowhere), old, tf.shape(memory.written)[0] - 1)
        if accessed is not None:  # what was never written stays so
            writes = tf.where(accessed[:, None] | (tf.gather(self.scale, old) > 0), writes, nowhere)
        return self._replace(last=writes, gone=old)

    def nearest(self, keys, memory, count, others):
        """The slots most similar to each key, int32 `[B, J, k]`.

        Args:
          keys: `[B, J, W]`. memory: `rows.Rows`. count: k.
          others: int32 `[B, C]` with C >= k, different slots, from 0 to N - 1, to be considered too: what was
            never written.
        """
        batch = tf.shape(keys)[0]
        rows = tf.reshape(memory.written, [batch, -1, keys.shape[-1]])
        scale = tf.reshape(self.scale, [batch, 1, -1])
        scores = tf.where(scale > 0, tf.matmul(keys, rows, transpose_b=True) * scale, keys.dtype.min)
        best = tf.math.top_k(scores, tf.minimum(count, tf.shape(scores)[-1]))
        slots = tf.gather(tf.reshape(self.slot, [batch, -1]), best.indices, batch_dims=1)
        return _with_others(slots, best.values, keys, memory, count, others)


class Hashed(NamedTuple):
    """`Written` with a locality-sensitive hash of its rows: a search looks at a few of them.

    The hash is cross-polytope (Andoni et al. 2015, arXiv 1509.02897). A row's outcome is its largest entry,
    with the sign, after a random rotation. The outcomes of some rotations, two where W is from 16 to 499,
    make a bucket's number in one of 8 tables. A search probes the best two outcomes of each, 32 buckets. A
    full bucket forgets what no slot holds, else what came first.
    """

    rows: Written
    table: tf.Tensor  # int32 [B tables buckets + 1, room], places of written rows, of the spare one for none

    @classmethod
    def start(cls, memory, batch, writes):
        rows = tf.shape(memory.written)[0] // batch
        width = memory.initial.shape[-1]
        buckets = (2 * width) ** turns_of(width)
        room = tf.maximum(LOAD * rows // buckets, MIN_ROOM)
        none = tf.shape(memory.written)[0] - 1
        return cls(Written.start(memory, batch, writes), tf.fill([batch * TABLES * buckets + 1, room], none))

    def _buckets_of(self, vectors, probes=1):
        """Numbers of buckets `[B, n, tables, probes^turns]` of vectors `[B, n, W]`."""
        width = vectors.shape[-1]
        turned = tf.einsum("bnw,wtcv->bntcv", vectors, tf.cast(_rotations(width), vectors.dtype))
        top = tf.math.top_k(tf.abs(turned), min(probes, width)).indices
        outcome = top + width * tf.cast(tf.gather(turned, top, batch_dims=4) > 0, tf.int32)
        number = tf.range(TABLES)[:, None] + TABLES * tf.range(tf.shape(vectors)[0])[:, None, None, None]
        for turn in range(turns_of(width)):
            number = number[..., None] * 2 * width + outcome[..., turn, None, :]
            number = tf.reshape(number, tf.concat([tf.shape(top)[:3], [-1]], 0))
        return number

    def noted(self, memory):
        rows, (place, valid, new) = self.rows.noted(memory), self.rows._of_last(memory)
        spare, room = tf.unstack(tf.shape(self.table) - [1, 0])
        bucket = tf.where(valid[..., None], self._buckets_of(new)[..., 0], spare)  # [B, m, tables]
        there = tf.gather(self.table, bucket)
        first = tf.argmin(tf.where(tf.gather(rows.scale, there) > 0, there, -1), -1, tf.int32)
        # Of rows that share a bucket the later come behind.
        writes = tf.range(tf.shape(place)[1])
        before = (bucket[:, :, None] == bucket[:, None]) & (writes[:, None] > writes)[None, :, :, None]
        at = (first + tf.reduce_sum(tf.cast(before, tf.int32), 2)) % room
        place = tf.broadcast_to(place[..., None], tf.shape(at))
        return Hashed(rows, tf.tensor_scatter_nd_update(self.table, tf.stack([bucket, at], -1), place))

    def replaced(self, memory, writes, accessed=None):
        return self._replace(rows=self.rows.replaced(memory, writes, accessed))

    def nearest(self, keys, memory, count, others):
        """As in `Written`, but only rows that share a bucket with the key are found."""
        batch, heads, _ = tf.unstack(tf.shape(keys))
        bucket = self._buckets_of(keys, PROBES)
        places = tf.reshape(tf.gather(self.table, bucket), [batch, heads, -1])
        scale = tf.gather(self.rows.scale, places)
        scores = tf.reduce_sum(tf.gather(memory.written, places) * keys[:, :, None], -1) * scale
        scores = tf.where(scale > 0, scores, keys.dtype.min)
        return _with_others(tf.gather(self.rows.slot, places), scores, keys, memory, count, others)


def _with_others(slots, scores, keys, memory, count, others):
    batch = tf.shape(keys)[0]
    begin = tf.range(batch)[:, None] * ((tf.shape(memory.holds)[0] - 1) // batch)
    also = _similarity(keys, memory.at(begin + others), memory.initial[0])
    # The key's own length does not change an order among slots, but here both kinds meet.
    scores *= tf.math.rsqrt(tf.reduce_sum(keys * keys, -1, keepdims=True) + EPSILON)
    others = tf.broadcast_to(others[:, None], tf.shape(also))
    return best_distinct(tf.concat([slots, others], -1), tf.concat([scores, also], -1), count)


def turns_of(width):
    """How many rotations number a bucket: the fewest that make about a thousand buckets or more."""
    return math.ceil(math.log(1000, 2 * width))


@functools.cache
def _rotations(width):
    """Random orthogonal matrices `[W, tables, turns, W]`, always the same."""
    normal = np.random.default_rng(0).normal(size=[TABLES, turns_of(width), width, width])
    return np.linalg.qr(normal)[0].transpose(2, 0, 1, 3).astype(np.float32)
