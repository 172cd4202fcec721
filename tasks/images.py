"""Images pixel by pixel: MNIST, permuted MNIST, Fashion-MNIST and CIFAR-10.

MNIST: LeCun, Cortes and Burges, CC BY-SA 3.0. Fashion-MNIST: Xiao et al. 2017, arXiv 1708.07747, MIT.
CIFAR-10: Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images", no licence stated.
Pixel by pixel and permuted MNIST as sequences: Le et al. 2015, arXiv 1504.00941.
"""

import pathlib
import socket

import numpy as np
import tensorflow as tf

from santm_tf.errors import extra
from santm_tf.keras import keras
from santm_tf.tasks import sources, stored
from santm_tf.tasks.task import Task, TaskError, classification

with extra("tasks"):
    from sklearn.model_selection import train_test_split

VALIDATION = 5000
CLASSES = 10
KEYS = ("x_train", "y_train", "x_test", "y_test")
KERAS_DATASETS = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
SOURCES = {
    "mnist": KERAS_DATASETS + "mnist.npz",
    "fashion_mnist": KERAS_DATASETS + "train-images-idx3-ubyte.gz and its three companions",
    "cifar10": "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
}
SHAPES = {"mnist": (28, 28), "fashion_mnist": (28, 28), "cifar10": (32, 32, 3)}
PATIENCE = 10  # seconds that a server may keep a download waiting


def permutation():
    """The order of `pmnist`'s pixels: step t shows pixel order[t], counted row by row.

    NumPy promises that the streams of `RandomState` never change. Those of `default_rng` may.

    >>> permutation()[:5]
    array([693,  85, 647, 392, 765])
    """
    return np.random.RandomState(0).permutation(784)


def arrays(dataset, data_dir=None):
    """The data set as it was published.

    Args:
      dataset: "mnist", "fashion_mnist" or "cifar10".
      data_dir: folder with `DATASET.npz`, or that file, with arrays x_train, y_train, x_test, y_test.
        None: `keras.datasets`, which downloads it once.

    Returns:
      Train and test, each x uint8 `[n, height, width, channels]` and y int32 `[n]`.

    Raises:
      TaskError: the data are not there, cannot be read, or are not of this shape.
    """
    where, found = _downloaded(dataset) if data_dir is None else _from_file(dataset, data_dir)
    parts = []
    for part in ("train", "test"):
        x, y = found[f"x_{part}"], found[f"y_{part}"]
        if x.dtype != np.uint8 or x.shape[1:] != SHAPES[dataset]:
            raise TaskError(f"{where}: x_{part} is {x.dtype}{list(x.shape)}, not uint8"
                            f"[n, {', '.join(map(str, SHAPES[dataset]))}]")
        if y.dtype.kind not in "ui" or y.shape not in ((len(x),), (len(x), 1)):
            raise TaskError(f"{where}: y_{part} is {y.dtype}{list(y.shape)}, not one whole number for "
                            f"each of the {len(x)} images of x_{part}")
        classes = np.unique(y)
        if not np.array_equal(classes, np.arange(CLASSES)):
            present = ", ".join(map(str, classes[:20])) or "none"
            raise TaskError(f"{where}: y_{part} has the classes {present}; it must have each of "
                            f"0 to {CLASSES - 1}, and no other")
        parts.append((x.reshape(*x.shape[:3], -1), y.reshape(-1).astype("int32")))
    return parts


def _downloaded(dataset):
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        train, test = getattr(keras.datasets, dataset).load_data()
    except Exception as error:  # Keras raises a bare Exception where a download fails
        reason = " ".join(str(error).split())
        raise TaskError(f"{dataset}: cannot download it ({reason}); {_advice(dataset)}") from error
    finally:
        socket.setdefaulttimeout(patience)
    return f"keras.datasets.{dataset}", dict(zip(KEYS, (*train, *test), strict=True))


def _from_file(dataset, data_dir):
    path = pathlib.Path(data_dir)
    if path.is_dir():
        path /= f"{dataset}.npz"
        if path.exists():
            sources.check_below(data_dir, path)
    if not path.is_file():
        raise TaskError(f"--data_dir={data_dir}: no file {path}; {_advice(dataset)}")
    try:
        found = sources.arrays(path, KEYS)
    except TaskError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise a dozen kinds at a damaged file
        raise TaskError(f"{path}: not a whole .npz file ({' '.join(str(error).split())})") from error
    if missing := [key for key in KEYS if key not in found]:
        raise TaskError(f"{path}: no array {', '.join(missing)}; it must have {', '.join(KEYS)}")
    return path, found


def _advice(dataset):
    if dataset == "mnist":
        return f"get {SOURCES[dataset]} and give its folder as --data_dir"
    return (f"save the arrays {', '.join(KEYS)} of keras.datasets.{dataset} (from {SOURCES[dataset]}) "
            f"as {dataset}.npz and give its folder as --data_dir")


def split(y, where):
    """Training and validation images: 5,000 for validation, stratified by class, always the same.

    Args:
      y: the classes of the published training part, int `[n]`. where: their name in a `TaskError`, if they
        are too few.

    Returns:
      Indices of the training images, shuffled, and of those for validation.

    >>> train, validation = split(np.arange(60000) % 10, "mnist")
    >>> len(train), np.bincount(validation % 10)
    (55000, array([500, 500, 500, 500, 500, 500, 500, 500, 500, 500]))
    """
    if len(y) < VALIDATION + CLASSES or np.bincount(y).min() < 2:
        raise TaskError(f"{where}: {len(y)} training images; {VALIDATION} for validation, one of each "
                        "class to train on and two of each class in all are the least")
    return train_test_split(np.arange(len(y)), test_size=VALIDATION, stratify=y, random_state=0)


def steps(images, side, pixels_per_step, order=None):
    """Images as sequences: pixels row by row, or in another order, so many to a step.

    Args:
      images: uint8 `[B, height, height, channels]`.
      side: height and width of what is shown; squares of pixels are averaged to come down to it.
      pixels_per_step: pixels in a step; it divides side^2.
      order: int `[side^2]`, the pixel that comes first, second and so on; None for row by row.

    Returns:
      float32 in [0, 1], `[B, side^2 / pixels_per_step, pixels_per_step channels]`.

    >>> images = tf.constant([[[[0], [255]], [[51], [102]]]], tf.uint8)
    >>> steps(images, 2, 2, [3, 2, 1, 0])[0].numpy()
    array([[0.4, 0.2],
           [1. , 0. ]], dtype=float32)
    >>> steps(images, 1, 1).numpy()
    array([[[0.4]]], dtype=float32)
    """
    size, channels = images.shape[1], images.shape[3]
    x = tf.cast(images, tf.float32) / 255
    if side < size:
        x = tf.nn.avg_pool2d(x, size // side, size // side, "VALID")
    x = tf.reshape(x, [-1, side * side, channels])
    if order is not None:
        x = tf.gather(x, order, axis=1)
    return tf.reshape(x, [-1, side * side // pixels_per_step, pixels_per_step * channels])


def mnist(batch_size, seed, data_dir: str | None = None, pixels_per_step: int = 1,
          train_size: int | None = None):
    """Handwritten digits, 28 x 28 grey, in 784 steps of one pixel.

    Args:
      data_dir: folder with `mnist.npz`, or that file, see `arrays`.
      pixels_per_step: pixels in one step, for shorter sequences; 28 gives a row of MNIST.
      train_size: train on so many images only, chosen at random but always the same ones, the fewer
        among the more; None for all but the 5,000 of validation.
    """
    return load("mnist", batch_size, seed, data_dir, pixels_per_step, train_size)


def pmnist(batch_size, seed, data_dir: str | None = None, pixels_per_step: int = 1,
           train_size: int | None = None):
    """`mnist` with the pixels of every image in one fixed order, `permutation()`."""
    return load("pmnist", batch_size, seed, data_dir, pixels_per_step, train_size, order=permutation())


def fashion_mnist(batch_size, seed, data_dir: str | None = None, pixels_per_step: int = 1,
                  train_size: int | None = None):
    """Articles of clothing, 28 x 28 grey, in 784 steps of one pixel; for the arguments see `mnist`."""
    return load("fashion_mnist", batch_size, seed, data_dir, pixels_per_step, train_size)


def cifar10(batch_size, seed, data_dir: str | None = None, side: int = 32, pixels_per_step: int = 1,
            train_size: int | None = None):
    """Photographs, 32 x 32 in colour, in 1024 steps of three values, or `side`^2.

    Args:
      side: height and width of what is shown, in pixels; it divides 32.
    """
    if side < 1 or 32 % side:
        raise TaskError(f"--side={side}: must divide 32")
    return load("cifar10", batch_size, seed, data_dir, pixels_per_step, train_size, side=side)


def load(name, batch_size, seed, data_dir, pixels_per_step, train_size, side=None, order=None):
    """Ten classes, from the pixels in their order. Images stay uint8 in memory; a batch is float32.

    Args:
      name: mnist, pmnist, fashion_mnist or cifar10.
      data_dir, pixels_per_step, train_size: see `mnist`. order: see `steps`.
      side: height and width of what is shown; None for those of the images.

    Raises:
      TaskError: data or an option that cannot work.
    """
    dataset = name.removeprefix("p")
    side = side or SHAPES[dataset][0]
    if pixels_per_step < 1 or side * side % pixels_per_step:
        raise TaskError(f"--pixels_per_step={pixels_per_step}: must divide the {side * side} pixels")
    (x, y), (test_x, test_y) = arrays(dataset, data_dir)
    train, validation = split(y, name)
    if train_size is not None and not 1 <= train_size <= len(train):
        raise TaskError(f"--train_size={train_size}: must be from 1 to {len(train)}")
    train = train[:train_size]
    tested = len(y) + np.arange(len(test_y))
    with tf.device("CPU:0"):  # where tf.data runs
        x, y = tf.constant(np.concatenate([x, test_x])), tf.constant(np.concatenate([y, test_y]))

    def show(key):
        return lambda i: (steps(tf.gather(x, i), side, pixels_per_step, order), tf.gather(y, i))

    data = stored.splits(name, show, train, validation, tested, seed=seed, batch_size=batch_size)
    return Task(name=name, **data, features=pixels_per_step * x.shape[-1],
                length=side * side // pixels_per_step,
                side=side if order is None and pixels_per_step == 1 else None,
                **classification(CLASSES, chance=1 / CLASSES))
