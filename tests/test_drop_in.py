"""SANTM and Recurrent where a Keras layer would be, each beside what Keras' own LSTM does there."""

import contextlib
import copy
import functools
import pickle
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from santm_tf import (
    SANTM,
    AccessMask,
    AdaptiveAccess,
    ChebAttention,
    HardConcreteMask,
    L0Projection,
    Recurrent,
    load_model,
)
from santm_tf.keras import keras, reset_states
from tests.helpers import in_keras_3_alone, random

UNITS, STEPS = 4, 6
SMALL = {"memory_slots": 6, "slot_width": 4, "attention_heads": 2, "locality": 1, "access_rate": 0.5,
         "segment_length": 2, "seed": 0}


def santm(jit_compile=False, **options):
    return SANTM(UNITS, **{**SMALL, "jit_compile": jit_compile, **options})


def recurrent(jit_compile=False, **options):
    cell = keras.layers.LSTMCell(UNITS, dtype=options.get("dtype"))  # of one precision, as Keras 2 asks
    return Recurrent(cell, jit_compile=jit_compile, **options)


def lstm(jit_compile=None, **options):
    return keras.layers.LSTM(UNITS, **options)


def small(make, **options):
    """Less to trace and compile, where a SANTM's recall is not the point."""
    return make(**({"recall": "read"} if make is santm else {}), **options)


LAYERS = {"SANTM": santm, "Recurrent": recurrent, "Keras' LSTM": lstm}
OURS = {name: make for name, make in LAYERS.items() if make is not lstm}
every = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
ours = pytest.mark.parametrize("make", OURS.values(), ids=OURS)


def data(batch=6, steps=STEPS):
    return random(batch, steps, 2).astype(np.float32)


def model_of(layer, steps=STEPS, batch=None):
    return keras.Sequential([keras.Input([steps, 2], batch_size=batch), layer, keras.layers.Dense(1)])


def weights_changed_by(model, x, y, **fit):
    before = model.get_weights()
    model.fit(x, y, verbose=0, **fit)
    return [np.any(a != b) for a, b in zip(before, model.get_weights(), strict=True)]


class Within(keras.layers.Layer):
    """A user's layer around another."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def build(self, input_shape):
        if not self.layer.built:
            self.layer.build(input_shape)
        super().build(input_shape)

    def call(self, inputs, training=None):
        return self.layer(inputs, training=training)

    def compute_output_shape(self, input_shape):
        return self.layer.compute_output_shape(input_shape)


class Subclassed(keras.Model):
    def __init__(self, layer):
        super().__init__()
        self.layer, self.dense = layer, keras.layers.Dense(1)

    def call(self, inputs, training=None):
        return self.dense(self.layer(inputs, training=training))


class OwnStep(Subclassed):
    """A model with a `train_step` of its own."""

    def train_step(self, batch):
        x, y = batch
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self(x, training=True) - y) ** 2)
        weights = self.trainable_weights
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return {"loss": loss}


MODELS = {"sequential": lambda layer: model_of(layer, 4),
          "within a layer": lambda layer: model_of(Within(layer), 4),
          "subclassed": Subclassed, "own train_step": OwnStep}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
@every
def test_every_weight_trains_wherever_the_layer_is(make, model):
    # The graph of a SANTM takes seconds to trace.
    eagerly = make is santm and model is not MODELS["within a layer"]
    model, x = model(make()), data(steps=4)
    model.compile("adam", "mse", run_eagerly=eagerly)
    model(x)
    trainable = {id(w) for w in model.trainable_weights}
    changed = weights_changed_by(model, x, x[:, 0, :1], epochs=2, batch_size=6)
    assert all(yes for w, yes in zip(model.weights, changed, strict=True) if id(w) in trainable)


@functools.cache
def learned(make, **options):
    """The losses and the weights after four steps of a model compiled with some options."""
    keras.utils.set_random_seed(0)
    x, model = data(8, 4), model_of(small(make), steps=4)
    model.compile(keras.optimizers.SGD(0.1), "mse", **options)
    history = model.fit(x, x[:, 0, :1], batch_size=4, epochs=2, shuffle=False, verbose=0).history
    return [*history["loss"], *model.get_weights()]


@pytest.mark.parametrize("options", [
    {"run_eagerly": True}, {"steps_per_execution": 2}, {"jit_compile": True}], ids=str)
@every
def test_every_way_to_compile_a_model_learns_the_same(make, options):
    for a, b in zip(learned(make), learned(make, **options), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


@every
def test_class_and_sample_weights_partial_batches_and_several_outputs(make):
    x, labels = data(7), np.arange(7) % 2
    inputs = {"a": keras.Input([STEPS, 2], name="a"), "b": keras.Input([STEPS, 2], name="b")}
    joined = keras.layers.Concatenate()([make()(inputs["a"]), make()(inputs["b"])])
    model = keras.Model(inputs, {"class": keras.layers.Dense(2, name="class")(joined),
                                 "value": keras.layers.Dense(1, name="value")(joined)})
    model.compile("sgd", {"class": keras.losses.SparseCategoricalCrossentropy(True), "value": "mse"})
    targets = {"class": labels, "value": x[:, 0, :1]}
    logs = model.fit({"a": x, "b": x}, targets, batch_size=4, verbose=0).history
    assert np.isfinite(logs["loss"]).all()
    single = keras.Sequential([keras.Input([STEPS, 2]), make(), keras.layers.Dense(2)])
    single.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True), run_eagerly=True)
    nothing = single.get_weights()
    single.fit(x, labels, class_weight={0: 0.0, 1: 0.0}, batch_size=7, verbose=0)
    single.fit(x, labels, sample_weight=np.zeros(7), batch_size=7, verbose=0)
    moved = [np.abs(a - b).max() for a, b in zip(nothing, single.get_weights(), strict=True)]
    assert max(moved[-2:]) == 0  # the dense layer; a SANTM has a loss of its own, on its boundaries


@ours  # Keras 3's LSTM fails
def test_a_batch_without_rows_has_an_output_without(make):
    layer = make()
    layer(data())
    assert tuple(layer(tf.zeros([0, STEPS, 2])).shape) == (0, UNITS)


@every
def test_it_is_one_of_many_copies(make):
    x, model = data(), model_of(make())
    y = model.predict(x, verbose=0)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    for copied in (clone, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_allclose(copied.predict(x, verbose=0), y, atol=1e-6)


@every
def test_weights_go_by_file_to_a_model_made_anew(make, tmp_path):
    x, model, other = data(), model_of(make()), model_of(make())
    model.save_weights(tmp_path / "kept.weights.h5")
    other.load_weights(tmp_path / "kept.weights.h5")
    model.save(tmp_path / "model.keras")
    for again in (other, load_model(tmp_path / "model.keras")):
        np.testing.assert_allclose(again(x), model(x), atol=1e-6)


@pytest.mark.parametrize("merge_mode", ["concat", "sum", None])
@pytest.mark.parametrize("sequences", [False, True])
@every
def test_bidirectional(make, sequences, merge_mode):
    layer = keras.layers.Bidirectional(make(return_sequences=sequences), merge_mode=merge_mode)
    x = data()
    y = layer(x)
    forward, backward = layer.forward_layer(x), layer.backward_layer(x)
    backward = tf.reverse(backward, [1]) if sequences else backward
    wanted = {"concat": lambda: tf.concat([forward, backward], -1), "sum": lambda: forward + backward,
              None: lambda: [forward, backward]}[merge_mode]()
    for a, b in zip(tf.nest.flatten(y), tf.nest.flatten(wanted), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@every
def test_go_backwards_reads_the_sequence_from_its_end(make):
    layer, x = make(return_sequences=True), data()
    layer(x)
    back = type(layer).from_config({**layer.get_config(), "go_backwards": True})
    back(x)
    back.set_weights(layer.get_weights())
    np.testing.assert_allclose(back(x), layer(x[:, ::-1]), atol=1e-6)


@every
def test_time_distributed(make):
    x = data(3)[:, None] + np.zeros([1, 2, 1, 1], np.float32)
    layer = keras.layers.TimeDistributed(make())
    np.testing.assert_allclose(layer(x)[:, 1], layer(x)[:, 0], atol=1e-6)
    np.testing.assert_allclose(layer(x)[:, 0], layer.layer(x[:, 0]), atol=1e-6)


@pytest.mark.parametrize("boundaries", ["learned", "fixed"])
def test_padding_changes_nothing_wherever_it_is(boundaries):
    """Keras' `pad_sequences` pads before the sequence."""
    layer = santm(boundaries=boundaries, mask_period=3, return_sequences=True)
    rows = [data()[0], data()[1, :5], data()[2, :1]]
    alone = [layer(row[None])[0].numpy() for row in rows]
    model = keras.Sequential([keras.Input([STEPS, 2]), keras.layers.Masking(-9.0), layer])
    for where in "pre", "post":
        padded = keras.utils.pad_sequences(rows, STEPS, "float32", padding=where, value=-9.0)
        for y, one in zip(model.predict(padded, verbose=0), alone, strict=True):
            found = y[:len(one)] if where == "post" else y[-len(one):]
            np.testing.assert_allclose(found, one, atol=1e-6)


@ours
def test_ragged_integer_and_one_column_masks(make):
    layer, x = make(), data(3)
    layer(x)
    lengths = [STEPS, 3, 1]
    ragged = layer(tf.RaggedTensor.from_tensor(x, lengths))
    mask = tf.sequence_mask(lengths, STEPS)
    np.testing.assert_allclose(ragged, layer(x, mask=mask), atol=1e-6)
    np.testing.assert_allclose(layer(x, mask=mask[..., None]), layer(x, mask=mask), atol=1e-6)
    whole = np.ones([3, STEPS, 2], np.int32)
    np.testing.assert_allclose(layer(whole), layer(whole.astype(np.float32)), atol=1e-6)


@pytest.mark.parametrize("shape", [[6, STEPS], [6, STEPS, 3], [6, STEPS, 2, 1]], ids=str)
@ours  # Keras 3's LSTM says nothing of the width before its product fails
def test_a_wrong_shape_is_refused_with_the_shape_named(make, shape):
    layer = make()
    layer(data())
    for refusing in (layer, make()) if len(shape) == 2 else (layer,):
        with pytest.raises(ValueError, match=r"incompatible with the layer.*expected (ndim|axis|shape)"):
            refusing(tf.zeros(shape))


@pytest.mark.parametrize("given", [1, 3])
@ours
def test_a_wrong_number_of_states_is_named(make, given):
    with pytest.raises(ValueError, match="initial_state"):
        make()(data(), initial_state=[tf.zeros([6, UNITS])] * given)


@pytest.mark.parametrize("units", ["32", 0, None, 2.5])
def test_units_that_cannot_be_are_named_in_one_line(units):
    with pytest.raises(ValueError, match="SANTM: units=") as error:
        SANTM(units)
    assert "\n" not in str(error.value)


@every
def test_output_shapes_are_said_before_a_call(make):
    for options in ({}, {"return_sequences": True}, {"return_state": True},
                    {"return_sequences": True, "return_state": True}):
        layer = make(**options)
        y = layer(data())
        said = make(**options)
        said(data())
        said = said.compute_output_shape((6, STEPS, 2))
        said = said if options.get("return_state") else [said]
        found = y if options.get("return_state") else [y]
        assert [tuple(s) for s in said] == [tuple(v.shape) for v in found]


STATEFUL = {"SANTM": lambda **k: santm(stateful=True, mask_period=3, return_sequences=True, **k),
            "Recurrent": lambda **k: recurrent(stateful=True, return_sequences=True, **k),
            "Keras' LSTM": lambda **k: lstm(stateful=True, return_sequences=True, **k)}
stateful = pytest.mark.parametrize("make", STATEFUL.values(), ids=STATEFUL)


@stateful
def test_a_state_is_no_weight(make, tmp_path):
    four, one = (model_of(make(), batch=n) for n in (4, 1))
    four.predict(data(4), batch_size=4, verbose=0)
    one.set_weights(four.get_weights())
    four.save_weights(tmp_path / "kept.weights.h5")
    one.load_weights(tmp_path / "kept.weights.h5")
    reset_states(four)
    np.testing.assert_allclose(one.predict(data(4)[:1], batch_size=1, verbose=0),
                               four.predict(data(4), batch_size=4, verbose=0)[:1], atol=1e-6)


@stateful
def test_a_state_is_carried_through_batches_of_a_size_that_tensorflow_does_not_know(make):
    x = data(8)
    batches = tf.data.Dataset.from_tensor_slices(x).batch(4)
    assert batches.element_spec.shape[0] is None
    model = model_of(make(), batch=4)
    first, second = np.split(model.predict(batches, verbose=0), 2)
    reset_states(model)
    np.testing.assert_allclose(model.predict(batches.take(1), verbose=0), first, atol=1e-6)
    assert np.abs(model.predict(x[:4], batch_size=4, verbose=0) - first).max() > 1e-4


@pytest.mark.parametrize("make", [STATEFUL["SANTM"], STATEFUL["Recurrent"]], ids=["SANTM", "Recurrent"])
def test_a_batch_of_another_size_than_the_state_is_named(make):
    model = model_of(make(), batch=4)
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="stateful=True|batch"):
        model.predict(tf.data.Dataset.from_tensor_slices(data(3)).batch(3), verbose=0)


@every
def test_reset_states_of_what_keeps_none(make):
    with pytest.raises((AttributeError, ValueError)) if not _allows(make) else contextlib.nullcontext():
        make().reset_states()


def _allows(make):
    """Keras 3's RNN has nothing to do; Keras 2's says that the layer must be stateful."""
    return make is not santm and hasattr(keras.layers.RNN, "reset_state")


def test_reset_states_before_a_stateful_santm_is_built():
    STATEFUL["SANTM"]().reset_states()


@pytest.fixture
def precision(request):
    keras.backend.set_floatx(request.param)
    keras.mixed_precision.set_global_policy(request.param)
    yield request.param
    keras.backend.set_floatx("float32")
    keras.mixed_precision.set_global_policy("float32")


@pytest.mark.parametrize("precision", ["float64"], indirect=True)
@every
def test_floatx_is_followed(make, precision):
    model = model_of(make())
    model.compile("adam", "mse")
    x = random(6, STEPS, 2)
    assert np.isfinite(model.fit(x, x[:, 0, :1], verbose=0).history["loss"]).all()
    assert model(x).dtype == precision
    assert all(w.dtype == precision for w in model.trainable_weights)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@every
def test_a_stateful_layer_in_half_precision_is_saved_and_loaded(make, policy, tmp_path):
    if make is not lstm:
        options = {"mask_period": 3} if make is santm else {}
        model = model_of(make(stateful=True, return_sequences=True, dtype=policy, **options), batch=4)
        x = data(4)
        y = model.predict(x, batch_size=4, verbose=0)
        model.save(tmp_path / "model.keras")
        again = load_model(tmp_path / "model.keras")
        np.testing.assert_allclose(again.predict(x, batch_size=4, verbose=0), y, atol=2e-2)
        layer = again.layers[0]
        assert all(tf.as_dtype(v.dtype) in (tf.float32, tf.int32) for v in tf.nest.flatten(layer.states))


@in_keras_3_alone
@ours
def test_persistent_and_nested_tapes_have_the_right_numbers(make):
    """Those of the plain layer."""
    plain, layer, x = small(make), small(make, jit_compile=True), tf.constant(data(2, 3))
    plain(x), layer(x)
    layer.set_weights(plain.get_weights())

    def derivatives(layer):
        with tf.GradientTape(persistent=True) as outer:
            outer.watch(x)
            with tf.GradientTape(persistent=True) as tape:
                tape.watch(x)
                y = tf.reduce_sum(layer(x) ** 2, 1)
            first = tape.gradient(y, x)
            slope = tf.reduce_sum(first * tf.cos(x))
            jacobian = tape.batch_jacobian(y[:, None], x, experimental_use_pfor=False)
        of_weights = [tf.zeros(w.shape) if g is None else g for w, g in zip(
            layer.trainable_weights, tape.gradient(y, layer.trainable_weights), strict=True)]
        assert sum(np.any(g) for g in of_weights) > 2
        return y, first, of_weights, outer.gradient(slope, x), jacobian

    for a, b in zip(*(tf.nest.flatten(derivatives(v)) for v in (layer, plain)), strict=True):
        np.testing.assert_allclose(tf.convert_to_tensor(a), tf.convert_to_tensor(b), atol=1e-4)


@in_keras_3_alone
@ours
def test_batch_jacobian(make):
    layer, x = small(make, jit_compile=True), tf.constant(data(2, 3))
    layer(x)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = layer(x)
    jacobian = tape.batch_jacobian(y, x)
    for unit in range(UNITS):
        with tf.GradientTape() as tape:
            tape.watch(x)
            one = tf.reduce_sum(layer(x)[:, unit])
        np.testing.assert_allclose(jacobian[:, unit], tape.gradient(one, x), atol=1e-5)


@ours
def test_three_steps_are_traced_once(make):
    traces, layer = [], small(make, jit_compile=True)

    class Counted(type(layer)):
        def call(self, inputs, mask=None, training=None, initial_state=None):
            traces.append(0)
            return super().call(inputs, mask=mask, training=training, initial_state=initial_state)

    model = model_of(Counted.from_config(layer.get_config()))
    model.compile("adam", "mse")
    x = data(8)
    model.train_on_batch(x, x[:, 0, :1])
    traced = len(traces)
    for _ in range(2):
        model.train_on_batch(x + 1, x[:, 0, :1])
    assert len(traces) == traced


def test_a_loaded_mask_shortens_the_plan(tmp_path):
    trained, fresh = model_of(santm(access_rate=1.0)), model_of(santm(access_rate=1.0))
    access = trained.layers[0].access
    access.limit(2)
    assert access.plan_size == 2
    trained.save_weights(tmp_path / "kept.weights.h5")
    fresh.load_weights(tmp_path / "kept.weights.h5")
    np.testing.assert_allclose(*(m.predict(data(), verbose=0) for m in (fresh, trained)), atol=1e-6)
    assert fresh.layers[0].access.plan_size == 2


def test_weights_that_access_more_than_the_plan_holds_lengthen_it():
    short, full = model_of(santm(access_rate=0.25, plan_size=2)), model_of(santm(access_rate=1.0))
    short.set_weights(full.get_weights())
    np.testing.assert_allclose(short.predict(data(), verbose=0), full.predict(data(), verbose=0), atol=1e-6)


@pytest.mark.parametrize("layer", [AccessMask(STEPS), HardConcreteMask(STEPS), AdaptiveAccess(0.5),
                                   ChebAttention(2, locality=1)])
def test_a_mask_goes_through_what_keeps_the_steps(layer):
    inputs = keras.Input([STEPS, 2])
    model = keras.Model(inputs, keras.layers.LSTM(3)(layer(keras.layers.Masking(-9.0)(inputs))))
    rows = data(2)
    rows[1, 3:] = -9.0
    y = model.predict(rows, verbose=0)
    rows[1, 3:] = -9.0
    shorter = layer(tf.where(rows == -9.0, 0.0, rows))
    lstm = model.layers[-1]
    mask = tf.reduce_any(rows != -9.0, -1)
    np.testing.assert_allclose(y, lstm(shorter, mask=mask), atol=1e-5)


def test_a_nan_in_the_data_leaves_the_rate_alone():
    x = data(steps=8)
    x[0, 0, 0] = np.nan
    model = model_of(small(santm, jit_compile=True), steps=8)
    model.compile("adam", "mse")
    logs = model.fit(x, x[:, 1, :1], epochs=3, verbose=0, callbacks=[L0Projection(0.25, 2, initial_rate=0.5)])
    assert np.isnan(logs.history["loss"][-1]) and logs.history["access_rate"][-1] == 0.25


MIRRORED = """
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from santm_tf import SANTM
from santm_tf.keras import keras

x = np.random.default_rng(0).normal(size=[8, 4, 2]).astype(np.float32)
losses = []
for strategy in tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]):
    with strategy.scope():
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input([4, 2]), SANTM(
            4, memory_slots=6, slot_width=4, recall="read", access_rate=0.5, seed=0,
            boundary_penalty=0.0, jit_compile=strategy.num_replicas_in_sync > 1), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.1), "mse")
    losses.append(model.fit(x, x[:, 0, :1], batch_size=8, epochs=3, shuffle=False, verbose=0).history["loss"])
assert strategy.num_replicas_in_sync == 2
np.testing.assert_allclose(*losses, rtol=1e-4)
"""


def test_two_replicas_train_as_one_device_does():
    """In a process of its own, as devices are split before TensorFlow begins."""
    process = subprocess.run([sys.executable, "-c", MIRRORED], capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr[-2000:]


COMPILED = """
import glob, os, tempfile

folder = tempfile.mkdtemp()
os.environ["XLA_FLAGS"] = f"--xla_dump_to={folder} --xla_dump_hlo_as_text"

import numpy as np

from santm_tf import SANTM
from santm_tf.keras import keras

model = keras.Sequential([keras.Input([4, 2], batch_size=4), SANTM(
    4, memory_slots=6, slot_width=4, recall="read", access_rate=0.5), keras.layers.Dense(1)])
model.compile("adam", "mse", jit_compile=True)
x = np.random.default_rng(0).normal(size=[4, 4, 2]).astype(np.float32)
for _ in range(100):
    model.train_on_batch(x, x[:, 0, :1])
print(len({os.path.basename(path).split(".")[0] for path in glob.glob(folder + "/module_*")}))
"""


def test_a_model_that_is_compiled_is_compiled_once_in_100_steps():
    """XLA writes down each program that it compiles."""
    process = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, timeout=300)
    assert process.stdout.split()[-1:] == ["1"], process.stderr[-2000:]
