"""The access mask after every epoch of a run."""

import os

import numpy as np

from santm_tf.paths import open_file, whole
from santm_tf.tasks import sources
from santm_tf.training.errors import UsageError

FILE = "masks.npy"


def read(folder):
    """The masks that a run's folder holds, bool `[E, P]`, row e after epoch e (from 0); or None.

    Rows of epochs from before masks were kept are False.
    """
    path = os.path.join(folder, FILE)
    try:
        with open_file(path) as file:
            rows = sources.array(file, "the masks")
    except FileNotFoundError:
        return None
    except (ValueError, EOFError) as error:
        raise UsageError(f"{path}: damaged ({' '.join(str(error).split())}); delete it") from error
    if rows.dtype != np.bool_ or rows.ndim != 2:
        raise UsageError(f"{path}: holds no masks, bool of shape [epochs, period]; delete it")
    return rows


def note(folder, epoch, mask):
    """Makes the mask after an epoch, bool `[P]`, the last row of `masks.npy`, which is replaced whole.

    The epoch counts from 0. Later rows are of a run that was cut off.

    Returns:
      All rows, bool `[epoch + 1, P]`.
    """
    path, before = os.path.join(folder, FILE), read(folder)
    rows = np.zeros([epoch + 1, len(mask)], bool)
    if before is not None:
        if before.shape[1] != len(mask):
            raise UsageError(f"{path}: holds masks of period {before.shape[1]}, and the run has "
                             f"{len(mask)}; delete it")
        rows[:min(len(before), epoch)] = before[:epoch]
    rows[epoch] = mask
    with whole(path) as new, open(new, "xb") as file:
        np.save(file, rows)
    return rows
