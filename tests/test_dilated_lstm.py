"""The Dilated LSTM against NumPy step by step, and what each step depends on."""


import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from santm_tf import Recurrent
from santm_tf.baselines import dilated_lstm
from santm_tf.baselines.dilated_lstm import DilatedLSTM, dilated, in_time_order, interleaved
from santm_tf.errors import ArgumentError
from santm_tf.keras import keras
from tests.helpers import draw

UNITS, FEATURES = 3, 2


def sequences(batch=3, steps=13, features=FEATURES):
    return np.random.default_rng(0).normal(size=[batch, steps, features])


def built(x, dilations, **arguments):
    """In float64, with random weights."""
    layer = DilatedLSTM(UNITS, dilations, dtype="float64", **arguments)
    layer(x)
    draw(layer.weights, 0.7)
    return layer


def reference(x, dilations, weights):
    """The equations for `[B, T, d]`, one step after the other, no step ever moved."""
    weights = list(weights)
    for d in dilations:
        kernel, recurrent_kernel, bias = weights[:3]
        del weights[:3]
        h, c = (np.zeros([x.shape[1] + d, len(x), UNITS]) for _ in range(2))  # at t + d
        for t in range(x.shape[1]):
            i, f, g, o = np.split(x[:, t] @ kernel + h[t] @ recurrent_kernel + bias, 4, -1)
            i, f, o = (1 / (1 + np.exp(-v)) for v in (i, f, o))
            c[t + d] = f * c[t] + i * np.tanh(g)
            h[t + d] = o * np.tanh(c[t + d])
        x = np.swapaxes(h[d:], 0, 1)
    if weights:
        kernel, bias = weights
        padded = np.pad(x, [(0, 0), (dilations[0] - 1, 0), (0, 0)])
        x = bias + sum(padded[:, j:j + x.shape[1]] @ kernel[j] for j in range(dilations[0]))
    return x


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), st.integers(1, 7), st.sampled_from([(), (2,)]))
def test_interleaving_is_its_formula_and_can_be_undone(steps, dilation, rest):
    x = np.arange(1, 1 + 3 * steps * int(np.prod(rest))).reshape(3, steps, *rest)
    y = interleaved(tf.constant(x), dilation).numpy()
    length = -(-steps // dilation)
    assert y.shape == (3 * dilation, length, *rest)
    for b, r, n in np.ndindex(3, dilation, length):
        t = n * dilation + r
        np.testing.assert_array_equal(y[b * dilation + r, n], x[b, t] if t < steps else 0)
    np.testing.assert_array_equal(in_time_order(tf.constant(y), dilation, steps), x)


@pytest.mark.parametrize("dilation", [1, 2, 3, 4])
def test_a_step_depends_on_every_d_th_step_before_and_on_nothing_between(dilation):
    x = tf.constant(sequences(batch=1))
    layer = Recurrent(keras.layers.LSTMCell(UNITS, dtype="float64"), return_sequences=True, dtype="float64")
    steps = x.shape[1]
    reaches = np.zeros([steps, steps], bool)  # from s to t
    for s in range(steps):
        moved = x + tf.one_hot(s, steps, dtype=x.dtype)[None, :, None]
        change = dilated(layer, moved, dilation) - dilated(layer, x, dilation)
        reaches[s] = np.abs(change).max((0, 2)) > 0
    s, t = np.indices(reaches.shape)
    np.testing.assert_array_equal(reaches, (t >= s) & ((t - s) % dilation == 0))


@pytest.mark.parametrize("dilation", [2, 3])
def test_a_state_follows_from_the_one_d_steps_before_alone(dilation):
    x = sequences()
    cell = keras.layers.LSTMCell(UNITS, dtype="float64")
    y = dilated(Recurrent(cell, return_sequences=True, dtype="float64"), x, dilation)
    h, c = (np.zeros([x.shape[1], len(x), UNITS]) for _ in range(2))
    for t in range(x.shape[1]):
        before = [tf.constant(s[t - dilation] if t >= dilation else 0 * s[0]) for s in (h, c)]
        h[t], (_, c[t]) = cell(x[:, t], before)
    np.testing.assert_allclose(y, np.swapaxes(h, 0, 1), atol=1e-12)


@pytest.mark.parametrize("dilations", [(1,), (1, 2, 4), (2, 4), (3, 1)])
@pytest.mark.parametrize("steps", [1, 8, 13])
def test_the_stack_is_its_equations(dilations, steps):
    x = sequences(steps=steps)
    layer = built(x, dilations, return_sequences=True)
    np.testing.assert_allclose(layer(x), reference(x, dilations, layer.get_weights()), atol=1e-12)


@pytest.mark.parametrize("dilations", [(1, 2), (2, 4)])
def test_gradients_are_finite_differences(dilations):
    x = sequences(batch=2, steps=5)
    layer = built(x, dilations, return_sequences=True)
    weights = layer.get_weights()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.sin(layer(x)))
    rng = np.random.default_rng(2)
    gradients = tape.gradient(loss, layer.trainable_weights)
    for n, gradient in enumerate(gradients):
        way = rng.normal(size=gradient.shape)
        ends = [np.sin(reference(x, dilations, [w + e * way if k == n else w
                                                for k, w in enumerate(weights)])).sum()
                for e in (1e-6, -1e-6)]
        np.testing.assert_allclose(np.sum(gradient * way), (ends[0] - ends[1]) / 2e-6, rtol=1e-6)


@pytest.mark.parametrize("dilations", [(1, 2, 4), (2, 4)])
def test_padding_changes_nothing(dilations):
    x, lengths = sequences(batch=4), [13, 1, 6, 11]
    layer = built(x, dilations)
    y = layer(x, mask=tf.sequence_mask(lengths, x.shape[1]))
    for n, length in enumerate(lengths):
        expected = reference(x[n:n + 1, :length], dilations, layer.get_weights())[0, -1]
        np.testing.assert_allclose(y[n], expected, atol=1e-12)


def test_with_a_first_dilation_above_1_the_fusion_lets_every_step_count():
    x = tf.constant(sequences(batch=1))
    for dilations, parts in (((2, 4), 2), ((1, 2), 0)):
        layer = built(x, dilations)
        assert len(layer.weights) == 3 * len(dilations) + parts
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_sum(layer(x))
        assert np.all(np.any(tape.gradient(y, x), -1))


def test_lengths_may_differ_from_call_to_call():
    layer = built(sequences(), (1, 2, 4))
    run = tf.function(layer, input_signature=[tf.TensorSpec([None, None, FEATURES], tf.float64)])
    for steps in (1, 3, 8, 13):
        x = sequences(steps=steps)
        np.testing.assert_allclose(run(x), reference(x, (1, 2, 4), layer.get_weights())[:, -1], atol=1e-12)


def test_it_can_be_compiled():
    x = sequences(batch=16)
    compiled = built(x, (1, 2), jit_compile=True)
    expected = reference(x, (1, 2), compiled.get_weights())[:, -1]
    np.testing.assert_allclose(compiled(x), expected, atol=1e-12)


def test_chrono_memories_are_in_steps_of_the_input():
    layer = DilatedLSTM(300, (1, 4), memory_horizon=401)
    layer(tf.zeros([1, 4, 1]))
    longest = [np.exp(recurrent.cell.bias[300:600].numpy()).max() for recurrent in layer.stack]
    assert 360 < longest[0] <= 401 and 90 < longest[1] <= 101


@pytest.mark.parametrize("layers, dilations", [({}, [1, 2, 4]), ({"layers": 5}, [1, 2, 4, 8, 16])])
def test_layers_give_powers_of_two(layers, dilations):
    model = dilated_lstm.make(4, **layers, return_sequences=True, jit_compile=False)
    assert model.layers[0].dilations == dilations
    assert model(tf.zeros([2, 7, 1])).shape == [2, 7, 4]


@pytest.mark.parametrize("dilations", [(), (0, 1)])
def test_what_cannot_work_is_refused(dilations):
    with pytest.raises(ArgumentError, match="give one or more, each at least 1"):
        DilatedLSTM(4, dilations)
