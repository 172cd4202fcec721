"""Reading saved models back, those of earlier versions too."""

import os
import zipfile

import tensorflow as tf

from santm_tf.paths import literal

_NEW_NAMES = {"max_steps": "memory_horizon", "access_mask": "access"}  # of arguments, by the old ones


class OldNames:
    """A mixin for what Keras saves: it is made from configurations that have an argument's old name, too."""

    @classmethod
    def from_config(cls, config):
        return cls(**{_NEW_NAMES.get(name, name): value for name, value in config.items()})


def load_model(path, **kwargs):
    """`tf.keras.models.load_model` with this library's layers known.

    Args:
      path: a `.keras` file, an HDF5 file or a SavedModel folder that Keras wrote.
      **kwargs: see `tf.keras.models.load_model`.

    Raises:
      FileNotFoundError: nothing is there.
      ValueError: it is no saved Keras model, or a damaged one; or a folder whose path has * ? [ or \\.

    >>> import tempfile
    >>> from santm_tf import SANTM, load_model
    >>> model = tf.keras.Sequential([tf.keras.Input([6, 2]), SANTM(4, slot_width=4)])
    >>> path = tempfile.mkdtemp() + "/model.keras"
    >>> model.save(path)
    >>> load_model(path).output_shape
    (None, 4)
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path}: no such file or folder; expected a saved Keras model")
    if os.path.isdir(path):  # a file is read as it is named
        literal("path", path)
    try:
        return tf.keras.models.load_model(path, **kwargs)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: not a saved Keras model, or a damaged one ({why})") from error
