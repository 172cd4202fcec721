"""Keras' imdb.npz, reviews as lists of the numbers of their words, read without running code."""

import io
import pickle
import re
import zipfile

import numpy as np

from santm_tf.paths import open_file
from santm_tf.tasks import sources
from santm_tf.tasks.errors import TaskError

MOST = 10_000_000  # numbers of words; every one up to the largest is counted


def load(path, url):
    """The reviews and labels of the training and the test split.

    Reviews of different lengths are an array of lists, which NumPy keeps as a pickle. A pickle may run
    whatever it names. This one may name NumPy's arrays alone, and even these are not called.

    Args:
      path: of the file. url: where the right one is, for errors.

    Returns:
      `{"train": (reviews, labels), "test": ...}`: int32 arrays `[words]`, and an array `[n]`.

    Raises:
      TaskError: another file, or one with something else in it.
    """
    try:
        with open_file(path) as whole, zipfile.ZipFile(whole) as file:
            arrays = {part: (_array(file, f"x_{part}", path), _array(file, f"y_{part}", path))
                      for part in ("train", "test")}
    except TaskError:
        raise
    except Exception as error:  # a damaged pickle may raise any
        said = repr(" ".join(str(error).split()))[1:-1]
        raise TaskError(f"{path}: not the imdb.npz of {url} ({said})") from error
    for part, (x, y) in arrays.items():
        if np.ndim(y) != 1 or len(x) != len(y):
            raise TaskError(f"{path}: x_{part} has {len(x)} reviews and y_{part} is of shape {np.shape(y)}; "
                            "give a label for each")
    return {part: ([_words(review, f"{path}, x_{part}[{n}]") for n, review in enumerate(x)], y)
            for part, (x, y) in arrays.items()}


def _words(review, where):
    values = review.values if isinstance(review, _Array) else review
    if isinstance(values, list):
        sources.count(4 * len(values), where)  # many reviews may be one list
        if not set(map(type, values)) <= {int}:  # of lists of lists NumPy makes an array, however large
            values = None
    try:
        row = np.asarray(values)
    except (TypeError, ValueError, OverflowError):
        row = np.array(None)
    whole = row.ndim == 1 and (row.dtype.kind in "iu" or not row.size)
    if not (whole and np.all((row >= 0) & (row < MOST))):
        raise TaskError(f"{where}: is no list of words' numbers, whole ones from 0 to {MOST - 1}")
    return row.astype(np.int32)


def _array(file, name, path):
    """An array of a npz file; of an array of objects, the list of them."""
    where = f"{path}: {name}"
    with file.open(f"{name}.npy") as member:
        npy = np.lib.format
        header = npy.read_array_header_1_0 if npy.read_magic(member) == (1, 0) else npy.read_array_header_2_0
        if not header(member)[2].hasobject:
            member.seek(0)
            return sources.array(member, where)
    pickled = io.BytesIO(sources.unpacked(file, f"{name}.npy", where))
    npy.read_magic(pickled), header(pickled)
    found = _Unpickler(pickled, encoding="latin1").load()
    if not (isinstance(found, _Array) and isinstance(found.values, list)):
        raise ValueError(f"{name} is no array of lists")
    return found.values


class _Type:
    """Stands for a `numpy.dtype`: of objects, or of whole numbers."""

    def __init__(self, code, *_):
        self.code, self.order = code, "="

    def __setstate__(self, state):
        self.order = {"|": "="}.get(state[1], state[1])


class _Array:
    """Stands for a `numpy.ndarray`: `values` is the list of its objects, or an array of its numbers."""

    def __init__(self, *_):
        self.values = None

    def __setstate__(self, state):
        _, _, kind, _, data = state
        if isinstance(data, list):
            self.values = data
        elif isinstance(data, bytes) and re.fullmatch("[iu][1248]", kind.code):
            self.values = np.frombuffer(data, np.dtype(kind.order + kind.code))
        else:
            raise pickle.UnpicklingError("an array of neither lists nor whole numbers")


class _Unpickler(pickle.Unpickler):
    """Reads arrays and lists, and refuses all else. NumPy's own classes could be misled into any memory."""

    def find_class(self, module, name):
        if module.partition(".")[0] == "numpy" and name in ("_reconstruct", "ndarray"):
            return _Array
        if (module, name) == ("numpy", "dtype"):
            return _Type
        if (module, name) == ("_codecs", "encode"):  # how earlier pickles keep bytes
            return _latin1
        raise pickle.UnpicklingError(f"it names {f'{module}.{name}'!r}, which is no array, and is not read")


def _latin1(text, *_):
    return text.encode("latin1")
