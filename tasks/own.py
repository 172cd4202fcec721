"""A task of own sequences, whatever they were read from."""

from typing import Annotated, Literal

import numpy as np

from santm_tf.answers import Answer
from santm_tf.keras import keras
from santm_tf.tasks import channels, examples, stored, targets
from santm_tf.tasks.archive import TEST, TRAIN, VALIDATION
from santm_tf.tasks.batches import Batches
from santm_tf.tasks.description import described
from santm_tf.tasks.errors import TaskError
from santm_tf.tasks.task import Task, classification, regression

USUAL = 32  # sequences of a batch


def make(sequences, batch_size, seed, target: Literal["auto", "class", "labels", "number"] = "auto",
         per_step: bool | None = None, horizon: int | None = None, window: int | None = None,
         normalise: Literal["standard", "robust", "none"] = "standard",
         missing: Literal["mask", "carry", "refuse"] = "mask", differences: bool = False,
         bend: Annotated[float, "[0, 1]"] = 0.0, class_weight: Literal["none", "balanced"] = "none",
         split: Literal["random", "time"] = "random",
         validation_share: Annotated[float, "[0, 1)"] | None = None,
         test_share: Annotated[float, "(0, 1)"] = 0.2, passes: int = 1, *, kept=None):
    """A `Task` of `reading.Sequences`.

    x is float32 `[B, T, d]`, T being the longest sequence: the features of `Channels`, and `PADDING` behind a
    sequence's end. y is a class `[B]`, labels or normalised numbers `[B, K]`, or the same at each step.

    Args:
      target: What is predicted: a class, several labels, or numbers (auto: from the data).
      per_step: Whether that is predicted at every step (default: where it changes within a sequence).
      horizon: Steps to forecast of each series.
      window: Steps that a forecast reads (default: four horizons, at least 24, if the series allow it).
      normalise: Numbers by mean and deviation of the training split, by median and quartiles, or not.
      missing: Gaps are marked by a feature of their own, filled by the value before, or refused.
      differences: Whether a number's change since the step before is a feature, too.
      bend: How much training sequences are bent in time, scaled and overlaid with noise, anew each epoch.
      class_weight: balanced: rare classes count more in the loss, so that all weigh the same.
      split: Which examples are held out: those of random sequences, or the last ones of the file.
      validation_share: Share of the training examples held out to choose the checkpoint (default: 0.15 of at
        least 300, else none).
      test_share: Share held out for the test where the data brings none.
      passes: Passes over the training examples in an epoch.
      kept: what a trained run keeps of its data: `Task.kept`.

    Raises:
      TaskError: data that does not allow it.
    """
    kept = kept or {}
    refuse_bend(bend, sequences.per_step or horizon)
    if sequences.groups is not None and (horizon or split == "time"):
        raise TaskError(f"--group: {'--horizon' if horizon else '--split=time'} splits in order of time; "
                        "leave one of them out")
    if horizon:
        if target not in ("auto", "number"):
            raise TaskError(f"--target={target}: a forecast is of numbers; leave it out")
        if per_step is not None:
            raise TaskError("--per_step: a forecast is of the steps behind its window; leave it out")
        found, aims = _forecast(sequences, horizon, window, validation_share, test_share, kept)
    elif window:
        raise TaskError(f"--window={window}: is of forecasts; give --horizon, or leave it out")
    else:
        found, aims = _whole(sequences, target, split, validation_share, test_share, kept)
    front = channels.Channels(kept.get("channels") or _fit(sequences, found, normalise, missing, differences))
    batches = Batches(sequences, found, aims, front, kept.get("steps"))
    weights = balanced(_counts(aims, batches)) if class_weight == "balanced" else None
    train, validation, test = (found.of(part) for part in (TRAIN, VALIDATION, TEST))
    batch_size = batch_size or min(USUAL, len(train))
    shown = VALIDATION if len(validation) else TRAIN
    data = stored.splits("sequences", lambda key: batches.show(key, bend, weights), train, found.of(shown),
                         test, seed=seed, batch_size=batch_size, passes=passes)
    chance = _chance(aims.kind, batches.targets_of(shown))
    return Task(name="sequences", **data, features=front.width, padding=batches.padding,
                length=None if batches.padding else batches.steps, return_sequences=batches.per_step,
                categories=front.sizes, front=front,
                kept={"channels": front.facts, "target": aims.facts, "steps": batches.steps},
                about=described(sequences, found, aims, front),
                **predicted(aims, chance, len(validation) > 0, horizon))


def _whole(sequences, target, split, validation_share, test_share, kept):
    """The `Examples` and the `Target` of whole sequences."""
    if sequences.target is None:
        raise TaskError("--label: there is no column to predict; name one, or give --horizon for a forecast")
    per_step, note = sequences.per_step, ()
    kind = kept["target"]["kind"] if kept else target
    if kind == "auto":
        kind, why = sequences.kind, "as the file says"
        if not kind:
            kind, why = targets.guessed(sequences.target)
        note = (f"what is predicted: {kind} ({why})",)
    strata, names = np.zeros(len(sequences.lengths), int), None
    if kind == "class" and not per_step:
        labels = [targets.name_of(cell) for cell in sequences.target[:, 0]]
        names, strata = np.unique(labels, return_inverse=True)
    found = examples.whole(sequences, strata, names, split, validation_share, test_share)
    owners = np.arange(len(found.parts))
    owners = np.repeat(owners, sequences.lengths) if per_step else owners
    train = np.flatnonzero(found.parts[owners] == TRAIN)
    aims = targets.of(sequences.target, kind, train, sequences.targets,
                      lambda place: sequences.where(int(owners[place])), kept.get("target"))
    return found._replace(notes=note + found.notes), aims


def _forecast(sequences, horizon, window, validation_share, test_share, kept):
    """The `Examples` and the `Target` of windows of series: the channels of `--label`, or all of numbers."""
    numbers = [i for i, channel in enumerate(sequences.channels) if channel.categories is None]
    wanted = sequences.targets or [sequences.channels[i].name for i in numbers]
    columns = [i for i in numbers if sequences.channels[i].name in wanted]
    if not columns:
        raise TaskError("--horizon: no channel of numbers can be forecast; --label names those to predict")
    window = window or examples.window_for(horizon, sequences.lengths)
    found, values = examples.windows(sequences, columns, window, horizon, validation_share, test_share)
    values = values.reshape(len(values), horizon * len(columns))
    if kept:
        mean, scale = (np.array(kept["target"][name]) for name in ("mean", "scale"))
    else:
        train = values[found.of(TRAIN)].reshape(-1, len(columns))
        mean, scale = (np.tile(statistic(train, 0), horizon) for statistic in (np.mean, np.std))
        scale = np.where(scale > 0, scale, 1.0)
    names = tuple(sequences.channels[i].name for i in columns)
    return found, targets.Target("number", names, ((values - mean) / scale).astype(np.float32), mean, scale)


def _fit(sequences, found, normalise, missing, differences):
    """The facts of `Channels`, from the steps that training examples read."""
    read = np.zeros(len(sequences.steps) + 1, int)
    train = found.of(TRAIN)
    np.add.at(read, found.starts[train], 1)
    np.add.at(read, found.starts[train] + found.lengths[train], -1)
    steps = sequences.steps[np.cumsum(read[:-1]) > 0]
    numbers = [i for i, channel in enumerate(sequences.channels) if channel.categories is None]
    if missing == "refuse":
        refuse_gaps(sequences, numbers)
    texts = {channel.name: [channel.categories[int(code)] for code in np.unique(steps[:, i]) if code >= 0]
             for i, channel in enumerate(sequences.channels) if channel.categories is not None}
    return channels.fit(steps[:, numbers], [sequences.channels[i].name for i in numbers], texts,
                        normalise=normalise, missing=missing, differences=differences)


def refuse_bend(bend, moves):
    """Refuses to bend sequences where that moves what is predicted of their steps."""
    if bend and moves:
        raise TaskError(f"--bend={bend}: moves steps, and each has what is predicted of it; leave it out")


def refuse_gaps(sequences, numbers):
    """Refuses a missing value in the channels of these places."""
    if (gaps := np.argwhere(np.isnan(sequences.steps[:, numbers]))).size:
        step, column = gaps[0]
        owner = int(np.searchsorted(np.cumsum(sequences.lengths), step, "right"))
        name = sequences.channels[numbers[column]].name
        raise TaskError(f"{sequences.where(owner)}: channel {name} has a gap; --missing=mask or "
                        "carry takes gaps")


def balanced(counts):
    """The weight of each class: `n / (classes n_c)`, n_c being its training targets of n.

    Args:
      counts: n_c, ints `[classes]`; None where no class is predicted.
    """
    if counts is None:
        raise TaskError("--class_weight=balanced: is of classes; leave it out")
    return (counts.sum() / (len(counts) * np.maximum(counts, 1))).astype(np.float32)


def _counts(aims, batches):
    if aims.kind != "class":
        return None
    return np.bincount(batches.targets_of(TRAIN), minlength=len(aims.names))


def predicted(aims, chance, held_out, horizon=None):
    """The fields of a `Task` that are of what is predicted.

    Args:
      aims: `Target`. chance: what guessing scores on the validation, of numbers the mean predictor's error.
      held_out: whether the examples of the validation do not train.
    """
    if aims.kind == "number":
        shape = (horizon, len(aims.names)) if horizon else None
        answer = Answer("numbers", aims.names, mean=aims.mean, scale=aims.scale, shape=shape)
        return {**regression(chance), "outputs": len(aims.mean), "answer": answer}
    answer = Answer(aims.kind, aims.names)
    if aims.kind == "class":
        monitor = "val_accuracy" if held_out else "val_loss"
        return {**classification(len(aims.names), chance, monitor), "answer": answer,
                "classes": list(aims.names)}
    return {"outputs": len(aims.names), "loss": keras.losses.BinaryCrossentropy(from_logits=True),
            "metrics": [keras.metrics.BinaryAccuracy("accuracy", threshold=0.0)], "monitor": "val_loss",
            "chance": {"accuracy": chance}, "answer": answer}


def _chance(kind, y):
    if kind == "class":
        return np.bincount(y).max() / len(y)
    share = y.mean(0)
    return float(np.mean(y ** 2) if kind == "number" else np.maximum(share, 1 - share).mean())
