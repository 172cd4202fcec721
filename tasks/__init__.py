"""Tasks by name: `tasks.load("digits", batch_size=32, seed=0)` gives a `Task`."""

import inspect

from tasks import (
    adding,
    associative_recall,
    change_points,
    copy,
    copy_memory,
    digits,
    frequency,
    images,
    language,
    priority_sort,
    repeat_copy,
    speaker,
    text,
)
from tasks.task import Task, TaskError

__all__ = ["NAMES", "Task", "TaskError", "defaults", "load"]

_LOADERS = {
    "copy": copy.load,
    "repeat_copy": repeat_copy.load,
    "associative_recall": associative_recall.load,
    "priority_sort": priority_sort.load,
    "copy_memory": copy_memory.load,
    "adding": adding.load,
    "change_points": change_points.load,
    "frequency": frequency.load,
    "digits": digits.load,
    "mnist": images.mnist,
    "pmnist": images.pmnist,
    "fashion_mnist": images.fashion_mnist,
    "cifar10": images.cifar10,
    "text": text.load,
    "speaker": speaker.load,
    "words": language.load_words,
    "chars": language.load_chars,
}
NAMES = tuple(_LOADERS)


def load(name, *, batch_size, seed, data_dir=None, **options):
    """Loads a task.

    Args:
      name: one of `NAMES`.
      batch_size: sequences per batch.
      seed: decides the order, or the content, of the training batches. Validation and test do not
        depend on it.
      data_dir: directory of data files, for the tasks that have some.
      **options: the task's own options, named as their flags. None stands for the task's default.

    Returns:
      A `Task`.

    Raises:
      TaskError: an unknown task or option, or a value that cannot work.

    >>> load("digits", batch_size=32, seed=0).steps_per_epoch
    39
    >>> load("digits", batch_size=32, seed=0, max_length=5)
    Traceback (most recent call last):
        ...
    tasks.task.TaskError: --max_length: --task=digits does not take it (it has only --augment)
    """
    if name not in _LOADERS:
        raise TaskError(f"--task={name}: no such task, use one of {', '.join(NAMES)}")
    if batch_size < 1:
        raise TaskError(f"--batch_size={batch_size}: must be at least 1")
    given = {option: value for option, value in options.items() if value is not None}
    known = defaults(name)
    if data_dir is not None:
        if not reads_data(name):
            raise TaskError(f"--data_dir={data_dir}: --task={name} reads no data; leave it out, or name the "
                            "task that is meant")
        given["data_dir"] = data_dir
    for option in given:
        if option not in {*known, "data_dir"}:
            takes = "only " + ", ".join("--" + k for k in known) if known else "no options"
            raise TaskError(f"--{option}: --task={name} does not take it (it has {takes})")
    return _LOADERS[name](batch_size=batch_size, seed=seed, **given)


def defaults(name):
    """The options that a task takes of its own, `{name: default}`.

    >>> defaults("adding")
    {'length': 50, 'steps_per_epoch': 200}
    """
    return {option: parameter.default for option, parameter
            in inspect.signature(_LOADERS[name]).parameters.items()
            if option not in ("batch_size", "seed", "data_dir")}


def reads_data(name):
    """Whether a task has data of a user's, which `data_dir` names.

    >>> reads_data("text"), reads_data("digits")
    (True, False)
    """
    return "data_dir" in inspect.signature(_LOADERS[name]).parameters
