"""Rows in a ring of slots, each new one in place of the oldest, and the best rows of many steps at once."""

from typing import NamedTuple

import tensorflow as tf

from santm_tf.packing import at_steps
from santm_tf.scan import swap_time

# A search has so many scores at hand at a time, and looks through so many rows, of which it compares so many
# by the best of them alone.
SCORES, BLOCK, GROUP = 2**20, 1024, 8


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

    def best(self, queries, keys, written, count):
        """For each step the slots of the rows with the largest `query.key`, and whether there are so many.

        The row that is overwritten next is left out, so that what is read is there after a write, too. Only
        blocks of rows are looked at in which some are there. Of a block the groups are kept whose best rows
        are the best: the rows looked for are among them. Has no gradient.

        Args:
          queries: `[B, S, R, K]`. keys: `[B, M, R, K]`, of all rows.
          written: int32 `[B, S]`, how many rows there were at each step. count: k.

        Returns:
          int32 and bool `[B, S, R, k]`.
        """
        batch, there_are = tf.unstack(tf.shape(self.rows)[:2])
        size = -(-tf.clip_by_value(there_are, count * GROUP, BLOCK) // GROUP) * GROUP
        apart, blocks = size // GROUP, -(-there_are // size)  # rows of a group are so far apart
        keys = tf.stop_gradient(tf.pad(keys, [[0, 0], [0, blocks * size - there_are], [0, 0], [0, 0]]))
        keys = _by_head(keys)

        def search(queries, written):
            queries = _by_head(queries)
            till = (written - self.first)[:, None, :, None]  # as places in `rows`
            none = -self.first[..., None, None]  # how many of them are none

            def masked(scores, place):
                there = (place < till) & (place >= none) & (place > till - self.slots)
                return tf.where(there, scores, scores.dtype.min)

            def look(n, scores, groups):
                block = tf.slice(keys, [0, 0, n * size, 0], [batch, keys.shape[1], size, keys.shape[3]])
                new = masked(tf.matmul(queries, block, transpose_b=True), n * size + tf.range(size))
                new = tf.reduce_max(tf.reshape(new, [-1, GROUP, apart]), 1)
                number = tf.broadcast_to(n * size + tf.range(apart), tf.shape(new))
                return n + 1, *_best(tf.concat([scores, new], 1), tf.concat([groups, number], 1), count)

            shape = tf.stack([tf.size(queries) // queries.shape[3], count])
            first = tf.maximum(tf.reduce_min(till) - self.slots + 1, 0) // size
            last = tf.reduce_max(till)
            _, _, groups = tf.while_loop(
                lambda n, *_: n * size < last, look,
                (first, tf.fill(shape, queries.dtype.min), tf.fill(shape, -size)))  # the first are none
            places = tf.reshape(groups[:, None] + tf.range(0, size, apart)[:, None],
                                tf.concat([tf.shape(queries)[:3], [GROUP * count]], 0))
            rows = tf.gather(keys, tf.maximum(places, 0), batch_dims=2)
            scores = masked(tf.reduce_sum(queries[..., None, :] * rows, -1), places)
            scores, places = _best(scores, places, count)
            return _by_head(places), _by_head(scores > scores.dtype.min)

        def among(given):  # most steps end no segment, and those are packed behind the others
            shape = tf.concat([tf.shape(given[0])[:3], [count]], 0)
            return tf.cond(tf.reduce_any(given[1] > 0), lambda: search(*given),
                           lambda: (tf.zeros(shape, tf.int32), tf.zeros(shape, tf.bool)))

        found, there = in_parts(among, (tf.stop_gradient(queries), written),
                                SCORES // (batch * queries.shape[2] * size), (tf.int32, tf.bool))
        return (found + self.first[..., None, None]) % self.slots, there


def _by_head(x):
    """`[B, S, R, .]` to `[B, R, S, .]`, and back."""
    return tf.transpose(x, [0, 2, 1, 3])


def _best(scores, numbers, count):
    """The highest of scores `[..., n]`, and the numbers beside them."""
    shape, width = tf.shape(scores)[:-1], tf.shape(scores)[-1]
    scores, numbers = [tf.reshape(x, [-1, width]) for x in (scores, numbers)]
    best = tf.math.top_k(scores, count)  # XLA's is fast of a matrix
    numbers = tf.gather(numbers, best.indices, batch_dims=1)
    return [tf.reshape(x, tf.concat([shape, [count]], 0)) for x in (best.values, numbers)]


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
