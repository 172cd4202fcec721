"""Sequences as a user's files have them, whatever the format."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from santm_tf.tasks.errors import TaskError

LARGEST = float(np.finfo(np.float32).max)  # of the numbers that a model takes


class Channel(NamedTuple):
    """What one place of a step holds."""

    name: str
    categories: tuple[str, ...] | None = None  # None: numbers


@dataclasses.dataclass(frozen=True)
class Sequences:
    """N sequences of S steps together.

    Attributes:
      steps: float64 `[S, d]`, one sequence after another. NaN is missing. In a channel of categories a number
        is the place in `categories`.
      lengths: steps of each sequence, int64 `[N]`; their sum is S.
      channels: the d channels.
      target: raw cells, object `[N, k]` or at each step `[S, k]`: a text or a float, None or NaN where there
        is none. None: no target, as for a forecast.
      targets: names of the k columns of `target`.
      per_step: whether `target` is of each step.
      kind: what the format says the target is: "class", "labels" or "number". None: it does not say.
      parts: `TRAIN`, `VALIDATION` or `TEST` of `tasks.archive` for each sequence, int `[N]`, as the files
        give it. None: they give none.
      groups: the group of each sequence, text `[N]`, or None.
      names: the id of each sequence, or its number, text `[N]`.
      where: from a sequence's number to where it is, for a message: "FILE, line 12".
      notes: what was guessed, mended, or skipped and counted, a line each.
    """

    steps: np.ndarray
    lengths: np.ndarray
    channels: tuple[Channel, ...]
    target: np.ndarray | None
    targets: tuple[str, ...]
    per_step: bool
    kind: str | None
    parts: np.ndarray | None
    groups: np.ndarray | None
    names: np.ndarray
    where: Callable[[int], str]
    notes: tuple[str, ...] = ()


def written(cell):
    """A cell as text; a whole number has no point.

    >>> written(3.0), written(0.5), written("up")
    ('3', '0.5', 'up')
    """
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)


def excessive(values):
    """Which numbers no model takes: infinite ones, and what float32 cannot hold. NaN is none of them.

    >>> excessive(np.array([1.0, np.nan, -np.inf, 1e300])).tolist()
    [False, False, True, True]
    """
    return np.abs(values) > LARGEST


def excess(value):
    """Such a number in a message."""
    return f"{value}" if np.isinf(value) else f"{value}, which is more than float32 holds"


def chosen(sequences, keep):
    """The sequences of a mask, bool `[N]`."""
    number, steps = np.flatnonzero(keep), np.repeat(keep, sequences.lengths)
    target = sequences.target
    if target is not None:
        target = target[steps if sequences.per_step else keep]
    parts, groups = (each if each is None else each[keep] for each in (sequences.parts, sequences.groups))
    return dataclasses.replace(
        sequences, steps=sequences.steps[steps], lengths=sequences.lengths[keep], target=target, parts=parts,
        groups=groups, names=sequences.names[keep], where=lambda n: sequences.where(number[n]))


def cleaned(sequences):
    """Sequences that have steps and a target, and channels that hold something; what is left out is noted.

    Raises:
      TaskError: nothing is left.
    """
    empty, no_target = unusable(sequences)
    notes = _counted(empty, sequences, "have no step and are left out")
    notes += _counted(no_target, sequences, f"have no {' or '.join(sequences.targets)} and are left out")
    if (empty | no_target).all():
        raise TaskError("; ".join(["--data_dir: no sequence is left", *notes]))
    sequences = chosen(sequences, ~(empty | no_target))
    low, high = _ends(sequences.steps)
    missing = np.isnan(low)
    if missing.all():
        raise TaskError(f"{sequences.where(0)}: every value of every channel is missing")
    names = np.array([channel.name for channel in sequences.channels])
    if missing.any():
        notes.append(f"without a value and left out: {', '.join(names[missing])}")
    if (low == high).any():
        notes.append(f"the same at every step, and kept: {', '.join(names[low == high])}")
    held = np.flatnonzero(~missing)
    return dataclasses.replace(sequences, notes=(*sequences.notes, *notes), steps=sequences.steps[:, held],
                               channels=tuple(sequences.channels[c] for c in held))


def unusable(sequences):
    """Which sequences have no step, and which of the others have no target, bool `[N]` each."""
    empty = sequences.lengths == 0
    if sequences.target is None or sequences.per_step:
        return empty, np.zeros(len(empty), bool)
    missing = [any(cell is None or cell != cell for cell in row) for row in sequences.target]
    return empty, ~empty & np.array(missing, bool)


def joined(pieces):
    """Sequences of several sources as one.

    Args:
      pieces: `(part, sequences, path)` for each; part None in all, or in none.

    Raises:
      TaskError: channels or targets that differ, by the file that has others.
    """
    parts, every, paths = zip(*pieces, strict=True)
    first = every[0]
    for each, path in zip(every[1:], paths[1:], strict=True):
        for what in "channels", "targets":
            ours, theirs = ([getattr(each, what), getattr(first, what)])
            if len(ours) != len(theirs):
                raise TaskError(f"{path}: has {len(ours)} {what}, {paths[0]} has {len(theirs)}")
        if (each.kind, each.per_step) != (first.kind, first.per_step):
            raise TaskError(f"{path}: has targets of another kind than {paths[0]}")
    ends = np.cumsum([len(each.lengths) for each in every])

    def where(n):
        piece = int(np.searchsorted(ends, n, "right"))
        return every[piece].where(n - (ends[piece - 1] if piece else 0))

    steps, channels = _same_categories(every)
    given = parts[0] is not None
    return dataclasses.replace(
        first, steps=steps, channels=channels, where=where,
        lengths=np.concatenate([each.lengths for each in every]),
        target=None if first.target is None else np.concatenate([each.target for each in every]),
        parts=np.repeat(parts, [len(each.lengths) for each in every]).astype(int) if given else None,
        groups=None if first.groups is None else np.concatenate([each.groups for each in every]),
        names=np.concatenate([each.names for each in every]),
        notes=tuple(dict.fromkeys(note for each in every for note in each.notes)))


def _same_categories(every):
    """The steps of all, with places in the union of the categories, and the channels that have it."""
    steps, channels = [each.steps.copy() for each in every], []
    for c, channel in enumerate(every[0].channels):
        if channel.categories is not None:
            union = np.unique(np.concatenate([each.channels[c].categories for each in every]))
            for values, each in zip(steps, every, strict=True):
                place = np.searchsorted(union, each.channels[c].categories).astype(float)
                known = ~np.isnan(values[:, c])
                values[known, c] = place[values[known, c].astype(int)]
            channel = Channel(channel.name, tuple(union.tolist()))
        channels.append(channel)
    return np.concatenate(steps), tuple(channels)


def _ends(steps):
    """The least and the greatest value of each channel, NaN where it has none."""
    held = ~np.isnan(steps)
    low = np.min(steps, 0, where=held, initial=np.inf)
    high = np.max(steps, 0, where=held, initial=-np.inf)
    none = ~held.any(0)
    return np.where(none, np.nan, low), np.where(none, np.nan, high)


def _counted(odd, sequences, what):
    if not odd.any():
        return []
    return [f"{odd.sum()} of {len(odd)} sequences {what}, the first is {sequences.where(int(odd.argmax()))}"]
