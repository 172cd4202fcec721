"""An exported model, loaded by TensorFlow alone: outputs, streams, losses, and what it refuses."""

import json
import os
import subprocess
import sys

import made_run
import numpy as np
import pytest
import tensorflow as tf

from santm_tf import SANTM, paths
from santm_tf import export as package
from santm_tf.errors import ArgumentError
from santm_tf.export import export, saved_model
from santm_tf.export.serving_model import ServingModel
from santm_tf.export.signatures import signatures
from santm_tf.keras import keras, reset_states
from santm_tf.training import commands
from tests.programs import code_of, refused

layers, losses = keras.layers, keras.losses
BATCH, STEPS, FEATURES, TOKENS, OUTPUTS = 3, 12, 2, 9, 4
LENGTHS = np.array([STEPS, 1, 7], np.int32)


def santm(**options):
    return SANTM(**{"units": 4, "memory_slots": 6, "slot_width": 4, "attention_heads": 2, "locality": 1,
                    "mask_period": 5, "access_rate": 0.4, "segment_length": 2, "boundary_penalty": 0,
                    "jit_compile": False, **options})


def made(*parts, loss=None):
    model = keras.Sequential(parts)
    if loss is not None:
        model.compile(loss=loss)
    for i, w in enumerate(model.trainable_weights):  # larger than at first, so that every level tells
        if "scores" not in w.name:
            w.assign(np.random.default_rng(i).normal(0, 0.6, w.shape))
    return model


MODELS = {
    "bits": lambda: made(
        keras.Input([None, FEATURES]), layers.Masking(-1.0),
        santm(boundaries="fixed", dropout=0.5, return_sequences=True), layers.Dense(OUTPUTS),
        loss="mse"),
    "text": lambda: made(
        keras.Input([None], dtype=tf.int32), layers.Embedding(TOKENS, 5, mask_zero=True),
        layers.Dropout(0.5), santm(return_sequences=True), layers.GlobalAveragePooling1D(),
        layers.Dense(OUTPUTS), loss=losses.SparseCategoricalCrossentropy(from_logits=True)),
    "language": lambda: made(
        keras.Input(batch_shape=[BATCH, 5], dtype=tf.int32), layers.Embedding(TOKENS, 5),
        santm(return_sequences=True, stateful=True), layers.Dense(TOKENS),
        loss=losses.SparseCategoricalCrossentropy(from_logits=True)),
}
EVERY = pytest.mark.parametrize("name", MODELS)


class Exported:
    """A model and its export, and sequences for both, with a padded step inside where it masks such."""

    def __init__(self, name, folder):
        self.name, self.model, self.folder = name, MODELS[name](), str(folder)
        self.facts = export(self.model, self.folder, tflite=name == "text")
        self.loaded = tf.saved_model.load(self.folder)
        rng = np.random.default_rng(0)
        if "features" in self.facts:
            self.x = rng.normal(size=[BATCH, STEPS, FEATURES]).astype(np.float32)
            self.x[0, 4] = -1
        else:
            self.x = rng.integers(1, TOKENS, [BATCH, STEPS]).astype(np.int32)
            self.x[0, 4] = 0

    def call(self, name, **given):
        found = self.loaded.signatures[name](**{k: tf.constant(v) for k, v in given.items()})
        return {k: v.numpy() for k, v in found.items()}

    def keras(self, x):
        """What the Keras model gives; of the stateful one for windows that follow each other."""
        if self.name != "language":
            return self.model(x)
        reset_states(self.model)
        steps = x.shape[1]
        x = np.pad(x, [(0, BATCH - len(x)), (0, -steps % 5)])
        return tf.concat([self.model(w) for w in np.split(x, x.shape[1] // 5, 1)], 1)[:1, :steps]

    def targets(self):
        """What `score` takes beside the sequences."""
        rng = np.random.default_rng(1)
        if self.name == "text":
            return {"targets": rng.integers(0, OUTPUTS, [BATCH]).astype(np.int32)}
        targets = (rng.integers(0, 2, [BATCH, STEPS, OUTPUTS]).astype(np.float32) if self.name == "bits"
                   else rng.integers(0, TOKENS, [BATCH, STEPS]).astype(np.int32))
        return {"targets": targets, "weights": rng.random([BATCH, STEPS]).astype(np.float32)}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    done = {}

    def of(name):
        if name not in done:
            done[name] = Exported(name, tmp_path_factory.mktemp("export") / name)
        return done[name]

    return of


@EVERY
def test_a_sequence_gives_what_it_gives_in_keras_alone(name, exported):
    it = exported(name)
    x = it.x.copy()
    for row, n in enumerate(LENGTHS):
        x[row, n:] = -7 if x.dtype == np.int32 else np.nan  # is ignored
    found = it.call("serving_default", inputs=x, lengths=LENGTHS)["outputs"]
    for row, n in enumerate(LENGTHS):
        alone = it.keras(it.x[row:row + 1, :n])[0]
        ours = found[row, :n] if it.facts["return_sequences"] else found[row]
        np.testing.assert_allclose(ours, alone, atol=1e-5)


@EVERY
def test_a_stream_gives_at_every_step_what_the_sequence_gives(name, exported):
    it = exported(name)
    whole = it.call("serving_default", inputs=it.x, lengths=np.full([BATCH], STEPS, np.int32))["outputs"]
    state = it.call("initial_state", batch=BATCH)
    assert {k: [list(v.shape[1:]), v.dtype.name] for k, v in state.items()} == {
        k: [v["shape"][1:], v["dtype"]] for k, v in it.facts["state"].items()}
    for t in range(STEPS):
        state = it.call("step", inputs=it.x[:, t], **state)
        y = state.pop("outputs")
        if it.facts["return_sequences"]:
            np.testing.assert_allclose(y, whole[:, t], atol=1e-5)
        elif t in (0, 4, 6):
            until = it.call("serving_default", inputs=it.x, lengths=np.full([BATCH], t + 1, np.int32))
            np.testing.assert_allclose(y, until["outputs"], atol=1e-5)
    if not it.facts["return_sequences"]:
        np.testing.assert_allclose(y, whole, atol=1e-5)


def test_streams_of_different_ages_run_together(exported):
    it = exported("bits")
    old = it.call("initial_state", batch=1)
    for t in range(4):
        old = it.call("step", inputs=it.x[1:2, t], **old)
        old.pop("outputs")
    new = it.call("initial_state", batch=1)
    both = {k: np.concatenate([old[k], new[k]]) for k in old}
    together = it.call("step", inputs=np.stack([it.x[1, 4], it.x[2, 0]]), **both)
    for row, (x, state) in enumerate([(it.x[1:2, 4], old), (it.x[2:, 0], new)]):
        alone = it.call("step", inputs=x, **state)
        for k, v in together.items():
            np.testing.assert_allclose(v[row], alone[k][0], atol=1e-6)


@EVERY
def test_a_score_is_keras_loss_on_the_sequence_alone(name, exported):
    it, given = exported(name), exported(name).targets()
    found = it.call("score", inputs=it.x, lengths=LENGTHS, **given)["loss"]
    assert found.shape == (BATCH,)
    for row, n in enumerate(LENGTHS):
        y, *weights = (tf.constant(v[row:row + 1] if name == "text" else v[row:row + 1, :n])
                       for v in given.values())
        loss = it.model.compute_loss(None, y, it.keras(it.x[row:row + 1, :n]), *weights)
        np.testing.assert_allclose(found[row], loss, rtol=1e-5)


@pytest.mark.parametrize("reduction", ["sum", "sum_over_batch_size", "mean_with_sample_weight"])
def test_a_score_reduces_as_the_loss_does(reduction):
    try:
        loss = losses.MeanSquaredError(reduction=reduction)
    except ValueError:
        pytest.skip("this Keras has no such reduction")
    model = made(keras.Input([None, FEATURES]), santm(return_sequences=True), layers.Dense(2), loss=loss)
    x, y, weights = (np.random.default_rng(0).random(shape).astype(np.float32)
                     for shape in ([BATCH, 7, FEATURES], [BATCH, 7, 2], [BATCH, 7]))
    found = ServingModel(model).score(x, tf.sequence_mask([7, 1, 4]), y, weights)
    for row, n in enumerate((7, 1, 4)):
        alone = slice(row, row + 1), slice(n)
        theirs = model.compute_loss(None, tf.constant(y[alone]), model(x[alone]), tf.constant(weights[alone]))
        np.testing.assert_allclose(found[row], theirs, rtol=1e-5)


def test_a_sparse_memory_is_served():
    model = made(keras.Input([None, FEATURES]), santm(memory="sparse", memory_slots=40, recall="read"),
                 layers.Dense(OUTPUTS))
    x = np.random.default_rng(0).normal(size=[BATCH, STEPS, FEATURES]).astype(np.float32)
    functions = signatures(ServingModel(model))
    assert set(functions) == {"serving_default", "initial_state", "step"}  # it was not compiled
    found = functions["serving_default"]({"inputs": x, "lengths": LENGTHS})["outputs"]
    for row, n in enumerate(LENGTHS):
        np.testing.assert_allclose(found[row], model(x[row:row + 1, :n])[0], atol=1e-5)


ALONE = """
import sys
sys.modules["keras"] = sys.modules["tf_keras"] = sys.modules["santm_tf"] = None  # whoever imports these fails
import numpy as np
import tensorflow as tf
folder = sys.argv[1]
given = {k: tf.constant(v) for k, v in np.load(folder + ".npz").items()}
signatures = tf.saved_model.load(folder).signatures
found = signatures["serving_default"](**given)
state = signatures["initial_state"](batch=tf.shape(given["lengths"])[0])
step = signatures["step"](inputs=given["inputs"][:, 0], **state)
np.savez(folder + "-found.npz", outputs=found["outputs"], first=step["outputs"])
"""


def test_loading_needs_tensorflow_alone(exported, tmp_path):
    it = exported("text")
    np.savez(it.folder + ".npz", inputs=it.x, lengths=LENGTHS)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "TF_USE"))}
    done = subprocess.run([sys.executable, "-I", "-c", ALONE, it.folder], cwd=tmp_path, env=environment,
                          capture_output=True, text=True)
    assert not done.returncode, done.stderr[-2000:]
    assert "gradient" not in done.stderr  # which are not in it, and not missed
    found = np.load(it.folder + "-found.npz")
    for row, n in enumerate(LENGTHS):
        np.testing.assert_allclose(found["outputs"][row], it.keras(it.x[row:row + 1, :n])[0], atol=1e-5)
    np.testing.assert_allclose(found["first"], it.keras(it.x[:, :1]), atol=1e-5)


X, T, N = np.zeros([2, 3, FEATURES], np.float32), np.ones([2, 3], np.int32), np.array([3, 2], np.int32)
Y, W, NAN = np.zeros([2, 3, OUTPUTS], np.float32), np.ones([2, 3], np.float32), np.float32("nan")
BITS, WORDS = {"inputs": X, "lengths": N}, {"inputs": T, "lengths": N}


@pytest.mark.parametrize("name, signature, given, message", [
    ("bits", "serving_default", {**BITS, "inputs": X[..., :1]}, r"inputs: shape must be \(batch, steps, 2\)"),
    ("bits", "serving_default", {**BITS, "inputs": X[0]}, r"inputs: shape must be \(batch, steps, 2\)"),
    ("bits", "serving_default", {**BITS, "lengths": N[:1]}, "lengths: shape must be"),
    ("bits", "serving_default", {**BITS, "lengths": N[:, None]}, "lengths: shape must be"),
    ("bits", "serving_default", {**BITS, "lengths": N - 2}, "lengths: must be from 1 to the steps"),
    ("bits", "serving_default", {**BITS, "lengths": N + 1}, "lengths: must be from 1 to the steps"),
    ("bits", "serving_default", {"inputs": X[:, :0], "lengths": 0 * N}, "lengths: must be from 1"),
    ("bits", "serving_default", {**BITS, "inputs": X + NAN}, "inputs: must be finite numbers"),
    ("bits", "serving_default", {**BITS, "inputs": X - np.float32("inf")}, "inputs: must be finite"),
    ("text", "serving_default", {**WORDS, "inputs": T + 8}, "inputs: tokens must be from 0 to 8"),
    ("text", "serving_default", {**WORDS, "inputs": T - 2}, "inputs: tokens must be from 0 to 8"),
    ("bits", "initial_state", {"batch": np.int32(0)}, "batch: must be at least 1"),
    ("bits", "initial_state", {"batch": np.int32(2**31 - 1)}, "batch: must be at most [0-9]+, whose states"),
    ("bits", "step", {"inputs": X[:1, 0]}, "state: must have as many rows as inputs"),
    ("bits", "step", {"inputs": X[:, 0, :1]}, r"inputs: shape must be \(batch, 2\)"),
    ("bits", "step", {"inputs": X[:, 0] * NAN}, "inputs: must be finite numbers"),
    ("text", "step", {"inputs": T[:, 0] + 8}, "inputs: tokens must be from 0 to 8"),
    ("text", "score", {**WORDS, "targets": T[:1, 0]}, "targets: shape must be"),
    ("text", "score", {**WORDS, "targets": T[:, 0] + 3}, "targets: must be classes from 0 to 3"),
    ("text", "score", {**WORDS, "targets": T[:, 0] - 2}, "targets: must be classes from 0 to 3"),
    ("bits", "score", {**BITS, "targets": Y * NAN, "weights": W}, "targets: must be finite"),
    ("bits", "score", {**BITS, "targets": Y[..., 1:], "weights": W}, "targets: shape must be"),
    ("bits", "score", {**BITS, "targets": Y, "weights": W * NAN}, "weights: must be finite"),
    ("bits", "score", {**BITS, "targets": Y, "weights": W[:, 1:]}, "weights: shape must be"),
], ids=str)
def test_a_bad_call_says_what_is_wrong(name, signature, given, message, exported):
    it = exported(name)
    state = it.call("initial_state", batch=2) if signature == "step" else {}
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        it.call(signature, **given, **state)


def test_a_state_of_another_model_is_refused(exported):
    it, other = exported("bits"), MODELS["bits"]()
    assert ServingModel(other).fingerprint == it.facts["fingerprint"]  # same weights, other names
    w = other.layers[1].bottom.kernel
    w.assign(w + 1e-6)
    state = {k: v.numpy() for k, v in ServingModel(other).first(2).items()}
    with pytest.raises(tf.errors.InvalidArgumentError, match="model: the state is of another model"):
        it.call("step", inputs=X[:, 0], **state)


def test_every_tensor_of_a_state_is_checked(exported):
    it = exported("bits")
    state = it.call("initial_state", batch=2)
    assert "model" in state and len(state) > 5
    for name, v in state.items():
        odd = [(v[..., None], "shape must be"), (v[..., 0], "shape must be")]
        if v.dtype.kind == "f":
            last = np.arange(v.size).reshape(v.shape) == v.size - 1
            odd += [(np.where(last, number, v), "must be finite numbers") for number in (NAN, -np.inf)]
        for given, message in odd:
            with pytest.raises(tf.errors.InvalidArgumentError, match=f"{name}: {message}"):
                it.call("step", inputs=X[:, 0], **{**state, name: np.asarray(given, v.dtype)})


def test_what_is_beside_it_describes_it(exported):
    for name in MODELS:
        it = exported(name)
        with open(os.path.join(it.folder, "santm.json")) as file:
            facts = json.load(file)
        assert facts == it.facts
        size = {"features": FEATURES} if name == "bits" else {"vocabulary": TOKENS}
        dtype, row = ("float32", [None]) if name == "bits" else ("int32", [])
        del facts["state"], facts["fingerprint"]
        assert facts == {"format": 2, **size, "mask_period": 5, "access_rate": pytest.approx(0.4),
                         "inputs": {"inputs": {"shape": [None, None, *row], "dtype": dtype},
                                    "lengths": {"shape": [None], "dtype": "int32"}},
                         "step_inputs": {"inputs": {"shape": [None, *row], "dtype": dtype}},
                         "outputs": {"kind": "logits", "width": it.model.output_shape[-1]},
                         "return_sequences": name in ("bits", "language"), "streams": "yes"}


def test_the_model_stays_as_it_was():
    model = MODELS["bits"]()
    layer = model.layers[1]
    layer.access.plan_size = 5
    before = [w.numpy() for w in model.weights]
    copy, = (v for v in ServingModel(model).layers if isinstance(v, SANTM))
    assert copy.access.plan_size == 2
    assert layer.access.plan_size == 5
    for w, v in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(w, v)


def test_a_model_in_half_precision_is_served_in_float32():
    def model(policy):
        return keras.Sequential([keras.Input([STEPS, 3]), santm(dtype=policy),
                                    layers.Dense(2, dtype=policy)])

    whole, half = map(model, ("float32", "mixed_float16"))
    half.set_weights(whole.get_weights())
    x = tf.constant(np.random.default_rng(0).normal(size=[2, STEPS, 3]), tf.float32)
    found, _ = ServingModel(half).whole(x, tf.ones([2, STEPS], tf.bool))
    np.testing.assert_allclose(found, whole(x), atol=1e-6)


def test_compiled_it_gives_the_same():
    model = made(keras.Input([None, FEATURES]), santm(return_sequences=True, recall="read"))
    x = tf.constant(np.random.default_rng(0).normal(size=[3, 7, FEATURES]), tf.float32)
    plain, fast = (ServingModel(model, jit).whole(x, tf.sequence_mask([7, 1, 4]))[0] for jit in (False, True))
    np.testing.assert_allclose(fast, plain, atol=1e-5)


def test_an_export_replaces_an_export_and_nothing_else(tmp_path, monkeypatch):
    model = MODELS["bits"]()
    monkeypatch.setattr(saved_model, "signatures",
                        lambda served, *_: {"first": tf.function(lambda: served.weights[0] + 0, [])})
    folder = tmp_path / "deep" / "export"
    for _ in range(2):
        export(model, str(folder))
    kept = sorted(os.listdir(folder))
    assert {"saved_model.pb", "variables", "santm.json"} <= set(kept)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(saved_model, "_facts", fail)
    with pytest.raises(OSError, match="disk full"):
        export(model, str(folder))
    assert sorted(os.listdir(folder)) == kept and os.listdir(tmp_path / "deep") == ["export"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    for there in "mine", "mine/thesis.txt":
        with pytest.raises(ArgumentError, match=f"export_dir=.*{there}"):
            export(model, str(tmp_path / there))
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "all of it"


@pytest.fixture(scope="module")
def quickly():
    """Exports a model by a signature that takes no time to trace."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saved_model, "signatures",
                      lambda served, *_: {"first": tf.function(lambda: served.weights[0] + 0, [])})
        model = MODELS["bits"]()
        yield lambda folder: export(model, str(folder))


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["thesis.txt", "variables/mine.bin", "assets/words.txt", "notes/",
                                  "variables/v/", ".hidden", "model.tflite.bak"])
def test_a_file_beside_an_export_is_kept_and_named(name, quickly, tmp_path):
    folder = tmp_path / "export"
    quickly(folder)
    if name.endswith("/"):
        (folder / name).mkdir()
    else:
        (folder / name).write_text("mine")
    before = files(folder)
    with pytest.raises(ArgumentError, match=rf"{folder}: holds something else.*\({name.rstrip('/')}\)"):
        quickly(folder)
    assert files(folder) == before and os.path.exists(folder / name) and os.listdir(tmp_path) == ["export"]


@pytest.mark.parametrize("content", ["", "{}", "[]", "3", '{"format": "A4"}', '{"name": "santm"}'])
def test_a_santm_json_of_something_else_makes_no_export(content, quickly, tmp_path):
    (tmp_path / "santm.json").write_text(content)
    with pytest.raises(ArgumentError, match=r"\(santm.json\); name another folder"):
        quickly(tmp_path)
    assert files(tmp_path) == {"santm.json": content.encode()}


def test_another_saved_model_is_no_export(quickly, tmp_path):
    tf.saved_model.save(tf.Module(), str(tmp_path / "other"))
    before = files(tmp_path)
    with pytest.raises(ArgumentError, match="holds something else"):
        quickly(tmp_path / "other")
    assert files(tmp_path) == before


def test_a_file_that_comes_while_the_export_is_made_is_kept(quickly, tmp_path, monkeypatch):
    folder, facts = tmp_path / "export", saved_model._facts
    quickly(folder)

    def slow(*given):
        (folder / "thesis.txt").write_text("mine")
        return facts(*given)

    monkeypatch.setattr(saved_model, "_facts", slow)
    with pytest.raises(ArgumentError, match="thesis.txt"):
        quickly(folder)
    assert (folder / "thesis.txt").read_text() == "mine" and os.listdir(tmp_path) == ["export"]


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_a_link(there, quickly, tmp_path):
    (tmp_path / "far").mkdir()
    target, link = tmp_path / "far" / "v3", tmp_path / "current"
    if there:
        quickly(target)
        (target / "saved_model.pb").write_bytes(b"old")
    link.symlink_to(os.path.join("far", "v3"))
    quickly(link)
    assert link.is_symlink() and os.readlink(link) == "far/v3" and not target.is_symlink()
    assert len(files(target)["saved_model.pb"]) > 3 and set(files(link)) == set(files(target))
    assert sorted(os.listdir(tmp_path)) == ["current", "far"] and os.listdir(tmp_path / "far") == ["v3"]


def test_a_link_inside_an_export_is_not_the_exports(quickly, tmp_path):
    folder = tmp_path / "export"
    quickly(folder)
    os.rename(folder / "variables", tmp_path / "disk")
    (folder / "variables").symlink_to(tmp_path / "disk")
    with pytest.raises(ArgumentError, match=r"\(variables\)"):
        quickly(folder)
    assert (folder / "variables").is_symlink() and len(os.listdir(tmp_path / "disk")) == 2


def test_an_export_that_cannot_take_its_place_leaves_the_one_before(quickly, tmp_path, monkeypatch):
    folder, rename = tmp_path / "export", os.rename
    quickly(folder)
    before = files(folder)

    def fail(source, target):
        if os.path.basename(source) == "new":
            raise PermissionError("no")
        rename(source, target)

    monkeypatch.setattr(paths, "_exchanged", lambda *_: False)  # as where the system cannot
    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(PermissionError):
        quickly(folder)
    assert files(folder) == before and os.listdir(tmp_path) == ["export"]


def test_an_export_writes_where_the_current_folder_is_named_like_a_pattern(quickly, tmp_path, monkeypatch):
    (tmp_path / "[ab]*").mkdir()
    monkeypatch.chdir(tmp_path / "[ab]*")
    for _ in range(2):
        quickly("export")
    assert tf.saved_model.load("export").signatures["first"] is not None


def test_a_folder_with_something_else_is_refused_before_the_training(tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    line = refused(capsys, commands.train, f"--workdir={tmp_path}/run", f"--export_dir={tmp_path}/mine")
    assert f"--export_dir={tmp_path}/mine: holds something else" in line and os.listdir(tmp_path) == ["mine"]


@pytest.mark.parametrize("make, message", [
    (santm, "takes a built Keras model"),
    (lambda: keras.Sequential([santm()]), "takes a built Keras model"),
    (lambda: keras.Sequential([keras.Input([4, 3, 2]), layers.Flatten()]), r"sequences \[B, T, d\]"),
    (lambda: keras.Sequential([keras.Input([4]), layers.Dense(2)]), r"sequences \[B, T, d\]"),
    (lambda: keras.Model(two := [keras.Input([None, 2]), keras.Input([None, 2])], layers.Add()(two)),
     "has 2 inputs and 1 outputs"),
])
def test_what_cannot_be_served_is_named_in_one_line(make, message, tmp_path):
    with pytest.raises(ArgumentError, match=message) as error:
        export(make(), str(tmp_path / "export"))
    assert "\n" not in str(error.value) and not os.listdir(tmp_path)


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter")
def test_tensorflow_lite_gives_the_same(exported, tmp_path):
    it = exported("text")
    lite = tf.lite.Interpreter(os.path.join(it.folder, "model.tflite"))
    whole, first, step = map(lite.get_signature_runner, ("serving_default", "initial_state", "step"))
    for n in (STEPS, 5):
        np.testing.assert_allclose(whole(inputs=it.x[:1, :n])["outputs"], it.model(it.x[:1, :n]), atol=1e-5)
    state = first()
    for t in range(STEPS):
        state = step(inputs=it.x[:1, t], **state)
        y = state.pop("outputs")
    np.testing.assert_allclose(y, it.model(it.x[:1]), atol=1e-5)
    with pytest.raises(ArgumentError, match="TensorFlow Lite has no operations for this memory"):
        export(made(keras.Input([3, 2]), santm(memory="sparse")), str(tmp_path / "sparse"), tflite=True)


def test_an_export_has_no_products_of_tf_sparse():
    """TensorFlow Lite has none, nor XLA, by which one may be compiled that serves it."""
    model = made(keras.Input([3, FEATURES]), santm(memory_slots=200, locality=8))
    served = signatures(ServingModel(model))
    plain = tf.function(model, autograph=False).get_concrete_function(tf.TensorSpec([None, 3, FEATURES]))
    assert "SparseTensorDenseMatMul" in str(plain.graph.as_graph_def())
    for name in "serving_default", "step":
        graph = served[name].get_concrete_function().graph.as_graph_def()
        assert "SparseTensorDenseMatMul" not in str(graph)


def test_the_program_exports_the_best_weights_of_a_run(tmp_path, capsys, monkeypatch):
    workdir, folder = f"--workdir={tmp_path / 'run'}", f"--export_dir={tmp_path / 'export'}"
    assert code_of(commands.export, workdir, folder) == 2 and "no flags.cfg there" in capsys.readouterr().err
    _, _, model = made_run.make(tmp_path / "run")
    assert code_of(commands.export, workdir) == 2 and "--export_dir: give a folder" in capsys.readouterr().err
    assert code_of(commands.export, workdir, f"--export_dir={tmp_path}") == 2
    assert f"error: --export_dir={tmp_path}: holds something else" in capsys.readouterr().err
    given = []
    monkeypatch.setattr(package, "export", lambda *arguments: given.append(arguments) or {"outputs": 10})
    assert code_of(commands.export, workdir, folder, "--tflite") == 0
    assert json.loads(capsys.readouterr().out) == {"outputs": 10}
    exported, *rest = given[0]
    assert rest[:4] == [str(tmp_path / "export"), False, True, None]
    assert rest[4].kind == "class" and rest[4].names == [str(n) for n in range(10)]
    for ours, theirs in zip(exported.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
