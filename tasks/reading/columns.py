"""A column of a table as a channel, or as a target."""

import numpy as np

from santm_tf.errors import extra
from santm_tf.tasks.errors import TaskError
from santm_tf.tasks.reading.sequences import Channel, written
from santm_tf.tasks.reading.tables import MISSING, NO_NUMBER


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
      TaskError: the row of an infinite value, or of a text among numbers.
    """
    text = [is_text(table.frame[column]) for column in names]
    if not categories:
        values = [_numbers(table, column) if texts else table.frame[column].to_numpy(float, na_value=np.nan)
                  for column, texts in zip(names, text, strict=True)]
        if all(each is not None for each in values):
            values = np.stack(values, 1)
            _refuse_infinite(table, values, names)
            return values, Channel(name)
    return _categories(table, names, name)


def cells(column):
    """A target's raw cells, object `[rows]`: texts or floats, None or NaN for a missing one."""
    if is_text(column) or column.dtype.kind == "b":
        values = texts(column)
        return np.where(np.isin(values.astype(str), MISSING), None, values)
    return column.to_numpy(float, na_value=np.nan).astype(object)


def texts(column):
    """A column's cells as text, object `[rows]`, "" for a missing one."""
    with extra("data"):
        import pandas
    places, known = pandas.factorize(column)
    return np.array([*(written(cell).strip() for cell in known.tolist()), ""], object)[places]


def _numbers(table, name):
    """The numbers of a column of texts; None where most of them are none.

    Raises:
      TaskError: most are, and this one is not.
    """
    with extra("data"):
        import pandas
    column = table.frame[name]
    numbers = pandas.to_numeric(column, errors="coerce").to_numpy(float, na_value=np.nan)
    rest = np.flatnonzero(np.isnan(numbers))
    odd = rest[~np.isin(texts(column.iloc[rest]).astype(str), NO_NUMBER)]
    if len(odd) > len(numbers) - len(rest):
        return None
    if len(odd):
        row = int(odd[0])
        raise TaskError(f"{table.where(row)}: {name} is {column.iloc[row]!r}, and a number in most rows; "
                        f"mend it, leave it empty if it is missing, or give --categories={name}")
    return numbers


def _categories(table, names, name):
    with extra("data"):
        import pandas
    cells = np.concatenate([texts(table.frame[column]) for column in names])
    places, known = pandas.factorize(cells)
    missing = np.isin(known.astype(str), MISSING)
    order = sorted(np.flatnonzero(~missing), key=lambda n: _sort_key(known[n]))
    rank = np.full(len(known) + 1, np.nan)
    rank[order] = np.arange(len(order))
    values = rank[places].reshape(len(names), -1).T
    return values, Channel(name, tuple(known[order].tolist()))


def _sort_key(text):
    """Whole numbers in their order, before texts."""
    return (0, int(text), text) if text.lstrip("-").isdecimal() else (1, 0, text)


def _refuse_infinite(table, values, names):
    if (wrong := np.argwhere(np.isinf(values))).size:
        row, column = wrong[0]
        raise TaskError(f"{table.where(int(row))}: {names[column]} is {values[row, column]}; mend it, or "
                        "leave it empty if it is missing")
