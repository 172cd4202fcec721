"""A trained model as a SavedModel, which TensorFlow alone can serve: whole sequences, streams, scores."""

import json
import os
import re
import tempfile

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from santm_tf.answers import Answer
from santm_tf.errors import ArgumentError
from santm_tf.export.serving_model import ServingModel
from santm_tf.export.signatures import inputs_of, lite_signatures, signatures, state_of, step_inputs_of
from santm_tf.keras import keras
from santm_tf.paths import is_object_with, literal, replace, writable
from santm_tf.santm import SANTM

FORMAT = 2  # of santm.json
FACTS, LITE = "santm.json", "model.tflite"
PARTS = re.compile(rf"saved_model\.pb|assets|variables(/variables\.(index|data-\d+-of-\d+))?|{FACTS}|{LITE}")


def export(model: keras.Model, folder: str | os.PathLike, jit_compile: bool = False,
           tflite: bool = False, front: tf.Module | None = None, answer: Answer | None = None) -> dict:
    """Writes a Keras model of sequences as a SavedModel, and `santm.json`, which describes it.

    `santm_tf.export.signatures` says what can be called: `serving_default` for whole sequences,
    `initial_state` and `step` for streams, `score` for losses.

    All computes in float32, by the access mask as it is now. A call that cannot be served is a
    `tf.errors.InvalidArgumentError` that says what was wrong.

    Args:
      model: any built Keras model from sequences `[B, T, d]` or tokens `[B, T]` to an output at each step or
        one a sequence: sequential, functional, subclassed. It has streams if each layer computes a step by
        itself, as `Dense` and `Normalization`, or has a state that goes on, as `SANTM`, `Recurrent`, Keras'
        `LSTM` and the layers of `baselines`. `santm.json` says why another has none. Where a layer mixes
        steps and does not support masking, as `Conv1D`, sequences are computed one after the other.
      folder: where to, a path without * ? [ and \\, which TensorFlow reads as a pattern. An
        export that is there is replaced; a link to one stays a link.
      jit_compile: compile whole sequences with XLA: faster, but for each power of two that a batch size or
        length comes under, the first call takes seconds.
      tflite: write `model.tflite`, too: `serving_default(inputs)`, `initial_state()` and `step` for one
        sequence or stream, in built-in operations of TensorFlow Lite, nothing checked, without front and
        answer. Dense memory only.
      front: what makes the model's inputs of raw ones, as the tasks have it (`tasks.task.Task`).
      answer: what makes names, probabilities or numbers of the model's outputs.

    Returns:
      What `santm.json` holds, a dict: the `format`'s version; `inputs` and `step_inputs`, the shape and dtype
      of each by name; what the `front` says of itself; `features`, d, or `vocabulary` of the model itself;
      `outputs`, their `kind` (logits, class, labels, numbers), `width` and names; `return_sequences`;
      `streams`, yes or why not; the `state`'s names, shapes and dtypes; the model's `fingerprint`; of a SANTM
      `mask_period` and `access_rate`, or that its `access` is "adaptive".

    Raises:
      ArgumentError: a model that cannot be served, or a folder that holds something else.

    >>> import tempfile
    >>> from santm_tf import SANTM
    >>> from santm_tf.export import export
    >>> layer = SANTM(4, memory_slots=8, slot_width=4, attention_heads=1, access_rate=0.25)
    >>> folder = tempfile.mkdtemp()
    >>> export(tf.keras.Sequential([tf.keras.Input([8, 1]), layer]), folder)["access_rate"]
    0.25
    >>> serve = tf.saved_model.load(folder).signatures["serving_default"]
    >>> serve(inputs=tf.zeros([2, 5, 1]), lengths=tf.constant([5, 3]))["outputs"].shape.as_list()
    [2, 4]
    """
    check(folder)
    serving = servable(model, jit_compile, tflite, answer)
    for w in serving.weights:
        if w.dtype.is_floating and not tf.reduce_all(tf.math.is_finite(w)):
            raise ArgumentError(f"export: the weight {w.name} holds NaN or infinity; train anew")
    parent = os.path.dirname(os.path.realpath(folder))
    os.makedirs(parent, exist_ok=True)
    with (tempfile.TemporaryDirectory(prefix=".export-", dir=parent) as scratch,
          tempfile.TemporaryDirectory() as lite):
        new = os.path.join(scratch, "new")
        _save(serving, new, signatures(serving, front, answer), front)
        if tflite:
            single = ServingModel(model)  # what was traced for any batch does not fit
            _save(single, lite, lite_signatures(single))
            with open(os.path.join(new, LITE), "wb") as file:
                file.write(_converted(lite))
        facts = _facts(serving, front, answer)
        with open(os.path.join(new, FACTS), "w", encoding="utf-8") as file:
            json.dump(facts, file, indent=1)
        check(folder)  # again: someone may have put a file there meanwhile
        replace(os.path.realpath(folder), new, os.path.join(scratch, "old"))
    return facts


def servable(model, jit_compile=False, tflite=False, answer=None):
    """What of a model is exported, with arguments as `export` has them.

    Raises:
      ArgumentError: a model that cannot be served, or not so, whatever its weights are.
    """
    serving = ServingModel(model, jit_compile)
    if answer:
        answer.check(serving.outputs)
    if tflite and not serving.lite:
        raise ArgumentError("export: TensorFlow Lite has no operations for this memory; leave out tflite")
    return serving


def check(folder):
    """Raises an `ArgumentError` for a folder that cannot be written, or is not to be replaced.

    It names what no export has written. A link to a folder stands for that.
    """
    literal("export_dir", folder)
    if not os.path.exists(place := os.path.realpath(folder)):
        writable(place, name="export_dir")
    elif not os.path.isdir(folder):
        raise ArgumentError(f"export_dir={folder}: is a file; name a folder")
    else:
        writable(os.path.dirname(place), name="export_dir")  # it is renamed
    found = [os.path.relpath(os.path.join(at, name), folder)
             for at, folders, files in os.walk(folder) for name in sorted(folders + files)]
    others = [name for name in found
              if not PARTS.fullmatch(name) or os.path.islink(os.path.join(folder, name))]
    ours = is_object_with(os.path.join(folder, FACTS), {"format", "return_sequences"})
    if found and not others and not ours:
        others = [FACTS if FACTS in found else found[0]]
    if others:
        raise ArgumentError(f"export_dir={folder}: holds something else than an export ({others[0]}); "
                            "name another folder")


def _converted(folder):
    """A SavedModel as a file of TensorFlow Lite."""
    try:
        return tf.lite.TFLiteConverter.from_saved_model(folder).convert()
    except Exception as error:  # of the converter's own kinds
        named = re.search(r"'tf\.(\w+)' op|TF Select ops: (\w+)", str(error))
        found = named[1] or named[2] if named else type(error).__name__
        raise ArgumentError(f"export: TensorFlow Lite cannot run this model ({found}); leave out "
                            "tflite") from error


def _save(serving, folder, functions, front=None):
    module = tf.Module()  # not the layers themselves: with those, what Keras makes of them would be saved
    module.weights, module.front = serving.weights, front
    tf.saved_model.save(module, folder, functions,
                        tf.saved_model.SaveOptions(experimental_custom_gradients=False))
    # The gradients are left out, but not their names, for each of which TensorFlow would warn who loads this.
    path, saved = os.path.join(folder, "saved_model.pb"), saved_model_pb2.SavedModel()
    with open(path, "rb") as file:
        saved.ParseFromString(file.read())
    for function in saved.meta_graphs[0].graph_def.library.function:
        for node in function.node_def:
            node.attr.pop("_gradient_op_type", None)
    with open(path, "wb") as file:
        file.write(saved.SerializeToString(deterministic=True))
    os.remove(os.path.join(folder, "fingerprint.pb"))  # of the file before


def _facts(serving, front, answer):
    kind = {"vocabulary": serving.vocabulary} if serving.vocabulary else {"features": serving.features}
    facts = {"format": FORMAT, "inputs": _described(inputs_of(serving, front)), **kind,
             "outputs": {"width": serving.outputs, **(answer.facts if answer else {"kind": "logits"})},
             "return_sequences": serving.sequences, "streams": "yes"}
    if front:
        facts["front"] = front.facts
    if serving.streams is None:
        facts |= {"step_inputs": _described(step_inputs_of(serving, front)),
                  "state": _described(state_of(serving, front))}
    else:
        facts["streams"] = f"no: {serving.streams}"
    access = [{"access": "adaptive"} if layer.access.adaptive else
              {"mask_period": layer.access.period, "access_rate": float(layer.access.rate)}
              for layer in serving.layers if isinstance(layer, SANTM)]
    return {**facts, "fingerprint": serving.fingerprint, **(access[0] if access else {})}


def _described(specs):
    return {name: {"shape": spec.shape.as_list(), "dtype": spec.dtype.name} for name, spec in specs.items()}
