"""The language models' tasks: contiguous tracks, every token scored once, memory, and what is refused."""

import collections
import gzip
import math
import os
import tracemalloc
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from santm_tf.keras import keras
from santm_tf.tasks import corpus, language
from santm_tf.tasks.share import Share
from santm_tf.tasks.task import TaskError
from tests.helpers import task_refused

DATA = os.environ.get("SANTM_DATA", os.path.join(os.path.dirname(__file__), "../../shared/data"))
LOAD = {"words": language.load_words, "chars": language.load_chars}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("SANTM_CACHE", str(folder))
    return folder


def some_text(words, seed=0):
    """Sentences of random words, each followed by a line's end, the frequencies falling."""
    rng = np.random.default_rng(seed)
    lines, left = [], words
    while left > 0:
        count = min(left, int(rng.integers(2, 9)))
        lines.append(" ".join(f"w{n}" for n in (rng.pareto(1, count) * 3).astype(int)))
        left -= count
    return "\n".join(lines) + "\n"


def triple(path, train, valid, test):
    os.makedirs(path, exist_ok=True)
    for name, text in (("wiki.train.tokens", train), ("wiki.valid.tokens", valid), ("latest.test.txt", test)):
        (path / name).write_text(text)
    return str(path)


def tracks(dataset):
    """All batches side by side: x and y `[B, steps * T]`, and the weights if there are any."""
    return [np.concatenate(part, 1) for part in zip(*dataset.as_numpy_iterator(), strict=True)]


def reference(text, name, size=10_000):
    """Ids of three texts, in plain Python."""
    split = list if name == "chars" else lambda part: part.replace("\n", " <eos> ").split()
    tokens = [split(part) for part in text]
    counts = collections.Counter(tokens[0])
    counts.pop("<unk>", None)
    first = {token: n for n, token in enumerate(counts)} if name == "words" else {c: ord(c) for c in counts}
    kept = sorted(counts, key=lambda token: (-counts[token], first[token]))[:size - 1]
    ids = {token: n for n, token in enumerate(kept, 2)}
    return [np.array([ids.get(token, 1) for token in part]) for part in tokens], len(kept) + 2


@pytest.mark.parametrize("name, size", [("words", 10_000), ("words", 12), ("chars", None)])
def test_batches_are_contiguous_tracks_of_the_text(tmp_path, name, size):
    texts = [some_text(900) + "<unk> ", some_text(90, 1), some_text(80, 2) + "qQ "]
    options = {"vocabulary_size": size} if size else {}
    task = LOAD[name](4, 0, data_dir=triple(tmp_path / "data", *texts), window=7, **options)
    streams, vocabulary = reference(texts, name, size or 257)
    assert task.vocabulary == task.outputs == vocabulary and task.stateful and task.return_sequences
    x, y = tracks(task.train)
    assert x.dtype == y.dtype == np.int32 and x.shape == (4, 7 * task.steps_per_epoch)
    np.testing.assert_array_equal(x[:, 1:], y[:, :-1])
    start, = (n for n in range(200) if np.array_equal(streams[0][n:n + x.size], x.ravel()))
    np.testing.assert_array_equal(y.ravel(), streams[0][start + 1:start + 1 + y.size])
    assert len(streams[0]) - x.size < (4 + 1) * 7
    for part, stream in (task.validation, streams[1]), (task.test, streams[2]):
        x, y, weight = tracks(part)
        np.testing.assert_array_equal(x[weight > 0], stream[:-1])
        np.testing.assert_array_equal(y[weight > 0], stream[1:])
        assert (x[weight == 0] == 0).all() and set(np.unique(weight)) <= {0, 1}


@pytest.mark.parametrize("name", LOAD)
def test_windows_that_begin_anew_are_the_same_windows(tmp_path, name):
    source = triple(tmp_path / "data", some_text(900), some_text(90, 1), some_text(80, 2))
    carried, anew = (LOAD[name](3, 5, data_dir=source, window=8, carry=carry) for carry in (True, False))
    assert carried.stateful and not anew.stateful
    for split in ("train", "validation", "test"):
        for one, other in zip(tracks(getattr(carried, split)), tracks(getattr(anew, split)), strict=True):
            np.testing.assert_array_equal(one, other)


def test_the_contract(tmp_path):
    source = triple(tmp_path / "data", some_text(900), some_text(90, 1), some_text(80, 2))
    for name, load in LOAD.items():
        task = load(3, 5, data_dir=source, window=8)
        assert task.train.element_spec == (tf.TensorSpec([3, 8], tf.int32),) * 2
        assert [spec.shape.as_list() for spec in task.test.element_spec] == [[3, 8]] * 3
        assert task.steps_per_epoch == len(list(task.train)) == int(task.train.cardinality())
        assert (task.length, task.padding, task.features) == (8, None, None)
        again, epochs = load(3, 5, data_dir=source, window=8), []
        epochs = [tracks(again.train)[0] for _ in range(4)]
        again.epoch.assign(1)
        np.testing.assert_array_equal(epochs[1], tracks(again.train)[0])
        assert len({epoch.tobytes() for epoch in epochs}) > 1
        other = load(3, 6, data_dir=source, window=8)
        assert any(not np.array_equal(tracks(other.train)[0], epoch) for epoch in epochs)
        for part in "validation", "test":
            for left, right in zip(tracks(getattr(task, part)), tracks(getattr(other, part)), strict=True):
                np.testing.assert_array_equal(left, right)
        assert set(task.chance) == {metric.name for metric in task.weighted_metrics}
        assert task.monitor == f"val_{task.weighted_metrics[0].name}", name


@settings(max_examples=12, deadline=None)
@given(st.integers(2, 120), st.integers(1, 9), st.integers(1, 12))
def test_every_token_but_the_first_is_scored_once(tmp_path_factory, length, batch_size, window):
    text = "".join(map(chr, range(33, 127))) * 2
    path = triple(tmp_path_factory.mktemp("data"), text * 2, text[:length], text[:length])
    _, y, weight = tracks(language.load_chars(batch_size, 0, data_dir=path, window=window).test)
    expected, _ = reference([text * 2, text[:length], ""], "chars")
    np.testing.assert_array_equal(y[weight > 0], expected[1][1:])


def test_a_single_file_is_cut_at_white_space(tmp_path):
    text = some_text(2000)
    (tmp_path / "text").write_text(text)
    for source in tmp_path / "text", tmp_path:
        parts = corpus.parts(str(source), at_words=True)
        cut = [text[part.first:part.last] for part in parts]
        assert "".join(cut) == text and all(part[-1].isspace() for part in cut)
        assert [abs(len(part) / len(text) - share) < 0.01 for part, share in
                zip(cut, (0.9, 0.05, 0.05), strict=True)]
        exact = corpus.parts(str(source), at_words=False)
        assert exact[0].last == len(text) * 90 // 100 and exact[1].last == len(text) * 95 // 100


@settings(max_examples=50, deadline=None)
@given(text=st.text("ab \n\t", max_size=60), piece=st.integers(1, 20))
def test_pieces_end_between_words(tmp_path_factory, text, piece):
    path = tmp_path_factory.mktemp("data") / "text"
    path.write_text(text)
    before, corpus.PIECE = corpus.PIECE, piece
    try:
        found = list(corpus.pieces(corpus.Part(str(path), 0, len(text)), at_words=True))
    except TaskError as error:
        assert "without white space" in str(error) and max(map(len, text.split())) > piece
        return
    finally:
        corpus.PIECE = before
    assert b"".join(found) == text.encode()
    assert [word for part in found for word in part.split()] == text.encode().split()


def test_chance_is_the_score_of_training_frequencies(tmp_path):
    texts = [some_text(900), some_text(90, 1), some_text(80, 2)]
    source = triple(tmp_path / "data", *texts)
    for name, load in LOAD.items():
        (train, _, test), vocabulary = reference(texts, name)
        counts = np.array([1 + (train == n).sum() for n in range(1, vocabulary)])
        nats = -np.mean(np.log(counts / counts.sum())[test - 1])
        expected = math.exp(nats) if name == "words" else nats / math.log(2)
        (score,) = load(2, 0, data_dir=source, window=4).chance.values()
        assert score == pytest.approx(expected)


@pytest.mark.parametrize("metric, score", [(language.Perplexity, np.exp),
                                           (language.BitsPerCharacter, lambda nats: nats / np.log(2))])
def test_metrics_are_weighted_and_can_be_saved(metric, score):
    rng = np.random.default_rng(0)
    total = weights = 0.0
    made = metric()
    for _ in range(3):
        y, logits = rng.integers(0, 5, [2, 6]), rng.normal(size=[2, 6, 5]).astype(np.float32)
        weight = rng.integers(0, 2, [2, 6]).astype(np.float32)
        made.update_state(y, tf.constant(logits), weight)
        p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        total += (-np.log(np.take_along_axis(p, y[..., None], -1)[..., 0]) * weight).sum()
        weights += weight.sum()
    assert float(made.result()) == pytest.approx(score(total / weights), rel=1e-5)
    copy = keras.metrics.deserialize(keras.metrics.serialize(made))
    assert type(copy) is metric and copy.name == made.name
    copy.update_state(y, tf.cast(logits, tf.bfloat16), weight)
    made.reset_state()
    made.update_state(y, logits, weight)
    assert float(copy.result()) == pytest.approx(float(made.result()), rel=0.02)


def test_what_keras_reports_is_the_score_of_every_token(tmp_path):
    """A model without context, whose score no batch size can change."""
    texts = [some_text(900), some_text(90, 1), some_text(83, 2)]
    source, found = triple(tmp_path / "data", *texts), []
    for batch_size, window in (1, 7), (4, 16), (5, 3):
        task = language.load_words(batch_size, 0, data_dir=source, window=window)
        width = task.outputs
        table = np.random.default_rng(0).normal(size=[width, width])
        model = keras.Sequential([keras.Input([window], batch_size, dtype=tf.int32),
                                     keras.layers.Embedding(width, width, weights=[table])])
        model.compile(loss=task.loss, weighted_metrics=task.weighted_metrics)
        found.append(model.evaluate(task.test, verbose=0, return_dict=True)["perplexity"])
    stream = reference(texts, "words")[0][2]
    p = np.exp(table) / np.exp(table).sum(-1, keepdims=True)
    np.testing.assert_allclose(found, np.exp(-np.log(p[stream[:-1], stream[1:]]).mean()), rtol=1e-4)


def test_the_cache_is_used_and_made_anew_where_the_text_has_changed(tmp_path, cache, monkeypatch):
    path = tmp_path / "text"
    path.write_text(some_text(500))
    first = tracks(language.load_words(2, 0, data_dir=str(path), window=4).train)
    assert len(os.listdir(cache)) == 1 and os.listdir(tmp_path) == ["text"]
    with monkeypatch.context() as patch:
        patch.setattr(corpus, "_write_numbers", None)
        again = tracks(language.load_words(2, 0, data_dir=str(path), window=4).train)
        language.load_words(2, 0, data_dir=str(path), window=4, vocabulary_size=5)
    np.testing.assert_array_equal(first, again)
    os.remove(cache / os.listdir(cache)[0] / "valid")
    mended = tracks(language.load_words(2, 0, data_dir=str(path), window=4).train)
    np.testing.assert_array_equal(first, mended)
    path.write_text(some_text(500, 1))
    changed = tracks(language.load_words(2, 0, data_dir=str(path), window=4).train)
    assert first[0].shape != changed[0].shape or not np.array_equal(first, changed)
    assert len(os.listdir(cache)) == 2
    path.write_text(some_text(500, 2) + "\0")
    assert "has bytes of 0" in task_refused("words", data_dir=str(path))
    assert len(os.listdir(cache)) == 2  # nothing half made is left

    def full(*args):
        raise OSError(28, "No space left on device")

    path.write_text(some_text(500, 3))
    monkeypatch.setattr(corpus, "_write_numbers", full)
    message = task_refused("words", data_dir=str(path))
    assert message == (f"{cache}: the text's numbers cannot be kept there (No space left on device); set "
                       "SANTM_CACHE to another folder")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SANTM_CACHE", str(tmp_path / "file" / "below"))
    assert "cannot be written; set it to another folder" in task_refused("words", data_dir=str(path))


@pytest.mark.parametrize("task", ["words", "chars"])
@pytest.mark.parametrize("name", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_named_and_not_read_by_bytes(task, name, tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(some_text(500, 1).encode(name))
    assert task_refused(task, data_dir=str(path)) == (
        f"--data_dir={path}: is {name.upper()}; convert it to UTF-8, for instance with "
        f"iconv -f {name.upper()} -t UTF-8")


@pytest.mark.parametrize("name", LOAD)
def test_the_mark_of_utf_8_is_no_token(name, tmp_path):
    """In a file that is cut, and in three."""
    for mark in ("", "\ufeff"):
        (tmp_path / f"text{mark}").write_text(mark + some_text(500))
        os.makedirs(tmp_path / f"three{mark}")
        for n, split in enumerate(("train", "valid", "test")):
            (tmp_path / f"three{mark}" / split).write_text(mark + some_text(200, n))
    for source in "text", "three":
        plain, marked = (LOAD[name](2, 0, data_dir=str(tmp_path / (source + mark)), window=4)
                         for mark in ("", "\ufeff"))
        assert plain.vocabulary == marked.vocabulary
        for part in "train", "validation", "test":
            for a, b in zip(getattr(plain, part), getattr(marked, part), strict=True):
                tf.nest.map_structure(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("name", LOAD)
def test_memory_does_not_grow_with_the_text(tmp_path, monkeypatch, name):
    """Of 5 MB, with smaller pieces; `benchmarks/streaming.py` reads 100 MB."""
    monkeypatch.setattr(corpus, "PIECE", 1 << 15)
    (tmp_path / "text").write_text(some_text(20_000) * 80)
    size = os.path.getsize(tmp_path / "text")
    LOAD[name](8, 0, data_dir=str(tmp_path / "text"))  # what the first use of TensorFlow takes
    os.utime(tmp_path / "text", (0, 0))  # another cache
    tracemalloc.start()
    try:
        task = LOAD[name](8, 0, data_dir=str(tmp_path / "text"))
        for _ in task.train.take(100):
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size > 4_000_000 and peak < size / 2, peak


def test_bytes_unknown_in_training_are_counted(tmp_path, caplog):
    source = triple(tmp_path / "data", "ab " * 99, "abc ccd", "ba")
    task = language.load_chars(2, 0, data_dir=source, window=4)
    path = os.path.join(source, "wiki.valid.tokens")
    assert [record.getMessage() for record in caplog.records] == [
        f"4 of 7 characters of {path} are not in the training split and count as one unknown character"]
    assert task.vocabulary == 2 + len("ab ")
    (tmp_path / "latin").write_bytes("caf\xe9 ".encode("latin-1") * 99)
    assert language.load_words(2, 0, data_dir=str(tmp_path / "latin"), window=4).vocabulary == 2 + 1
    assert language.load_chars(2, 0, data_dir=str(tmp_path / "latin"), window=4).vocabulary == 2 + 5


def test_what_cannot_be_used_is_task_refused(tmp_path):
    for name in LOAD:
        message = task_refused(name)
        assert message.startswith(f"--data_dir: --task={name} needs a text file") and "http" in message
        none = str(tmp_path / "none")
        assert task_refused(name, data_dir=none) == f"--data_dir={none}: No such file or directory"
        assert task_refused(name, data_dir="x", window=0) == f"--window=0: --task={name} needs at least 1"
    assert "needs at least 2" in task_refused("words", data_dir=str(tmp_path), vocabulary_size=1)
    assert task_refused("chars", data_dir=str(tmp_path)).endswith("in their names, and has no file")
    (tmp_path / "a.txt").write_text("")
    assert task_refused("words", data_dir=str(tmp_path)) == f"--data_dir={tmp_path / 'a.txt'}: is empty"
    (tmp_path / "b.train.txt").write_text("a")
    line = task_refused("words", data_dir=str(tmp_path))
    assert line.endswith("in their names, and has a.txt, b.train.txt")
    (tmp_path / "a.txt").write_text("a b " * 100)
    source = str(tmp_path / "a.txt")
    assert task_refused("words", data_dir=source, batch_size=25) == (
        "--batch_size=25: --task=words has 181 training tokens, too few for so many tracks of --window=64")
    (tmp_path / "a.txt").write_text("abcdefghijk")
    assert "the valid split has 1 tokens" in task_refused("chars", data_dir=source)
    with zipfile.ZipFile(tmp_path / "enwik8.zip", "w") as file:
        file.writestr("enwik8", "text")
    (tmp_path / "text8.gz").write_bytes(gzip.compress(b"text"))
    for path in tmp_path / "enwik8.zip", tmp_path / "text8.gz":
        message = task_refused("chars", data_dir=str(path))
        assert message == f"--data_dir={path}: is packed; unpack it and name the text file"
    (tmp_path / "a.txt").write_text("a" * (3 << 20))
    assert "without white space" in task_refused("words", data_dir=source)


@pytest.mark.skipif(not os.path.exists(os.path.join(DATA, "brown")), reason="needs brown/ (SANTM_DATA)")
def test_brown():
    source = os.path.join(DATA, "brown")
    task = language.load_words(20, 0, data_dir=source)
    text = []
    for split in "train", "valid", "test":
        with open(os.path.join(source, f"{split}.txt")) as file:
            text.append(file.read())
    streams, vocabulary = reference(text, "words")
    assert task.vocabulary == vocabulary == 10_001
    x, y, weight = tracks(task.test)
    np.testing.assert_array_equal(y[weight > 0], streams[2][1:])
    np.testing.assert_array_equal(x[weight > 0], streams[2][:-1])
    x, _ = next(iter(task.train))
    assert x.shape == (20, 64) and 350 < task.chance["perplexity"] < 500


SHAKESPEARE = os.path.join(DATA, "tinyshakespeare.txt")


@pytest.mark.skipif(not os.path.exists(SHAKESPEARE), reason="needs tinyshakespeare.txt (SANTM_DATA)")
def test_tinyshakespeare():
    task = language.load_chars(20, 0, data_dir=SHAKESPEARE)
    with open(SHAKESPEARE) as file:
        text = file.read()
    n = len(text)
    streams, vocabulary = reference([text[:n * 90 // 100], "", text[n * 95 // 100:]], "chars")
    assert task.vocabulary == vocabulary == 67
    _, y, weight = tracks(task.test)
    np.testing.assert_array_equal(y[weight > 0], streams[2][1:])
    assert task.chance["bits_per_character"] == pytest.approx(4.8, abs=0.1)


def test_a_share_reads_its_own_tracks(tmp_path):
    text = tmp_path / "text"
    text.write_text("abcdefghijklmnopqrstuvwxyz" * 20)

    def load(**given):
        return language.load_chars(batch_size=5, seed=0, data_dir=str(text), window=4, **given)

    for index in range(2):
        share = Share(index, 2)
        whole, mine = load(), load(share=share)
        assert mine.share == share
        for split in "train", "validation", "test":
            wanted, got = (list(getattr(task, split).as_numpy_iterator()) for task in (whole, mine))
            assert len(wanted) == len(got)
            for batch, part in zip(wanted, got, strict=True):
                for a, b in zip(share.of(batch), part, strict=True):
                    np.testing.assert_array_equal(a, b)
