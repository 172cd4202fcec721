"""What a task gives to train.py and evaluate.py."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from santm_tf.answers import Answer
from santm_tf.keras import keras
from santm_tf.tasks.errors import TaskError  # noqa: F401
from santm_tf.tasks.share import WHOLE, Share


class Scale(NamedTuple):
    """An option for the length of the test sequences: its name, what it counts, the longest in training."""

    option: str
    noun: str
    trained: int
    least: int = 1


@dataclasses.dataclass(frozen=True)
class Task:
    """Data, loss and metrics of one task.

    A batch is `(x, y)` or `(x, y, sample_weight)`: x `[B, T, features]`, or tokens `[B, T]`; y as the
    loss takes it beside logits `[B, outputs]`, with `return_sequences` `[B, T, outputs]`.

    Attributes:
      name: the task's name in the registry.
      train: one pass is one epoch. Every batch is full. The seed and `epoch` decide its content.
      validation, test: for choosing the checkpoint, and for the score. The last batch may be smaller.
      epoch: counts the passes over `train` begun so far. Assign it to continue a run at that epoch.
      steps_per_epoch: batches in one pass over `train`.
      outputs: width of the output layer, which gives logits.
      loss: a Keras loss, from logits.
      chance: what guessing scores on the validation split, or on a test split that is alike, by metric name.
      monitor, monitor_mode: the validation figure that picks the best checkpoint, and "max" or "min".
      metrics, weighted_metrics: fresh Keras metrics, and those that take the sample weights.
      features: width of one input step, d; None for tokens.
      length: T where every sequence has the same length, else None.
      return_sequences: an output at each step, or one at the last valid step.
      padding: value that fills x at padded steps, for `keras.layers.Masking`; None for no padding.
      vocabulary: how many tokens there are, where x is int32 `[B, T]`, token 0 being padding; else None.
      stateful: row i of a batch goes on where row i of the batch before it ended.
      classes: the classes' names in their order, or None.
      front: a `tf.Module` that stands before the model where it is served, or None. `front(**raw)`, raw
        being tensors as its `signature` says, `{name: tf.TensorSpec}`, gives x as in a batch,
        `[B, T, features]` or tokens, and valid, bool `[B, T]`, which steps count. `facts`, for JSON, says
        what it takes. Of streams it has `first(batch) -> state` and `step(state, **raw) -> (x, state)`, raw
        as `step_signature` says; where `step` is None, a stream takes what the model does.
        `get_config()` gives its arguments, so that shards keep it.
      answer: the `santm_tf.answers.Answer` that stands behind it, or None: of classes it follows from their
        names.
      lexicon: function that gives the `vocabulary.Lexicon` of tokens that are parts of a text, or None.
      side: of the square image whose pixels are the steps, row by row; else None.
      scales: in what the test sequences may be longer than those in training.
      categories: of each of the last channels of x that are codes, how many codes there are.
      kept: what a trained run keeps of its data, as JSON, to read others as those it was trained on.
      about: the data as they were understood, in lines to print.
      share: which rows of each batch were read: all, or one process's of several.
      after: from a number of batches to what of the next epoch comes after them, without reading those; None
        where they are made and left out.
    """

    name: str
    train: tf.data.Dataset
    validation: tf.data.Dataset
    test: tf.data.Dataset
    epoch: tf.Variable
    steps_per_epoch: int
    outputs: int
    loss: keras.losses.Loss
    chance: dict[str, float]
    monitor: str
    monitor_mode: str = "min"
    metrics: list = dataclasses.field(default_factory=list)
    weighted_metrics: list = dataclasses.field(default_factory=list)
    features: int | None = None
    length: int | None = None
    return_sequences: bool = False
    padding: float | None = None
    vocabulary: int | None = None
    stateful: bool = False
    classes: list[str] | None = None
    front: tf.Module | None = None
    answer: Answer | None = None
    lexicon: Callable | None = None
    side: int | None = None
    scales: tuple[Scale, ...] = ()
    categories: tuple[int, ...] = ()
    kept: dict | None = None
    about: tuple[str, ...] = ()
    share: Share = WHOLE
    after: Callable[[int], tf.data.Dataset] | None = None

    @property
    def steps(self):
        """The steps of a training batch, None where batches differ."""
        return self.train.element_spec[0].shape[1]

    def rows(self, share, data):
        """The rows of a `Share` of the batches of one of its datasets, unless it has read those alone."""
        return data if self.share == share else share.over(data)

    def rest(self, batches):
        """The next epoch but for so many batches at its start."""
        return self.after(batches) if self.after else self.train.skip(batches)


def classification(classes, chance, monitor="val_loss"):
    """The fields of a `Task` that names one class a sequence: outputs, loss, metrics, what to monitor.

    Args:
      classes: how many. chance: the accuracy of guessing.
      monitor: "val_loss"; or "val_accuracy" where few sequences validate. Their loss is lowest at an early
        epoch, which is unsure of everything.

    >>> classification(10, chance=0.1)["chance"]
    {'accuracy': 0.1}
    """
    return {"outputs": classes, "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            "metrics": [keras.metrics.SparseCategoricalAccuracy("accuracy")], "monitor": monitor,
            "monitor_mode": "min" if monitor == "val_loss" else "max", "chance": {"accuracy": chance}}


def regression(chance):
    """The fields of a `Task` that gives one number a sequence: outputs, loss, metrics, what to monitor.

    The metric `mse` is the loss without what a model adds to it.

    Args:
      chance: the error of the mean predictor, the target's variance.

    >>> regression(chance=0.5)["chance"]
    {'mse': 0.5}
    """
    return {"outputs": 1, "loss": keras.losses.MeanSquaredError(), "monitor": "val_mse",
            "metrics": [keras.metrics.MeanSquaredError("mse")], "chance": {"mse": chance}}


def by_epoch(make, steps, validation, test, seeks=False):
    """The fields of a `Task` that are its data. The n-th pass over `train` is `make(n)`.

    `Dataset.shuffle` depends on the global seed and forgets its place when a run is resumed. Here
    an epoch is a pure function of its number.

    Args:
      make: from an int64 scalar, the epoch from 0, to a dataset.
      steps: elements in each of those datasets.
      validation, test: datasets, always the same.
      seeks: whether `make` also takes a number of batches, and gives those after them.

    >>> fields = by_epoch(lambda n: tf.data.Dataset.from_tensors(10 * n), 1, None, None)
    >>> data, epoch = fields["train"], fields["epoch"]
    >>> [int(next(iter(data))) for _ in range(3)], int(epoch)
    ([0, 10, 20], 3)
    >>> epoch.assign(7); int(next(iter(data)))  # doctest: +ELLIPSIS
    <...>
    70
    """
    with tf.device("CPU:0"):  # where tf.data runs
        epoch = tf.Variable(0, dtype=tf.int64, trainable=False, name="epoch")

    def after(batches):
        begun = [batches] if seeks else []
        data = tf.data.Dataset.from_tensors(0).flat_map(lambda _: make(epoch.assign_add(1) - 1, *begun))
        return data.apply(tf.data.experimental.assert_cardinality(steps - batches)).prefetch(2)

    fields = {"train": after(0), "validation": validation, "test": test, "epoch": epoch,
              "steps_per_epoch": steps}
    return fields | ({"after": after} if seeks else {})
