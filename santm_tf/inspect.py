"""What a trained SANTM did with one sequence: `python -m santm_tf.inspect --workdir=runs/a --input=x.npy`."""

import argparse
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from santm_tf.analysis.trace import inputs_of, layer_of, outputs_of, trace  # noqa: E402
from santm_tf.errors import ArgumentError  # noqa: E402

SHOWN = 12  # lines of a list, at most
BEST = 3  # classes


def segments(seen, row=0):
    """The segments of a traced sequence and its accesses, as lines of text.

    Args:
      seen: `santm_tf.analysis.trace.Trace`. row: of its batch.
    """
    length = int(seen.valid[row].sum())
    ends = np.flatnonzero(seen.boundaries[row, :length])
    starts = np.concatenate([[0], ends + 1])
    ends = np.append(ends, length - 1)
    runs = [(first, last) for first, last in zip(starts, ends, strict=True) if first <= last]
    sizes = [last - first + 1 for first, last in runs]
    steps = seen.steps[seen.gates[row] > 0]
    yield f"segments: {len(runs)}, of {min(sizes)} to {max(sizes)} steps, {np.mean(sizes):.1f} on average"
    yield "  " + _some([f"{first}-{last}" if first < last else f"{first}" for first, last in runs])
    yield f"accesses: {len(steps)} in {length} steps"
    yield "  " + (_some(list(map(str, steps))) or "none")


def written(seen, row=0):
    """The slots that were written most, as lines of text."""
    slots = seen.slots("write", row, SHOWN)
    if not len(slots):
        return
    weights = seen.over("write", row, slots).sum(1)  # [S, n]
    yield "written, the slots of the largest total weight:"
    for n in np.argsort(-weights.sum(0), kind="stable"):
        access = weights[:, n].argmax()
        yield (f"  slot {slots[n]}: {weights[:, n].sum():.2f} in all, most at step {seen.steps[access]} "
               f"({weights[access, n]:.2f})")


def recalled(seen, row=0):
    """What the read heads read most of, and when that had been written, as lines of text.

    The accesses with the most definite reads, and the last one, on which a single output rests.
    """
    happened = np.flatnonzero(seen.gates[row] > 0)
    if not len(happened):
        return
    strongest = seen.read_weights[row].max(-1)  # [S, R]
    definite = happened[np.argsort(-strongest[happened].max(-1), kind="stable")]
    chosen = np.sort(np.unique([*definite[:SHOWN - 1], happened[-1]]))
    yield "read, where it was most definite, and at the end:"
    for access in chosen:
        for head, k in enumerate(seen.read_weights[row, access].argmax(-1)):
            slot = seen.read_slots[row, access, head, k]
            before = seen.over("write", row, np.array([slot]))[:access].sum((1, 2))
            origin = "never written"
            if before.any():
                origin = f"written most at step {seen.steps[before.argmax()]}"
            which = f"head {head + 1}, " if strongest.shape[1] > 1 else ""
            yield f"  step {seen.steps[access]}: {which}slot {slot} ({strongest[access, head]:.2f}), {origin}"


def answer(logits, loss, names=str):
    """What a model's output says, as lines of text.

    Args:
      logits: `[outputs]`, or `[T, outputs]` at each step. loss: Keras loss, which tells what they are.
      names: function from a class to its name.
    """
    several = logits.ndim == 2
    if isinstance(loss, tf.keras.losses.MeanSquaredError):
        yield "output: " + ", ".join(f"{value:.4g}" for value in logits)
    elif isinstance(loss, tf.keras.losses.BinaryCrossentropy):
        yield "output: bits at the last steps"
        first = max(0, len(logits) - SHOWN)
        for step, row in enumerate(logits[first:], first):
            yield f"  step {step}: {''.join('01'[int(value > 0)] for value in row)}"
    else:
        yield "output: classes" + " at the last steps" * several
        first = max(0, len(logits) - SHOWN) if several else 0
        for step, row in enumerate(logits[first:] if several else [logits], first):
            share = tf.nn.softmax(row).numpy()
            best = ", ".join(f"{names(n)} ({share[n]:.3f})" for n in np.argsort(-share)[:BEST])
            yield f"  step {step}: {best}" if several else f"  {best}"


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


def _some(texts):
    """As many as a few lines hold."""
    rest = len(texts) - 4 * SHOWN
    return " ".join(texts[:4 * SHOWN]) + f" ... and {rest} more" * (rest > 0)


def show(workdir, path, out=None, flags=()):
    """Prints what a run's model did with one sequence.

    Args:
      workdir: the run's folder. path: of the sequence, as of `read_input`.
      out: folder for figures. flags: of the run that are to be others, such as "--data_dir=elsewhere".

    Raises:
      ValueError: a sequence that the model cannot read, or a model that has no SANTM layer.
      UsageError: no such run.
    """
    from training import run  # not above: the library does not need the programs

    _, task, model = run.of(workdir, "--nojit_compile", *flags)
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
        from training import page, report

        page.save(out, report.of_sequence(layer, seen, 0, x, task))
        print(f"figures: {out}")


def main(argv=None):
    from training.flags import UsageError

    parser = argparse.ArgumentParser(prog="python -m santm_tf.inspect", allow_abbrev=False, description=(
        "What a trained SANTM did with one sequence. Other flags are the run's, and override its own."))
    parser.add_argument("--workdir", required=True, help="folder of the run")
    parser.add_argument("--input", required=True, help=".npy file, or a text for a model of text")
    parser.add_argument("--out", help="folder for figures")
    options, more = parser.parse_known_args(argv)
    try:
        show(options.workdir, options.input, options.out, more)
    except (UsageError, ArgumentError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
