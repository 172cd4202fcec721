"""What a trained SANTM did with one sequence: what `santm-inspect` does once its flags are read."""

import numpy as np

from santm_tf.analysis.describe import answer, recalled, segments, written
from santm_tf.analysis.trace import inputs_of, layer_of, outputs_of, trace
from santm_tf.errors import ArgumentError
from santm_tf.training.run import load


def read_input(path, task):
    """One sequence, as a batch of one.

    Args:
      path: a .npy file of `[T, d]`, of `[T]` where d = 1, or of tokens, ints `[T]`; or, for a task with a
        lexicon, a text. task: `tasks.Task`.

    Raises:
      ValueError: it is not what the model reads.
    """
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise ArgumentError(f"--input={path}: {error.strerror}") from error
    if not content.startswith(b"\x93NUMPY"):
        if task.lexicon is None:
            raise ArgumentError(f"--input={path}: not a .npy file, as numpy.save writes")
        x = task.lexicon().encode(content)
    else:
        try:
            x = np.load(path, allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise ArgumentError(f"--input={path}: damaged ({' '.join(str(error).split())})") from error
    if not x.size:
        raise ArgumentError(f"--input={path}: is empty")
    return (_tokens if task.vocabulary is not None else _features)(path, x, task)[None]


def _tokens(path, x, task):
    if x.ndim != 1 or x.dtype.kind not in "iu":
        raise ArgumentError(f"--input={path}: {_shape(x)}; the model reads tokens, ints of shape [T]")
    strange = x[(x < 0) | (x >= task.vocabulary)]
    if len(strange):
        raise ArgumentError(f"--input={path}: has token {strange[0]}; the model's are from 0 to "
                            f"{task.vocabulary - 1}")
    return x.astype(np.int32)


def _features(path, x, task):
    if x.ndim == 1 and task.features == 1:
        x = x[:, None]
    if x.ndim != 2 or x.shape[1] != task.features or x.dtype.kind not in "iufb":
        raise ArgumentError(f"--input={path}: {_shape(x)}; the model reads numbers of shape "
                            f"[T, {task.features}]")
    with np.errstate(over="ignore"):
        x = x.astype(np.float32)
    if not np.isfinite(x).all():
        raise ArgumentError(f"--input={path}: step {np.isfinite(x).all(1).argmin()} has NaN or infinity")
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
