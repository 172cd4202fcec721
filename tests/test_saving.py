"""Saved models and weights: in this process, of a process under the other Keras, and of earlier versions."""

import json
import os
import subprocess
import sys
import zipfile

import h5py
import numpy as np
import pytest

from santm_tf import SANTM, Recurrent, load_model
from santm_tf.keras import is_ours, keras, reset_states

L = keras.layers
X = np.random.default_rng(0).random([2, 6, 3]).astype(np.float32)


def santm(**options):
    return SANTM(3, **{"memory_slots": 5, "slot_width": 4, "attention_heads": 2, "locality": 1,
                       "access_rate": 0.5, "jit_compile": False, **options})


def masked():
    return keras.Sequential([keras.Input([6, 3]), L.Masking(), santm(), L.Dense(2)])


def recurrent():
    return keras.Sequential([
        keras.Input([6, 3]), Recurrent(L.LSTMCell(3), return_sequences=True),
        L.LSTM(3, return_sequences=True), L.Bidirectional(Recurrent(L.GRUCell(2), return_sequences=True)),
        L.Bidirectional(santm()), L.Dense(2)])


def stateful():
    layer = santm(stateful=True, controller=L.GRUCell(3))
    return keras.Sequential([keras.Input(batch_shape=[2, 6, 3]), layer])


def functional():
    inputs = keras.Input([6, 3])
    y = santm(return_sequences=True, dtype="mixed_bfloat16")(inputs)
    return keras.Model(inputs, L.Dense(2)(L.Concatenate()([L.LSTM(3)(y), L.GRU(3)(y)])))


MODELS = {"masked": masked, "recurrent": recurrent, "stateful": stateful, "functional": functional}
EVERY = pytest.mark.parametrize("name", MODELS)


def save(name, folder):
    """A model and its optimizer in all formats of one file, and what it gives."""
    keras.utils.set_random_seed(0)
    model = MODELS[name]()
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    np.save(f"{folder}/{name}.npy", model(X))
    model.save_weights(f"{folder}/{name}.weights.h5")
    for end in "keras", "h5":
        model.save(f"{folder}/{name}.{end}")


def assert_gives(model, folder, name):
    reset_states(model)
    np.testing.assert_allclose(model(X), np.load(f"{folder}/{name}.npy"), atol=1e-6)


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder of models of this Keras."""
    folder = tmp_path_factory.mktemp("here")
    for name in MODELS:
        save(name, folder)
    return folder


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A folder of models of the other Keras."""
    folder = tmp_path_factory.mktemp("elsewhere")
    root, legacy = os.path.dirname(os.path.dirname(__file__)), os.environ.get("TF_USE_LEGACY_KERAS") == "1"
    environment = {**os.environ, "PYTHONPATH": root, "TF_USE_LEGACY_KERAS": "0" if legacy else "1"}
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from tests.test_saving import MODELS, save\n"
         "for name in MODELS: save(name, sys.argv[1])", folder],
        cwd=root, env=environment, capture_output=True, text=True)
    assert not done.returncode, done.stderr[-2000:]
    return folder


@EVERY
def test_a_model_is_read_as_it_was_saved(name, here):
    assert_gives(load_model(here / f"{name}.keras"), here, name)


@EVERY
def test_a_legacy_file_is_read_as_it_was_saved(name, here):
    assert_gives(load_model(here / f"{name}.h5", compile=False), here, name)


@EVERY
@pytest.mark.parametrize("compiled", [False, True])
def test_weights_go_from_one_keras_to_the_other(name, compiled, elsewhere):
    model = MODELS[name]()
    if compiled:
        model.compile("adam", "mse")
    model.load_weights(elsewhere / f"{name}.weights.h5")
    assert_gives(model, elsewhere, name)


@EVERY
def test_a_model_of_the_other_keras_is_read_or_a_line_says_what_to_do(name, elsewhere):
    """Keras 3 reads those of Keras 2."""
    if is_ours("3"):
        assert_gives(load_model(elsewhere / f"{name}.keras"), elsewhere, name)
    else:
        refused(elsewhere / f"{name}.keras", r"Keras 2\S* cannot read this model of Keras 3.*save_weights")


def test_a_legacy_file_of_the_other_keras_is_refused_in_a_line(elsewhere):
    refused(elsewhere / "recurrent.h5", r"cannot read this model of Keras.*save_weights")


def refused(path, words):
    with pytest.raises(ValueError, match=words) as error:
        load_model(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 600


@pytest.mark.parametrize("end", ["weights.h5", "keras"])
def test_a_state_that_an_earlier_version_saved_among_the_weights_is_left_out(end, here, tmp_path):
    """It kept the state of a stateful layer in 11 variables of its own."""
    weights = tmp_path / "old.weights.h5"
    if end == "keras":
        with zipfile.ZipFile(here / "stateful.keras") as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        weights.write_bytes(parts["model.weights.h5"])
    else:
        weights.write_bytes((here / "stateful.weights.h5").read_bytes())
    with h5py.File(weights, "a") as file:
        own = file.require_group("layers/santm/vars")
        for n in range(11):
            own[str(n)] = np.full([2, 3], 9.0)
    if end == "keras":
        with zipfile.ZipFile(tmp_path / "old.keras", "w") as archive:
            for name, content in parts.items():
                archive.writestr(name, weights.read_bytes() if name == "model.weights.h5" else content)
        model = load_model(tmp_path / "old.keras")
    else:
        model = stateful()
        model.load_weights(weights)
    assert_gives(model, here, "stateful")


@pytest.mark.parametrize("content", [b"", b"thesis", b"PK\x03\x04", None],
                         ids=["empty", "text", "cut off", "a zip"])
def test_what_is_no_model_is_named(content, tmp_path):
    path = tmp_path / "model.keras"
    if content is None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("thesis.txt", "all of it")
    else:
        path.write_bytes(content)
    refused(path, "not a saved Keras model, or a damaged one")


def test_a_model_that_lost_its_weights_is_named(here, tmp_path):
    with zipfile.ZipFile(here / "masked.keras") as old, zipfile.ZipFile(tmp_path / "m.keras", "w") as new:
        for name in old.namelist():
            new.writestr(name, b"" if name == "model.weights.h5" else old.read(name))
    refused(tmp_path / "m.keras", "not a saved Keras model, or a damaged one")


def test_a_file_that_is_not_there_and_a_folder_that_is_no_model(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_model(tmp_path / "none.keras")
    refused(tmp_path, "not a saved Keras model")
    (tmp_path / "[ab]").mkdir()
    refused(tmp_path / "[ab]", "as a pattern")


def test_a_file_says_which_keras_saved_it(here):
    """What `load_model` goes by."""
    with zipfile.ZipFile(here / "masked.keras") as archive:
        assert json.loads(archive.read("metadata.json"))["keras_version"] == keras.__version__
    with h5py.File(here / "masked.h5") as file:
        assert file.attrs["keras_version"] == keras.__version__
