"""Shapes that do not fit one another are named in one line; XLA would read past their ends in silence."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from santm_tf import SANTM, Recurrent
from santm_tf.keras import keras
from tests.helpers import random

BATCH, STEPS, UNITS = 6, 5, 4
MADE = {"SANTM": lambda **k: SANTM(UNITS, memory_slots=6, slot_width=4, recall="read", seed=0, **k),
        "Recurrent": lambda **k: Recurrent(keras.layers.LSTMCell(UNITS), **k)}
every = pytest.mark.parametrize("make", MADE.values(), ids=MADE)


def data(steps=STEPS):
    return random(BATCH, steps, 3).astype(np.float32)


def refused(call, *parts):
    """One line has all parts. Keras writes more lines around what a call raises."""
    with pytest.raises(ValueError) as error:
        call()
    lines = str(error.value).split("\n")
    assert any(all(part in line for part in parts) for line in lines), lines


@pytest.mark.parametrize("shape", [(BATCH, 4), (BATCH, 7), (3, STEPS), (BATCH,), (BATCH, STEPS, 2)], ids=str)
@pytest.mark.parametrize("jit", [False, True])
@every
def test_a_mask_of_another_shape_is_refused(make, jit, shape):
    layer = make(jit_compile=jit)
    refused(lambda: layer(data(), mask=np.ones(shape, bool)), f"the mask's shape is {shape}", "(6, 5)")


@every
def test_a_mask_of_one_row_is_that_of_all_rows(make):
    layer, one = make(jit_compile=False), np.array([[False, True, True, True, False]])
    np.testing.assert_array_equal(layer(data(), mask=one), layer(data(), mask=np.repeat(one, BATCH, 0)))
    alone = keras.layers.LSTM(UNITS)(data(), mask=tf.constant(one))
    assert alone.shape == layer(data(), mask=one).shape


@pytest.mark.parametrize("change", [lambda v: v[:3], lambda v: v[:1], lambda v: tf.concat([v, v], -1)],
                         ids=["fewer rows", "one row", "twice as wide"])
@pytest.mark.parametrize("jit", [False, True])
def test_an_initial_state_of_another_shape_is_refused(jit, change):
    layer = MADE["SANTM"](jit_compile=jit)
    layer.build([None, STEPS, 3])
    state = layer.get_initial_state(BATCH)
    wrong = [*state[:3], change(state[3]), *state[4:]]
    refused(lambda: layer(data(), initial_state=wrong), "initial_state[3]",
            str(tuple(wrong[3].shape)), str(tuple(state[3].shape)))
    refused(lambda: layer(data(), initial_state=state[0]), "initial_state has 1 tensors")


@pytest.mark.parametrize("steps", [3, 7])
def test_a_window_that_is_no_whole_mask_period_is_refused_after_the_first_too(steps):
    layer = MADE["SANTM"](jit_compile=False, stateful=True)
    layer(data())
    refused(lambda: layer(data(steps)), f"{steps} steps", f"mask_period={STEPS}")
    layer(data(2 * STEPS))


def test_sequences_of_no_steps_are_refused():
    refused(lambda: MADE["SANTM"](jit_compile=False)(data(0)), "no steps")
    layer = MADE["SANTM"](jit_compile=False)
    layer(data())
    refused(lambda: layer(data(0)), "no steps")


def test_arguments_of_another_kind_are_named():
    refused(lambda: Recurrent([]), "cell=[]")
    refused(lambda: SANTM(UNITS, dropout="a"), "dropout='a'")
    assert SANTM(np.int64(4), jit_compile=False)(data()).shape == (BATCH, 4)


@pytest.mark.parametrize("masked", [False, True])
def test_bidirectional_gives_the_states_of_both(masked):
    count = {}
    for name, layer in {"LSTM": keras.layers.LSTM(UNITS, return_sequences=True, return_state=True),
                        "SANTM": MADE["SANTM"](return_sequences=True, return_state=True,
                                               jit_compile=False)}.items():
        both, x = keras.layers.Bidirectional(layer), keras.Input([STEPS, 3])
        y, *states = keras.Model(x, both(keras.layers.Masking()(x) if masked else x))(data())
        assert y.shape == (BATCH, STEPS, 2 * UNITS) and all(state.shape[0] == BATCH for state in states)
        count[name] = len(states)
    assert count == {"LSTM": 4, "SANTM": 20}


def test_bidirectional_hands_on_the_mask():
    layer = keras.layers.Bidirectional(MADE["SANTM"](return_sequences=True, jit_compile=False))
    x, lengths = data(), [2, *[STEPS] * (BATCH - 1)]
    y = layer(x, mask=tf.sequence_mask(lengths, STEPS))
    np.testing.assert_allclose(y[:1, :2], layer(x[:1, :2]), atol=1e-5)


READ = """
import sys
import numpy as np, tensorflow as tf
import santm_tf
model = tf.keras.models.load_model(sys.argv[1])
print(float(np.abs(model(np.ones([1, 5, 3], "float32")) - np.load(sys.argv[2])).max()))
"""


def test_keras_reads_a_file_with_our_layers_where_the_package_is_imported(tmp_path):
    model = keras.Sequential([keras.Input([STEPS, 3]), MADE["SANTM"](jit_compile=False)])
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "y.npy", model(np.ones([1, STEPS, 3], np.float32)))
    done = subprocess.run([sys.executable, "-c", READ, tmp_path / "model.keras", tmp_path / "y.npy"],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-1000:]
    assert float(done.stdout) < 1e-6
