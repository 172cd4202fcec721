"""The optimal access rate: that of trained models beside the prediction of `santm_tf.capacity`.

`python -m benchmarks.optimal_rate` trains SANTM with a small memory of keys and values, accessed at equal
gaps, at several rates on two tasks, into `runs/optimal_rate/`, where what is there already is taken as it
is. `--only=copy` trains on one task and keeps the other rows. The memory writes over its oldest slot, and
each task asks for what came a known number of steps ago.
"""

import statistics
from typing import NamedTuple

import numpy as np

from benchmarks import table, trained
from santm_tf.analysis.retention import controller_retention
from santm_tf.analysis.trace import layer_of
from santm_tf.capacity import optimal_access_rate, recallable

FLAGS = ["--memory=key_value", "--recall=read", "--read_heads=2", "--top_k=4", "--slot_width=16",
         "--segment_length=1", "--boundaries=fixed", "--memory_horizon=10", "--mask=uniform", "--epochs=40",
         "--steps_per_epoch=100", "--batch_size=32", "--learning_rate=0.005", "--clip_norm=1.0"]


class Setting(NamedTuple):
    """A task: its flags, T, the lag after which it asks, N, numbers of accesses D, and what is recalled."""

    flags: list
    steps: int
    lag: int
    slots: int
    accesses: tuple
    recall: object  # from a run's last line to what is above chance, at most 1


TASKS = {
    "copy_memory": Setting(["--delay=20"], 40, 30, 16, (8, 12, 16, 20, 24, 30, 40),
                           lambda line: (line["test_accuracy"] - 1 / 8) / (7 / 8)),
    "copy": Setting(["--min_length=8", "--max_length=16"], 34, 17, 9, (7, 10, 13, 16, 19, 24, 34),
                    lambda line: 1 - line["test_wrong_bits"] / (16 * 8 / 2)),
}
COLUMNS = {"recalls": "recall above chance", "relative": "recall / best", "predicted": "I / best",
           "lambdas": "lambda", "measured": "measured optimal rate", "theory": "predicted"}


def measure(name, accesses, seed):
    """What one run recalls, and lambda of its controller."""
    task = TASKS[name]
    workdir = f"runs/optimal_rate/{name}-{accesses}-{seed}"
    line = trained.result(None, workdir, f"--task={name}", *task.flags, *FLAGS, f"--seed={seed}",
                          f"--memory_slots={task.slots}", f"--access_rate={accesses / task.steps:.6f}")
    data, model = trained.load(workdir)
    x = next(iter(data.test))[0][:, :task.steps // 2]  # without padding
    return task.recall(line), controller_retention(layer_of(model), x)


def rows(name, seeds):
    """The rows of a task, by its rates."""
    task = TASKS[name]
    found = {n: list(zip(*(measure(name, n, seed) for seed in range(seeds)), strict=True))
             for n in task.accesses}
    recall = {n: statistics.mean(recalls) for n, (recalls, _) in found.items()}
    kept = statistics.mean(value for _, lambdas in found.values() for value in lambdas)
    asked = {"retention": kept, "slots": task.slots, "erases": "oldest", "lags": [task.lag]}
    held = recallable(task.steps, np.array(task.accesses), **asked)
    best = max(recall, key=recall.get)
    theory = optimal_access_rate(task.steps, **asked)
    return {f"{name}, {n} of {task.steps} steps": {
        "recall": recalls, "recalls": trained.spread(recalls), "lambda": lambdas,
        "lambdas": trained.spread(lambdas), "relative": recall[n] / recall[best],
        "predicted": float(worth / held.max()), "measured": best / task.steps, "theory": theory}
        for (n, (recalls, lambdas)), worth in zip(found.items(), held, strict=True)}


def main():
    options = trained.options("optimal_rate", TASKS)
    for name in options.only:
        table.write("optimal_rate", "Recall over the access rate; the memory writes over its oldest slot.",
                    "task, accesses", table.read("optimal_rate") | rows(name, options.seeds), COLUMNS,
                    table.rounded)


if __name__ == "__main__":
    main()
