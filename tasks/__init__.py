"""Tasks by name: `tasks.load("digits", batch_size=32, seed=0)` gives a `Task`.

A task is one file, and its name here. To import this package imports no TensorFlow.
"""

import contextlib
import importlib
from typing import TYPE_CHECKING, Any

from santm_tf.tasks import sources
from santm_tf.tasks.errors import TaskError
from santm_tf.tasks.options import Option, read

if TYPE_CHECKING:
    from santm_tf.tasks.share import Share
    from santm_tf.tasks.task import Task

__all__ = ["NAMES", "TASKS", "TaskError", "advice", "load", "options"]

# By name the function that loads it. In --help an option without a text has the first one of its name.
TASKS = {
    "sequences": "santm_tf.tasks.sequences:load",
    "copy": "santm_tf.tasks.copy:load",
    "repeat_copy": "santm_tf.tasks.repeat_copy:load",
    "associative_recall": "santm_tf.tasks.associative_recall:load",
    "priority_sort": "santm_tf.tasks.priority_sort:load",
    "copy_memory": "santm_tf.tasks.copy_memory:load",
    "mqar": "santm_tf.tasks.mqar:load",
    "selective_copy": "santm_tf.tasks.selective_copy:load",
    "induction": "santm_tf.tasks.induction:load",
    "adding": "santm_tf.tasks.adding:load",
    "change_points": "santm_tf.tasks.change_points:load",
    "frequency": "santm_tf.tasks.frequency:load",
    "digits": "santm_tf.tasks.digits:load",
    "mnist": "santm_tf.tasks.images:mnist",
    "pmnist": "santm_tf.tasks.images:pmnist",
    "fashion_mnist": "santm_tf.tasks.images:fashion_mnist",
    "cifar10": "santm_tf.tasks.images:cifar10",
    "text": "santm_tf.tasks.text:load",
    "sounds": "santm_tf.tasks.sounds:load",
    "words": "santm_tf.tasks.language:load_words",
    "chars": "santm_tf.tasks.language:load_chars",
    "shards": "santm_tf.tasks.shards:load",
}
NAMES = tuple(TASKS)
ADVISED = {"sequences", "shards"}  # their modules have an `advice`, and they keep facts of their data
SHARED = {"words", "chars", "shards"}  # tasks that can read some rows of a batch alone
PATHS = {"data_dir", "validation_data", "test_data"}  # options that name what is read
ALIASES = {"speaker": "sounds"}  # earlier names


def options(name: str) -> dict[str, Option]:
    """The options of a task, `{name: Option}`, from its loader's source; `data_dir` where it reads data.

    >>> [option.default for option in options("adding").values()]
    [50, 200]
    """
    return read(TASKS[name])


def advice(name: str, *, kept: dict | None = None, **data: Any) -> dict[str, tuple[Any, str]]:
    """What to train a task with, from its data: `{option: (value, reason)}`; nothing for most tasks.

    Args:
      name: one of `NAMES`.
      kept: what a trained run keeps of its data (`Task.kept`), or None.
      **data: the task's options.

    >>> advice("adding")
    {}
    """
    if name not in ADVISED:
        return {}
    with _reading(data):
        return importlib.import_module(TASKS[name].split(":")[0]).advice(kept=kept, **data)


def load(name: str, *, batch_size: int, seed: int, kept: dict | None = None, share: "Share | None" = None,
         **given: Any) -> "Task":
    """Loads a task.

    Args:
      name: one of `NAMES`, or of `ALIASES`.
      batch_size: sequences per batch.
      seed: decides the order, or the content, of the training batches. Validation and test do not
        depend on it.
      kept: what a trained run keeps of its data (`Task.kept`), by which these are read; None for none.
      share: a task that reads no more than it has to reads these rows of each batch alone; see `Task.share`.
      **given: the task's `options`. None stands for the default.

    Returns:
      A `Task`.

    Raises:
      TaskError: an unknown task or option, or a value that cannot work.

    >>> load("digits", batch_size=32, seed=0).steps_per_epoch
    39
    >>> load("digits", batch_size=32, seed=0, max_length=5)
    Traceback (most recent call last):
        ...
    santm_tf.tasks.errors.TaskError: --max_length: --task=digits does not take it (it has only --augment)
    """
    name = ALIASES.get(name, name)
    if name not in TASKS:
        raise TaskError(f"--task={name}: no such task, use one of {', '.join(NAMES)}")
    if batch_size < 1:
        raise TaskError(f"--batch_size={batch_size}: must be at least 1")
    known, given = options(name), {option: value for option, value in given.items() if value is not None}
    for option, value in given.items():
        if option not in known:
            raise TaskError(unknown(name, option, value))
        if need := known[option].need(value):
            raise TaskError(f"--{option}={value}: --task={name} needs {need}")
    module, function = TASKS[name].split(":")
    if kept:
        if name not in ADVISED:
            raise TaskError(f"--task={name}: keeps nothing of its data, and data.json is of another task; "
                            "train anew")
        given["kept"] = kept
    if share and name in SHARED:
        given["share"] = share
    with _reading(given):
        return getattr(importlib.import_module(module), function)(batch_size=batch_size, seed=seed, **given)


@contextlib.contextmanager
def _reading(given):
    """Refuses paths to what is no data; within it what is read is counted, unless it is already."""
    for flag in PATHS & given.keys():
        sources.check(given[flag], flag)
    with sources.at_most():
        yield


def unknown(name, option, value):
    """What to say of an option that a task does not take."""
    if option == "data_dir":
        return f"--data_dir={value}: --task={name} reads no data; leave it out"
    takes = ", ".join(f"--{known}" for known in options(name) if known != "data_dir")
    return f"--{option}: --task={name} does not take it (it has only {takes})"
