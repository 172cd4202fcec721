"""The formats of the UCR and UEA archives: .ts, and rows of numbers with the label first.

The loaders of aeon and sktime read .ts, too. They bring numba, SciPy and scikit-learn, and name no line of a
file that is wrong. The format is simple enough to be read here; the tests compare with aeon's.
"""

import math
import re

import numpy as np

from santm_tf.tasks.errors import TaskError
from santm_tf.tasks.reading import encoding
from santm_tf.tasks.reading.sequences import Channel, Sequences, excess, excessive

STAMPED = re.compile(r"\(([^()]*),([^(),]*)\)")  # (time, value)
FLAGS = {"true": True, "false": False}


def ts(path):
    """Sequences of a .ts file: values by commas, dimensions by colons, the target last, `?` missing.

    Raises:
      TaskError: the line that is wrong.
    """
    header, cases = _parts(path)
    kind = "class" if header.get("classlabel") else "number" if header.get("targetlabel") else None
    classes = header.get("classlabel") or []
    rows, target, notes = [], [], []
    for line, text in cases:
        where = f"{path}, line {line}"
        if header.get("timestamps"):
            text = STAMPED.sub(r"\2", text)
        *dimensions, last = text.split(":") + ([] if kind else [None])
        rows.append(_case(dimensions, where))
        if kind == "class" and classes and last.strip() not in classes:
            raise TaskError(f"{where}: class {last.strip()} is not one of @classLabel, {' '.join(classes)}")
        target.append([_number(last, where) if kind == "number" else last and last.strip()])
    if not rows:
        raise TaskError(f"{path}: has no case below @data")
    _check_sizes(header, rows, cases, path)
    if header.get("timestamps"):
        notes.append(f"{path}: time stamps are left out; steps count")
    lines = [line for line, _ in cases]
    return _sequences(path, rows, target if kind else None, kind, lines, notes)


def rows_of_numbers(path):
    """Sequences of a .tsv or .txt of the UCR archive: a row is a label and values, NaN at its end padding.

    Raises:
      TaskError: the line that is wrong.
    """
    text = encoding.utf8(path).decode("utf-8-sig")
    lines = [(n, line.strip()) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
    split = (lambda line: line.split(",")) if "," in lines[0][1] else str.split
    rows, labels, width = [], [], len(split(lines[0][1]))
    for n, line in lines:
        label, *cells = split(line)
        if len(cells) != width - 1:
            raise TaskError(f"{path}, line {n}: {len(cells) + 1} cells, the first row has {width}; every "
                            "row is a label and as many values, NaN at the end for a shorter one")
        values = _values(cells, f"{path}, line {n}")
        held = np.flatnonzero(~np.isnan(values))
        rows.append(values[:held[-1] + 1 if len(held) else 0, None])
        labels.append([math.nan if label.lower() == "nan" else _whole(label)])
    return _sequences(path, rows, labels, None, [n for n, _ in lines], [])


def is_rows_of_numbers(path):
    """Whether the first row of a file has numbers alone, so is no header."""
    cells = encoding.beginning(encoding.utf8(path)).partition("\n")[0].replace(",", " ").split()
    return len(cells) > 1 and all(map(_is_number, cells))


def _parts(path):
    """The tags of a .ts file, by their names in small letters, and its cases `(line, text)`."""
    header, cases, data = {}, [], False
    for n, line in enumerate(encoding.utf8(path).decode("utf-8-sig").splitlines(), 1):
        line = line.strip()
        if not line or line[0] in "#%":
            continue
        if data:
            cases.append((n, line))
        elif not line.startswith("@"):
            raise TaskError(f"{path}, line {n}: values before @data; a .ts file has its tags, then @data")
        elif line.lower() == "@data":
            data = True
        else:
            tag, *values = line[1:].split() or [""]
            tag = {"dimension": "dimensions"}.get(tag.lower(), tag.lower())
            header[tag] = _tag(tag, values, f"{path}, line {n}")
    if not data:
        raise TaskError(f"{path}: has no @data; a .ts file has its tags, then @data, then a case a line")
    return header, cases


def _tag(tag, values, where):
    """What a tag says: a text, a number, a switch, or of the class label the classes, [] for none."""
    if tag in ("dimensions", "serieslength"):
        if len(values) != 1 or not values[0].isdigit():
            raise TaskError(f"{where}: @{tag} {' '.join(values)}; it must be a whole number")
        return int(values[0])
    if tag in ("timestamps", "missing", "univariate", "equallength", "classlabel", "targetlabel"):
        if not values or values[0].lower() not in FLAGS:
            raise TaskError(f"{where}: @{tag} {' '.join(values)}; it must be true or false")
        on = FLAGS[values[0].lower()]
        if tag == "classlabel" and on and not values[1:]:
            raise TaskError(f"{where}: @classLabel true names no class; write them behind it")
        return values[1:] if tag == "classlabel" and on else on
    return " ".join(values)


def _case(dimensions, where):
    """One case, `[T, d]`."""
    if not dimensions:
        raise TaskError(f"{where}: has no colon; a case is its values, a colon, and its label")
    values = [_values(cells.replace("?", "nan").split(",") if cells.strip() else [], where)
              for cells in dimensions]
    for d, each in enumerate(values):
        if len(each) != len(values[0]):
            raise TaskError(f"{where}: dimension {d + 1} has {len(each)} values, dimension 1 has "
                            f"{len(values[0])}; they must be as many")
    return np.stack(values, 1)


def _values(cells, where):
    try:
        values = np.array(cells, float)
    except ValueError:
        values = np.array([_number(cell, where) for cell in cells])
    if (wrong := excessive(values)).any():
        raise TaskError(f"{where}: value {wrong.argmax() + 1} is {excess(values[wrong.argmax()])}; ? stands "
                        "for a missing one")
    return values


def _number(cell, where):
    cell = cell.strip()
    if cell in ("?", ""):
        return np.nan
    if not _is_number(cell):
        raise TaskError(f"{where}: {cell} is no number; ? stands for a missing one")
    return float(cell)


def _is_number(cell):
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _whole(label):
    """A label's name: whole numbers, which some files write as 1.0000000e+00, as they are meant.

    >>> _whole("1.0000000e+00"), _whole("-1"), _whole("up")
    ('1', '-1', 'up')
    """
    return str(int(float(label))) if _is_number(label) and float(label).is_integer() else label


def _check_sizes(header, rows, cases, path):
    """Sizes are those of the tags, and the same in all cases."""
    width = header.get("dimensions") or (1 if header.get("univariate") else rows[0].shape[1])
    length = (header.get("serieslength") or len(rows[0])) if header.get("equallength") else None
    for row, (line, _) in zip(rows, cases, strict=True):
        if row.shape[1] != width:
            raise TaskError(f"{path}, line {line}: {row.shape[1]} dimensions; every case must have {width}")
        if length is not None and len(row) != length:
            raise TaskError(f"{path}, line {line}: {len(row)} steps, and @equalLength true asks for {length}")


def _sequences(path, rows, target, kind, lines, notes):
    width = rows[0].shape[1]
    return Sequences(
        steps=np.concatenate(rows), lengths=np.array([len(row) for row in rows], np.int64),
        channels=tuple(Channel(f"x{c}" if width > 1 else "x") for c in range(width)),
        target=None if target is None else np.array(target, object),
        targets=() if target is None else ("class" if kind != "number" else "target",), per_step=False,
        kind=kind if kind or target is None else "class", parts=None, groups=None,
        names=np.arange(len(rows)).astype(str), notes=tuple(notes),
        where=lambda n: f"{path}, line {lines[n]}")
