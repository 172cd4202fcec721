"""Sequences from arrays: of Python, of .npz files, and of folders of .npy files."""

import contextlib
import dataclasses
import numbers
import os
import zipfile

import numpy as np

from santm_tf.paths import open_file
from santm_tf.tasks import sources
from santm_tf.tasks.archive import TEST, TRAIN, VALIDATION
from santm_tf.tasks.errors import TaskError
from santm_tf.tasks.reading.sequences import (
    Channel,
    Sequences,
    cleaned,
    excess,
    excessive,
    joined,
    written,
)

SUFFIXES = {None: ("",), TRAIN: ("_train",), VALIDATION: ("_validation", "_valid", "_val"), TEST: ("_test",)}


def of_arrays(x, y=None, *, lengths=None, groups=None, parts=None, channels=None, categories=None,
              per_step=None):
    """Sequences from arrays.

    Args:
      x: numbers `[N, T, d]` or `[N, T]`; or a list, or a ragged tensor, of N arrays `[T_n, d]` or `[T_n]`.
        NaN is missing, and steps at a sequence's end that have NaN alone are none. Texts are categories.
      y: a target for each sequence, `[N]` or `[N, k]`; or for each step, `[N, T]`, `[N, T, k]`, or a list of
        `[T_n]`. None for a forecast.
      lengths: steps of each sequence, `[N]`, where x is padded. groups: of each sequence, `[N]`.
      parts: see `Sequences`. channels: the names of the d channels.
      categories: names of the channels whose whole numbers are categories.
      per_step: whether y is of each step. None: where its second axis is x's.

    Raises:
      TaskError: shapes that do not agree, or values that are infinite.

    >>> found = of_arrays([[[1.0, 2.0]], [[3.0, 4.0], [5.0, 6.0]]], ["up", "down"])
    >>> found.lengths.tolist(), found.steps.shape, found.target.tolist()
    ([1, 2], (3, 2), [['up'], ['down']])
    """
    return cleaned(_sequences("x", x, y, lengths, groups, channels=channels, categories=categories,
                              per_step=per_step, parts=parts))


def _sequences(source, x, y, lengths, groups, *, channels, categories, per_step, parts=None):
    """What `of_arrays` cleans. `source`: what x is called in a message."""
    rows = [_steps(row, f"{source}[{n}]") for n, row in enumerate(_rows(x, source))]
    if not rows:
        raise TaskError(f"{source}: has no sequence")
    padded = np.array([len(row) for row in rows], np.int64)
    if len(widths := {row.shape[1] for row in rows}) > 1:
        raise TaskError(f"{source}: its sequences have {' and '.join(map(str, sorted(widths)))} channels; "
                        "they must have as many each")
    lengths, notes = _lengths(rows, padded, lengths, source)
    steps = np.concatenate([row[:n] for row, n in zip(rows, lengths, strict=True)])
    names = _names(channels) or ([f"x{c}" for c in range(steps.shape[1])] if steps.shape[1] > 1 else ["x"])
    if len(names) != steps.shape[1]:
        raise TaskError(f"channels: {len(names)} names for {steps.shape[1]} channels of {source}")
    if double := sorted({name for name in names if names.count(name) > 1}):
        raise TaskError(f"channels: two are called {double[0]}; each needs a name of its own")
    steps, kinds = _numbers(steps, names, _names(categories))
    _finite(steps, lengths, names, source)
    target, stepwise = (None, False) if y is None else _target(y, padded, lengths, per_step, source)
    if stepwise and not per_step:
        notes += f"{source}: y is as long as x, so it is taken as a target for each step",
    named = {"groups": groups, "parts": parts}
    for name, values in named.items():
        if values is not None and np.shape(values) != (len(rows),):
            raise TaskError(f"{name}: has shape {list(np.shape(values))}; it must be [{len(rows)}]")
    if parts is not None and not set(np.asarray(parts).tolist()) <= {TRAIN, VALIDATION, TEST}:
        raise TaskError(f"parts: must be {TRAIN} to train, {VALIDATION} to validate or {TEST} to test")
    width = 0 if target is None else target.shape[1]
    return Sequences(steps=steps, lengths=lengths, channels=kinds, target=target,
                     targets=("y",) if width == 1 else tuple(f"y{k}" for k in range(width)),
                     per_step=stepwise, kind=None, parts=None if parts is None else np.asarray(parts, int),
                     groups=None if groups is None else np.asarray(groups).astype(str),
                     names=np.arange(len(rows)).astype(str), where=lambda n: f"{source}[{n}]", notes=notes)


def _names(given):
    """Names as a list of texts, of one name or several."""
    return [given] if isinstance(given, str) else [str(name) for name in given or ()]


def stored(path, **options):
    """Sequences of an .npz file, or of a folder of .npy files with the same names.

    Names are `x`, `y`, `lengths` and `groups`, in small letters or large, each alone or with `_train`,
    `_validation` (`_valid`, `_val`) and `_test` behind it.

    Args:
      path: of the file or the folder. **options: `channels`, `categories` and `per_step` of `of_arrays`.

    Raises:
      TaskError: no `x`, an array of objects, or what `of_arrays` refuses.
    """
    found = _folder(path) if os.path.isdir(path) else _zip(path)
    pieces = []
    for part, suffixes in SUFFIXES.items():
        for suffix in suffixes:
            if (x := found.pop("x" + suffix, None)) is None:
                continue
            own = {name: found.pop(name + suffix, None) for name in ("y", "lengths", "groups")}
            source = f"{path}: x{suffix}"
            pieces.append((part, _sequences(source, x, **own, **options), source))
    if not pieces:
        raise TaskError(f"{path}: has no x or x_train; it has {', '.join(found) or 'nothing'}; save it with "
                        "numpy.savez(file, x=x, y=y), x being [N, T, d]")
    if pieces[0][0] is None and len(pieces) > 1:
        raise TaskError(f"{path}: has x and also {pieces[1][2].split(': ')[-1]}; keep one of them")
    if pieces[0][0] not in (None, TRAIN):
        raise TaskError(f"{path}: has no x_train")
    sequences = joined(pieces)
    if found:
        notes = *sequences.notes, f"{path}: not read: {', '.join(found)}"
        sequences = dataclasses.replace(sequences, notes=notes)
    return sequences


def _zip(path):
    try:
        with open_file(path) as whole, zipfile.ZipFile(whole) as file:
            names = {name: name.removesuffix(".npy") for name in file.namelist()}
            return {stem.lower(): _array(file.open, name, f"{path}: {stem}") if stem != name else None
                    for name, stem in names.items()}  # of what is no array the name alone
    except (OSError, EOFError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        if isinstance(error, TaskError):
            raise
        raise TaskError(f"{path}: cannot be read as .npz; save it with numpy.savez") from error


def _folder(path):
    names = sorted(name for name in os.listdir(path) if name.lower().endswith(".npy"))
    paths = {name[:-4].lower(): os.path.join(path, name) for name in names}
    return {name: _array(open_file, path, path) for name, path in paths.items()}


def _array(opened, name, where):
    try:
        with opened(name) as file:
            return sources.array(file, where)
    except TaskError:
        raise
    except (OSError, EOFError, ValueError) as error:
        if "allow_pickle" in str(error):
            raise TaskError(f"{where}: is an array of objects, which takes pickle to read; save numbers "
                            "[N, T, d], padded at the end, and their lengths [N]") from error
        raise TaskError(f"{where}: cannot be read ({error})") from error


def _rows(x, source):
    """The sequences of x, each an array or nested lists."""
    if hasattr(x, "to_list"):  # a ragged tensor
        return x.to_list()
    if np.ma.isMaskedArray(x):
        return x.astype(float).filled(np.nan)
    rows = x if isinstance(x, (list, tuple)) else np.asarray(x)
    if not isinstance(rows, (list, tuple)) and not rows.ndim:
        raise TaskError(f"{source}: is a {type(x).__name__}; it must be an array [N, T, d] or [N, T], or a "
                        "list of N arrays [T_n, d] or [T_n]")
    return rows


def _steps(row, where):
    try:
        row = np.asarray(row.numpy() if hasattr(row, "numpy") else row)
    except ValueError as error:  # lists of different lengths
        raise TaskError(f"{where}: has steps of different widths; a sequence is an array [T, d] or "
                        "[T]") from error
    if row.dtype == object and not any(isinstance(cell, (str, bytes)) for cell in row.flat):
        with contextlib.suppress(TypeError, ValueError):
            row = row.astype(float)  # None is missing
    if row.ndim == 0 or row.ndim > 2 or row.dtype == object:
        raise TaskError(f"{where}: has shape {list(row.shape)}{' of objects' * (row.dtype == object)}; a "
                        "sequence is an array [T, d] or [T]")
    if row.dtype.kind not in "biufSU":
        raise TaskError(f"{where}: holds {row.dtype}; give numbers, or texts for categories")
    row = row.astype(str) if row.dtype.kind == "S" else row
    return row.reshape(len(row), -1) if row.size else row.reshape(0, row.shape[1] if row.ndim == 2 else 1)


def _lengths(rows, padded, lengths, source):
    """The steps of each sequence, and a note on those that are none."""
    if lengths is None:
        held = [np.flatnonzero((row == row).any(1)) if row.dtype.kind == "f" else np.arange(len(row))
                for row in rows]
        found = np.array([last[-1] + 1 if len(last) else 0 for last in held], np.int64)
        cut = np.flatnonzero(found < padded)
        notes = (f"{len(cut)} of {len(rows)} sequences end with NaN alone, which is taken as padding",)
        return found, notes if len(cut) else ()
    lengths = np.asarray(lengths)
    if lengths.shape != (len(rows),) or lengths.dtype.kind not in "iu":
        raise TaskError(f"{source}: lengths have shape {list(lengths.shape)} of {lengths.dtype}; they must "
                        f"be whole numbers [{len(rows)}]")
    if (wrong := np.flatnonzero((lengths < 0) | (lengths > padded))).size:
        n = wrong[0]
        raise TaskError(f"{source}: lengths[{n}] is {lengths[n]}; {source}[{n}] has {padded[n]} steps")
    return lengths.astype(np.int64), ()


def _numbers(steps, names, categories):
    """Float64 steps, and their channels; `categories` and texts are numbered."""
    if unknown := set(categories) - set(names):
        raise TaskError(f"--categories={','.join(sorted(unknown))}: no such channel; there is "
                        f"{','.join(names)}")
    found, kinds = np.empty(steps.shape), []
    for c, name in enumerate(names):
        values, known = steps[:, c], None
        if steps.dtype.kind == "U" or name in categories:
            here = values != "" if steps.dtype.kind == "U" else values == values
            known, places = np.unique(values[here], return_inverse=True)
            values = np.full(len(steps), np.nan)
            values[here] = places
            known = tuple(map(written, known.tolist()))
        found[:, c] = values
        kinds.append(Channel(name, known))
    return found, tuple(kinds)


def _finite(steps, lengths, names, source):
    if (wrong := np.argwhere(excessive(steps))).size:
        place, c = wrong[0]
        n = int(np.searchsorted(np.cumsum(lengths), place, "right"))
        raise TaskError(f"{source}[{n}]: step {place - lengths[:n].sum()} of channel {names[c]} is "
                        f"{excess(steps[place, c])}; NaN stands for a missing value")


def _target(y, padded, lengths, per_step, source):
    """Raw cells, and whether they are of each step."""
    y = y.to_list() if hasattr(y, "to_list") else y
    y = y if isinstance(y, (list, tuple)) else np.atleast_1d(y)
    if len(y) != len(padded):
        raise TaskError(f"{source}: has {len(padded)} sequences and y {len(y)} targets; it must have as many")
    nested = isinstance(y, (list, tuple)) and any(np.ndim(row) for row in y)
    rows = [np.asarray(row) for row in y] if nested else list(np.asarray(y))
    fit = all(np.ndim(row) in (1, 2) and len(row) == n for row, n in zip(rows, padded, strict=True))
    if per_step and not fit:
        raise TaskError(f"{source}: y is not of each step; it must be [N, T] or [N, T, k]")
    per_step = fit and (np.ndim(rows[0]) > 1 or padded.max() > 1) if per_step is None else per_step
    if per_step:
        rows = [row[:n, None] if row.ndim == 1 else row[:n] for row, n in zip(rows, lengths, strict=True)]
        return _cells(np.concatenate(rows)), True
    if len({np.shape(row) for row in rows}) > 1 or np.ndim(rows[0]) > 1:
        raise TaskError(f"{source}: y must be [N] or [N, k]; at each step it must be as long as x")
    return _cells(np.reshape(rows, [len(rows), -1])), False


def _cells(values):
    if values.dtype.kind in "cmMV":
        raise TaskError(f"y: holds {values.dtype}; give numbers, or texts for classes")
    if values.dtype.kind in "biuf":
        return values.astype(float).astype(object)
    cells = [cell.decode() if isinstance(cell, bytes) else float(cell) if isinstance(cell, numbers.Real)
             else cell if cell is None else str(cell) for cell in values.ravel().tolist()]
    return np.array(cells, object).reshape(values.shape)
