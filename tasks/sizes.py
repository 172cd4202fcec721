"""A first guess of sizes for own sequences, from their number, their lengths and what is predicted."""

import math

import numpy as np

from santm_tf.tasks.archive import TRAIN
from santm_tf.tasks.examples import TEST_SHARE, window_for
from santm_tf.tasks.targets import guessed

FEW, MANY = 1000, 5000  # training examples; of fewer, what is learned is held back, or the sizes are smaller
UPDATES, LONG = 2000, 250  # steps of training wanted; of sequences that are longer, fewer
SEGMENTS, ACCESSES = 32, 24  # of a sequence, at most
EPOCH = 40  # updates of an epoch of few examples


def advice_for(sequences, choices):
    """Options for a run, with a reason each.

    Args:
      sequences: `reading.Sequences`. choices: the options of `own.make` that are given.

    Returns:
      `{option: (value, reason)}`. A model takes those that it knows.
    """
    count, steps = _training(sequences, choices)
    forecast, per_step = bool(choices.get("horizon")), sequences.per_step
    whole = not (forecast or per_step)
    found = advice_of(count, steps, forecast, whole, whole and _classes(sequences, choices))
    if forecast:
        found["window"] = steps, "four horizons, at least 24 steps, if the series have four of them"
    return found


def advice_of(count, steps, forecast, whole, classes):
    """The same from figures.

    Args:
      count: training examples. steps: of the longest one. forecast: whether they are windows.
      whole: whether one thing is predicted of a whole sequence. classes: whether that is a class.
    """
    batch = _power_of_two(count / 4, 4 if count >= 8 else 2, 64)
    in_pass = max(1, count // batch)
    passes = max(1, EPOCH // in_pass)
    updates = _updates(steps, batch)
    epochs = max(round(updates / (passes * in_pass)), 15)
    segment = _power_of_two(steps / SEGMENTS, 1, 8)
    accesses = min(max(steps // 4, 4), ACCESSES, steps)
    rate = float(f"{accesses / steps:.2g}")
    found = {
        "batch_size": (batch, f"a quarter of {count:,} training examples, {4 if count >= 8 else 2} to 64"),
        "passes": (passes, f"a pass has {in_pass:,} updates; an epoch has about {EPOCH}, or one pass"),
        "epochs": (epochs, f"about {updates:,} updates, at least 15 epochs"),
        "units": (32 if count < MANY else 64, f"32 for fewer than {MANY:,} examples"),
        "mask_period": (steps, "the longest sequence" if not forecast else "the window that is read"),
        "memory_slots": (32, f"room for the {accesses} accesses of a sequence"),
        "segment_length": (float(segment), f"about {SEGMENTS} segments of 1 to 8 steps each"),
        "boundaries": ("fixed", "learned ones scored no higher where they were measured"),
        "access_rate": (rate, f"about {accesses} accesses of {steps:,} steps"),
        "initial_access_rate": (rate if count < MANY else min(1.0, 2 * rate), "where the access rate begins"),
        "mask": ("uniform" if count < MANY else "learned", f"a mask is learned from {MANY:,} examples on")}
    if count < FEW:
        found["dropout"] = 0.2, f"{count:,} training examples are few"
        found["weight_decay"] = 0.02, found["dropout"][1]
    if whole:
        found["pooling"] = "mean", "a sequence's class or number is in all of its steps"
        if classes:
            found["differences"] = True, "the shape of a curve is in its changes"
            if count < FEW:
                found["bend"] = 1.0, f"{count:,} training examples are few: bent ones are added"
    return found


def _classes(sequences, choices):
    target = choices.get("target") or "auto"
    if target == "auto":
        return sequences.target is not None and (sequences.kind or guessed(sequences.target)[0]) == "class"
    return target == "class"


def _updates(steps, batch):
    """How many updates, about: fewer of long sequences, and of batches of over 16."""
    return round(UPDATES * max(min(1, LONG / steps) * min(1, 4 / batch ** 0.5), 1 / 4))


def _power_of_two(wanted, least, most):
    """The power of two below a number, between two others.

    >>> _power_of_two(9.5, 4, 64), _power_of_two(0.5, 1, 8)
    (8, 1)
    """
    return int(min(max(2 ** math.floor(math.log2(wanted)), least), most))


def _training(sequences, choices):
    """How many examples will train, about, and the steps of the longest one."""
    parts = sequences.parts
    share = 1 - (choices.get("test_share") or TEST_SHARE)
    if horizon := choices.get("horizon"):
        window = choices.get("window") or window_for(horizon, sequences.lengths)
        return int(np.maximum(sequences.lengths * share - window - horizon, 1).sum()), window
    count = len(sequences.lengths) * share if parts is None else (np.asarray(parts) == TRAIN).sum()
    return max(1, math.floor(count)), int(sequences.lengths.max())
