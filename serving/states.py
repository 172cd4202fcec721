"""Streams' states as text and as a file, both without pickle; each tensor is checked when it comes back."""

import base64
import os
import tempfile
import zipfile

import numpy as np


class StateError(Exception):
    """A state that is none of this model's. One line.

    Attributes:
      other: whether it is another model's.
    """

    def __init__(self, text, other=False):
        super().__init__(text)
        self.other = other


def encoded(state):
    """A state as JSON has it: the bytes of each tensor in base64."""
    return {name: base64.b64encode(value.tobytes()).decode() for name, value in state.items()}


def decoded(state, like):
    """A state from the bytes of its tensors, of the shapes and types that `like` has.

    Raises:
      StateError: a tensor too many or too few, of another size, with a number that is not finite.
    """
    _check_names(state, like)
    if state["model"] != like["model"].tobytes():
        raise StateError("state: of another model", other=True)
    for name, v in like.items():
        if len(state[name]) != v.nbytes:
            raise StateError(f"state: {name} has {len(state[name])} bytes, not {v.nbytes}")
    return _checked({name: np.frombuffer(state[name], v.dtype).reshape(v.shape)
                     for name, v in like.items()}, like)


def save(path, states, like):
    """Writes streams' states by id into an NPZ file, as a whole or not at all, for its owner to read."""
    columns = {name: np.concatenate([v[:0], *(state[name] for state in states.values())])
               for name, v in like.items()}
    folder = os.path.dirname(os.path.abspath(path))
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".streams-", suffix=".npz", delete=False) as file:
        try:
            np.savez(file, **{f"state_{name}": column for name, column in columns.items()},
                     ids=np.array(list(states), "U"))
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def load(path, like, most):
    """The states by id that `save` wrote, at most so many.

    Raises:
      StateError: no such file, a damaged one, states of another model, too many of them.
    """
    try:
        size = 2**16 + most * sum(v.nbytes + 256 for v in like.values())
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > size:
                raise StateError(f"{path}: more than {most} streams (--max_sessions, --max_memory_mib)")
        with np.load(path, allow_pickle=False) as file:
            ids = file["ids"]
            columns = {name.removeprefix("state_"): file[name] for name in file.files if name != "ids"}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise StateError(f"{path}: no file of streams, or damaged ({error})") from error
    _check_names(columns, like)
    if ids.ndim != 1 or ids.dtype.kind != "U" or len(ids) > most or len(set(ids.tolist())) < len(ids):
        raise StateError(f"{path}: its ids must be at most {most} different texts")
    for name, v in like.items():
        if columns[name].shape != (len(ids), *v.shape[1:]) or columns[name].dtype != v.dtype:
            raise StateError(f"{path}: {name} is {columns[name].dtype}{list(columns[name].shape)}, not "
                             f"{v.dtype}{[len(ids), *v.shape[1:]]}")
    # Copies: a view would keep all alive.
    return {id: _checked({name: columns[name][i:i + 1].copy() for name in like}, like)
            for i, id in enumerate(ids.tolist())}


def _check_names(state, like):
    if set(state) != set(like):
        raise StateError(f"state: this model's has {', '.join(sorted(like))}, no others")


def _checked(state, like):
    if not np.array_equal(state["model"], like["model"]):
        raise StateError("state: of another model", other=True)
    if not all_finite(state):
        raise StateError("state: its numbers are not all finite; nothing was changed")
    return state


def all_finite(*arrays):
    """Whether the floating-point numbers in these dicts of arrays are finite."""
    return all(np.isfinite(v).all() for some in arrays for v in map(np.asarray, some.values())
               if v.dtype.kind == "f")
