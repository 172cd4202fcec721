"""Reading saved models back, those of earlier versions too."""

import contextlib
import functools
import inspect
import json
import os
import tempfile
import textwrap
import warnings
import zipfile
from typing import Any

import h5py

from santm_tf.keras import converted, is_ours, keras
from santm_tf.paths import literal
from santm_tf.safety import code_in

_NEW_NAMES = {"max_steps": "memory_horizon", "access_mask": "access"}  # of arguments, by the old ones


class OldNames:
    """A mixin for what Keras saves: its arguments have their old names, too.

    In saved configurations they are silently the new ones, in code with a `DeprecationWarning`.
    """

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = _renaming(cls.__init__)

    @classmethod
    def from_config(cls, config):
        return cls(**{_NEW_NAMES.get(name, name): value for name, value in config.items()})


def _renaming(init):
    @functools.wraps(init)
    def __init__(self, *args, **kwargs):
        for old in kwargs.keys() & _NEW_NAMES.keys():
            new = _NEW_NAMES[old]
            warnings.warn(f"{type(self).__name__}: {old} is {new} now", DeprecationWarning, stacklevel=2)
            kwargs[new] = kwargs.pop(old)
        init(self, *args, **kwargs)

    __init__.__signature__ = inspect.signature(init)  # Keras does not look for it behind a wrapping
    return __init__


def load_model(path: str | os.PathLike, *, safe_mode: bool = True, **kwargs: Any) -> keras.Model:
    """`tf.keras.models.load_model` with this library's layers known. A file that carries code is refused.

    A `.keras` file of Keras 2 is read under Keras 3, too, but its optimizer starts anew. Weights alone go
    both ways, by Keras' own `model.save_weights("x.weights.h5")` and `model.load_weights`.

    Args:
      path: a `.keras` file, an HDF5 file, or, under Keras 2, a SavedModel folder that Keras wrote.
      safe_mode: False reads a model with code in it, such as a `Lambda` layer, which may do anything: give it
        where you know whose file it is.
      **kwargs: see `tf.keras.models.load_model`.

    Raises:
      FileNotFoundError: nothing is there.
      ValueError: it is no saved Keras model, or a damaged one, or one that this Keras cannot read (which says
        what to do), or one with code in it; or a folder whose path has * ? [ or \\.

    >>> import tempfile
    >>> import tensorflow as tf
    >>> from santm_tf import SANTM, load_model
    >>> model = keras.Sequential([keras.Input([6, 2]), SANTM(4, slot_width=4)])
    >>> path = tempfile.mkdtemp() + "/model.keras"
    >>> model.save(path)
    >>> load_model(path).output_shape
    (None, 4)
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path}: no such file or folder; expected a saved Keras model")
    if os.path.isdir(path):  # a file is read as it is named
        literal("path", path)
    version = _saved_by(path)
    try:
        with _plain_names(), _readable(path, version) as readable:
            code = safe_mode and code_in(readable, kwargs.get("custom_objects"))
            if not code:
                return keras.models.load_model(readable, safe_mode=safe_mode, **kwargs)
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        why = textwrap.shorten(str(error).split("\n")[0] or type(error).__name__, 160)
        if version is not None and not (is_ours(version) and zipfile.is_zipfile(path)):
            raise ValueError(
                f"{path}: Keras {keras.__version__} cannot read this model of Keras {version} "
                f"({why}); save its weights there, model.save_weights('x.weights.h5'), and load them here "
                "into a model built anew") from error
        if isinstance(error, TypeError):
            raise
        raise ValueError(f"{path}: not a saved Keras model, or a damaged one ({why})") from error
    raise ValueError(f"{path}: carries code, {code}; safe_mode=False runs it, if you know whose file it is")


def _saved_by(path):
    """The version of the Keras that saved a model there, as text; None where none did."""
    try:
        if os.path.isdir(path):
            return "2" if os.path.exists(os.path.join(path, "keras_metadata.pb")) else None
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return json.loads(archive.read("metadata.json"))["keras_version"]
        with h5py.File(path) as file:
            return file.attrs["keras_version"]
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return None


def _plain_names():
    """Has Keras know this library's layers by their plain names, too, which are in old files of Keras 2."""
    return keras.utils.custom_object_scope({
        name.removeprefix("santm_tf>"): kind for name, kind in keras.utils.get_custom_objects().items()
        if name.startswith("santm_tf>")})


@contextlib.contextmanager
def _readable(path, version):
    """The path, or that of a copy of a `.keras` file that is converted to the Keras in use."""
    if version is None or is_ours(version) or not zipfile.is_zipfile(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, "model.keras")
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(copy, "w") as new:
            for name in old.namelist():
                content = old.read(name)
                if name == "config.json":
                    content = json.dumps(converted(json.loads(content)))
                new.writestr(name, content)
        yield copy
