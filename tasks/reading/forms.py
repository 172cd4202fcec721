"""From a table and the roles of its columns to `Sequences`: long form, a row a step, and wide form."""

from typing import NamedTuple

import numpy as np

from santm_tf.errors import extra
from santm_tf.tasks.errors import TaskError
from santm_tf.tasks.reading import columns, times
from santm_tf.tasks.reading.sequences import Sequences


class Rows(NamedTuple):
    """The rows of a table, by sequence."""

    order: np.ndarray  # rows, each sequence's together and in order of time
    firsts: np.ndarray  # places in `order` where sequences begin
    notes: tuple

    def of_first(self, values):
        """For each sequence, what `values` has for its first row."""
        return values[self.order[self.firsts]]


def long(table, roles, per_step=None, categories=()):
    """Sequences of a table whose rows are steps.

    Args:
      table: a `Table`. roles: its `Roles`.
      per_step: whether the label is of each step. None: where it changes within a sequence.
      categories: names of the channels whose whole numbers are categories.

    Raises:
      TaskError: the row of a value that cannot be had, two rows of one time, or a label that changes.
    """
    rows = _by_sequence(table, roles)
    found = [columns.channel(table, names, name, name in categories)
             for name, names in roles.channels.items()]
    steps = np.concatenate([values for values, _ in found], 1)[rows.order]
    target, stepwise, notes = _target(table, roles, rows, per_step)
    ids = columns.texts(table.frame[roles.id]) if roles.id else np.zeros(len(steps), object)
    groups = columns.texts(table.frame[roles.group]) if roles.group else None
    if groups is not None:
        _same_group(table, roles, rows, groups)
    firsts = rows.order[rows.firsts]
    return Sequences(
        steps=steps, lengths=np.diff([*rows.firsts, len(steps)]), channels=tuple(kind for _, kind in found),
        target=target, targets=roles.label if target is not None else (), per_step=stepwise, kind=None,
        parts=_parts(table, firsts), groups=None if groups is None else rows.of_first(groups).astype(str),
        names=rows.of_first(ids).astype(str), where=lambda n: table.where(int(firsts[n])),
        notes=(*rows.notes, *notes))


def wide(table, roles, categories=()):
    """Sequences of a table whose rows are sequences; missing values at a row's end are no steps.

    The arguments are those of `long`, and so is the error.
    """
    steps_of = {column: name for name, found in roles.channels.items() for column in found}
    found = [columns.channel(table, names, name, name in categories
                             or any(steps_of.get(column) == name for column in categories))
             for name, names in roles.channels.items()]
    steps = np.stack([values for values, _ in found], 2)
    held = ~np.isnan(steps).all(2)
    lengths = np.where(held.any(1), held.shape[1] - held[:, ::-1].argmax(1), 0)
    within = np.arange(held.shape[1]) < lengths[:, None]
    count = len(table.frame)
    target = [columns.cells(table.frame[name]) for name in roles.label]
    names = columns.texts(table.frame[roles.id]) if roles.id else np.arange(count)
    groups = columns.texts(table.frame[roles.group]).astype(str) if roles.group else None
    return Sequences(
        steps=steps[within], lengths=lengths, channels=tuple(kind for _, kind in found),
        target=np.stack(target, 1) if target else None, targets=roles.label, per_step=False, kind=None,
        parts=_parts(table, np.arange(count)), groups=groups, names=names.astype(str), where=table.where)


def _by_sequence(table, roles):
    """The `Rows` of a table: sequences in the order in which they are met."""
    with extra("data"):
        import pandas
    count, notes = len(table.frame), []
    parts = table.each_row([part or 0 for part in table.parts])
    key = np.zeros(count, np.int64)
    if roles.id:
        key, known = columns.coded(table.frame[roles.id])
        blank = (known == "")[key]
        if blank.any():
            raise TaskError(f"{table.where(int(blank.argmax()))}: {roles.id} is empty; every row needs one")
    key = pandas.factorize(parts * (key.max() + 1) + key)[0]
    sequences = key.max() + 1
    if roles.id and sequences == count and count > 1:
        raise TaskError(f"--id={roles.id}: every row has another one, so each sequence has one step; if a "
                        "row is a sequence, leave --id out")
    begin = np.flatnonzero(np.append(True, np.diff(key) != 0))
    apart = np.bincount(key[begin], minlength=sequences) > 1
    if apart.any():
        row = int((key == apart.argmax()).argmax())
        notes.append(f"{apart.sum()} of {sequences} sequences have rows that are not together and are "
                     f"gathered, the first is {table.frame[roles.id].iloc[row]}")
    order = np.argsort(key, kind="stable")
    firsts = np.searchsorted(key[order], np.arange(sequences))
    if roles.time:
        order, more = _in_time(table, roles, key, order, firsts)
        notes += more
    return Rows(order, firsts, tuple(notes))


def _in_time(table, roles, key, order, firsts):
    """The rows of each sequence in order of time, and notes."""
    time, notes = times.numbered(table.frame[roles.time], roles.time, table.where)
    back = times.decreasing(time[order], firsts)
    if back:
        notes.append(f"{back} of {len(firsts)} sequences are not in order of {roles.time} and are sorted")
    order = np.lexsort((time, key))
    same = np.flatnonzero((np.diff(time[order]) == 0) & (np.diff(key[order]) == 0))
    if len(same):
        before, row = sorted(order[same[0]:same[0] + 2].tolist())
        when = f"{roles.time} {table.frame[roles.time].iloc[row]}"
        when += f" of {roles.id} {table.frame[roles.id].iloc[row]}" if roles.id else ""
        apart = "" if roles.id else ", and --id names the column that tells sequences apart"
        raise TaskError(f"{table.where(row)}: {when} is also at {table.where(before)}; a sequence has each "
                        f"time once{apart}")
    return order, notes


def _target(table, roles, rows, per_step):
    """Raw cells, whether they are of each step, and notes."""
    if not roles.label:
        return None, False, ()
    with extra("data"):
        import pandas
    target = np.stack([columns.cells(table.frame[name]) for name in roles.label], 1)
    target, notes = target[rows.order], []
    changing = np.zeros(len(rows.firsts), bool)
    each = np.empty([len(rows.firsts), target.shape[1]], object)
    for k, cells in enumerate(target.T):
        places, known = pandas.factorize(cells)  # -1: missing
        high = np.maximum.reduceat(places, rows.firsts)
        low = np.minimum.reduceat(np.where(places < 0, len(known), places), rows.firsts)
        changing |= low < high
        each[:, k] = np.append(known, [None])[high]
    if per_step is None and changing.any() and changing.sum() < len(changing):
        notes.append(_changes(table, roles, rows, changing) + "so it is read as a label at each step; "
                     "--noper_step refuses that")
    if per_step is False and changing.any():
        raise TaskError(_changes(table, roles, rows, changing) + "and --noper_step wants one a sequence")
    if per_step or per_step is None and changing.any():
        return target, True, notes or ["the label is of each step"]
    return each, False, notes


def _same_group(table, roles, rows, groups):
    """Refuses a sequence of several groups."""
    lengths = np.diff([*rows.firsts, len(rows.order)])
    other = groups[rows.order] != np.repeat(rows.of_first(groups), lengths)
    if other.any():
        row = int(rows.order[other.argmax()])
        raise TaskError(f"{table.where(row)}: --group={roles.group} changes within a sequence; all its rows "
                        "need the same one")


def _changes(table, roles, rows, changing):
    row = int(rows.order[rows.firsts[changing.argmax()]])
    return (f"{','.join(roles.label)} changes within {changing.sum()} of {len(changing)} sequences, the "
            f"first is at {table.where(row)}; ")


def _parts(table, rows):
    """The part of each sequence, by its first row, or None where the files give none."""
    return None if table.parts[0] is None else table.each_row(list(table.parts))[rows].astype(int)
