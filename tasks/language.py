"""Language models of words and of characters: contiguous batches, states carried between windows."""

import math
from typing import Annotated

import numpy as np
import tensorflow as tf
from absl import logging

from santm_tf.keras import keras
from santm_tf.tasks import vocabulary
from santm_tf.tasks.corpus import SPLITS, UNK, Stream, numbered_words, parts, pieces, split_words, words
from santm_tf.tasks.share import WHOLE
from santm_tf.tasks.task import Task, TaskError, by_epoch


@keras.saving.register_keras_serializable("tasks")
class Perplexity(keras.metrics.SparseCategoricalCrossentropy):
    """`exp(mean of -log p(token))` over steps, weighted, from logits.

    >>> metric = Perplexity()
    >>> _ = metric.update_state(tf.constant([[3, 1]]), tf.zeros([1, 2, 50]), [[1.0, 0.0]])
    >>> print(f"{float(metric.result()):.3f}")
    50.000
    """

    def __init__(self, name="perplexity", **kwargs):
        super().__init__(name, **{**kwargs, "from_logits": True})

    def result(self):
        return tf.exp(super().result())


@keras.saving.register_keras_serializable("tasks")
class BitsPerCharacter(keras.metrics.SparseCategoricalCrossentropy):
    """`mean of -log2 p(character)` over steps, weighted, from logits.

    >>> metric = BitsPerCharacter()
    >>> _ = metric.update_state(tf.constant([[3, 1]]), tf.zeros([1, 2, 64]))
    >>> print(f"{float(metric.result()):.3f}")
    6.000
    """

    def __init__(self, name="bits_per_character", **kwargs):
        super().__init__(name, **{**kwargs, "from_logits": True})

    def result(self):
        return super().result() / math.log(2)


def load_words(batch_size, seed, data_dir: str | None = None, window: int = 64,
               vocabulary_size: Annotated[int, "[2, inf)"] = 10_000, carry: bool = True, *, share=WHOLE):
    """The next word of a text, as `_task` gives it, by perplexity.

    White space separates words, in any encoding that contains ASCII. The end of a line is the word `<eos>`.
    The `vocabulary_size` most frequent words of the training split are kept. `<unk>` is one of them and
    stands for all others. The first load writes the words' numbers to a cache (`$SANTM_CACHE`,
    `$XDG_CACHE_HOME/santm_tf` or `~/.cache/santm_tf`, else the folder for temporary files), four bytes a
    word. Memory grows with the number of different words, not with the text.

    Args:
      batch_size: tracks that the text is cut into, B.
      seed: decides with the epoch where the training tracks begin.
      data_dir: a text file, or a folder of three whose names have train, valid and test in them.
        Penn Treebank and WikiText come so. A single file is cut into 90, 5 and 5 %, at white space.
      window: steps of a batch, T.
      vocabulary_size: ids at most, `<unk>` counted.
      carry: whether a window begins in the state in which the one before it ended. Not every model can.
      share: which of the tracks are read.

    Raises:
      TaskError: a text that is missing or too short.
    """
    _check("words", data_dir, "Penn Treebank or WikiText, https://huggingface.co/datasets/Salesforce/wikitext")
    text = parts(data_dir, at_words=True)
    files, counts = numbered_words(text)
    table = vocabulary.ids(np.append(0, counts[0, 1:]), vocabulary_size)  # <unk> is not to be kept
    streams = [Stream(path, np.int32, 0, int(row.sum()), table)
               for path, row in zip(files, counts, strict=True)]

    def lexicon():
        numbers = vocabulary.numbering([UNK])
        for some in words(text[0]):  # what only the other splits have is unknown
            vocabulary.numbered(some, numbers)
        return vocabulary.lexicon(split_words, numbers, table)

    return _task("words", streams, counts, batch_size, seed, window, carry, Perplexity(), np.exp, lexicon,
                 share)


def load_chars(batch_size, seed, data_dir: str | None = None, window: int = 128, carry: bool = True, *,
               share=WHOLE):
    """The next character of a text, as `_task` gives it, in bits per character.

    A character is a byte, as is usual for enwik8 and text8. It is read from the text file itself.
    Bytes that the training split does not have are one unknown character. A warning counts them.

    Args:
      data_dir: a text file, or a folder of three whose names have train, valid and test in them. A
        single file is cut into 90, 5 and 5 %, as is usual for enwik8 and text8.

    The others are those of `load_words`, and so is the error.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     n = file.write(b"to be or not to be " * 50); file.flush()
    ...     task = load_chars(batch_size=2, seed=0, data_dir=file.name, window=8)
    ...     x, y = next(iter(task.train))
    >>> x.shape, bool(tf.reduce_all(x[:, 1:] == y[:, :-1])), task.vocabulary
    (TensorShape([2, 8]), True, 9)
    """
    _check("chars", data_dir, "enwik8 or text8, http://mattmahoney.net/dc/textdata.html")
    text = parts(data_dir, at_words=False)
    counts = np.zeros([len(SPLITS), 256], np.int64)
    for part, row in zip(text, counts, strict=True):
        for piece in pieces(part):
            row += np.bincount(np.frombuffer(piece, np.uint8), minlength=256)
    table = vocabulary.ids(counts[0], size=257)
    for part, row in zip(text[1:], counts[1:], strict=True):
        if row[counts[0] == 0].any():
            logging.warning("%d of %d characters of %s are not in the training split and count as one "
                            "unknown character", row[counts[0] == 0].sum(), row.sum(), part.path)
    streams = [Stream(part.path, np.uint8, part.first, part.last - part.first, table) for part in text]
    return _task("chars", streams, counts, batch_size, seed, window, carry, BitsPerCharacter(),
                 lambda nats: nats / math.log(2),
                 lambda: vocabulary.lexicon(_bytes, {byte: n for n, byte in enumerate(_bytes(range(256)))},
                                            table), share)


def _task(name, streams, counts, batch_size, seed, window, carry, metric, score, lexicon, share):
    """A language model's task: x int32 `[B, T]`, and y the same one token later.

    `chance` is the score of the training split's frequencies, each count plus one, without context.
    A uniform guess scores `outputs` in perplexity, log2 of it in bits.
    """
    table = streams[0].table
    width = vocabulary.width(table)
    seen, _, tested = (np.bincount(table, row, width)[vocabulary.UNKNOWN:] for row in counts)
    often = (seen + 1) / (seen + 1).sum()
    chance = {metric.name: float(score(-(tested * np.log(often)).sum() / max(1, tested.sum())))}
    return Task(name=name, **_windows(name, streams, batch_size, seed, window, share), length=window,
                stateful=carry, share=share,
                vocabulary=width, lexicon=lexicon, outputs=width, return_sequences=True, chance=chance,
                loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                weighted_metrics=[metric], monitor=f"val_{metric.name}")


def _windows(name, streams, batch_size, seed, window, share):
    """The fields of `by_epoch`.

    A split is cut into B contiguous tracks. Row i of a batch is a window of track i, and the next
    batch goes on with the next window: the state is carried (`stateful`). Training uses whole windows
    only. Its tracks begin after an offset drawn from the seed and the epoch, at most what whole windows
    leave over. Validation and test score every token but the first exactly once, whatever B and T: y past a
    track's end is padding, of weight 0. Each track begins without a state; in long tracks it matters little.
    Of a share the tracks of its rows alone are read.
    """
    for stream, split in zip(streams, SPLITS, strict=True):
        if stream.length < 2:
            raise TaskError(f"--data_dir: the {split} split has {stream.length} tokens; give a longer text")
    tokens = streams[0].length
    steps = (tokens - window) // (batch_size * window)  # so that offsets reach all places in a window
    if steps < 1:
        raise TaskError(f"--batch_size={batch_size}: --task={name} has {tokens} training tokens, too few "
                        f"for so many tracks of --window={window}")
    slack = tokens - 1 - batch_size * steps * window

    def windows(stream, firsts, count):
        firsts = share.of(firsts)

        def at(step):
            index = (firsts + step * window)[:, None] + tf.range(window + 1, dtype=tf.int64)
            ids = tf.numpy_function(stream.read, [index], tf.int32)
            ids = tf.ensure_shape(ids, [share.size(batch_size), window + 1])
            return ids[:, :-1], ids[:, 1:], index[:, :-1]

        return tf.data.Dataset.range(count).map(at)

    def drawn(epoch):
        offset = tf.random.stateless_uniform([], [tf.cast(seed, tf.int64), epoch], 0, slack + 1, tf.int64)
        firsts = offset + tf.range(batch_size, dtype=tf.int64) * (steps * window)
        return windows(streams[0], firsts, steps).map(lambda x, y, _: (x, y))

    def fixed(stream):
        ends = np.arange(batch_size + 1, dtype=np.int64) * (stream.length - 1) // batch_size
        longest = np.diff(ends).max()

        def padded(x, y, index):
            valid = index < share.of(ends[1:])[:, None]
            return tf.where(valid, x, 0), tf.where(valid, y, 0), tf.cast(valid, tf.float32)

        return windows(stream, ends[:-1], -(-longest // window)).map(padded).prefetch(2)

    return by_epoch(drawn, steps, fixed(streams[1]), fixed(streams[2]))


def _bytes(text):
    return [bytes([byte]) for byte in text]


def _check(task, data_dir, examples):
    if data_dir is None:
        raise TaskError(f"--data_dir: --task={task} needs a text file, or a folder with a train, a valid and "
                        f"a test file, for instance {examples}")
