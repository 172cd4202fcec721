"""The access gate that depends on the input, against NumPy, and the rate that its Lagrangian holds."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf

from santm_tf import SANTM, AdaptiveAccess, L0Projection
from santm_tf.keras import keras
from tests.helpers import random, randomise
from tests.reference import hard_concrete, sigmoid


def gate(kernel, bias, rate=0.5, **options):
    layer = AdaptiveAccess(rate, **options)
    layer.build([None, None, len(kernel)])
    layer.kernel.assign(np.array(kernel)[:, None])
    layer.bias.assign([bias])
    return layer


def santm(rate=0.5, **options):
    """A layer with random weights, gates of all kinds among them."""
    layer = SANTM(4, **{"memory_slots": 6, "slot_width": 4, "attention_heads": 2, "locality": 1, "seed": 1,
                        "access": "adaptive", "access_rate": rate, "segment_length": 2, "dtype": "float64",
                        "jit_compile": False, **options})
    layer.build([None, 8, 3])
    randomise(layer.trainable_weights, 0.8)
    layer.access.kernel.assign(4 * random(*layer.access.kernel.shape))
    return layer


def test_gates_at_rest_are_the_equation():
    layer, x = gate([2.0, -1.0], 0.3), random(3, 40, 2).astype("float32")
    a = hard_concrete(x @ [2.0, -1.0] + 0.3)
    assert a.min() == 0 and a.max() == 1 and ((a > 0) & (a < 1)).any()
    for _ in range(2):
        np.testing.assert_allclose(layer(x), x * a[..., None], rtol=1e-4, atol=1e-5)


def test_drawn_gates_open_as_often_as_they_are_expected_to():
    locations = np.linspace(-4, 4, 9).astype("float32")
    layer, x = gate([1.0], 0.0, seed=0), tf.tile(locations[None, :, None], [4000, 1, 1])
    moved, delta = layer.gates_of(layer.plan(9, training=True)[0], 4000, training=True)
    a, chance = layer.opened(x, moved)
    closed = sigmoid(locations - 2 / 3 * np.log(0.1 / 1.1))
    assert delta == 1
    np.testing.assert_allclose(chance, np.tile(closed, [4000, 1]), rtol=1e-5)
    np.testing.assert_allclose((a.numpy() > 0).mean(0), closed, atol=0.03)
    np.testing.assert_allclose(a, hard_concrete(locations, moved.numpy()), atol=1e-5)


def test_what_is_drawn_follows_from_the_seed_and_is_another_for_each_row_step_and_call():
    def drawn(seed, calls=1):
        layer = gate([0.0], 0.0, seed=seed)
        return [layer(tf.ones([2, 30, 1]), training=True).numpy() for _ in range(calls)]

    (one, two), (again,), (other,) = drawn(3, calls=2), drawn(3), drawn(4)
    np.testing.assert_array_equal(one, again)
    for a, b in (one, two), (one, other), (one[0], one[1]), (one[:, :15], one[:, 15:]):
        assert np.any(a != b)


def test_at_a_rate_of_one_every_gate_is_open_and_nothing_holds_it():
    layer = gate([5.0], -2.0, rate=1)
    x = random(2, 9, 1).astype("float32")
    with tf.GradientTape() as tape:
        y = layer(x, training=True)
        loss = tf.reduce_sum(y) + layer.losses[0]
    np.testing.assert_array_equal(y, x)
    assert not any(np.any(g) for g in tape.gradient(loss, layer.trainable_weights))


def test_the_penalty_is_zero_and_its_gradients_are_the_lagrangians():
    layer, x = gate([1.0, 0.5], -1.0, rate=0.25), random(3, 7, 2).astype("float32")
    layer.multiplier.assign(1.5)
    mask = np.arange(7) < np.array([[7], [3], [1]])
    with tf.GradientTape() as tape:
        layer(x, mask=tf.constant(mask))
        penalty, = layer.losses
    of_kernel, of_bias, of_multiplier = tape.gradient(
        penalty, [layer.kernel, layer.bias, layer.multiplier])
    p = sigmoid(x @ [1.0, 0.5] - 1.0 - 2 / 3 * np.log(0.1 / 1.1))
    share = mask / mask.sum(1, keepdims=True) / 3
    excess = (share * p).sum() - 0.25
    slope = (0.15 + 10 * excess) * share * p * (1 - p)
    assert float(penalty) == 0
    np.testing.assert_allclose(of_bias, [slope.sum()], rtol=1e-4)
    np.testing.assert_allclose(of_kernel[:, 0], (slope[..., None] * x).sum((0, 1)), rtol=1e-3)
    np.testing.assert_allclose(of_multiplier, -excess / 10, rtol=1e-4)


@pytest.mark.parametrize("gain", [0.0, 1.0], ids=["what pays is to shut all", "what pays is to open all"])
def test_the_lagrangian_holds_the_rate_from_both_sides(gain):
    layer = AdaptiveAccess(0.3, seed=0)
    model = keras.Sequential([keras.Input([16, 2]), layer])
    model.compile(keras.optimizers.Adam(0.02), "mse")
    x = random(512, 16, 2).astype("float32")
    model.fit(x, gain * x, epochs=25, batch_size=16, verbose=0)
    assert float(tf.reduce_mean(layer.opened(tf.constant(x))[1])) == pytest.approx(0.3, abs=0.03)


def test_it_finds_the_steps_that_matter_wherever_they_are():
    """The mean of marked numbers is wanted; they are a quarter, at other steps of each sequence."""
    layer = AdaptiveAccess(seed=0)
    means = keras.layers.Lambda(lambda x: tf.reduce_sum(x[..., :1], 1) / 4)
    model = keras.Sequential([keras.Input([16, 2]), layer, means])
    model.compile(keras.optimizers.Adam(0.02), "mse")
    marked = np.array([np.random.default_rng(row).permutation(16) < 4 for row in range(512)])
    x = np.stack([random(512, 16), marked], -1).astype("float32")
    model.fit(x, (x[..., :1] * x[..., 1:]).sum(1) / 4, epochs=25, batch_size=16, verbose=0,
              callbacks=[L0Projection(0.25, epochs=10)])
    a, chance = layer.opened(tf.constant(x))
    assert float(tf.reduce_mean(chance)) == pytest.approx(0.25, abs=0.03)
    assert np.mean((a.numpy() > 0) == marked) > 0.99


def test_the_rate_falls_to_its_target():
    schedule = L0Projection(0.2, epochs=5, initial_rate=0.8)
    np.testing.assert_allclose([schedule.rate(epoch) for epoch in range(6)], [.8, .65, .5, .35, .2, .2])
    layer = gate([1.0], 0.0, rate=0.8)
    schedule.set_model(keras.Sequential([keras.Input([4, 1]), layer]))
    logs = {"access_rate": 0.7}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schedule.model, "make_test_function", lambda force: pytest.fail("traced anew"))
        schedule.on_epoch_begin(2)
        schedule.on_epoch_end(2, logs)
    assert float(layer.target) == pytest.approx(0.5) and logs == {"access_rate": 0.7}


def test_on_slices_of_the_batch_compiled_it_is_the_same():
    x, found = random(17, 8, 3), []
    for jit in False, True:
        layer = santm(memory="key_value", jit_compile=jit)
        with tf.GradientTape() as tape:
            y = layer(tf.constant(x), training=True)
            loss = tf.reduce_sum(y) + tf.cast(sum(layer.losses), y.dtype)
        access = layer.access
        found.append([y, *tape.gradient(loss, [access.kernel, access.bias, access.multiplier])])
    for plain, compiled in zip(*found, strict=True):
        assert np.any(plain)
        np.testing.assert_allclose(compiled, plain, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("memory", ["dense", "sparse", "key_value"])
def test_a_shut_gate_holds_the_memory(memory):
    layer, x = santm(memory=memory, return_state=True), random(2, 8, 3)
    layer.access.kernel.assign(tf.zeros_like(layer.access.kernel))
    layer.access.bias.assign([-50.0])
    _, *after = layer(x)
    opened = [np.any(a != b) for a, b in zip(after, layer.get_initial_state(2), strict=True)]
    names = layer.levels.names
    assert {name for name, moved in zip(names, opened, strict=True) if moved} == {
        name for name in names if not name.startswith("top_")}


@pytest.fixture(scope="module")
def made():
    return santm()


@hypothesis.settings(max_examples=8, deadline=None)
@hypothesis.given(st.lists(st.integers(1, 8), min_size=1, max_size=4), st.integers(0, 99))
def test_a_row_is_what_it_is_alone(made, lengths, seed):
    x, mask = random(len(lengths), 8, 3, seed=seed), np.arange(8) < np.array(lengths)[:, None]
    together = made(tf.constant(x), mask=tf.constant(mask))
    for y, row, length in zip(together, x, lengths, strict=True):
        np.testing.assert_allclose(y, made(tf.constant(row[None, :length]))[0], atol=1e-9)


@pytest.mark.parametrize("boundaries", ["fixed", "learned"])
def test_its_gradient_at_rest_is_that_of_finite_differences(boundaries):
    layer, x = santm(boundaries=boundaries, return_sequences=True), tf.constant(random(2, 8, 3))

    @tf.function
    def loss():
        return tf.reduce_sum(tf.sin(layer(x)))

    for weight in layer.access.kernel, layer.access.bias:
        with tf.GradientTape() as tape:
            value = loss()
        found = tape.gradient(value, weight).numpy().ravel()
        before, near = weight.numpy(), np.zeros(found.shape)
        for i in range(found.size):
            sides = []
            for step in (1e-6, -1e-6):
                moved = before.copy()
                moved.flat[i] += step
                weight.assign(moved)
                sides.append(float(loss()))
            near[i] = (sides[0] - sides[1]) / 2e-6
        weight.assign(before)
        assert np.any(found)
        np.testing.assert_allclose(found, near, rtol=1e-4, atol=1e-6)


def test_the_reported_rate_is_the_share_of_valid_steps_accessed():
    layer = santm(dtype="float32")
    model = keras.Sequential([keras.Input([8, 3]), keras.layers.Masking(), layer])
    model.compile(loss="mse", run_eagerly=True)
    mask = np.arange(8) < np.array([[8], [5], [2]])
    x = random(3, 8, 3).astype("float32") * mask[..., None]
    logs = model.evaluate(x, np.zeros([3, 4]), verbose=0, return_dict=True)
    t = tf.range(8)
    did = layer.levels.run(tf.constant(x), (t, t >= 0), tf.constant(mask))
    opened = did.a[..., 0].numpy().T > 0
    assert 0 < opened.sum() < mask.sum() and not opened[~mask].any()
    assert logs["access_rate"] == pytest.approx(np.mean(opened.sum(1) / mask.sum(1)), rel=1e-5)


def test_a_step_that_ends_no_segment_is_not_expected_to_access_the_memory():
    layer, x = santm(boundaries="fixed"), tf.constant(random(3, 8, 3))
    mask, t = np.arange(8) < np.array([[8], [5], [1]]), tf.range(8)
    with tf.GradientTape() as tape:
        layer(x, mask=tf.constant(mask))
        penalty, = layer.losses
    did = layer.levels.run(x, (t, t >= 0), tf.constant(mask))
    locations = np.concatenate([did.middle_at(t), did.h], -1) @ layer.access.kernel.numpy()[:, 0]
    p = sigmoid(locations + layer.access.bias.numpy() - 2 / 3 * np.log(0.1 / 1.1))
    expected = np.mean((p * mask * (np.arange(8) % 2 == 1)).sum(1) / mask.sum(1))
    assert float(tape.gradient(penalty, layer.access.multiplier)) == pytest.approx(-(expected - 0.5) / 10)


@pytest.mark.parametrize("options, message", [
    (dict(mask_period=4), "mask_period=4; it is of a mask, which access='adaptive' has not; leave it out"),
    (dict(plan_size=4), "plan_size=4"), (dict(mask_surrogate="sigmoid"), "mask_surrogate='sigmoid'"),
    (dict(access_rate=0.0), "access_rate=0.0")])
def test_what_has_no_use_is_named_in_one_line(options, message):
    with pytest.raises(ValueError, match=message) as error:
        SANTM(4, access="adaptive", **options)
    assert "\n" not in str(error.value)


def test_an_unknown_length_needs_a_horizon():
    with pytest.raises(ValueError, match="memory_horizon=None, and the length of the sequences is unknown"):
        SANTM(4, access="adaptive").build([None, None, 2])
    SANTM(4, access="adaptive", memory_horizon=5).build([None, None, 2])
