"""Trains SANTM on the tasks by the committed flag files, over seeds: scores, chance, seconds in a table.

`python -m benchmarks.tasks_table --data_dir=../shared/data` works in `runs/`, where a run that is there
already is taken as it is; `--only="adding;sounds"` trains some, and keeps the other rows of the table as
they were. The learning curves are in the JSON. The data are mnist.npz, fsdd.zip, movie_reviews.zip, brown/
and tinyshakespeare.txt.
"""

import os
import statistics

from benchmarks import table, trained

TASKS = {  # the score, its goal, its chance, and the data
    "pmnist": ("accuracy", ">= 0.90", 0.1, "mnist.npz"),
    "sounds": ("accuracy", ">= 0.97", 1 / 6, "fsdd.zip"),
    "text": ("accuracy", ">= 0.75", 0.5, "movie_reviews.zip"),
    "words": ("perplexity", "< 350", 407, "brown"),
    "chars": ("bits_per_character", "< 2.0", 4.85, "tinyshakespeare.txt"),
    "copy_memory": ("cross_entropy", "< 0.00945", 0.0945, None),
    "adding": ("mse", "< 0.002", 1 / 6, None),
    "associative_recall": ("wrong_bits", "< 1", 9.0, None),
}
COLUMNS = {"metric": "metric", "score": "test", "dynamic": "by dynamic evaluation", "goal": "goal",
           "chance": "chance", "access_rate": "access rate", "test_boundary_rate": "boundary rate",
           "parameters": "weights", "epochs": "epochs", "seconds": "seconds", "seeds": "seeds"}


def main():
    chosen = trained.options("tasks_table", TASKS, data=("../shared/data", "folder of the files named above"))
    rows = table.read("tasks_table")
    for task in chosen.only:
        metric, goal, chance, data = TASKS[task]
        flags = [f"--data_dir={os.path.join(chosen.data_dir, data)}"] if data else []
        folders = [f"runs/{task}-{seed}" for seed in range(chosen.seeds)]
        lines = [trained.result(f"configs/{task}.cfg", folder, f"--seed={seed}", *flags)
                 for seed, folder in enumerate(folders)]

        def mean(name, lines=lines):
            return statistics.mean(line[name] for line in lines)

        def spread(name, lines=lines):
            return trained.spread([line[name] for line in lines]) if name in lines[0] else ""

        rows[task] = {**lines[0], "metric": metric.replace("_", " "), "score": spread(f"test_{metric}"),
                      "scores": [line[f"test_{metric}"] for line in lines],
                      "dynamic": spread(f"test_dynamic_{metric}"), "goal": goal, "chance": chance,
                      "test_boundary_rate": mean("test_boundary_rate"), "seconds": mean("seconds"),
                      "seeds": chosen.seeds,
                      "curves": [trained.curve(folder, f"val_{metric}") for folder in folders]}
        present = {name: rows[name] for name in TASKS if name in rows}
        table.write("tasks_table", "SANTM by `configs/*.cfg`: mean and deviation over seeds; mean seconds on "
                    "the machine at hand.", "task", present, COLUMNS, table.rounded)


if __name__ == "__main__":
    main()
