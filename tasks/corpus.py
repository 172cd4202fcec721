"""Texts of any size as streams of tokens that stay on the disk."""

import codecs
import hashlib
import os
import re
import shutil
import tempfile
import zipfile
from typing import NamedTuple

import numpy as np

from santm_tf.paths import open_file
from santm_tf.tasks import sources, vocabulary
from santm_tf.tasks.errors import TaskError
from santm_tf.tasks.reading import encoding

SPLITS = ("train", "valid", "test")
PIECE = 1 << 20  # bytes read at a time
SPACES = (b" ", b"\n", b"\t")
UNK, EOS = b"<unk>", b"<eos>"
FORMAT = 1  # of the cache; another number makes it anew


class Part(NamedTuple):
    """One split: bytes `first` to `last` of a text file."""

    path: str
    first: int
    last: int


class Stream(NamedTuple):
    """The tokens of one split."""

    path: str  # a file of numbers
    dtype: type  # of a number
    first: int  # bytes before the first one
    length: int  # how many
    table: np.ndarray  # from numbers to ids

    def read(self, index):
        """The ids at places `index`, int32 of its shape; beyond the end, the last one.

        The file is mapped anew each time: pages once read would count as the process's memory.
        """
        numbers = np.memmap(self.path, self.dtype, "r", self.first, (self.length,))
        return self.table[numbers[np.minimum(index, self.length - 1)]]


def parts(data_dir, at_words):
    """The training, validation and test `Part` of a text.

    Args:
      data_dir: see `language.load_words`; or a folder of a single file.
      at_words: cut at white space only, after the byte where the share ends.

    Raises:
      TaskError: no such files, or an empty or packed one.
    """
    files = [data_dir]
    if os.path.isdir(data_dir):
        names = sorted(name for name in os.listdir(data_dir) if not name.startswith("."))
        for name in names:
            sources.check_below(data_dir, os.path.join(data_dir, name))
        files = [path for name in names if os.path.isfile(path := os.path.join(data_dir, name))]
        found = [[path for path in files if re.search(f"(?<![a-z]){split}", os.path.basename(path).lower())]
                 for split in SPLITS]
        if all(len(paths) == 1 for paths in found):
            return [_whole(path) for path, in found]
        if len(files) != 1 or any(found):
            has = ", ".join(map(os.path.basename, files)) or "no file"
            raise TaskError(f"--data_dir={data_dir}: needs one text file, or three with train, valid and "
                            f"test in their names, and has {has}")
    path, = files
    _, first, size = _whole(path)
    cuts = [first, *(first + (size - first) * share // 100 for share in (90, 95)), size]
    if at_words:
        cuts[1:3] = (_after_space(path, cut) for cut in cuts[1:3])
    return [Part(path, first, last) for first, last in zip(cuts, cuts[1:], strict=False)]


def words(part):
    """The words of a part, a list for each piece."""
    for piece in pieces(part, at_words=True):
        yield split_words(piece)


def split_words(text):
    """What white space separates, and `<eos>` for the end of a line."""
    return text.replace(b"\n", b" " + EOS + b" ").split()


def pieces(part, at_words=False):
    """The bytes of a part, about `PIECE` at a time, cut at white space if `at_words`."""
    left, rest = part.last - part.first, b""
    with open(part.path, "rb") as file:
        file.seek(part.first)
        while left:
            piece = file.read(min(PIECE, left))
            if not piece:
                raise TaskError(f"{part.path}: got shorter while it was read")
            if b"\0" in piece:
                raise TaskError(f"{part.path}: has bytes of 0, so is no text")
            left -= len(piece)
            piece = rest + piece
            cut = max(map(piece.rfind, SPACES)) + 1 if at_words and left else len(piece)
            piece, rest = piece[:cut], piece[cut:]
            if len(rest) > PIECE:
                raise TaskError(f"{part.path}: over {PIECE} bytes without white space; --task=words needs "
                                "words apart, --task=chars does not")
            yield piece


def numbered_words(text):
    """The words of a text, its three `Part`, as numbers in files of a cache. Number 0 is `<unk>`.

    Returns:
      The paths of three files of int32, and how often each number is in each, int64 `[3, numbers]`.

    Raises:
      TaskError: the text is not one of words, or the cache cannot be written.
    """
    root = _cache()
    folder = os.path.join(root, _key(text))
    files = [os.path.join(folder, name) for name in (*SPLITS, "counts.npy")]
    if not all(map(os.path.isfile, files)):
        shutil.rmtree(folder, ignore_errors=True)
        try:
            made = tempfile.mkdtemp(dir=root)
            try:
                _write_numbers(text, made)
                os.rename(made, folder)
            finally:
                shutil.rmtree(made, ignore_errors=True)
        except OSError as error:
            if not os.path.isdir(folder):  # else another run has made it meanwhile
                raise TaskError(f"{root}: the text's numbers cannot be kept there ({error.strerror}); set "
                                "SANTM_CACHE to another folder") from error
    *streams, counts = files
    return streams, np.load(counts, allow_pickle=False)


def _write_numbers(text, folder):
    numbers = vocabulary.numbering([UNK])
    for part, split in zip(text, SPLITS, strict=True):
        with open(os.path.join(folder, split), "wb") as file:
            for some in words(part):
                vocabulary.numbered(some, numbers).tofile(file)
    counts = np.zeros([len(SPLITS), len(numbers)], np.int64)
    for row, split in zip(counts, SPLITS, strict=True):
        with open(os.path.join(folder, split), "rb") as file:
            while (found := np.fromfile(file, np.int32, PIECE)).size:
                row += np.bincount(found, minlength=len(numbers))
    np.save(os.path.join(folder, "counts.npy"), counts)


def _key(text):
    """Names the cache of a text: another if a file of it is another, or has been written to."""
    facts = [(os.path.abspath(part.path), os.stat(part.path).st_mtime_ns, os.path.getsize(part.path),
              part.first, part.last) for part in text]
    return hashlib.sha256(repr((FORMAT, facts)).encode()).hexdigest()[:20]


def _cache():
    """A folder to keep files in that can be made again."""
    user = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    own = os.environ.get("SANTM_CACHE")
    for folder in [own] if own else [os.path.join(user, "santm_tf"), tempfile.gettempdir()]:
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    raise TaskError(f"SANTM_CACHE={own or folder}: cannot be written; set it to another folder")


def _after_space(path, place):
    with open(path, "rb") as file:
        file.seek(place)
        found = re.search(rb"\s", file.read(PIECE))
    return place + found.end() if found else place


def _whole(path):
    """The `Part` that is all of a text file but its mark."""
    try:
        with open_file(path) as file:
            head = file.read(PIECE)
            packed = head.startswith(b"\x1f\x8b") or zipfile.is_zipfile(file)
    except OSError as error:
        raise TaskError(f"--data_dir={path}: {error.strerror}") from error
    if packed:
        raise TaskError(f"--data_dir={path}: is packed; unpack it and name the text file")
    first = len(codecs.BOM_UTF8) * head.startswith(codecs.BOM_UTF8)
    if not head[first:]:
        raise TaskError(f"--data_dir={path}: is empty")
    if not (name := encoding.codec(head, path)).startswith("utf-8"):
        raise TaskError(f"--data_dir={path}: is {name.upper()}; convert it to UTF-8, for instance with "
                        f"iconv -f {name.upper()} -t UTF-8")
    return Part(path, first, os.path.getsize(path))
