"""Images pixel by pixel: what a step holds, the splits, bad files, no network."""

import io
import os
import pathlib
import socket
import zlib

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from santm_tf.keras import keras
from santm_tf.tasks import TaskError, images

DATA = pathlib.Path(os.environ.get("SANTM_DATA", pathlib.Path(__file__).parent / "../../shared/data"))
LOADERS = {"mnist": images.mnist, "pmnist": images.pmnist, "fashion_mnist": images.fashion_mnist,
           "cifar10": images.cifar10}


def made_up(dataset, train=160, test=40):
    """A small data set of the published form."""
    rng = np.random.default_rng(0)
    shape, column = images.SHAPES[dataset], [1] if dataset == "cifar10" else []
    return {
        "x_train": rng.integers(0, 256, [train, *shape], np.uint8),
        "y_train": (np.arange(train) % 10).astype("uint8").reshape(-1, *column),
        "x_test": rng.integers(0, 256, [test, *shape], np.uint8),
        "y_test": (np.arange(test) % 10).astype("uint8").reshape(-1, *column),
    }


@pytest.fixture(autouse=True)
def few_for_validation(monkeypatch):
    monkeypatch.setattr(images, "VALIDATION", 30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for dataset in images.SHAPES:
        np.savez(folder / f"{dataset}.npz", **made_up(dataset))
    return folder


def arrays(dataset):
    return [np.concatenate(part) for part in zip(*dataset.as_numpy_iterator(), strict=True)]


def shown(name, x, side=32, pixels_per_step=1):
    """What a model is to see of an image, told in NumPy."""
    x = x / 255
    if side < 32:
        x = x.reshape(side, 32 // side, side, 32 // side, 3).mean((1, 3))
    pixels = list(x.reshape(-1, 3 if name == "cifar10" else 1))
    if name == "pmnist":
        pixels = [pixels[i] for i in images.permutation()]
    return np.reshape(pixels, [len(pixels) // pixels_per_step, -1])


@pytest.mark.parametrize("name, options, steps, features", [
    ("mnist", {}, 784, 1),
    ("mnist", {"pixels_per_step": 28}, 28, 28),
    ("pmnist", {}, 784, 1),
    ("pmnist", {"pixels_per_step": 7}, 112, 7),
    ("fashion_mnist", {"pixels_per_step": 56}, 14, 56),
    ("cifar10", {}, 1024, 3),
    ("cifar10", {"side": 16}, 256, 3),
    ("cifar10", {"side": 8, "pixels_per_step": 8}, 8, 24),
])  # fmt: skip
def test_every_image_is_shown_pixel_by_pixel(folder, name, options, steps, features):
    task = LOADERS[name](batch_size=8, seed=0, data_dir=folder, **options)
    assert (task.name, task.length, task.features) == (name, steps, features)
    assert task.train.element_spec[0].shape == [8, steps, features]
    assert task.train.element_spec[0].dtype == tf.float32
    raw = made_up(name.removeprefix("p"))
    x, y = arrays(task.test)
    np.testing.assert_array_equal(y, raw["y_test"].ravel())
    expected = [shown(name, image, **options) for image in raw["x_test"]]
    np.testing.assert_allclose(x, expected, rtol=1e-5, atol=1e-6)
    assert x.min() >= 0 and x.max() <= 1


def test_training_and_validation_images_keep_their_labels(folder):
    task = images.mnist(batch_size=10, seed=1, data_dir=folder)
    raw = made_up("mnist")
    place = {image.tobytes(): i for i, image in enumerate(raw["x_train"])}
    found = {}
    for split in ("train", "validation"):
        x, y = arrays(getattr(task, split))
        found[split] = [place[np.round(255 * image).astype("uint8").tobytes()] for image in x]
        assert (raw["y_train"][found[split]] == y).all()
    assert len(found["train"]) == len(set(found["train"])) == 130
    assert not set(found["train"]) & set(found["validation"])
    assert np.bincount(raw["y_train"][found["validation"]]).tolist() == [3] * 10


@pytest.mark.parametrize("name", LOADERS)
def test_the_contract(folder, name):
    def load(seed, batch_size=8, **options):
        return LOADERS[name](batch_size=batch_size, seed=seed, data_dir=folder, **options)

    task = load(3)
    assert task.steps_per_epoch == 130 // 8 == sum(1 for _ in task.train)
    first, second = (arrays(load(3).train)[0], arrays(task.train)[0])
    assert not np.array_equal(first, second) and not np.array_equal(first, arrays(load(4).train)[0])
    tf.random.set_seed(1)
    resumed = load(3)
    resumed.epoch.assign(1)
    np.testing.assert_array_equal(second, arrays(resumed.train)[0])
    for split in ("validation", "test"):
        for left, right in zip(arrays(getattr(task, split)), arrays(getattr(load(9, 7), split)), strict=True):
            np.testing.assert_array_equal(left, right)
    assert np.isfinite(task.loss(tf.zeros([8], tf.int32), tf.zeros([8, task.outputs])))


def test_fewer_training_images_are_a_part_of_the_more(folder):
    def rows(size):
        task = images.mnist(batch_size=10, seed=0, data_dir=folder / "mnist.npz", train_size=size)
        assert task.steps_per_epoch == (size or 130) // 10
        return {row.tobytes() for row in arrays(task.train)[0]}

    assert rows(20) < rows(50) < rows(None)


def test_the_permutation_never_changes():
    order = images.permutation()
    assert sorted(order) == list(range(784))
    assert zlib.crc32(order.astype("<i4").tobytes()) == 3234210050


def test_the_validation_split_of_the_published_size(monkeypatch):
    monkeypatch.setattr(images, "VALIDATION", 5000)
    y = np.random.RandomState(1).permutation(60_000) % 10
    train, validation = images.split(y, "mnist")
    assert len(train) == 55_000 and len(validation) == 5000
    assert len(np.union1d(train, validation)) == 60_000
    assert np.bincount(y[validation]).tolist() == [500] * 10
    assert zlib.crc32(np.concatenate([train, validation]).astype("<i4").tobytes()) == 761608246


@pytest.mark.parametrize("changed, message", [
    ({"x_test": None, "y_train": None},
     "no array y_train, x_test; it must have x_train, y_train, x_test, y_test"),
    ({"x_train": np.zeros([160, 28, 27], np.uint8)}, "x_train is uint8[160, 28, 27], not uint8[n, 28, 28]"),
    ({"x_test": np.zeros([40, 28, 28])}, "x_test is float64[40, 28, 28], not uint8[n, 28, 28]"),
    ({"y_train": np.zeros([159], np.uint8)},
     "y_train is uint8[159], not one whole number for each of the 160 images of x_train"),
    ({"y_test": np.zeros([40])},
     "y_test is float64[40], not one whole number for each of the 40 images of x_test"),
    ({"y_train": np.full([160], 3)},
     "y_train has the classes 3; it must have each of 0 to 9, and no other"),
    ({"y_test": np.arange(40) % 11},
     "y_test has the classes 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10; it must have each of 0 to 9, and no other"),
    ({"x_test": np.zeros([0, 28, 28], np.uint8), "y_test": np.zeros([0], np.uint8)},
     "y_test has the classes none; it must have each of 0 to 9, and no other"),
    ({"y_train": np.array([None] * 160)}, "not a whole .npz file (Object arrays cannot be loaded when "
     "allow_pickle=False)"),
])  # fmt: skip
def test_arrays_of_another_form_are_refused(tmp_path, changed, message):
    parts = {k: v for k, v in (made_up("mnist") | changed).items() if v is not None}
    np.savez(tmp_path / "mnist.npz", **parts)
    with pytest.raises(TaskError) as error:
        images.mnist(batch_size=8, seed=0, data_dir=tmp_path)
    assert str(error.value) == f"{tmp_path / 'mnist.npz'}: {message}"


def compressed():
    """A data set as a small file."""
    file = io.BytesIO()
    x, y = np.zeros([10, 28, 28], np.uint8), np.arange(10)
    np.savez_compressed(file, x_train=x, y_train=y, x_test=x, y_test=y)
    return file.getvalue()


WHOLE = compressed()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_file_is_refused_in_one_line(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    place = data.draw(st.integers(0, len(WHOLE) - 1))
    if data.draw(st.booleans()):
        path.write_bytes(WHOLE[:place])
    else:
        path.write_bytes(WHOLE[:place] + bytes([data.draw(st.integers(0, 255))]) + WHOLE[place + 1 :])
    try:
        parts = images.arrays("mnist", path)
    except TaskError as error:
        assert "\n" not in str(error) and str(error).startswith(f"{path}: ")
    else:  # what is damaged does not matter, a date for instance
        for x, y in parts:
            assert x.shape == (10, 28, 28, 1) and not x.any() and y.tolist() == list(range(10))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY", "ä".encode() * 99, WHOLE[:-1]])
def test_what_is_no_npz_is_refused(tmp_path, content):
    (tmp_path / "mnist.npz").write_bytes(content)
    with pytest.raises(TaskError, match=r"mnist\.npz: not a whole \.npz file"):
        images.mnist(batch_size=8, seed=0, data_dir=tmp_path)


def test_an_npy_is_no_npz(tmp_path):
    np.save(tmp_path / "mnist.npy", np.zeros(3))
    with pytest.raises(TaskError, match=r"mnist\.npy: not a whole \.npz file"):
        images.mnist(batch_size=8, seed=0, data_dir=tmp_path / "mnist.npy")


@pytest.mark.parametrize("name, advice", [
    ("pmnist", "get https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz and give its "
     "folder as --data_dir"),
    ("cifar10", "save the arrays x_train, y_train, x_test, y_test of keras.datasets.cifar10 (from "
     "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz) as cifar10.npz and give its folder as "
     "--data_dir"),
])  # fmt: skip
def test_missing_files(tmp_path, monkeypatch, name, advice):
    dataset = name.removeprefix("p")
    for data_dir, path in ((tmp_path, tmp_path / f"{dataset}.npz"), (tmp_path / "x", tmp_path / "x")):
        with pytest.raises(TaskError) as error:
            LOADERS[name](batch_size=8, seed=0, data_dir=data_dir)
        assert str(error.value) == f"--data_dir={data_dir}: no file {path}; {advice}"

    def no_network():
        assert 0 < socket.getdefaulttimeout() <= 10
        raise Exception("URL fetch failure on https://...:\nNone -- Name or service not known")

    monkeypatch.setattr(getattr(keras.datasets, dataset), "load_data", no_network)
    with pytest.raises(TaskError) as error:
        LOADERS[name](batch_size=8, seed=0)
    assert str(error.value) == (f"{dataset}: cannot download it (URL fetch failure on https://...: None -- "
                                f"Name or service not known); {advice}")
    assert socket.getdefaulttimeout() is None


def test_what_keras_downloads_is_used(monkeypatch):
    raw = made_up("cifar10")
    parts = (raw["x_train"], raw["y_train"]), (raw["x_test"], raw["y_test"])
    monkeypatch.setattr(keras.datasets.cifar10, "load_data", lambda: parts)
    task = images.cifar10(batch_size=8, seed=0, side=16)
    np.testing.assert_array_equal(arrays(task.test)[1], raw["y_test"].ravel())


@pytest.mark.parametrize("name, options, message", [
    ("mnist", {"pixels_per_step": 5}, "--pixels_per_step=5: must divide the 784 pixels"),
    ("cifar10", {"pixels_per_step": 0}, "--pixels_per_step=0: must divide the 1024 pixels"),
    ("cifar10", {"side": 16, "pixels_per_step": 512}, "--pixels_per_step=512: must divide the 256 pixels"),
    ("cifar10", {"side": 15}, "--side=15: must divide 32"),
    ("cifar10", {"side": 0}, "--side=0: must divide 32"),
    ("mnist", {"train_size": 131}, "--train_size=131: must be from 1 to 130"),
    ("mnist", {"train_size": 0}, "--train_size=0: must be from 1 to 130"),
    ("pmnist", {"batch_size": 131},
     "--batch_size=131: --task=pmnist has 130 training sequences, use at most 130"),
    ("mnist", {"batch_size": 21, "train_size": 20},
     "--batch_size=21: --task=mnist has 20 training sequences, use at most 20"),
])  # fmt: skip
def test_what_cannot_work_is_refused_in_one_line(folder, name, options, message):
    with pytest.raises(TaskError) as error:
        LOADERS[name](**{"batch_size": 8, "seed": 0, "data_dir": folder} | options)
    assert str(error.value) == message


def test_too_few_images(folder, monkeypatch):
    monkeypatch.setattr(images, "VALIDATION", 5000)
    with pytest.raises(TaskError, match="^mnist: 160 training images; 5000 for validation, "):
        images.mnist(batch_size=8, seed=0, data_dir=folder)


def test_the_real_mnist(monkeypatch):
    if not (DATA / "mnist.npz").exists():
        pytest.skip(f"no {DATA / 'mnist.npz'}; set SANTM_DATA to its folder")
    monkeypatch.setattr(images, "VALIDATION", 5000)
    task = images.pmnist(batch_size=50, seed=0, data_dir=DATA)
    assert task.steps_per_epoch == 1100
    _, y = arrays(task.validation)
    x, test_y = arrays(task.test)
    assert len(y) == 5000 and len(test_y) == 10_000
    np.testing.assert_allclose(np.bincount(y) / 5000, [.0987, .1124, .0993, .1022, .0974, .0904, .0986,
                                                       .1044, .0975, .0992], atol=1e-3)  # fmt: skip
    assert test_y[:5].tolist() == [7, 2, 1, 0, 4]
    seven = np.zeros(784)
    seven[images.permutation()] = x[0, :, 0]
    with np.load(DATA / "mnist.npz") as npz:
        np.testing.assert_allclose(255 * seven.reshape(28, 28), npz["x_test"][0], atol=1e-3)
