"""The access mask after every epoch of a run."""

import os

import numpy as np

from training.errors import UsageError


def read(folder):
    """The masks that a run's folder holds, bool `[E, P]`, row e that after epoch e (from 0), or None.

    Rows of epochs from before masks were kept are False.
    """
    path = _path(folder)
    try:
        return np.load(path)
    except FileNotFoundError:
        return None
    except (ValueError, EOFError) as error:
        raise UsageError(f"{path}: damaged ({error}); delete it") from error


def note(folder, epoch, mask):
    """Makes the mask after an epoch the last row of `masks.npy`, which is replaced whole.

    Args:
      folder: the run's. epoch: counted from 0; later rows are of a run that was cut off. mask: bool `[P]`.

    Returns:
      All rows, bool `[epoch + 1, P]`.
    """
    path, before = _path(folder), read(folder)
    rows = np.zeros([epoch + 1, len(mask)], bool)
    if before is not None:
        kept = before[:epoch]
        rows[:len(kept)] = kept
    rows[epoch] = mask
    with open(path + ".new", "wb") as file:
        np.save(file, rows)
    os.replace(path + ".new", path)
    return rows


def _path(folder):
    return os.path.join(folder, "masks.npy")
