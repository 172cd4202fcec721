"""Trains every model on digits by its committed flag file: accuracies, sizes and seconds in a table.

`python -m benchmarks.digits_table` works in `runs/`, where a run that is there already is taken as it
is; `--models=lstm;mamba` trains some, and keeps the other rows of the table as they were.
"""

import argparse

import baselines
from benchmarks import table, trained

COLUMNS = {"test_accuracy": "test accuracy", "parameters": "weights", "access_rate": "access rate",
           "epochs": "epochs", "seconds": "seconds", "seed": "seed"}


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.digits_table")
    parser.add_argument("--models", default=";".join(baselines.NAMES), help="separated by semicolons")
    rows = table.read("digits_table")
    for model in parser.parse_args().models.split(";"):
        config = "configs/digits.cfg" if model == "santm" else f"configs/digits-{model}.cfg"
        rows[model] = trained.result(config, f"runs/digits-{model}")
        present = {name: rows[name] for name in baselines.NAMES if name in rows}
        table.write("digits_table",
                    "Digits, one pixel a step, by `configs/digits*.cfg`; seconds on the machine at hand.",
                    "model", present, COLUMNS, table.rounded)


if __name__ == "__main__":
    main()
