"""The generated tasks: each sequence read step by step, the splits, curricula, scores, refusals."""

import hashlib

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from santm_tf import tasks
from santm_tf.keras import keras
from santm_tf.tasks import (
    TaskError,
    adding,
    associative_recall,
    copy,
    copy_memory,
    frequency,
    generated,
    priority_sort,
    repeat_copy,
)

BITS = {"copy": copy, "repeat_copy": repeat_copy, "associative_recall": associative_recall,
        "priority_sort": priority_sort}
TASKS = BITS | {"copy_memory": copy_memory, "adding": adding, "frequency": frequency}
SHORT = {
    "copy": {"min_length": 2, "max_length": 5, "bits": 3, "test_length": 7},
    "repeat_copy": {"max_length": 4, "max_repeats": 3, "bits": 3, "test_length": 5, "test_repeats": 4},
    "associative_recall": {"max_items": 4, "test_items": 6},
    "priority_sort": {"min_length": 2, "max_length": 6, "sorted": 4, "bits": 5, "test_length": 8},
    "copy_memory": {"delay": 3},
    "adding": {"length": 30},
    "frequency": {"sampling_period": 0.5},
}  # fmt: skip


def short(name, batch_size=10, seed=0, **options):
    options = {"steps_per_epoch": 4} | SHORT[name] | options
    return TASKS[name].load(batch_size=batch_size, seed=seed, **options)


def arrays(dataset):
    return [np.concatenate(part) for part in zip(*dataset.as_numpy_iterator(), strict=True)]


@pytest.mark.parametrize("name", [*TASKS][1:])  # copy is in test_tasks.py
def test_the_contract(name):
    task = short(name, seed=3)
    assert task.name == name
    shape = task.train.element_spec[0].shape
    assert shape.is_fully_defined() and shape[::2] == [10, task.features]
    assert task.length in (None, shape[1])
    assert task.steps_per_epoch == int(task.train.cardinality()) == 4
    names = {metric.name for metric in task.metrics + task.weighted_metrics}
    assert task.monitor.removeprefix("val_") in names | {"loss"} and set(task.chance) == names

    first, second = arrays(task.train), arrays(task.train)
    assert first[0].shape == (40, *shape[1:])
    distinct = {row.tobytes() for row in np.concatenate([first[0], second[0]])}
    assert len(distinct) > 60, "batches repeat"
    tf.random.set_seed(1)
    resumed = short(name, seed=3)
    resumed.epoch.assign(1)
    assert all(np.array_equal(a, b) for a, b in zip(second, arrays(resumed.train), strict=True))
    assert not np.array_equal(first[0], arrays(short(name, seed=4).train)[0])


@pytest.mark.parametrize("name", [*TASKS][1:])  # copy is in test_tasks.py
def test_validation_and_test_are_fixed(name):
    one, other = short(name), short(name, batch_size=7, seed=9)
    rows = []
    for split in ("validation", "test"):
        left, right = arrays(getattr(one, split)), arrays(getattr(other, split))
        assert all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))
        assert int(getattr(other, split).cardinality()) == -(-len(left[0]) // 7)
        rows.append({row.tobytes() for row in left[0]})
    assert len(rows[0] & rows[1]) < 10


DIGESTS = {
    "copy": ["08cb0cd644e0fbe4", "69e6d8c642bc92d3", "898d64c6b2da00df"],
    "associative_recall": ["02d68caf0539c318", "0bf218d9629101eb", "1f7d328f4088b925"],
}


@pytest.mark.parametrize("name", DIGESTS)
def test_the_sequences_are_what_they_always_were(name):
    task = TASKS[name].load(batch_size=7, seed=5, steps_per_epoch=6)
    for split, digest in zip(("train", "validation", "test"), DIGESTS[name], strict=True):
        sha = hashlib.sha256()
        for batch in getattr(task, split).as_numpy_iterator():
            for part in batch:
                sha.update(part.tobytes())
        assert sha.hexdigest()[:16] == digest, split


class Steps:
    """The steps of one sequence, taken one after the other."""

    def __init__(self, sequence):
        self.steps = list(zip(*sequence, strict=True))

    def read(self):
        """An input step at which nothing is asked."""
        x, y, weight = self.steps.pop(0)
        assert not y.any() and weight == 0
        return x

    def answer(self):
        """The target of a blank step."""
        x, y, weight = self.steps.pop(0)
        assert not x.any() and weight == 1
        return list(y)

    def end(self):
        """All that is left is padding."""
        for x, y, weight in self.steps:
            assert (x == generated.PADDING).all() and not y.any() and weight == 0


def read_repeat_copy(sequence, bits, max_repeats):
    """Checks one sequence, and returns its length and its repeats."""
    steps = Steps(sequence)
    assert list(steps.read()) == [0] * bits + [1, 0, 0]
    vectors = []
    while not (x := steps.read())[bits + 1]:
        assert set(x[:bits]) <= {0, 1} and not x[bits:].any()
        vectors.append([*x[:bits], 0])
    counts = np.arange(1, max_repeats + 1)
    repeats = x[bits + 2] * (counts.std() or 1) + counts.mean()
    assert not x[: bits + 1].any() and repeats == pytest.approx(round(repeats), abs=1e-5)
    for _ in range(round(repeats)):
        assert [steps.answer() for _ in vectors] == vectors
    assert steps.answer() == [0] * bits + [1]
    steps.end()
    return len(vectors), round(repeats)


def read_associative_recall(sequence, bits, vectors=3):
    """Checks one sequence, and returns its number of items."""
    steps = Steps(sequence)

    def item():
        rows = [steps.read() for _ in range(vectors)]
        assert all(set(row[:bits]) <= {0, 1} and not row[bits:].any() for row in rows)
        return [list(row[:bits]) for row in rows]

    items = []
    while not (x := steps.read())[bits + 1]:
        assert list(x) == [0] * bits + [1, 0]
        items.append(item())
    assert list(x) == [0] * bits + [0, 1]
    query = item()
    assert list(steps.read()) == [0] * bits + [0, 1]
    assert items.count(query) == 1
    assert [steps.answer() for _ in range(vectors)] == items[items.index(query) + 1]
    assert len(sequence[0]) - len(steps.steps) == (vectors + 1) * (len(items) + 2)
    steps.end()
    return len(items)


def read_priority_sort(sequence, bits, sorted_):
    """Checks one sequence, and returns its length."""
    steps = Steps(sequence)
    pairs = []
    while not (x := steps.read())[bits + 1]:
        assert set(x[:bits]) <= {0, 1} and -1 <= x[bits] <= 1
        pairs.append((x[bits], list(x[:bits])))
    assert not x[: bits + 1].any()
    highest = [vector for _, vector in sorted(pairs, key=lambda pair: -pair[0])[:sorted_]]
    assert [steps.answer() for _ in highest] == highest
    steps.end()
    return len(pairs)


def test_repeat_copy_reads_as_in_the_paper():
    task = short("repeat_copy", steps_per_epoch=10)
    for split, lengths, repeats in (("train", range(1, 5), range(1, 4)), ("test", [5], [4])):
        found = {read_repeat_copy(s, 3, max_repeats=3)
                 for s in zip(*arrays(getattr(task, split)), strict=True)}
        assert found == {(length, n) for length in lengths for n in repeats}


def test_a_single_repeat_has_no_deviation():
    task = short("repeat_copy", max_repeats=1, test_repeats=2)
    assert {n for *_, n in (read_repeat_copy(s, 3, 1) for s in zip(*arrays(task.train), strict=True))} == {1}
    assert np.isfinite(arrays(task.test)[0]).all()


@pytest.mark.parametrize("vectors, bits", [(3, 6), (1, 24), (2, 1)])
def test_associative_recall_reads_as_in_the_paper(vectors, bits):
    task = short("associative_recall", steps_per_epoch=10, item_vectors=vectors, bits=bits)
    assert task.chance["wrong_bits"] == vectors * bits / 2
    for split, items in (("train", {2, 3, 4}), ("test", {6})):
        x, y, weight = arrays(getattr(task, split))
        assert x.shape[1:] == ((vectors + 1) * (max(items) + 2), bits + 2)
        assert {read_associative_recall(s, bits, vectors) for s in zip(x, y, weight, strict=True)} == items


def test_priority_sort_reads_as_in_the_paper():
    task = short("priority_sort", steps_per_epoch=10)
    for split, lengths in (("train", set(range(2, 7))), ("test", {8})):
        sequences = zip(*arrays(getattr(task, split)), strict=True)
        assert {read_priority_sort(s, 5, sorted_=4) for s in sequences} == lengths
    x, _, weight = arrays(priority_sort.load(batch_size=10, seed=0, steps_per_epoch=3).train)
    assert x.shape == (30, 37, 10) and (weight.sum(1) == 16).all() and (x[:, 20, 9] == 1).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 4))
def test_a_query_is_never_ambiguous(key, bits, vectors):
    """Items of three bits, or of one, collide all the time."""
    sequences = associative_recall.sequences([6, 2, 4], 6, bits, [key, 0], vectors)
    for sequence in zip(*(part.numpy() for part in sequences), strict=True):
        read_associative_recall(sequence, bits, vectors)


@pytest.mark.parametrize("vectors, bits", [(3, 6), (1, 24)])
def test_ten_thousand_items(vectors, bits):
    n, span = 10_000, vectors + 1
    task = associative_recall.load(1, 0, test_items=n, test_sequences=2, item_vectors=vectors, bits=bits)
    x, y, weight = (part[0] for part in next(task.test.as_numpy_iterator()))
    assert len(x) == len(y) == len(weight) == span * n + 2 * span
    body, query = x[: span * n].reshape(n, span, bits + 2), x[span * n + 1 : span * n + span]
    assert (body[:, 0] == [0] * bits + [1, 0]).all() and not body[:, 1:, bits:].any()
    (place,) = np.flatnonzero((body[:, 1:] == query).all((1, 2)))
    assert np.flatnonzero(weight).tolist() == [*range(len(x) - vectors, len(x))]
    np.testing.assert_array_equal(y[-vectors:], body[place + 1, 1:, :bits])


@pytest.mark.parametrize("count", [1, 16, 21, 336])
def test_the_test_split_is_as_long_as_asked_and_drawn_16_at_a_time(count, monkeypatch):
    drawn, sequences = set(), associative_recall.sequences

    def spy(items, *rest, **options):
        drawn.add(items.shape[0])
        return sequences(items, *rest, **options)

    monkeypatch.setattr(associative_recall, "sequences", spy)
    task, whole = short("associative_recall", test_sequences=count), short("associative_recall")
    assert drawn == {10, 16}, "a batch of training, and parts"
    for split, most in (("validation", 320), ("test", count)):
        part = getattr(task, split)
        assert len(part) == len(list(part)) == -(-most // 10)
        for a, b in zip(arrays(part), arrays(getattr(whole, split)), strict=True):
            assert len(a) == most
            np.testing.assert_array_equal(a[:320], b[:most])


def test_queries_are_uniform_over_all_items_but_the_last():
    x, *_ = associative_recall.sequences([5] * 4000, 5, 8, [0, 0])
    items = x.numpy()[:, :20, :8].reshape(-1, 5, 4, 8)[:, :, 1:]
    query = x.numpy()[:, 21:24, :8]
    asked = (items == query[:, None]).all((2, 3)).argmax(1)
    counts = np.bincount(asked, minlength=5)
    assert counts[4] == 0
    np.testing.assert_allclose(counts[:4] / 4000, 0.25, atol=0.03)


@pytest.mark.parametrize("name", BITS)
def test_the_mask_hides_the_padding_and_nothing_else(name):
    x, _, weight = arrays(short(name).validation)
    mask = keras.layers.Masking(generated.PADDING).compute_mask(x).numpy()
    steps = mask.sum(1)
    assert (mask == (np.arange(mask.shape[1]) < steps[:, None])).all()
    assert (weight[np.arange(len(x)), steps - 1] == 1).all() and not weight[~mask].any()


CURRICULA = {  # by task: the options that rise, and what a sequence's length is read from
    "copy": ({"min_length": 1, "max_length": 9}, lambda x: x.argmax(1)[:, -1] - 1),
    "repeat_copy": ({"max_length": 9}, lambda x: x[:, :, -2].argmax(1) - 1),
    "associative_recall": ({"min_items": 2, "max_items": 10}, lambda x: x[:, :, -2].clip(0).sum(1)),
    "priority_sort": ({"min_length": None, "max_length": 9}, lambda x: x[:, :, -1].argmax(1)),
}


@pytest.mark.parametrize("name", BITS)
def test_lengths_rise_over_a_curriculum(name):
    options, length = CURRICULA[name]
    task = short(name, batch_size=50, curriculum=True, curriculum_epochs=4, **options)
    plain = short(name, batch_size=50, **options | ({"min_length": 1} if name == "priority_sort" else {}))
    first = {"associative_recall": 2}.get(name, 1)
    longest = first + 8
    epochs = [length(arrays(task.train)[0]) for _ in range(5)]
    assert [lengths.max() for lengths in epochs] == [first + 2, first + 4, first + 6, longest, longest]
    assert all(lengths.min() == first for lengths in epochs)
    assert task.train.element_spec == plain.train.element_spec
    for split in ("validation", "test"):
        for a, b in zip(arrays(getattr(task, split)), arrays(getattr(plain, split)), strict=True):
            np.testing.assert_array_equal(a, b)
    task.epoch.assign(1)
    np.testing.assert_array_equal(length(arrays(task.train)[0]), epochs[1])


def test_repeats_rise_with_lengths():
    task = repeat_copy.load(50, 0, max_repeats=6, curriculum=True, curriculum_epochs=2, steps_per_epoch=4)
    epochs = [zip(*arrays(task.train), strict=True) for _ in range(2)]
    assert [max(read_repeat_copy(s, 8, 6)[1] for s in epoch) for epoch in epochs] == [3, 6]


@pytest.mark.parametrize("name", BITS)
def test_a_perfect_answer_scores_zero_wrong_bits_and_a_guess_scores_chance(name):
    task = short(name)
    rng = np.random.default_rng(0)
    metrics = task.weighted_metrics
    for answer, expected in ((lambda y: 2 * y - 1, {"accuracy": 1, "wrong_bits": 0}),
                             (lambda y: rng.normal(size=y.shape), task.chance)):
        for metric in metrics:
            metric.reset_state()
        for _, y, weight in task.test:
            for metric in metrics:
                metric.update_state(y, tf.cast(answer(y), tf.float32), weight)
        assert {m.name: float(m.result()) for m in metrics} == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("batch_size, vectors, count", [(64, 3, 320), (60, 3, 320), (8, 1, 21)])
def test_keras_counts_every_sequence_once(batch_size, vectors, count):
    task = short("associative_recall", batch_size=batch_size, item_vectors=vectors, test_sequences=count)
    model = keras.Sequential([keras.Input([None, 8]), keras.layers.Masking(-1.0),
                                 keras.layers.Dense(6, kernel_initializer="zeros")])
    model.compile(loss=task.loss, weighted_metrics=task.weighted_metrics)
    scores = model.evaluate(task.test, verbose=0, return_dict=True)
    _, y, _ = arrays(task.test)
    assert len(y) == count and scores["wrong_bits"] == pytest.approx(y.sum() / len(y), rel=1e-5)
    share = vectors / ((vectors + 1) * (6 + 2))  # of the steps are asked; all are masked alike
    assert scores["loss"] == pytest.approx(np.log(2) * share, rel=1e-5)


def test_copy_memorys_curriculum_shortens_the_delay_in_training_alone():
    task = copy_memory.load(batch_size=64, seed=0, delay=40, steps_per_epoch=2, curriculum=True,
                            curriculum_epochs=5)
    for longest in (2, 3, 5, 10, 20, 40, 40):
        x, y = arrays(task.train)
        tokens = x.argmax(-1)
        first = (tokens < copy_memory.SYMBOLS).argmax(1)
        assert tokens.shape[1] == longest + 20
        assert first.min() <= longest // 8 and first.max() >= longest - 1 - longest // 8
        for sequence, target, start in zip(tokens, y, first, strict=True):
            symbols = sequence[start:start + 10]
            assert (symbols < copy_memory.SYMBOLS).all()
            blanks = [copy_memory.BLANK] * (longest - 1 - start)
            expected = [copy_memory.BLANK] * start + [*symbols] + blanks
            assert sequence.tolist() == expected + [copy_memory.DELIMITER] + [copy_memory.BLANK] * 10
            assert target.tolist() == [copy_memory.BLANK] * (longest + 10) + symbols.tolist()
    for part in (task.validation, task.test):
        x, _ = arrays(part)
        assert x.shape[1] == 60 and (x.argmax(-1)[:, :10] < copy_memory.SYMBOLS).all()


def test_copy_memory_reads_as_in_the_paper():
    x, y = arrays(copy_memory.load(batch_size=50, seed=0, delay=7, steps_per_epoch=4).train)
    assert x.shape == (200, 27, 10) and y.shape == (200, 27) and y.dtype == np.int32
    assert (x.sum(2) == 1).all() and set(np.unique(x)) == {0, 1}
    symbols = x.argmax(2)
    assert (symbols[:, 10:16] == 8).all() and (symbols[:, 16] == 9).all() and (symbols[:, 17:] == 8).all()
    assert (y[:, :17] == 8).all()
    np.testing.assert_array_equal(y[:, 17:], symbols[:, :10])
    np.testing.assert_allclose(np.bincount(y[:, 17:].ravel(), minlength=8) / 2000, 1 / 8, atol=0.03)


def test_the_memoryless_baseline_scores_chance():
    task = copy_memory.load(batch_size=64, seed=0, delay=30)

    def baseline(x):
        recall = tf.cast(tf.range(50) >= 40, tf.float32)[:, None] * tf.ones_like(x[..., :1])
        return 99 * tf.concat([tf.repeat(recall, 8, -1), 1 - recall], -1)

    model = keras.Sequential([keras.Input([50, 10]), keras.layers.Lambda(baseline)])
    model.compile(loss=task.loss, metrics=task.metrics)
    scores = model.evaluate(task.test, verbose=0, return_dict=True)
    assert scores["loss"] == pytest.approx(10 * np.log(8) / 50, rel=1e-5)
    assert scores["cross_entropy"] == pytest.approx(task.chance["cross_entropy"], rel=1e-5)
    _, y = arrays(task.test)
    assert scores["accuracy"] == pytest.approx((y[:, -10:] == 0).mean(), rel=1e-5)
    assert scores["accuracy"] == pytest.approx(task.chance["accuracy"], abs=0.02)


def test_recall_accuracy_counts_the_last_ten_steps_and_is_saved():
    metric = copy_memory.RecallAccuracy.from_config(copy_memory.RecallAccuracy().get_config())
    rng = np.random.default_rng(0)
    y, logits = rng.integers(0, 9, [6, 30]), rng.normal(size=[6, 30, 9])
    metric.update_state(y, logits)
    right = (logits.argmax(-1) == y)[:, -10:]
    assert float(metric.result()) == pytest.approx(right.mean())
    metric.reset_state()
    metric.update_state(y, logits, np.arange(30.0)[None] * np.ones([6, 1]))
    assert float(metric.result()) == pytest.approx((right * np.arange(20, 30)).sum() / (6 * 245), rel=1e-5)


@pytest.mark.parametrize("length", [2, 3, 15, 50])
def test_adding_reads_as_in_the_paper(length):
    x, y = (part.numpy() for part in adding.sequences(2000, length, [3, 4]))
    values, marked = x[..., 0], x[..., 1]
    assert -0.5 <= values.min() and values.max() <= 0.5 and set(np.unique(marked)) <= {0, 1}
    places = [np.flatnonzero(row) for row in marked]
    assert all(len(pair) == 2 for pair in places)
    first, second = np.transpose(places)
    assert set(first) == set(range(max(1, length // 10)))
    assert set(second) == set(range(length // 2, length))
    rows = np.arange(2000)
    np.testing.assert_allclose(y[:, 0], values[rows, first] + values[rows, second], rtol=1e-5, atol=1e-7)
    assert y.var() == pytest.approx(1 / 6, rel=0.1)


def test_the_mean_predictor_of_adding_scores_chance():
    task = adding.load(batch_size=64, seed=0)
    _, y = arrays(task.test)
    assert y.shape == (1280, 1)
    (mse,) = task.metrics
    mse.update_state(y, np.zeros_like(y))
    assert float(mse.result()) == pytest.approx(task.chance["mse"], rel=0.1)
    assert float(task.loss(y, np.zeros_like(y))) == pytest.approx(float(mse.result()), rel=1e-5)


@pytest.mark.parametrize("sampling_period", [0.5, 0.25])
def test_frequency_reads_as_in_the_paper(sampling_period):
    task = frequency.load(batch_size=64, seed=0, sampling_period=sampling_period, steps_per_epoch=20)
    x, y = arrays(task.train)
    assert x.shape == (1280, 100 / sampling_period, 1) and abs(x).max() <= 1
    x = x[..., 0].astype("float64")
    # sin(w (t + 1)) + sin(w (t - 1)) = 2 cos(w) sin(w t), whatever the phase
    cos = ((x[:, 2:] + x[:, :-2]) * x[:, 1:-1]).sum(1) / (2 * (x[:, 1:-1] ** 2).sum(1))
    period = 2 * np.pi * sampling_period / np.arccos(cos)
    assert ((period > 4.999) & (period < 6.001)).tolist() == (y == 1).tolist()
    assert period.min() > 0.999 and period.max() < 101
    np.testing.assert_allclose(np.quantile(period[y == 1], [0.1, 0.5, 0.9]), [5.1, 5.5, 5.9], atol=0.05)
    np.testing.assert_allclose(np.quantile(period[y == 0], [0.1, 0.5, 0.9]), [11.8, 51, 90.2], atol=6)
    assert (y.reshape(-1, 64).mean(1) == 0.5).all(), "stratified batches"
    np.testing.assert_allclose(np.histogram(x[:, 0], [-1, -0.5, 0.5, 1])[0] / 1280, 1 / 3, atol=0.05)


REFUSED = [
    ("repeat_copy", {"max_repeats": 0}, "--max_repeats=0: --task=repeat_copy needs at least 1"),
    ("repeat_copy", {"min_length": 3, "max_length": 2}, "--max_length=2: must be at least --min_length=3"),
    ("repeat_copy", {"test_repeats": 0}, "--test_repeats=0: --task=repeat_copy needs at least 1"),
    ("associative_recall", {"min_items": 1}, "--min_items=1: --task=associative_recall needs at least 2"),
    ("associative_recall", {"test_items": 1}, "--test_items=1: --task=associative_recall needs at least 2"),
    ("associative_recall", {"min_items": 7}, "--max_items=6: must be at least --min_items=7"),
    ("associative_recall", {"item_vectors": 0},
     "--item_vectors=0: --task=associative_recall needs at least 1"),
    ("associative_recall", {"test_sequences": 0},
     "--test_sequences=0: --task=associative_recall needs at least 1"),
    ("associative_recall", {"bits": 0}, "--bits=0: --task=associative_recall needs at least 1"),
    ("priority_sort", {"sorted": 0}, "--sorted=0: --task=priority_sort needs at least 1"),
    ("priority_sort", {"max_length": 0}, "--max_length=0: --task=priority_sort needs at least 1"),
    ("priority_sort", {"min_length": 21}, "--max_length=20: must be at least --min_length=21"),
    ("copy", {"curriculum_epochs": 0}, "--curriculum_epochs=0: --task=copy needs at least 1"),
    ("copy_memory", {"delay": 0}, "--delay=0: --task=copy_memory needs at least 1"),
    ("adding", {"length": 1}, "--length=1: --task=adding needs at least 2"),
    ("adding", {"steps_per_epoch": 0}, "--steps_per_epoch=0: --task=adding needs at least 1"),
    ("frequency", {"sampling_period": 0.0},
     "--sampling_period=0.0: must be above 0 and at most 2.5 ms, two samples in a period of 5 ms"),
    ("frequency", {"sampling_period": float("nan")},
     "--sampling_period=nan: --task=frequency needs a finite number"),
]  # fmt: skip


@pytest.mark.parametrize("name, options, message", REFUSED)
def test_what_cannot_work_is_refused_in_one_line(name, options, message):
    with pytest.raises(TaskError) as error:
        tasks.load(name, batch_size=8, seed=0, **options)
    assert str(error.value) == message
