"""Your own sequences: classified, labelled, measured or forecast, from a file or from arrays."""

import functools
from collections.abc import Sequence
from typing import Annotated, Any

from numpy.typing import ArrayLike

from santm_tf.tasks import own, reading, streamed
from santm_tf.tasks.errors import TaskError
from santm_tf.tasks.options import MOST, Option, read
from santm_tf.tasks.reading.shards import Shards
from santm_tf.tasks.sizes import advice_for
from santm_tf.tasks.task import Task

GIVEN = "validation_data", "test_data", "id", "time", "label", "channels", "categories", "group", "ignore", \
    "stream_above_mib"


def load(batch_size, seed, data_dir: str | None = None, validation_data: str | None = None,
         test_data: str | None = None, id: str | None = None, time: str | None = None,
         label: str | None = None, channels: str | None = None, categories: str | None = None,
         group: str | None = None, ignore: str | None = None,
         stream_above_mib: Annotated[float, "[0, inf)"] | None = None, *, kept=None, **choices: own.make):
    """Sequences from files.

    `tasks.reading` reads them, `tasks.own.make` makes a task of them. What is not said by a flag is guessed
    and printed.

    Files that are larger than memory are streamed (`tasks.streamed`): TFRecord always, Parquet above a size.
    They are read once to count them and for what the channels need, then in each epoch; the memory that it
    takes does not depend on their number. A sequence is in one file, and its rows are together. A Parquet
    file has a row a step (`--id` tells sequences apart), or a row a sequence, with lists in its cells;
    `tasks.reading.records` says what a TFRecord holds. Shards called test and validation are those splits;
    else a sequence is of the split that the digest of its steps says. What takes all sequences at once is
    refused: `horizon`, `group`, `split="time"`.

    Args:
      data_dir: A file, or a folder of files: .npz, .npy, .csv, .tsv, .parquet, .tfrecord, and .ts and .tsv
        of the UCR and UEA archives. Files whose names say train, validation or test are those splits; one is
        split.
      validation_data: A file to validate by.
      test_data: A file to test by.
      id: Of a table with a row for each step, the column that says which sequence it is of.
      time: The column by which the steps of a sequence are ordered.
      label: The columns that are predicted, separated by commas.
      channels: The columns that are read (default: all others).
      categories: Those of them whose numbers are codes; texts always are.
      group: The column whose equal values stay in one split, such as a person's.
      ignore: Columns to leave out.
      stream_above_mib: Parquet files of more MiB than this are streamed (default: 1024).

    Raises:
      TaskError: data that are missing or wrong; it names the file and the line.
    """
    given = {"data_dir": data_dir, "validation_data": validation_data, "test_data": test_data, "id": id,
             "time": time, "label": label, "channels": channels, "categories": categories, "group": group,
             "ignore": ignore, "stream_above_mib": stream_above_mib}
    data = _read(**given, **_reading_choices(choices))
    if kept and not 1 <= kept.get("steps", 1) <= MOST[int]:
        raise TaskError(f"data.json: {kept['steps']} steps; train anew")
    make = streamed.make if isinstance(data, Shards) else own.make
    try:
        return make(data, batch_size, seed, kept=kept, **choices)
    except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        if not kept or isinstance(error, TaskError):
            raise
        said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise TaskError(f"data.json: is not of these data, or damaged ({said}); train anew") from error


def from_arrays(x: ArrayLike, y: ArrayLike | None = None, *, batch_size: int | None = None, seed: int = 0,
                lengths: ArrayLike | None = None, groups: ArrayLike | None = None,
                parts: ArrayLike | None = None, channels: Sequence[str] | None = None,
                categories: Sequence[str] | None = None, kept: dict | None = None, **choices: Any) -> Task:
    """A task of own sequences from arrays.

    Args:
      x: `[N, T, d]` or `[N, T]`; or a list of `[T_i, d]` or `[T_i]`, or a `tf.RaggedTensor`. NaN is missing.
      y: what is predicted: classes `[N]`, numbers or labels `[N, k]`, or one for every step; None for a
        forecast (`horizon`).
      batch_size, seed: as in `tasks.load`; None for 32, or all training sequences if they are fewer.
      lengths: steps of each sequence, `[N]`, where x is padded.
      groups: of each sequence, `[N]`: equal ones stay in one split.
      parts: of each sequence, `[N]`: 0 to train, 1 to validate, 2 to test; None to have them split.
      channels: names of the channels. categories: names of those that hold codes.
      kept: what a trained run keeps of its data, by which these are read.
      **choices: the options of `tasks.own.make`, such as `horizon=12` or `class_weight="balanced"`.

    Returns:
      A `Task`.

    Raises:
      TaskError: arrays that do not fit each other, or an option that there is not.

    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=[40, 20, 3])
    >>> task = from_arrays(x, np.where(x.mean((1, 2)) > 0, "up", "down"), batch_size=4)
    >>> task.classes, task.train.element_spec[0].shape
    (['down', 'up'], TensorShape([4, 20, 3]))
    """
    known = read("santm_tf.tasks.own:make")
    sizes = {"batch_size": batch_size, "seed": seed}
    for name, value in {**sizes, **choices}.items():
        if name not in {**sizes, **known}:
            raise TaskError(f"from_arrays: there is no {name}; it takes {', '.join(known)}")
        option = known.get(name) or Option(name, None, kind=int, bounds=f"[{int(name != 'seed')}, inf)")
        if need := option.need(value):
            raise TaskError(f"{name}={value}: must be {need}")
    if y is not None and choices.get("horizon"):
        raise TaskError(f"y: horizon={choices['horizon']} predicts x itself; leave y out")
    sequences = reading.of_arrays(x, y, lengths=lengths, groups=groups, parts=parts, channels=channels,
                                  categories=categories, per_step=choices.get("per_step"))
    return own.make(sequences, batch_size, seed, kept=kept, **choices)


def advice(kept=None, **data):
    """What to train own sequences with, `{option: (value, reason)}`: see `tasks.sizes`.

    Args:
      kept: what a trained run keeps of its data: `Task.kept`.
      **data: the task's options, as `load` takes them.
    """
    choices = {name: value for name, value in data.items() if name not in ("data_dir", *GIVEN)}
    given = {name: data.get(name) for name in ("data_dir", *GIVEN)}
    found = _read(**given, **_reading_choices(choices))
    return streamed.advice(found, choices, kept) if isinstance(found, Shards) else advice_for(found, choices)


def _reading_choices(choices):
    return {"per_step": choices.get("per_step"), "forecast": bool(choices.get("horizon"))}


@functools.lru_cache(maxsize=1)
def _read(**given):
    """What the files hold, `Sequences` or `Shards`; read once for the advice and the task."""
    if given["data_dir"] is None:
        raise TaskError("--data_dir: --task=sequences needs a file or a folder of yours; docs/data.md shows "
                        "their forms")
    if given["stream_above_mib"] is None:
        given["stream_above_mib"] = reading.ABOVE
    return reading.read(**given)
