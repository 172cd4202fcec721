"""Puts the tables of `benchmarks/results/` where README and docs/ ask for them: `python -m benchmarks.pages`.

A page asks by `<!-- table: NAME -->`; what stands between that line and `<!-- end -->` is replaced by the
table of `results/NAME.md`, without the line above it.
"""

import glob
import os
import re

from benchmarks.table import FOLDER

PAGES = ["README.md", *sorted(glob.glob("docs/*.md"))]
PLACE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(text, tables):
    """A page's text with its tables as they are now.

    >>> filled("<!-- table: a -->\\nold\\n<!-- end -->", {"a": "| new |\\n"}.__getitem__)
    '<!-- table: a -->\\n| new |\\n<!-- end -->'
    """
    return PLACE.sub(lambda place: place[1] + tables(place[2]) + place[3], text)


def table(name):
    """The lines of `results/NAME.md` that are a table's."""
    with open(os.path.join(FOLDER, f"{name}.md")) as file:
        return "".join(line for line in file if line.startswith("|"))


def main():
    for page in PAGES:
        with open(page) as file:
            text = filled(file.read(), table)  # before the page is opened for writing, which empties it
        with open(page, "w") as file:
            file.write(text)


if __name__ == "__main__":
    main()
