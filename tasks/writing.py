"""Any task's examples as a folder of shards, from which `tasks.shards` makes the same task."""

import json
import os
import re
import tempfile

import tensorflow as tf

from santm_tf.errors import ArgumentError
from santm_tf.paths import is_object_with, plain, replace, writable
from santm_tf.tasks.errors import TaskError
from santm_tf.tasks.indexed import Writer
from santm_tf.tasks.raw import Layout
from santm_tf.tasks.recipes import recipe

FORMAT = 1  # of shards.json
FACTS = "shards.json"
SPLITS = "train", "validation", "test"
PARTS = re.compile(rf"({'|'.join(SPLITS)})(-\d{{5}}-of-\d{{5}}\.tfrecord|\.index)|{FACTS}")
# Fields of a `Task`: what is JSON, what a recipe makes again, and lists of such.
PLAIN = ("outputs", "chance", "monitor", "monitor_mode", "features", "length", "return_sequences", "padding",
         "vocabulary", "stateful", "classes", "side", "categories", "about")
MADE = "loss", "front", "answer"
LISTS = "metrics", "weighted_metrics"


def write(task, folder, shards, origin=None):
    """Writes one epoch of a task, its validation and its test, and what else the task is made of.

    The folder is written beside and renamed when it is whole. One of shards that is there is replaced.

    Args:
      task: a `Task`. shards: files for each split. origin: what to say of it beside, for JSON.

    Returns:
      How many examples there are of each split.

    Raises:
      TaskError: a folder that holds something else, or cannot be written.
    """
    check(folder)
    place = os.path.realpath(folder)
    try:
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".shards-", dir=os.path.dirname(place)) as scratch:
            new = os.path.join(scratch, "new")
            os.mkdir(new)
            splits = {split: _written(task, split, new, shards) for split in SPLITS}
            with open(os.path.join(new, FACTS), "w", encoding="utf-8") as file:
                json.dump(_facts(task, shards, splits, origin or {}), file, indent=1, default=_plain)
            check(folder)  # again: someone may have put a file there meanwhile
            replace(place, new, os.path.join(scratch, "old"))
    except OSError as error:
        raise TaskError(f"--out={folder}: {error.strerror or error}") from error
    except (tf.errors.ResourceExhaustedError, tf.errors.PermissionDeniedError) as error:
        raise TaskError(f"--out={folder}: {error.message}") from error
    return {split: found["count"] for split, found in splits.items()}


def check(folder):
    """Refuses a folder that is not to be replaced: a file, or one that holds something else than shards."""
    try:
        plain("--out", folder)
        writable(os.path.realpath(folder), name="--out")
    except ArgumentError as error:
        raise TaskError(str(error)) from error
    if not os.path.exists(folder):
        return
    names = sorted(os.listdir(folder))
    others = [name for name in names
              if not PARTS.fullmatch(name) or not _is_file(os.path.join(folder, name))]
    if names and not is_object_with(os.path.join(folder, FACTS), {"format", "shards", "splits", "made"}):
        others = others or ([FACTS] if FACTS in names else names)
    if others:
        raise TaskError(f"--out={folder}: holds something else than shards ({others[0]}); name another "
                        "folder")


def _is_file(path):
    return os.path.isfile(path) and not os.path.islink(path)


def _written(task, split, folder, shards):
    """Writes the records of a split; what `shards.json` says of it."""
    layout = None
    with Writer(folder, split, shards) as writer:
        for batch in getattr(task, split).as_numpy_iterator():
            layout = layout or Layout.of(batch, task.padding, task.return_sequences)
            for example in zip(*batch, strict=True):
                writer.add(layout.encode(example))
    if layout is None:
        raise TaskError(f"--task={task.name}: its {split} split has no example")
    return {"count": writer.count, "digest": writer.digest, **layout.facts}


def _facts(task, shards, splits, origin):
    return {"format": FORMAT, **origin, "shards": shards, "splits": splits,
            "batch_size": int(task.train.element_spec[0].shape[0]) if task.stateful else None,
            "plain": {name: getattr(task, name) for name in PLAIN},
            "made": {name: recipe(getattr(task, name)) for name in MADE},
            "lists": {name: list(map(recipe, getattr(task, name))) for name in LISTS}}


def _plain(value):
    """What JSON has no word for: arrays, and NumPy's numbers."""
    return value.tolist()
