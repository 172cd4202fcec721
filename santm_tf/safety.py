"""Finds the code that a saved model carries, in every format of either Keras, before Keras reads it.

Keras 3 has a safe mode of its own. Keras 2's holds for `.keras` files alone.
"""

import builtins
import importlib
import json
import os
import zipfile

import h5py
from tensorflow.core.protobuf import saved_model_pb2

from santm_tf.keras import READS_FOLDERS, keras

CODE = {"Lambda", "__lambda__", "TFSMLayer"}  # layers and functions that are code, or a program of TensorFlow
MODULES = {"keras", "tf_keras", "builtins"}  # whose classes a file may name; of others those registered
# Where the functions are that Keras 2 writes for `x + 1`, and those beside them that do more than count.
COUNTING = {"", "__operators__", "bitwise", "image", "linalg", "math", "nn", "quantization", "ragged",
            "random", "sets", "signal", "sparse", "strings"}
ACTING = {"function", "import_graph_def", "load_library", "load_op_library", "numpy_function", "print",
          "py_function", *vars(builtins).keys() - {"abs", "pow", "range", "round", "slice"}}
FILES = {"EagerPyFunc", "PyFunc", "PyFuncStateless", "ReadFile", "WriteFile"}  # operations of a graph


def code_in(path, custom_objects=None):
    """What would run if a saved model was read, as text; None for nothing.

    Args:
      path: of a `.keras` file, an HDF5 file, or a folder; a file that is several of them counts as each.
      custom_objects: what `load_model` is given.

    Raises:
      OSError, ValueError, KeyError, zipfile.BadZipFile: it is no saved model, or a damaged one.

    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/model.keras"
    >>> keras.Sequential([keras.Input([2]), keras.layers.Lambda(lambda x: x + 1)]).save(path)
    >>> code_in(path)
    'a Lambda layer'
    """
    if os.path.isdir(path) and (found := _files_in(path)):
        return found
    return next(filter(None, (_code(config, custom_objects) for config in _configurations(path))), None)


def _configurations(path):
    """What a saved model says of its layers, as JSON has it."""
    if os.path.isdir(path):
        yield from _of_folder(path)
        return
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield json.loads(archive.read("config.json"))
    if h5py.is_hdf5(path):
        with h5py.File(path) as file:
            yield from (json.loads(file.attrs[name]) for name in ("model_config", "training_config")
                        if name in file.attrs)


def _of_folder(path):
    config = os.path.join(path, "config.json")  # an unpacked `.keras` file
    if os.path.exists(config):
        with open(config, encoding="utf-8") as file:
            yield json.load(file)
    nodes = [node for graph in _saved_model(path).meta_graphs for node in graph.object_graph_def.nodes]
    yield from (json.loads(node.user_object.metadata) for node in nodes if node.user_object.metadata)
    beside = os.path.join(path, "keras_metadata.pb")
    if READS_FOLDERS and os.path.exists(beside):  # Keras 3 reads none
        metadata = importlib.import_module(f"{keras.__name__}.protobuf.saved_metadata_pb2").SavedMetadata()
        with open(beside, "rb") as file:
            metadata.ParseFromString(file.read())
        yield from (json.loads(node.metadata) for node in metadata.nodes if node.metadata)


def _saved_model(path):
    saved, name = saved_model_pb2.SavedModel(), os.path.join(path, "saved_model.pb")
    if os.path.exists(name):
        with open(name, "rb") as file:
            saved.ParseFromString(file.read())
    return saved


def _files_in(path):
    """The first operation in a SavedModel's graph that reads or writes a file of its choice."""
    for graph in _saved_model(path).meta_graphs:
        bodies = [graph.graph_def.node, *(function.node_def for function in graph.graph_def.library.function)]
        for node in (node for body in bodies for node in body):
            if node.op in FILES:
                return f"an operation {node.op}"
    return None


def _code(config, custom_objects):
    if isinstance(config, list):
        parts = config
    elif isinstance(config, dict):
        if found := _named(config, custom_objects):
            return found
        parts = config.values()
    else:
        return None
    return next(filter(None, (_code(part, custom_objects) for part in parts)), None)


def _named(config, custom_objects):
    """What is wrong with what a part of a configuration names."""
    kind, module, own = (config.get(name) for name in ("class_name", "module", "config"))
    if not isinstance(kind, str):
        return None
    if kind.rpartition(">")[2] in CODE:
        return f"a {kind.rpartition('>')[2].strip('_')} layer"
    if kind in ("TFOpLambda", "ClassMethod") and isinstance(own, dict):
        name = str(own.get("function") or own.get("cls_ref"))
        space, _, function = name.rpartition(".")
        if space.partition(".")[0] not in COUNTING or function in ACTING:
            return f"a call of tf.{name}"
    names = [name for name in (config.get("registered_name"), kind, own) if isinstance(name, str)]
    known = any(keras.utils.get_registered_object(name, custom_objects) for name in names)
    if isinstance(module, str) and not known:
        if module.partition(".")[0] not in MODULES or kind == "function" and own in ACTING:
            return f"{module}.{own if kind == 'function' else kind}, which is not registered"
    return None
