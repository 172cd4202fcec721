"""Records in TFRecord files, beside an index by which each is read alone.

Record k of N files is in file k mod N. The index has where it begins, how long it is and its CRC-32, 16 bytes
a record, and is mapped: neither it nor the files need fit in memory.
"""

import concurrent.futures
import os
import weakref
import zlib

import numpy as np
import tensorflow as tf

from santm_tf.tasks.errors import TaskError

INDEX = np.dtype([("start", "<i8"), ("size", "<u4"), ("crc", "<u4")])
BEFORE, BEHIND = 12, 4  # bytes of TFRecord's frame around a record
ANEW = "write the shards anew"


def names(split, shards):
    """The names of a split's files, and of its index.

    >>> names("test", 2)
    (['test-00000-of-00002.tfrecord', 'test-00001-of-00002.tfrecord'], 'test.index')
    """
    return [f"{split}-{n:05d}-of-{shards:05d}.tfrecord" for n in range(shards)], f"{split}.index"


class Writer:
    """Writes records in order, a context manager.

    Args:
      folder, split, shards: where, and how many files.

    Attributes:
      count: records so far. digest: a number that their contents and places decide.
    """

    def __init__(self, folder, split, shards):
        files, index = names(split, shards)
        self._files = [tf.io.TFRecordWriter(os.path.join(folder, name)) for name in files]
        self._index = open(os.path.join(folder, index), "wb")
        self._ends, self.count, self.digest = [0] * shards, 0, 0

    def add(self, record):
        """Adds a record, which is bytes."""
        file = self.count % len(self._files)
        entry = np.array((self._ends[file] + BEFORE, len(record), zlib.crc32(record)), INDEX).tobytes()
        self._files[file].write(record)
        self._index.write(entry)
        self._ends[file] += BEFORE + len(record) + BEHIND
        self.count, self.digest = self.count + 1, zlib.crc32(entry, self.digest)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for file in (*self._files, self._index):
            file.close()


class Reader:
    """Reads records by their numbers; several threads may.

    Args:
      folder, split, shards: as they were written. count: how many records there are.
      readers: how many of them are read side by side.

    Raises:
      TaskError: a file that is missing, or not as long as the index says.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with Writer(folder, "train", 2) as writer:
    ...         for record in b"a", b"bb", b"ccc":
    ...             writer.add(record)
    ...     print(Reader(folder, "train", 2, 3)(np.array([2, 0])).tolist())
    [b'ccc', b'a']
    """

    def __init__(self, folder, split, shards, count, readers=1):
        files, index = names(split, shards)
        self._paths = [os.path.join(folder, name) for name in files]
        path = os.path.join(folder, index)
        _check(path, count * INDEX.itemsize)
        self._index = np.memmap(path, INDEX, "r") if count else np.zeros(0, INDEX)
        for n, path in enumerate(self._paths):
            last = self._index[n::shards][-1:]
            _check(path, int((last["start"] + last["size"]).sum()) + BEHIND * len(last))
        self._files = [os.open(path, os.O_RDONLY) for path in self._paths]
        weakref.finalize(self, _close, self._files)
        self._readers, self._threads = readers, concurrent.futures.ThreadPoolExecutor(readers)

    def __call__(self, numbers):
        """The records of these numbers, object `[n]`."""
        shares = [numbers[n::self._readers] for n in range(min(self._readers, len(numbers)))]
        found = np.empty(len(numbers), object)
        for n, records in enumerate(self._threads.map(self._some, shares)):
            found[n::self._readers] = records
        return found

    def _some(self, numbers):
        return [self._read(number) for number in numbers.tolist()]

    def _read(self, number):
        file, (start, size, crc) = number % len(self._files), self._index[number].tolist()
        record = os.pread(self._files[file], size, start) if start >= 0 else b""
        if len(record) != size or zlib.crc32(record) != crc:
            raise TaskError(f"{self._paths[file]}: record {number // len(self._files)} is damaged; {ANEW}")
        return record


def _check(path, size):
    if not os.path.isfile(path):
        raise TaskError(f"{path}: no such file; {ANEW}")
    if (found := os.path.getsize(path)) != size:
        raise TaskError(f"{path}: has {found:,} bytes, {size:,} were written; {ANEW}")


def _close(files):
    for file in files:
        os.close(file)
