"""From a user's files to `Sequences`. NumPy alone; tables take pandas and pyarrow, the extra `data`."""

import dataclasses
import os

from santm_tf.tasks.errors import TaskError
from santm_tf.tasks.reading import arrays, files, forms, roles, shards, tables, ucr
from santm_tf.tasks.reading.arrays import of_arrays
from santm_tf.tasks.reading.sequences import Channel, Sequences, cleaned, joined

ABOVE = 1024  # MiB of Parquet that are read into memory at most

__all__ = ["Channel", "Sequences", "of_arrays", "read"]


def read(data_dir, *, validation_data=None, test_data=None, id=None, time=None, label=None, channels=None,
         categories=None, group=None, ignore=None, per_step=None, forecast=False, stream_above_mib=ABOVE):
    """The sequences of a user's files.

    Args:
      data_dir: a file or a folder. Formats are .npz, folders of .npy, CSV (.csv, .tsv, .txt with a header),
        Parquet, and the UCR and UEA archives' .ts, .tsv and .txt. Files of a folder are the parts that their
        names say: train, validation (valid, val, dev) and test.
      validation_data, test_data: files of these parts.
      id, time, group: names of columns. Rows of one `id` are a sequence, in order of `time`.
      label, channels, categories, ignore: names of columns, separated by commas.
      per_step: whether the label is of each step. None: where it changes within a sequence.
      forecast: what is predicted is the series itself, of which `label` names channels (default: all).
      stream_above_mib: Parquet files of more MiB are streamed, and so is TFRecord.

    Returns:
      `Sequences`, with a target; or for a `forecast` without, `targets` naming the channels of `label`. Of
      what is to be streamed, `shards.Shards`.

    Raises:
      TaskError: what cannot be read, in one line that names the file and the line, or the flag.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
    ...     file.writelines(["series,time,temp,state\\n", "a,0,1.5,ok\\n", "a,1,2.5,ok\\n", "b,0,9.0,bad\\n"])
    ...     file.flush()
    ...     found = read(file.name)
    >>> found.lengths.tolist(), found.target.tolist(), found.channels[0].name
    ([2, 1], [['ok'], ['bad']], 'temp')
    """
    flags = {"id": id, "time": time, "label": label, "channels": channels, "categories": categories,
             "group": group, "ignore": ignore}
    given = roles.Given(**{flag: _names(flag, text) for flag, text in flags.items()})
    aims, given = (given.label, given._replace(label=())) if forecast else ((), given)
    found, notes = files.find(data_dir, validation_data, test_data)
    if why := shards.streamed(found, stream_above_mib):
        if forecast:
            raise TaskError(f"--horizon: {data_dir} is streamed ({why}), and a forecast takes whole series; "
                            "give them as CSV, .npz, or Parquet within --stream_above_mib")
        return shards.opened(found, given, per_step, (*notes, f"{data_dir}: is streamed: {why}"))
    kinds = {_kind(each.path): each.path for each in found}
    if len(kinds) > 1:
        raise TaskError(f"--data_dir={data_dir}: {' and '.join(kinds.values())} are of different formats; "
                        "give files of one")
    kind, = kinds
    if kind == "table":
        sequences = _of_table(found, given, per_step, forecast)
    else:
        sequences = _of_records(kind, found, given, per_step)
    if forecast:
        if sequences.target is not None:
            notes = [*notes, f"{data_dir}: its label is not read, since --horizon predicts the series itself"]
        sequences = dataclasses.replace(sequences, target=None, targets=aims, per_step=False, kind=None)
        names = [channel.name for channel in sequences.channels if channel.categories is None]
        if odd := [name for name in aims if name not in names]:
            raise TaskError(f"--label={','.join(odd)}: is no channel of numbers to forecast; those are "
                            f"{','.join(names[:20])}")
    elif sequences.target is None:
        left = ", ".join([channel.name for channel in sequences.channels][:20])
        instead = {"table": f"name its column by --label, of {left}, or ",
                   "arrays": "add y, or "}.get(kind, "")
        raise TaskError(f"--data_dir={data_dir}: has no label; {instead}ask for a forecast by --horizon")
    return cleaned(dataclasses.replace(sequences, notes=(*notes, *sequences.notes)))


def _of_table(found, given, per_step, forecast):
    paths, parts = zip(*found, strict=True)
    table = tables.read(paths, parts, as_text=(*given.id, *given.group, *given.categories))
    where = paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
    if table.lists:
        given = roles.of_lists(given, table.lists, where)
    of = roles.of(table.frame, given, forecast, per_step, where)
    if of.long and not of.id and len(paths) > 1:
        names = table.each_row([os.path.splitext(os.path.basename(path))[0] for path in paths])
        table = table._replace(frame=table.frame.assign(file=names))
        of = of._replace(id="file")
    if of.long:
        sequences = forms.long(table, of, per_step, given.categories)
    else:
        sequences = forms.wide(table, of, given.categories)
    notes = [*table.notes, f"{where}: {of.described()}"]
    if of.rest:
        notes.append(f"{where}: not read: {', '.join(of.rest)}; --channels or --group takes them")
    return dataclasses.replace(sequences, notes=(*notes, *sequences.notes))


def _of_records(kind, found, given, per_step):
    for flag in ("id", "time", "label", "group", "ignore"):
        if names := getattr(given, flag):
            raise TaskError(f"--{flag}={','.join(names)}: {found[0].path} has no columns; it is for CSV and "
                            "Parquet")
    if kind == "arrays":
        pieces = [(part, arrays.stored(path, channels=given.channels, categories=given.categories,
                                       per_step=per_step), path) for path, part in found]
        return pieces[0][1] if len(pieces) == 1 else joined(pieces)
    for flag in ("channels", "categories"):
        if getattr(given, flag):
            raise TaskError(f"--{flag}: {found[0].path} names no channels; it is for CSV, Parquet and .npz")
    if per_step:
        raise TaskError(f"--per_step: {found[0].path} has one label a sequence")
    reader = ucr.ts if kind == "ts" else ucr.rows_of_numbers
    return joined([(part, reader(path), path) for path, part in found])


def _kind(path):
    """The format of a file or folder: "arrays", "ts", "rows" of numbers, or "table"."""
    ending = os.path.splitext(path)[1].lower()
    if os.path.isdir(path) or ending == ".npz":
        return "arrays"
    if ending == ".ts":
        return "ts"
    return "rows" if ending in (".tsv", ".txt") and ucr.is_rows_of_numbers(path) else "table"


def _names(flag, text):
    names = tuple(name.strip() for name in (text or "").split(",") if name.strip())
    if len(names) > 1 and flag in ("id", "time", "group"):
        raise TaskError(f"--{flag}={text}: names {len(names)} columns; name one")
    return names
