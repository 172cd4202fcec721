"""Handwritten digits, pixel by pixel: the UCI 8 x 8 digits that scikit-learn carries."""

import math

import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from tasks.task import Task, TaskError, by_epoch, classification


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


def distorted(x, key):
    """Each image turned, scaled, sheared and moved a little, dark coming in from beyond the edge.

    `A = R(theta) [[s_x, k], [0, s_y]]` about the middle, bilinear; theta up to 10 degrees either
    way, s up to 10 % either way, k up to 0.1, moves up to one pixel along each axis.

    Args:
      x: `[n, 64, 1]`.
      key: int `[2]`, the random key that decides the distortions.

    Returns:
      `[n, 64, 1]`.

    >>> distorted(tf.zeros([3, 64, 1]), [0, 0]).shape
    TensorShape([3, 64, 1])
    """
    n, middle = tf.shape(x)[0], 3.5
    angle, scale_x, scale_y, shear, move_x, move_y = tf.unstack(
        tf.random.stateless_uniform([6, n], key, -1.0, 1.0))
    cos, sin = tf.cos(angle * math.pi / 18), tf.sin(angle * math.pi / 18)
    scale_x, scale_y, shear = 1 + 0.1 * scale_x, 1 + 0.1 * scale_y, 0.1 * shear
    a, b = cos * scale_x, cos * shear - sin * scale_y
    c, d = sin * scale_x, sin * shear + cos * scale_y
    zero = tf.zeros_like(a)
    transforms = tf.stack([a, b, middle - (a + b) * middle + move_x,
                           c, d, middle - (c + d) * middle + move_y, zero, zero], 1)
    images = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.reshape(x, [-1, 8, 8, 1]), transforms=transforms, output_shape=[8, 8],
        fill_value=0.0, interpolation="BILINEAR", fill_mode="CONSTANT")
    return tf.reshape(images, [-1, 64, 1])


def load(batch_size, seed, augment=False):
    """Ten classes from 64 steps of one pixel. Nothing is downloaded.

    With `augment` the training images are `distorted` anew in each epoch; validation and test images
    are always the originals.

    >>> task = load(batch_size=32, seed=0)
    >>> task.train.element_spec[0].shape
    TensorShape([32, 64, 1])
    """
    (x, y), validation, test = splits()
    if batch_size > len(y):
        raise TaskError(
            f"--batch_size={batch_size}: --task=digits has {len(y)} training sequences, "
            f"use at most {len(y)}"
        )

    def shuffled(epoch):
        key = [tf.cast(seed, tf.int64), epoch]
        order = tf.random.experimental.stateless_shuffle(tf.range(len(y)), key)
        images = distorted(x, key) if augment else x
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
        padding=None,
        **classification(10, chance=0.1),
    )
