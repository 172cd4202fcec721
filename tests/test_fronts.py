"""What stands before a model where it is served, against the pipeline that it was trained with."""

import json
import os
import subprocess
import sys
import wave

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from santm_tf import tasks
from santm_tf.export import export
from santm_tf.keras import keras
from santm_tf.tasks.tokens import TextFront, tokens, tokens_in_graph
from santm_tf.training.run import answer_of

layers = keras.layers
WORDS = tf.function(lambda texts: tokens_in_graph(texts, "word"), [tf.TensorSpec([None], tf.string)])
CHARACTERS = tf.function(lambda texts: tokens_in_graph(texts, "char"), [tf.TensorSpec([None], tf.string)])
HARD = ["", "'", "a'b", "a''b", "'a'", "It's isn't' it", "ΟΔΟΣ ΣΑΣ, οδός", "İstanbul'İ", "naïve café_3",
        "日本語 ٣٤", "a\u0307b", "ǅ ﬁ ß ẞ", "\ufeffone", "x\u0000y", "½²ⅷ", "e\u0301'e",
        "\U0001d400\U0001f600b"]
PIECES = [b"\xe1", b"\x80", b"\xbf", b"\xc4\xb0", b"\xed\xa0", b"\xf0\x90", b"\xf4", b"\xff", b"\xc0",
          b"\xef\xbb\xbf", b"'", b"a", b" ", b"\xce\xa3"]
HOSTILE = st.lists(st.sampled_from(PIECES)).map(b"".join)


def same_tokens(contents):
    for level, in_graph in ("word", WORDS), ("char", CHARACTERS):
        expected = [[token.encode() for token in tokens(content.decode("utf-8-sig", "replace"), level)]
                    for content in contents]
        assert in_graph(tf.constant(contents, tf.string)).to_list() == expected


@settings(max_examples=300, deadline=None)
@example(HARD)
@given(st.lists(st.text(), min_size=1, max_size=4))
def test_a_text_has_the_same_tokens_in_the_graph(texts):
    same_tokens([text.encode() for text in texts])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.binary(), HOSTILE), min_size=1, max_size=4))
def test_bytes_that_are_no_text_have_the_same_tokens_in_the_graph(contents):
    same_tokens(contents)


def test_every_letter_has_the_same_tokens_in_the_graph():
    letters = "".join(f" x{chr(n)}'y" for n in range(0x110000) if not 0xD800 <= n < 0xE000)
    same_tokens([letters.encode()])


def test_a_text_without_a_token_is_refused_in_a_line():
    with pytest.raises(tf.errors.InvalidArgumentError, match="texts: one has no word in it"):
        TextFront({"a": 2}, "word", 3)(tf.constant(["a", "..."]))


def test_wav_files_that_do_not_fit_are_refused_in_a_line(sounds):
    front = tasks.load("sounds", batch_size=2, seed=0, data_dir=sounds).front
    for content, message in [
            (b"no wav", "wav: no wav file"), (b"", "wav: no wav file"),
            (recording(np.zeros(2000), rate=22050), "wav: 22050 Hz; the model takes 8000 Hz, resample it"),
            (recording(np.zeros(100)), "wav: shorter than 0.025 s")]:
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            front(tf.constant([content]))


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("texts"), np.random.default_rng(0)
    known = "good bad It's İstanbul ΟΔΟΣ naïve 日本語 isn't".split()
    for kind in "ham", "spam":
        (folder / kind).mkdir()
        for n in range(20):
            text = f"{kind}! " + ", ".join(rng.choice(known, rng.integers(1, 9)))
            (folder / kind / f"{n}.txt").write_text(text, encoding="utf-8")
    return str(folder)


def recording(samples, rate=8000, channels=1):
    samples = np.repeat(np.round(samples * 32767).astype("<i2")[:, None], channels, 1)
    return tf.audio.encode_wav(tf.constant(samples / 32768, tf.float32), rate).numpy()


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("sounds"), np.random.default_rng(0)
    for kind, pitch in ("high", 900), ("low", 300):
        (folder / kind).mkdir()
        for n in range(12):
            time = np.arange(rng.integers(900, 2400)) / 8000
            tone = 0.5 * np.sin(2 * np.pi * pitch * time) + 0.05 * rng.normal(size=len(time))
            (folder / kind / f"{n}.wav").write_bytes(recording(tone, channels=1 + n % 2))
    return str(folder)


def model_of(task):
    width = [layers.Embedding(task.vocabulary, 4, mask_zero=True)] if task.vocabulary else [
        layers.Masking(task.padding)]
    shape = [None] if task.vocabulary else [None, task.features]
    return keras.Sequential([keras.Input(shape, dtype=tf.int32 if task.vocabulary else None), *width,
                             layers.LSTM(5), layers.Dense(task.outputs)])


ALONE = """
import sys
sys.modules["keras"] = sys.modules["tf_keras"] = sys.modules["santm_tf"] = None  # whoever imports these fails
import numpy as np
import tensorflow as tf
folder, name, *files = sys.argv[1:]
given = {name: tf.constant([open(file, "rb").read() for file in files])}
found = tf.saved_model.load(folder).signatures["serving_default"](**given)
found["class"] = found["class"].numpy().astype("S")
np.savez(folder + ".npz", **found)
"""


@pytest.mark.parametrize("name, kind, option", [
    ("text", "texts", {"level": "word", "max_length": 5}), ("sounds", "wav", {"max_length": 20})],
    ids=["texts", "sounds"])
def test_raw_files_get_the_pipelines_answers_from_tensorflow_alone(name, kind, option, request, tmp_path):
    data = request.getfixturevalue("texts" if name == "text" else "sounds")
    task = tasks.load(name, batch_size=2, seed=0, data_dir=data, **option)
    model, folder = model_of(task), str(tmp_path / "export")
    facts = export(model, folder, front=task.front, answer=answer_of(task))
    with open(os.path.join(folder, "santm.json")) as file:
        assert json.load(file) == facts
    assert facts["inputs"] == {kind: {"shape": [None], "dtype": "string"}}
    assert facts["outputs"]["names"] == task.classes
    files = sorted(os.path.join(at, name) for at, _, names in os.walk(data) for name in names)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "TF_USE"))}
    done = subprocess.run([sys.executable, "-I", "-c", ALONE, folder, kind, *files], cwd=tmp_path,
                          env=environment, capture_output=True, text=True)
    assert not done.returncode, done.stderr[-2000:]
    found = np.load(folder + ".npz")
    # The pipeline's own sequences, in an order of their own: each is that of one file.
    x = np.concatenate([x for data in (task.train, task.validation, task.test) for x, _ in data])
    expected = tf.nn.softmax(model(x)).numpy()
    distance = np.abs(found["probabilities"][:, None] - expected).max(-1)
    assert distance.min(0).max() < 1e-5 and len(expected) > len(files) // 2
    names = np.array(task.classes)[found["probabilities"].argmax(-1)]
    np.testing.assert_array_equal(found["class"].astype(str), names)


def test_what_a_task_answers(tmp_path):
    (tmp_path / "text.txt").write_text("to be or not to be " * 50)
    chars = tasks.load("chars", batch_size=2, seed=0, data_dir=str(tmp_path / "text.txt"), window=8)
    answer = answer_of(chars)
    assert answer.kind == "class" and answer.names[0] == "" and {"t", "o", " "} <= set(answer.names)
    assert len(answer.names) == chars.outputs
    assert answer_of(tasks.load("digits", batch_size=32, seed=0)).names == [str(n) for n in range(10)]
    assert answer_of(tasks.load("adding", batch_size=32, seed=0)) is None


def test_a_sound_has_the_frames_of_the_pipeline(sounds):
    task = tasks.load("sounds", batch_size=2, seed=0, data_dir=sounds, max_length=15)
    files = [os.path.join(at, name) for at, _, names in os.walk(sounds) for name in names]
    contents = [open(file, "rb").read() for file in files]
    x, valid = task.front(tf.constant(contents))
    for row, name in enumerate(files):
        with wave.open(name) as file:
            steps = min((file.getnframes() - 200) // 80 + 1, 15)
        assert valid[row].numpy().tolist() == [True] * steps + [False] * (valid.shape[1] - steps)
    trained = np.concatenate([x for x, _ in task.test])
    for row in trained:
        steps = int((row[:, 0] != -100).sum())
        same = [np.abs(x[n, :steps] - row[:steps]).max() for n in range(len(files)) if x.shape[1] >= steps]
        assert min(same) < 1e-5
