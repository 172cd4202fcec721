"""TFRecord files, a sequence a record, as rows that are steps.

Two forms of record are read:

- `tf.train.SequenceExample`: each feature list is a channel, with a value (or a vector, always as wide) at
  each step; an empty one is a missing value. Features of the context are of the whole sequence: its label.
- `tf.train.Example`: `x` are the floats of all steps, one step after another; `shape` is `[T, d]`. The other
  features are of the whole sequence.
"""

import os

import numpy as np

from santm_tf.errors import extra
from santm_tf.paths import open_file
from santm_tf.tasks.errors import TaskError
from santm_tf.tasks.reading.lists import ROW

ENDINGS = ".tfrecord", ".tfrecords"
FIRST = 50  # records of a file that tell which features there are
FRAME = 16  # bytes around a record
MOST = 2 ** 21  # bytes of records that are read at once


def chunks(path):
    """Some records of a file at a time.

    Yields:
      `(frame, channels, empty)`: a pandas DataFrame with a row a step, whose column `ROW` is the number of
      the record in the file; the names of the columns of steps; and how many records have no step.

    Raises:
      TaskError: the file is damaged, or its records are of another form.
    """
    import tensorflow as tf

    features, before = None, 0
    _check_sizes(path)
    try:
        for records in _together(tf.data.TFRecordDataset(path).as_numpy_iterator()):
            features = features or _features(records[:FIRST], path)
            yield _frame(records, *features, before, path)
            before += len(records)
    except tf.errors.OpError as error:
        raise TaskError(f"{path}: cannot be read as TFRecord after record {before} "
                        f"({error.message.splitlines()[0]})") from error


def _check_sizes(path):
    """Refuses a record that is longer than its file: TensorFlow makes room for it before it reads."""
    try:
        with open_file(path) as file:
            place, size, record = 0, os.fstat(file.fileno()).st_size, 0
            while place < size:
                length = int.from_bytes(os.pread(file.fileno(), 8, place), "little")
                if length > size:
                    raise TaskError(f"{path}: cannot be read as TFRecord after record {record} (the next one "
                                    f"is of {length:,} bytes, and the file of {size:,})")
                place, record = place + FRAME + length, record + 1
    except OSError as error:
        raise TaskError(f"{path}: {error.strerror}") from error


def _together(records):
    """Lists of records, each of about `MOST` bytes."""
    held, size = [], 0
    for record in records:
        held.append(record)
        size += len(record)
        if size >= MOST:
            yield held
            held, size = [], 0
    if held:
        yield held


def _features(records, path):
    """The types of the features of sequences and of steps, `({name: dtype}, {name: dtype})`."""
    import tensorflow as tf

    whole, steps = {}, {}
    try:
        for example in map(tf.train.SequenceExample.FromString, records):
            whole |= {name: _dtype(feature) for name, feature in example.context.feature.items()}
            for name, each in example.feature_lists.feature_list.items():
                found = [_dtype(feature) for feature in each.feature if feature.WhichOneof("kind")]
                steps |= {name: (found or [steps.get(name, tf.float32)])[0]}
    except Exception as error:  # google.protobuf's DecodeError, whose package is TensorFlow's own affair
        raise TaskError(f"{path}: its records are no tf.train.SequenceExample ({error})") from error
    if not steps and not {"x", "shape"} <= whole.keys():
        raise TaskError(f"{path}: its records have {', '.join(sorted(whole)) or 'no feature'}; a record is a "
                        "tf.train.SequenceExample, or a tf.train.Example with x, the floats of all steps, "
                        "and shape, [T, d]")
    return dict(sorted(whole.items())), dict(sorted(steps.items()))


def _dtype(feature):
    import tensorflow as tf

    return {"bytes_list": tf.string, "int64_list": tf.int64}.get(feature.WhichOneof("kind"), tf.float32)


def _frame(records, whole, steps, before, path):
    import tensorflow as tf

    with extra("data"):
        import pandas
    ragged = [{name: tf.io.RaggedFeature(dtype) for name, dtype in group.items()} for group in (whole, steps)]
    if steps:
        context, lists, _ = tf.io.parse_sequence_example(records, *ragged)
        channels, lengths = _channels(lists, path, before)
    else:
        context = tf.io.parse_example(records, ragged[0])
        channels, lengths = _flat(context.pop("x"), context.pop("shape"), path, before)
    row = np.repeat(np.arange(len(records)), lengths)
    columns = {name: _single(values, name, path, before)[row] for name, values in context.items()}
    frame = pandas.DataFrame(columns | channels | {ROW: before + row})
    return frame, tuple(channels), int((lengths == 0).sum())


def _channels(lists, path, before):
    """Columns of all steps, and the steps of each record, from the feature lists `[B, (T), (k)]`."""
    lengths, columns = None, {}
    for name, values in lists.items():
        mine = values.row_lengths().numpy()
        lengths = mine if lengths is None else lengths
        if (wrong := np.flatnonzero(mine != lengths)).size:
            row = wrong[0]
            raise TaskError(f"{path}, row {before + row + 1}: {name} has {mine[row]} steps and "
                            f"{next(iter(lists))} has {lengths[row]}; the lists of a record need as many")
        widths, flat = values.values.row_lengths().numpy(), _plain(values.flat_values, name, path)
        width = widths.max(initial=1)
        if not np.isin(widths, (0, width)).all():
            raise TaskError(f"{path}: {name} has steps of {widths.min()} to {width} values; they need as "
                            "many")
        table = _placed(flat, widths > 0, width)
        columns |= {f"{name}{i if width > 1 else ''}": column for i, column in enumerate(table.T)}
    return columns, lengths


def _flat(x, shape, path, before):
    """The same from `x` `[B, (T d)]` and `shape` `[B, 2]`."""
    sizes, counts = x.row_lengths().numpy(), shape.row_lengths().numpy()
    shapes = shape.values.numpy().reshape(-1, 2) if (counts == 2).all() else np.zeros([len(sizes), 2], int)
    width = shapes[:, 1].max(initial=1)
    odd = (counts != 2) | (shapes.prod(1) != sizes) | ((shapes[:, 1] != width) & (sizes > 0))
    if odd.any():
        row = odd.argmax()
        raise TaskError(f"{path}, row {before + row + 1}: x has {sizes[row]} values, and shape is "
                        f"{shape[row].numpy().tolist()}; it must be [T, {width}], of as many values")
    table = x.flat_values.numpy().astype(float).reshape(-1, width)
    return {f"x{i if width > 1 else ''}": column for i, column in enumerate(table.T)}, shapes[:, 0]


def _single(values, name, path, before):
    """A feature of sequences, one value of each, None or NaN where there is none."""
    counts, flat = values.row_lengths().numpy(), _plain(values.flat_values, name, path)
    if (counts > 1).any():
        row = (counts > 1).argmax()
        raise TaskError(f"{path}, row {before + row + 1}: {name} has {counts[row]} values; a feature of a "
                        "whole sequence has one")
    return flat if (counts == 1).all() else _placed(flat, counts == 1, 1)[:, 0]


def _placed(flat, known, width):
    """Values in the rows that are known, `[rows, width]`; None or NaN in the others."""
    texts = flat.dtype == object
    table = np.full([len(known), width], None if texts else np.nan, object if texts else float)
    table[known] = flat.reshape(-1, width)
    return table


def _plain(values, name, path):
    """Numbers as they are, bytes as texts."""
    found = values.numpy()
    if found.dtype != object:
        return found
    try:
        return np.array([value.decode() for value in found], object)
    except UnicodeDecodeError as error:
        raise TaskError(f"{path}: {name} holds bytes that are no UTF-8; save numbers as floats") from error
