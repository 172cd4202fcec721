"""A task that is written as shards is the same one when it is read, whole or by several workers."""

import collections
import dataclasses
import json
import os
import pathlib
import random
import shutil
import signal
import time

import numpy as np
import pandas
import pytest
import tensorflow as tf
from helpers import task_refused
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from test_resume import SMALL, stopping

from benchmarks.killed import end_of
from santm_tf import tasks
from santm_tf.tasks import indexed, recipes, writing
from santm_tf.tasks.raw import Layout
from santm_tf.tasks.share import Share
from santm_tf.training import callbacks
from santm_tf.training.commands import evaluate, shard, train
from tests.programs import code_of, last_line, refused

STATED = ["outputs", "chance", "monitor", "monitor_mode", "features", "length", "return_sequences", "padding",
          "vocabulary", "stateful", "classes", "side", "categories", "steps"]
FILES = 3


def machines(path, count=40):
    """Own data: runs of many lengths, with gaps and categories."""
    rng = np.random.default_rng(0)
    steps = [pandas.DataFrame({
        "run": n, "t": np.arange(size), "state": ["ok", "fault"][n % 2], "mode": rng.choice(["a", "b"], size),
        "current": np.where(rng.random(size) < 0.1, np.nan, rng.normal(n % 2, 1, size))})
        for n, size in enumerate(rng.integers(5, 12, count))]
    pandas.concat(steps).to_csv(path, index=False)


def text(path):
    path.write_text("".join(np.random.default_rng(0).choice(list("abcdef \n"), 1600)))


def documents(path):
    rng, kinds = np.random.default_rng(0), {"good": "fine true nice", "bad": "poor sad wrong"}
    lines = [f"{kind},{' '.join(rng.choice(words.split(), rng.integers(1, 8)))}"
             for kind, words in kinds.items() for _ in range(30)]
    path.write_text("\n".join(["label,text", *lines]))


CASES = {  # the flags, what writes the data, and how many training examples there are
    "copy": (["--max_length=4", "--steps_per_epoch=3", "--batch_size=6"], None, 18),
    "digits": ([], None, 1257),
    "text": (["--max_length=6"], documents, None),
    "chars": (["--window=8", "--batch_size=4"], text, None),
    "sequences": (["--differences", "--passes=2", "--bend=0"], machines, 2 * 32),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """For each case the folder of its shards, and the options of the task."""
    found = {}
    for name, (flags, make, _) in CASES.items():
        folder = tmp_path_factory.mktemp(name)
        data = folder / ("data.csv" if make is not text else "data.txt")
        if make:
            make(data)
            flags = [*flags, f"--data_dir={data}"]
        out = folder / "[shards]"  # a pattern to TensorFlow's other functions
        assert code_of(shard, f"--task={name}", *flags, f"--out={out}", f"--shards={FILES}") == 0
        assert sorted(os.listdir(folder)) == sorted(["[shards]", *([data.name] if make else [])])
        told = json.loads((out / "shards.json").read_text())["flags"]
        values = dict(flag.removeprefix("--").partition("=")[::2] for flag in told)
        found[name] = out, {option: taken.parse(values[option] or True)
                            for option, taken in tasks.options(name).items() if option in values}
    return found


def rows(data):
    """All examples of a dataset, each as bytes, in order."""
    return [b"".join(np.asarray(part[i]).tobytes() for part in batch) for batch in data.as_numpy_iterator()
            for i in range(len(batch[0]))]


def of_shards(folder, batch_size=6, seed=0, **more):
    return tasks.load("shards", batch_size=batch_size, seed=seed, data_dir=str(folder), **more)


@pytest.mark.parametrize("name", CASES)
def test_what_is_read_is_what_was_written(name, written):
    folder, options = written[name]
    sizes = {"batch_size": 4 if name == "chars" else 6, "seed": 0}
    made, read = tasks.load(name, **sizes, **options), of_shards(folder, **sizes)
    assert [getattr(read, field) for field in STATED] == [getattr(made, field) for field in STATED]
    for mine, theirs in zip([read.loss, *read.metrics, *read.weighted_metrics],
                            [made.loss, *made.metrics, *made.weighted_metrics], strict=True):
        assert type(mine) is type(theirs) and mine.get_config() == theirs.get_config()
    for split in "train", "validation", "test":
        assert getattr(read, split).element_spec[0].dtype == getattr(made, split).element_spec[0].dtype
    assert rows(read.validation) == rows(made.validation) and rows(read.test) == rows(made.test)
    single = made if name in ("copy", "chars") else tasks.load(name, batch_size=1, seed=0, **options)
    count, mine, theirs = CASES[name][2], rows(read.train), rows(single.train)
    assert count in (None, len(theirs)) and len(mine) == read.steps_per_epoch * sizes["batch_size"]
    assert 0 <= len(theirs) - len(mine) < sizes["batch_size"]
    assert not collections.Counter(mine) - collections.Counter(theirs)
    assert (mine == theirs) == read.stateful
    if name == "sequences":
        assert read.answer.facts == made.answer.facts and read.front.facts == made.front.facts
        raw = {"inputs": tf.constant([[[1.0], [np.nan]]]), "categories": tf.constant([[["b"], ["z"]]])}
        for mine, theirs in zip(*(task.front(**raw, lengths=[2]) for task in (read, made)), strict=True):
            np.testing.assert_array_equal(mine, theirs)
        advice = tasks.advice("shards", data_dir=str(folder))
        assert advice["epochs"][0] > 1 and advice == tasks.advice("sequences", **options)
    if name == "text":
        words = tf.constant(["fine sad fine", "unheard"])
        np.testing.assert_array_equal(read.front(texts=words)[0], made.front(texts=words)[0])


@pytest.mark.parametrize("place, kind, options", [
    ("losses", "BinaryCrossentropy", {"from_logits": True}),
    ("losses", "SparseCategoricalCrossentropy", {"from_logits": True}), ("losses", "MeanSquaredError", {}),
    ("metrics", "SparseCategoricalCrossentropy", {"from_logits": True}),
    ("metrics", "BinaryAccuracy", {"threshold": 0.0}), ("metrics", "MeanSquaredError", {})])
def test_what_one_keras_wrote_another_makes(place, kind, options):
    both = [pytest.importorskip(name) for name in ("keras", "tf_keras")]
    for which in both:
        thing = getattr(getattr(which, place), kind)(name="given", **options)
        like = recipes.made({**recipes.recipe(thing), "class": f"keras.{place}:{kind}"})
        assert like.name == "given" and {name: like.get_config()[name] for name in options} == options


def test_any_tfrecord_reader_reads_them_and_so_do_own_data(written):
    folder, _ = written["digits"]
    read = of_shards(folder, batch_size=1)
    files = [str(folder / name) for name in indexed.names("test", FILES)[0]]
    found = [tf.train.Example.FromString(record).features.feature
             for record in tf.data.TFRecordDataset(files).as_numpy_iterator()]
    mine = {(np.array(one["x"].float_list.value, "f").tobytes(), one["label"].int64_list.value[0])
            for one in found}
    assert len(found) == 360
    assert mine == {(x.tobytes(), y[0]) for x, y in read.test.as_numpy_iterator()}
    own = tasks.load("sequences", batch_size=6, seed=0, data_dir=str(folder), normalise="none")
    assert set(rows(own.test)) == set(rows(read.test))


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_an_example_comes_back_bit_for_bit(data):
    steps, width = data.draw(st.integers(1, 5)), data.draw(st.sampled_from([(), (1,), (3,)]))
    floats = arrays.arrays("f4", (steps, *width), elements=st.floats(width=32) | st.just(-1.0))
    tokens = arrays.arrays("i4", (steps,), elements=st.integers(0, 2**31 - 1))
    x = data.draw(floats if width else tokens)
    per_step = data.draw(st.booleans())
    y = data.draw(arrays.arrays("i4", (steps,) if per_step else (), elements=st.integers(0, 1)))
    weights = st.sampled_from([0.0, 0.5])
    weight = data.draw(arrays.arrays("f4", (steps,) if per_step else (), elements=weights))
    padding = data.draw(st.sampled_from([None, -1.0])) if width else data.draw(st.sampled_from([None, 0]))
    layout = Layout.of(tuple(part[None] for part in (x, y, weight)), padding, per_step)
    again = Layout.of_facts(json.loads(json.dumps(layout.facts)))
    back = again.decode(tf.constant([layout.encode((x, y, weight))]))
    for part, other in zip((x, y, weight), back, strict=True):
        assert (part.dtype, part.tobytes()) == (other.numpy().dtype, other.numpy().tobytes())


def test_the_order_is_of_the_seed_and_the_epoch_alone(written, monkeypatch):
    folder, _ = written["digits"]
    first = of_shards(folder, seed=1)
    one, two = rows(first.train), rows(first.train)
    assert len(one) == len(set(one)) == 1254 and one != two and rows(of_shards(folder, seed=2).train) != one
    tf.random.set_seed(7)  # which decides nothing
    read, chance = os.pread, random.Random(0)

    def late(*where):
        time.sleep(chance.choice([0.0, 0.001]))
        return read(*where)

    monkeypatch.setattr(indexed.os, "pread", late)
    for readers in 1, 8:
        again = of_shards(folder, seed=1, readers=readers)
        again.epoch.assign(1)
        assert rows(again.train) == two
    again.epoch.assign(1)
    assert rows(again.rest(200)) == two[200 * 6:]
    larger = of_shards(folder, seed=1, batch_size=11)
    assert rows(larger.train)[:1254] == one[:1254]


def counted(patch):
    """The bytes that are read of shards from here on, a list that grows."""
    read, real = [], os.pread

    def pread(file, size, start):
        read.append(size)
        return real(file, size, start)

    patch.setattr(indexed.os, "pread", pread)
    return read


@pytest.mark.parametrize("name, workers", [("digits", 2), ("chars", 3), ("copy", 7)])
def test_the_shares_of_all_workers_are_the_batch_and_each_reads_its_own(name, workers, written, monkeypatch):
    folder, _ = written[name]
    batch_size = 4 if name == "chars" else 6
    whole = of_shards(folder, batch_size=batch_size)
    shares = [of_shards(folder, batch_size=batch_size, share=Share(n, workers)) for n in range(workers)]
    read = counted(monkeypatch)
    for split in "train", "validation", "test":
        batches = list(getattr(whole, split).as_numpy_iterator())
        every = sum(read)
        read.clear()
        parts, sizes = [], []
        for task in shares:
            parts.append(list(getattr(task, split).as_numpy_iterator()))
            sizes.append(sum(read))
            read.clear()
        assert sum(sizes) == every and max(sizes) <= every * (1 / workers + 1 / batch_size)
        for batch, *of_workers in zip(batches, *parts, strict=True):
            for part, *pieces in zip(batch, *of_workers, strict=True):
                np.testing.assert_array_equal(part, np.concatenate(pieces))
    data = whole.train
    assert whole.rows(Share(0, 2), data) is not data and shares[0].rows(Share(0, workers), data) is data


def test_shards_are_written_again_in_another_number(written, tmp_path):
    first = of_shards(written["copy"][0])
    assert code_of(shard, "--task=shards", f"--data_dir={written['copy'][0]}", f"--out={tmp_path}/out",
                   "--shards=1", "--seed=5") == 0
    again = of_shards(tmp_path / "out")
    assert sorted(rows(again.train)) == sorted(rows(first.train)) and rows(again.test) == rows(first.test)
    assert again.padding == first.padding and len(list((tmp_path / "out").glob("*.tfrecord"))) == 3


def test_what_comes_after_some_batches_is_read_without_them(written, monkeypatch):
    task = of_shards(written["digits"][0], readers=1)
    read = counted(monkeypatch)
    assert len(rows(task.rest(207))) == 2 * 6 and len(read) == 2 * 6


@pytest.mark.usefixtures("no_views")
def test_a_run_that_is_stopped_within_an_epoch_ends_as_one_that_was_not(written, tmp_path, monkeypatch,
                                                                        capsys):
    folder, _ = written["sequences"]
    asked = [*SMALL, "--task=shards", f"--data_dir={folder}", "--model=lstm", "--dropout=0.2", "--epochs=2",
             "--batch_size=8", "--checkpoint_minutes=10"]
    assert code_of(train, *asked, f"--workdir={tmp_path}/whole") == 0
    result = last_line(capsys)
    with monkeypatch.context() as patch:
        patch.setattr(callbacks.ProgressBar, "on_train_batch_end", stopping(11, signal.SIGTERM))
        assert code_of(train, *asked, f"--workdir={tmp_path}/run") == 143
    assert code_of(train, *asked, f"--workdir={tmp_path}/run", "--resume", "--readers=1") == 0
    assert end_of(tmp_path / "run") == end_of(tmp_path / "whole")
    assert code_of(evaluate, f"--workdir={tmp_path}/run") == 0
    assert last_line(capsys)["test_accuracy"] == result["test_accuracy"]
    other = shutil.copytree(folder, tmp_path / "other")
    facts = json.loads((other / "shards.json").read_text())
    facts["splits"]["train"]["digest"] += 1
    (other / "shards.json").write_text(json.dumps(facts))
    assert "its shards are not those that the run began with" in refused(
        capsys, train, *asked[:-2], f"--data_dir={other}", "--batch_size=8", f"--workdir={tmp_path}/run",
        "--resume")


def test_a_folder_is_replaced_whole_or_not_at_all(written, tmp_path, monkeypatch, capsys):
    folder = shutil.copytree(written["copy"][0], tmp_path / "shards")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    asked = "--task=adding", "--length=4", "--steps_per_epoch=2", "--batch_size=3", f"--out={folder}"
    encode, done = Layout.encode, []

    def failing(layout, example):
        done.append(example)
        if len(done) == 5:
            raise OSError(28, "No space left on device")
        return encode(layout, example)

    with monkeypatch.context() as patch:
        patch.setattr(Layout, "encode", failing)
        assert refused(capsys, shard, *asked, "--shards=2").endswith(f"{folder}: No space left on device")
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert os.listdir(tmp_path) == ["shards"]
    assert code_of(shard, *asked, "--shards=2") == 0
    counts = {"train": 6, "validation": 1280, "test": 1280}
    assert last_line(capsys) == {"out": str(folder), "shards": 2, **counts}
    assert os.listdir(tmp_path) == ["shards"] and not before.keys() <= set(os.listdir(folder))
    with pytest.raises(tasks.TaskError, match="an example is float32.* and the first one "):
        x, y = np.zeros([1, 3, 1], "f"), np.zeros([1], "i4")
        Layout.of((x, y), None).encode((np.zeros([2, 1], "f"), y[0]))


@pytest.mark.parametrize("flags, message", [
    ([], "--out: give the folder to write"),
    (["--out=FOLDER/new", "--shards=0"], "--shards=0: must be a whole number in [1, 128]"),
    (["--out=FOLDER/new", "--shards=few"], "--shards=few: must be a whole number"),
    (["--out=FOLDER/new", "--task=adding", "--steps_per_epoch=1", "--batch_size=4", "--shards=5"],
     "--shards=5: there are 4 training examples; use at most so many"),
    (["--out=FOLDER/file"], "--out=FOLDER/file: is a file"),
    (["--out=FOLDER"], "--out=FOLDER: holds something else than shards (file); name another folder"),
    (["--out=FOLDER/file/new", "--task=adding", "--steps_per_epoch=1", "--shards=1"],
     "--out=FOLDER/file/new: "),
    (["--out=FOLDER/new", "--task=sequences"], "--data_dir: --task=sequences needs a file"),
    (["--out=FOLDER/new", "--task=copy", "--curriculum"], "--curriculum: shards hold the first epoch"),
    (["--out=FOLDER/new", "--nonsense=1"], "nonsense")])
def test_what_cannot_be_written_is_one_line(flags, message, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    line = refused(capsys, shard, *(flag.replace("FOLDER", str(tmp_path)) for flag in flags))
    assert message.replace("FOLDER", str(tmp_path)) in line
    assert os.listdir(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "mine"


def test_flags_of_training_are_named(tmp_path, capsys):
    assert code_of(shard, "--task=adding", "--steps_per_epoch=1", "--batch_size=4", "--units=7", "--shards=1",
                   f"--out={tmp_path}/out") == 0
    assert "of training, and not used to write shards: --units" in capsys.readouterr().err


def spoiled(folder, name, change):
    path = folder / name
    if change is None:
        path.unlink()
    else:
        path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize("name, change, message", [
    ("shards.json", None, "--data_dir=FOLDER: has no shards.json; name a folder that santm-shard wrote"),
    ("shards.json", lambda content: content[:50], "FOLDER/shards.json: damaged ("),
    ("shards.json", lambda content: content.replace(b'"format": 1', b'"format": 9'), "is of format 9"),
    ("shards.json", lambda content: content.replace(b"keras.losses:", b"os:"), "os:BinaryCrossentropy: no "),
    ("train.index", lambda content: content[:-1], "FOLDER/train.index: has 287 bytes, 288 were written"),
    ("test-00001-of-00003.tfrecord", None, "FOLDER/test-00001-of-00003.tfrecord: no such file; write"),
    ("train-00002-of-00003.tfrecord", lambda content: content + b"x", "train-00002-of-00003.tfrecord: has ")])
def test_shards_that_are_not_as_they_were_written_are_named(name, change, message, written, tmp_path):
    folder = shutil.copytree(written["copy"][0], tmp_path / "shards")
    spoiled(folder, name, change)
    line = task_refused("shards", data_dir=str(folder))
    assert message.replace("FOLDER", str(folder)) in line


def test_other_refusals_are_one_line(written):
    assert "needs the folder that santm-shard wrote" in task_refused("shards")
    for name, size, message in (("copy", 19, "has 18 training sequences, use at most 18"),
                                ("chars", 3, "rows that go on from batch to batch; use 4")):
        assert message in task_refused("shards", data_dir=str(written[name][0]), batch_size=size)


def test_a_damaged_record_is_named_when_it_is_read(written, tmp_path):
    folder = shutil.copytree(written["copy"][0], tmp_path / "shards")
    path = pathlib.Path(folder) / "train-00001-of-00003.tfrecord"
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)
    with pytest.raises(tf.errors.OpError, match=f"{path}: record 0 is damaged; write the shards anew"):
        rows(of_shards(folder).train)
    assert len(rows(of_shards(folder).test)) == 320


def test_a_split_without_an_example_is_named(tmp_path):
    task = tasks.load("adding", batch_size=2, seed=0, steps_per_epoch=1)
    with pytest.raises(tasks.TaskError, match="--task=adding: its test split has no example"):
        writing.write(dataclasses.replace(task, test=task.test.take(0)), tmp_path / "out", 1)
    assert not os.listdir(tmp_path)
