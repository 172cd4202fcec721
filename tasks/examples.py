"""The examples in own sequences: whole sequences, or windows of a series with what follows them."""

from typing import NamedTuple

import numpy as np

from santm_tf.tasks import partition
from santm_tf.tasks.archive import TEST, TRAIN, VALIDATION, digest
from santm_tf.tasks.errors import TaskError

ENOUGH = 300  # training examples of which some are held out for validation without being asked
HELD_OUT = 0.15  # their share
TEST_SHARE = 0.2  # of data that bring no test split
SHORTEST = 24  # steps that a forecast reads, where the series allow it
MOST = 50_000  # training windows; of more, only every so many steps one begins


class Examples(NamedTuple):
    """Examples as stretches of steps.

    Attributes:
      starts, lengths: of each, int64 `[n]`: its first step among all, and how many it reads.
      owners: the sequence that each is of, int64 `[n]`.
      parts: `TRAIN`, `VALIDATION` or `TEST` of each, `[n]`.
      notes: what is to be said, a line each.
    """

    starts: np.ndarray
    lengths: np.ndarray
    owners: np.ndarray
    parts: np.ndarray
    notes: tuple[str, ...] = ()

    def of(self, part):
        """The numbers of the examples of a part."""
        return np.flatnonzero(self.parts == part)


def whole(sequences, strata, names, split, validation_share, test_share):
    """Every sequence is an example.

    Args:
      sequences: `reading.Sequences`. strata: the class of each, ints `[N]`, or zeros. names: of the classes.
      split: "random" or "time", the order of the file. validation_share: None for `HELD_OUT` of `ENOUGH`.
    """
    count = len(sequences.lengths)
    parts = np.full(count, TRAIN) if sequences.parts is None else np.array(sequences.parts)
    free = np.flatnonzero(parts == TRAIN)
    test = 0.0 if (parts == TEST).any() else test_share
    if (parts == VALIDATION).any():
        validation = 0.0
    elif validation_share is None:
        validation = HELD_OUT if len(free) * (1 - test) >= ENOUGH else 0.0
    else:
        validation = validation_share
    starts = np.cumsum(sequences.lengths) - sequences.lengths
    if validation or test:
        parts[free] = _parted(sequences, free, starts, strata, names, split, validation, test)
    unused = split == "time" or sequences.groups is not None
    notes = ("the data bring their splits, so --split and --group change nothing",) if unused and not (
        validation or test) else ()
    return Examples(starts, sequences.lengths, np.arange(count), parts, notes + _notes(parts))


def _parted(sequences, free, starts, strata, names, split, validation, test):
    if split == "time":
        return partition.in_time(len(free), validation, test)
    if sequences.groups is not None:
        return partition.grouped(sequences.groups[free], strata[free], validation, test)
    digests = [digest(sequences.steps[starts[n]:starts[n] + sequences.lengths[n]].tobytes()) for n in free]
    return partition.stratified(strata[free], digests, validation, test, names)


def window_for(horizon, lengths):
    """The steps that a forecast reads: four horizons, at least 24, if the longest series has four of them.

    >>> window_for(12, [1000]), window_for(3, [50])
    (48, 11)
    """
    return max(1, min(max(4 * horizon, SHORTEST), (int(max(lengths)) - horizon) // 4))


def windows(sequences, columns, window, horizon, validation_share, test_share):
    """Windows of each series, as examples, and what follows them.

    The first stretch of each series trains, the next one validates, the last one tests. A window is of the
    stretch that all it predicts is in; what it reads may begin before.

    Args:
      columns: of the channels that are predicted. window, horizon: steps that are read and predicted.

    Returns:
      `(Examples, values)`: values float64 `[n, horizon, k]`.

    Raises:
      TaskError: a stretch in which no window fits.
    """
    validation = HELD_OUT if validation_share is None else validation_share
    begins = np.cumsum(sequences.lengths) - sequences.lengths
    found = []
    for owner, (begin, length) in enumerate(zip(begins, sequences.lengths, strict=True)):
        given = None if sequences.parts is None else int(sequences.parts[owner])
        first = np.arange(length - window - horizon + 1)  # where a window begins in its series
        if given is None:
            cut, last = (round(length * share) for share in (1 - validation - test_share, 1 - test_share))
            target, end = first + window, first + window + horizon
            part = np.where(end <= cut, TRAIN, np.where((target >= cut) & (end <= last), VALIDATION,
                                                        np.where(target >= last, TEST, -1)))
        else:
            part = np.full(len(first), given)
        found.append(np.stack([begin + first, np.full(len(first), owner), part], 1))
    starts, owners, parts = np.concatenate(found).T
    ahead = starts[:, None] + window + np.arange(horizon)
    values = sequences.steps[ahead][..., columns] if len(starts) else np.zeros([0, horizon, len(columns)])
    sound = (parts >= 0) & np.isfinite(values).all((1, 2))
    lost = int(((parts >= 0) & ~sound).sum())
    training = np.flatnonzero(sound & (parts == TRAIN))
    stride = max(1, -(-len(training) // MOST))
    sound[np.setdiff1d(training, training[::stride])] = False
    for part, noun in (TRAIN, "training"), (TEST, "test"):
        if not (sound & (parts == part)).any():
            longest = int(sequences.lengths.max())
            raise TaskError(f"--horizon={horizon}: no {noun} window of {window} steps and {horizon} to "
                            f"predict fits; the longest series has {longest} steps: give a smaller --window "
                            "or --horizon")
    notes = (f"{lost} windows have a gap in what they predict and are left out",) * bool(lost)
    if stride > 1:
        notes += (f"a training window begins at every {stride} steps, as there are {len(training):,}",)
    examples = Examples(starts[sound], np.full(sound.sum(), window), owners[sound], parts[sound],
                        notes + _notes(parts[sound]))
    return examples, values[sound]


def _notes(parts):
    if (parts == VALIDATION).any():
        return ()
    return (f"{(parts == TRAIN).sum()} training examples are few: none is held out, and what is called "
            "validation is of the training examples; --validation_share=0.2 holds some out",)
