"""What a task gives to train.py and evaluate.py."""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from santm_tf import compat  # noqa: F401  (makes tf.keras Keras 2)


class TaskError(ValueError):
    """A task that cannot be had: one line that names the flag and what would be right."""


@dataclasses.dataclass(frozen=True)
class Task:
    """Data, loss and metrics of one task.

    A batch is `(x, y)` or `(x, y, sample_weight)`: x `[B, T, features]`, or tokens `[B, T]`; y
    whatever the loss takes beside logits `[B, outputs]`, or `[B, T, outputs]` with
    `return_sequences`.

    Attributes:
      name: the task's name in the registry.
      train: one pass is one epoch. Every batch is full; each epoch's content follows from the seed
        and `epoch` alone.
      validation: for choosing the checkpoint. The last batch may be smaller.
      test: never used for choosing. The last batch may be smaller.
      epoch: counts the passes over `train` begun so far. Assign it to continue a run at that epoch.
      steps_per_epoch: batches in one pass over `train`.
      features: width of one input step, d; None for tokens.
      length: T where every sequence has the same length, else None.
      outputs: width of the output layer, which gives logits.
      return_sequences: an output at each step, or one at the last valid step.
      padding: value that fills x at padded steps, for `tf.keras.layers.Masking`; None if nothing is
        padded.
      loss: a Keras loss, from logits.
      metrics: fresh Keras metrics.
      weighted_metrics: fresh Keras metrics that take the sample weights.
      monitor: the validation figure that picks the best checkpoint.
      monitor_mode: "max" or "min".
      chance: what guessing scores on the test split, by metric name.
      vocabulary: how many tokens there are, where x is int32 `[B, T]`, token 0 being padding; else None.
      stateful: row i of a batch goes on where row i of the batch before it ended.
      classes: the classes' names in their order, where there are names.
      lexicon: of tokens that are parts of a text, function that gives a `vocabulary.Lexicon`.
    """

    name: str
    train: tf.data.Dataset
    validation: tf.data.Dataset
    test: tf.data.Dataset
    epoch: tf.Variable
    steps_per_epoch: int
    features: int | None
    length: int | None
    outputs: int
    return_sequences: bool
    padding: float | None
    loss: tf.keras.losses.Loss
    metrics: list
    weighted_metrics: list
    monitor: str
    monitor_mode: str
    chance: dict[str, float]
    vocabulary: int | None = None
    stateful: bool = False
    classes: list[str] | None = None
    lexicon: Callable | None = None


def classification(classes, chance, monitor="val_loss"):
    """The fields of a `Task` that names one class a sequence: outputs, loss, metrics, what to monitor.

    Args:
      classes: how many.
      chance: the accuracy of guessing.
      monitor: "val_loss", or "val_accuracy" where so few sequences validate that the loss picks an early
        epoch, unsure of everything.

    >>> classification(10, chance=0.1)["chance"]
    {'accuracy': 0.1}
    """
    return {
        "outputs": classes,
        "return_sequences": False,
        "loss": tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "metrics": [tf.keras.metrics.SparseCategoricalAccuracy("accuracy")],
        "weighted_metrics": [],
        "monitor": monitor,
        "monitor_mode": "min" if monitor == "val_loss" else "max",
        "chance": {"accuracy": chance},
    }


def regression(chance):
    """The fields of a `Task` that gives one number a sequence: outputs, loss, metrics, what to monitor.

    The metric `mse` is the loss without what a model adds to it.

    Args:
      chance: the error of the mean predictor, the target's variance.

    >>> regression(chance=0.5)["chance"]
    {'mse': 0.5}
    """
    return {
        "outputs": 1,
        "return_sequences": False,
        "loss": tf.keras.losses.MeanSquaredError(),
        "metrics": [tf.keras.metrics.MeanSquaredError("mse")],
        "weighted_metrics": [],
        "monitor": "val_mse",
        "monitor_mode": "min",
        "chance": {"mse": chance},
    }


def by_epoch(make, steps):
    """A dataset whose n-th pass is `make(n)`, and the variable that counts the passes begun.

    `Dataset.shuffle` depends on the global seed and forgets its place when a run is resumed. Here
    an epoch is a pure function of its number.

    Args:
      make: from an int64 scalar, the epoch from 0, to a dataset.
      steps: elements in each of those datasets.

    Returns:
      The dataset and an int64 `tf.Variable`.

    >>> data, epoch = by_epoch(lambda n: tf.data.Dataset.from_tensors(10 * n), steps=1)
    >>> [int(next(iter(data))) for _ in range(3)], int(epoch)
    ([0, 10, 20], 3)
    >>> epoch.assign(7); int(next(iter(data)))  # doctest: +ELLIPSIS
    <...>
    70
    """
    with tf.device("CPU:0"):  # where tf.data runs
        epoch = tf.Variable(0, dtype=tf.int64, trainable=False, name="epoch")
    data = tf.data.Dataset.from_tensors(0).flat_map(lambda _: make(epoch.assign_add(1) - 1))
    return data.apply(tf.data.experimental.assert_cardinality(steps)), epoch
