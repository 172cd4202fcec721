"""A benchmark's results as JSON and as a Markdown table."""

import json
import os

FOLDER = os.path.join(os.path.dirname(__file__), "results")
PICTURES = os.path.join(os.path.dirname(__file__), "..", "docs", "pictures")  # which pages show


def write(name, title, first, rows, columns, shown=str):
    """Writes `results/NAME.json` and the table `NAME.md`, and prints the table.

    Args:
      title: a line above the table.
      first: heading of the rows' names.
      rows: `{name: {key: value}}`.
      columns: `{key: heading}`.
      shown: from a float to its text; other values are shown as they are, missing ones not at all.
    """
    os.makedirs(FOLDER, exist_ok=True)
    path = os.path.join(FOLDER, name)
    with open(f"{path}.json", "w") as file:
        json.dump(rows, file, indent=1)
    lines = [title, "", f"| {first} | " + " | ".join(columns.values()) + " |",
             "| --- |" + " --- |" * len(columns)]
    for label, row in rows.items():
        values = [row.get(key, "") for key in columns]
        cells = [shown(value) if isinstance(value, float) else str(value) for value in values]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    text = "\n".join(lines) + "\n"
    with open(f"{path}.md", "w") as file:
        file.write(text)
    print(text)


def read(name):
    """The rows of `results/NAME.json`, or none."""
    path = os.path.join(FOLDER, f"{name}.json")
    if not os.path.exists(path):
        return {}
    with open(path) as file:
        return json.load(file)


def rounded(value):
    """Three digits, or all before the point.

    >>> rounded(0.98611), rounded(0.000151), rounded(2899.8)
    ('0.986', '0.000151', '2900')
    """
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"
