"""Capacity against reality: what trained models recall over the access rate, beside `santm_tf.capacity`.

`python -m benchmarks.capacity` trains SANTM with a memory of few and of more slots, accessed at equal gaps,
on two tasks. It works in `runs/capacity/`, where a run that is there already is taken as it is;
`--only=copy_memory` trains on one task and keeps the other rows as they were, `--only=` writes table and
figure anew from the rows there are. What controller and memory retain is estimated from the trained weights
on the test sequences (`santm_tf.analysis.retention`).
"""

import functools
import itertools
import os
import statistics

import numpy as np

from benchmarks import table, trained
from santm_tf.analysis.retention import controller_retention, memory_retention
from santm_tf.analysis.trace import layer_of
from santm_tf.capacity import optimal_access_rate, recallable

SLOTS, GAPS = (4, 16), (16, 8, 4, 2, 1)  # an access every so many steps
SIZES = ["--units=64", "--slot_width=16", "--memory_init=constant", "--attention_heads=2", "--cheb_order=2",
         "--locality=1", "--segment_length=1.0", "--boundary_penalty=0.0", "--memory_horizon=2",
         "--mask=uniform",
         "--batch_size=32", "--learning_rate=0.005"]
TASKS = {  # its flags, what is recalled above chance by a run's result, and the unit of that
    "copy_memory": (["--delay=12", "--epochs=6", "--steps_per_epoch=250"],
                    lambda line: 10 * (line["test_accuracy"] - 1 / 8) / (7 / 8), "symbols of 10"),
    "associative_recall": (["--max_items=4", "--epochs=6", "--steps_per_epoch=250"],
                           lambda line: 1 - line["test_wrong_bits"] / 9, "share of bits"),
}
COLUMNS = {"recalls": "recall above chance", "relative": "recall / best", "predicted": "I / best",
           "lambdas": "lambda", "mus": "mu", "best": "predicted optimal rate"}


def measure(task, slots, gap, seed):
    """Steps, recall, lambda and mu of one run, trained unless it is there."""
    workdir = f"runs/capacity/{task}-{slots}-{gap}-{seed}"
    flags, recall, _ = TASKS[task]
    line = trained.result(None, workdir, f"--task={task}", *flags, *SIZES, f"--memory_slots={slots}",
                          f"--mask_period={gap}", f"--access_rate={1 / gap}", f"--seed={seed}")
    data, model = trained.load(workdir)
    x = np.concatenate([batch[0] for batch in data.test])
    layer = layer_of(model)
    return x.shape[1], recall(line), controller_retention(layer, x), memory_retention(layer, x)


def label(task, slots, gap):
    return f"{task}, {slots}, 1/{gap}"


def panels(rows):
    """The rows by task and slots, with the theory's curve for each such panel.

    Yields `(task, slots, rows, I)`: I, from accesses to the recallable, is that for the means of lambda and
    mu over the panel.
    """
    for task, slots in itertools.product(TASKS, SLOTS):
        names = [label(task, slots, gap) for gap in GAPS]
        own = {name: rows[name] for name in names if name in rows}
        if own:
            kept, left = (statistics.mean(v for row in own.values() for v in row[key])
                          for key in ("lambda", "mu"))
            steps = next(iter(own.values()))["steps"]
            yield task, slots, own, functools.partial(recallable, steps, retention=kept, slots=1 / (1 - left))


def write(rows):
    shown = {}
    for _, _, own, capacity in panels(rows):
        most = max(statistics.mean(row["recall"]) for row in own.values())
        held = {name: float(capacity(row["accesses"])) for name, row in own.items()}
        for name, row in own.items():
            kept, left = statistics.mean(row["lambda"]), statistics.mean(row["mu"])
            shown[name] = {
                **row, **{f"{key}s": trained.spread(row[key]) for key in ("recall", "lambda", "mu")},
                "relative": statistics.mean(row["recall"]) / most,
                "predicted": held[name] / max(held.values()),
                "best": optimal_access_rate(row["steps"], kept, 1 / (1 - left))}
    units = "; ".join(f"{task} in {unit}" for task, (_, _, unit) in TASKS.items())
    table.write("capacity", f"Recall of trained models over the access rate: {units}.",
                "task, slots, access rate", shown, COLUMNS, table.rounded)


def draw(rows):
    """`docs/pictures/capacity.png`: I as a line, recall as points with the deviation over seeds."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(TASKS), len(SLOTS), figsize=(8, 6), sharex=True, sharey=True,
                                layout="constrained")
    for task, slots, own, capacity in panels(rows):
        axis = axes[list(TASKS).index(task), SLOTS.index(slots)]
        steps = next(iter(own.values()))["steps"]
        accesses = np.arange(1, steps + 1)
        held = capacity(accesses)
        axis.plot(accesses / steps, held / held.max(), label="I / max")
        recalls = [row["recall"] for row in own.values()]
        most = max(map(statistics.mean, recalls))
        axis.errorbar([row["accesses"] / steps for row in own.values()],
                      [statistics.mean(v) / most for v in recalls],
                      [np.std(v, ddof=len(v) > 1) / abs(most) for v in recalls],
                      fmt="o", capsize=3, label="recall / max")
        axis.set_title(f"{task}, {slots} slots")
        axis.set_xscale("log", base=2)
    axes[0, 0].legend()
    figure.supxlabel("access rate")
    figure.savefig(os.path.join(table.PICTURES, "capacity.png"), dpi=120)


def main():
    options = trained.options("capacity", TASKS)
    for task in options.only:
        for slots in SLOTS:
            for gap in GAPS:
                runs = [measure(task, slots, gap, seed) for seed in range(options.seeds)]
                (steps, *_), (_, recalls, lambdas, mus) = runs[0], zip(*runs, strict=True)
                rows = table.read("capacity")  # now, as another process may be at another task
                rows[label(task, slots, gap)] = {
                    "steps": steps, "accesses": steps // gap,
                    "recall": recalls, "lambda": lambdas, "mu": mus}
                write(rows)
    write(table.read("capacity"))
    draw(table.read("capacity"))


if __name__ == "__main__":
    main()
