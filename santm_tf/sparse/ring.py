"""Rows in a ring of slots, each new one in place of the oldest, and the best rows of many steps at once."""

from typing import NamedTuple

import tensorflow as tf

from santm_tf.packing import at_steps
from santm_tf.scan import swap_time

# A search has so many scores at hand at a time, and looks through so many rows.
SCORES, BLOCK = 2**20, 1024


class Ring(NamedTuple):
    """All rows of each sequence in the order of writing. The n-th, from 0 on, is in slot n mod N.

    So what a slot held at any time is known by how many rows there were then.

    >>> ring = Ring.of(tf.constant([[[5.0], [6.0], [7.0], [8.0]]]), slots=3)
    >>> ring.memory(tf.constant([[2]])).numpy().ravel(), ring.memory(tf.constant([[4]])).numpy().ravel()
    (array([5., 6., 0.], dtype=float32), array([8., 6., 7.], dtype=float32))
    """

    rows: tf.Tensor  # [B, M, W]
    first: tf.Tensor  # int32 [B, 1], the number of the first of them; those below 0 are none
    slots: int  # N

    @classmethod
    def of(cls, new, slots, memory=None, written=None):
        """Of rows in the order in which they are to be written.

        Args:
          new: `[B, S, W]`. slots: N.
          memory: `[B, N, W]`, what the slots hold before. written: int32 `[B, 1]`, how many rows they had.
        """
        if memory is None:
            return cls(new, tf.zeros([tf.shape(new)[0], 1], tf.int32), slots)
        old = at_steps(memory, (written + tf.range(slots)) % slots)
        return cls(tf.concat([old, new], 1), written - slots, slots)

    def at(self, slots, written, part=slice(None)):
        """A part of the rows that slots held, zeros where nothing was written.

        Args:
          slots: int32 `[B, ...]`. written: int32, how many rows there were; broadcasts with the slots.
        """
        number = written - 1 - (written - 1 - slots) % self.slots
        first = tf.reshape(self.first, [-1] + [1] * (number.shape.rank - 1))
        index = tf.clip_by_value(number - first, 0, tf.shape(self.rows)[1] - 1)
        rows = tf.gather(self.rows[..., part], index, batch_dims=1)
        return tf.where((number >= 0)[..., None], rows, tf.zeros_like(rows))

    def memory(self, written):
        """What all slots held when `[B, 1]` rows were written: `[B, N, W]`."""
        return self.at(tf.range(self.slots)[None], written)

    def best(self, score, queries, written, count):
        """For each step the slots of the rows with the highest scores, and whether there are so many.

        The row that is overwritten next is left out, so that what is read is there after a write, too. Only
        blocks of rows are looked at in which some are there. Has no gradient.

        Args:
          score: from queries of some steps `[B, q, R, K]`, some rows `[B, m, W]`, and how many rows there
            were at each step, to `[B, q, R, m]`.
          queries: `[B, S, R, K]`. written: int32 `[B, S]`. count: k.

        Returns:
          int32 and bool `[B, S, R, k]`.
        """
        batch, there_are = tf.unstack(tf.shape(self.rows)[:2])
        size = tf.clip_by_value(there_are, count, BLOCK)
        blocks = -(-there_are // size)
        rows = tf.stop_gradient(tf.pad(self.rows, [[0, 0], [0, blocks * size - there_are], [0, 0]]))

        def among(given):
            queries, written = given
            till = (written - self.first)[:, :, None, None]  # as places in `rows`

            def look(n, scores, places):
                place = n * size + tf.range(size)
                new = score(queries, tf.slice(rows, [0, n * size, 0], [batch, size, -1]), written)
                there = (place < till) & (place >= -self.first[..., None, None]) & (place > till - self.slots)
                new = tf.where(there, new, new.dtype.min)
                best = tf.math.top_k(tf.reshape(new, [-1, size]), count)  # XLA's is fast of a matrix
                new = tf.reshape(best.values, tf.shape(scores))
                at = n * size + tf.reshape(best.indices, tf.shape(places))
                best = tf.math.top_k(tf.concat([scores, new], -1), count)
                return n + 1, best.values, tf.gather(tf.concat([places, at], -1), best.indices, batch_dims=3)

            shape = tf.concat([tf.shape(queries)[:3], [count]], 0)
            first = tf.maximum(tf.reduce_min(till) - self.slots + 1, 0) // size
            last = tf.reduce_max(till)
            _, scores, places = tf.while_loop(
                lambda n, *_: n * size < last, look,
                (first, tf.fill(shape, queries.dtype.min), tf.zeros(shape, tf.int32)))
            return places, scores > scores.dtype.min

        found, there = in_parts(among, (tf.stop_gradient(queries), written),
                                SCORES // (batch * queries.shape[2] * size), (tf.int32, tf.bool))
        return (found + self.first[..., None, None]) % self.slots, there


def in_parts(function, inputs, most, dtypes):
    """A function of steps, of at most so many at a time.

    Args:
      function: from a nest of `[B, q, ...]` to one of the same kind.
      inputs: nest of `[B, S, ...]`. most: int tensor. dtypes: of what the function gives.

    >>> in_parts(lambda x: 2 * x[0], [tf.range(5)[None]], 2, tf.int32).numpy()
    array([[0, 2, 4, 6, 8]], dtype=int32)
    """
    steps = tf.shape(tf.nest.flatten(inputs)[0])[1]
    parts = -(-steps // tf.clip_by_value(most, 1, steps))
    each = -(-steps // parts)

    def cut(x):
        x = tf.pad(x, [[0, 0], [0, parts * each - steps]] + [[0, 0]] * (x.shape.rank - 2))
        return swap_time(tf.reshape(x, tf.concat([[tf.shape(x)[0], parts, each], tf.shape(x)[2:]], 0)))

    def joined(x):
        x = swap_time(x)
        return tf.reshape(x, tf.concat([[tf.shape(x)[0], parts * each], tf.shape(x)[3:]], 0))[:, :steps]

    return tf.nest.map_structure(joined, tf.map_fn(function, tf.nest.map_structure(cut, inputs),
                                                   fn_output_signature=dtypes))
