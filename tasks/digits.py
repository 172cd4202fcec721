"""Handwritten digits, pixel by pixel: the UCI 8 x 8 digits that scikit-learn carries."""

import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from tasks.task import Task, TaskError, by_epoch


def splits():
    """The fixed split, stratified by class: 1257 training, 180 validation and 360 test digits.

    Returns:
      Three pairs x `[n, 64, 1]` float32 in [0, 1], y `[n]` int32.

    >>> [len(y) for _, y in splits()]
    [1257, 180, 360]
    """
    x, y = load_digits(return_X_y=True)
    x, y = (x / 16).astype("float32")[..., None], y.astype("int32")
    x, test_x, y, test_y = train_test_split(x, y, test_size=360, stratify=y, random_state=0)
    x, validation_x, y, validation_y = train_test_split(
        x, y, test_size=180, stratify=y, random_state=0
    )
    return (x, y), (validation_x, validation_y), (test_x, test_y)


def shifted(x, key):
    """Each image moved by up to one pixel along each axis, nothing coming in from beyond the edge.

    Args:
      x: `[n, 64, 1]`.
      key: int `[2]`, the random key that decides the moves.

    Returns:
      `[n, 64, 1]`.

    >>> shifted(tf.zeros([3, 64, 1]), [0, 0]).shape
    TensorShape([3, 64, 1])
    """
    images = tf.pad(tf.reshape(x, [-1, 8, 8]), [[0, 0], [1, 1], [1, 1]])
    first = tf.random.stateless_uniform([2, tf.shape(images)[0], 1], key, 0, 3, tf.int32)
    rows, columns = tf.unstack(first + tf.range(8))
    images = tf.gather(images, rows, axis=1, batch_dims=1)
    images = tf.gather(images, columns, axis=2, batch_dims=1)
    return tf.reshape(images, [-1, 64, 1])


def load(batch_size, seed, data_dir=None, augment=False):
    """Ten classes from 64 steps of one pixel. Nothing is downloaded, and `data_dir` is not used.

    With `augment` the training images are `shifted` anew in each epoch; validation and test images
    are always the originals.

    >>> task = load(batch_size=32, seed=0)
    >>> task.train.element_spec[0].shape
    TensorShape([32, 64, 1])
    """
    del data_dir
    (x, y), validation, test = splits()
    if batch_size > len(y):
        raise TaskError(
            f"--batch_size={batch_size}: --task=digits has {len(y)} training sequences, "
            f"use at most {len(y)}"
        )

    def shuffled(epoch):
        key = [tf.cast(seed, tf.int64), epoch]
        order = tf.random.experimental.stateless_shuffle(tf.range(len(y)), key)
        images = shifted(x, key) if augment else x
        batches = tf.data.Dataset.from_tensor_slices(
            (tf.gather(images, order), tf.gather(y, order))
        )
        return batches.batch(batch_size, drop_remainder=True)

    steps = len(y) // batch_size
    train, epoch = by_epoch(shuffled, steps)
    return Task(
        name="digits",
        train=train.prefetch(2),
        validation=tf.data.Dataset.from_tensor_slices(validation).batch(batch_size),
        test=tf.data.Dataset.from_tensor_slices(test).batch(batch_size),
        epoch=epoch,
        steps_per_epoch=steps,
        features=1,
        length=64,
        outputs=10,
        return_sequences=False,
        padding=None,
        loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[tf.keras.metrics.SparseCategoricalAccuracy("accuracy")],
        weighted_metrics=[],
        monitor="val_loss",
        monitor_mode="min",
        chance={"accuracy": 0.1},
    )
