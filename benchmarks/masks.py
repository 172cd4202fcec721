"""Does a learned access mask beat a uniform or a random one of the same rate? Small SANTMs, three seeds.

`python -m benchmarks.masks --data_dir=../shared/data` trains into `runs/masks/`, where what is there
already is taken as it is; `--only=digits;adding` trains some, and keeps the other rows of the table. At
access rate 1 all masks are one.
"""

import os
import statistics

from benchmarks import table, trained

MASKS, RATES = ("learned", "hard_concrete", "uniform", "random"), (0.1, 0.25, 0.5)
TASKS = {  # the score on the test split, and the flags
    "pmnist": ("accuracy", [
        "--pixels_per_step=7", "--train_size=10000", "--epochs=6", "--batch_size=64", "--segment_length=4",
        "--memory_horizon=8", "--learning_rate=0.006"]),
    "digits": ("accuracy", [
        "--epochs=30", "--batch_size=32", "--memory_horizon=8", "--dropout=0.2", "--learning_rate=0.008"]),
    "adding": ("mse", [
        "--length=50", "--epochs=10", "--steps_per_epoch=100", "--batch_size=32", "--segment_length=1",
        "--learning_rate=0.005"]),
    "copy_memory": ("accuracy", [
        "--delay=10", "--epochs=10", "--steps_per_epoch=200", "--batch_size=32", "--segment_length=1",
        "--boundary_penalty=0", "--memory_horizon=2", "--attention_heads=2", "--cheb_order=2", "--locality=1",
        "--memory_init=constant", "--learning_rate=0.005"]),
}
SIZES = ["--units=32", "--memory_slots=16", "--slot_width=16"]
COLUMNS = {"metric": "metric", **{mask: mask for mask in MASKS}, "gain": "learned less uniform",
           "seeds": "seeds", "seconds": "seconds a run"}


def score(task, mask, rate, seed, data_dir):
    """The test score of one run, and its seconds."""
    metric, flags = TASKS[task]
    data = [f"--data_dir={os.path.join(data_dir, 'mnist.npz')}"] if task == "pmnist" else []
    line = trained.result(None, f"runs/masks/{task}-{mask}-{rate}-{seed}", f"--task={task}", *SIZES, *flags,
                          f"--mask={mask}", f"--access_rate={rate}", f"--seed={seed}", *data)
    return line[f"test_{metric}"], line["seconds"]


def row(task, rate, masks, seeds, data_dir):
    """The scores at one rate: raw ones by mask, and as text."""
    runs = {mask: [score(task, mask, rate, seed, data_dir) for seed in range(seeds)] for mask in masks}
    scores = {mask: [value for value, _ in found] for mask, found in runs.items()}
    cells = {mask: trained.spread(values) for mask, values in scores.items()}
    if {"learned", "uniform"} <= set(masks):
        cells["gain"] = trained.spread([a - b for a, b in zip(scores["learned"], scores["uniform"],
                                                              strict=True)])
    return {"metric": TASKS[task][0], **cells, "scores": scores, "seeds": seeds,
            "seconds": statistics.median(seconds for found in runs.values() for _, seconds in found)}


def main():
    options = trained.options("masks", TASKS, ("../shared/data", "folder of mnist.npz"))
    for task in options.only:
        made = {f"{task}, rate {rate}": row(task, rate, MASKS, options.seeds, options.data_dir)
                for rate in RATES}
        made[f"{task}, rate 1"] = row(task, 1.0, ["learned"], options.seeds, options.data_dir)
        table.write("masks", "Test scores, mean ± deviation over seeds; for mse less is better.", "task",
                    {**table.read("masks"), **made}, COLUMNS, table.rounded)


if __name__ == "__main__":
    main()
