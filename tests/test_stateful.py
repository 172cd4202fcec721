"""SANTM in windows: the state handed on, by the caller or by the layer itself."""

import numpy as np
import pytest
import tensorflow as tf
from test_santm import STEPS, VARIANTS, built, random

from santm_tf import SANTM, load_model
from santm_tf.keras import keras, reset_states

ON = [True, False, True, False]
WINDOWS = (4, 8)


def cut(x):
    return np.split(x, np.cumsum(WINDOWS)[:-1], axis=1)


@pytest.mark.parametrize("options", VARIANTS)
def test_windows_with_the_state_handed_on_give_what_the_whole_gives(options):
    x = random(3, STEPS, 2)
    whole = built(ON, **options)(tf.constant(x))
    layer, state, outputs = built(ON, return_state=True, **options), None, []
    for window in cut(x):
        y, *state = layer(tf.constant(window), initial_state=state)
        outputs.append(y)
    joined = tf.concat(outputs, 1) if layer.return_sequences else outputs[-1]
    np.testing.assert_allclose(joined, whole, atol=1e-12)


def stateful(**options):
    return SANTM(4, memory_slots=6, slot_width=4, attention_heads=2, locality=1, mask_period=2,
                 access_rate=0.5, segment_length=2, return_sequences=True, stateful=True, seed=0, **options)


@pytest.mark.parametrize("jit", [False, True])
def test_a_stateful_layer_goes_on_where_it_ended(jit):
    layer = stateful(jit_compile=jit)
    x = random(16, STEPS, 2).astype(np.float32)
    model = keras.Sequential([keras.Input(batch_shape=[16, 4, 2]), layer])
    windows = np.split(x, 3, axis=1)
    first, second, third = (model.predict_on_batch(w) for w in windows)
    fresh = SANTM.from_config({**layer.get_config(), "stateful": False, "return_state": True})
    fresh(windows[0])
    for ours, theirs in zip(fresh.trainable_weights, layer.trainable_weights, strict=True):
        ours.assign(theirs)
    state = None
    for window, ours in zip(windows, (first, second, third), strict=True):
        y, *state = fresh(window, initial_state=state)
        np.testing.assert_allclose(ours, y, atol=1e-5)
    reset_states(model)
    np.testing.assert_allclose(model.predict_on_batch(windows[0]), first, atol=1e-6)


def test_the_gradient_ends_at_the_window_and_reaches_the_initial_state_at_a_start():
    layer = stateful(jit_compile=False)
    x = tf.constant(random(4, 4, 2), tf.float32)
    layer(x)

    def gradient():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x) ** 2)
        return tape.gradient(loss, layer.top.initial_memory)

    assert not np.any(gradient())
    layer.reset_states()
    assert np.any(gradient())


def test_a_saved_model_begins_anew_as_keras_lstm_does(tmp_path):
    model = keras.Sequential([keras.Input(batch_shape=[4, 4, 2]), stateful()])
    x = random(4, 4, 2).astype(np.float32)
    first = model.predict_on_batch(x)
    model.save(tmp_path / "model.keras")
    np.testing.assert_allclose(load_model(tmp_path / "model.keras").predict_on_batch(x), first, atol=1e-6)


@pytest.mark.parametrize("shape", [[None, 4, 2], [4, 5, 2], [4, None, 2]])
def test_what_cannot_go_on_is_refused(shape):
    with pytest.raises(ValueError, match="stateful=True needs a fixed batch size.*mask_period=2"):
        stateful()(keras.Input(batch_shape=shape))
