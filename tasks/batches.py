"""Batches of own sequences, padded, with what is predicted of them."""

import numpy as np
import tensorflow as tf

from santm_tf.tasks import bending

PADDING = -(2.0 ** 20)  # no normalised value, and the same number in every precision but float16


class Batches:
    """From the numbers of examples to their batches.

    Args:
      sequences: `reading.Sequences`. found: `Examples` in them. aims: the `Target`, of each example or, where
        sequences say so, of each step. front: `Channels`. steps: T, or None for the longest example.

    Attributes:
      steps: T. padding: the value behind a sequence's end, or None where all are as long.
      per_step: whether there is a target at every step.
    """

    def __init__(self, sequences, found, aims, front, steps=None):
        self._found, self._aims, self._front = found, aims, front
        longest = int(found.lengths.max())
        self.steps = max(steps or 0, longest)
        self.padding = None if (found.lengths == self.steps).all() else PADDING
        self.per_step = sequences.per_step and len(aims.y) == len(sequences.steps)
        kinds = [channel.categories is not None for channel in sequences.channels]
        codes = _codes(sequences, front) if any(kinds) else None
        with tf.device("CPU:0"):  # where tf.data runs
            self._numbers = tf.constant(sequences.steps[:, ~np.array(kinds)], tf.float32)
            self._codes = None if codes is None else tf.constant(codes)
            self._starts, self._lengths = tf.constant(found.starts), tf.constant(found.lengths)
            self._y = tf.constant(aims.y)
            self._known = tf.constant(aims.known)

    def targets_of(self, part):
        """The known targets of a part, of its examples or their steps."""
        mine = self._found.of(part)
        if self.per_step:
            ranges = [np.arange(start, start + length) for start, length in
                      zip(self._found.starts[mine], self._found.lengths[mine], strict=True)]
            mine = np.concatenate(ranges)
        return self._aims.y[mine][self._aims.known[mine]]

    def show(self, key, amount, weights):
        """From the numbers of examples `[b]` to their batch; see `stored.splits`.

        Args:
          key: int64 `[2]` for training, else None. amount: how much training sequences are bent.
          weights: of each class, or None.
        """
        def batch(index):
            lengths = tf.gather(self._lengths, index)
            steps = tf.range(self.steps, dtype=tf.int64)
            valid = steps < lengths[:, None]
            within = tf.where(valid, steps, 0)
            start = tf.gather(self._starts, index)[:, None]
            numbers = tf.gather(self._numbers, start + within)
            if amount and key is not None:
                bend, scale = tf.unstack(tf.random.split(tf.random.fold_in(key, index[0])))
                place = bending.bent(lengths, self.steps, amount, bend)
                numbers = bending.between(numbers, place)
                numbers = bending.scaled(numbers, self._front.mean, self._front.scale, amount, scale)
                within = tf.where(valid, tf.cast(tf.round(place), tf.int64), 0)
            codes = None if self._codes is None else tf.gather(self._codes, start + within)
            x = self._front.encoded(numbers, codes, valid)
            if self.padding is not None:
                x = tf.where(valid[..., None], x, self.padding)
            x = tf.ensure_shape(x, [index.shape[0], self.steps, self._front.width])
            return (x, *self._targets(index, start + within, valid, None if key is None else weights))

        return batch

    def _targets(self, index, place, valid, weights):
        """`(y,)` or `(y, weight)`."""
        y = tf.gather(self._y, place if self.per_step else index)
        weight = None if weights is None else tf.gather(weights, tf.maximum(y, 0))
        if self.per_step:
            known = valid & tf.gather(self._known, place)
            y = tf.where(known if y.shape.rank == 2 else known[..., None], y, tf.zeros([], y.dtype))
            weight = tf.cast(known, tf.float32) * (1.0 if weight is None else weight)
        return (y,) if weight is None else (y, weight)


def _codes(sequences, front):
    """int32 `[S, c]`: each category's place among those that the front knows, from 1; 0 for another one."""
    texts = [(i, channel) for i, channel in enumerate(sequences.channels) if channel.categories is not None]
    columns = []
    for (i, channel), known in zip(texts, front.facts["categories"], strict=True):
        number = {value: n + 1 for n, value in enumerate(known["values"])}
        table = np.array([number.get(value, 0) for value in channel.categories] + [0], np.int32)
        column = sequences.steps[:, i]
        columns.append(table[np.where(np.isnan(column), len(channel.categories), column).astype(int)])
    return np.stack(columns, 1)
