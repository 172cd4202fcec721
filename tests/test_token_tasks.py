"""The generated tasks of tokens: each sequence read step by step, the splits, the test lengths, refusals."""

import numpy as np
import pytest

from santm_tf import tasks
from santm_tf.tasks import induction, mqar, selective_copy
from tests.helpers import task_refused

SHORT = {
    "mqar": {"pairs": 4, "length": 20, "vocabulary": 32, "test_pairs": 6, "test_length": 31},
    "selective_copy": {"symbols": 3, "length": 9, "vocabulary": 6, "test_length": 12},
    "induction": {"length": 9, "vocabulary": 5, "test_length": 14},
}


def short(name, batch_size=10, seed=0, **options):
    options = {"steps_per_epoch": 8, **SHORT[name], **options}
    return tasks.load(name, batch_size=batch_size, seed=seed, **options)


def arrays(dataset):
    return [np.concatenate(part) for part in zip(*dataset.as_numpy_iterator(), strict=True)]


def read_mqar(x, y, weight, vocabulary):
    """Checks one sequence, and returns how many pairs it has."""
    pairs, half = int(weight.sum()), vocabulary // 2
    keys, values = x[:2 * pairs:2], x[1:2 * pairs:2]
    assert len(set(keys)) == len(set(values)) == pairs
    assert keys.min() >= 1 and keys.max() < half <= values.min() and values.max() < vocabulary
    asked = np.flatnonzero(weight)
    assert (asked >= 2 * pairs).all() and (asked % 2 == 0).all() and sorted(x[asked]) == sorted(keys)
    value = dict(zip(keys, values, strict=True))
    assert [value[key] for key in x[asked]] == y[asked].tolist() and not y[weight == 0].any()
    return pairs


def read_selective_copy(x, y, weight, vocabulary):
    """Checks one sequence, and returns how many symbols it has."""
    symbols = int(weight.sum())
    body = x[:-symbols]
    assert (x[-symbols:] == vocabulary - 1).all() and not weight[:-symbols].any()
    assert body.max() < vocabulary - 1 and not y[:-symbols].any()
    assert [token for token in body if token] == y[-symbols:].tolist()
    return symbols


READ = {"mqar": read_mqar, "selective_copy": read_selective_copy}


@pytest.mark.parametrize("name", READ)
def test_each_sequence_reads_as_it_should(name):
    task = short(name)
    tested = {"mqar": (4, 6), "selective_copy": (3, 3)}[name]
    for split, count in zip(("train", "test"), tested, strict=True):
        x, y, weight = arrays(getattr(task, split))
        assert x.dtype == y.dtype == np.int32 and set(np.unique(weight)) == {0, 1}
        assert {READ[name](*row, task.vocabulary) for row in zip(x, y, weight, strict=True)} == {count}
        assert len({row.tobytes() for row in x}) > 0.9 * len(x), "batches repeat"


def test_induction_asks_what_followed_the_special_token():
    task = short("induction")
    for split, length in (("train", 9), ("test", 14)):
        x, y = arrays(getattr(task, split))
        assert x.shape[1] == length and (x[:, -1] == 4).all() and ((x == 4).sum(1) == 2).all()
        first = (x == 4).argmax(1)
        assert set(first) == set(range(length - 2))
        np.testing.assert_array_equal(x[np.arange(len(x)), first + 1], y)


@pytest.mark.parametrize("name", SHORT)
def test_the_contract(name):
    task, other = short(name, seed=3), short(name, batch_size=7, seed=9)
    one_length = short(name, **dict.fromkeys(["test_length", *["test_pairs"] * (name == "mqar")]))
    assert task.name == name and task.length is None and one_length.length == task.steps
    for split in ("validation", "test"):
        left, right = arrays(getattr(task, split)), arrays(getattr(other, split))
        assert all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))
    first, second = arrays(task.train), arrays(task.train)
    resumed = short(name, seed=3)
    resumed.epoch.assign(1)
    assert not np.array_equal(first[0], second[0])
    assert all(np.array_equal(a, b) for a, b in zip(second, arrays(resumed.train), strict=True))
    assert not np.array_equal(first[0], arrays(short(name, seed=4).train)[0])


def test_keys_are_asked_as_the_power_law_says():
    """The first place drawn is that of the first key: its frequencies are the law's."""
    x, _, weight = (v.numpy() for v in mqar.sequences(4000, 2, 24, 16, [5, 1], power_a=0.3))
    asked = (x == x[:, :1]) & (weight > 0)
    law = np.arange(1, 11.0) ** (0.3 - 1)
    np.testing.assert_allclose(asked.mean(0)[4::2], law / law.sum(), atol=0.02)


def test_what_lies_between_is_uniform_over_the_whole_vocabulary():
    x, _, weight = (v.numpy() for v in mqar.sequences(2000, 2, 16, 8, [1, 1]))
    np.testing.assert_allclose(np.bincount(x[:, 4:][weight[:, 4:] == 0]) / 20_000, 1 / 8, atol=0.02)


def test_symbols_and_their_places_are_uniform():
    x, *_ = (v.numpy() for v in selective_copy.sequences(3000, 2, 6, 5, [0, 7]))
    np.testing.assert_allclose((x[:, :6] > 0).mean(0), 1 / 3, atol=0.03)
    np.testing.assert_allclose(np.bincount(x[:, :6].ravel(), minlength=4)[1:] / 6000, 1 / 3, atol=0.03)


def test_the_longest_of_the_paper_can_be_drawn():
    x, y = (v.numpy() for v in induction.sequences(2, 2**20, 16, [0, 0]))
    first = (x[:, :-1] == 15).argmax(1)
    np.testing.assert_array_equal(x[np.arange(2), first + 1], y)
    read_mqar(*(v.numpy()[0] for v in mqar.sequences(1, 1024, 4096, 8192, [0, 0])), 8192)


@pytest.mark.parametrize("name", SHORT)
def test_chance_is_that_of_a_guess(name):
    task = short(name, test_length=None, test_pairs=None) if name == "mqar" else short(name)
    _, y, *weight = arrays(task.validation)
    y = y[weight[0] > 0] if weight else y
    low = {"mqar": 16, "selective_copy": 1, "induction": 0}[name]
    shares = np.bincount(y - low) / len(y)
    assert len(shares) == round(1 / task.chance["accuracy"])
    np.testing.assert_allclose(shares, task.chance["accuracy"], atol=0.05)


@pytest.mark.parametrize("name, options, message", [
    ("mqar", {"pairs": 16}, "--pairs=16: a --vocabulary=32 has 15 keys"),
    ("mqar", {"test_pairs": 8}, "--test_pairs=8: needs a --test_length of at least 32, not 31"),
    ("selective_copy", {"symbols": 10}, "--length=9: must be at least --symbols=10"),
    ("induction", {"length": 2}, "--length=2: --task=induction needs at least 3"),
])
def test_what_cannot_work_is_refused(name, options, message):
    assert task_refused(name, **SHORT[name] | options).startswith(message)
