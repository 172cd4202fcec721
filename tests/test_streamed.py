"""Own sequences streamed from shards, against the same files read into memory."""

import json
import subprocess
import sys

import numpy as np
import pandas
import pyarrow
import pyarrow.parquet
import pytest
import tensorflow as tf
from helpers import task_refused

from santm_tf import tasks
from santm_tf.tasks import census, counted, stream
from santm_tf.tasks.reading import records, shards

NAMES = [f"train-0000{n}-of-00003.parquet" for n in range(3)] + ["validation.parquet", "test.parquet"]
CHANNELS = "a", "b", "state"


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """A file of the tests has several pieces, and a window some of them."""
    monkeypatch.setattr(shards, "PIECE", 200)
    monkeypatch.setattr(records, "MOST", 4000)
    monkeypatch.setattr(stream, "WINDOW", 3)


def sequences(count, seed):
    """Frames of a sequence each, with gaps, categories and a label."""
    rng = np.random.default_rng(seed)
    for n in range(count):
        steps, label = rng.integers(3, 12), ["down", "up"][rng.integers(2)]
        yield pandas.DataFrame({
            "id": f"{seed}_{n}", "time": np.arange(steps), "a": rng.normal(1e4, 3, steps),
            "b": np.where(rng.random(steps) < 0.2, np.nan, rng.normal(size=steps)),
            "state": rng.choice(["idle", "runs", "stops"], steps), "label": label})


def write(folder, form="long", names=NAMES, count=30, change=None):
    """Shards of both forms; `change` is applied to the frame of each sequence."""
    for seed, name in enumerate(names):
        found = [frame if change is None else change(frame, seed) for frame in sequences(count, seed)]
        if form == "long":
            pandas.concat(found).to_parquet(folder / name, index=False, row_group_size=50)
        else:
            lists = [{"label": frame["label"].iloc[0]} | {name: frame[name].tolist() for name in CHANNELS}
                     for frame in found]
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(lists), folder / name)


def load(folder, above=0.0, batch_size=8, seed=0, **options):
    return tasks.load("sequences", batch_size=batch_size, seed=seed, data_dir=str(folder),
                      stream_above_mib=above, **options)


def examples(dataset):
    """All examples, each as bytes, in order."""
    return [b"".join(np.asarray(part[i]).tobytes() for part in batch) for batch in dataset.as_numpy_iterator()
            for i in range(len(batch[0]))]


@pytest.mark.parametrize("form", ["long", "lists"])
@pytest.mark.parametrize("options", [
    {}, {"normalise": "robust", "missing": "carry", "differences": True}, {"label": "state"},
    {"label": "b", "missing": "carry"}])
def test_what_is_streamed_is_what_is_read_into_memory(tmp_path, form, options):
    if form == "lists" and options.get("label"):
        options = options | {"channels": "a"}
    write(tmp_path, form)
    streamed, held = load(tmp_path, **options), load(tmp_path, above=100.0, **options)
    assert any("is streamed: 0 MiB of Parquet are more" in line for line in streamed.about)
    for split in "validation", "test":
        mine, theirs = (list(getattr(task, split).as_numpy_iterator()) for task in (streamed, held))
        assert len(mine) == len(theirs)
        for one, other in zip(mine, theirs, strict=True):
            for a, b in zip(one, other, strict=True):
                np.testing.assert_allclose(a, b, atol=1e-5)
    for mine, theirs in zip(*(task.kept["channels"]["numbers"] for task in (streamed, held)), strict=True):
        assert {**mine, "mean": 0, "scale": 0} == {**theirs, "mean": 0, "scale": 0}
        assert (mine["mean"], mine["scale"]) == pytest.approx((theirs["mean"], theirs["scale"]), rel=1e-6)
    assert streamed.kept["channels"]["categories"] == held.kept["channels"]["categories"]
    assert streamed.classes == held.classes and streamed.steps_per_epoch == held.steps_per_epoch
    assert streamed.chance == pytest.approx(held.chance, rel=1e-4)
    assert streamed.about[-5:] == held.about[-5:] and streamed.categories == held.categories
    assert (streamed.outputs, streamed.padding) == (held.outputs, held.padding)


def test_an_epoch_holds_every_example_once_in_an_order_of_the_seed_and_its_number(tmp_path):
    write(tmp_path)
    first, again, other = (load(tmp_path, batch_size=9, seed=seed) for seed in (1, 1, 2))
    one, two = examples(first.train), examples(first.train)
    assert len(one) == len(set(one)) == 90 and set(one) == set(two) and one != two
    assert examples(other.train) != one and set(examples(other.train)) == set(one)
    again.epoch.assign(1)
    tf.random.set_seed(7)  # which decides nothing
    assert examples(again.train) == two
    again.epoch.assign(1)
    assert examples(again.train.skip(4)) == two[4 * 9:]


def test_bent_sequences_of_an_epoch_are_the_same_again(tmp_path):
    write(tmp_path)
    first, again = (load(tmp_path, bend=1.0, class_weight="balanced", passes=2) for _ in range(2))
    plain = load(tmp_path)
    one = examples(first.train)
    assert one == examples(again.train) and len(one) == 2 * 8 * plain.steps_per_epoch
    assert len(next(iter(first.train))) == 3 and not set(one) & set(examples(plain.train))


def test_shards_that_are_not_split_are_split_by_their_digests(tmp_path):
    write(tmp_path, names=[f"part-{n}.parquet" for n in range(4)], count=50)
    task, again = load(tmp_path, validation_share=0.2), load(tmp_path, batch_size=3, validation_share=0.2)
    train, validation, test = task.kept["stream"]["counts"]
    assert train + validation + test == 200 and 20 < test < 60 and 20 < validation < 60
    parts = [set(examples(part)) for part in (task.validation, task.test)]
    assert len(parts[0]) == validation and len(parts[1]) == test and not parts[0] & parts[1]
    assert set(examples(again.test)) == parts[1]


def test_a_run_that_goes_on_counts_nothing_again(tmp_path, monkeypatch):
    write(tmp_path)
    task = load(tmp_path)
    kept = json.loads(json.dumps(task.kept))
    advice = tasks.advice("sequences", data_dir=str(tmp_path), stream_above_mib=0.0)
    counted._census.cache_clear()
    monkeypatch.setattr(census, "count", None)
    assert tasks.advice("sequences", kept=kept, data_dir=str(tmp_path), stream_above_mib=0.0) == advice
    again = load(tmp_path, kept=kept)
    assert again.about == task.about and again.chance == task.chance
    assert examples(again.train) == examples(task.train)


def feature(value):
    if isinstance(value, str):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode()]))
    known = [] if value != value else [value]
    return tf.train.Feature(float_list=tf.train.FloatList(value=known))


def records_of(frame):
    lists = {name: tf.train.FeatureList(feature=list(map(feature, frame[name]))) for name in CHANNELS}
    return tf.train.SequenceExample(
        context=tf.train.Features(feature={"label": feature(frame["label"].iloc[0])}),
        feature_lists=tf.train.FeatureLists(feature_list=lists)).SerializeToString()


def flat(frame):
    x = frame[["a", "b"]].to_numpy()
    return tf.train.Example(features=tf.train.Features(feature={
        "x": tf.train.Feature(float_list=tf.train.FloatList(value=x.ravel())),
        "shape": tf.train.Feature(int64_list=tf.train.Int64List(value=x.shape)),
        "label": feature(frame["label"].iloc[0])})).SerializeToString()


@pytest.mark.parametrize("form", [records_of, flat])
def test_records_are_what_parquet_is(tmp_path, form):
    (tmp_path / "tables").mkdir()
    ignore = "state" if form is flat else None
    write(tmp_path / "tables", change=lambda frame, _: frame.astype({"a": "f4", "b": "f4"}))
    for seed, name in enumerate(NAMES):
        ending = ".tfrecord" if seed > 2 else f".tfrecord-0000{seed}-of-00003"
        with tf.io.TFRecordWriter(str(tmp_path / (name.split("-")[0].split(".")[0] + ending))) as writer:
            for frame in sequences(30, seed):
                writer.write(form(frame))
    task, table = load(tmp_path, above=1000.0), load(tmp_path / "tables", ignore=ignore)
    assert any("TFRecord is always streamed" in line for line in task.about)
    assert task.steps_per_epoch == table.steps_per_epoch and task.classes == table.classes
    for mine, theirs in zip(task.test.as_numpy_iterator(), table.test.as_numpy_iterator(), strict=True):
        np.testing.assert_allclose(mine[0], theirs[0], atol=1e-5)
        np.testing.assert_array_equal(mine[1], theirs[1])


def refused(folder, **options):
    return task_refused("sequences", data_dir=str(folder), stream_above_mib=0.0, **options)


@pytest.mark.parametrize("options, message", [
    ({"horizon": 3}, "--horizon: FOLDER is streamed"), ({"split": "time"}, "--split=time: "),
    ({"group": "state"}, "--group=state: "), ({"window": 3}, "--window=3: is of forecasts"),
    ({"missing": "refuse"}, "channel b has a gap; --missing=mask"),
    ({"target": "number"}, "train-00000-of-00003.parquet, row 1: 'up' is no number")])
def test_what_streams_cannot_do_is_one_line(tmp_path, options, message):
    write(tmp_path)
    assert message.replace("FOLDER", str(tmp_path)) in refused(tmp_path, **options)


@pytest.mark.parametrize("file, change, message", [
    (2, lambda frame: frame.rename(columns={"a": "z"}), "FILE: has no column a, which "),
    (2, lambda frame: frame.assign(a="much"), "FILE, row 1: from here on a holds texts, and numbers in "),
    (1, lambda frame: frame.assign(label=np.where(frame["time"] > 1, "up", "down")),
     "FILE, row 1: from here on label changes within a sequence, and before it does not; give --per_step"),
    (4, lambda frame: frame.assign(label="left"),
     "FILE, row 1: class left is on no training sequence; those are down, up"),
    (0, lambda frame: frame.assign(id=frame["id"].replace("0_29", "0_0")),
     "FILE: 1 of 30 sequences have rows that are not together, and it is streamed; sort it by id"),
    (1, lambda frame: frame.assign(b=np.inf), "FILE, row 1: b is inf; mend it")])
def test_shards_that_are_wrong_are_named(tmp_path, file, change, message):
    write(tmp_path, change=lambda frame, seed: change(frame) if seed == file else frame)
    assert refused(tmp_path).startswith(message.replace("FILE", str(tmp_path / NAMES[file])))


def test_a_truncated_shard_is_named(tmp_path):
    write(tmp_path)
    path = tmp_path / NAMES[2]
    path.write_bytes(path.read_bytes()[:-200])
    assert refused(tmp_path).startswith(f"{path}: cannot be read as Parquet (")


def test_shards_and_sequences_that_are_empty_are_counted(tmp_path):
    write(tmp_path)
    empty = pandas.read_parquet(tmp_path / NAMES[0]).iloc[:0]
    empty.to_parquet(tmp_path / NAMES[1], index=False)
    path = tmp_path / NAMES[2]
    frame = pandas.read_parquet(path)
    frame.assign(label=frame["label"].where(frame["id"] != "2_3")).to_parquet(path, index=False)
    task = load(tmp_path)
    assert f"1 of 5 shards hold no sequence, the first is {tmp_path / NAMES[1]}" in task.about
    assert "1 of 120 sequences have no label and are left out" in task.about
    assert len(set(examples(task.train))) == 7 * 8 and task.kept["stream"]["counts"] == [59, 30, 30]


def test_a_damaged_record_is_named(tmp_path):
    for name in "train", "test":
        with tf.io.TFRecordWriter(str(tmp_path / f"{name}.tfrecord")) as writer:
            for frame in sequences(30, 0):
                writer.write(records_of(frame))
    path = tmp_path / "train.tfrecord"
    whole = path.read_bytes()
    path.write_bytes(whole[:-50])
    assert refused(tmp_path).startswith(f"{path}: cannot be read as TFRecord after record ")
    with tf.io.TFRecordWriter(str(path)) as writer:
        other = tf.train.Features(feature={"z": feature(1.0)})
        writer.write(tf.train.Example(features=other).SerializeToString())
    assert f"{path}: its records have z; a record is a tf.train.SequenceExample" in refused(tmp_path)


PEAK = """
import resource, sys
from santm_tf import tasks
from santm_tf.tasks.reading import shards
shards.PIECE = 2 ** 14
task = tasks.load("sequences", batch_size=32, seed=0, data_dir=sys.argv[1], stream_above_mib=0.0)
for _ in task.train:
    pass
print(task.steps_per_epoch, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_memory_does_not_grow_with_the_data(tmp_path):
    rng, peaks, steps, count = np.random.default_rng(0), [], 200, 500
    for times in 1, 4:
        folder = tmp_path / str(times)
        folder.mkdir()
        for n in range(4 * times):
            table = {"id": np.arange(count), "label": rng.choice(["u", "v"], count)}
            table = {name: np.repeat(values, steps) for name, values in table.items()}
            table |= {name: rng.normal(size=count * steps).astype("f4") for name in "abcdef"}
            path = folder / f"{'train' if n else 'test'}-{n}.parquet"
            pandas.DataFrame(table).to_parquet(path, index=False)
        done = subprocess.run([sys.executable, "-c", PEAK, str(folder)], capture_output=True, text=True,
                              check=True)
        peaks.append([int(word) for word in done.stdout.split()])
    (few, small), (many, large) = peaks
    assert many > 3 * few
    assert large - small < 30, peaks  # MiB; what the channels of the other files alone are, is 55
