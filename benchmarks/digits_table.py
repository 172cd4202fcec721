"""Trains every model on digits by its committed flag file, over seeds: scores, sizes and seconds in a table.

`python -m benchmarks.digits_table` works in `runs/`, where a run that is there already is taken as it
is; `--only="lstm;mamba"` trains some, and keeps the other rows of the table as they were.
"""

import statistics

from benchmarks import table, trained
from santm_tf import baselines

COLUMNS = {"accuracy": "test accuracy", "parameters": "weights", "access_rate": "access rate",
           "epochs": "epochs", "seconds": "seconds", "seeds": "seeds"}


def main():
    chosen = trained.options("digits_table", baselines.NAMES)
    rows = table.read("digits_table")
    for model in chosen.only:
        config = "configs/digits.cfg" if model == "santm" else f"configs/digits-{model}.cfg"
        lines = [trained.result(config, f"runs/digits-{model}-{seed}", f"--seed={seed}")
                 for seed in range(chosen.seeds)]
        accuracies = [line["test_accuracy"] for line in lines]
        rows[model] = {**lines[0], "accuracy": trained.spread(accuracies), "accuracies": accuracies,
                       "seconds": statistics.mean(line["seconds"] for line in lines), "seeds": chosen.seeds}
        present = {name: rows[name] for name in baselines.NAMES if name in rows}
        table.write("digits_table", "Digits, one pixel a step, by `configs/digits*.cfg`: test accuracy, mean "
                    "and deviation over seeds; mean seconds on the machine at hand.",
                    "model", present, COLUMNS, table.rounded)


if __name__ == "__main__":
    main()
