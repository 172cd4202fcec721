"""CSV and Parquet files as one pandas table that knows where each of its rows is from."""

import collections
import contextlib
import functools
import os
import re
from typing import NamedTuple

import numpy as np

from santm_tf.errors import extra
from santm_tf.paths import open_file
from santm_tf.tasks import sources
from santm_tf.tasks.errors import TaskError
from santm_tf.tasks.reading import encoding
from santm_tf.tasks.reading.lists import ROW, unrolled

AT_ONCE = 2 ** 13  # rows of a Parquet file
# Cells that stand for a missing value: in any column, and where the others are numbers.
MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "?")
NO_NUMBER = (*MISSING, "-", ".", "None", "none", "n/a", "NAN", "Null", "#N/A", "<NA>")


class Table(NamedTuple):
    """The rows of several files, one after another."""

    frame: object  # pandas.DataFrame
    paths: tuple
    firsts: np.ndarray  # the first row of each file
    parts: tuple  # of each file
    notes: tuple = ()
    rows: np.ndarray | None = None  # of each row its number in the file, from 0; None: they are counted
    lists: tuple = ()  # the columns whose cells were lists, of which each row here is a step

    def file(self, row):
        """The number of the file that a row is from."""
        return int(np.searchsorted(self.firsts, row, "right")) - 1

    def where(self, row):
        """Where a row is: `FILE, line 12`."""
        file = self.file(row)
        own = row - int(self.firsts[file]) if self.rows is None else int(self.rows[row])
        path = self.paths[file]
        if self.rows is not None or is_parquet(path):
            return f"{path}, row {own + 1}"
        return f"{path}, line {_lines(path, os.stat(path).st_mtime)[own]}"

    def each_row(self, values):
        """For each row, what `values` has for its file."""
        return np.repeat(values, np.diff([*self.firsts, len(self.frame)]))


def is_parquet(path):
    return path.lower().endswith((".parquet", ".pq"))


def read(paths, parts, as_text=()):
    """Several files as a `Table`.

    Args:
      paths: of CSV or Parquet files. parts: of each, see `Table`. as_text: columns whose cells stay as they
        are written, in CSV files.

    Raises:
      TaskError: a file that is damaged or empty, by its line; or one with other columns than the first.
    """
    with extra("data"):
        import pandas
    notes, rows = [], None
    frames, lists = zip(*(_parquet(path, notes) if is_parquet(path) else (_csv(path, as_text, notes), ())
                          for path in paths), strict=True)
    for frame, path in zip(frames, paths, strict=True):
        if frame.empty:
            raise TaskError(f"{path}: has a header and no row")
        same_columns(frame, path, frames[0], paths[0])
    firsts = np.cumsum([0, *map(len, frames[:-1])])
    whole = frames[0] if len(frames) == 1 else pandas.concat(frames, ignore_index=True)
    if lists[0]:
        rows = whole[ROW].to_numpy()
        whole[ROW] = np.cumsum(np.append(0, np.diff(rows) != 0) | np.isin(np.arange(len(rows)), firsts[1:]))
    return Table(whole, tuple(paths), firsts, tuple(parts), tuple(notes), rows, lists[0])


def same_columns(names, path, others, other):
    """Refuses a file with other columns than another one.

    Raises:
      TaskError: names the column and both files.
    """
    if odd := [name for name in others if name not in names] + [name for name in names if name not in others]:
        has, lacks = (path, other) if odd[0] in names else (other, path)
        raise TaskError(f"{lacks}: has no column {odd[0]}, which {has} has; all files need the same ones")


def _csv(path, as_text, notes):
    with extra("data"):
        from pyarrow import ArrowInvalid, csv, py_buffer, string
    content = encoding.utf8(path)
    text = encoding.beginning(content)
    separator = encoding.separator(text)
    _, names = next(encoding.rows(text, separator, path))
    names = _header(names, path)
    if b'"' in content:  # pyarrow reads over a quote that is open
        _check_rows(content, separator, len(names), path)
    if (mark := encoding.decimal(content, separator)) == ",":
        notes.append(f"{path}: its numbers are read with a decimal comma")
    convert = csv.ConvertOptions(  # true and false stay as they are written
        null_values=NO_NUMBER, decimal_point=mark, true_values=[], false_values=[],
        column_types={name: string() for name in as_text})
    options = csv.ReadOptions(column_names=names, skip_rows=_lines_before(content))
    try:
        table = csv.read_csv(py_buffer(content), options, csv.ParseOptions(
            delimiter=separator, newlines_in_values=b'"' in content), convert)
    except ArrowInvalid as error:
        _check_rows(content, separator, len(names), path)
        raise TaskError(f"{path}: cannot be read as CSV ({str(error).splitlines()[0]})") from error
    if mark == ",":
        table = _with_points(table, as_text)
    return as_frame(table, path, notes)


def _with_points(table, as_text):
    """The same where numbers with a decimal comma, in columns that texts made texts, have a point."""
    from pyarrow import compute, types

    for n, field in enumerate(table.schema):
        if types.is_string(field.type) and field.name not in as_text:
            points = compute.replace_substring_regex(
                table.column(n), r"^(\s*[-+]?\d*),(\d+(?:[eE][-+]?\d+)?\s*)$", r"\1.\2")
            table = table.set_column(n, field.name, points)
    return table


def _parquet(path, notes):
    """The rows of a file, and the columns that had lists."""
    with extra("data"):
        from pyarrow import Table, parquet
    with readable(path), open_file(path) as file:
        file, batches = parquet.ParquetFile(file), []
        for batch in file.iter_batches(AT_ONCE):  # what is packed may be small and its rows many
            sources.count(batch.nbytes, path)
            batches.append(batch)
        table = Table.from_batches(batches, file.schema_arrow)
    count = len(table)
    table, names, empty = unrolled(table, path)
    if empty:
        notes.append(f"{path}: {empty} of {count} sequences have no step and are left out")
    return as_frame(table, path, notes), names


@contextlib.contextmanager
def readable(path):
    """Where a Parquet file is read.

    Raises:
      TaskError: it is damaged.
    """
    with extra("data"):
        from pyarrow import ArrowException
    try:
        yield
    except (ArrowException, OSError) as error:
        raise TaskError(f"{path}: cannot be read as Parquet ({str(error).splitlines()[0]})") from error


def as_frame(table, path, notes):
    """A pandas DataFrame of numbers, texts and times; unnamed columns that say nothing are left out."""
    with extra("data"):
        import pyarrow as pa
    types = pa.types
    for n, field in enumerate(table.schema):
        kind = field.type
        if types.is_nested(kind) or types.is_binary(kind):
            raise TaskError(f"{path}: column {field.name} holds {kind}; a cell is a number, a text or a time")
        to = (pa.string() if types.is_time(kind) else kind.value_type if types.is_dictionary(kind)
              else pa.float64() if types.is_decimal(kind) or types.is_null(kind) else kind)
        if to != kind:
            table = table.set_column(n, field.name, table.column(n).cast(to))
    found = table.to_pandas(date_as_object=False, ignore_metadata=True)
    unnamed = [name for name in found if not name.strip() or name.startswith("__index_level_")]
    empty = [name for name in unnamed if found[name].isna().all()]
    counting = [name for name in unnamed if found[name].dtype.kind in "iu"
                and found[name].is_monotonic_increasing]
    if counting:
        notes.append(f"{path}: a column without a name counts the rows and is left out")
    return found.drop(columns=empty + counting).rename(
        columns={name: f"unnamed{n or ''}" for n, name in enumerate(unnamed)})


def _header(names, path):
    """The columns' names, if they are names."""
    names = [name.strip() or n * " " for n, name in enumerate(names)]
    if double := [name for name, count in collections.Counter(names).items() if count > 1]:
        raise TaskError(_no_header(path) if _are_numbers(double) else
                        f"{path}, line 1: two columns are called {double[0]}; each needs a name of its own")
    found = [float(name) for name in names if _are_numbers([name])]
    even = len(found) < 2 or (np.diff(found) > 0).all() and np.ptp(np.diff(found)) < 1e-6 * np.ptp(found)
    if not even:
        raise TaskError(_no_header(path))
    return names


def _no_header(path):
    return (f"{path}, line 1: is no header, its cells are numbers; put names above it, such as "
            "label,t0,t1,t2 for a sequence a row")


def _are_numbers(names):
    return all(re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", name) for name in names)


def _lines_before(content):
    """Lines up to the header's, that one counted."""
    blank = re.match(rb"(?:\xef\xbb\xbf)?\s*", content).group()
    return blank.count(b"\n") + 1


def _check_rows(content, separator, width, path):
    """Refuses a row of another width than the header, and a quote that stays open."""
    for line, row in encoding.rows(content.decode("utf-8-sig"), separator, path):
        if len(row) != width:
            raise TaskError(f"{path}, line {line}: {len(row)} cells, and the header has {width}; every row "
                            "needs as many")


@functools.lru_cache(maxsize=4)
def _lines(path, _):
    """The line of each row of a CSV file, which is read again for it: only messages need it."""
    content = encoding.utf8(path)
    separator = encoding.separator(encoding.beginning(content))
    return [line for line, _ in encoding.rows(content.decode("utf-8-sig"), separator, path)][1:]
