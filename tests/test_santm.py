"""SANTM against the equations, step by step, and as a Keras layer."""

import os

import numpy as np
import pytest
import reference
import tensorflow as tf

from santm_tf import SANTM, L0Projection, load_model
from santm_tf.keras import keras
from tests.helpers import name_of, random, randomise

UNITS, STEPS, PERIOD = 4, 12, 5
ON = [True, False, True, False, False]
SIZES = {"memory_slots": 6, "slot_width": 4, "attention_heads": 2, "locality": 1}
VARIANTS = [{"recall": recall, "return_sequences": sequences}
            for recall in ("attention", "read") for sequences in (False, True)]
ADAPTIVE = {"access": "adaptive", "return_sequences": True}


def built(on=ON, dtype="float64", features=2, **options):
    """A layer with random weights and the access mask `on`; its plan is as short as that allows."""
    options = {**SIZES, "read_heads": 2, "jit_compile": False, **options}
    if options.get("access") == "adaptive":
        options = {"access_rate": 0.5, "memory_horizon": PERIOD, **options}
    else:
        options["mask_period"] = len(on)
    layer = SANTM(UNITS, dtype=dtype, **options)
    layer.build([None, None, features])
    randomise(layer.trainable_weights, 0.8)
    if layer.access.adaptive:
        layer.access.kernel.assign(4 * random(*layer.access.kernel.shape))
        return layer
    layer.access.scores.assign(np.where(on, 0.5, -0.5))
    layer.access.fit_plan()
    return layer


def lengths(*counts):
    return np.arange(STEPS) < np.array(counts)[:, None]


def expected(layer, x, mask=None):
    """The reference at every step; a step before the first valid one gives rows to leave out."""
    masks = [None] * len(x) if mask is None else mask
    return np.array([reference.santm(layer, *pair) for pair in zip(x, masks, strict=True)])


@pytest.mark.parametrize("options", [*VARIANTS, ADAPTIVE])
def test_it_matches_numpy_step_by_step(options):
    layer, x = built(**options), random(3, STEPS, 2)
    theirs = expected(layer, x)
    theirs = theirs if layer.return_sequences else theirs[:, -1]
    for training in (False, True)[:1 if layer.access.adaptive else 2]:  # whose gates are drawn in training
        np.testing.assert_allclose(layer(tf.constant(x), training=training), theirs, atol=1e-9)


def test_the_reference_sequences_are_not_trivial():
    """Some steps are boundaries and some are not, so that the test above sees both."""
    layer, x = built(), tf.constant(random(3, STEPS, 2))
    state = layer.bottom.get_initial_state(x)
    rates = []
    for t in range(STEPS):
        (_, beta), state = layer.bottom(x[:, t], state)
        rates.append(beta)
    assert 0.2 < np.mean(rates) < 0.8


@pytest.mark.parametrize("options", [*VARIANTS, ADAPTIVE])
@pytest.mark.parametrize("mask", [
    lengths(12, 8, 1), ~lengths(0, 5, 11),
    np.array([[1, 1, 0, 1] * 3, [0, 0, 1, 1, 0, 0] * 2, [1] + [0] * 10 + [1]]) > 0],
    ids=["right", "left", "gaps"])
def test_a_masked_step_counts_as_none(options, mask):
    layer, x = built(**options), random(3, STEPS, 2)
    ours = layer(tf.constant(x), mask=tf.constant(mask)).numpy()
    for y, row, valid in zip(ours, x, mask, strict=True):
        theirs = reference.santm(layer, row[valid])
        y, wanted = (y[valid], theirs) if layer.return_sequences else (y, theirs[-1])
        np.testing.assert_allclose(y, wanted, atol=1e-9)


@pytest.mark.parametrize("options", VARIANTS)
def test_a_padded_sequence_gives_what_it_gives_alone(options):
    layer, x = built(**options), tf.constant(random(3, STEPS, 2))
    together = layer(x, mask=tf.constant(lengths(12, 8, 1)))
    for row, length in enumerate((12, 8, 1)):
        alone = layer(x[row:row + 1, :length])[0]
        padded = together[row, :length] if layer.return_sequences else together[row]
        np.testing.assert_allclose(padded, alone, atol=1e-12)


def test_a_sequence_that_is_masked_out_is_finite():
    layer = built()
    y = layer(tf.constant(random(2, STEPS, 2)), mask=tf.constant(lengths(0, 12)))
    assert np.all(np.isfinite(y))


@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_no_plan_changes_the_result(sequences, training):
    layer, x = built(return_sequences=sequences), tf.constant(random(3, STEPS, 2))
    results = []
    for size in range(sum(ON), PERIOD + 1):
        layer.access.plan_size = size
        results += [layer(x, training=training) for _ in range(1 + training)]
    for y in results[1:]:
        np.testing.assert_allclose(y, results[0], atol=1e-12)


def unplanned(layer, x):
    """SANTM without plan, packing or scan, in TensorFlow for its gradients: y at every step."""
    bottom, middle, top = (
        cell.get_initial_state(x) for cell in (layer.bottom, layer.middle, layer.top))
    rows = []
    for t in range(x.shape[1]):
        (h, beta), bottom = layer.bottom(x[:, t], bottom)
        h_middle, middle = layer.middle((h, beta), middle)
        a, d = layer.access.gates(tf.constant([t]))
        m = a * d * h_middle
        (read_weights, memory), top = layer.top((m, tf.tile(a[None], [x.shape[0], 1])), top)
        y = layer.recall(memory)
        read = tf.reshape(read_weights @ y, [x.shape[0], -1])
        rows.append(layer.readout(tf.concat([h, h_middle, read, tf.reduce_mean(y, 1)], -1)))
    return tf.stack(rows, 1)


def gradients(layer, model, x):
    """The output, and the gradients of its input and the trainable weights."""
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = model(x)
        loss = tf.reduce_sum(tf.sin(y + tf.range(UNITS, dtype=y.dtype)))
    all_of_them = tape.gradient(loss, [x, *layer.trainable_weights], unconnected_gradients="zero")
    return [tf.convert_to_tensor(v) for v in [y, *all_of_them]]


@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("explored", [1, 8])
def test_a_full_plan_has_the_gradient_of_the_unplanned_model(sequences, explored, monkeypatch):
    """Where the middle level visits every step all gradients agree; else the bottom level's do not.

    For a beta that is off gets its gradient from the middle level where that looks.
    """
    monkeypatch.setattr("santm_tf.levels.EXPLORED", explored)
    layer, x = built(return_sequences=sequences), random(2, STEPS, 2)
    layer.access.plan_size = PERIOD
    ours = gradients(layer, lambda x: layer(x, training=True), x)
    theirs = gradients(layer, lambda x: unplanned(layer, x)[:, slice(None) if sequences else -1], x)
    names = ["y", "x", *map(name_of, layer.trainable_weights)]
    for name, a, b in zip(names, ours, theirs, strict=True):
        assert np.any(b), name
        if explored == 1 or not name.startswith(("x", "bottom")):
            np.testing.assert_allclose(a, b, atol=1e-8, err_msg=name)


def test_a_step_outside_the_plan_gets_no_gradient_and_one_inside_does():
    layer, x = built(return_sequences=True), random(2, STEPS, 2)
    scores = [*map(name_of, layer.trainable_weights)].index("access/scores") + 2

    def slopes(size):
        layer.access.plan_size = size
        return gradients(layer, lambda x: layer(x, training=False), x)[scores].numpy()

    short, full = slopes(sum(ON)), slopes(PERIOD)
    np.testing.assert_array_equal(short != 0, ON)
    np.testing.assert_allclose(short[ON], full[ON], atol=1e-12)
    assert np.all(full != 0)


def counted(layer, traces):
    """The layer, noting each time that Python runs its levels."""
    call = layer.top.get_initial_state
    layer.top.get_initial_state = lambda *a, **k: traces.append(0) or call(*a, **k)
    return layer


@pytest.fixture(scope="module")
def compiled():
    """The same layer without and with XLA, there on two slices of the batch; and its traces."""
    traces = []
    plain, jit = (built(dtype="float32", return_sequences=True, jit_compile=b) for b in (0, 1))
    patch = pytest.MonkeyPatch()
    patch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    yield plain, counted(jit, traces), traces
    patch.undo()


def batch_of(rows):
    mask = np.ones([rows, STEPS], bool)
    mask[::3, 7:] = False
    return tf.constant(random(rows, STEPS, 2), tf.float32), tf.constant(mask)


def assert_close(a, b, name=""):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * np.abs(a).max(), err_msg=name)


def test_jit_on_slices_of_the_batch_equals_the_whole_without(compiled):
    plain, jit, _ = compiled
    x, mask = batch_of(17)
    assert_close(plain(x, mask=mask), jit(x, mask=mask))


def test_gradients_of_jit_on_slices_equal_those_of_the_whole_without(compiled):
    x, mask = batch_of(16)
    plain, jit = (gradients(layer, lambda x, layer=layer: layer(x, mask=mask, training=True), x)
                  for layer in compiled[:2])
    for w, a, b in zip([None, x, *compiled[0].trainable_weights], plain, jit, strict=True):
        assert_close(a, b, getattr(w, "name", ""))


def test_jit_is_not_traced_again_by_a_further_batch(compiled):
    _, jit, traces = compiled
    x, mask = batch_of(17)
    jit(x, mask=mask)
    traces.clear()
    for shift in range(3):
        jit(x + shift, mask=mask)
    assert not traces


def test_one_trace_serves_every_batch_and_length():
    traces = []
    layer = counted(built(), traces)
    layer(tf.constant(random(1, 1, 2)))  # makes the metrics, for which a function is traced twice
    traces.clear()
    run = tf.function(layer, input_signature=[tf.TensorSpec([None, None, 2], tf.float64)])
    for batch, steps in ((3, STEPS), (1, 1), (2, 17)):
        x = random(batch, steps, 2)
        np.testing.assert_allclose(run(x), expected(layer, x)[:, -1], atol=1e-9)
    assert len(traces) == 1


@pytest.mark.parametrize(("arguments", "message"), [
    ({"units": 0}, "units=0"), ({"memory_slots": 1}, "memory_slots=1"),
    ({"slot_width": 0}, "slot_width=0"), ({"read_heads": 0}, "read_heads=0"),
    ({"write_heads": 0}, "write_heads=0"), ({"attention_heads": 3}, "attention_heads=3"),
    ({"attention_heads": 0}, "attention_heads=0"), ({"cheb_order": 0}, "order=0"),
    ({"locality": 0}, "locality=0"), ({"mask_period": 0}, "mask_period=0"),
    ({"access_rate": 0.0}, "access_rate=0.0"), ({"access_rate": 1.5}, "access_rate=1.5"),
    ({"memory": "sparser"}, "memory='sparser'"), ({"recall": "x"}, "recall='x'"),
    ({"shift_range": 3}, "shift_range=3"), ({"memory_init": "x"}, "memory_init='x'"),
    ({"segment_length": 0.5}, "segment_length=0.5"), ({"boundaries": "x"}, "boundaries='x'"),
    ({"segment_length": 2.5, "boundaries": "fixed"}, "segment_length=2.5; boundaries='fixed' needs a whole"),
    ({"segment_length": float("inf"), "boundaries": "fixed"}, "segment_length=inf; boundaries='fixed'")],
    ids=str)
def test_a_bad_argument_is_named_in_one_line(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        SANTM(**{"units": UNITS, **SIZES, **arguments})
    assert "\n" not in str(error.value)


def test_an_unknown_length_needs_a_period():
    with pytest.raises(ValueError, match="mask_period=None"):
        SANTM(UNITS, **SIZES).build([None, None, 2])


class Subclassed(keras.Model):
    def __init__(self, layer):
        super().__init__()
        self.masking, self.layer = keras.layers.Masking(), layer

    def call(self, inputs, training=None):
        return self.layer(self.masking(inputs), training=training)


def functional(layer):
    inputs = keras.Input([None, 2])
    return keras.Model(inputs, layer(keras.layers.Masking()(inputs)))


@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("make", [
    functional, Subclassed,
    lambda layer: keras.Sequential([keras.layers.Masking(), layer])],
    ids=["functional", "subclassed", "sequential"])
def test_it_works_in_any_keras_model(make, sequences):
    layer = built(dtype="float32", return_sequences=sequences)
    mask = lengths(12, 8, 1)
    x = (random(3, STEPS, 2) * mask[..., None]).astype(np.float32)
    y = make(layer)(x)
    np.testing.assert_allclose(y, layer(x, mask=tf.constant(mask)), atol=1e-5)
    assert y.shape == layer.compute_output_shape(x.shape)


def test_sequences_pass_their_mask_on_and_a_last_step_does_not():
    mask = tf.constant(lengths(3, 4))
    assert built(return_sequences=True).compute_mask(None, mask) is mask
    assert built().compute_mask(None, mask) is None


@pytest.mark.parametrize(("bias", "rate"), [(99.0, 1.0), (-99.0, 0.0)])
def test_its_rates_are_metrics_and_the_boundary_rate_a_loss(bias, rate):
    layer = built(dtype="float32", boundary_penalty=3.0, segment_length=2.5)
    layer.bottom.boundary_bias.assign([bias])
    model = keras.Sequential([keras.layers.Masking(), layer])
    model.compile(loss="mse", run_eagerly=True)
    mask = lengths(12, 8, 1)[..., None]
    logs = model.evaluate(random(3, STEPS, 2) * mask, np.zeros([3, UNITS]), verbose=0,
                          return_dict=True)
    np.testing.assert_allclose(logs["access_rate"], sum(ON) / PERIOD, rtol=1e-6)
    np.testing.assert_allclose(logs["boundary_rate"], rate, atol=1e-6)
    np.testing.assert_allclose(tf.reduce_sum(layer.losses), 3.0 * (rate - 0.4) ** 2, atol=1e-6)


@pytest.mark.parametrize(("bias", "sign"), [(99.0, 0.0), (3.0, 1.0), (-3.0, -1.0)])
def test_the_boundary_penalty_draws_the_boundary_rate_to_its_target(bias, sign):
    layer = built(dtype="float32", boundary_penalty=3.0, segment_length=2.0)
    layer.bottom.boundary_bias.assign([bias])
    with tf.GradientTape() as tape:
        layer(tf.constant(random(3, STEPS, 2), tf.float32), training=True)
        loss = tf.reduce_sum(layer.losses)
    assert np.sign(tape.gradient(loss, layer.bottom.boundary_bias)[0]) == sign


@pytest.mark.parametrize("options", VARIANTS)
@pytest.mark.parametrize("length", [1, 3, 5])
def test_fixed_boundaries_are_those_of_a_clock_that_a_learned_boundary_follows(options, length):
    x = random(3, STEPS, 2)
    clock = np.zeros([3, STEPS, 1])
    clock[:, length - 1::length] = 1
    fixed = built(boundaries="fixed", segment_length=float(length), **options)
    learned = built(features=3, **options)
    weights = {name_of(w): w for w in learned.weights}
    for w in fixed.weights:
        if w is not fixed.bottom.kernel:
            weights[name_of(w)].assign(w)
    learned.bottom.kernel.assign(np.pad(fixed.bottom.kernel, [(0, 1), (0, 0)]))
    learned.bottom.boundary_kernel.assign([[0.0], [0.0], [2.0]])
    learned.bottom.boundary_recurrent_kernel.assign(np.zeros([UNITS, 1]))
    learned.bottom.boundary_bias.assign([-1.0])
    theirs = expected(learned, np.concatenate([x, clock], -1))
    for training in (False, True):
        np.testing.assert_allclose(fixed(tf.constant(x), training=training),
                                   theirs if fixed.return_sequences else theirs[:, -1], atol=1e-9)


@pytest.mark.parametrize("length, jit", [(1, False), (5, True), (12, False), (13, True)])
def test_fixed_boundaries_have_their_rate_and_no_penalty(length, jit):
    layer = built(dtype="float32", boundaries="fixed", segment_length=length, boundary_penalty=3.0,
                  jit_compile=jit)
    model = keras.Sequential([layer])
    model.compile(loss="mse")
    logs = model.evaluate(random(3, STEPS, 2), np.zeros([3, UNITS]), verbose=0, return_dict=True)
    assert logs["boundary_rate"] == pytest.approx(STEPS // length / STEPS)
    layer(tf.constant(random(3, STEPS, 2), tf.float32), training=True)
    assert float(tf.reduce_sum(layer.losses)) == 0


def test_fixed_boundaries_are_saved(tmp_path):
    layer = SANTM(UNITS, **SIZES, boundaries="fixed", segment_length=3, jit_compile=False)
    assert SANTM.from_config(layer.get_config()).get_config() == layer.get_config()
    model = keras.Sequential([keras.Input([8, 2]), layer])
    model.save(tmp_path / "model.keras")
    again, x = load_model(tmp_path / "model.keras"), random(3, 8, 2).astype(np.float32)
    assert again.layers[0].boundaries == "fixed"
    np.testing.assert_allclose(again(x), model(x), atol=1e-6)


def test_training_brings_long_segments_about():
    """Boundaries that start shut open to the rate asked for, though the loss asks for none."""
    keras.utils.set_random_seed(0)
    layer = SANTM(4, **SIZES, segment_length=8, jit_compile=False)
    model = keras.Sequential([layer, keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.02), "mse")
    x = random(32, 16, 2).astype(np.float32)
    rates = [model.train_on_batch(x, x[:, -1, :1], return_dict=True)["boundary_rate"]
             for _ in range(250)]
    assert rates[0] < 0.06 and abs(np.mean(rates[-50:]) - 1 / 8) < 0.04


def test_dropout_acts_while_training_only():
    layer, x = built(dropout=0.5), tf.constant(random(3, STEPS, 2))
    np.testing.assert_array_equal(layer(x), layer(x))
    assert np.any(layer(x, training=True) != layer(x, training=True))


@pytest.fixture(scope="module")
def fitted():
    """A model that learned the sign of the first input, at a falling access rate."""
    keras.utils.set_random_seed(0)
    layer = SANTM(UNITS, **SIZES, seed=0, jit_compile=False)
    model = keras.Sequential([keras.Input([8, 1]), layer, keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.02), keras.losses.BinaryCrossentropy(True))
    x = random(128, 8, 1).astype(np.float32)
    history = model.fit(x, x[:, 0] > 0, batch_size=16, epochs=15, verbose=0,
                        callbacks=[L0Projection(0.25, epochs=2)])
    return model, x, history.history


def test_it_learns_at_a_falling_access_rate(fitted):
    _, _, history = fitted
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert history["access_rate"][0] == 1 and 0 < history["access_rate"][-1] <= 0.25


def test_a_trained_model_is_saved_with_its_mask(fitted, tmp_path):
    model, x, _ = fitted
    model.save(tmp_path / "model.keras")
    again = load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again(x), model(x), atol=1e-5)
    assert again.layers[0].access.plan_size == model.layers[0].access.plan_size < 8


def test_a_mask_that_grew_is_saved_with_a_plan_that_holds_it(tmp_path):
    layer = SANTM(UNITS, **SIZES, access_rate=0.25, jit_compile=False)
    model = keras.Sequential([keras.Input([8, 1]), layer])
    layer.access.limit(8)
    layer.access.scores.assign(tf.ones([8]))
    model.save(tmp_path / "model.keras")
    x = random(3, 8, 1).astype(np.float32)
    np.testing.assert_allclose(load_model(tmp_path / "model.keras")(x), model(x), atol=1e-5)
