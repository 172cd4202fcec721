"""The picture of the three levels, `docs/pictures/levels.svg`: `python -m benchmarks.levels`."""

import os
import pathlib

from benchmarks import table

STEPS, BOUNDARIES, ACCESSES, SLOTS = 16, (3, 6, 8, 11, 15), (3, 10, 15), 6
LEFT, STEP = 190, 36
ROWS = {"input": ("input", "x_t", 330, "#8a8f98"),
        "bottom": ("bottom: an LSTM", "every step", 260, "#2f6db5"),
        "middle": ("middle: an LSTM", "at segments' ends", 180, "#2a8a57"),
        "top": ("top: external memory", "where the mask is 1", 100, "#b5532f")}
TEXT = '<text x="{}" y="{}" fill="{}"{}>{}</text>'
BOX = '<rect x="{}" y="{}" width="{}" height="{}" rx="4" fill="{}"/>'
LINE = '<path d="M{} {}L{} {}" stroke="{}" stroke-width="2"{}/>'


def x_of(step):
    return LEFT + step * STEP


def level(name, steps):
    """A row of boxes, one for each step at which the level acts, in a line of what it holds between."""
    title, when, y, color = ROWS[name]
    held = LINE.format(x_of(0) + 12, y, x_of(STEPS - 1) + 12, y, "#c9ced6", "")
    boxes = [BOX.format(x_of(step), y - 12, 24, 24, color) for step in steps]
    return [TEXT.format(16, y - 3, color, ' font-weight="bold"', title),
            TEXT.format(16, y + 14, "#555", "", when), held, *boxes]


def arrows(steps, below, above):
    """What a level hands to the one above it."""
    return [LINE.format(x_of(step) + 12, ROWS[below][2] - 14, x_of(step) + 12, ROWS[above][2] + 18, "#555",
                        ' marker-end="url(#arrow)"') for step in steps]


def picture():
    """The picture as SVG, on a ground of its own, so that it is readable on dark pages, too."""
    slots = [BOX.format(x_of(STEPS) + 20, 40 + 20 * slot, 70, 16, "#e5b8a5" if slot % 2 else "#d3825f")
             for slot in range(SLOTS)]
    access = LINE.format(x_of(STEPS - 1) + 28, 100, x_of(STEPS) + 16, 100, "#555",
                         ' marker-start="url(#arrow)" marker-end="url(#arrow)"')
    recall = LINE.format(x_of(STEPS) + 55, 162, x_of(STEPS) + 55, 246, "#555", ' marker-end="url(#arrow)"')
    y = [TEXT.format(x_of(STEPS) + 20, 268, "#333", ' font-weight="bold"', "output"),
         TEXT.format(x_of(STEPS) + 20, 285, "#555", "", "of all levels"),
         TEXT.format(x_of(STEPS) + 62, 205, "#555", "", "recall"),
         TEXT.format(x_of(STEPS) + 20, 30, "#555", "", "slots")]
    parts = [level("input", range(STEPS)), level("bottom", range(STEPS)), level("middle", BOUNDARIES),
             level("top", ACCESSES), arrows(range(STEPS), "input", "bottom"),
             arrows(BOUNDARIES, "bottom", "middle"), arrows(ACCESSES, "middle", "top"), slots,
             [access, recall], y]
    return "\n".join([
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 370" font-family="sans-serif" '
        'font-size="13">',
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="5" markerHeight="5" '
        'orient="auto-start-reverse"><path d="M0 0L8 4L0 8z" fill="#555"/></marker></defs>',
        '<rect width="900" height="370" rx="10" fill="#fbfbf8"/>', *sum(parts, []), "</svg>", ""])


if __name__ == "__main__":
    pathlib.Path(os.path.join(table.PICTURES, "levels.svg")).write_text(picture())
