"""What own sequences are to be predicted: classes, labels or numbers, from the cells of a file."""

import dataclasses
import math
from collections import Counter
from typing import Any

import numpy as np

from santm_tf.tasks.errors import TaskError
from santm_tf.tasks.reading.sequences import excessive, written

MOST_CLASSES = 50  # of whole numbers; more are amounts
SEVERAL = 5  # examples of a class on average; of fewer, whole numbers are amounts
BETWEEN = "|", ";"  # what stands between the labels of one text
KINDS = "class", "labels", "number"


@dataclasses.dataclass(frozen=True)
class Target:
    """What is to be predicted, as a model is trained on it.

    Attributes:
      kind: "class", "labels" or "number".
      names: of the classes, the labels or the numbers, in order.
      y: of each sequence or step: a class, int32 `[n]`; labels, float32 `[n, K]` of 0 and 1; numbers, float32
        `[n, K]`, normalised. What is not known is -1 or NaN. None where they are streamed.
      mean, scale: of the numbers in their unit, `[K]`.

    >>> of(np.array([["ham"], ["spam"], ["ham"]], object), "class", [0, 1, 2]).y.tolist()
    [0, 1, 0]
    """

    kind: str
    names: tuple[str, ...]
    y: np.ndarray | None
    mean: np.ndarray | None = None
    scale: np.ndarray | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """What a trained model needs of it, as JSON."""
        found = {"kind": self.kind, "names": list(self.names)}
        if self.kind == "number":
            found |= {"mean": self.mean.tolist(), "scale": self.scale.tolist()}
        return found

    @property
    def known(self):
        """Whether each target is known, bool `[n]`."""
        return self.y >= 0 if self.kind == "class" else np.isfinite(self.y).all(-1)


def of(cells, kind, train, names=(), where=None, facts=None):
    """The `Target` of raw cells.

    Args:
      cells: object `[n, k]`, texts and numbers. kind: one of `KINDS`. train: places of the training split.
      names: of the k columns. where: from a place to what an error calls it.
      facts: those of a trained model, by which everything is then read.

    Raises:
      TaskError: a cell that does not fit, or a class that is on no training sequence.
    """
    where = where or (lambda place: f"sequence {place}")
    if kind == "class":
        return _classes(cells, train, where, facts)
    if kind == "labels":
        return _labels(cells, train, names, where, facts)
    y = np.array([[_number(cell, where, place) for cell in row] for place, row in enumerate(cells)])
    chosen = y[train]
    if facts:
        mean, scale = np.array(facts["mean"]), np.array(facts["scale"])
    else:
        known = np.where(np.isfinite(chosen), chosen, np.nan)
        mean, scale = np.nanmean(known, 0), np.nanstd(known, 0)
        scale = np.where(scale > 0, scale, 1.0)
    return Target("number", tuple(names), ((y - mean) / scale).astype(np.float32), mean, scale)


def of_facts(facts):
    """A `Target` of a trained model, without a y."""
    mean, scale = (np.array(facts[name]) if name in facts else None for name in ("mean", "scale"))
    return Target(facts["kind"], tuple(facts["names"]), None, mean, scale)


def guessed(cells, count=None):
    """Which of `KINDS` cells seem to be, and why, as a text.

    Args:
      cells: object `[n, k]`. count: of how many cells these are the different ones, if they are.

    >>> guessed(np.array([[1.5], [2.5]], object))
    ('number', 'numbers')
    """
    texts = [cell for row in cells for cell in row
             if isinstance(cell, str) and not missing(cell) and _as_number(cell) is None]
    if texts and cells.shape[1] == 1:
        if any(mark in text for text in texts for mark in BETWEEN):
            return "labels", f"texts with {' or '.join(BETWEEN)} between the labels"
        others = [[cell] for cell in cells[:, 0] if not isinstance(cell, str) or _as_number(cell) is not None]
        if len(others) > len(texts) and guessed(np.array(others, object), count)[0] == "number":
            return "number", "most are numbers"
        return "class", "texts"
    if texts:
        raise TaskError(f"--label: of several columns all must be numbers, and one has {texts[0]!r}; name "
                        "one column of texts, or columns of 0 and 1")
    numbers = np.array([[math.nan if missing(cell) else float(cell) for cell in row] for row in cells])
    known = numbers[np.isfinite(numbers).all(1)]
    if cells.shape[1] > 1:
        if np.isin(known, (0, 1)).all():
            return "labels", "several columns of 0 and 1"
        return "number", "several columns of numbers"
    different, count = len(np.unique(known)), count or len(known)
    whole = f"{different} different whole numbers"
    if (known == np.round(known)).all() and different <= min(MOST_CLASSES, max(2, count / SEVERAL)):
        return "class", f"{whole}; --target=number if they are amounts"
    if (known == np.round(known)).all() and different <= MOST_CLASSES:
        return "number", f"{whole} in {count}; --target=class if they are classes"
    return "number", "numbers"


def name_of(cell):
    """A class's name: a text as it is, a whole number without its point.

    >>> name_of(2.0), name_of("up ")
    ('2', 'up')
    """
    if isinstance(cell, str):
        return cell.strip()
    return written(float(cell))


def in_order(names):
    """Names in the order of their numbers, if all are numbers, else of their letters.

    >>> in_order({"10", "9", "1"})
    ['1', '9', '10']
    """
    numbers = {name: _as_number(name) for name in names}
    return sorted(names, key=lambda name: name if None in numbers.values() else (numbers[name], name))


def missing(cell):
    """Whether a cell is empty."""
    return cell is None or cell == "" or isinstance(cell, float) and math.isnan(cell)


def _classes(cells, train, where, facts):
    found = [None if missing(cell) else name_of(cell) for cell in cells[:, 0]]
    counts = Counter(found[place] for place in train if found[place] is not None)
    names = facts["names"] if facts else in_order(counts)
    if len(names) < 2:
        raise TaskError(f"--data_dir: all training sequences are of class {next(iter(names), 'none')}; two "
                        "are needed, or --target=number for numbers")
    number = {name: n for n, name in enumerate(names)}
    for place, name in enumerate(found):
        if name is not None and name not in number:
            amounts = "" if facts or _as_number(name) is None else "; --target=number if they are amounts"
            raise TaskError(f"{where(place)}: class {name} is on no training sequence; those are "
                            f"{', '.join(names[:10])}{', ...' * (len(names) > 10)}{amounts}")
    y = np.array([-1 if name is None else number[name] for name in found], np.int32)
    return Target("class", tuple(names), y)


def _labels(cells, train, names, where, facts):
    if cells.shape[1] > 1:
        y = np.array([[_number(cell, where, place) for cell in row] for place, row in enumerate(cells)])
        wrong = np.argwhere(np.isfinite(y) & ~np.isin(y, (0, 1)))
        if len(wrong):
            place, column = wrong[0]
            raise TaskError(f"{where(place)}: label {names[column]} is {cells[place, column]}; it must be 0 "
                            "or 1")
        return Target("labels", tuple(names), y.astype(np.float32))
    found = [{part.strip() for part in _split(str(cell)) if part.strip()} if not missing(cell) else set()
             for cell in cells[:, 0]]
    names = facts["names"] if facts else in_order(set().union(*(found[place] for place in train)))
    for place, mine in enumerate(found):
        if other := sorted(mine - set(names)):
            raise TaskError(f"{where(place)}: label {other[0]} is on no training sequence")
    return Target("labels", tuple(names),
                  np.array([[name in mine for name in names] for mine in found], np.float32))


def _split(text):
    for mark in BETWEEN[1:]:
        text = text.replace(mark, BETWEEN[0])
    return text.split(BETWEEN[0])


def _as_number(text):
    try:
        return float(text)
    except ValueError:
        return None


def _number(cell, where=None, place=None):
    if missing(cell):
        return math.nan
    number = _as_number(cell)
    if number is None or excessive(number):
        raise TaskError(f"{where(place) if where else '--label'}: {cell!r} is no number; mend it, or give "
                        "--target=class")
    return number
