"""What is read of a user's data: ordinary files, and so much of them, counted as they are read or unpacked.

Text8, enwik8 and shards are read from the disk piece by piece, and do not count.
"""

import contextlib
import contextvars
import math
import os
import stat
import tokenize
import zipfile

import numpy as np

from santm_tf.paths import open_file
from santm_tf.tasks.errors import TaskError

GB = 10**9  # bytes
MOST = 4.0  # GB that are read where nothing else is said
PIECE = 2**20  # bytes unpacked at a time
_counted = contextvars.ContextVar("counted", default=None)


class Count:
    """The bytes read so far of `most`."""

    def __init__(self, most):
        self.most, self.read = most, 0

    @property
    def left(self):
        return self.most - self.read


@contextlib.contextmanager
def at_most(gb=None):
    """Within it so many GB of data are read at most, all files together; None: as around it, or `MOST`."""
    if gb is None and _counted.get():
        yield
        return
    token = _counted.set(Count((gb or MOST) * GB))
    try:
        yield
    finally:
        _counted.reset(token)


def count(size, where):
    """Counts bytes that are about to be read, or were.

    Raises:
      TaskError: with them there are too many; `where` names what holds them.

    >>> with at_most(gb=1e-6):
    ...     count(1001, "a.csv")
    Traceback (most recent call last):
        ...
    santm_tf.tasks.errors.TaskError: a.csv: with it there are more than --max_data_gb=1e-06 of data; give \
less, or a higher limit if there is the memory
    """
    found = _there()
    if size > found.left:
        raise TaskError(f"{where}: with it there are more than --max_data_gb={found.most / GB:g} of data; "
                        "give less, or a higher limit if there is the memory")
    found.read += size


def check(path, flag="data_dir"):
    """Refuses what a flag names where it is neither a file nor a folder; what is not there passes."""
    if path is not None and os.path.exists(path):
        mode = os.stat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise TaskError(f"--{flag}={path}: is a device or a pipe; name a file or a folder")


def content(path):
    """The bytes of a file.

    Raises:
      OSError: it cannot be read. TaskError: it is too large.
    """
    with open_file(path) as file:
        count(os.fstat(file.fileno()).st_size, path)
        return file.read()


def unpacked(archive, name, where):
    """The bytes of a file in a `ZipFile`, counted as they come out.

    Raises:
      TaskError: too many come out. The others are those of `ZipFile`.
    """
    pieces = []
    if (said := archive.getinfo(name).file_size) > _there().left:  # at once, if the header is honest
        count(said, where)
    with archive.open(name) as file:
        while piece := file.read(PIECE):
            count(len(piece), where)
            pieces.append(piece)
    return b"".join(pieces)


def files_below(folder):
    """The files and folders below a folder, by their paths with slashes; folders end with one.

    Raises:
      TaskError: what `check_below` refuses, or a folder that cannot be read.
    """
    found = []
    for place, folders, files in os.walk(folder, onerror=_refuse):
        for name in (*folders, *files):
            path = os.path.join(place, name)
            if name.startswith("."):
                continue
            check_below(folder, path)
            found.append(os.path.relpath(path, folder).replace(os.sep, "/") + "/" * os.path.isdir(path))
        folders[:] = [name for name in folders if not name.startswith(".")]
    return found


def check_below(folder, path):
    """Refuses a path in a folder that is a link to a folder, or out of this one, or no file."""
    if os.path.islink(path):
        root, target = os.path.realpath(folder), os.path.realpath(path)
        if os.path.commonpath([root, target]) != root or not os.path.isfile(target):
            raise TaskError(f"{path}: is a link to {target}; put what it names in its place, or name that as "
                            "the data")
    elif not os.path.isdir(path) and not os.path.isfile(path):
        raise TaskError(f"{path}: is a device or a pipe; take it away")


def _there():
    return _counted.get() or Count(MOST * GB)


def _refuse(error):
    raise TaskError(f"{error.filename}: {error.strerror}") from error


def refuse_link(member, where):
    """Refuses a link in a zip, a `ZipInfo`: its content is a path and no data."""
    if stat.S_ISLNK(member.external_attr >> 16):
        raise TaskError(f"{where}: {member.filename} is a link; make the zip anew with the file in its place")


def array(file, where):
    """The array of an open .npy file, counted by its header, before there is memory for it.

    Raises:
      TaskError: it is too large. ValueError: it is none, or one of objects.
    """
    npy = np.lib.format
    header = npy.read_array_header_1_0 if npy.read_magic(file) == (1, 0) else npy.read_array_header_2_0
    try:
        shape, _, kind = header(file)
    except (tokenize.TokenError, SyntaxError, TypeError, OverflowError, RecursionError, MemoryError) as error:
        raise ValueError("its header is damaged") from error  # which NumPy reads as an expression of Python
    count(kind.itemsize * math.prod(map(abs, shape)), where)
    file.seek(0)
    return npy.read_array(file, allow_pickle=False)


def arrays(path, names):
    """The arrays of a .npz file that have these names, `{name: array}`."""
    with open_file(path) as whole, zipfile.ZipFile(whole) as archive:
        there = [name for name in names if f"{name}.npy" in archive.namelist()]
        found = {}
        for name in there:
            with archive.open(f"{name}.npy") as file:
                found[name] = array(file, f"{path}: {name}")
        return found
