"""Handwritten digits, pixel by pixel: the UCI 8 x 8 digits that scikit-learn carries."""

import math

import numpy as np
import tensorflow as tf

from santm_tf.errors import extra
from santm_tf.tasks import stored
from santm_tf.tasks.task import Task, classification

with extra("tasks"):
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split


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
    x, validation_x, y, validation_y = train_test_split(x, y, test_size=180, stratify=y, random_state=0)
    return (x, y), (validation_x, validation_y), (test_x, test_y)


def distorted(x, key):
    """Each image turned, scaled, sheared and moved a little, dark coming in from beyond the edge.

    `A = R(theta) [[s_x, k], [0, s_y]]` about the middle, bilinear; theta up to 10 degrees either
    way, s up to 10 % either way, k up to 0.1, moves up to one pixel along each axis.

    Args:
      x: `[n, 64, 1]`. key: int `[2]`, the random key that decides the distortions.

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


def load(batch_size, seed, augment: bool = False):
    """Ten classes from 64 steps of one pixel. Nothing is downloaded.

    Args:
      seed: decides the order of the training images in each epoch, and how they are distorted.
      augment: whether the training images are `distorted` anew in each epoch.

    >>> task = load(batch_size=32, seed=0)
    >>> task.train.element_spec[0].shape
    TensorShape([32, 64, 1])
    """
    xs, ys = zip(*splits(), strict=True)
    ends = np.cumsum([0, *map(len, ys)])
    x, y = np.concatenate(xs), np.concatenate(ys)

    def show(key):
        images = x if key is None or not augment else distorted(xs[0], key)
        return lambda index: (tf.gather(images, index), tf.gather(y, index))

    data = stored.splits("digits", show, *map(np.arange, ends, ends[1:]), seed=seed, batch_size=batch_size)
    return Task(name="digits", **data, features=1, length=64, side=8, **classification(10, chance=0.1))
