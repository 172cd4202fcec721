"""Batches of shards: read side by side, shuffled within a window, the same for a seed and an epoch."""

import functools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from santm_tf.tasks import batches, partition, targets
from santm_tf.tasks.archive import TEST, TRAIN, VALIDATION, digest
from santm_tf.tasks.reading.sequences import chosen, unusable

READERS = 4  # files that are read side by side
WINDOW = 16  # pieces of them whose sequences are shuffled


class Parting(NamedTuple):
    """Shares of the sequences whose files do not say that they validate or test."""

    validation: float
    test: float

    def __call__(self, sequences, part):
        """The part of each sequence of a file, `[N]`; part: the file's, or None."""
        if part in (VALIDATION, TEST):
            return np.full(len(sequences.lengths), part)
        if not (self.validation or self.test):
            return np.full(len(sequences.lengths), TRAIN)
        return partition.by_digest(_digests(sequences), self.validation, self.test)

    def files(self, shards, part):
        """The numbers of the files that may hold sequences of a part."""
        shared = {TRAIN: True, VALIDATION: self.validation > 0, TEST: self.test > 0}[part]
        return np.array([n for n, (_, mine) in enumerate(shards.found)
                         if mine == part or shared and mine in (None, TRAIN)], np.int64)


def _digests(sequences):
    """Of each sequence a number that its steps alone decide, uint64 `[N]`."""
    steps = sequences.steps.copy()
    for i, channel in enumerate(sequences.channels):
        if channel.categories is not None:  # their places are of this piece alone
            table = np.array([digest(text.encode()) / 2.0 ** 64 for text in channel.categories] + [np.nan])
            steps[:, i] = table[np.where(np.isnan(steps[:, i]), len(table) - 1, steps[:, i]).astype(int)]
    ends = np.cumsum(sequences.lengths)
    return np.array([digest(steps[end - length:end].tobytes())
                     for end, length in zip(ends, sequences.lengths, strict=True)], np.uint64)


class Stream:
    """Batches of shards.

    Args:
      shards: `Shards`. parting: `Parting`.
      aims: `Target`, without a y. encoder: `batches.Encoder`.
    """

    def __init__(self, shards, parting, aims, encoder):
        self._shards, self._parting, self._aims, self._encoder = shards, parting, aims, encoder
        front = encoder.front
        y = [None] if aims.kind == "class" else [None, len(aims.names)]
        self._signature = (
            tf.TensorSpec([None, len(front.facts["numbers"])], tf.float32),
            tf.TensorSpec([None, len(front.sizes)], tf.int32), tf.TensorSpec([None], tf.int32),
            tf.TensorSpec(y, tf.int32 if aims.kind == "class" else tf.float32))

    def epoch(self, number, *, seed, batch_size, passes):
        """The batches of an epoch, a function of the seed and the epoch's number."""
        def once(number):
            key = [tf.cast(seed, tf.int64), number]
            files = tf.random.experimental.stateless_shuffle(self._parting.files(self._shards, TRAIN), key)
            windows = self._pieces(files, TRAIN).ragged_batch(WINDOW).map(
                lambda *pieces: [piece.values for piece in pieces])
            sequences = windows.enumerate().flat_map(
                lambda n, window: self._sequences(*window, key=tf.random.fold_in(key, n)))
            return self._batched(sequences, batch_size, drop_remainder=True).enumerate().map(
                lambda n, batch: self._encoder(*batch, key=tf.random.fold_in(key, n)))

        return tf.data.Dataset.range(passes * number, passes * (number + 1)).flat_map(once)

    def ordered(self, part, batch_size, count):
        """The batches of a part, of `count` sequences, always in the same order."""
        sequences = self._pieces(self._parting.files(self._shards, part), part).flat_map(self._sequences)
        found = self._batched(sequences, batch_size).map(self._encoder).prefetch(2)
        return found.apply(tf.data.experimental.assert_cardinality(-(-count // batch_size)))

    def _pieces(self, files, part):
        """Pieces of files: numbers, codes, lengths and targets, one sequence after another."""
        def of(file):
            return tf.data.Dataset.from_generator(functools.partial(self._read, part), args=[file],
                                                  output_signature=self._signature)

        return tf.data.Dataset.from_tensor_slices(files).interleave(
            of, cycle_length=READERS, block_length=1, num_parallel_calls=READERS, deterministic=True)

    def _read(self, part, file):
        of_file = self._shards.found[file].part
        for sequences, _ in self._shards.pieces(int(file)):
            if sequences is None:
                continue
            out = np.logical_or(*unusable(sequences))
            sequences = chosen(sequences, ~out) if out.any() else sequences
            if not len(sequences.lengths):
                continue
            sequences = chosen(sequences, self._parting(sequences, of_file) == part)
            aims = targets.of(sequences.target, self._aims.kind, [], self._aims.names, facts=self._aims.facts)
            numbers, codes = batches.raw(sequences, self._encoder.front)
            yield numbers, codes, sequences.lengths.astype(np.int32), aims.y

    def _sequences(self, numbers, codes, lengths, y, key=None):
        """The sequences of a piece, one by one, with a key in another order."""
        order, ends = tf.range(tf.size(lengths)), tf.cumsum(lengths)
        if key is not None:
            order = tf.random.experimental.stateless_shuffle(order, key)

        def one(i):
            steps = slice(ends[i] - lengths[i], ends[i])
            return numbers[steps], codes[steps], lengths[i], y[steps if self._encoder.per_step else i]

        return tf.data.Dataset.from_tensor_slices(order).map(one)

    def _batched(self, sequences, batch_size, drop_remainder=False):
        steps = [self._encoder.steps]
        numbers, codes, _, y = sequences.element_spec
        shapes = [*steps, *numbers.shape[1:]], [*steps, *codes.shape[1:]], [], \
            [*steps, *y.shape[1:]] if self._encoder.per_step else y.shape
        return sequences.padded_batch(batch_size, shapes, drop_remainder=drop_remainder)
