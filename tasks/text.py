"""Documents to classify, by their words or characters."""

import collections
import os
import socket
import zipfile
from typing import Annotated, Literal, NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging

from santm_tf.keras import keras
from santm_tf.tasks import imdb, sources, stored, vocabulary
from santm_tf.tasks.archive import TEST, TRAIN, Archive, digest, report, split
from santm_tf.tasks.reading import encoding
from santm_tf.tasks.task import Task, TaskError, classification
from santm_tf.tasks.tokens import TextFront, tokens

URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/imdb.npz"
SHA256 = "69664113be75683a8fe16e3ed0ab59fda8886cb3cd7ada244f7d9544e4676b9f"
LABEL = "label"  # a header's usual name of it


class Document(NamedTuple):
    """One document as its source has it."""

    where: str  # its name in an error: its file, or its file and line
    label: str  # its class's name
    content: bytes | np.ndarray  # UTF-8, or the int32 numbers of its words
    test: bool = False  # whether it is of a test split that the source has


def load(batch_size, seed, data_dir: str | None = None, level: Literal["word", "char"] = "word",
         max_length: int = 400, vocabulary_size: Annotated[int, "[2, inf)"] = 10_000):
    """The class of a document, from its first `max_length` tokens.

    x is int32 `[B, T]`, T being `max_length` or the longest document if that is shorter, and y int32
    `[B]`, the class's place in the order of the classes' names. `tokens.tokens` says what a word is.
    Characters stay as they are. Ids come from the training split:
    0 is padding, 1 an unknown token, the rest are the most frequent ones.

    `archive.split` gives a tenth of each class to validation and a tenth to the test. Where the source has
    a test split (IMDB, test.csv), it gives a tenth of the training documents to validation. Documents
    without a token are left out. Text is UTF-8 or UTF-16. Bytes that are not are read as U+FFFD. A warning
    counts both.

    Args:
      data_dir: a folder or zip with one folder per class, such as NLTK's movie_reviews; a CSV file of
        label,text, with or without a header (further columns are text, too), or with the label last;
        commas, semicolons or tabs separate; a folder with
        train.csv and test.csv; imdb.npz, or its folder. Without it Keras downloads imdb.npz, or
        finds it in ~/.keras/datasets. Its pickles are read as lists of numbers alone, and run no code.
      level: what a token is, a word or a character.
      max_length: tokens read of a document.
      vocabulary_size: ids at most, the unknown one counted.

    Raises:
      TaskError: a source that is missing or damaged, or a class without examples.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
    ...     file.writelines(f"{'ham' if n % 2 else 'spam'},Mail {n}\\n" for n in range(40))
    ...     file.flush()
    ...     task = load(batch_size=4, seed=0, data_dir=file.name)
    >>> task.train.element_spec[0], task.outputs
    (TensorSpec(shape=(4, 2), dtype=tf.int32, name=None), 2)
    """
    found, rows, numbers = _tokenised(_documents(data_dir), level, max_length)
    classes, y, parts = _labelled(found, data_dir)
    lengths, flat = np.array(list(map(len, rows))), np.concatenate(rows)
    counts = np.bincount(flat[np.repeat(parts, lengths) == TRAIN], minlength=flat.max() + 1)
    table, steps = vocabulary.ids(counts, vocabulary_size), int(lengths.max())
    with tf.device("CPU:0"):  # where tf.data runs
        rows, y_of = tf.RaggedTensor.from_row_lengths(table[flat], lengths), tf.constant(y)

    def batch(index):
        x = tf.gather(rows, index).to_tensor(vocabulary.PADDING, shape=[None, steps])
        return tf.ensure_shape(x, [index.shape[0], steps]), tf.gather(y_of, index)

    def lexicon():
        return vocabulary.lexicon(
            lambda text: tokens(encoding.decoded(text, "the text")[0], level, max_length), numbers, table)

    tested = np.bincount(y[parts == TEST])
    data = stored.splits("text", lambda key: batch, *(np.flatnonzero(parts == part) for part in range(3)),
                         seed=seed, batch_size=batch_size, noun="documents")
    guess = float(tested.max() / tested.sum())
    return Task(name="text", **data, padding=vocabulary.PADDING, vocabulary=vocabulary.width(table),
                classes=classes, lexicon=lexicon if numbers else None,
                front=_front(numbers, table, level, max_length) if numbers else None,
                **classification(len(classes), chance=guess, monitor="val_accuracy"))


def _front(numbers, table, level, max_length):
    known = {token: int(table[n]) for token, n in numbers.items() if table[n] != vocabulary.UNKNOWN}
    return TextFront(known, level, max_length)


def _labelled(found, data_dir):
    """The classes' names, and of each document its class and its split."""
    where, labels, digests, test = zip(*found, strict=True)
    own = np.array(test)
    classes = {label: n for n, label in enumerate(sorted(set(np.array(labels)[~own].tolist())))}
    for name, label in zip(where, labels, strict=True):
        if label not in classes:
            raise TaskError(f"{name}: label {label} is on no training document")
    if len(classes) < 2:
        raise TaskError(f"--data_dir={data_dir}: all documents are of class {labels[0]}, two are needed")
    y = np.array([classes[label] for label in labels], np.int32)
    parts = np.full(len(y), TEST)
    parts[~own] = split(y[~own], np.array(digests, np.uint64)[~own], classes, test=not own.any())
    return list(classes), y, parts


def _tokenised(documents, level, max_length):
    """Of each document that has a token `(where, label, digest, test)`, and its tokens' numbers.

    Third comes `{token: number}`, empty where the source has numbers alone.
    """
    numbers, found, rows, mended, empty, labels = vocabulary.numbering(), [], [], [], [], []
    for where, label, content, test in documents:
        labels.append(label)
        if isinstance(content, bytes):
            text, exact = encoding.decoded(content, where)
            if not exact:
                mended.append(where)
            row = vocabulary.numbered(tokens(text, level, max_length), numbers)
        elif level == "char":
            raise TaskError("--level=char: imdb.npz holds words only, use --level=word")
        else:
            row, content = content[:max_length], content.tobytes()
        if not len(row):
            empty.append(where)
            continue
        found.append((where, label, digest(content), test))
        rows.append(row)
    report(mended, len(labels), "documents", "have bytes that are not UTF-8 (read as U+FFFD)")
    report(empty, len(labels), "documents", "have no token and are left out")
    if not labels:
        raise TaskError("--data_dir: there is no document in it")
    if lost := sorted(set(labels) - {label for _, label, *_ in found}):
        raise TaskError(f"--data_dir: class {lost[0]} has no example with a token")
    return found, rows, numbers


def _documents(data_dir):
    if data_dir is None:
        return _imdb(_downloaded())
    in_folder = {name: os.path.join(data_dir, name) for name in ("imdb.npz", "train.csv", "test.csv")}
    for path in filter(os.path.exists, in_folder.values()):
        sources.check_below(data_dir, path)
    if data_dir.endswith(".npz") or os.path.isfile(in_folder["imdb.npz"]):
        return _imdb(data_dir if data_dir.endswith(".npz") else in_folder["imdb.npz"])
    if os.path.isfile(in_folder["train.csv"]) and os.path.isfile(in_folder["test.csv"]):
        return [*_rows(in_folder["train.csv"], False), *_rows(in_folder["test.csv"], True)]
    if os.path.isfile(data_dir) and not zipfile.is_zipfile(data_dir):
        return _rows(data_dir)
    archive = Archive(data_dir)
    return (Document(f"{data_dir}:{name}", label, archive.read(name))
            for label, names in archive.classes().items() for name in names)


def _rows(path, test=False):
    content = encoding.file_bytes(path)
    name = encoding.codec(content, path)
    text = content.decode(name, "surrogateescape" if name.startswith("utf-8") else "replace")
    found = list(encoding.rows(text, encoding.separator(text, ragged=True), path))
    for line, cells in found:
        if len(cells) < 2:
            raise TaskError(f"{path}, line {line}: no label; every row is label,text")
    last = _label_is_last([cells for _, cells in found])
    labels = [cells[-1 if last else 0].strip() for _, cells in found]
    if _has_header(labels):
        (_, header), *found = found
        label, *labels = labels
        if label.lower() != LABEL or last:
            logging.warning("%s: line 1 is a header, and %s the label", path, label)
    elif last:
        logging.warning("%s: the last cell of a row is its label", path)
    for (line, cells), label in zip(found, labels, strict=True):
        where = f"{path}, line {line}"
        if not label:
            raise TaskError(f"{where}: no label; every row is label,text")
        if any("\ud800" <= character <= "\udfff" for character in label):  # a byte that was no UTF-8
            raise TaskError(f"{where}: the label {label.encode('utf-8', 'surrogateescape')} is not UTF-8; "
                            "save the file as UTF-8, for instance with iconv -f LATIN1 -t UTF-8")
        body = " ".join(cells[:-1] if last else cells[1:])
        yield Document(where, label, body.encode("utf-8", "surrogateescape"), test)


def _label_is_last(rows):
    """Whether the last cells, and not the first ones, are few different ones, which many rows share."""
    first, last = (len({row[end] for row in rows}) for end in (0, -1))
    return len({len(row) for row in rows}) == 1 and 2 * last <= len(rows) < 2 * first


def _has_header(labels):
    """Whether the first label names the others: it is `label`, or the only one that stands once."""
    first, *others = labels
    counts = collections.Counter(others)
    alone = bool(first and others) and first not in counts and min(counts.values()) > 1
    return first.lower() == LABEL or alone


def _imdb(path):
    return [Document(f"{path}, x_{part}[{n}]", str(label), review, part == "test")
            for part, (x, y) in imdb.load(path, URL).items()
            for n, (review, label) in enumerate(zip(x, y, strict=True))]


def _downloaded():
    """The path of Keras' imdb.npz, which is fetched once."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(20)
    try:
        return keras.utils.get_file("imdb.npz", URL, file_hash=SHA256)
    except Exception as error:  # Keras raises a bare Exception
        raise TaskError(f"--task=text: imdb.npz could not be downloaded; get it from {URL} and give its "
                        "folder as --data_dir, or other documents") from error
    finally:
        socket.setdefaulttimeout(before)
