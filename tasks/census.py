"""One pass over streamed sequences: how many there are, and all that a task is made of, in bounded memory."""

import collections

import numpy as np

from santm_tf.errors import extra
from santm_tf.tasks.archive import TRAIN
from santm_tf.tasks.channels import Statistic
from santm_tf.tasks.errors import TaskError
from santm_tf.tasks.own import refuse_gaps
from santm_tf.tasks.reading.sequences import chosen, unusable

SAMPLE = 2 ** 20  # values of the training steps of which the quartiles are
DIFFERENT = 100_000  # values of a column that are told apart
PARTS = 3


class Moments:
    """Count, mean and squared deviations of columns, joined batch by batch (Chan, Golub and LeVeque 1983).

    Args:
      width: columns.

    >>> moments = Moments(1)
    >>> for values in ([[1.0], [2.0]], [[6.0]]):
    ...     moments.add(np.array(values))
    >>> moments.mean.tolist(), moments.variance.round(6).tolist()
    ([3.0], [4.666667])
    """

    def __init__(self, width):
        self.count, self.mean, self._squares = (np.zeros(width) for _ in range(3))

    def add(self, values):
        """Adds rows, `[n, width]`, NaN where a value is missing."""
        known = np.isfinite(values)
        count = known.sum(0)
        mean = np.where(known, values, 0.0).sum(0) / np.maximum(count, 1)
        total, delta = np.maximum(self.count + count, 1), mean - self.mean
        self._squares += (np.where(known, values - mean, 0.0) ** 2).sum(0)
        self._squares += delta ** 2 * self.count * count / total
        self.mean = self.mean + delta * count / total
        self.count = self.count + count

    @property
    def variance(self):
        return self._squares / np.maximum(self.count, 1)


class Values:
    """The different cells of columns and how often each occurs; of numbers the moments, too.

    Attributes:
      counts: of each column, `{cell: count}`. first: `{cell: where it is first}`. many: whether there are
        more than `DIFFERENT`, and others are not counted. moments: None where a cell is no number.
    """

    def __init__(self, width):
        self.counts = [collections.Counter() for _ in range(width)]
        self.first, self.many, self.moments, self.total = {}, False, Moments(width), 0

    def add(self, cells, where):
        """Adds cells, object `[n, width]`; `where` says where the cell of a place is."""
        with extra("data"):
            import pandas
        self.total += len(cells)
        if self.moments:
            try:
                self.moments.add(cells.astype(float))
            except ValueError:
                self.moments = None
        for counts, column in zip(self.counts, cells.T, strict=True):
            places, known = pandas.factorize(column)
            each = np.bincount(places[places >= 0], minlength=len(known))
            _, begin = np.unique(places, return_index=True)
            begin = begin[-len(known):] if len(known) else begin
            for cell, count, place in zip(known, each.tolist(), begin.tolist(), strict=True):
                if cell not in counts:
                    if len(counts) >= DIFFERENT:
                        self.many = True
                        continue
                    self.first.setdefault(cell, where(place))
                counts[cell] += count


class Census:
    """What was found so far.

    Args:
      names: of the channels. texts: those of them that hold categories. targets: columns that are predicted.
      refuse: whether a missing value is refused. robust: whether quartiles are wanted.

    Attributes:
      counts: sequences of each part, `[3]`. lengths: `{steps: sequences}`. steps: their sum.
      gaps: missing values of each channel, and `training_gaps` of those in training.
      low, high: of each channel. moments: of its training steps, of categories without a meaning.
      categories: `{channel: Counter}` in training, and `others` in validation and test.
      targets: `Values` of each part. notes: `{note: None}`.
      read, empty, no_target: sequences that were met, that have no step, that have no target.
      bare: files without a sequence. sampled: whether the quartiles are of some training steps alone.
    """

    def __init__(self, names, texts, targets, refuse=False, robust=False):
        width = len(names)
        self.names, self._refuse, self.sampled = names, refuse, False
        self.numbers = [i for i, name in enumerate(names) if name not in texts]
        self.counts, self.lengths = np.zeros(PARTS, int), collections.Counter()
        self.gaps, self.training_gaps = np.zeros(width, int), np.zeros(width, int)
        self.low, self.high = np.full(width, np.inf), np.full(width, -np.inf)
        self.moments, self.targets = Moments(width), [Values(targets) for _ in range(PARTS)]
        self.categories, self.others = ({name: collections.Counter() for name in texts} for _ in range(2))
        self.read = self.empty = self.no_target = self.steps = 0
        self.notes, self.bare = {}, []
        self._size, self._random = SAMPLE // width if robust else 0, np.random.default_rng(0)
        self._sample, self._places = np.zeros([0, width]), np.zeros(0)

    def usable(self, sequences):
        """Those that have steps and a target; the others are counted."""
        without, no_target = unusable(sequences)
        self.empty += int(without.sum())
        self.no_target += int(no_target.sum())
        return chosen(sequences, ~(without | no_target)) if (without | no_target).any() else sequences

    def add(self, sequences, parts):
        """Adds sequences and the part of each."""
        self.notes |= dict.fromkeys(sequences.notes)
        if self._refuse:
            refuse_gaps(sequences, self.numbers)
        self.counts += np.bincount(parts, minlength=PARTS)
        self.lengths.update(sequences.lengths.tolist())
        self.steps += len(sequences.steps)
        held = ~np.isnan(sequences.steps)
        self.gaps += (~held).sum(0)
        self.low = np.minimum(self.low, np.min(sequences.steps, 0, where=held, initial=np.inf))
        self.high = np.maximum(self.high, np.max(sequences.steps, 0, where=held, initial=-np.inf))
        for part in np.unique(parts):
            self._add_part(chosen(sequences, parts == part), part)

    def _add_part(self, sequences, part):
        if part == TRAIN:
            self.moments.add(sequences.steps)
            self.training_gaps += np.isnan(sequences.steps).sum(0)
            if self._size:
                self._draw(sequences.steps)
        for i, channel in enumerate(sequences.channels):
            if channel.categories is not None:
                column = sequences.steps[:, i]
                counts = np.bincount(column[~np.isnan(column)].astype(int), minlength=len(channel.categories))
                into = (self.categories if part == TRAIN else self.others)[channel.name]
                into.update({channel.categories[n]: int(counts[n]) for n in np.flatnonzero(counts)})
                if len(into) > DIFFERENT:
                    raise TaskError(f"{sequences.where(0)}: channel {channel.name} has more than "
                                    f"{DIFFERENT:,} categories; --ignore={channel.name} leaves it out")
        ends = np.cumsum(sequences.lengths)
        self.targets[part].add(sequences.target, lambda place: sequences.where(
            int(np.searchsorted(ends, place, "right")) if sequences.per_step else place))

    def _draw(self, steps):
        """Keeps those of all training steps that have the least random numbers."""
        self._sample = np.concatenate([self._sample, steps])
        self._places = np.concatenate([self._places, self._random.random(len(steps))])
        if len(self._places) > self._size:
            self.sampled = True
            least = np.argpartition(self._places, self._size)[:self._size]
            self._sample, self._places = self._sample[least], self._places[least]

    def statistic(self, i):
        """The `Statistic` of a channel of numbers."""
        if not self.moments.count[i]:
            return Statistic.of(np.full(1, np.nan))
        quartiles = np.nanpercentile(self._sample[:, i], [25, 50, 75]) if self._size else np.zeros(3)
        return Statistic(float(self.moments.mean[i]), float(self.moments.variance[i] ** 0.5),
                         tuple(quartiles.tolist()), bool(self.training_gaps[i]))

    def median(self):
        """The median of the lengths."""
        lengths, counts = np.array(sorted(self.lengths.items())).T
        ends = np.cumsum(counts)
        return float(np.mean(lengths[np.searchsorted(ends, [(ends[-1] - 1) // 2, ends[-1] // 2], "right")]))


def count(shards, parts_of, *, refuse=False, robust=False):
    """The `Census` of all files.

    Args:
      shards: `reading.shards.Shards`. parts_of: from sequences and their file's part to the part of each.
      refuse, robust: see `Census`.

    Raises:
      TaskError: the file and the row of what is wrong.
    """
    names = list(shards.roles.channels)
    found = Census(names, shards.categories, len(shards.roles.label), refuse, robust)
    for number, (path, part) in enumerate(shards.found):
        ids, before = [np.zeros(0, np.uint64)], found.read
        for sequences, empty in shards.pieces(number):
            found.empty += empty
            found.read += empty
            if sequences is None:
                continue
            found.read += len(sequences.lengths)
            ids.append(_hashed(sequences.names))
            usable = found.usable(sequences)
            if len(usable.lengths):
                found.add(usable, parts_of(usable, part))
        if shards.roles.long:
            _refuse_apart(np.concatenate(ids), path, shards.roles.id)
        if found.read == before:
            found.bare.append(path)
    return found


def _hashed(names):
    with extra("data"):
        from pandas.util import hash_array
    return hash_array(np.asarray(names, object))


def _refuse_apart(ids, path, name):
    """Refuses a file in which a sequence begins twice."""
    if twice := len(ids) - len(np.unique(ids)):
        raise TaskError(f"{path}: {twice} of {len(ids)} sequences have rows that are not together, and it is "
                        f"streamed; sort it by {name}")
