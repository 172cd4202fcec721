"""A column of a table as a channel, or as a target."""

import re

import numpy as np

from santm_tf.errors import extra
from santm_tf.tasks.errors import TaskError
from santm_tf.tasks.reading.sequences import Channel, excess, excessive, written
from santm_tf.tasks.reading.tables import MISSING, NO_NUMBER

# With marks between thousands: 1,234.5 or 1.234,5 or 1.234.567.
GROUPED = re.compile(r"[-+]?\d{1,3}((,\d{3})+(\.\d+)?|(\.\d{3})+,\d+|(\.\d{3}){2,})")


def is_text(column):
    """Whether a column holds texts, if only some."""
    return column.dtype.kind in "OTU" or str(column.dtype) in ("string", "str")


def is_time(column):
    return column.dtype.kind == "M" or str(column.dtype).startswith("datetime64")


def channel(table, names, name, categories=False):
    """A channel of one column or, in the wide form, of several.

    Args:
      table: a `Table`. names: of the columns. name: of the channel. categories: whether whole numbers are.

    Returns:
      float64 `[rows, columns]`, and the `Channel`.

    Raises:
      TaskError: the row of a value that is infinite or too large, or of a text among numbers.
    """
    text = [is_text(table.frame[column]) for column in names]
    if not categories:
        values = [_numbers(table, column) if texts else table.frame[column].to_numpy(float, na_value=np.nan)
                  for column, texts in zip(names, text, strict=True)]
        if all(each is not None for each in values):
            values = np.stack(values, 1)
            _refuse_excess(table, values, names)
            return values, Channel(name)
    return _categories(table, names, name)


def coded(column):
    """A column's cells as places in an array of texts, whose last one, "", is that of a missing cell."""
    with extra("data"):
        import pandas
    places, known = pandas.factorize(column)
    return places, np.array([*(written(cell).strip() for cell in known.tolist()), ""], object)


def texts(column):
    """A column's cells as text, object `[rows]`, "" for a missing one."""
    places, known = coded(column)
    return known[places]


def cells(column):
    """A target's raw cells, object `[rows]`: texts or floats, None or NaN for a missing one."""
    if not is_text(column) and column.dtype.kind != "b":
        return column.to_numpy(float, na_value=np.nan).astype(object)
    places, known = coded(column)
    return np.array([None if cell in MISSING else cell for cell in known], object)[places]


def _numbers(table, name):
    """The numbers of a column of texts; None where most of them are none, and not all in the first file.

    Raises:
      TaskError: most are, and this one is not, or has marks between thousands.
    """
    with extra("data"):
        import pandas
    places, known = coded(table.frame[name])
    values = pandas.to_numeric(pandas.Series(known), errors="coerce").to_numpy(float)
    odd = np.isnan(values) & ~np.isin(known.astype(str), NO_NUMBER)
    wrong, right = odd[places].sum(), (~np.isnan(values))[places].sum()
    grouped = odd & np.array([bool(GROUPED.fullmatch(cell)) for cell in known])
    count = grouped[places].sum()
    if count and right + count > wrong - count:  # most would be numbers without the marks
        row = int(grouped[places].argmax())
        raise TaskError(f"{table.where(row)}: {name} is {known[places[row]]!r}; write numbers with a "
                        f"decimal point and no mark between thousands, or give --categories={name}")
    trained = slice(*[*table.firsts, len(places)][:2])  # the first file's rows
    if wrong > right and (odd[places[trained]].any() or np.isnan(values[places[trained]]).all()):
        return None
    if wrong:
        row = int(odd[places].argmax())
        raise TaskError(f"{table.where(row)}: {name} is {known[places[row]]!r}, and a number in most rows; "
                        f"mend it, leave it empty if it is missing, or give --categories={name}")
    return values[places]


def _categories(table, names, name):
    """A channel of categories in the order of their names, whole numbers in their own."""
    found = [coded(table.frame[column]) for column in names]
    union = sorted({text for _, known in found for text in known} - set(MISSING), key=order)
    rank = {text: float(place) for place, text in enumerate(union)}
    values = [np.array([rank.get(text, np.nan) for text in known])[places] for places, known in found]
    return np.stack(values, 1), Channel(name, tuple(union))


def order(text):
    """Whole numbers in their order, before texts."""
    return (0, int(text), text) if text.lstrip("-").isdecimal() else (1, 0, text)


def _refuse_excess(table, values, names):
    if (wrong := np.argwhere(excessive(values))).size:
        row, column = wrong[0]
        raise TaskError(f"{table.where(int(row))}: {names[column]} is {excess(values[row, column])}; mend "
                        "it, or leave it empty if it is missing")
