"""What a study is for: the validation figure that picks a run's best checkpoint."""

import concurrent.futures
import multiprocessing
from typing import NamedTuple

from santm_tf.training import flags


class Goal(NamedTuple):
    """A validation figure, and whether more of it is better."""

    figure: str
    highest: bool


def of(argv):
    """The `Goal` of a training's flags, whose task is loaded for it.

    Raises:
      UsageError: the training cannot be, for instance for want of its data.

    >>> of(["santm-train", "--task=adding", "--dry_run"])
    Goal(figure='val_mse', highest=False)
    """
    from santm_tf.training.resolve import resolve  # here: TensorFlow takes seconds
    from santm_tf.training.run import advised, load_task

    config = advised(flags.parse(argv))
    task = load_task(config)
    resolve(config, task)
    return Goal(task.monitor, task.monitor_mode == "max")


def found_apart(argv):
    """The same, by a process that ends, and takes with it what the task holds."""
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(of, argv).result()
