"""What the columns of a table are: given by flags, or guessed from names and contents."""

import re
from typing import NamedTuple

import numpy as np

from santm_tf.tasks.errors import TaskError
from santm_tf.tasks.reading import times
from santm_tf.tasks.reading.columns import is_text, is_time
from santm_tf.tasks.reading.lists import ROW

IDS = ("id", "ids", "uid", "uuid", "series", "sequence", "seq", "case", "episode", "trial", "session",
       "recording", "unit", "machine", "engine", "device", "patient", "subject", "user", "customer", "key")
TIMES = ("time", "timestamp", "ts", "datetime", "date", "t", "step", "cycle", "tick", "frame", "index", "idx")
CLOCK = ("year", "month", "day", "hour", "minute", "second")  # a time if they never repeat, else a channel
LABELS = ("label", "labels", "class", "target", "y")
STATES = ("outcome", "state", "status", "activity", "diagnosis", "anomaly", "category", "result", "sentiment",
          "failure", "fault", "fraud", "churn", "churned", "rul")
UNIT = r"(?<=\w)(\s*[(\[][^)\]]*[)\]]|[_/ ](ns|us|ms|s|sec|seconds|min|h|utc|UTC))$"  # behind a time
FEWEST = 8  # columns of numbers that are taken as steps though nothing numbers them


class Given(NamedTuple):
    """The columns that the user names, each flag a tuple of names."""

    id: tuple = ()
    time: tuple = ()
    label: tuple = ()
    channels: tuple = ()
    categories: tuple = ()
    group: tuple = ()
    ignore: tuple = ()


class Roles(NamedTuple):
    """The columns of a table by what they are.

    Attributes:
      long: a row is a step; else it is a sequence, whose steps are columns.
      id, time, group: names, or None. label: names.
      channels: `{name: [column, ...]}`, in the long form one column each.
      rest: columns that are nothing of these.
    """

    long: bool
    id: str | None
    time: str | None
    label: tuple
    group: str | None
    channels: dict
    rest: tuple

    def described(self):
        """What was understood, in one line."""
        names = list(self.channels)
        channels = f"channels={','.join(names if len(names) < 9 else [*names[:8], '...'])}"
        if self.id == ROW:
            label = ",".join(self.label) or "none"
            return (f"read as a row a sequence, whose steps are in lists: label={label}, {channels}; "
                    f"give --label or --channels if that is wrong")
        found = f"{self.listed()}, {channels}"
        if self.long:
            return (f"read as long form, a row a step: {found}; give --id, --time, --label or --channels if "
                    "that is wrong")
        steps = [column for columns in self.channels.values() for column in columns]
        return (f"read as wide form, a row a sequence: steps {steps[0]} to {steps[-1]}, {found}; give "
                "--label or --channels if that is wrong, or --id if a row is a step")

    def listed(self):
        """The roles of single columns: `id=case, time=none, label=state`."""
        found = {"id": self.id, **({"time": self.time} if self.long else {}), "label": ",".join(self.label)}
        return ", ".join(f"{name}={value or 'none'}" for name, value in found.items())


def of(frame, given, forecast, per_step, where):
    """The `Roles` of a table.

    Args:
      frame: a pandas DataFrame. given: what the flags say. forecast: whether no label is wanted.
      per_step: whether rows have to be steps.
      where: the files' names, for an error.

    Raises:
      TaskError: a flag that names no column, or columns whose roles cannot be told.
    """
    _check(frame, given, where)
    left = [name for name in frame if name not in given.ignore + given.group]
    runs = {} if given.id or given.time or per_step else _steps(frame, left, given)
    roles = _wide(frame, left, runs, given, forecast) if runs else _long(frame, left, given, forecast)
    if roles.long and not (roles.id or roles.time or forecast or per_step):
        raise TaskError(f"{where}: its form cannot be told; give --id=COLUMN if a row is a step, or "
                        f"--channels=COLUMN,... if the columns are steps; it has {_listed(frame)}")
    if not roles.channels:
        raise TaskError(f"{where}: has no channel beside {roles.listed()}; give --channels; it has "
                        f"{_listed(frame)}")
    columns = {column for found in roles.channels.values() for column in found}
    if odd := [name for name in given.categories if name not in columns | roles.channels.keys()]:
        raise TaskError(f"--categories={','.join(odd)}: is no channel; the channels are "
                        f"{','.join(list(roles.channels)[:20])}")
    return roles


def of_lists(given, names, where):
    """What the flags say, and that lists are channels unless they are something else.

    Args:
      names: of the columns that had lists. where: the files' names, for an error.

    Raises:
      TaskError: an id, which a row needs none of.
    """
    if given.id:
        raise TaskError(f"--id={given.id[0]}: each row of {where} is a sequence; leave it out")
    taken = {*given.label, *given.time, *given.group, *given.ignore}
    channels = given.channels or tuple(
        name for name in names if name not in taken and not _word(name, LABELS + TIMES))
    return given._replace(id=(ROW,), channels=channels)


def _check(frame, given, where):
    """Refuses a flag that names no column, or one that is something else already."""
    taken = {}
    for flag, names in given._asdict().items():
        for name in names:
            if name not in frame and not (flag in ("channels", "categories") and _runs(frame).get(name)):
                raise TaskError(f"--{flag}={name}: {where} has no such column; it has {_listed(frame)}")
            if flag != "categories" and taken.setdefault(name, flag) != flag:
                raise TaskError(f"--{flag}={name}: is --{taken[name]}, too; a column is one of them")
            if flag in ("channels", "categories") and name in frame and is_time(frame[name]):
                raise TaskError(f"--{flag}={name}: holds times; a channel holds numbers or categories")


def _long(frame, left, given, forecast):
    free = [name for name in left if name not in (*_columns(frame, given.channels), *given.categories)]
    time = _first(given.time) or _time(frame, [name for name in free if name not in given.id + given.label])
    id_ = _first(given.id) or _id(frame, [name for name in free if name not in (time, *given.label)], time)
    label = given.label
    if not (label or forecast):
        label = _label(frame, [name for name in free if name not in (id_, time)])
    others = [name for name in left if name not in (id_, time, *label)]
    channels = _columns(frame, given.channels) or [name for name in others
                                                   if not _left_out(frame[name], name, given)]
    return Roles(True, id_, time, tuple(label), _first(given.group), {name: [name] for name in channels},
                 tuple(name for name in others if name not in channels))


def _wide(frame, left, runs, given, forecast):
    steps = {column for columns in runs.values() for column in columns}
    others = [name for name in left if name not in steps]
    id_ = next((name for name in others if _word(name, IDS) and frame[name].is_unique), None)
    label = given.label or (() if forecast else _label(frame, [name for name in others if name != id_]))
    return Roles(False, id_, None, tuple(label), _first(given.group), runs,
                 tuple(name for name in others if name not in (id_, *label)))


def _steps(frame, left, given):
    """The columns that are steps, by channel; {} where the form is long."""
    left = [name for name in left if name not in given.label]
    of_rows = _repeating(frame, left) or _time(frame, left)
    if given.channels:
        if not any(name in frame for name in given.channels):
            return {name: _runs(frame)[name] for name in given.channels}
        left = _columns(frame, given.channels)
    runs = {stem: _of_a_kind(frame, columns) for stem, columns in _runs(frame[left]).items()}
    longest = max(map(len, runs.values()), default=0)
    runs = {name: columns for name, columns in runs.items() if len(columns) == longest}
    most = longest > 2 and sum(map(len, runs.values())) >= len(left) / 2
    if most and (not of_rows or all(not name or _word(name, TIMES) for name in runs)):
        return {name or "x": columns for name, columns in runs.items()}
    numbers = [name for name in left if not (is_text(frame[name]) or is_time(frame[name]))]
    if not of_rows and (given.channels or len(left) - 2 <= len(numbers) >= FEWEST):
        return {"x": left if given.channels else numbers}
    return {}


def _of_a_kind(frame, columns):
    """Columns without a few of words among those of numbers, such as an id called V1 before V2 to V99."""
    words = [name for name in columns if is_text(frame[name]) and not _mostly_numbers(frame[name])]
    return columns if len(words) > len(columns) / 2 else [name for name in columns if name not in words]


def _columns(frame, channels):
    """The columns of channels, each called by its name or by what it and others have before a number."""
    return [column for name in channels for column in ([name] if name in frame else _runs(frame)[name])]


def _runs(frame):
    """Columns whose names differ by a number alone, by the rest of the name, in the order of the numbers."""
    runs = {}
    for name in frame:
        if match := re.fullmatch(r"(.*?)[_\-. \[(]*(-?\d+(?:\.\d+)?)[\])]?", name):
            runs.setdefault(match[1], []).append((float(match[2]), name))
    return {stem: [name for _, name in sorted(found)] for stem, found in runs.items() if len(found) > 1}


def _repeating(frame, left):
    """The column that is called an id and names several rows each, or None."""
    return next((name for name in left if _word(name, IDS) and not frame[name].is_unique), None)


def _id(frame, left, time):
    """The id's column: by its name; else the first one, if its rows are together or the times begin anew."""
    if found := _repeating(frame, left):
        return found
    if len(left) < 2 or _word(left[0], LABELS + STATES):
        return None
    column, count = frame[left[0]], len(frame)
    if not (is_text(column) or column.dtype.kind in "iu") or not 2 <= column.nunique() <= count / 2:
        return None
    if time:
        anew = frame[time].duplicated().any() and not frame.duplicated([left[0], time]).any()
        return left[0] if anew else None
    changes = int((column != column.shift()).sum())
    return left[0] if changes == column.nunique() else None


def _time(frame, left):
    """The time's column: by its name, or the only one that holds dates."""
    for name in left:
        if _word(re.sub(UNIT, "", name), TIMES) and (not is_text(frame[name]) or times.are(frame[name])):
            return name
        if _word(name, CLOCK) and frame[name].is_unique:
            return name
    dated = [name for name in left if is_time(frame[name]) or is_text(frame[name]) and times.are(frame[name])]
    return dated[0] if len(dated) == 1 else None


def _label(frame, left):
    """The label's column: by its name; else the last or the first one, if it holds a few texts."""
    for words in LABELS, STATES:
        if named := [name for name in left if _word(name, words)]:
            return tuple(named[-1:])
    for name in left[-1:] + left[:1]:
        if is_text(frame[name]) and frame[name].nunique() <= len(frame) / 2 and not times.are(frame[name]):
            return (name,)
    return ()


def _left_out(column, name, given):
    """Whether a column is no channel unless the user says so: a date, or a text that hardly repeats."""
    long_text = is_text(column) and len(column) > 20 and _free(column)
    return name not in given.categories and (is_time(column) or long_text)


def _free(column):
    return column.nunique() > len(column) / 2 and not _mostly_numbers(column)


def _mostly_numbers(column):
    return np.mean([bool(re.fullmatch(r"\s*[-+]?[\d.,]+([eE][-+]?\d+)?\s*", str(cell)))
                    for cell in column.head(1000)]) >= 0.5


def _word(name, words):
    """Whether a name's last word is one of these: `seriesId`, `unit_id` and `ID` are ids."""
    found = re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+", name)
    return bool(found) and found[-1].lower() in words


def _first(names):
    return names[0] if names else None


def _listed(frame):
    names = list(frame)
    return ", ".join(names if len(names) <= 20 else [*names[:20], "..."])
