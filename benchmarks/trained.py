"""Runs of train.py as rows of a table."""

import json
import os
import subprocess
import sys

FOLDER = os.path.join(os.path.dirname(__file__), "results")


def result(config, workdir, *flags):
    """The last line of the run that a flag file describes; a run that is there is taken as it is."""
    command = [sys.executable, "train.py", f"--flagfile={config}", f"--workdir={workdir}", "--resume", *flags]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.strip().split("\n")[-1])


def curve(workdir, figure):
    """A figure after each epoch of a run."""
    with open(os.path.join(workdir, "metrics.json")) as file:
        return [round(epoch[figure], 4) for epoch in json.load(file)["epochs"]]


def rows(name):
    """The rows of `results/NAME.json`, or none."""
    path = os.path.join(FOLDER, f"{name}.json")
    if not os.path.exists(path):
        return {}
    with open(path) as file:
        return json.load(file)


def write(name, title, first, rows, columns):
    """Writes `results/NAME.json` and the table `NAME.md`, and prints the table.

    Args:
      title: a line above the table.
      first: heading of the rows' names.
      rows: `{name: {key: value}}`.
      columns: `{key: heading}`.
    """
    path = os.path.join(FOLDER, name)
    with open(f"{path}.json", "w") as file:
        json.dump(rows, file, indent=1)
    lines = [title, "", f"| {first} | " + " | ".join(columns.values()) + " |",
             "| --- |" + " --- |" * len(columns)]
    for label, row in rows.items():
        lines.append(f"| {label} | " + " | ".join(_shown(key, row.get(key, "")) for key in columns) + " |")
    text = "\n".join(lines) + "\n"
    with open(f"{path}.md", "w") as file:
        file.write(text)
    print(text)


def _shown(key, value):
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if key == "seconds" else f"{value:.3g}" if value < 0.1 else f"{value:.3f}"
