"""Raw inputs and named answers over HTTP, by our server and as TensorFlow Serving is asked."""

import base64
import json
import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf
from fastapi.testclient import TestClient

from santm_tf.answers import Answer
from santm_tf.embed import EmbedCategories
from santm_tf.export import export
from santm_tf.keras import keras
from santm_tf.tasks.channels import Channels, fit
from santm_tf.tasks.sounds import MELS, SoundFront
from santm_tf.tasks.tokens import TextFront
from serving import app
from serving.app import create_app
from serving.model import Model
from serving.streams import Sessions

layers = keras.layers
README = (pathlib.Path(app.__file__).parent / "README.md").read_text(encoding="utf-8")
WAV = tf.audio.encode_wav(tf.sin(tf.range(1600.0))[:, None] / 2, 8000).numpy()


def mixed():
    """Numbers, of which a missing one is the one before, and a category."""
    numbers = np.array([[1.0, 2.0], [3.0, np.nan], [2.0, 5.0]])
    front = Channels(fit(numbers, ["wind", "sun"], {"lamp": ["off", "on"]}, missing="carry",
                         differences=True))
    model = sequential(keras.Input([None, front.width]), EmbedCategories(front.sizes, 2), layers.LSTM(4),
                       layers.Dense(2))
    return model, front, Answer("class", ["calm", "storm"])


def sequential(inputs, *parts):
    return keras.Sequential([inputs, *parts])


MADE = {
    "mixed": mixed,
    "texts": lambda: (
        sequential(keras.Input([None], dtype=tf.int32), layers.Embedding(4, 3, mask_zero=True),
                   layers.LSTM(4), layers.Dense(3)),
        TextFront({"good": 2, "film": 3}, "word", 5), Answer("labels", ["short", "kind", "new"])),
    "wav": lambda: (
        sequential(keras.Input([None, MELS]), layers.Bidirectional(layers.LSTM(3)), layers.Dense(2)),
        SoundFront(8000, 50, np.zeros(MELS, "f"), np.ones(MELS, "f")), Answer("class", ["bird", "machine"])),
    "forecast": lambda: (
        sequential(keras.Input([None, 2]), layers.LSTM(3, return_sequences=True), layers.Dense(4)),
        None, Answer("numbers", ["wind", "sun"], 5.0, 2.0, [2, 2])),
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    done = {}

    def of(name):
        if name not in done:
            folder = str(tmp_path_factory.mktemp("export") / name)
            model, front, answer = MADE[name]()
            export(model, folder, front=front, answer=answer)
            done[name] = model, tf.saved_model.load(folder), TestClient(
                create_app(Model(folder), Sessions(10, 60.0)))
        return done[name]

    return of


def posted(client, path, status=200, **body):
    answer = client.post(path, json=body)
    assert answer.status_code == status, answer.text
    return answer.json()["outputs" if status == 200 else "detail"]


def is_softmax(answer, y, names):
    expected = np.exp(y) / np.exp(y).sum()
    assert answer["class"] == names[expected.argmax()] and list(answer["probabilities"]) == names
    np.testing.assert_allclose(list(answer["probabilities"].values()), expected, atol=1e-5)


def test_numbers_with_gaps_and_categories_get_a_class_by_name(exported):
    model, _, client = exported("mixed")
    inputs = [[[1, 2], [None, 3], [0.5, None]], [[4, 4]]]
    categories = [[["on"], ["off"], ["new"]], [["on"]]]
    _, front, _ = mixed()

    def expected(row, steps):
        x, _ = front(np.array([inputs[row][:steps]], np.float32), tf.constant([categories[row][:steps]]),
                     lengths=[steps])
        return model(x).numpy()[0]

    predicted = posted(client, "/predict", inputs=inputs, categories=categories)
    for row, found in enumerate(predicted):
        is_softmax(found, expected(row, len(inputs[row])), ["calm", "storm"])
    stream = f"/streams/{client.post('/streams').json()['id']}"
    found = posted(client, stream, inputs=inputs[0][:2], categories=categories[0][:2])
    found += posted(client, stream, inputs=inputs[0][2:], categories=categories[0][2:])
    for t, answer in enumerate(found):
        is_softmax(answer, expected(0, t + 1), ["calm", "storm"])


@pytest.mark.parametrize("body, words", [
    ({"inputs": [[[1, 2]]]}, "categories: Field required"),
    ({"inputs": [[[1, 2]]], "categories": [[["on"]]] * 2}, "categories: 2 of them, and 1 inputs; give as"),
    ({"inputs": [[[1, 2]]], "categories": [[["on"]] * 3]}, "categories: 3 of them, and 1 inputs; give as"),
    ({"inputs": [[[1, 2]]], "categories": [[[1]]]}, "categories[0][0][0]: Input should be a valid string"),
    ({"inputs": [[[1, "2"]]], "categories": [[["on"]]]}, "inputs[0][0][1]: Input should be a valid number"),
])
def test_inputs_that_do_not_belong_together_are_refused(body, words, exported):
    assert words in posted(exported("mixed")[2], "/predict", 422, **body)


def test_texts_get_probabilities_by_name(exported):
    model, _, client = exported("texts")
    found = posted(client, "/predict", texts=["Good FILM, good grief", "film"])
    for answer, tokens in zip(found, ([2, 3, 2, 1], [3]), strict=True):
        assert list(answer) == ["probabilities"]
        expected = 1 / (1 + np.exp(-model(tf.constant([tokens])).numpy()[0]))
        assert list(answer["probabilities"]) == ["short", "kind", "new"]
        np.testing.assert_allclose(list(answer["probabilities"].values()), expected, atol=1e-5)
    assert "texts: one has no word in it" in posted(client, "/predict", 422, texts=["?!"])
    stream = f"/streams/{client.post('/streams').json()['id']}"  # takes tokens
    assert posted(client, stream, inputs=[2, 3, 2, 1])[-1]["probabilities"] == pytest.approx(
        found[0]["probabilities"], abs=1e-5)


def test_a_sound_is_sent_as_base64_and_has_no_streams(exported):
    _, loaded, client = exported("wav")
    found, = posted(client, "/predict", wav=[base64.b64encode(WAV).decode()])
    expected = loaded.signatures["serving_default"](wav=tf.constant([WAV]))
    assert found["class"] == expected["class"].numpy()[0].decode()
    np.testing.assert_allclose(list(found["probabilities"].values()), expected["probabilities"][0])
    other = base64.b64encode(tf.audio.encode_wav(tf.zeros([1000, 1]), 44100).numpy()).decode()
    assert "wav: 44100 Hz; the model takes 8000 Hz" in posted(client, "/predict", 422, wav=[other])
    odd = WAV.replace(b"WAVE", b"\xff\xfe\xe9\0"), b"\xff\xfb\x90\0" * 20, b"\0\0\0"
    for content in odd:
        given = base64.b64encode(content).decode()
        assert "wav: no wav file" in posted(client, "/predict", 422, wav=[given])
    odd = base64.b64encode(WAV.replace(b"fmt ", b"\xff\xfe\xe9\xe9")).decode()
    assert posted(client, "/predict", 422, wav=[odd]) == "the model refuses this: a damaged file"
    assert "reads sequences from their end" in posted(client, "/streams", 501)
    assert client.get("/model").json()["front"]["rate"] == 8000


def test_numbers_have_their_unit_and_names_at_every_step(exported):
    model, _, client = exported("forecast")
    inputs = [[0.5, 1.0], [2.0, -1.0]]
    expected = (5 + 2 * model(tf.constant([inputs])).numpy()[0]).reshape([2, 2, 2])
    found, = posted(client, "/predict", inputs=[inputs])
    stream = f"/streams/{client.post('/streams').json()['id']}"
    for outputs in found, posted(client, stream, inputs=inputs):
        for answer, step in zip(outputs, expected, strict=True):
            for values, row in zip(answer["values"], step, strict=True):
                assert list(values) == ["wind", "sun"]
                np.testing.assert_allclose(list(values.values()), row, atol=1e-5)


def serving_tensors(request, signature):
    """The tensors that TensorFlow Serving makes of a request, by the rules of its REST documentation.

    https://www.tensorflow.org/tfx/serving/api_rest: an item of `instances` is an object of all inputs,
    without the batch axis; `inputs` is one object, with it; an object {"b64": text} is a string's bytes.
    """
    assert set(request) <= {"signature_name", "instances", "inputs"}
    specs = signature.structured_input_signature[1]
    if "instances" in request:
        columns = {name: [row[name] for row in request["instances"]] for name in specs}
        assert all(set(row) == set(specs) for row in request["instances"])
    else:
        columns = request["inputs"]
    assert set(columns) == set(specs)

    def decoded(value):
        if isinstance(value, list):
            return [decoded(part) for part in value]
        return base64.b64decode(value["b64"]) if isinstance(value, dict) else value

    return {name: tf.constant(decoded(value), specs[name].dtype) for name, value in columns.items()}


def numbers_of(answer):
    if isinstance(answer, dict | list):
        parts = answer.values() if isinstance(answer, dict) else answer
        return [number for part in parts for number in numbers_of(part)]
    return [answer] if isinstance(answer, float) else []


@pytest.mark.parametrize("name, request_, ours", [
    ("texts", {"instances": [{"texts": "a good film"}, {"texts": "film"}]},
     {"texts": ["a good film", "film"]}),
    ("wav", {"instances": [{"wav": {"b64": base64.b64encode(WAV).decode()}}]},
     {"wav": [base64.b64encode(WAV).decode()]}),
    ("forecast", {"instances": [{"inputs": [[1.0, 2.0], [3.0, 4.0]], "lengths": 2},
                                {"inputs": [[5.0, 6.0], [0.0, 0.0]], "lengths": 1}]},
     {"inputs": [[[1, 2], [3, 4]], [[5, 6]]]}),
    ("forecast", {"inputs": {"inputs": [[[1.0, 2.0], [3.0, 4.0]]], "lengths": [2]}},
     {"inputs": [[[1, 2], [3, 4]]]}),
], ids=["texts", "wav", "rows", "columns"])
def test_tensorflow_serving_gives_what_our_server_gives(name, request_, ours, exported):
    _, loaded, client = exported(name)
    signature = loaded.signatures["serving_default"]
    found = signature(**serving_tensors(json.loads(json.dumps(request_)), signature))
    theirs = found["values" if name == "forecast" else "probabilities"].numpy()
    for row, answer in zip(theirs, posted(client, "/predict", **ours), strict=True):
        numbers = numbers_of(answer)
        np.testing.assert_allclose(numbers, row.ravel()[:len(numbers)], atol=1e-5)  # the rest is padding


def test_the_requests_that_the_readme_shows_are_taken(exported):
    bodies = [json.loads(body) for body in re.findall(r"-d '(\{.*\})'", README)]
    for_serving = [body for body in bodies if "instances" in body]
    assert for_serving and len(bodies) > len(for_serving)
    for body in for_serving:
        name = "texts" if "texts" in body["instances"][0] else "forecast"
        signature = exported(name)[1].signatures["serving_default"]
        assert signature(**serving_tensors(body, signature))
