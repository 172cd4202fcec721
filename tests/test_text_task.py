"""The text task: tokens and splits against independent ones, every source, and what is refused."""

import collections
import csv
import functools
import hashlib
import io
import os
import pickle
import re
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.bag_of_words import bag_of_words_score
from santm_tf.keras import keras
from santm_tf.tasks import archive, imdb, text, vocabulary
from tests.helpers import task_refused

DATA = os.environ.get("SANTM_DATA", os.path.join(os.path.dirname(__file__), "../../shared/data"))
REVIEWS = os.path.join(DATA, "movie_reviews.zip")


def arrays(dataset):
    return [np.concatenate(part) for part in zip(*dataset.as_numpy_iterator(), strict=True)]


def splits(task):
    return [arrays(part) for part in (task.train, task.validation, task.test)]


def documents(count=40):
    """`{path: text}` of two classes; each document has a word of its own."""
    rng = np.random.default_rng(0)
    return {f"{label}/{n}.txt": f"Own{label}{n} it's, " + " ".join(
        rng.choice(["the", "a", sign, "Film"], rng.integers(3, 9)))
        for label, sign in (("neg", "dull"), ("pos", "fine")) for n in range(count)}


def folder(path, files):
    for name, content in files.items():
        os.makedirs((path / name).parent, exist_ok=True)
        (path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def zipped(path, files):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in files.items():
            file.writestr(name, content)
    return str(path)


def table(path, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return str(path)


refused = functools.partial(task_refused, "text")


def test_a_folder_a_zip_and_a_csv_are_the_same_data(tmp_path):
    files = dict(sorted(documents().items()))
    sources = [folder(tmp_path / "folder", files),
               zipped(tmp_path / "z.zip", {"top/" + name: body for name, body in files.items()}),
               table(tmp_path / "t.csv", [["Label", "text"], *([n[:3], body] for n, body in files.items())])]
    first, *others = [splits(text.load(5, 3, data_dir=source)) for source in sources]
    for other in others:
        for left, right in zip(first, other, strict=True):
            for a, b in zip(left, right, strict=True):
                np.testing.assert_array_equal(a, b)


def test_documents_become_ids_as_by_hand(tmp_path):
    """In plain Python: the split by SHA-256, the most frequent training words, the first tokens."""
    files, size, steps = dict(sorted(documents().items())), 20, 6
    task = text.load(1, 0, data_dir=folder(tmp_path, files), max_length=steps, vocabulary_size=size)
    tokens = {name: body.lower().replace(",", "").split()[:steps] for name, body in files.items()}
    parts = [[], [], []]
    for label in "neg", "pos":
        own = sorted((hashlib.sha256(files[name].encode()).hexdigest(), name)
                     for name in files if name.startswith(label))
        names = [name for _, name in own]
        for part, chosen in zip(parts, (names[8:], names[:4], names[4:8]), strict=True):
            part.extend(sorted(chosen, key=list(files).index))
    first = {word: n for n, word in enumerate(dict.fromkeys(w for row in tokens.values() for w in row))}
    counts = collections.Counter(word for name in parts[0] for word in tokens[name])
    kept = sorted(counts, key=lambda word: (-counts[word], first[word]))[:size - 1]
    for part, (x, y) in zip(parts, splits(task), strict=True):
        rows = [[kept.index(w) + 2 if w in kept else 1 for w in tokens[name]] for name in part]
        expected = [tuple(row + [0] * (steps - len(row))) + (name.startswith("pos"),)
                    for name, row in zip(part, rows, strict=True)]
        found = [(*row, label) for row, label in zip(x.tolist(), y.tolist(), strict=True)]
        assert (sorted(found) == sorted(expected)) if part is parts[0] else (found == expected)


@pytest.mark.parametrize("level, body, tokens", [
    ("word", "It's a rock'n'roll 'film' — naïve, no?", "it's a rock'n'roll film naïve no"),
    ("char", "aBa b", ["a", "B", "a", " ", "b"])])
def test_tokens_of_one_document(level, body, tokens):
    (where, label, _, test), = text._tokenised([text.Document("d", "x", body.encode())], level, 400)[0]
    row, = text._tokenised([text.Document("d", "x", body.encode())], level, 400)[1]
    expected = tokens.split() if level == "word" else tokens
    numbers = {}
    assert row.tolist() == [numbers.setdefault(token, len(numbers)) for token in expected]
    assert (where, label, test) == ("d", "x", False)


def test_the_contract(tmp_path):
    source = folder(tmp_path, documents())
    task = text.load(6, 1, data_dir=source, max_length=5)
    x, y = task.train.element_spec
    assert x == tf.TensorSpec([6, 5], tf.int32) and y == tf.TensorSpec([6], tf.int32)
    assert task.steps_per_epoch == len(list(task.train)) == 64 // 6
    (train, y), (validation, y1), (test, y2) = splits(task)
    assert [len(y), len(y1), len(y2)] == [60, 8, 8]
    assert np.bincount(y1).tolist() == np.bincount(y2).tolist() == [4, 4]
    assert max(train.max(), validation.max(), test.max()) < task.vocabulary
    assert (task.outputs, task.padding, task.chance) == (2, 0, {"accuracy": 0.5})
    for x in (train, validation, test):  # padding only at the end
        assert ((x > 0)[:, :-1] >= (x > 0)[:, 1:]).all() and (x[:, 0] > 0).all()
    again = text.load(6, 1, data_dir=source, max_length=5)
    epochs = [arrays(again.train)[0] for _ in range(3)]
    again.epoch.assign(1)
    np.testing.assert_array_equal(epochs[1], arrays(again.train)[0])
    assert not np.array_equal(epochs[0], epochs[1])
    other = text.load(7, 9, data_dir=source, max_length=5)
    for part in "validation", "test":
        np.testing.assert_array_equal(arrays(getattr(task, part))[0], arrays(getattr(other, part))[0])
    assert text.load(6, 1, data_dir=source, vocabulary_size=4).vocabulary == 5


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(3, 30), min_size=2, max_size=4), st.integers(0, 99))
def test_the_split_is_stratified_and_follows_contents_alone(sizes, seed):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    rng = np.random.default_rng(seed)
    digests = rng.integers(0, 2**63, len(labels), np.uint64)
    parts = archive.split(labels, digests, sizes)
    for label, size in enumerate(sizes):
        tenth = max(1, round(size / 10))
        assert np.bincount(parts[labels == label]).tolist() == [size - 2 * tenth, tenth, tenth]
    order = rng.permutation(len(labels))
    np.testing.assert_array_equal(archive.split(labels[order], digests[order], sizes), parts[order])
    twice = archive.split(np.tile(labels, 2), np.tile(digests, 2), sizes)
    np.testing.assert_array_equal(twice, np.tile(parts, 2))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text("abcdef", min_size=1, max_size=2), min_size=1), st.integers(2, 12))
def test_ids_follow_frequency(words, size):
    numbers = vocabulary.numbering()
    found = vocabulary.numbered(words, numbers)
    table = vocabulary.ids(np.bincount(found), size)
    kept = [word for word, _ in collections.Counter(words).most_common(size - 1)]  # ties: first met
    assert table[found].tolist() == [kept.index(w) + 2 if w in kept else 1 for w in words]
    assert vocabulary.width(table) == len(kept) + 2


def test_bad_documents_are_counted_and_reported(tmp_path, caplog):
    files = documents() | {"neg/latin.txt": b"caf\xe9 dull caf\xe9", "pos/empty.txt": b"",
                           "pos/dots.txt": "... !", "README": "about", ".hidden/x.txt": "no",
                           "__MACOSX/pos/1.txt": "no"}
    task = text.load(1, 0, data_dir=zipped(tmp_path / "z.zip", files))
    lines = [record.getMessage().replace(str(tmp_path), "") for record in caplog.records]
    assert lines == [
        "1 of 84 files are no examples of a class and left out, the first is README",
        "1 of 83 documents have bytes that are not UTF-8 (read as U+FFFD), the first is /z.zip:neg/latin.txt",
        "2 of 83 documents have no token and are left out, the first is /z.zip:pos/dots.txt"]
    assert sum(len(y) for _, y in splits(task)) == 81


def test_what_cannot_be_read_is_refused(tmp_path):
    files = documents(3)
    assert refused(data_dir=str(tmp_path / "none")).endswith("none: no such folder or zip")
    one = {name: body for name, body in files.items() if name.startswith("pos")}
    assert "needs at least two folders, one per class, and has none" in refused(
        data_dir=folder(tmp_path / "one", one))
    os.makedirs(tmp_path / "one" / "neg")
    assert "class neg has no example" in refused(data_dir=str(tmp_path / "one"))
    empty = one | {"neg/1.txt": "", "neg/2.txt": ""}
    message = refused(data_dir=zipped(tmp_path / "empty.zip", empty))
    assert "class neg has no example with a token" in message
    few = one | {"neg/1.txt": "a", "neg/2.txt": "b"}
    message = refused(data_dir=zipped(tmp_path / "f.zip", few))
    assert "class neg has too few examples, 2 that differ" in message
    parts = {f"train/{name}": body for name, body in files.items()} | {
        f"test/{name}": body for name, body in files.items()}
    assert "test, train look like splits" in refused(data_dir=folder(tmp_path / "parts", parts))
    for n, name in enumerate(["../evil.txt", "/etc/evil", "pos/../../evil", "C:\\evil", "..\\evil"]):
        message = refused(data_dir=zipped(tmp_path / f"{n}.zip", files | {name: "x"}))
        assert "climbs out of the archive" in message
    broken = bytearray((tmp_path / "f.zip").read_bytes())
    broken[45] ^= 255
    (tmp_path / "broken.zip").write_bytes(broken)
    assert "cannot be read" in refused(data_dir=str(tmp_path / "broken.zip"))
    source = folder(tmp_path / "good", files)
    assert refused(data_dir=source, batch_size=3) == (
        "--batch_size=3: --task=text has 2 training documents, use at most 2")
    assert refused(data_dir=source, level="byte") == "--level=byte: --task=text needs word or char"
    assert refused(data_dir=source, max_length=0) == "--max_length=0: --task=text needs at least 1"
    assert refused(data_dir=source, vocabulary_size=1) == (
        "--vocabulary_size=1: --task=text needs at least 2")


def test_rows_that_cannot_be_read_are_named(tmp_path):
    rows = [["ham", f"hello\nyou {n}"] for n in range(10)] + [["spam", f"buy {n}"] for n in range(10)]
    path = table(tmp_path / "t.csv", rows[:2] + [["no label at all"]] + rows[2:])
    assert refused(data_dir=path) == f"{path}, line 5: no label; every row is label,text"
    path = table(tmp_path / "t.csv", rows + [["", "text"]])
    assert refused(data_dir=path) == f"{path}, line 31: no label; every row is label,text"
    path = table(tmp_path / "t.csv", rows[:10])
    assert "all documents are of class ham, two are needed" in refused(data_dir=path)
    (tmp_path / "t.csv").write_text("")
    assert refused(data_dir=path) == f"{path}: is empty"


def spelled(separator=",", header=(), last=False, encoding="utf-8", ham="ham"):
    """The bytes of a CSV file of forty documents, in one of the ways of writing it."""
    rows = [*([header] if header else []), *((label, f"{label} {word}, {n}; it is")
            for n in range(20) for label, word in ((ham, "hello"), ("spam", "buy")))]
    lines = (separator.join(f'"{cell}"' for cell in (row[::-1] if last else row)) for row in rows)
    return "".join(f"{line}\r\n" for line in lines).encode(encoding)


@pytest.mark.parametrize("ways, said", [
    ({"header": ("Label", "text")}, None),
    ({"header": ("sentiment", "review")}, "line 1 is a header, and sentiment the label"),
    ({"header": ("sentiment", "review"), "last": True}, "line 1 is a header, and sentiment the label"),
    ({"last": True}, "the last cell of a row is its label"),
    ({"separator": ";"}, None), ({"separator": "\t"}, None),
    ({"encoding": "utf-8-sig"}, None), ({"encoding": "utf-16"}, None), ({"encoding": "utf-16-le"}, None),
    ({"encoding": "utf-16-be", "separator": ";", "header": ("label", "text")}, None)])
def test_a_csv_file_may_be_written_in_many_ways(ways, said, tmp_path, caplog):
    (tmp_path / "t.csv").write_bytes(spelled(**ways))
    found = text.load(1, 0, data_dir=str(tmp_path / "t.csv"))
    lines = [record.getMessage() for record in caplog.records]
    assert lines == ([f"{tmp_path}/t.csv: {said}"] if said else [])
    (tmp_path / "plain.csv").write_bytes(spelled())
    for left, right in zip(splits(found), splits(text.load(1, 0, data_dir=str(tmp_path / "plain.csv"))),
                           strict=True):
        for a, b in zip(left, right, strict=True):
            np.testing.assert_array_equal(a, b)
    assert found.classes == ["ham", "spam"]


@pytest.mark.parametrize("content, said", [
    (spelled(ham="hâm", encoding="latin-1"), "line 1: the label b'h\\xe2m' is not UTF-8; save the file as"),
    (spelled().replace(b'it is"', b"it is", 1), "line 1: a quote opens here and does not close"),
    (spelled()[:-3], "line 40: a quote opens here and does not close"),
    (spelled() + b"\0" * 9, "has bytes of 0, so is no text")])
def test_a_csv_file_that_is_not_sound_names_its_line(content, said, tmp_path):
    (tmp_path / "t.csv").write_bytes(content)
    assert said in refused(data_dir=str(tmp_path / "t.csv"))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_documents_of_any_unicode_are_the_same_data(encoding, tmp_path):
    files = documents(8)
    first = splits(text.load(1, 0, data_dir=folder(tmp_path / "plain", files), max_length=99))
    other = folder(tmp_path / "other", {name: body.encode(encoding) for name, body in files.items()})
    found = splits(text.load(1, 0, data_dir=other, max_length=99))
    rows = [sorted(np.count_nonzero(x, 1).tolist()) for x, _ in (first[0], found[0])]
    assert len(rows[0]) == len(rows[1])
    total = [sum(np.count_nonzero(x) for x, _ in parts) for parts in (first, found)]
    assert total[0] == total[1]  # the split goes by the bytes


def test_a_test_csv_is_kept_apart(tmp_path):
    rows = [[label, f"{label} {n}", "more, text"] for label in ("a", "b") for n in range(20)]
    table(tmp_path / "train.csv", rows)
    table(tmp_path / "test.csv", rows[5:25])
    task = text.load(1, 0, data_dir=str(tmp_path))
    (_, y), (_, y1), (x2, y2) = splits(task)
    assert [len(y), len(y1), len(y2)] == [36, 4, 20]
    assert np.bincount(y2).tolist() == [15, 5] and task.chance == {"accuracy": 0.75}
    assert x2.shape == (20, 4) and (x2 > 0).all()
    table(tmp_path / "test.csv", rows[5:25] + [["c", "new"]])
    path = tmp_path / "test.csv"
    assert refused(data_dir=str(tmp_path)) == f"{path}, line 21: label c is on no training document"


def test_imdb(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    reviews = np.array([rng.integers(1, 50, rng.integers(1, 9)).tolist() for _ in range(60)], object)
    y = np.arange(60) % 2
    np.savez(tmp_path / "imdb.npz", x_train=reviews[:40], y_train=y[:40], x_test=reviews[40:], y_test=y[40:])
    task = text.load(1, 0, data_dir=str(tmp_path))
    parts = splits(task)
    assert [len(y) for _, y in parts] == [36, 4, 20]
    assert [np.count_nonzero(x) for x in parts[2][0]] == list(map(len, reviews[40:]))
    np.testing.assert_array_equal(parts[2][1], y[40:])
    assert "imdb.npz holds words only" in refused(data_dir=str(tmp_path), level="char")
    monkeypatch.setattr(keras.utils, "get_file", lambda *a, **k: str(tmp_path / "imdb.npz"))
    for left, right in zip(parts, splits(text.load(1, 0)), strict=True):
        np.testing.assert_array_equal(left[0], right[0])
    (tmp_path / "imdb.npz").write_bytes(b"PK")
    assert "not the imdb.npz of https://" in refused(data_dir=str(tmp_path))

    def fail(*args, **kwargs):
        raise Exception("URL fetch failure")

    monkeypatch.setattr(keras.utils, "get_file", fail)
    message = refused()
    assert "imdb.npz could not be downloaded; get it from https://" in message and "--data_dir" in message


class Runs:
    def __reduce__(self):
        return os.mkdir, ("it-ran",)


def objects(items):
    made = np.empty(len(items), object)
    made[:] = items
    return made


def test_imdb_is_read_without_running_code(tmp_path, monkeypatch):
    """As Keras' file is written: by pickle's protocol 2, whose bytes are of another module; and as arrays."""
    monkeypatch.chdir(tmp_path)
    y, lists = np.arange(60) % 2, [[1, n, n % 7] for n in range(60)]
    found = {}
    for name, protocol, reviews in (("lists", 4, lists), ("old", 2, lists), ("plain", None, np.array(lists)),
                                    ("arrays", 2, list(map(np.array, lists)))):
        with zipfile.ZipFile("imdb.npz", "w") as file:
            for part, chosen in (("train", slice(40)), ("test", slice(40, 60))):
                x = reviews[chosen]
                buffer = io.BytesIO()
                if protocol:
                    np.lib.format.write_array_header_1_0(
                        buffer, {"descr": "|O", "fortran_order": False, "shape": (len(x),)})
                    pickle.dump(objects(x), buffer, protocol)
                else:
                    np.save(buffer, x)
                file.writestr(f"x_{part}.npy", buffer.getvalue())
                np.save(buffer := io.BytesIO(), y[chosen])
                file.writestr(f"y_{part}.npy", buffer.getvalue())
        found[name] = imdb.load("imdb.npz", "")
    for parts in found.values():
        for part, chosen in (("train", slice(40)), ("test", slice(40, 60))):
            assert [row.tolist() for row in parts[part][0]] == lists[chosen]
            np.testing.assert_array_equal(parts[part][1], y[chosen])
    for item in Runs(), [Runs()], [np.datetime64("now")], np.random.default_rng():
        np.savez("imdb.npz", x_train=objects([item] * 2), y_train=[0, 1], x_test=objects([[1]]), y_test=[0])
        assert "which is no array, and is not read" in refused(data_dir=".")
    assert not os.path.exists("it-ran")
    with zipfile.ZipFile("imdb.npz", "w") as file:
        for name, content in (("x_train", b"P\n."), ("y_train", b""), ("x_test", b""), ("y_test", b"")):
            np.lib.format.write_array_header_1_0(
                buffer := io.BytesIO(), {"descr": "|O", "fortran_order": False, "shape": (1,)})
            file.writestr(f"{name}.npy", buffer.getvalue() + content)
    assert "A load persistent id instruction was encountered" in refused(data_dir=".")
    for item in [1.5, 2.0], [-1], [2**40], [2**70], [10**7], ["a"], [[1], [2, 3]], 3, None, [True]:
        np.savez("imdb.npz", x_train=objects([[1], item]), y_train=[0, 1], x_test=objects([[1]]), y_test=[0])
        assert refused(data_dir=".") == (
            "./imdb.npz, x_train[1]: is no list of words' numbers, whole ones from 0 to 9999999")
    np.savez("imdb.npz", x_train=objects([[1], [2]]), y_train=[0, 1, 1], x_test=objects([[1]]), y_test=[0])
    assert refused(data_dir=".") == (
        "./imdb.npz: x_train has 2 reviews and y_train is of shape (3,); give a label for each")


def test_class_names_that_are_no_utf_8_are_refused(tmp_path):
    for label in b"\xe4pfel", b"birne":
        os.makedirs(os.path.join(os.fsencode(tmp_path), b"text", label))
        for n in range(4):
            with open(os.path.join(os.fsencode(tmp_path), b"text", label, b"%d.txt" % n), "wb") as file:
                file.write(b"%s %d" % (label, n))
    said = "the class name b'\\xe4pfel' is not UTF-8; rename it, for instance with convmv -f LATIN1 -t UTF-8"
    assert refused(data_dir=str(tmp_path / "text")) == f"{tmp_path}/text: {said}"
    path = tmp_path / "z.zip"
    zipped(path, {f"{label}/{n}.txt": "x" for label in ("äpfel", "birne") for n in range(4)})
    path.write_bytes(path.read_bytes().replace("ä".encode(), b"\xe4\xff"))
    assert refused(data_dir=str(path)).startswith(f"--data_dir={path}: damaged zip ('utf-8' codec")


def test_a_bag_of_words_tells_classes_by_their_words(tmp_path):
    task = text.load(1, 0, data_dir=folder(tmp_path, documents(40)))
    accuracy, c = bag_of_words_score(task)
    assert accuracy >= 0.85 and c > 0


@pytest.mark.skipif(not os.path.exists(REVIEWS), reason="needs movie_reviews.zip (SANTM_DATA)")
def test_movie_reviews():
    task = text.load(1, 0, data_dir=REVIEWS)
    parts = splits(task)
    assert [np.bincount(y).tolist() for _, y in parts] == [[800, 800], [100, 100], [100, 100]]
    assert parts[0][0].shape == (1600, 400) and task.vocabulary == 10_001
    rows = [{row.tobytes() for row in x} for x, _ in parts]
    assert not rows[0] & rows[2] and not rows[0] & rows[1] and not rows[1] & rows[2]
    with zipfile.ZipFile(REVIEWS) as file:  # unknown words, counted another way
        bodies = [file.read(n).decode() for n in sorted(file.namelist()) if n.endswith(".txt")]
    lengths = [min(400, len(re.findall(r"\w+(?:'\w+)*", body))) for body in bodies]
    assert sum(np.count_nonzero(x) for x, _ in parts) == sum(lengths)
    # tokens cut off later leave the vocabulary's 9,999 words in nine of ten places
    assert 0.02 < (parts[2][0] == 1).sum() / (parts[2][0] > 0).sum() < 0.1


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf\n", b"\xff\xfe", "\n\n".encode("utf-16")])
def test_a_file_of_a_mark_alone_is_empty(content, tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    assert refused(data_dir=str(path)) == f"{path}: is empty"
