"""The memory: writes, the Neural Turing Machine's step, and SANTM's top level that is held."""

import numpy as np
import pytest
import reference
import tensorflow as tf

from santm_tf import MemoryCell, NTMCell, Recurrent
from santm_tf.memory import MemoryState, write
from tests.helpers import random, randomise

SIZES = {"memory_slots": 6, "slot_width": 3, "read_heads": 2, "write_heads": 2}


def built(kind, features=3, dtype="float64", scale=1.0, **sizes):
    cell = kind(4, dtype=dtype, **{**SIZES, **sizes})
    shape = [None, features]
    cell.build([shape, [None, 1]] if kind is MemoryCell else shape)
    randomise(cell.weights, scale)  # which put every term to use
    return cell


def state_of(cell, batch=2):
    return cell.get_initial_state(batch_size=batch)


def assert_states_equal(ours, theirs, row, **tolerance):
    for field in MemoryState._fields:
        np.testing.assert_allclose(
            getattr(MemoryState(*ours), field)[row], getattr(theirs, field), err_msg=field,
            **tolerance)


@pytest.mark.parametrize("heads", [1, 3])
def test_write_erases_with_every_head_then_adds_with_every_head(heads):
    memory, w = random(2, 5, 3), abs(random(2, heads, 5))
    erase, add = abs(random(2, heads, 3, seed=1)), random(2, heads, 3, seed=2)
    ours = write(*map(tf.constant, (memory, w, erase, add)))
    for b in range(2):
        np.testing.assert_allclose(ours[b], reference.write(memory[b], w[b], erase[b], add[b]))


def test_write_gradients_match_finite_differences():
    arguments = [tf.constant(random(*shape, seed=i)) for i, shape in enumerate(
        [(2, 4, 3), (2, 2, 4), (2, 2, 3), (2, 2, 3)])]
    exact, numeric = tf.test.compute_gradient(write, arguments, delta=1e-5)
    for a, b in zip(exact, numeric, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-8)


@pytest.mark.parametrize("memory_init", ["learned", "constant"])
@pytest.mark.parametrize("shift_range", [0, 1, 2])
def test_ntm_matches_numpy_step_by_step(memory_init, shift_range):
    cell = built(NTMCell, memory_init=memory_init, shift_range=shift_range)
    x, state = random(7, 2, 3, seed=9), state_of(cell)
    theirs = [reference.first_state(cell) for _ in range(2)]
    for row in range(2):
        assert_states_equal(state, theirs[row], row)
    for x_t in x:
        output, state = cell(tf.constant(x_t), state)
        for row in range(2):
            theirs[row] = reference.ntm(cell, x_t[row], theirs[row])
            assert_states_equal(state, theirs[row], row, rtol=1e-9, atol=1e-11)
            np.testing.assert_allclose(
                output[row], np.concatenate([theirs[row].h, theirs[row].read.ravel()]), atol=1e-11)


def test_it_reads_before_it_writes():
    cell = built(NTMCell, scale=3.0)
    old = MemoryState(*state_of(cell))
    new = MemoryState(*cell(tf.constant(random(2, 3)), list(old))[1])
    np.testing.assert_allclose(new.read, new.read_weights.numpy() @ old.memory.numpy())
    assert not np.allclose(new.read, new.read_weights.numpy() @ new.memory.numpy(), atol=1e-3)


def test_heads_are_clipped_at_twenty():
    cell = built(NTMCell)
    x, state = tf.constant(random(2, 3)), state_of(cell)
    cell.head_bias.assign(1e3 * np.sign(random(*cell.head_bias.shape)))
    beyond = cell(x, state)[1]
    cell.head_bias.assign(np.sign(cell.head_bias) * 50.0)
    for a, b in zip(beyond, cell(x, state)[1], strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_memory_is_held_to_the_bit_where_it_is_not_accessed():
    cell = built(MemoryCell, dtype="float32")
    _, state = cell((tf.constant(random(2, 3), tf.float32), tf.ones([2, 1])), state_of(cell))
    (read_weights, memory), new = cell(
        (tf.constant(random(2, 3, seed=1)), tf.zeros([2, 1])), state)
    for a, b in zip(new, state, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(read_weights, MemoryState(*state).read_weights)
    np.testing.assert_array_equal(memory, MemoryState(*state).memory)


def test_an_access_is_a_step_of_the_ntm_row_by_row():
    top, ntm = built(MemoryCell), built(NTMCell)
    x, state = tf.constant(random(2, 3)), state_of(top)
    (read_weights, memory), new = top((x, tf.constant([[1.0], [0.0]], tf.float64)), state)
    moved = ntm(x, state)[1]
    for a, accessed, held in zip(new, moved, state, strict=True):
        np.testing.assert_array_equal(a[0], accessed[0])
        np.testing.assert_array_equal(a[1], held[1])
    np.testing.assert_array_equal(read_weights, MemoryState(*new).read_weights)
    np.testing.assert_array_equal(memory, MemoryState(*new).memory)


@pytest.mark.parametrize("kind", [NTMCell, MemoryCell])
def test_gradients_match_finite_differences(kind):
    cell = built(kind, memory_slots=4, slot_width=2, write_heads=1, read_heads=1, scale=0.7)
    weights, a = cell.trainable_weights, tf.constant([[1.0]], tf.float64)

    def three_steps(x, *values):
        for w, value in zip(weights, values, strict=True):
            w.assign(value)
        state, total = state_of(cell, 1), 0.0
        for t in range(3):
            output, state = cell(x[t] if kind is NTMCell else (x[t], a), state)
            total += sum(tf.reduce_sum(tf.sin(v)) for v in tf.nest.flatten(output))
        return total

    x, start = tf.constant(random(3, 1, 3)), [tf.constant(w) for w in cell.get_weights()]
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = three_steps(x, *start)
    exact = tape.gradient(total, [x, *weights])
    rng = np.random.default_rng(0)
    values = [x, *start]
    for i, gradient in enumerate(exact):
        direction = rng.normal(size=values[i].shape)
        shifted = [[v + sign * 1e-6 * direction if j == i else v for j, v in enumerate(values)]
                   for sign in (1, -1)]
        slope = (three_steps(*shifted[0]) - three_steps(*shifted[1])) / 2e-6
        np.testing.assert_allclose(tf.reduce_sum(gradient * direction), slope, rtol=1e-5, atol=1e-8)


def test_memory_init():
    constant, learned = built(NTMCell, memory_init="constant"), built(NTMCell)
    np.testing.assert_allclose(MemoryState(*state_of(constant)).memory, 1e-6)
    assert not any("initial_memory" in w.name for w in constant.weights)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(MemoryState(*state_of(learned)).memory ** 2)
    assert np.any(tape.gradient(loss, learned.initial_memory))


@pytest.mark.parametrize("kind", [NTMCell, MemoryCell])
@pytest.mark.parametrize(("argument", "value"), [
    ("units", 0), ("memory_slots", 1), ("slot_width", 0), ("read_heads", 0), ("write_heads", 0),
    ("shift_range", -1), ("shift_range", 3), ("memory_init", "zeros")])
def test_a_bad_size_is_named_in_one_line(kind, argument, value):
    with pytest.raises(ValueError, match=f"{kind.__name__}: {argument}={value!r}") as error:
        kind(**{"units": 4, **SIZES, argument: value})
    assert "\n" not in str(error.value)


def test_its_state_is_asked_for_too_early():
    with pytest.raises(ValueError, match="build the cell"):
        NTMCell(4).get_initial_state(batch_size=2)


@pytest.mark.parametrize("memory_init", ["learned", "constant"])
def test_five_hundred_steps_with_large_weights_stay_finite(memory_init):
    layer = Recurrent(NTMCell(4, memory_init=memory_init, **SIZES), return_sequences=True)
    x = tf.constant(random(2, 500, 3), tf.float32)
    layer.build(x.shape)
    randomise(layer.cell.weights, 5.0)

    @tf.function
    def run():
        with tf.GradientTape() as tape:
            y = layer(x)
            loss = tf.reduce_mean(y**2)
        return y, tape.gradient(loss, layer.trainable_weights)

    y, gradients = run()
    for v in [y, *gradients]:
        assert np.all(np.isfinite(v))
