"""What a task of streamed sequences keeps: facts of channels and targets, and lines on both, of a census."""

import dataclasses
import functools

import numpy as np

from santm_tf.tasks import census, channels, description, targets
from santm_tf.tasks.archive import TEST, TRAIN, VALIDATION
from santm_tf.tasks.errors import TaskError
from santm_tf.tasks.reading import columns

PARTS = range(census.PARTS)
MOST_NOTES = 5  # on pieces that are said one by one


def counted(shards, parting, target, normalise, missing, differences, kept=None):
    """`Task.kept` of shards.

    Args:
      shards: `Shards`. parting: `stream.Parting`. The choices are those of `own.make`.
      kept: of a trained run, by whose facts these shards are read; None for none.

    Returns:
      `{"channels", "target", "steps"}` as of data in memory, and `"stream"`: the files and their sizes, the
      sequences of each part, whether all are as long, the training examples of each class, what guessing
      scores, and the lines.

    Raises:
      TaskError: shards that are wrong, or without training or test sequences.
    """
    kept = kept or {}
    found = _census(shards, parting, missing == "refuse", normalise == "robust")
    for part, noun in (TRAIN, "training"), (TEST, "test"):
        if not found.counts[part]:
            raise TaskError(f"--data_dir: of {found.read} streamed sequences there is no {noun} one; "
                            "give more, or shards called train and test")
    facts = kept.get("channels") or _channels(found, normalise, missing, differences)
    aims, cells, note = _target(found, shards.roles.label, kept.get("target"), target)
    per_class, chance, line = _figures(found, aims, cells)
    steps = max(kept.get("steps") or 0, max(found.lengths))
    about = (*shards.notes, *_notes(found, shards), *note,
             *description.sizes(found.counts.tolist(), found.read, min(found.lengths), found.median(),
                                max(found.lengths)),
             *_described(found, channels.Channels(facts)), line)
    stream = {"shards": shards.sizes, "counts": found.counts.tolist(), "classes": per_class, "chance": chance,
              "even": set(found.lengths) == {steps}, "about": list(about)}
    return {"channels": facts, "target": aims.facts, "steps": steps, "stream": stream}


@functools.lru_cache(maxsize=1)
def _census(shards, parting, refuse, robust):
    """Once for the advice and the task."""
    return census.count(shards, parting, refuse=refuse, robust=robust)


def _channels(found, normalise, missing, differences):
    """The facts of `Channels`; without those that hold nothing."""
    held = [i for i in found.numbers if found.low[i] <= found.high[i]]
    texts = {name: sorted(counts, key=columns.order) for name, counts in found.categories.items()
             if counts or found.others[name]}
    if not (held or texts):
        raise TaskError("--data_dir: every value of every channel is missing")
    return channels.fitted([found.statistic(i) for i in held], [found.names[i] for i in held], texts,
                           normalise=normalise, missing=missing, differences=differences)


def _target(found, names, facts, kind):
    """The `Target` of the different cells that are predicted, the `Cells` themselves, and a note."""
    cells, note = Cells(found.targets), ()
    if facts:
        kind = facts["kind"]
    elif kind == "auto":
        kind, why = cells.guessed()
        note = (f"what is predicted: {kind} ({why})",)
    if kind != "number" and cells.many:
        raise TaskError(f"--label={','.join(names)}: has more than {census.DIFFERENT:,} different values, "
                        "too many for classes or labels; --target=number takes amounts")
    train = np.flatnonzero(cells.parts == TRAIN)
    aims = targets.of(cells.rows, kind, train, names, cells.where.__getitem__, facts)
    if kind == "number" and not facts:
        moments = found.targets[TRAIN].moments
        scale = moments.variance ** 0.5
        aims = dataclasses.replace(aims, mean=moments.mean, scale=np.where(scale > 0, scale, 1.0))
    return aims, cells, note


class Cells:
    """The different cells of what is predicted, a row each, NaN in the other columns.

    Attributes:
      rows: object `[m, k]`. counts, parts: of each row. where: of each row, where its cell is first.
      many: whether there are more, which are not counted.
    """

    def __init__(self, values):
        every = [(part, column, cell, count, values[part].first[cell]) for part in PARTS
                 for column, counts in enumerate(values[part].counts) for cell, count in counts.items()]
        parts, columns, cells, counts, self.where = zip(*every, strict=True)
        self.parts, self.counts = np.array(parts), np.array(counts, float)
        self.rows = np.full([len(every), len(values[0].counts)], np.nan, object)
        self.rows[np.arange(len(every)), columns] = cells
        self.many = any(each.many for each in values)
        self._total = sum(each.total for each in values)

    def guessed(self):
        """See `targets.guessed`."""
        different = [list(dict.fromkeys(cell for cell in column if cell == cell)) for column in self.rows.T]
        most = max(map(len, different))
        rows = np.stack([np.resize(np.array(column, object), most) for column in different], 1)
        return targets.guessed(rows, self._total)

    def shares(self, y, part):
        """Of each class or label how many cells of a part have it, and of how many."""
        mine = self.parts == part
        if y.ndim == 1:
            return np.bincount(y[mine], self.counts[mine], minlength=y.max() + 1), self.counts[mine].sum()
        known = np.isfinite(y[mine])
        counts = self.counts[mine][:, None]
        return np.where(known, y[mine] * counts, 0.0).sum(0), np.where(known, counts, 0.0).sum(0)


def _figures(found, aims, cells):
    """The training examples of each class or None, what guessing scores on the validation, and a line."""
    shown = VALIDATION if found.counts[VALIDATION] else TRAIN
    if aims.kind == "number":
        moments = found.targets[shown].moments
        errors = (moments.variance + (moments.mean - aims.mean) ** 2) / aims.scale ** 2
        return None, float(errors.mean()), description.numbers(aims)
    counts, total = cells.shares(aims.y, TRAIN)
    among, of = cells.shares(aims.y, shown)
    if aims.kind == "class":
        counts = np.resize(np.append(counts, np.zeros(len(aims.names))), len(aims.names)).astype(int)
        return counts.tolist(), float(among.max() / of), description.classes(aims.names, counts)
    shares = among / of
    return None, float(np.maximum(shares, 1 - shares).mean()), description.labels(aims.names, counts / total)


def _described(found, front):
    names = [one["name"] for group in ("numbers", "categories") for one in front.facts[group]]
    known = {one["name"]: set(one["values"]) for one in front.facts["categories"]}
    for name in names[:description.MOST]:
        i = found.names.index(name)
        unknown = sum(count for counts in (found.categories, found.others)
                      for value, count in counts.get(name, {}).items() if value not in known[name])
        yield description.channel(name, front, (found.low[i], found.high[i]), int(found.gaps[i]), found.steps,
                                  unknown)
    if len(names) > description.MOST:
        yield f"and {len(names) - description.MOST} more channels"


def _notes(found, shards):
    """What was left out, mended or sampled, and counted."""
    notes = [note for note in found.notes if note not in shards.notes]
    yield from notes[:MOST_NOTES]
    if len(notes) > MOST_NOTES:
        yield f"and {len(notes) - MOST_NOTES} more such notes on other sequences"
    if found.bare:
        yield (f"{len(found.bare)} of {len(shards.found)} shards hold no sequence, the first is "
               f"{found.bare[0]}")
    for count, what in (found.empty, "step"), (found.no_target, " or ".join(shards.roles.label)):
        if count:
            yield f"{count:,} of {found.read:,} sequences have no {what} and are left out"
    if found.sampled:
        yield f"quartiles are of {census.SAMPLE // len(found.names):,} random training steps"
    if nothing := [found.names[i] for i in found.numbers if found.low[i] > found.high[i]]:
        yield f"without a value and left out: {', '.join(nothing)}"
