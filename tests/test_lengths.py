"""Sequences of many lengths give what they give without XLA, and share few of its programs."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

import santm_tf
from santm_tf.keras import keras
from santm_tf.lengths import room
from santm_tf.program import Program

LENGTHS = range(1, 41)


@given(st.integers(0, 2 ** 20))
def test_room_is_at_most_a_quarter_more_and_is_the_same_for_tensors(steps):
    found = room(steps)
    assert steps <= found <= steps * 1.25 and room(found) == found
    assert int(room(tf.constant(steps))) == found


def test_few_lengths_are_left():
    assert len({room(steps) for steps in range(1, 1001)}) <= 36


@pytest.fixture
def programs(monkeypatch):
    """The shapes for which XLA compiled."""
    shapes, run = set(), Program.__call__

    def noted(self, batched, *rest):
        shapes.add(tuple(tf.nest.flatten(batched)[0].shape))
        return run(self, batched, *rest)

    monkeypatch.setattr(Program, "__call__", noted)
    return shapes


def with_and_without(make):
    plain, compiled = make(False), make(True)
    for layer in plain, compiled:
        layer.build([None, None, 2])
    compiled.set_weights(plain.get_weights())
    return plain, compiled


def same(plain, compiled, x, **options):
    def found(layer):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.nest.flatten(layer(x, **options))
            total = tf.add_n([tf.reduce_sum(tf.cast(v, tf.float32) ** 2) for v in y])
        return [*y, *tape.gradient(total, [x, *layer.trainable_variables], unconnected_gradients="zero")]

    for a, b in zip(found(plain), found(compiled), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("options", [
    {}, {"return_sequences": True, "return_state": True}, {"go_backwards": True, "return_sequences": True},
    {"go_backwards": True, "zero_output_for_mask": True}])
@pytest.mark.parametrize("masked", [False, True])
def test_recurrent_layers(options, masked, programs):
    plain, compiled = with_and_without(lambda jit: santm_tf.Recurrent(
        keras.layers.LSTMCell(3), jit_compile=jit, **options))
    for steps in (1, 8, 9, 11):
        x = tf.random.stateless_normal([2, steps, 2], [steps, 0])
        mask = tf.random.stateless_uniform([2, steps], [steps, 1]) < 0.7 if masked else None
        same(plain, compiled, x, mask=mask)
    assert {shape[1] for shape in programs} == {1, 8, 10, 12}


def test_santm(programs):
    plain, compiled = with_and_without(lambda jit: santm_tf.SANTM(
        3, memory_slots=3, slot_width=4, mask_period=5, access_rate=0.4, boundaries="fixed", recall="read",
        go_backwards=True, return_sequences=True, return_state=True, jit_compile=jit))
    x = tf.random.stateless_normal([2, 9, 2], [9, 0])
    for a, b in zip(compiled(x), plain(x), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)
    assert {shape[1] for shape in programs} == {10}


def test_a_graph_whose_lengths_vary(programs):
    plain, compiled = with_and_without(lambda jit: santm_tf.Recurrent(
        keras.layers.GRUCell(3), jit_compile=jit, return_sequences=True))
    run = tf.function(compiled, input_signature=[tf.TensorSpec([2, None, 2])])
    for steps in (3, 9, 10):
        x = tf.random.stateless_normal([2, steps, 2], [steps, 0])
        np.testing.assert_allclose(run(x), plain(x), atol=1e-5)


def test_gradients_of_gradients_hold_the_state_beyond_the_end():
    plain, compiled = with_and_without(lambda jit: santm_tf.Recurrent(
        keras.layers.GRUCell(2), jit_compile=jit))
    x = tf.random.stateless_normal([1, 9, 2], [1, 2])

    def twice(layer):
        with tf.GradientTape(persistent=True) as outer:
            outer.watch(x)
            with tf.GradientTape(persistent=True) as inner:
                inner.watch(x)
                y = tf.reduce_sum(layer(x) ** 2)
            slope = inner.gradient(y, x)
        return outer.gradient(slope, x)

    np.testing.assert_allclose(twice(compiled), twice(plain), atol=1e-5)
