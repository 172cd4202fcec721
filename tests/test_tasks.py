"""The tasks: what is in a batch, what the scores mean, what is refused."""

import inspect

import numpy as np
import pytest
import tensorflow as tf

from santm_tf import tasks
from santm_tf.keras import keras

# Tested on files of their own, elsewhere.
DATA = {"sequences", "mnist", "pmnist", "fashion_mnist", "cifar10", "text", "sounds", "words", "chars",
        "shards"}
NAMES = [name for name in tasks.NAMES if name not in DATA]
STEPS = {name: 4 for name in NAMES if name != "digits"}  # a short epoch


def arrays(dataset):
    """All batches of a dataset, joined."""
    return [np.concatenate(part) for part in zip(*dataset.as_numpy_iterator(), strict=True)]


def rows(x):
    return {row.tobytes() for row in x}


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_alone_decides_the_training_batches(name):
    def epochs(seed, global_seed):
        tf.random.set_seed(global_seed)
        task = tasks.load(name, batch_size=50, seed=seed, steps_per_epoch=STEPS.get(name))
        return [arrays(task.train)[0] for _ in range(2)]

    first, again, other = epochs(3, 0), epochs(3, 1), epochs(4, 0)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize("name", NAMES)
def test_a_run_continues_at_any_epoch(name):
    task = tasks.load(name, batch_size=50, seed=3, steps_per_epoch=STEPS.get(name))
    _, _, third = (arrays(task.train) for _ in range(3))
    assert int(task.epoch) == 3
    resumed = tasks.load(name, batch_size=50, seed=3, steps_per_epoch=STEPS.get(name))
    resumed.epoch.assign(2)
    for left, right in zip(third, arrays(resumed.train), strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("name", NAMES)
def test_validation_and_test_do_not_follow_the_seed_or_the_batch_size(name):
    one = tasks.load(name, batch_size=50, seed=0)
    other = tasks.load(name, batch_size=7, seed=9)
    for split in ("validation", "test"):
        pairs = zip(arrays(getattr(one, split)), arrays(getattr(other, split)), strict=True)
        for left, right in pairs:
            np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("name", NAMES)
def test_the_contract(name):
    task = tasks.load(name, batch_size=50, seed=0, steps_per_epoch=STEPS.get(name))
    assert task.name == name
    x = task.train.element_spec[0]
    assert x.shape.is_fully_defined() and x.shape[0] == 50
    assert x.shape[2:] == ([task.features] if task.vocabulary is None else [])
    assert task.length in (None, x.shape[1])
    assert sum(1 for _ in task.train) == task.steps_per_epoch == int(task.train.cardinality())
    batch = next(iter(task.test))
    x, y = batch[:2]
    logits = tf.zeros([*(x.shape[:2] if task.return_sequences else x.shape[:1]), task.outputs])
    assert np.isfinite(task.loss(y, logits, *batch[2:]))
    names = [metric.name for metric in [*task.metrics, *task.weighted_metrics]]
    assert task.monitor.removeprefix("val_") in {*names, "loss"} and set(task.chance) == set(names)
    assert task.monitor_mode in ("max", "min")


def test_digits_splits_are_disjoint_and_stratified():
    parts = tasks.digits.splits()
    assert sum(len(rows(x)) for x, _ in parts) == len(set().union(*(rows(x) for x, _ in parts)))
    for x, y in parts:
        assert x.shape == (len(y), 64, 1) and x.min() == 0 and x.max() == 1
        share = np.bincount(y) / len(y)
        np.testing.assert_allclose(share, 0.1, atol=0.01)


def test_a_digits_epoch_takes_every_sequence_once_at_most():
    task = tasks.load("digits", batch_size=100, seed=0)
    x, y = arrays(task.train)
    assert len(x) == 1200 == len(rows(x))
    (all_x, all_y), _, _ = tasks.digits.splits()
    label = dict(zip((row.tobytes() for row in all_x), all_y, strict=True))
    assert [label[row.tobytes()] for row in x] == list(y)


def read_copy(x, y, weight, bits):
    """Checks one copy sequence step by step, as the paper tells it, and returns its length."""
    step = iter(zip(x, y, weight, strict=True))
    blank = [0] * bits

    def take():
        row, target, counts = next(step)
        return list(row), list(target), counts

    assert take() == (blank + [1, 0], blank, 0)
    vectors = []
    while True:
        row, target, counts = take()
        assert (target, counts) == (blank, 0)
        if row == blank + [0, 1]:
            break
        assert set(row[:bits]) <= {0, 1} and row[bits:] == [0, 0]
        vectors.append(row[:bits])
    for vector in vectors:
        assert take() == (blank + [0, 0], vector, 1)
    for row, target, counts in step:
        assert (list(row), list(target), counts) == ([-1] * (bits + 2), blank, 0)
    return len(vectors)


def test_copy_sequences_read_as_in_the_paper():
    task = tasks.load(
        "copy", batch_size=16, seed=5, min_length=2, max_length=6, test_length=9, bits=3,
        steps_per_epoch=5,
    )  # fmt: skip
    for split, lengths in (("train", range(2, 7)), ("validation", range(2, 7)), ("test", [9])):
        sequences = zip(*arrays(getattr(task, split)), strict=True)
        assert {read_copy(*sequence, bits=3) for sequence in sequences} == set(lengths), split
    assert task.test.element_spec[0].shape[1] == 20
    assert task.chance["wrong_bits"] == 9 * 3 / 2


def test_copy_splits_are_disjoint():
    task = tasks.load("copy", batch_size=16, seed=0, min_length=20, steps_per_epoch=10)
    parts = [rows(arrays(split)[0]) for split in (task.train, task.validation, task.test)]
    assert [len(part) for part in parts] == [160, 320, 320]
    assert len(set.union(*parts)) == 800


def compiled(task, logits, jit_compile):
    """A model with a mask that answers with the given logits."""
    steps = task.test.element_spec[0].shape[1]
    inputs = keras.Input([steps, task.features])
    masked = keras.layers.Masking(task.padding)(inputs)
    answer = keras.layers.Lambda(logits, mask=lambda _, mask: mask)(masked)
    model = keras.Model(inputs, answer)
    model.compile(loss=task.loss, weighted_metrics=task.weighted_metrics, jit_compile=jit_compile)
    return model


@pytest.mark.parametrize("jit_compile", [False, True])
def test_copy_figures_that_keras_reports(jit_compile):
    task = tasks.load("copy", batch_size=64, seed=0, min_length=2, max_length=6, bits=3)
    rng = np.random.default_rng(0)
    answer = rng.normal(size=(14, 3)).astype("float32")
    model = compiled(task, lambda x: 0 * x[..., :3] + answer, jit_compile)
    scores = model.evaluate(task.validation, verbose=0, return_dict=True)

    x, y, weight = arrays(task.validation)
    entropy = np.logaddexp(0, answer) - y * answer
    valid = (x != -1).any(-1)
    losses = [  # the mean over batches of equal size
        (entropy.mean(-1) * weight)[i : i + 64].sum() / valid[i : i + 64].sum()
        for i in range(0, len(x), 64)
    ]
    right = ((answer > 0) == (y > 0.5)) * weight[..., None]
    wrong = ((answer > 0) != (y > 0.5)) * weight[..., None]
    np.testing.assert_allclose(scores["loss"], np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(scores["accuracy"], right.sum() / (3 * weight.sum()), rtol=1e-5)
    np.testing.assert_allclose(scores["wrong_bits"], wrong.sum() / len(x), rtol=1e-5)


def test_a_perfect_answer_scores_zero_wrong_bits_and_a_guess_scores_chance():
    task = tasks.load("copy", batch_size=64, seed=0, max_length=6)
    rng = np.random.default_rng(0)
    accuracy, wrong_bits = task.weighted_metrics
    for answer, expected in (
        (lambda y: 2 * y - 1, {"accuracy": 1, "wrong_bits": 0}),
        (lambda y: rng.normal(size=y.shape), task.chance),
    ):
        for metric in (accuracy, wrong_bits):
            metric.reset_state()
        for _, y, weight in task.test:
            logits = tf.cast(answer(y), tf.float32)
            accuracy.update_state(y, logits, weight)
            wrong_bits.update_state(y, logits, weight)
        figures = {metric.name: float(metric.result()) for metric in (accuracy, wrong_bits)}
        assert figures == pytest.approx(expected, rel=0.05)


def test_a_guess_loses_as_documented():
    task = tasks.load("copy", batch_size=64, seed=0, max_length=6)
    model = compiled(task, lambda x: 0 * x[..., :8], jit_compile=False)
    loss = model.evaluate(task.test, verbose=0, return_dict=True)["loss"]
    assert loss == pytest.approx(np.log(2) * 6 / 14, rel=1e-5)


def test_without_weights_every_bit_counts():
    metric = tasks.generated.WrongBits()
    metric.update_state(tf.ones([4, 5, 3]), -tf.ones([4, 5, 3], tf.bfloat16))
    assert float(metric.result()) == 15


@pytest.mark.parametrize(
    "name, arguments, message",
    [
        ("juggling", {}, "--task=juggling: no such task, use one of " + ", ".join(tasks.NAMES)),
        ("digits", {"batch_size": 0}, "--batch_size=0: must be at least 1"),
        (
            "digits",
            {"batch_size": 1258},
            "--batch_size=1258: --task=digits has 1257 training sequences, use at most 1257",
        ),
        ("digits", {"bits": 8}, "--bits: --task=digits does not take it (it has only --augment)"),
        ("copy", {"min_length": 0}, "--min_length=0: --task=copy needs at least 1"),
        ("copy", {"test_length": 0}, "--test_length=0: --task=copy needs at least 1"),
        ("copy", {"bits": 0}, "--bits=0: --task=copy needs at least 1"),
        (
            "copy",
            {"min_length": 5, "max_length": 4},
            "--max_length=4: must be at least --min_length=5",
        ),
        (
            "copy",
            {"length": 5},
            "--length: --task=copy does not take it (it has only --min_length, --max_length, "
            "--test_length, --bits, --steps_per_epoch, --curriculum, --curriculum_epochs)",
        ),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(name, arguments, message):
    with pytest.raises(tasks.TaskError) as error:
        tasks.load(name, **{"batch_size": 32, "seed": 0} | arguments)
    assert str(error.value) == message


def test_an_option_of_none_is_the_default():
    task = tasks.load("digits", batch_size=32, seed=0, bits=None, max_length=None)
    assert task.name == "digits"


def test_every_option_has_a_default():
    for load in (tasks.copy.load, tasks.digits.load):
        names = list(inspect.signature(load).parameters.values())
        assert [p.name for p in names[:2]] == ["batch_size", "seed"]
        assert all(p.default is not p.empty for p in names[2:])


@pytest.mark.parametrize("name", NAMES)
def test_data_that_a_task_does_not_read_are_refused(name):
    with pytest.raises(tasks.TaskError, match=f"--data_dir=mine.npz: --task={name} reads no data"):
        tasks.load(name, batch_size=4, seed=0, data_dir="mine.npz")
