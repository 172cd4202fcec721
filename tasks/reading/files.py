"""Which files of a folder are read, and as which part."""

import os
import re
from typing import NamedTuple

from santm_tf.tasks import sources
from santm_tf.tasks.archive import TEST, TRAIN, VALIDATION
from santm_tf.tasks.errors import TaskError

TABLES = (".tsv", ".txt", ".csv", ".parquet", ".pq", ".tfrecord", ".tfrecords")
READ = (".npz", ".ts", *TABLES)  # of the same data, the first kind is taken
WORDS = {"train": TRAIN, "training": TRAIN, "validation": VALIDATION, "valid": VALIDATION, "val": VALIDATION,
         "dev": VALIDATION, "test": TEST, "testing": TEST}
INSTEAD = {".arff": "give the .ts file of the same set", ".xlsx": "save it as CSV", ".xls": "save it as CSV",
           ".json": "save it as CSV", ".gz": "unpack it", ".zip": "unpack it", ".mat": "save it as .npz",
           ".pkl": "save it as .npz or Parquet", ".npy": "give the folder that has x.npy and y.npy"}


class Found(NamedTuple):
    """A file, and the part that its name says, or None."""

    path: str
    part: int | None


def find(data_dir, validation_data=None, test_data=None):
    """The files to read, and notes on which of them were taken.

    Args:
      data_dir: a file or a folder. validation_data, test_data: files of these parts, or None.

    Raises:
      TaskError: there is no such file, none that is read, or more than one set of them.
    """
    if not os.path.exists(data_dir):
        raise TaskError(f"--data_dir={data_dir}: no such file or folder")
    if os.path.isdir(data_dir):
        files, notes = _of_folder(data_dir)
    else:
        files, notes = [Found(_known(data_dir, "data_dir"), None)], _beside(data_dir)
    named = {"validation_data": (validation_data, VALIDATION), "test_data": (test_data, TEST)}
    for flag, (path, part) in named.items():
        if path is None:
            continue
        if not os.path.isfile(path):
            raise TaskError(f"--{flag}={path}: no such file")
        notes += [f"{each.path}: is not read, --{flag} is in its place"
                  for each in files if each.part == part]
        files = [Found(each.path, each.part or TRAIN) for each in files if each.part != part]
        files.append(Found(_known(path, flag), part))
    return sorted(files, key=lambda each: each.part or 0), notes


def _of_folder(folder):
    names = sorted(name for name in _below(folder) if not os.path.basename(name).startswith("."))
    if any(name.lower().endswith(".npy") for name in names):
        return [Found(folder, None)], []
    known = [name for name in names if ending(name) in READ]
    if not known:
        odd = next((name for name in names if ending(name) in INSTEAD), None)
        hint = f"; {odd} is not read, {INSTEAD[ending(odd)]}" if odd else ""
        below = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
        if below and not odd:
            hint = f"; its folders {_listed(below)} are not read, name one, or call them train and test"
        raise TaskError(f"--data_dir={folder}: has no file of {', '.join(READ)}{hint}")
    sets = {}
    for name in known:
        part, stem = _split(name)
        sets.setdefault((stem, ending(name), part is not None), []).append((name, part))
    split = {key: found for key, found in sets.items() if TRAIN in [part for _, part in found]}
    taken = _of_split(folder, split) if split else _unsplit(folder, sets)
    taken.sort(key=lambda each: each[1] or 0)
    others = [name for name in names if name not in [name for name, _ in taken]]
    notes = [f"{folder}: reads {_listed([name for name, _ in taken])}"
             + (f", and not {_listed(others)}" if others else "")] if len(names) > 1 else []
    return [Found(os.path.join(folder, name), part) for name, part in taken], notes


def _of_split(folder, sets):
    """The files of the set that the folder is called after, or else of the only one."""
    own = os.path.basename(os.path.abspath(folder)).lower()
    stems = {stem for stem, *_ in sets}
    if len(stems) > 1 and own not in stems:
        raise TaskError(f"--data_dir={folder}: has several sets, {', '.join(sorted(stems))}; put one in a "
                        "folder of its own")
    stem = own if own in stems else stems.pop()
    of_stem = [key for key in sets if key[0] == stem]
    best = min(of_stem, key=lambda key: (-len({part for _, part in sets[key]}), READ.index(key[1])))
    return sets[best]


def _unsplit(folder, sets):
    """All tables of one kind, or the only file."""
    endings = {ending for _, ending, _ in sets}
    ending = min(endings, key=READ.index)
    names = sorted(name for (_, of, _), found in sets.items() if of == ending for name, _ in found)
    if len(names) > 1 and ending not in TABLES:
        raise TaskError(f"--data_dir={folder}: has {_listed(names)}; name one of them, or call them train "
                        "and test")
    return [(name, None) for name in names]


def _below(folder):
    """The files of a folder, and those of its folders train, validation and test."""
    for entry in os.scandir(folder):
        if ending(entry.name) in (*READ, ".npy") or entry.name.lower() in WORDS:
            sources.check_below(folder, entry.path)
        if entry.is_file():
            yield entry.name
        elif entry.is_dir() and entry.name.lower() in WORDS:
            names = [os.path.join(entry.name, name) for name in os.listdir(entry.path)]
            for name in (name for name in names if ending(name) in READ):
                sources.check_below(folder, os.path.join(folder, name))
            yield from (name for name in names if os.path.isfile(os.path.join(folder, name)))


def _split(name):
    """The part that a file's name says, or None; and the rest of the name, in small letters.

    >>> _split("ArrowHead_TRAIN.ts"), _split("train/part-00001.parquet"), _split("contest.csv")
    ((0, 'arrowhead'), (0, ''), (None, 'contest'))
    """
    folder, file = os.path.split(name)
    stem, ending = os.path.splitext(file.lower())
    if folder.lower() in WORDS:
        return WORDS[folder.lower()], "" if ending in TABLES else stem
    said = [word for word in re.findall(r"[a-z]+", stem) if word in WORDS]
    if len(said) != 1:
        return None, stem
    rest = re.sub(rf"(?<![a-z]){said[0]}(?![a-z])", "", stem)
    return WORDS[said[0]], re.sub(r"([-_. ]+(of|\d+))+$", "", rest).strip("-_. ")


def _known(path, flag):
    if ending(path) not in READ:
        odd = ending(path) or "a file without an ending"
        instead = INSTEAD.get(odd, f"give a file of {', '.join(READ)}")
        raise TaskError(f"--{flag}={path}: {odd} is not read; {instead}")
    return path


def _beside(path):
    """A note on the test file beside a training file that is named alone."""
    folder, name = os.path.split(path)
    part, stem = _split(name)
    others = [other for other in sorted(os.listdir(folder or ".")) if ending(other) == ending(name)]
    others = [other for other in others if _split(other)[0] not in (None, part) and _split(other)[1] == stem]
    if part is None or not others:
        return []
    return [f"{path}: {_listed(others)} beside it is not read; name the folder to read both"]


def ending(name):
    """A name's ending in small letters, less the number of a shard.

    >>> ending("train.TFRecord-00000-of-00010")
    '.tfrecord'
    """
    return os.path.splitext(re.sub(r"-\d+-of-\d+$", "", name))[1].lower()


def _listed(names):
    names = list(names)
    return ", ".join(names if len(names) <= 6 else [*names[:6], f"and {len(names) - 6} more"])
