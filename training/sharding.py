"""Writes a task as shards: what `santm-shard` does once its flags are read."""

import dataclasses

from santm_tf import tasks
from santm_tf.tasks import writing
from santm_tf.training.config import TASK, configured
from santm_tf.training.errors import UsageError, say
from santm_tf.training.run import load_task, of_task

AT_ONCE = 256  # examples, at most
USED = {"task", "seed", "batch_size"}  # beside the task's own options


def write(config, folder, shards):
    """Writes the task of a configuration, and says how many examples there are of each split.

    Args:
      folder: where to. shards: files for each split.

    Raises:
      UsageError: a task or a folder that does not serve.
    """
    with of_task(config):
        writing.check(folder)
    if config.data.get("curriculum"):
        raise UsageError("--curriculum: shards hold the first epoch, whose sequences are the short ones; "
                         "leave it out")
    if unused := [f"--{name}" for name in config.asked if name not in USED | config.data.keys()]:
        say(f"of training, and not used to write shards: {', '.join(unused)}")
    with of_task(config):
        advice = tasks.advice(config.task, **config.data)
    chosen = {name: value for name, (value, _) in advice.items() if name in config.data.keys() - config.asked}
    config = configured({**config.asked, **chosen})
    for option, text in config.given(TASK).items():
        if option.name in chosen:
            say(f"{text}: {advice[option.name][1]}")
    task = _whole(config)
    train = task.steps_per_epoch * (task.train.element_spec[0].shape[0] or 1)
    if shards > train:
        raise UsageError(f"--shards={shards}: there are {train:,} training examples; use at most so many")
    with of_task(config):
        flags = list(config.given(TASK).values())
        return writing.write(task, folder, shards, {"task": config.task, "flags": flags, "advice": advice})


def _whole(config):
    """The task in such batches that an epoch has every example.

    Where they only group examples, a batch is of the greatest divisor of their number up to `AT_ONCE`.
    """
    def batches_of(size):
        return load_task(dataclasses.replace(config, run=dataclasses.replace(config.run, batch_size=size)))

    if "steps_per_epoch" in config.data:  # the batch size decides what is drawn
        return load_task(config)
    single = batches_of(1)
    if single.stateful:
        return load_task(config)
    count = single.steps_per_epoch // config.data.get("passes", 1)
    return batches_of(max(size for size in range(1, AT_ONCE + 1) if count % size == 0))
