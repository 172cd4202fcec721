"""Trains every model on digits by its committed flag file: accuracies, sizes and seconds in a table.

`python -m benchmarks.digits_table` works in `runs/`, where a run that is there already is taken as it
is; `--models=lstm;mamba` trains some, and keeps the other rows of the table as they were.
"""

import argparse
import json
import os
import subprocess
import sys

import baselines

FOLDER = os.path.join(os.path.dirname(__file__), "results")
COLUMNS = {"test_accuracy": "test accuracy", "parameters": "weights", "access_rate": "access rate",
           "epochs": "epochs", "seconds": "seconds", "seed": "seed"}


def trained(model):
    """The last line of a model's run."""
    config = "configs/digits.cfg" if model == "santm" else f"configs/digits-{model}.cfg"
    command = [sys.executable, "train.py", f"--flagfile={config}", f"--workdir=runs/digits-{model}",
               "--resume"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.strip().split("\n")[-1])


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.digits_table")
    parser.add_argument("--models", default=";".join(baselines.NAMES), help="separated by semicolons")
    path = os.path.join(FOLDER, "digits_table.json")
    rows = {}
    if os.path.exists(path):
        with open(path) as file:
            rows = json.load(file)
    for model in parser.parse_args().models.split(";"):
        rows[model] = trained(model)
        _write(path, {name: rows[name] for name in baselines.NAMES if name in rows})


def _write(path, rows):
    with open(path, "w") as file:
        json.dump(rows, file, indent=1)
    lines = ["Digits, one pixel a step, by `configs/digits*.cfg`; seconds on the machine at hand.", "",
             "| model | " + " | ".join(COLUMNS.values()) + " |", "| --- |" + " --- |" * len(COLUMNS)]
    for model, row in rows.items():
        cells = [f"{v:.3f}" if isinstance(v := row[c], float) and c != "seconds" else str(v) for c in COLUMNS]
        lines.append(f"| {model} | " + " | ".join(cells) + " |")
    text = "\n".join(lines) + "\n"
    with open(os.path.join(FOLDER, "digits_table.md"), "w") as file:
        file.write(text)
    print(text)


if __name__ == "__main__":
    main()
