"""An exported model, loaded by TensorFlow alone: outputs, streams, losses, and what it refuses."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from santm_tf import SANTM
from santm_tf import export as program
from santm_tf.errors import ArgumentError
from santm_tf.export import export
from santm_tf.served import Served
from training import flags, models
from training.checkpoints import best_weights
from training.run import load_task
from training.workdir import Workdir

layers, losses = tf.keras.layers, tf.keras.losses
BATCH, STEPS, FEATURES, TOKENS, OUTPUTS = 3, 12, 2, 9, 4
LENGTHS = np.array([STEPS, 1, 7], np.int32)


def santm(**options):
    return SANTM(**{"units": 4, "memory_slots": 6, "slot_width": 4, "attention_heads": 2, "locality": 1,
                    "mask_period": 5, "access_rate": 0.4, "segment_length": 2, "boundary_penalty": 0,
                    "jit_compile": False, **options})


def compiled(*parts, loss=None):
    model = tf.keras.Sequential(parts)
    model.compile(loss=loss or losses.SparseCategoricalCrossentropy(from_logits=True))
    for i, w in enumerate(model.trainable_weights):  # larger than at first, so that every level tells
        if "scores" not in w.name:
            w.assign(np.random.default_rng(i).normal(0, 0.6, w.shape))
    return model


MODELS = {
    "class": lambda: compiled(
        tf.keras.Input([None, FEATURES]), layers.Masking(-1.0), santm(boundaries="fixed", dropout=0.5),
        layers.Dense(OUTPUTS)),
    "text": lambda: compiled(
        tf.keras.Input([None], dtype=tf.int32), layers.Embedding(TOKENS, 5, mask_zero=True),
        layers.Dropout(0.5), santm(return_sequences=True), layers.GlobalAveragePooling1D(),
        layers.Dense(OUTPUTS)),
    "language": lambda: compiled(
        tf.keras.Input(batch_shape=[BATCH, 5], dtype=tf.int32), layers.Embedding(TOKENS, 5),
        santm(return_sequences=True, stateful=True), layers.Dense(TOKENS)),
    "bits": lambda: compiled(
        tf.keras.Input([None, FEATURES]), layers.Masking(-1.0),
        santm(return_sequences=True, memory="sparse", memory_slots=40), layers.Dense(OUTPUTS),
        loss=losses.BinaryCrossentropy(from_logits=True)),
}
EVERY = pytest.mark.parametrize("name", MODELS)


class Exported:
    """A model and its export, and sequences for both with a padded step inside where it masks such."""

    def __init__(self, name, folder):
        self.name, self.model, self.folder = name, MODELS[name](), str(folder)
        self.facts = export(self.model, self.folder)
        self.loaded = tf.saved_model.load(self.folder)
        rng = np.random.default_rng(0)
        if name in ("class", "bits"):
            self.x = rng.normal(size=[BATCH, STEPS, FEATURES]).astype(np.float32)
            self.x[0, 4] = -1
        else:
            self.x = rng.integers(1, TOKENS, [BATCH, STEPS]).astype(np.int32)
            self.x[0, 4] = 0

    def call(self, name, **given):
        found = self.loaded.signatures[name](**{k: tf.constant(v) for k, v in given.items()})
        return {k: v.numpy() for k, v in found.items()}

    def keras(self, x):
        """What the Keras model gives; of the stateful one for consecutive windows."""
        if self.name != "language":
            return self.model.predict(x, verbose=0)
        self.model.reset_states()
        x = np.pad(x, [(0, BATCH - len(x)), (0, -x.shape[1] % 5)])
        return np.concatenate([self.model(w).numpy() for w in np.split(x, x.shape[1] // 5, 1)], 1)

    def targets(self):
        rng = np.random.default_rng(1)
        if self.name == "bits":
            return rng.integers(0, 2, [BATCH, STEPS, OUTPUTS]).astype(np.float32)
        sequences = [STEPS] * self.facts["return_sequences"]
        return rng.integers(0, self.facts["outputs"], [BATCH, *sequences]).astype(np.int32)

    def weights(self):
        return {"weights": np.random.default_rng(2).random([BATCH, STEPS]).astype(np.float32)} if (
            self.facts["return_sequences"]) else {}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    made = {}

    def of(name):
        if name not in made:
            tf.keras.utils.set_random_seed(0)
            made[name] = Exported(name, tmp_path_factory.mktemp("export") / name)
        return made[name]

    return of


@EVERY
def test_a_sequence_gives_what_it_gives_in_keras_alone(name, exported):
    it = exported(name)
    x = it.x.copy()
    x[1:, 7:] = -7 if x.dtype == np.int32 else np.nan  # what is beyond a length is ignored
    x[1, 1:] = x[2, -1]
    found = it.call("serving_default", inputs=x, lengths=LENGTHS)["outputs"]
    for row, n in enumerate(LENGTHS):
        alone = it.keras(it.x[row:row + 1, :n])[0]
        if it.facts["return_sequences"]:
            np.testing.assert_allclose(found[row, :n], alone[:n], atol=1e-5)
        else:
            np.testing.assert_allclose(found[row], alone, atol=1e-5)


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
    it = exported("class")
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
    it, y = exported(name), exported(name).targets()
    found = it.call("score", inputs=it.x, lengths=LENGTHS, targets=y, **it.weights())["loss"]
    assert found.shape == (BATCH,)
    for row, n in enumerate(LENGTHS):
        x = it.x[row:row + 1, :n]
        weights = it.weights().get("weights")
        if weights is None:
            loss = it.model.evaluate(x, y[row:row + 1], verbose=0)
        elif name == "language":
            loss = it.model.loss(y[row:row + 1, :n], it.keras(x)[:1, :n], weights[row:row + 1, :n])
        else:
            loss = it.model.evaluate(x, y[row:row + 1, :n], sample_weight=weights[row:row + 1, :n], verbose=0)
        np.testing.assert_allclose(found[row], loss, rtol=1e-5)


ALONE = """
import importlib.util, sys
sys.modules["tf_keras"] = sys.modules["santm_tf"] = None  # whoever imports these fails
import numpy as np
import tensorflow as tf
for folder in sys.argv[1:]:
    given = dict(np.load(folder + ".npz"))
    signatures = tf.saved_model.load(folder).signatures
    lengths = given.pop("lengths")
    found = signatures["serving_default"](inputs=tf.constant(given["inputs"]), lengths=tf.constant(lengths))
    state = signatures["initial_state"](batch=tf.constant(len(lengths)))
    step = signatures["step"](inputs=tf.constant(given["inputs"][:, 0]), **state)
    loss = signatures["score"](lengths=tf.constant(lengths), **{k: tf.constant(v) for k, v in given.items()})
    np.savez(folder + "-found.npz", outputs=found["outputs"], first=step["outputs"], loss=loss["loss"])
assert "training" not in sys.modules
"""


def test_loading_needs_tensorflow_alone(exported, tmp_path):
    them = [exported(name) for name in MODELS]
    given = [{"inputs": it.x, "lengths": LENGTHS, "targets": it.targets(), **it.weights()} for it in them]
    for it, arrays in zip(them, given, strict=True):
        np.savez(it.folder + ".npz", **arrays)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "TF_USE"))}
    done = subprocess.run([sys.executable, "-I", "-c", ALONE, *(it.folder for it in them)], cwd=tmp_path,
                          env=environment, capture_output=True, text=True)
    assert not done.returncode, done.stderr[-2000:]
    assert "gradient" not in done.stderr  # which are not in it, and not missed
    for it, arrays in zip(them, given, strict=True):
        found = np.load(it.folder + "-found.npz")
        whole = it.call("serving_default", inputs=it.x, lengths=LENGTHS)["outputs"]
        np.testing.assert_allclose(found["outputs"], whole, atol=1e-5)
        first = it.call("step", inputs=it.x[:, 0], **it.call("initial_state", batch=BATCH))["outputs"]
        np.testing.assert_allclose(found["first"], first, atol=1e-5)
        np.testing.assert_allclose(found["loss"], it.call("score", **arrays)["loss"], rtol=1e-5)


X, Y = np.zeros([2, 3, FEATURES], np.float32), np.zeros([2], np.int32)
N = np.array([3, 2], np.int32)


@pytest.mark.parametrize("signature, given, message", [
    ("serving_default", {"inputs": X[..., :1], "lengths": N}, r"inputs: shape must be \(batch, steps, 2\)"),
    ("serving_default", {"inputs": X[0], "lengths": N}, r"inputs: shape must be \(batch, steps, 2\)"),
    ("serving_default", {"inputs": X, "lengths": N[:1]}, "lengths: shape must be"),
    ("serving_default", {"inputs": X, "lengths": N[:, None]}, "lengths: shape must be"),
    ("serving_default", {"inputs": X, "lengths": N - 2}, "lengths: must be from 1 to the steps of inputs"),
    ("serving_default", {"inputs": X, "lengths": N + 1}, "lengths: must be from 1 to the steps of inputs"),
    ("serving_default", {"inputs": X[:, :0], "lengths": 0 * N}, "lengths: must be from 1"),
    ("serving_default", {"inputs": X + np.float32("nan"), "lengths": N}, "inputs: must be finite numbers"),
    ("serving_default", {"inputs": X / np.float32(0), "lengths": N}, "inputs: must be finite numbers"),
    ("initial_state", {"batch": np.int32(0)}, "batch: must be at least 1"),
    ("score", {"inputs": X, "lengths": N, "targets": Y[:1]}, "targets: shape must be"),
    ("score", {"inputs": X, "lengths": N, "targets": Y + OUTPUTS}, "targets: must be classes from 0 to 3"),
    ("score", {"inputs": X, "lengths": N, "targets": Y - 1}, "targets: must be classes from 0 to 3"),
    ("step", {"inputs": X[:1, 0]}, "state: must have as many rows as inputs"),
    ("step", {"inputs": X[:, 0, :1]}, r"inputs: shape must be \(batch, 2\)"),
    ("step", {"inputs": X[:, 0] * np.float32("nan")}, "inputs: must be finite numbers"),
], ids=str)
@pytest.mark.filterwarnings("ignore:.*encountered")
def test_a_bad_call_says_what_is_wrong(signature, given, message, exported):
    it = exported("class")
    state = it.call("initial_state", batch=2) if signature == "step" else {}
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        it.call(signature, **given, **state)


@pytest.mark.parametrize("signature, given, message", [
    ("serving_default", {"inputs": [[1, TOKENS]], "lengths": [2]}, "inputs: tokens must be from 0 to 8"),
    ("serving_default", {"inputs": [[-1, 1]], "lengths": [2]}, "inputs: tokens must be from 0 to 8"),
    ("score", {"inputs": [[1, 2]], "lengths": [2], "targets": [[1, 2]], "weights": [[1.0, np.nan]]},
     "weights: must be finite"),
    ("score", {"inputs": [[1, 2]], "lengths": [2], "targets": [[1, 2]], "weights": [[1.0]]},
     "weights: shape must be"),
    ("step", {"inputs": [TOKENS]}, "inputs: tokens must be from 0 to 8")], ids=str)
def test_a_bad_call_of_a_language_model_says_what_is_wrong(signature, given, message, exported):
    it = exported("language")
    state = it.call("initial_state", batch=1) if signature == "step" else {}
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        it.call(signature, **given, **state)


def test_a_state_of_another_model_is_refused(exported):
    it, other = exported("class"), MODELS["class"]()
    assert Served(other).fingerprint == it.facts["fingerprint"]  # same weights, other names
    w = other.layers[1].bottom.kernel
    w.assign(w + 1e-6)
    state = {k: v.numpy() for k, v in Served(other).first(2).items()}
    with pytest.raises(tf.errors.InvalidArgumentError, match="model: the state is of another model"):
        it.call("step", inputs=X[:, 0], **state)


def test_what_is_beside_it_describes_it(exported):
    for name in MODELS:
        it = exported(name)
        with open(os.path.join(it.folder, "santm.json")) as file:
            facts = json.load(file)
        assert facts == it.facts
        assert {k: facts[k] for k in ("format", "outputs", "return_sequences", "mask_period", "access_rate")} == {
            "format": 1, "outputs": it.model.output_shape[-1], "mask_period": 5,
            "return_sequences": name in ("language", "bits"), "access_rate": pytest.approx(0.4)}
        size = {"features": FEATURES} if name in ("class", "bits") else {"vocabulary": TOKENS}
        assert size.items() <= facts.items() and ("features" in facts) != ("vocabulary" in facts)


def test_the_model_stays_as_it_was():
    model = MODELS["class"]()
    layer = model.layers[1]
    layer.access.plan_size = 5
    before = [w.numpy() for w in model.weights]
    assert Served(model).layer.access.plan_size == 2
    assert layer.access.plan_size == 5
    for w, v in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(w, v)


def test_a_model_in_half_precision_is_served_in_float32():
    whole = tf.keras.Sequential([tf.keras.Input([STEPS, 3]), santm(), layers.Dense(2)])
    policy = tf.keras.mixed_precision.Policy("mixed_float16")
    half = tf.keras.Sequential([tf.keras.Input([STEPS, 3]), santm(dtype=policy), layers.Dense(2, dtype=policy)])
    half.set_weights(whole.get_weights())
    x = np.random.default_rng(0).normal(size=[2, STEPS, 3]).astype(np.float32)
    found, _ = Served(half).whole(tf.constant(x), tf.ones([2, STEPS], tf.bool))
    np.testing.assert_allclose(found, whole(x), atol=1e-6)


def test_compiled_it_gives_the_same(exported):
    it = exported("class")
    valid = tf.sequence_mask(LENGTHS, 7) & True
    run = tf.function(lambda x, valid: Served(it.model, jit_compile=True).whole(x, valid)[0])
    found = it.call("serving_default", inputs=it.x[:, :7], lengths=np.minimum(LENGTHS, 7))["outputs"]
    np.testing.assert_allclose(run(it.x[:, :7], valid), found, atol=1e-5)


def test_an_export_replaces_an_export_and_nothing_else(tmp_path, monkeypatch):
    model = MODELS["class"]()
    monkeypatch.setattr(program, "signatures", lambda served: {"f": tf.function(lambda: served.weights[0] + 0, [])})
    folder = tmp_path / "deep" / "export"
    for _ in range(2):
        export(model, str(folder))
    kept = sorted(os.listdir(folder))
    assert {"saved_model.pb", "variables", "santm.json"} <= set(kept)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(program, "_facts", fail)
    with pytest.raises(OSError, match="disk full"):
        export(model, str(folder))
    assert sorted(os.listdir(folder)) == kept and os.listdir(tmp_path / "deep") == ["export"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    for there in "mine", "mine/thesis.txt":
        with pytest.raises(ArgumentError, match=f"export_dir=.*{there}"):
            export(model, str(tmp_path / there))
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "all of it"


@pytest.mark.parametrize("make, message", [
    (lambda: tf.keras.Sequential([tf.keras.Input([3, 2]), layers.LSTM(4)]), "one SANTM; use model=santm"),
    (lambda: tf.keras.Sequential([santm()]), "a built tf.keras.Sequential"),
    (lambda: tf.keras.Sequential([tf.keras.Input([3, 2]), layers.Conv1D(2, 1), santm()]), "a Conv1D.*Masking"),
    (lambda: tf.keras.Sequential([tf.keras.Input([3, 2]), santm(), layers.LayerNormalization()]),
     "a LayerNormalization.*Dense"),
    (lambda: tf.keras.Sequential([tf.keras.Input([3, 2]), santm(memory="sparse", search="lsh")]),
     "search='lsh'.*search='auto'"),
])
def test_what_cannot_be_served_is_named_in_one_line(make, message, tmp_path):
    with pytest.raises(ArgumentError, match=message) as error:
        export(make(), str(tmp_path / "export"))
    assert "\n" not in str(error.value) and not os.listdir(tmp_path)


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter")
def test_tensorflow_lite_gives_the_same(tmp_path):
    model = MODELS["text"]()
    export(model, str(tmp_path / "export"), tflite=True)
    lite = tf.lite.Interpreter(str(tmp_path / "export" / "model.tflite"))
    whole, first, step = (lite.get_signature_runner(name) for name in ("serving_default", "initial_state", "step"))
    x = np.random.default_rng(0).integers(1, TOKENS, [1, STEPS]).astype(np.int32)
    for n in (STEPS, 5):
        np.testing.assert_allclose(whole(inputs=x[:, :n])["outputs"], model(x[:, :n]), atol=1e-5)
    state = first()
    for t in range(STEPS):
        state = step(inputs=x[:, t], **state)
        y = state.pop("outputs")
    np.testing.assert_allclose(y, model(x), atol=1e-5)
    with pytest.raises(ArgumentError, match="memory='sparse'"):
        export(MODELS["bits"](), str(tmp_path / "sparse"), tflite=True)


def called(*argv):
    """The program's exit code, 0 if it returns."""
    try:
        program.main(["export", *argv])
    except SystemExit as done:
        return done.code
    return 0


def test_the_program_exports_a_run(tmp_path, fresh_flags, capsys):
    run, folder = f"--workdir={tmp_path / 'run'}", f"--export_dir={tmp_path / 'export'}"
    assert called(run, folder) == 2 and "no flags.cfg there" in capsys.readouterr().err
    flags.parse(["train", run, "--units=4", "--memory_slots=6", "--slot_width=4", "--locality=1",
                 "--nojit_compile"])
    model, workdir = models.compiled(load_task()), Workdir(flags.FLAGS.workdir)
    workdir.open(resume=False)
    best_weights(workdir, model).save()
    flags.forget()
    assert called(run) == 2 and "--export_dir: give a folder" in capsys.readouterr().err
    assert called(run, f"--export_dir={tmp_path}") == 2
    assert "--export_dir=" in capsys.readouterr().err
    flags.forget()
    assert called(run, folder) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["features"] == 1 and facts["outputs"] == 10
    x = np.random.default_rng(0).random([2, 64, 1]).astype(np.float32)
    serve = tf.saved_model.load(str(tmp_path / "export")).signatures["serving_default"]
    found = serve(inputs=tf.constant(x), lengths=tf.constant([64, 64]))["outputs"]
    np.testing.assert_allclose(found, model(x), atol=1e-5)
