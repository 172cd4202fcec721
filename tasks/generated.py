"""What generated tasks share: random keys and splits, lengths that may rise, answers in bits."""

import dataclasses

import tensorflow as tf

from santm_tf.keras import keras
from santm_tf.tasks.task import Task, TaskError, by_epoch

PADDING = -1.0
MOST = 2**31 - 1  # steps
SEQUENCES = 320  # in the validation and in the test split

# Random streams. Only training follows the run's seed, so that runs of several seeds compare.
TRAIN, VALIDATION, TEST = range(3)


@dataclasses.dataclass(frozen=True)
class Lengths:
    """Lengths drawn uniformly from a range, the longest of an epoch rising with a curriculum.

    Epoch e draws from shortest to shortest + (longest - shortest) min(e + 1, epochs) // epochs. What
    is drawn stays padded to `longest`, so that no batch has a new shape.

    Attributes:
      shortest, longest: ends of the range, both drawn.
      epochs: of the curriculum; 1 draws from the whole range in every epoch.

    >>> rising = Lengths(1, 20, epochs=4)
    >>> [int(rising.limit(tf.constant(epoch))) for epoch in range(6)]
    [5, 10, 15, 20, 20, 20]
    """

    shortest: int
    longest: int
    epochs: int = 1

    def limit(self, epoch):
        """The longest length in an epoch, int32: `epoch` counts from 0, None stands for the last."""
        if epoch is None:
            return tf.constant(self.longest)
        done = tf.minimum(tf.cast(epoch, tf.int32) + 1, self.epochs)
        return self.shortest + (self.longest - self.shortest) * done // self.epochs

    def draw(self, count, key, epoch):
        """`count` lengths, int32 `[count]`."""
        return tf.random.stateless_uniform([count], key, self.shortest, self.limit(epoch) + 1, tf.int32)


def countable(name, steps):
    """Raises a `TaskError` for sequences of a task with more steps than TensorFlow counts in int32.

    >>> countable("copy", 10**9)
    """
    if steps > MOST:
        raise TaskError(f"--task={name}: its sequences would have {steps:,} steps; give sizes by which they "
                        f"have at most {MOST:,}")


def lengths(noun, shortest, longest, curriculum, curriculum_epochs):
    """`Lengths` from flags `--min_NOUN` and `--max_NOUN`.

    Raises:
      TaskError: where the range is empty.
    """
    if longest < shortest:
        raise TaskError(f"--max_{noun}={longest}: must be at least --min_{noun}={shortest}")
    return Lengths(shortest, longest, curriculum_epochs if curriculum else 1)


def splits(draw, draw_test, batch_size, seed, steps_per_epoch, *, sequences=SEQUENCES,
           test_sequences=None, at_once=SEQUENCES):
    """Training batches drawn anew in each epoch, and fixed sequences for validation and test.

    Args:
      draw: from a count, a random key int64 `[2]` and the epoch to the tensors of a batch of so many
        sequences. The epoch is None outside training.
      draw_test: the same for the test split.
      batch_size: sequences per batch. steps_per_epoch: batches in an epoch.
      seed: decides the training batches, with the epoch; the other splits are always the same.
      sequences: in the validation split. test_sequences: in the test split, by default as many. Fewer are
        the first of more.
      at_once: how many of these are drawn at a time. Another number draws other sequences.

    Returns:
      The fields of `by_epoch`.

    >>> def draw(count, key, epoch):
    ...     return tf.random.stateless_uniform([count, 5], key), tf.ones([count])
    >>> parts = splits(draw, draw, batch_size=4, seed=0, steps_per_epoch=2)
    >>> parts["train"].element_spec[0].shape, len(list(parts["test"]))
    (TensorShape([4, 5]), 80)
    """
    def batches(epoch):
        key = tf.random.fold_in(tf.constant([seed, TRAIN], tf.int64), epoch)
        steps = tf.data.Dataset.range(steps_per_epoch)
        return steps.map(lambda n: draw(batch_size, tf.random.fold_in(key, n), epoch))

    def fixed(draw, stream, count):
        parts = tf.data.Dataset.range(-(-count // at_once))
        parts = parts.map(lambda n: draw(at_once, tf.stack([n, stream]), None))
        if count % at_once:  # else the batch's size stays known
            parts = parts.enumerate().map(lambda n, drawn: tf.nest.map_structure(
                lambda part: part[:count - n * at_once], drawn))
        parts = parts.rebatch(batch_size).prefetch(1)
        # Without a cardinality Keras begins one batch too many, and `WrongBits` counts it.
        return parts.apply(tf.data.experimental.assert_cardinality(-(-count // batch_size)))

    return by_epoch(batches, steps_per_epoch, fixed(draw, VALIDATION, sequences),
                    fixed(draw_test, TEST, test_sequences or sequences))


def always(name, draw, batch_size, seed, steps_per_epoch, **fields):
    """A `Task` whose sequences are drawn in the same way in every epoch and split.

    Args:
      draw: from a count and a random key to a batch of so many sequences.
      batch_size, seed, steps_per_epoch: see `splits`. name, **fields: the other fields of the `Task`.
    """
    def in_any_epoch(count, key, epoch):
        return draw(count, key)

    data = splits(in_any_epoch, in_any_epoch, batch_size, seed, steps_per_epoch, sequences=1280)
    return Task(name=name, **data, **fields)


def of_lengths(make, *ranges):
    """A `draw` for `splits`: random lengths, and the sequences that are made of them.

    Args:
      make: from lengths int32 `[B]` of each range, the longest ones and `key=`, a random key, to a batch.
      *ranges: of `Lengths`.
    """
    def draw(count, key, epoch):
        *keys, key = tf.unstack(tf.random.split(key, len(ranges) + 1))
        drawn = [some.draw(count, own, epoch) for some, own in zip(ranges, keys, strict=True)]
        return make(*drawn, *(some.longest for some in ranges), key=key)

    return draw


def random_bits(shape, key):
    """Zeros and ones of equal probability, float32."""
    return tf.cast(tf.random.stateless_uniform(shape, key, 0, 2, tf.int32), tf.float32)


def pick(vectors, index, shown):
    """Vectors by index where they are shown, zero elsewhere.

    Args:
      vectors: `[B, N, bits]`.
      index: int, broadcast to `[B, T]`; anything where nothing is shown.
      shown: boolean `[B, T]`.

    Returns:
      `[B, T, bits]`.

    >>> pick(tf.constant([[[1.0], [2.0]]]), [[7, 1, 0]], [[False, True, True]])[0, :, 0].numpy()
    array([0., 2., 1.], dtype=float32)
    """
    index = tf.broadcast_to(index, tf.shape(shown))
    index = tf.clip_by_value(index, 0, tf.shape(vectors)[1] - 1)
    return tf.gather(vectors, index, batch_dims=1) * tf.cast(shown, vectors.dtype)[..., None]


def bit_task(name, make, ranges, tested, batch_size, seed, steps_per_epoch, *, features, bits, asked, scales,
             **options):
    """A `Task` that answers with bits at the steps of weight 1, sequences being padded.

    The loss that Keras reports for a model that masks the padding is the binary cross-entropy, mean
    over bits, summed over the steps of weight 1 and divided by *all unpadded* steps of the batch,
    since weights scale the sum and not the count.

    Args:
      make, ranges: see `of_lengths`; a batch is x `[B, T, features]`, `PADDING` in padded steps, y
        `[B, T, bits]` and the weight `[B, T]`.
      tested: the lengths of every test sequence, one for each range.
      batch_size, seed, steps_per_epoch, **options: see `splits`.
      asked: steps of weight 1 in a test sequence.
      name, scales: see `Task`.
    """
    draw, draw_test = of_lengths(make, *ranges), of_lengths(make, *(Lengths(n, n) for n in tested))
    return Task(name=name, **splits(draw, draw_test, batch_size, seed, steps_per_epoch, **options),
                features=features, outputs=bits, return_sequences=True, padding=PADDING, scales=scales,
                loss=keras.losses.BinaryCrossentropy(from_logits=True),
                weighted_metrics=[keras.metrics.BinaryAccuracy("accuracy", threshold=0.0), WrongBits()],
                monitor="val_wrong_bits", chance={"accuracy": 0.5, "wrong_bits": bits * asked / 2})


def tokens_asked(vocabulary, chance):
    """The fields of a `Task` of tokens that asks for one at the steps of weight 1, as accuracy over those.

    The loss that Keras reports is their cross-entropy, summed, divided by *all* steps.

    Args:
      vocabulary: how many tokens there are. chance: the accuracy of guessing.

    >>> tokens_asked(16, chance=1 / 8)["outputs"]
    16
    """
    return {"vocabulary": vocabulary, "outputs": vocabulary, "return_sequences": True,
            "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            "weighted_metrics": [keras.metrics.SparseCategoricalAccuracy("accuracy")],
            "monitor": "val_accuracy", "monitor_mode": "max", "chance": {"accuracy": chance}}


@keras.saving.register_keras_serializable("tasks")
class WrongBits(keras.metrics.Metric):
    """How many bits are wrong at the steps of weight 1, mean over sequences.

    A bit is read as 1 where its logit is above 0. `update_state` takes y `[B, T, bits]`, logits of
    the same shape and the weight `[B, T]`. Without a weight every step counts.

    >>> metric = WrongBits()
    >>> metric.update_state([[[0.0, 1.0], [1.0, 1.0]]], [[[9.0, 9.0], [-9.0, 9.0]]], [[0.0, 1.0]])
    >>> float(metric.result())
    1.0
    """

    def __init__(self, name="wrong_bits", **kwargs):
        super().__init__(name=name, **kwargs)
        self.wrong = self.add_weight(name="wrong", shape=(), initializer="zeros")
        self.sequences = self.add_weight(name="sequences", shape=(), initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_true, y_pred = tf.convert_to_tensor(y_true), tf.convert_to_tensor(y_pred)
        wrong = tf.reduce_sum(tf.cast((y_true > 0.5) != (y_pred > 0), self.dtype), -1)
        if sample_weight is not None:
            wrong *= tf.cast(sample_weight, self.dtype)
        self.wrong.assign_add(tf.reduce_sum(wrong))
        self.sequences.assign_add(tf.cast(tf.shape(wrong)[0], self.dtype))

    def result(self):
        return tf.math.divide_no_nan(self.wrong, self.sequences)
