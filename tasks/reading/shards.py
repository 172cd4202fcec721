"""Shards of sequences, Parquet or TFRecord, read piece by piece, so that they need not fit in memory."""

import dataclasses
import os

import numpy as np

from santm_tf.errors import extra
from santm_tf.tasks.errors import TaskError
from santm_tf.tasks.reading import files, forms, lists, records, roles, tables

PIECE = 2 ** 18  # values that are read at once, if no sequence has more
MIB = 2 ** 20


@dataclasses.dataclass(frozen=True, eq=False)
class Shards:
    """What shards hold, and how it is read.

    Attributes:
      found: the files, `files.Found`. roles: of their columns. columns: their names.
      categories: names of the channels that hold categories. per_step: whether the label is of each step, or
        None, which is as in the first sequences, `False`.
      notes: what was guessed, a line each.
    """

    found: tuple
    roles: roles.Roles
    columns: tuple
    categories: tuple
    per_step: bool
    asked_per_step: bool | None
    notes: tuple

    @property
    def sizes(self):
        """`[[name, bytes], ...]` of the files."""
        return [[os.path.basename(path), os.path.getsize(path)] for path, _ in self.found]

    def of_channels(self, names):
        """The same with these channels alone."""
        kept = {name: columns for name, columns in self.roles.channels.items() if name in names}
        return dataclasses.replace(self, roles=self.roles._replace(channels=kept))

    def pieces(self, number):
        """The sequences of a file, some at a time.

        Yields:
          `(Sequences, empty)`: sequences, or None; and how many beside them have no step.

        Raises:
          TaskError: the file is damaged, or holds something else than the first one.
        """
        path, part = self.found[number]
        for table, names, empty in _tables(path, part, self.roles):
            tables.same_columns(names, path, self.columns, self.found[0].path)
            yield self._sequences(table) if len(table.frame) else None, empty

    def _sequences(self, table):
        if not self.roles.long:
            return forms.wide(table, self.roles, self.categories)
        per_step = self.per_step or self.asked_per_step
        sequences = forms.long(table, self.roles, per_step, self.categories)
        if sequences.per_step and not self.per_step:
            raise TaskError(f"{sequences.where(0)}: from here on {','.join(self.roles.label)} changes within "
                            "a sequence, and before it does not; give --per_step")
        for name, categories in sequences.channels:
            if categories is not None and name not in self.categories:
                raise TaskError(f"{sequences.where(0)}: from here on {name} holds texts, and numbers in "
                                f"{self.found[0].path}; give --categories={name} if they are categories")
        return sequences


def streamed(found, above):
    """Why these files are to be streamed, or None.

    Args:
      found: `files.Found`. above: MiB of Parquet that are read into memory at most.
    """
    endings = {files.ending(each.path) for each in found}
    if endings & set(records.ENDINGS):
        return "TFRecord is always streamed"
    size = sum(os.path.getsize(each.path) for each in found if tables.is_parquet(each.path)) / MIB
    if size <= above:
        return None
    return f"{size:,.0f} MiB of Parquet are more than --stream_above_mib={above:g}"


def opened(found, given, per_step, notes=()):
    """The `Shards` of files, from the first sequences in them.

    Args:
      found: `files.Found`, those to train first. given: what the flags say, `roles.Given`.
      per_step: whether the label is of each step. None: as in the first sequences.

    Raises:
      TaskError: files of several formats, without a sequence, or whose columns cannot be told.
    """
    if len({tables.is_parquet(each.path) for each in found}) > 1:
        raise TaskError(f"--data_dir: {found[0].path} and {found[-1].path} are of different formats; give "
                        "shards of one")
    first = next(((table, names) for each in found for table, names, _ in _tables(*each) if len(table.frame)),
                 None)
    if first is None:
        raise TaskError(f"--data_dir: {found[0].path} and the other shards hold no sequence")
    table, columns = first
    where = found[0].path if len(found) == 1 else f"{found[0].path} and {len(found) - 1} more"
    if table.lists:
        given = roles.of_lists(given, table.lists, where)
    of = roles.of(table.frame, given, False, per_step, where)
    if of.long and not of.id:
        raise TaskError(f"--id: {where} are streamed; name the column that says which sequence a row is of")
    if not of.label:
        raise TaskError(f"--data_dir: {where} have no label; name its column by --label")
    alone = of._replace(group=None)  # which is refused where the task is made
    head = (forms.long(table, alone, per_step, given.categories) if of.long else
            forms.wide(table, of, given.categories))
    categories = tuple(channel.name for channel in head.channels if channel.categories is not None)
    notes = [*notes, *table.notes, f"{where}: {of.described()}"]
    if of.rest:
        notes.append(f"{where}: not read: {', '.join(of.rest)}; --channels takes them")
    return Shards(tuple(found), of, tuple(columns), categories, head.per_step, per_step, tuple(notes))


def _tables(path, part, of=None):
    """`(Table, names of all columns, empty)` for each piece of a file.

    Args:
      of: `Roles`, by which whole sequences are in a piece; None at first.
    """
    reader = _parquet if tables.is_parquet(path) else _records
    for frame, rows, names, names_of_lists, empty, notes in reader(path, of):
        yield tables.Table(frame, (path,), np.zeros(1, int), (part,), tuple(notes), rows, names_of_lists), \
            names, empty


def _records(path, of):
    for frame, channels, empty in records.chunks(path):
        yield frame, frame[lists.ROW].to_numpy(), tuple(frame), channels, empty, ()


def _parquet(path, of):
    with extra("data"):
        import pyarrow as pa
        from pyarrow import parquet
    with tables.readable(path):
        file = parquet.ParquetFile(path, buffer_size=MIB)
        names, held, before = file.schema_arrow.names, None, 0
        wanted = None if of is None else [name for name in names if name in _used(of)]
        for batch in file.iter_batches(_rows(file.metadata), columns=wanted):
            table = pa.Table.from_batches([batch])
            table = table if held is None else pa.concat_tables([held, table])
            whole = _whole(table, of)
            if whole:
                yield _frame(table.slice(0, whole), path, before, names)
            held, before = table.slice(whole), before + whole
        if held is not None and len(held):
            yield _frame(held, path, before, names)


def _frame(table, path, before, names):
    rows, notes = before + np.arange(len(table)), []
    table, of_lists, empty = lists.unrolled(table, path, before)
    frame = tables.as_frame(table, path, notes)
    return frame, frame[lists.ROW].to_numpy() if of_lists else rows, tuple(names), of_lists, empty, notes


def _used(of):
    """The columns that have a role."""
    return {of.id, of.time, *of.label, *(name for names in of.channels.values() for name in names)}


def _rows(metadata):
    """How many rows of a Parquet file have about `PIECE` values, lists counting as long as they are."""
    groups = [metadata.row_group(n) for n in range(metadata.num_row_groups)]
    values = sum(group.column(n).num_values for group in groups for n in range(group.num_columns))
    return max(1, PIECE * metadata.num_rows // max(1, values))


def _whole(table, of):
    """How many rows from the first one hold whole sequences: the last one may go on below."""
    import pyarrow.compute as pc

    if of is None or not of.long or of.id == lists.ROW:
        return len(table)
    column = table[of.id]
    if column[-1].as_py() is None:  # which is refused
        return len(table)
    others = np.flatnonzero(~pc.fill_null(pc.equal(column, column[-1]), False).to_numpy())
    return int(others[-1]) + 1 if len(others) else 0
