"""Trains SANTM on the tasks by the committed flag files: scores, chance and seconds in a table.

`python -m benchmarks.tasks_table --data_dir=../shared/data` works in `runs/`, where a run that is there
already is taken as it is; `--tasks=adding;speaker` trains some, and keeps the other rows of the table as
they were. The learning curves are in the JSON. The data are mnist.npz, fsdd.zip, movie_reviews.zip, brown/
and tinyshakespeare.txt.
"""

import argparse
import os

from benchmarks import table, trained

TASKS = {  # the score, its goal, its chance, and the data
    "pmnist": ("accuracy", ">= 0.90", 0.1, "mnist.npz"),
    "speaker": ("accuracy", ">= 0.97", 1 / 6, "fsdd.zip"),
    "text": ("accuracy", ">= 0.75", 0.5, "movie_reviews.zip"),
    "words": ("perplexity", "< 350", 407, "brown"),
    "chars": ("bits_per_character", "< 2.0", 4.85, "tinyshakespeare.txt"),
    "copy_memory": ("cross_entropy", "< 0.00945", 0.0945, None),
    "adding": ("mse", "< 0.002", 1 / 6, None),
    "associative_recall": ("wrong_bits", "< 1", 9.0, None),
}
COLUMNS = {"metric": "metric", "score": "test", "dynamic": "by dynamic evaluation", "goal": "goal",
           "chance": "chance", "access_rate": "access rate", "test_boundary_rate": "boundary rate",
           "parameters": "weights", "epochs": "epochs", "seconds": "seconds", "seed": "seed"}


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tasks_table")
    parser.add_argument("--data_dir", default="../shared/data", help="folder of the files named above")
    parser.add_argument("--tasks", default=";".join(TASKS), help="separated by semicolons")
    options = parser.parse_args()
    rows = table.read("tasks_table")
    for task in options.tasks.split(";"):
        metric, goal, chance, data = TASKS[task]
        flags = [f"--data_dir={os.path.join(options.data_dir, data)}"] if data else []
        workdir = f"runs/{task}"
        line = trained.result(f"configs/{task}.cfg", workdir, *flags)
        rows[task] = {**line, "metric": metric.replace("_", " "), "score": line[f"test_{metric}"],
                      "dynamic": line.get(f"test_dynamic_{metric}", ""), "goal": goal, "chance": chance,
                      "curve": trained.curve(workdir, f"val_{metric}")}
        present = {name: rows[name] for name in TASKS if name in rows}
        table.write("tasks_table", "SANTM by `configs/*.cfg`; seconds on the machine at hand.", "task",
                    present, COLUMNS, table.rounded)


if __name__ == "__main__":
    main()
