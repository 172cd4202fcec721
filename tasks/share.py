"""The rows of each batch that are this process's, where several share a batch."""

from typing import NamedTuple

import tensorflow as tf


class Share(NamedTuple):
    """The rows `[B index // count, B (index + 1) // count)` of every batch of B.

    Attributes:
      index: which of the processes, from 0. count: how many there are.

    >>> share = Share(1, 2)
    >>> share.size(5), share.of(tf.range(5)).numpy().tolist()
    (3, [2, 3, 4])
    """

    index: int = 0
    count: int = 1

    def bounds(self, rows):
        """The first row and the one after the last, of so many."""
        return rows * self.index // self.count, rows * (self.index + 1) // self.count

    def size(self, rows):
        """How many rows of so many these are."""
        first, end = self.bounds(rows)
        return end - first

    def of(self, batch):
        """These rows of a nest of tensors `[B, ...]`."""
        if self.count == 1:
            return batch

        def rows(v):
            first, end = self.bounds(v.shape[0] if v.shape[0] is not None else tf.shape(v)[0])
            return v[first:end]

        return tf.nest.map_structure(rows, batch)

    def over(self, data):
        """These rows of all batches of a dataset."""
        return data if self.count == 1 else data.map(lambda *batch: self.of(batch)).prefetch(2)


WHOLE = Share()
