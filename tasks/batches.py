"""Batches of own sequences, padded, with what is predicted of them."""

from typing import NamedTuple

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
        numbers, codes = raw(sequences, front)
        with tf.device("CPU:0"):  # where tf.data runs
            self._numbers, self._codes = tf.constant(numbers), tf.constant(codes)
            self._starts, self._lengths = tf.constant(found.starts), tf.constant(found.lengths)
            self._y = tf.constant(aims.y)

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
        encoder = Encoder(self._front, self.steps, self.padding, self.per_step, amount, weights)

        def batch(index):
            lengths = tf.gather(self._lengths, index)
            steps = tf.range(self.steps, dtype=tf.int64)
            within = tf.where(steps < lengths[:, None], steps, 0)
            place = tf.gather(self._starts, index)[:, None] + within
            y = tf.gather(self._y, place if self.per_step else index)
            return encoder(tf.gather(self._numbers, place), tf.gather(self._codes, place), lengths, y,
                           None if key is None else tf.random.fold_in(key, index[0]))

        return batch


class Encoder(NamedTuple):
    """From padded raw values to a batch.

    Attributes:
      front: `Channels`. steps: T. padding: the value behind a sequence's end, or None for none.
      per_step: whether there is a target at every step.
      bend: how much training sequences are bent. weights: of each class, or None.
    """

    front: tf.Module
    steps: int
    padding: float | None
    per_step: bool
    bend: float = 0.0
    weights: np.ndarray | None = None

    def __call__(self, numbers, codes, lengths, y, key=None):
        """`(x, y)` or `(x, y, weight)`.

        Args:
          numbers: `[B, T, n]`, NaN where they are missing. codes: int32 `[B, T, c]`. lengths: `[B]`.
          y: targets `[B, ...]` or `[B, T, ...]`; what is not known is -1 or NaN.
          key: of the random numbers in training, int64 `[2]`; else None.
        """
        valid = tf.sequence_mask(lengths, self.steps)
        if self.bend and key is not None:
            numbers, codes = self._bent(numbers, codes, lengths, key)
        x = self.front.encoded(numbers, codes if self.front.sizes else None, valid)
        if self.padding is not None:
            x = tf.where(valid[..., None], x, self.padding)
        x = tf.ensure_shape(x, [y.shape[0], self.steps, self.front.width])
        return (x, *self._targets(y, valid, None if key is None else self.weights))

    def _bent(self, numbers, codes, lengths, key):
        bend, scale = tf.unstack(tf.random.split(key))
        place = bending.bent(lengths, self.steps, self.bend, bend)
        numbers = bending.between(numbers, place)
        numbers = bending.scaled(numbers, self.front.mean, self.front.scale, self.bend, scale)
        return numbers, tf.gather(codes, tf.cast(tf.round(place), tf.int32), axis=1, batch_dims=1)

    def _targets(self, y, valid, weights):
        weight = None if weights is None else tf.gather(weights, tf.maximum(y, 0))
        if self.per_step:
            whole = y.dtype.is_integer
            known = valid & (y >= 0 if whole else tf.reduce_all(tf.math.is_finite(y), -1))
            y = tf.where(known if whole else known[..., None], y, tf.zeros([], y.dtype))
            weight = tf.cast(known, tf.float32) * (1.0 if weight is None else weight)
        return (y,) if weight is None else (y, weight)


def raw(sequences, front):
    """What `Encoder` takes of all steps: numbers, float32 `[S, n]`, and codes, int32 `[S, c]`.

    A code is a category's place among those that the front knows, from 1; 0 for another one.
    """
    texts = [(i, channel) for i, channel in enumerate(sequences.channels) if channel.categories is not None]
    numbers = np.delete(sequences.steps, [i for i, _ in texts], 1).astype(np.float32)
    codes = np.zeros([len(numbers), len(texts)], np.int32)
    for place, ((i, channel), known) in enumerate(zip(texts, front.facts["categories"], strict=True)):
        number = {value: n + 1 for n, value in enumerate(known["values"])}
        table = np.array([number.get(value, 0) for value in channel.categories] + [0], np.int32)
        column = sequences.steps[:, i]
        codes[:, place] = table[np.where(np.isnan(column), len(channel.categories), column).astype(int)]
    return numbers, codes
