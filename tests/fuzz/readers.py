"""Files of data of every format that is read, damaged: a task all of whose batches are sound, or one line."""

import functools
import io
import json
import os
import shutil
import tempfile
import wave
import zipfile
from typing import NamedTuple
from unittest import mock

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import tensorflow as tf
from absl import logging

from santm_tf import tasks
from santm_tf.tasks import images, sources
from santm_tf.training import sharding
from santm_tf.training.config import configured
from santm_tf.training.run import of_batches
from tests.fuzz import mutations

MOST = 0.05  # GB of data that are read at most


class Entry(NamedTuple):
    """One file of a corpus.

    Attributes:
      task, options: what reads it. folder: the data, a folder. file: its path there. alone: whether the data
        are that file, and not the folder.
    """

    task: str
    options: dict
    folder: str
    file: str
    alone: bool

    @property
    def content(self):
        with open(os.path.join(self.folder, self.file), "rb") as file:
            return file.read()


@functools.cache
def corpus():
    """A small right file of each format, by name."""
    root, rng = tempfile.mkdtemp(prefix="fuzz-"), np.random.default_rng(0)
    rows = [
        (f"r{run:02d}", t, rng.normal(), rng.integers(3), "ok" if run % 2 else "fault")
        for run in range(20)
        for t in range(3)
    ]
    table = pd.DataFrame(rows, columns=["id", "time", "x", "code", "label"])
    found = {}

    def add(name, task, write, alone=True, **options):
        folder = os.path.join(root, name.replace("/", "-"))
        os.makedirs(folder)
        file = os.path.basename(name)
        write(os.path.join(folder, file))
        found[name] = Entry(task, options, folder, file, alone)

    x, y = rng.normal(size=[20, 4, 2]), np.arange(20) % 2
    add("long.csv", "sequences", lambda path: table.to_csv(path, index=False))
    add(
        "steps.csv",
        "sequences",
        lambda path: table.to_csv(path, index=False, sep=";"),
        per_step=True,
        categories="code",
    )
    add(
        "forecast.csv",
        "sequences",
        lambda path: table[["time", "x"]].assign(time=range(60)).to_csv(path, index=False),
        horizon=2,
        window=4,
    )
    add("a.parquet", "sequences", lambda path: table.to_parquet(path, index=False))
    add(
        "streamed/a.parquet",
        "sequences",
        lambda path: table.to_parquet(path, index=False),
        stream_above_mib=0.0,
        id="id",
        time="time",
    )
    add("a.npz", "sequences", lambda path: np.savez(path, x=x, y=y))
    add(
        "folder/x.npy",
        "sequences",
        lambda path: (np.save(path, x), np.save(f"{path[:-5]}y.npy", y)),
        alone=False,
    )
    add(
        "a.ts",
        "sequences",
        lambda path: _text(
            path,
            "@problemName a\n@univariate true\n@classLabel true u v\n@data\n"
            + "".join(
                f"{','.join(f'{v:.2f}' for v in row)}:{'uv'[n % 2]}\n" for n, row in enumerate(x[:, :, 0])
            ),
        ),
    )
    add(
        "a.tsv",
        "sequences",
        lambda path: _text(
            path,
            "".join(
                "\t".join([str(n % 2 + 1), *(f"{v:.2f}" for v in row)]) + "\n"
                for n, row in enumerate(x[:, :, 0])
            ),
        ),
    )
    add("a.tfrecord", "sequences", lambda path: _records(path, x, y))
    texts = [(f"{'bad' if n % 2 else 'good'}", f'a day, {n} "é"') for n in range(20)]
    add("documents.csv", "text", lambda path: pd.DataFrame(texts).to_csv(path, index=False, header=False))
    add(
        "documents.zip",
        "text",
        lambda path: _zip(path, {f"{label}/{n}.txt": text.encode() for n, (label, text) in enumerate(texts)}),
    )
    add("imdb.npz", "text", lambda path: _imdb(path, rng))
    waves = {f"{n % 2}_{'ab'[n % 2]}_{n}.wav": _wave(rng) for n in range(24)}
    add(
        "sounds/1_b_1.wav",
        "sounds",
        lambda path: [
            _bytes(os.path.join(os.path.dirname(path), name), content) for name, content in waves.items()
        ],
        alone=False,
    )
    add("sounds.zip", "sounds", lambda path: _zip(path, waves))
    add(
        "mnist.npz",
        "mnist",
        lambda path: np.savez(
            path,
            **{
                name: rng.integers(0, 256, [40, 28, 28], np.uint8)
                if name[0] == "x"
                else (np.arange(40) % 10).astype("u1")
                for name in images.KEYS
            },
        ),
        pixels_per_step=196,
    )
    add("a.txt", "words", lambda path: _text(path, "to be or not to be\n" * 30), window=4)
    add("b.txt", "chars", lambda path: _text(path, "to be or not to be\n" * 30), window=4)
    shards = os.path.join(root, "shards")
    own = os.path.join(found["long.csv"].folder, "long.csv")
    sharding.write(configured({"task": "sequences", "data_dir": own, "batch_size": "4"}), shards, 1)
    for file in sorted(os.listdir(shards)):
        found[f"shards/{file}"] = Entry("shards", {}, shards, file, False)
    return found


def _text(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def _bytes(path, content):
    with open(path, "wb") as file:
        file.write(content)


def _zip(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def _wave(rng):
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1, 2, 8000, 0, "NONE", ""))
        out.writeframes(rng.normal(0, 3000, 400).astype("<i2").tobytes())
    return file.getvalue()


def _imdb(path, rng):
    reviews = np.empty(20, object)
    reviews[:] = [rng.integers(1, 50, n % 5 + 1).tolist() for n in range(20)]
    np.savez(path, x_train=reviews, y_train=np.arange(20) % 2, x_test=reviews, y_test=np.arange(20) % 2)


def _records(path, x, y):
    with tf.io.TFRecordWriter(path) as writer:
        for sequence, label in zip(x, y, strict=True):
            feature = {
                "x": tf.train.Feature(float_list=tf.train.FloatList(value=sequence.ravel())),
                "shape": tf.train.Feature(int64_list=tf.train.Int64List(value=sequence.shape)),
                "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())


def cases():
    """The name of a file in the corpus, and other bytes for it."""
    corpus()  # made before Hypothesis draws
    return _cases()


@st.composite
def _cases(draw):
    found = corpus()
    name = draw(st.sampled_from(sorted(found)))
    content, others = found[name].content, [entry.content for entry in found.values()]
    if name.endswith((".zip", ".npz")) and draw(st.booleans()):  # what is in it is damaged, and not its sums
        content = draw(_repacked(content))
    elif name.endswith(".tfrecord") and draw(st.booleans()):
        content = draw(_framed(content))
    elif name.endswith(".json"):
        content = draw(_other_json(content))
    else:
        content = draw(mutations.damaged(content, others))
    return name, content


@st.composite
def _repacked(draw, content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    name = draw(st.sampled_from(sorted(files)))
    files[name] = draw(mutations.damaged(files[name], list(files.values())))
    if draw(st.integers(0, 9)) == 0:
        del files[draw(st.sampled_from(sorted(files)))]
    packed = io.BytesIO()
    _zip(packed, files)
    return packed.getvalue()


@st.composite
def _framed(draw, content):
    """A record of a TFRecord file damaged, its frame right."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "a")
        _bytes(path, content)
        found = list(tf.data.TFRecordDataset(path).as_numpy_iterator())
        at = draw(st.integers(0, len(found) - 1))
        found[at] = draw(mutations.damaged(found[at]))
        with tf.io.TFRecordWriter(path) as writer:
            for record in found:
                writer.write(record)
        with open(path, "rb") as file:
            return file.read()


@st.composite
def _other_json(draw, content):
    if draw(st.integers(0, 4)) == 0:
        return draw(mutations.damaged(content))
    return json.dumps(draw(mutations.json_like(json.loads(content)))).encode()


def check(case):
    """The task is loaded, and each of its batches is of its form and finite."""
    name, content = case
    entry = corpus()[name]
    with (
        tempfile.TemporaryDirectory(prefix="fuzz-") as scratch,
        mock.patch.object(images, "VALIDATION", 20),
        mock.patch.dict(os.environ, SANTM_CACHE=os.path.join(scratch, "cache")),
    ):
        folder = os.path.join(scratch, "data")
        shutil.copytree(entry.folder, folder)
        path = os.path.join(folder, entry.file)
        _bytes(path, content)
        before = logging.get_verbosity()
        logging.set_verbosity(logging.ERROR)
        try:
            with sources.at_most(MOST), of_batches():
                task = tasks.load(
                    entry.task,
                    batch_size=4,
                    seed=0,
                    data_dir=path if entry.alone else folder,
                    **entry.options,
                )
                _sound(task)
        finally:
            logging.set_verbosity(before)


def _sound(task):
    for data in task.train, task.validation, task.test:
        count = 0
        for batch in data.take(50):
            count += 1
            for value, spec in zip(batch, data.element_spec, strict=True):
                assert spec.is_compatible_with(value), (spec, value)
                if value.dtype.is_floating:
                    assert np.isfinite(value).all(), value
            if task.vocabulary:
                assert 0 <= tf.reduce_min(batch[0]) and tf.reduce_max(batch[0]) < task.vocabulary
            if task.classes and not task.return_sequences and batch[1].dtype.is_integer:
                assert 0 <= tf.reduce_min(batch[1]) and tf.reduce_max(batch[1]) < len(task.classes)
        assert count
