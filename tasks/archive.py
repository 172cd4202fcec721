"""Files by class, from a folder or a zip, and the fixed split of what is in them."""

import hashlib
import os
import posixpath
import zipfile
import zlib
from pathlib import PurePosixPath

import numpy as np
from absl import logging

from santm_tf.tasks import sources
from santm_tf.tasks.errors import TaskError

TRAIN, VALIDATION, TEST = range(3)
SPLIT_NAMES = {"train", "training", "valid", "validation", "val", "dev", "test"}


class Archive:
    """The files of a folder or of a zip, by their paths below it.

    Hidden files, and the `__MACOSX` that a Mac adds to a zip, are no part of it.

    Args:
      path: the folder or the zip, as `--data_dir` names it.

    Attributes:
      names, folders: paths of the files and of the folders, with slashes, in order.

    Raises:
      TaskError: there is no such folder or zip, the zip is damaged, or a path or a link in it leads out.

    >>> archive = Archive(os.path.dirname(__file__))
    >>> "archive.py" in archive.names, archive.read("archive.py")[:3]
    (True, b'\"\"\"')
    """

    def __init__(self, path):
        self.path, self._zip = str(path), None
        if os.path.isdir(path):
            entries = sources.files_below(path)
        elif zipfile.is_zipfile(path):
            try:
                self._zip = zipfile.ZipFile(path)
            except (OSError, NotImplementedError, UnicodeDecodeError, zipfile.BadZipFile) as error:
                raise TaskError(f"--data_dir={path}: damaged zip ({error})") from error
            entries = self._zip.namelist()
            for member in self._zip.infolist():
                _refuse_climbing(member.filename, self.path)
                sources.refuse_link(member, self.path)
        else:
            raise TaskError(f"--data_dir={path}: no such folder or zip")
        entries = sorted(name for name in set(entries) if name.strip("/") and not _hidden(name))
        self.names = [name for name in entries if not name.endswith("/")]
        parents = {posixpath.dirname(name) for name in self.names} - {""}
        self.folders = sorted(parents | {name.rstrip("/") for name in entries if name.endswith("/")})

    def read(self, name):
        """The bytes of a file."""
        try:
            if self._zip:
                return sources.unpacked(self._zip, name, f"{self.path}: {name}")
            return sources.content(os.path.join(self.path, name))
        except (OSError, RuntimeError, NotImplementedError, zlib.error, zipfile.BadZipFile) as error:
            raise TaskError(f"{self.path}: {name} cannot be read ({error})") from error

    def hint(self):
        """The end of an error: the zips in it, since the user may have meant one of them."""
        zips = ", ".join(name for name in self.names if name.lower().endswith(".zip"))
        return f"; name the zip itself if you mean one of {zips}" if zips else ""

    def classes(self, suffix=""):
        """Files by class: the name of the first folder below the one that holds everything.

        Files beside the classes' folders, such as a README, are left out, and a warning counts them.

        Args:
          suffix: of the files wanted, in small letters; others are left out.

        Returns:
          `{class: [path, ...]}`, both in order.

        Raises:
          TaskError: a folder without files, fewer than two classes, or folders named after splits.
        """
        names = [name for name in self.names if name.lower().endswith(suffix)]
        above = [posixpath.dirname(name) for name in names] + self.folders
        root = posixpath.commonpath(above) if above and all(above) else ""
        skip = len(PurePosixPath(root).parts)
        below = {name: PurePosixPath(name).parts[skip:] for name in names}
        kinds = {PurePosixPath(name).parts[skip] for name in self.folders if name != root}
        classes = {kind: [] for kind in sorted(kinds)}
        for name, parts in below.items():
            if len(parts) > 1:
                classes[parts[0]].append(name)
        if len(classes) < 2:
            raise TaskError(f"--data_dir={self.path}: needs at least two folders, one per class, and has "
                            f"{', '.join(classes) or 'none'}{self.hint()}")
        if {kind.lower() for kind in classes} <= SPLIT_NAMES:
            raise TaskError(f"--data_dir={self.path}: its folders {', '.join(classes)} look like splits, "
                            "not classes; name one of them, the task splits it")
        for kind, files in classes.items():
            if not files:
                raise TaskError(f"--data_dir={self.path}: class {kind} has no example (no "
                                f"{suffix or 'file'} in {posixpath.join(root, kind)})")
            printable(kind, self.path)
        used = set().union(*classes.values())
        report([name for name in self.names if name not in used], len(self.names), "files",
               "are no examples of a class and left out")
        return classes


def report(odd, total, noun, what):
    """Counts what is skipped or mended in one line on standard error, if there is any."""
    if odd:
        logging.warning("%d of %d %s %s, the first is %s", len(odd), total, noun, what, odd[0])


def printable(name, where):
    """The name of a class.

    Raises:
      TaskError: it has bytes that are not UTF-8, as names of files may, and cannot be printed.
    """
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise TaskError(f"{where}: the class name {os.fsencode(name)} is not UTF-8; rename it, for instance "
                        "with convmv -f LATIN1 -t UTF-8") from error
    return name


def digest(content):
    """A number that depends on the bytes alone."""
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big")


def split(labels, digests, names, *, test=True):
    """The fixed split: a tenth of each class for validation, a tenth for the test, the rest to train.

    They are the first tenths in the order of the contents' SHA-256. So neither names nor the order of
    reading matter, and equal examples are on the same side.

    Args:
      labels: of each example, ints `[n]`, every class at least once. digests: of each example, `[n]`.
      names: of the classes, for errors. test: False where the data has a test split of its own.

    Returns:
      `TRAIN`, `VALIDATION` or `TEST` for each example, `[n]`.

    Raises:
      TaskError: a class with too few examples.

    >>> np.bincount(split(np.repeat([0, 1], 20), np.arange(40), names=["ham", "spam"])).tolist()
    [32, 4, 4]
    """
    labels, digests = np.asarray(labels), np.asarray(digests, np.uint64)
    parts = np.full(len(labels), TRAIN)
    for label, name in enumerate(names):
        mine = np.flatnonzero(labels == label)
        unique = np.unique(digests[mine])
        if len(unique) < (least := 3 if test else 2):
            raise TaskError(f"--data_dir: class {name} has too few examples, {len(unique)} that differ; "
                            f"it takes {least} to have one in each split")
        tenth = max(1, round(len(unique) / 10))
        parts[mine] = ranked(digests[mine], (VALIDATION, tenth), (TEST, test * tenth))
    return parts


def ranked(digests, *shares):
    """The part of each, `[n]`: the lowest are of the first share, the next of the second; the rest train.

    Args:
      digests: uint64 `[n]`; equal ones are of one part.
      *shares: of each a part, and how many different digests it takes.

    >>> ranked([5, 7, 5, 9], (TEST, 1), (VALIDATION, 1)).tolist()
    [2, 1, 2, 0]
    """
    rank = np.unique(digests, return_inverse=True)[1]
    ends = np.cumsum([count for _, count in shares])
    return np.array([*(part for part, _ in shares), TRAIN])[np.searchsorted(ends, rank, "right")]


def _refuse_climbing(name, path):
    parts = name.replace("\\", "/").split("/")
    if ".." in parts or parts[0] == "" or parts[0][1:2] == ":":
        raise TaskError(f"--data_dir={path}: {name} climbs out of the archive; make the zip anew with "
                        "paths below its root")


def _hidden(name):
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))
