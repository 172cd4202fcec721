"""A column of times as numbers that sort as the times do."""

import re

import numpy as np

from santm_tf.errors import extra
from santm_tf.tasks.errors import TaskError

# Of a date by what separates its parts, in the order in which they are tried. ISO 8601 comes before them.
DATES = {".": ("%d.%m.%Y", "%m.%d.%Y", "%d.%m.%y", "%Y.%m.%d"),
         "/": ("%m/%d/%Y", "%d/%m/%Y", "%m/%d/%y", "%d/%m/%y", "%Y/%m/%d"),
         "-": ("%d-%m-%Y", "%m-%d-%Y", "%d-%b-%Y", "%d-%b-%y"),
         " ": ("%d %b %Y", "%Y %b", "%b %Y", "%d %B %Y", "%b %d %Y", "%B %d %Y")}
# What is put in order first: a weekday, a comma, a colon before the clock of a server's log, a zone apart.
PLAIN = ((r"^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? ", ""), (r"(?<=\d), ", " "),
         (r"^(\d+)/([A-Z][a-z]+)/(\d{4}):", r"\1 \2 \3 "), (r" (?:UTC|GMT|Z)$", "Z"),
         (r"(:\d\d(?:\.\d+)?) ([+-]\d{2}:?\d{2})$", r"\1\2"))
CLOCKS = ("", "%H:%M:%S", "%H:%M", "%H:%M:%S.%f", "%I:%M:%S %p", "%I:%M %p")
ORDERS = {"%d.%m": "day.month", "%m.%d": "month.day", "%m/%d": "month/day", "%d/%m": "day/month",
          "%d-%m": "day-month", "%m-%d": "month-day"}
HEAD = 50  # rows that tell which forms are tried
MIXED = "write all as 2020-01-31 12:00:00"


def numbered(column, name, where):
    """Times as numbers: those of a column of numbers as they are, else nanoseconds in UTC.

    Args:
      column: a pandas Series. name: its name. where: from a row to its name in a message.

    Returns:
      `(numbers, notes)`: float64 or int64 `[rows]`, and what was guessed.

    Raises:
      TaskError: the row without a time, or the one whose time is of another form than the others'.

    >>> import pandas
    >>> numbered(pandas.Series(["31.01.2020", "01.02.2020"]), "t", str)[0] / 86400e9
    array([18292., 18293.])
    """
    with extra("data"):
        import pandas
    if column.dtype.kind == "m":
        column = column.dt.total_seconds()
    numeric, dated = column.dtype.kind in "iufb", pandas.api.types.is_datetime64_any_dtype(column)
    text = column if numeric or dated else column.astype(str).str.strip()
    missing = column.isna() | (text == "")
    if missing.any():
        raise TaskError(f"{where(int(missing.argmax()))}: {name} has no time; every row needs one")
    if numeric:
        return _finite(column.to_numpy(), name, where), []
    if dated:
        return pandas.to_datetime(column, utc=True).dt.as_unit("ns").astype("int64").to_numpy(), []
    if pandas.to_numeric(text.head(HEAD), errors="coerce").notna().all():
        as_numbers = pandas.to_numeric(text, errors="coerce")
        if as_numbers.notna().all():
            return _finite(as_numbers.to_numpy(), name, where), []
    text = text.map(_plain)
    found, notes = _parsed(text, name, pandas)
    if found is None or found.isna().any():
        row = 0 if found is None else int(found.isna().argmax())
        raise TaskError(f"{where(row)}: {name} is {column.iloc[row]}, which is no time of the form that "
                        f"the other rows have; {MIXED}")
    return found.dt.as_unit("ns").astype("int64").to_numpy(), notes


def _finite(numbers, name, where):
    if (wrong := np.isinf(numbers.astype(float))).any():
        raise TaskError(f"{where(int(wrong.argmax()))}: {name} is {numbers[wrong.argmax()]}; every row needs "
                        "a time that is finite")
    return numbers


def are(column):
    """Whether a column of texts begins with what looks like a time."""
    first = [_plain(str(cell).strip()) for cell in column.dropna().head(20)]
    shape = re.compile(r"\d{1,4}[-/.]\d{1,2}([-/.]\d{1,4})?([ T]\d.*)?|\d{4} [A-Z][a-z]+|"
                       r"\d{1,2}([- ])([A-Z][a-z]+|[A-Z]{3})\3\d{2,4}( \d.*)?|"
                       r"[A-Z][a-z]+( \d{1,2})? \d{4}( \d.*)?|\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?")
    return bool(first) and sum(bool(shape.fullmatch(cell)) for cell in first) > len(first) / 2


def _plain(text):
    for pattern, plain in PLAIN:
        text = re.sub(pattern, plain, text)
    return text


def _parsed(text, name, pandas):
    """The times of the form that fits most rows, NaT where it does not fit; None where no form fits any."""
    best, fits, both, head = None, 0, [], text.head(HEAD)
    for form in _forms(text):
        if pandas.to_datetime(head, format=form, utc=True, errors="coerce").isna().all():
            continue
        found = pandas.to_datetime(text, format=form, utc=True, errors="coerce")
        if (count := int(found.notna().sum())) > fits:
            best, fits, both = found, count, [form]
        elif count == fits == len(text):
            both.append(form)
    orders = [ORDERS[form[:5]] for form in both if form[:5] in ORDERS]
    notes = []
    if len(orders) > 1:
        notes.append(f"{name}: {text.iloc[0]} is read as {orders[0]}, and {orders[1]} fits, too; write "
                     "2020-01-31 if that is wrong")
    return best, notes


def _forms(text):
    """The forms that the first time may be of."""
    first = text.iloc[0]
    zone = "%z" if re.search(r"\d(Z|[+-]\d{2}:?\d{2})$", first) and ":" in first else ""
    sign = next((sign for sign in "./-" if re.match(rf"\d+\{sign}[\dA-Z]", first)), " ")
    dates = ("ISO8601",) if re.match(r"\d{4}-\d|\d{8}T", first) else ()
    dated = [] if re.match(r"\d{1,2}:\d{2}", first) else DATES[sign]
    forms = [f"{date} {clock}".strip() + zone for date in dated for clock in CLOCKS]
    return [*dates, *forms, *((clock + zone for clock in CLOCKS[1:]) if not dated else ())]


def decreasing(numbers, firsts):
    """How many runs, which begin at `firsts`, have a time before the one above it."""
    back = np.append(False, np.diff(numbers) < 0)
    back[firsts] = False
    return int(np.logical_or.reduceat(back, firsts).sum()) if len(firsts) else 0
