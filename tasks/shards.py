"""A task that `santm-shard` wrote: its examples by their numbers, in an order of the seed and the epoch."""

import contextlib
import json
import os

import tensorflow as tf

from santm_tf.tasks import stored
from santm_tf.tasks.errors import TaskError
from santm_tf.tasks.indexed import ANEW, Reader
from santm_tf.tasks.raw import Layout
from santm_tf.tasks.recipes import made
from santm_tf.tasks.share import WHOLE
from santm_tf.tasks.task import Task, by_epoch
from santm_tf.tasks.writing import FACTS, FORMAT, SPLITS


def load(batch_size, seed, data_dir: str | None = None, readers: int = 4, *, kept=None, share=WHOLE):
    """Examples of any task, from shards that `santm-shard` wrote: larger than memory, on one machine or many.

    An epoch goes through all examples, but for those at its end that do not fill a batch. Its order is a
    random permutation that the seed and the epoch's number decide, not the number of readers, of workers, or
    of files. The examples of a text that is read window after window keep their order, and their batch size.
    What is read is the examples of a batch and nothing else, so that memory holds a few batches, whatever the
    size of the data.

    Args:
      data_dir: The folder that santm-shard wrote.
      readers: How many examples are read side by side.
      kept: what a run keeps of its data, by which it refuses shards that were written anew.
      share: the rows of each batch that are read; no other example is.

    Raises:
      TaskError: a folder without shards, or with some that are not as they were written.
    """
    facts = _facts(data_dir)
    with _of_facts(data_dir):
        return _task(facts, batch_size, seed, data_dir, readers, kept, share)


def _task(facts, batch_size, seed, data_dir, readers, kept, share):
    """What `load` gives, of what `shards.json` says."""
    digests = [facts["splits"][split]["digest"] for split in SPLITS]
    if kept and kept.get("digests") != digests:
        raise TaskError(f"--data_dir={data_dir}: its shards are not those that the run began with; give "
                        "those, or begin another run")
    if facts["batch_size"] not in (None, batch_size):
        raise TaskError(f"--batch_size={batch_size}: --data_dir={data_dir} holds rows that go on from batch "
                        f"to batch; use {facts['batch_size']}, or write the shards with another one")
    stored.enough("shards", batch_size, facts["splits"]["train"]["count"])
    train, validation, test = (Batches(data_dir, split, facts, batch_size, readers, share)
                               for split in SPLITS)

    def epoch(number, begun):
        return train.ordered(begun) if facts["plain"]["stateful"] else train.shuffled(begun, seed, number)

    data = by_epoch(epoch, train.count // batch_size, validation.ordered().prefetch(2),
                    test.ordered().prefetch(2), seeks=True)
    plain = facts["plain"] | {name: tuple(facts["plain"][name]) for name in ("categories", "about")}
    return Task(
        name="shards", **data, **plain | {"about": (*plain["about"], _described(data_dir, facts))},
        **{name: made(one) for name, one in facts["made"].items()},
        **{name: list(map(made, some)) for name, some in facts["lists"].items()}, kept={"digests": digests},
        share=share)


def advice(kept=None, data_dir=None, **_):
    """What the task of the shards advises, `{option: (value, reason)}`: see `tasks.advice`."""
    facts = _facts(data_dir)
    with _of_facts(data_dir):
        return {name: (value, reason) for name, (value, reason) in facts.get("advice", {}).items()}


class Batches:
    """The batches of a split.

    Args:
      facts: what `shards.json` says. The others are those of `load`.
    """

    def __init__(self, folder, split, facts, batch_size, readers, share):
        self.count = facts["splits"][split]["count"]
        self._layout = Layout.of_facts(facts["splits"][split])
        self._reader = Reader(folder, split, facts["shards"], self.count, readers)
        self._batch_size, self._share = batch_size, share

    def shuffled(self, begun, seed, epoch):
        """The whole batches of an epoch but for the first ones, in an order of the seed and its number."""
        key = tf.random.stateless_uniform([2], [tf.cast(seed, tf.int64), epoch], None, None, tf.uint32)
        last = tf.constant(self.count - 1, tf.int64)
        return self._in_order(begun, self.count // self._batch_size,
                              lambda places: tf.random.experimental.index_shuffle(places, key, last))

    def ordered(self, begun=0):
        """The batches but for the first ones, as they were written; the last one may be smaller."""
        return self._in_order(begun, -(-self.count // self._batch_size), lambda places: places)

    def _in_order(self, begun, end, order):
        """Batches `begun` to `end`; `order` gives the numbers of the examples at places of an epoch."""
        whole = self.count >= end * self._batch_size
        rows = self._share.size(self._batch_size) if whole else None

        def batch(step):
            first = step * self._batch_size
            numbers = order(tf.range(first, tf.minimum(first + self._batch_size, self.count)))
            # Stateless, as reading is: under op determinism what is stateful runs one after the other.
            records = tf.numpy_function(self._reader, [self._share.of(numbers)], tf.string, stateful=False)
            return self._layout.decode(tf.ensure_shape(records, [rows]))

        return tf.data.Dataset.range(begun, end).map(batch)


@contextlib.contextmanager
def _of_facts(folder):
    """What does not work of `shards.json` is damage: this version writes what it can read."""
    try:
        yield
    except TaskError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise TaskError(f"{os.path.join(folder, FACTS)}: damaged ({said}); {ANEW}") from error


def _facts(folder):
    """What `shards.json` holds."""
    if folder is None:
        raise TaskError("--data_dir: --task=shards needs the folder that santm-shard wrote")
    path = os.path.join(folder, FACTS)
    if not os.path.isfile(path):
        raise TaskError(f"--data_dir={folder}: has no {FACTS}; name a folder that santm-shard wrote")
    try:
        with open(path, encoding="utf-8") as file:
            facts = json.load(file)
        found = facts["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise TaskError(f"{path}: damaged ({error}); {ANEW}") from error
    if found != FORMAT:
        raise TaskError(f"{path}: is of format {found}, and this version reads {FORMAT}; {ANEW}")
    return facts


def _described(folder, facts):
    counts = ", ".join(f"{facts['splits'][split]['count']:,} {noun}" for split, noun in
                       zip(SPLITS, ("to train", "to validate", "to test"), strict=True))
    return f"{folder}: {counts}, in {facts['shards']} shards each"
