"""What a SANTM did with a sequence, and what a model answered, as lines of text."""

import numpy as np
import tensorflow as tf

from santm_tf.keras import keras

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
    steps = seen.accessed(row)
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
    several, rows = logits.ndim == 2, np.atleast_2d(logits)
    first = max(0, len(rows) - SHOWN)
    if isinstance(loss, keras.losses.MeanSquaredError):
        yield "output: " + ", ".join(f"{value:.4g}" for value in logits)
    elif isinstance(loss, keras.losses.BinaryCrossentropy):
        yield "output: bits at the last steps"
        for step, row in enumerate(rows[first:], first):
            yield f"  step {step}: {''.join('01'[int(value > 0)] for value in row)}"
    else:
        yield "output: classes" + " at the last steps" * several
        for step, row in enumerate(rows[first:], first):
            share = tf.nn.softmax(row).numpy()
            best = ", ".join(f"{names(n)} ({share[n]:.3f})" for n in np.argsort(-share)[:BEST])
            yield f"  step {step}: {best}" if several else f"  {best}"


def _some(texts):
    """As many as a few lines hold."""
    rest = len(texts) - 4 * SHOWN
    return " ".join(texts[:4 * SHOWN]) + f" ... and {rest} more" * (rest > 0)
