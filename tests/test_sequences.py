"""The task of own sequences: what a model gets of them, against NumPy and pandas, and how they are split."""

import json

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from santm_tf import tasks
from santm_tf.tasks import channels, partition, reading, sizes, targets
from santm_tf.tasks.errors import TaskError
from santm_tf.tasks.sequences import from_arrays
from santm_tf.training import flags
from santm_tf.training.run import advised

RNG = np.random.default_rng(0)


def series(count=40, least=5, most=20, width=2, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal([3.0, -200.0][:width], [0.5, 40.0][:width], [n, width])
            for n in rng.integers(least, most + 1, count)]


def rows(dataset):
    """All examples of a dataset, one by one."""
    return [tuple(part[i] for part in batch) for batch in dataset.as_numpy_iterator()
            for i in range(len(batch[0]))]


def steps_of(x, padding):
    """The rows of x `[T, d]` that are no padding."""
    return x if padding is None else x[(x != padding).any(-1)]


def test_numbers_are_normalised_by_the_training_split_alone():
    x = series()
    y = np.arange(len(x)) % 2
    parts = np.repeat([0, 1, 2], [20, 10, 10])
    task = from_arrays(x, y, parts=parts, batch_size=5)
    flat = np.concatenate(x[:20])
    mean, scale = flat.mean(0), flat.std(0)
    for part, dataset in ((1, task.validation), (2, task.test)):
        mine = [x[n] for n in np.flatnonzero(parts == part)]
        for (got, _), wanted in zip(rows(dataset), mine, strict=True):
            np.testing.assert_allclose(steps_of(got, task.padding), (wanted - mean) / scale, atol=1e-5)
    assert task.kept["channels"]["numbers"][1]["mean"] == pytest.approx(mean[1])


def test_robust_normalisation_is_that_of_the_quartiles():
    x = RNG.normal(size=[30, 10, 1]) ** 3
    parts = np.repeat([0, 2], [20, 10])
    task = from_arrays(x, np.arange(30) % 2, parts=parts, normalise="robust", batch_size=4)
    flat = pd.Series(x[:20].ravel())
    number = task.kept["channels"]["numbers"][0]
    assert number["mean"] == pytest.approx(flat.median())
    assert number["scale"] == pytest.approx((flat.quantile(0.75) - flat.quantile(0.25)) / 1.349)
    assert from_arrays(x, np.arange(30) % 2, normalise="none").kept["channels"]["numbers"][0]["mean"] == 0


@pytest.mark.parametrize("missing", ["mask", "carry"])
def test_gaps_are_marked_or_carried_forward_as_pandas_does(missing):
    x = RNG.normal(size=[12, 15, 3])
    x[RNG.random(x.shape) < 0.3] = np.nan
    x[..., 2] = RNG.normal(size=[12, 15])  # a channel without gaps has no feature for them
    task = from_arrays(x, np.arange(12) % 2, parts=np.repeat([0, 2], [6, 6]), missing=missing, batch_size=2)
    mean, scale = np.nanmean(x[:6], (0, 1)), np.nanstd(x[:6], (0, 1))
    for (got, _), raw in zip(rows(task.test), x[6:], strict=True):
        wanted = pd.DataFrame((raw - mean) / scale)
        wanted = (wanted.ffill() if missing == "carry" else wanted).fillna(0.0).to_numpy()
        np.testing.assert_allclose(got[:, :3], wanted, atol=1e-5)
        np.testing.assert_array_equal(got[:, 3:], np.isnan(raw[:, :2]))
    with pytest.raises(TaskError, match="channel x. has a gap; --missing=mask or carry"):
        from_arrays(x, np.arange(12) % 2, missing="refuse")


@settings(max_examples=25, deadline=None)
@given(data=st.data(), missing=st.sampled_from(["mask", "carry"]), differences=st.booleans())
def test_a_stream_gets_what_the_sequence_gets(data, missing, differences):
    steps, batch = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 3))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    numbers = rng.normal(size=[batch, steps, 2]).astype("float32")
    numbers[rng.random(numbers.shape) < 0.3] = np.nan
    texts = rng.choice(["a", "b", "new"], size=[batch, steps, 1])
    facts = channels.fit(numbers.reshape(-1, 2), ["u", "v"], {"w": ["a", "b"]}, missing=missing,
                         differences=differences)
    front = channels.Channels(json.loads(json.dumps(facts)))
    whole, _ = front(tf.constant(numbers), tf.constant(texts), lengths=tf.fill([batch], steps))
    state, each = front.first(batch), []
    for t in range(steps):
        x, state = front.step(state, tf.constant(numbers[:, t]), tf.constant(texts[:, t]))
        each.append(x)
    np.testing.assert_allclose(tf.stack(each, 1), whole, atol=1e-6)
    np.testing.assert_array_equal(whole[..., -1], pd.Categorical(texts.ravel(), ["a", "b"]).codes
                                  .reshape(batch, steps) + 1)
    assert whole.shape[-1] == front.width and np.isfinite(whole).all()


def test_what_is_served_is_what_was_trained_on():
    x = series(width=2)
    parts = np.repeat([0, 2], [30, 10])
    task = from_arrays(x, np.arange(len(x)) % 2, parts=parts, differences=True, batch_size=5)
    longest = max(map(len, x[30:]))
    raw = np.stack([np.pad(row, [(0, longest - len(row)), (0, 0)], constant_values=np.nan) for row in x[30:]])
    lengths = np.array([len(row) for row in x[30:]])
    served, valid = task.front(tf.constant(raw, tf.float32), lengths=tf.constant(lengths))
    for (trained, _), row, mine in zip(rows(task.test), served.numpy(), valid.numpy(), strict=True):
        np.testing.assert_allclose(row[mine], trained[:mine.sum()], atol=1e-5)


def test_categories_of_the_test_split_alone_are_unknown_and_counted():
    x = np.array([[["a"], ["b"]], [["b"], ["a"]], [["a"], ["c"]], [["c"], ["c"]]])
    task = from_arrays(x, ["u", "v", "u", "v"], parts=[0, 0, 2, 2], batch_size=1)
    assert [got[:, 0].tolist() for got, _ in rows(task.test)] == [[1, 0], [0, 0]]
    assert any("2 categories in training, 3 steps with others" in line for line in task.about)
    assert task.categories == (3,)


def test_windows_of_a_series_are_its_past_and_what_follows():
    values = np.arange(200.0)
    task = from_arrays(values[None, :, None], horizon=3, window=10, batch_size=4, validation_share=0.2)
    mean, scale = (np.array([task.kept["channels"]["numbers"][0][name]]) for name in ("mean", "scale"))
    seen = {}
    for name, dataset in (("train", task.train), ("validation", task.validation), ("test", task.test)):
        for x, y in rows(dataset):
            past = x[:, 0] * scale + mean
            ahead = y * np.array(task.answer.scale) + np.array(task.answer.mean)
            np.testing.assert_allclose(np.diff(past), 1.0, atol=1e-3)
            np.testing.assert_allclose(ahead, past[-1] + np.arange(1, 4), atol=1e-3)
            seen.setdefault(name, []).extend(np.round(ahead).astype(int).tolist())
    assert max(seen["train"]) == 119 and min(seen["validation"]) == 120
    assert max(seen["validation"]) == 159 and (min(seen["test"]), max(seen["test"])) == (160, 199)
    assert task.answer(tf.zeros([1, task.outputs]))["values"].shape == (1, 3, 1)


def test_several_labels_numbers_and_a_class_at_every_step():
    x = RNG.normal(size=[40, 6, 1])
    labels = from_arrays(x, RNG.integers(0, 2, [40, 3]), batch_size=4)
    assert labels.answer.kind == "labels" and labels.outputs == 3
    numbers = from_arrays(x, RNG.normal(7, 3, [40, 2]), batch_size=4)
    assert numbers.answer.kind == "numbers" and numbers.outputs == 2
    each = from_arrays(x, np.where(x[..., 0] > 0, "high", "low"), batch_size=4)
    assert each.return_sequences and each.classes == ["high", "low"]
    x_, y, weight = next(iter(each.test))
    np.testing.assert_array_equal(y == 0, x_[..., 0] > (0 - each.kept["channels"]["numbers"][0]["mean"])
                                  / each.kept["channels"]["numbers"][0]["scale"])
    assert weight.shape == y.shape


def test_balanced_classes_weigh_the_same():
    y = np.repeat(["rare", "usual"], [8, 32])
    task = from_arrays(RNG.normal(size=[40, 5, 1]), y, parts=np.tile([0, 0, 0, 2], 10),
                       class_weight="balanced", batch_size=30)
    _, classes, weights = next(iter(task.train))
    sums = np.bincount(classes, weights)
    assert sums[0] == pytest.approx(sums[1]) and sums.sum() == pytest.approx(30)
    assert len(next(iter(task.test))) == 2  # the test is not weighed


def test_an_epoch_depends_on_its_number_alone_and_bends_anew():
    x = np.random.default_rng(3).normal(size=[20, 9, 1])
    first, again = (from_arrays(x, np.arange(20) % 2, batch_size=4, bend=1.0, passes=2) for _ in range(2))
    one, two = [[x for x, _ in rows(first.train)] for _ in range(2)]
    assert len(one) == first.steps_per_epoch * 4 and not np.allclose(np.sort(one, 0), np.sort(two, 0))
    again.epoch.assign(1)
    np.testing.assert_array_equal([x for x, _ in rows(again.train)], two)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=12, max_size=60), st.integers(0, 99))
def test_equal_sequences_and_groups_are_never_apart(labels, seed):
    strata = np.unique(labels, return_inverse=True)[1]
    digests = np.random.default_rng(seed).integers(0, 1000, len(labels)).astype("uint64")
    try:
        parts = partition.stratified(strata, digests, 0.2, 0.2, names=list("abcd"))
    except TaskError:
        assert min(len(np.unique(digests[strata == n])) for n in np.unique(strata)) < 3
        return
    for n in np.unique(strata):
        assert set(parts[strata == n]) == {0, 1, 2}
    keys = list(zip(strata, digests, strict=True))
    assert len(set(zip(keys, parts, strict=True))) == len(set(keys))
    groups = np.array([f"g{digest % 7}" for digest in digests])
    if len(set(groups)) >= 3:
        parts = partition.grouped(groups, strata, 0.2, 0.2)
        assert all(len(set(parts[groups == group])) == 1 for group in groups) and set(parts) == {0, 1, 2}


def test_what_a_run_keeps_reads_other_data_as_its_own():
    x = series()
    y = np.where(np.arange(len(x)) % 2, "up", "down")
    task = from_arrays(x, y, batch_size=4)
    kept = json.loads(json.dumps(task.kept))
    other = [10 * row for row in x[:20]]
    again = from_arrays(other, ["up"] * 20, parts=[0] * 15 + [2] * 5, batch_size=4, kept=kept)
    number = kept["channels"]["numbers"][0]
    got, label = rows(again.test)[0]
    np.testing.assert_allclose(got[0, 0], (other[15][0, 0] - number["mean"]) / number["scale"], rtol=1e-5)
    assert label == 1 and again.classes == ["down", "up"]


def test_grades_of_few_sequences_are_amounts_and_that_is_said():
    assert targets.guessed(np.array([[1.0 + n % 5] for n in range(20)], object)) == (
        "number", "5 different whole numbers in 20; --target=class if they are classes")


@pytest.mark.parametrize("cells, kind", [
    ([["a"], ["b"]], "class"), ([[0.5], [1.5]], "number"), ([[1.0], [2.0]] * 10, "class"),
    ([[float(n)] for n in range(100)], "number"), ([[0, 1], [1, 1]], "labels"),
    ([[0.5, 1], [2, 3]], "number"),
    ([["a|b"], ["b"]], "labels"), ([["1.5"], ["oops"], ["2.5"]], "number"),
    ([["1"], ["2"], ["unknown"]] * 9, "class")])
def test_what_is_predicted_is_guessed(cells, kind):
    assert targets.guessed(np.array(cells, object))[0] == kind


@pytest.mark.parametrize("x, y, options, message", [
    (RNG.normal(size=[20, 5, 1]), ["a"] * 20, {}, "all training sequences are of class a; two are needed"),
    (RNG.normal(size=[20, 5, 1]), ["a"] * 19 + ["b"], {}, "class b has too few sequences that differ, 1"),
    (RNG.normal(size=[4, 5, 1]), list("abab"), {"parts": [0, 0, 0, 2], "target": "number"},
     "'a' is no number"),
    (RNG.normal(size=[4, 5, 1]), list("abac"), {"parts": [0, 0, 0, 2]}, "class c is on no training sequence"),
    (RNG.normal(size=[21, 5, 1]), [1.0, 2.0] * 10 + [3.0], {"parts": [0] * 20 + [2]},
     "x[20]: class 3 is on no training sequence; those are 1, 2; --target=number if they are amounts"),
    (RNG.normal(size=[4, 5, 1]), [0.5, np.inf, 2, 3], {"parts": [0, 0, 0, 2]}, "x[1]: inf is no number"),
    (RNG.normal(size=[4, 5, 1]), ["0.5", "1.5", "oops", "2.5"], {"parts": [0, 0, 0, 2]},
     "x[2]: 'oops' is no number; mend it, or give --target=class"),
    (RNG.normal(size=[20, 5, 1]), None, {}, "there is no column to predict"),
    (RNG.normal(size=[1, 20, 1]), None, {"horizon": 12, "window": 12}, "no training window of 12 steps"),
    (RNG.normal(size=[20, 5, 1]), list("ab") * 10, {"window": 3}, "--window=3: is of forecasts"),
    (1e9 + RNG.normal(size=[20, 5, 1]), list("ab") * 10, {}, "float32 cannot hold; subtract a constant"),
    (RNG.normal(size=[20, 5, 1]), RNG.normal(size=20), {"class_weight": "balanced"}, "is of classes"),
    (RNG.normal(size=[20, 5, 1]), list("ab") * 10, {"horizn": 3},
     "there is no horizn; it takes target, per_step"),
    (RNG.normal(size=[20, 5, 1]), np.full([20, 5], "a"), {"bend": 1.0}, "--bend=1.0: moves steps"),
    (RNG.normal(size=[20, 5, 1]), list("ab") * 10, {"bend": 7.0}, "bend=7.0: must be in"),
    (RNG.normal(size=[9, 5, 1]), list("abcabcabc"), {"batch_size": 0}, "batch_size=0: must be at least 1"),
    (RNG.normal(size=[9, 5, 1]), None, {"batch_size": 2.5}, "batch_size=2.5: must be a whole number"),
    (RNG.normal(size=[9, 5, 1]), None, {"horizon": 2.5}, "horizon=2.5: must be a whole number of at least 1"),
    (RNG.normal(size=[9, 5, 1]), None, {"differences": "no"}, "differences=no: must be true or false"),
    (RNG.normal(size=[9, 5, 1]), None, {"horizon": 2, "per_step": True}, "--per_step: a forecast is of"),
    (RNG.normal(size=[9, 5, 1]), range(9), {"horizon": 2}, "y: horizon=2 predicts x itself"),
    (RNG.normal(size=[9, 5, 1]), None, {"horizon": 2, "groups": range(9)}, "--group: --horizon splits in"),
    (RNG.normal(size=[9, 5, 1]), range(9), {"split": "time", "groups": range(9)},
     "--group: --split=time splits in order of time; leave one of them out"),
])
def test_one_line_says_what_is_wrong(x, y, options, message):
    with pytest.raises(TaskError) as raised:
        from_arrays(x, y, **{"batch_size": 2, **options})
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_groups_that_split_nothing_are_said():
    task = from_arrays(RNG.normal(size=[20, 5, 1]), list("ab") * 10, groups=list("ab") * 10,
                       parts=[0] * 15 + [2] * 5)
    assert "the data bring their splits, so --split and --group change nothing" in task.about


def test_few_and_many_sequences_get_sizes_that_work():
    for count, steps in ((5, 9), (28, 251), (28, 3), (20_000, 784), (300, 5000)):
        sequences = reading.of_arrays(np.zeros([count, steps, 1]) + np.arange(count)[:, None, None],
                                      np.arange(count) % 2)
        found = sizes.advice_for(sequences, {})
        assert found["batch_size"][0] <= max(2, count // 4) and found["mask_period"][0] == steps
        assert found["access_rate"][0] * steps >= min(steps, 20) / 4 and found["segment_length"][0] <= steps
        assert found["access_rate"][0] <= found["initial_access_rate"][0] <= 1


def test_the_flags_are_those_of_the_readers_and_of_the_task():
    known = tasks.options("sequences")
    assert {"data_dir", "label", "horizon", "normalise", "missing", "class_weight"} <= set(known)
    assert next(iter(tasks.NAMES)) == "sequences"


def test_a_forecast_is_of_the_channels_that_are_named(tmp_path):
    frame = pd.DataFrame({"day": pd.date_range("2020-01-01", periods=300), "sold": np.arange(300.0),
                          "rain": RNG.normal(size=300)})
    frame.to_csv(tmp_path / "shop.csv", index=False)
    task = tasks.load("sequences", batch_size=8, seed=0, data_dir=str(tmp_path / "shop.csv"), horizon=2,
                      label="sold", window=5)
    assert task.answer.names == ("sold",) and task.outputs == 2 and task.features == 2
    x, y = rows(task.test)[0]
    number = task.kept["channels"]["numbers"][0]
    assert y[0] * task.answer.scale[0] + task.answer.mean[0] == pytest.approx(
        x[-1, 0] * number["scale"] + number["mean"] + 1, abs=1e-3)


@pytest.mark.parametrize("given, kept, dropped", [
    (["--access_rate=0.5"], {"boundaries": "fixed"}, {"mask": "learned"}),
    (["--mask_surrogate=double_tanh"], {"boundaries": "fixed"}, {"mask": "learned"}),
    (["--segment_length=2.5"], {"mask": "uniform"}, {"boundaries": "learned"}),
    (["--batch_size=32", "--units=5"], {"mask": "uniform", "boundaries": "fixed"}, {"units": 5})])
def test_what_a_user_gives_is_kept_with_all_that_belongs_to_it(given, kept, dropped, tmp_path, capsys):
    np.savez(tmp_path / "own.npz", x=RNG.normal(size=[60, 80, 1]), y=np.arange(60) % 2)
    data = f"--data_dir={tmp_path}/own.npz"
    config = advised(flags.parse(["", "--task=sequences", data, "--dry_run", *given]))
    for name, value in (kept | dropped).items():
        assert config.layer[name] == value
    assert config.run.batch_size == (32 if "--batch_size=32" in given else 8)
    said = capsys.readouterr().err
    assert "note: --batch_size=8: a quarter of 48" in said or "--batch_size" in given[0]


def test_chance_is_that_of_the_figure_that_it_stands_beside():
    x, y = RNG.normal(size=[60, 5, 1]), np.array([0.0] * 30 + [4.0] * 15 + [100.0] * 15) + RNG.normal(size=60)
    parts = [0] * 30 + [1] * 15 + [2] * 15
    task = from_arrays(x, y, parts=parts, batch_size=4)
    mean, scale = y[:30].mean(), y[:30].std()
    assert task.chance["mse"] == pytest.approx(np.mean(((y[30:45] - mean) / scale) ** 2), rel=1e-4)
