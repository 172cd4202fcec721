"""What a trained SANTM did with one sequence: what `santm-inspect` does once its flags are read."""

import io
import re

import numpy as np
import tensorflow as tf

from santm_tf.analysis.describe import answer, recalled, segments, written
from santm_tf.analysis.trace import inputs_of, layer_of, outputs_of, trace
from santm_tf.errors import ArgumentError
from santm_tf.paths import open_file
from santm_tf.tasks import sources
from santm_tf.training.run import load


def read_input(path, task):
    """One sequence, as a batch of one.

    Args:
      path: a .npy file of `[T, d]`, of `[T]` where d = 1, or of tokens, ints `[T]`; of own data in their
        unit, NaN where a value is missing. Or a text, or a wav file, where the task is of those.
      task: `tasks.Task`.

    Raises:
      ValueError: it is not what the model reads.
    """
    try:
        with open_file(path) as file:
            content = file.read()
    except OSError as error:
        raise ArgumentError(f"--input={path}: {error.strerror}") from error
    raw = task.front.signature if task.front else {}
    if not content.startswith(b"\x93NUMPY"):
        if "wav" in raw:
            return _served(path, task.front, wav=[content])
        if task.lexicon is None:
            raise ArgumentError(f"--input={path}: not a .npy file, as numpy.save writes")
        x = task.lexicon().encode(content)
    else:
        try:
            x = sources.array(io.BytesIO(content), path)
        except (ValueError, EOFError, OSError) as error:
            raise ArgumentError(f"--input={path}: damaged ({' '.join(str(error).split())})") from error
    if not x.size:
        raise ArgumentError(f"--input={path}: is empty")
    if "categories" in raw:
        raise ArgumentError(f"--input={path}: the model reads texts, too, which a .npy file has not")
    if "inputs" in raw:
        x = _numbers(path, x, raw["inputs"].shape[-1])
        return _served(path, task.front, inputs=x[None].astype(np.float32), lengths=[len(x)])
    return (_tokens if task.vocabulary is not None else _features)(path, x, task)[None]


def _served(path, front, **raw):
    """What the model reads of one raw input."""
    try:
        x, valid = front(**{name: tf.constant(value) for name, value in raw.items()})
    except tf.errors.InvalidArgumentError as error:
        raise ArgumentError(f"--input={path}: {_said(error)}") from error
    return x.numpy()[:, :int(valid.numpy().sum())]


def _said(error):
    """What an assertion of TensorFlow's says."""
    found = re.search(r"assertion failed: \[([^]]*)|Summarized data: b'([^']*)", error.message)
    return (found[1] or found[2]) if found else error.message.splitlines()[0]


def _tokens(path, x, task):
    if x.ndim != 1 or x.dtype.kind not in "iu":
        raise ArgumentError(f"--input={path}: {_shape(x)}; the model reads tokens, ints of shape [T]")
    strange = x[(x < 0) | (x >= task.vocabulary)]
    if len(strange):
        raise ArgumentError(f"--input={path}: has token {strange[0]}; the model's are from 0 to "
                            f"{task.vocabulary - 1}")
    return x.astype(np.int32)


def _features(path, x, task):
    x = _numbers(path, x, task.features)
    with np.errstate(over="ignore"):
        x = x.astype(np.float32)
    if not np.isfinite(x).all():
        raise ArgumentError(f"--input={path}: step {np.isfinite(x).all(1).argmin()} has NaN or infinity")
    return x


def _numbers(path, x, width):
    if x.ndim == 1 and width == 1:
        x = x[:, None]
    if x.ndim != 2 or x.shape[1] != width or x.dtype.kind not in "iufb":
        raise ArgumentError(f"--input={path}: {_shape(x)}; the model reads numbers of shape [T, {width}]")
    return x


def _shape(x):
    return f"is {x.dtype} of shape {list(x.shape)}"


def show(config, path, out=None):
    """Prints what a run's model did with one sequence.

    Args:
      config: the run's. path: of the sequence, see `read_input`. out: folder for figures.

    Raises:
      ValueError: a sequence that the model cannot read, or a model that has no SANTM layer.
      UsageError: no such run.
    """
    if out is not None:
        from santm_tf.training import page, report  # on demand: matplotlib takes a while to import
    workdir = config.session.workdir
    _, _, task, model = load(config)
    layer = layer_of(model)
    if layer is None:
        raise ArgumentError(f"--workdir={workdir}: its model has no SANTM layer")
    x = read_input(path, task)
    seen = trace(layer, *inputs_of(model, x))
    logits = outputs_of(model, seen)[0].numpy()
    names = str
    if task.classes:
        names = task.classes.__getitem__
    elif task.lexicon is not None:
        names = task.lexicon().tokens.get
    print(f"{workdir}: {task.name}, {x.shape[1]} steps of {path}")
    for line in (*segments(seen), *written(seen), *recalled(seen), *answer(logits, task.loss, names)):
        print(line)
    if out is not None:
        page.save(out, report.sequence_views(layer, seen, 0, x, task))
        print(f"figures: {out}")
