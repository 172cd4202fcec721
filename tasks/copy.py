"""The copy task of Graves et al. 2014, "Neural Turing Machines", arXiv 1410.5401, section 4.1."""

import tensorflow as tf

from tasks.task import Task, TaskError, by_epoch

PADDING = -1.0
SEQUENCES = 320  # in the validation and in the test split

# Random streams. Only training follows the run's seed, so that runs of several seeds compare.
TRAIN, VALIDATION, TEST = range(3)


def sequences(lengths, max_length, bits, key):
    """Random bit vectors to read, and to give back after the end mark.

    A sequence of length L takes 2 L + 2 steps: the start mark, L vectors, the end mark, L blank
    steps at which the same L vectors are the target. What follows is padding.

    Args:
      lengths: L of each sequence, int32 `[B]`, at most `max_length`.
      max_length: int; sets T = 2 max_length + 2.
      bits: width of a vector.
      key: int `[2]`, the random key that decides the bits.

    Returns:
      x `[B, T, bits + 2]`, the last two channels the start and the end mark, `PADDING` in padded
      steps; y `[B, T, bits]`, 0 where nothing is asked; and the weight `[B, T]`, 1 at recall steps
      and 0 elsewhere.

    >>> x, y, weight = sequences([1, 2], max_length=2, bits=3, key=[0, 0])
    >>> x.shape, y.shape
    (TensorShape([2, 6, 5]), TensorShape([2, 6, 3]))
    >>> print(weight.numpy())
    [[0. 0. 0. 1. 0. 0.]
     [0. 0. 0. 0. 1. 1.]]
    """
    length = tf.convert_to_tensor(lengths, tf.int32)[:, None]
    step = tf.range(2 * max_length + 2)[None]
    shape = [tf.shape(length)[0], max_length, bits]
    vectors = tf.cast(tf.random.stateless_uniform(shape, key, 0, 2, tf.int32), tf.float32)

    def show(first):
        """The vectors from step `first` on, zero elsewhere, and where they stand."""
        index = step - first
        shown = tf.cast((index >= 0) & (index < length), tf.float32)
        index = tf.clip_by_value(index, 0, max_length - 1)
        index = tf.broadcast_to(index, tf.shape(shown))
        return shown[..., None] * tf.gather(vectors, index, batch_dims=1), shown

    read, _ = show(tf.ones_like(length))
    target, weight = show(length + 2)
    start, end = (tf.cast(step == mark, tf.float32) for mark in (tf.zeros_like(length), length + 1))
    x = tf.concat([read, start[..., None], end[..., None]], -1)
    return tf.where((step < 2 * length + 2)[..., None], x, PADDING), target, weight


@tf.keras.utils.register_keras_serializable("tasks")
class WrongBits(tf.keras.metrics.Metric):
    """Error in bits per sequence: the wrong bits at steps of weight 1, per sequence.

    A bit is read as 1 where its logit is above 0. `update_state` takes y `[B, T, bits]`, logits of
    the same shape and the weight `[B, T]`, without which every step counts.

    >>> metric = WrongBits()
    >>> metric.update_state([[[0.0, 1.0], [1.0, 1.0]]], [[[9.0, 9.0], [-9.0, 9.0]]], [[0.0, 1.0]])
    >>> float(metric.result())
    1.0
    """

    def __init__(self, name="wrong_bits", **kwargs):
        super().__init__(name, **kwargs)
        self.wrong = self.add_weight("wrong", initializer="zeros")
        self.sequences = self.add_weight("sequences", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_true, y_pred = tf.convert_to_tensor(y_true), tf.convert_to_tensor(y_pred)
        wrong = tf.cast((y_true > 0.5) != (y_pred > 0), self.dtype)
        wrong = tf.reduce_sum(wrong, -1)
        if sample_weight is not None:
            wrong *= tf.cast(sample_weight, self.dtype)
        self.wrong.assign_add(tf.reduce_sum(wrong))
        self.sequences.assign_add(tf.cast(tf.shape(wrong)[0], self.dtype))

    def result(self):
        return tf.math.divide_no_nan(self.wrong, self.sequences)


def _at_least_one(**options):
    for option, value in options.items():
        if value < 1:
            raise TaskError(f"--{option}={value}: --task=copy needs at least 1")


def load(
    batch_size,
    seed,
    data_dir=None,
    min_length=1,
    max_length=20,
    test_length=None,
    bits=8,
    steps_per_epoch=200,
):
    """Copying random bits: lengths from a range in training and validation, one length in the test.

    The loss that Keras reports for a model that masks the padding is the binary cross-entropy, mean
    over bits, summed over recall steps and divided by *all unpadded* steps of the batch, since
    weights scale the sum and not the count. Guessing therefore scores log(2) L / (2 L + 2), just
    under 0.35. For a model that drops the mask the padded steps count as well.

    Args:
      batch_size: sequences per batch.
      seed: decides the training sequences; validation and test are always the same ones.
      data_dir: not used.
      min_length: fewest vectors in a sequence, in training and validation.
      max_length: most vectors in a sequence there. Lengths are uniform between the two.
      test_length: vectors in every test sequence, `max_length` by default.
      bits: width of a vector.
      steps_per_epoch: batches in an epoch.

    Raises:
      TaskError: a length, width or count that cannot work.

    >>> task = load(batch_size=4, seed=0, test_length=40)
    >>> [part.element_spec[0].shape for part in (task.train, task.test)]
    [TensorShape([4, 42, 10]), TensorShape([None, 82, 10])]
    """
    del data_dir
    test_length = max_length if test_length is None else test_length
    _at_least_one(
        min_length=min_length,
        max_length=max_length,
        test_length=test_length,
        bits=bits,
        steps_per_epoch=steps_per_epoch,
    )
    if max_length < min_length:
        raise TaskError(f"--max_length={max_length}: must be at least --min_length={min_length}")

    def draw(count, shortest, longest, key):
        length_key, bit_key = tf.unstack(tf.random.split(key))
        lengths = tf.random.stateless_uniform([count], length_key, shortest, longest + 1, tf.int32)
        return sequences(lengths, longest, bits, bit_key)

    def batches(epoch):
        key = tf.random.fold_in(tf.constant([seed, TRAIN], tf.int64), epoch)
        steps = tf.data.Dataset.range(steps_per_epoch)
        return steps.map(
            lambda n: draw(batch_size, min_length, max_length, tf.random.fold_in(key, n))
        )

    def fixed(stream, shortest, longest):
        drawn = draw(SEQUENCES, shortest, longest, tf.constant([0, stream], tf.int64))
        return tf.data.Dataset.from_tensor_slices(drawn).batch(batch_size)

    train, epoch = by_epoch(batches, steps_per_epoch)
    return Task(
        name="copy",
        train=train.prefetch(2),
        validation=fixed(VALIDATION, min_length, max_length),
        test=fixed(TEST, test_length, test_length),
        epoch=epoch,
        steps_per_epoch=steps_per_epoch,
        features=bits + 2,
        length=None,
        outputs=bits,
        return_sequences=True,
        padding=PADDING,
        loss=tf.keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=[],
        weighted_metrics=[tf.keras.metrics.BinaryAccuracy("accuracy", threshold=0.0), WrongBits()],
        monitor="val_wrong_bits",
        monitor_mode="min",
        chance={"accuracy": 0.5, "wrong_bits": bits * test_length / 2},
    )
