"""Boundaries where the input changes, against NumPy in float64."""

import numpy as np
import pytest
import tensorflow as tf

from santm_tf import SANTM, load_model
from santm_tf.change import ChangeBoundary
from santm_tf.keras import keras
from santm_tf.tasks import change_points
from tests.helpers import randomise
from tests.test_cells import logistic, normal


def log_flux(x):
    """f_t from the second step on, `[B, T - 1]`."""
    return np.log(((x[:, 1:] - x[:, :-1]) ** 2).mean(-1) + 1e-6)


def built(x, segment_length=3.0, **options):
    boundary = ChangeBoundary(segment_length, **options)
    boundary.build(x.shape)
    return boundary


def adapted(boundary, x, mask=None):
    for _ in range(200):
        boundary.adapt(tf.constant(x), None if mask is None else tf.constant(mask))
    return boundary


def santm(**options):
    return SANTM(4, **{**dict(memory_slots=6, slot_width=4, locality=1, segment_length=3, access_rate=0.5,
                              boundaries="change", jit_compile=False), **options})


def test_it_is_its_equations():
    x = normal(5, 8, 3)
    boundary = built(x, dtype="float64")
    weight, bias, mean, variance = 0.7, -0.2, -0.4, 2.5
    boundary.set_weights(np.array([[weight], [bias], [mean], [variance]]))
    p = logistic(weight * (log_flux(x) - mean) / np.sqrt(variance + 1e-6) + bias)
    beta = boundary(tf.constant(x)).numpy()[..., 0]
    assert 0 < beta[:, 1:].mean() < 1
    np.testing.assert_array_equal(beta, np.concatenate([np.zeros([5, 1]), p > 0.5], 1))


def test_its_gradients_take_beta_for_p():
    x = normal(5, 8, 3)
    boundary, upstream = built(x, dtype="float64"), normal(5, 8, seed=1)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(boundary(tf.constant(x))[..., 0] * upstream)
    of_weight, of_bias = tape.gradient(loss, boundary.trainable_weights)
    flux = np.concatenate([np.full([5, 1], np.log(1e-6)), log_flux(x)], 1) / np.sqrt(1 + 1e-6)
    p = logistic(1.7 * flux - np.log(2))
    np.testing.assert_allclose(of_weight, [(upstream * p * (1 - p) * flux).sum()], rtol=1e-6)
    np.testing.assert_allclose(of_bias, [(upstream * p * (1 - p)).sum()], rtol=1e-6)


@pytest.mark.parametrize("masked", [False, True])
def test_its_statistics_go_to_those_of_the_valid_changes(masked):
    x = normal(4, 30, 3).astype(np.float32).cumsum(1)
    mask = np.arange(30) < np.array([[30], [12], [1], [0]]) if masked else np.ones([4, 30], bool)
    boundary = adapted(built(x), x, mask if masked else None)
    flux = log_flux(x)[mask[:, 1:]]
    np.testing.assert_allclose(boundary.mean, [flux.mean()], rtol=1e-3)
    np.testing.assert_allclose(boundary.variance, [flux.var()], rtol=1e-3)


@pytest.mark.parametrize("steps, mask", [(5, np.zeros([2, 5], bool)), (1, None)])
def test_where_there_is_no_change_its_statistics_stay(steps, mask):
    x = np.ones([2, steps, 3], np.float32)
    boundary = adapted(built(x), x, mask)
    assert float(boundary.mean[0]) == 0 and float(boundary.variance[0]) == 1


@pytest.mark.parametrize("scale", [0.01, 1.0, 1000.0])
def test_a_jump_is_a_boundary_before_anything_is_learned(scale):
    x, _, changes = change_points.sequences(64, length=100, key=[3, 1])
    x = scale * x.numpy()
    cuts = adapted(built(x, 10.0), x)(x).numpy()[..., 0] > 0
    assert (cuts & changes.numpy()).sum() > 0.8 * max(cuts.sum(), changes.numpy().sum())


def test_training_moves_its_statistics_and_what_is_saved_has_them(tmp_path):
    layer, x = santm(), normal(4, 9, 2).astype(np.float32)
    model = keras.Sequential([keras.Input([9, 2]), layer, keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.predict(x, verbose=0)
    assert float(layer.change.mean[0]) == 0
    weight = float(layer.change.weight[0])
    model.fit(x, x[:, -1, :1], epochs=2, verbose=0)
    assert float(layer.change.mean[0]) != 0 and float(layer.change.weight[0]) != weight
    model.save(tmp_path / "model.keras")
    again = load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again(x), model(x), atol=1e-6)
    assert float(again.layers[-2].change.mean[0]) == float(layer.change.mean[0])


@pytest.fixture
def whole():
    """A layer, sequences, what it gives for them, and the state after them."""
    layer = santm(mask_period=3, return_sequences=True, return_state=True)
    x = tf.constant(normal(2, 9, 2), tf.float32)
    layer(x)
    adapted(layer.change, x)
    randomise(layer.trainable_weights)
    beta = layer.change(x).numpy()
    assert 0.1 < beta.mean() < 0.9
    outputs, *state = layer(x)
    return layer, x, outputs, state


def test_windows_with_the_state_handed_on_give_what_the_whole_gives(whole):
    layer, x, outputs, end = whole
    first, *state = layer(x[:, :3])
    rest, *state = layer(x[:, 3:], initial_state=state)
    for found, wanted in zip([tf.concat([first, rest], 1), *state], [outputs, *end], strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_one_step_after_another_gives_what_the_whole_gives(whole):
    layer, x, outputs, _ = whole
    state = layer.first_state(2)
    for t in range(9):
        held, state = layer.step(tf.fill([2, 2], 9.0), state, valid=tf.constant([False, False]))
        y, state = layer.step(x[:, t], state)
        np.testing.assert_allclose(y, outputs[:, t], atol=1e-5)


def test_a_change_is_counted_from_the_last_valid_step(whole):
    layer, x, outputs, end = whole
    with_gap = tf.concat([x[:, :4], 9 * tf.ones([2, 2, 2]), x[:, 4:]], 1)
    mask = tf.constant([[True] * 4 + [False] * 2 + [True] * 5] * 2)
    found, *state = layer(with_gap, mask=mask)
    np.testing.assert_allclose(found[:, 6:], outputs[:, 4:], atol=1e-5)
    np.testing.assert_allclose(state[-1], end[-1], atol=1e-6)
