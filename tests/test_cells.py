"""The two lower levels and their parts against NumPy in float64."""

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from santm_tf import CascadeLSTMCell, Recurrent, SegmentLSTMCell
from santm_tf.keras import keras
from santm_tf.lstm import ChronoBias, lstm
from santm_tf.ops import product, sigmoid, straight_through
from santm_tf.packing import at_steps, pack
from tests.helpers import Looped


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def logistic(x):
    return 1 / (1 + np.exp(-x))


def numpy_lstm(z, c):
    i, f, g, o = np.split(z, 4, -1)
    c = logistic(f) * c + logistic(i) * np.tanh(g)
    return logistic(o) * np.tanh(c), c


def numpy_segments(x, kernel, recurrent_kernel, bias, u, v, b, offset=None, given=None, seen=None):
    """The bottom level's equations for `[B, T, d]`; `offset` puts `beta = p + offset`, `given` beta.

    `seen`: a list of the cells by which a boundary resets, step by step; an empty one gets them.
    """
    h = c = np.zeros([len(x), len(v)])
    hs, ps, betas = [], [], []
    seen = [] if seen is None else seen
    for t in range(x.shape[1]):
        if len(seen) == t:
            seen.append(c)
        p, by = (logistic(x[:, t] @ u + cell @ v + b) for cell in (c, seen[t]))
        beta, reset = ((q > 0.5).astype(float) if offset is None else q + offset[:, t] for q in (p, by))
        beta, reset = (beta, reset) if given is None else (given[:, t], given[:, t])
        h, c = numpy_lstm(x[:, t] @ kernel + h @ recurrent_kernel + bias, c)
        c = (1 - reset) * c
        hs.append(h)
        ps.append(p)
        betas.append(beta)
    return np.stack(hs, 1), np.stack(betas, 1), np.stack(ps, 1), h, c


def numpy_cascade(x, beta, kernel, recurrent_kernel, bias):
    """The middle level's equations for `[B, T, d]` and `[B, T, 1]`."""
    h = c = np.zeros([len(x), len(recurrent_kernel)])
    hs = []
    for t in range(x.shape[1]):
        h_new, c_new = numpy_lstm(x[:, t] @ kernel + h @ recurrent_kernel + bias, c)
        h = beta[:, t] * h_new + (1 - beta[:, t]) * h
        c = beta[:, t] * c_new + (1 - beta[:, t]) * c
        hs.append(h)
    return np.stack(hs, 1), h, c


def numeric_gradients(f, values, delta=1e-5):
    """Central differences of a scalar function of a list of arrays."""
    gradients = []
    for i, value in enumerate(values):
        gradient = np.zeros_like(value)
        for at in np.ndindex(value.shape):
            ends = []
            for sign in (1, -1):
                moved = value.copy()
                moved[at] += sign * delta
                ends.append(f(*values[:i], moved, *values[i + 1:]))
            gradient[at] = (ends[0] - ends[1]) / (2 * delta)
        gradients.append(gradient)
    return gradients


def weighted(results):
    """One number that depends on every entry of every result."""
    return sum((np.cos(np.arange(np.size(r))).reshape(r.shape) * r).sum() for r in results)


def tf_weighted(results):
    return tf.add_n([tf.reduce_sum(np.cos(np.arange(np.size(r))).reshape(r.shape) * r)
                     for r in results])


def assert_all_close(actual, expected, atol):
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=0, atol=atol)


def segment_layer(x, loop=Recurrent):
    """In float64, with random weights under which the boundary is crossed often."""
    layer = loop(SegmentLSTMCell(3, dtype="float64"), dtype="float64", return_sequences=True,
                 return_state=True)
    layer.build(x.shape)
    layer.set_weights([normal(*w.shape, seed=i) for i, w in enumerate(layer.get_weights())])
    return layer


def cascade_layer(x, beta, loop=Recurrent):
    layer = loop(CascadeLSTMCell(3, dtype="float64"), dtype="float64", return_sequences=True,
                 return_state=True)
    layer.build((tf.TensorShape(x.shape), tf.TensorShape(beta.shape)))
    layer.set_weights([normal(*w.shape, seed=i) for i, w in enumerate(layer.get_weights())])
    return layer


def boundaries(*shape):
    return np.random.default_rng(9).integers(0, 2, [*shape, 1]).astype(float)


def test_segment_cell_is_its_equations():
    x = normal(4, 6, 2, seed=7)
    layer = segment_layer(x)
    (h, beta), *state = layer(x)
    hs, betas, _, *last = numpy_segments(x, *layer.get_weights())
    assert 0 < betas.mean() < 1
    assert_all_close([h, beta, *state], [hs, betas, *last], 1e-12)


def test_segment_cell_gradients_take_beta_for_p_and_stop_at_the_cell_by_which_it_resets():
    x = normal(2, 4, 2, seed=7)
    layer = segment_layer(x)
    weights, seen = layer.get_weights(), []
    _, betas, ps, *_ = numpy_segments(x, *weights, seen=seen)
    assert 0 < betas.mean() < 1

    def surrogate(x, *weights):
        hs, betas_moved, _, *state = numpy_segments(x, *weights, offset=betas - ps, seen=seen)
        return weighted([hs, betas_moved, *state])

    with tf.GradientTape() as tape:
        source = tf.constant(x)
        tape.watch(source)
        (h, beta), *state = layer(source)
        loss = tf_weighted([h, beta, *state])
    gradients = tape.gradient(loss, [source, *layer.trainable_weights])
    assert_all_close(gradients, numeric_gradients(surrogate, [x, *weights]), 1e-8)


def test_gradients_through_784_steps_are_those_with_the_same_boundaries_given():
    """With a gradient from the reset by beta to c these weights gave NaN."""
    x = tf.constant(np.random.default_rng(0).uniform(size=[1, 784, 1]), tf.float32)
    layer = Recurrent(SegmentLSTMCell(8), return_sequences=True, jit_compile=True)
    layer(x)
    rng, cell = np.random.default_rng(0), layer.cell
    for w in cell.weights[:3]:
        w.assign(rng.normal(size=w.shape))
    cell.bias.assign(np.repeat([0.0, 3.0, 0.0, 0.0], 8))
    cell.boundary_kernel.assign(rng.normal(size=[1, 1]))
    cell.boundary_recurrent_kernel.assign(3 * rng.normal(size=[8, 1]))
    cell.boundary_bias.assign([-30.0])
    with tf.GradientTape() as tape:
        h, beta = layer(x)
        loss = tf.reduce_mean(h[:, -1] ** 2)
    gradients = tape.gradient(loss, cell.trainable_weights)
    assert 0.05 < float(tf.reduce_mean(beta)) < 0.95
    given = Recurrent(SegmentLSTMCell(8, boundaries="given"), return_sequences=True)
    given((x, beta))
    given.set_weights(layer.get_weights()[:3])
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(given((x, beta))[0][:, -1] ** 2)
    assert_all_close(gradients[:3], tape.gradient(loss, given.cell.trainable_weights), 1e-5)
    assert float(tf.linalg.global_norm(gradients)) < 10


def test_boundary_resets_the_cell_state_and_nothing_else():
    cell = SegmentLSTMCell(2, dtype="float64")
    x, h, c = normal(2, 3), normal(2, 2, seed=1), normal(2, 2, seed=2)
    cell.build(x.shape)
    cell.boundary_kernel.assign(np.zeros([3, 1]))
    cell.boundary_recurrent_kernel.assign([[100.0], [0.0]])
    cell.boundary_bias.assign([0.0])
    c[:, 0] = 1, -1  # p = 1 in the first row and 0 in the second
    (y, beta), (h_new, c_new) = cell(x, [h, c])
    z = x @ cell.kernel.numpy() + h @ cell.recurrent_kernel.numpy() + cell.bias.numpy()
    expected, candidate = numpy_lstm(z, c)
    np.testing.assert_array_equal(beta, [[1], [0]])
    np.testing.assert_array_equal(c_new[0], [0, 0])
    assert_all_close([c_new[1], h_new, y], [candidate[1], expected, expected], 1e-12)


def test_straight_through_is_a_threshold_forward_and_the_identity_backward():
    p = tf.constant([0.0, 0.2, 0.5, 0.50001, 1.0])
    with tf.GradientTape() as tape:
        tape.watch(p)
        beta = straight_through(p)
        loss = tf.reduce_sum(beta * [1.0, 2.0, 3.0, 4.0, 5.0])
    np.testing.assert_array_equal(beta, [0, 0, 0, 1, 1])
    np.testing.assert_array_equal(tape.gradient(loss, p), [1, 2, 3, 4, 5])


@pytest.mark.parametrize("length, bias", [(2.0, 0.0), (8.0, -np.log(7)), (1000, -np.log(999)),
                                          (1.0, 1.0), (1.01, 1.0)])
def test_first_boundary_bias_is_set_from_the_segment_length(length, bias):
    cell = SegmentLSTMCell(2, segment_length=length)
    cell.build((None, 3))
    np.testing.assert_allclose(cell.boundary_bias, [bias], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("length", [0.99, 0, -3])
def test_segment_length_below_one_is_refused(length):
    with pytest.raises(ValueError, match="segment_length"):
        SegmentLSTMCell(2, segment_length=length)


def given_layer(x, learned):
    """A layer whose boundaries are given, with the other weights of one that learned them."""
    layer = Recurrent(SegmentLSTMCell(3, boundaries="given", dtype="float64"), dtype="float64",
                      return_sequences=True, return_state=True)
    layer.build((tf.TensorShape(x.shape), tf.TensorShape([*x.shape[:2], 1])))
    layer.set_weights(learned.get_weights()[:3])
    return layer


@pytest.mark.parametrize("width", [2, 128])  # 128: projected ahead of the loop
def test_given_boundaries_are_taken_as_they_are(width):
    x, beta = normal(4, 6, width, seed=7), boundaries(4, 6)
    learned = segment_layer(x)
    layer = given_layer(x, learned)
    (h, same), *state = layer((x, beta))
    hs, _, _, *last = numpy_segments(x, *learned.get_weights(), given=beta)
    assert_all_close([h, same, *state], [hs, beta, *last], 1e-12)


def test_boundaries_that_were_learned_and_are_given_again_change_nothing():
    x = normal(4, 6, 2, seed=7)
    learned = segment_layer(x)
    (h, beta), *state = learned(x)
    (again, _), *after = given_layer(x, learned)((x, beta))
    assert_all_close([again, *after], [h, *state], 1e-12)


def test_given_boundaries_need_no_weights_and_survive_the_config():
    cell = SegmentLSTMCell.from_config(SegmentLSTMCell(3, 5.0, boundaries="given").get_config())
    assert (cell.boundaries, cell.segment_length) == ("given", 5.0)
    cell.build([[None, 2], [None, 1]])
    assert [w.shape.as_list() for w in cell.weights] == [[2, 12], [3, 12], [12]]


def test_boundaries_of_another_kind_are_refused():
    with pytest.raises(ValueError, match="SegmentLSTMCell: boundaries='fixed'"):
        SegmentLSTMCell(2, boundaries="fixed")


@pytest.mark.parametrize("cell", [SegmentLSTMCell, CascadeLSTMCell])
def test_units_below_one_are_refused(cell):
    with pytest.raises(ValueError, match=f"{cell.__name__}: units=0"):
        cell(0)


def test_cascade_cell_is_its_equations():
    x, beta = normal(4, 6, 2, seed=7), boundaries(4, 6)
    layer = cascade_layer(x, beta)
    assert_all_close(layer((x, beta)), numpy_cascade(x, beta, *layer.get_weights()), 1e-12)


def test_cascade_cell_gradients_match_finite_differences():
    x, beta = normal(2, 3, 2, seed=7), boundaries(2, 3)
    layer = cascade_layer(x, beta)
    weights = layer.get_weights()
    with tf.GradientTape() as tape:
        sources = tf.constant(x), tf.constant(beta)
        tape.watch(sources)
        loss = tf_weighted(layer(sources))
    gradients = tape.gradient(loss, [*sources, *layer.trainable_weights])
    numeric = numeric_gradients(lambda *v: weighted(numpy_cascade(*v)), [x, beta, *weights])
    assert_all_close(gradients, numeric, 1e-8)


@pytest.mark.parametrize("jit", [False, True])
def test_cascade_state_is_held_to_the_bit_between_boundaries(jit):
    cell = CascadeLSTMCell(5)
    x, h, c = (normal(4, size, seed=i).astype(np.float32) for i, size in enumerate((3, 5, 5)))
    beta = np.array([[0], [1], [0], [1]], np.float32)
    cell.build((tf.TensorShape(x.shape), tf.TensorShape(beta.shape)))
    y, (h_new, c_new) = tf.function(cell, jit_compile=jit)((x, beta), [h, c])
    for new, old in ((y, h), (h_new, h), (c_new, c)):
        np.testing.assert_array_equal(new[::2], old[::2])
        assert np.all(new[1::2] != old[1::2])


@pytest.mark.parametrize("leading", [(4,), (4, 6)])
def test_projection_covers_any_leading_axes(leading):
    segment, cascade = SegmentLSTMCell(3, dtype="float64"), CascadeLSTMCell(3, dtype="float64")
    x, beta = normal(*leading, 2), boundaries(*leading)
    segment.build((None, 2))
    cascade.build(((None, 2), (None, 1)))
    z, score = segment.project(x)
    assert_all_close([z, score], [x @ segment.kernel.numpy() + segment.bias.numpy(),
                                  x @ segment.boundary_kernel.numpy()
                                  + segment.boundary_bias.numpy()], 1e-12)
    z, same = cascade.project((x, beta))
    np.testing.assert_allclose(z, x @ cascade.kernel.numpy() + cascade.bias.numpy(), atol=1e-12)
    np.testing.assert_array_equal(same, beta)


@pytest.mark.parametrize("cell, inputs", [
    (SegmentLSTMCell(3, dtype="float64"), tf.constant(normal(4, 2))),
    (CascadeLSTMCell(3, dtype="float64"), (tf.constant(normal(4, 2)),
                                           tf.constant(boundaries(4))))])
def test_split_call_equals_the_plain_call(cell, inputs):
    state = [tf.constant(normal(4, 3, seed=i)) for i in (1, 2)]
    expected = cell(inputs, state)
    actual = cell(cell.project(inputs), state, projected=True)
    tf.nest.assert_same_structure(actual, expected)
    assert_all_close(tf.nest.flatten(actual), tf.nest.flatten(expected), 1e-12)


def results_and_gradients(layer, inputs):
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        results = tf.nest.flatten(layer(inputs))
        loss = tf_weighted(results)
    return results + tape.gradient(loss, [*tf.nest.flatten(inputs), *layer.trainable_weights])


def test_a_plain_loop_drives_the_segment_cell():
    x = tf.constant(normal(4, 6, 2))
    assert_all_close(results_and_gradients(segment_layer(x), x),
                     results_and_gradients(segment_layer(x, Looped), x), 1e-10)


def test_a_plain_loop_drives_the_cascade_cell():
    inputs = tf.constant(normal(4, 6, 2)), tf.constant(boundaries(4, 6))
    assert_all_close(
        results_and_gradients(cascade_layer(*inputs), inputs),
        results_and_gradients(cascade_layer(*inputs, Looped), inputs), 1e-10)


def test_lstm_is_its_equations():
    z, c = 3 * normal(5, 12), normal(5, 3, seed=1)
    assert_all_close(lstm(z, c), numpy_lstm(z, c), 1e-12)


def test_lstm_is_the_cell_of_keras():
    cell = keras.layers.LSTMCell(3, dtype="float64")
    x, h, c = (tf.constant(normal(4, size, seed=i)) for i, size in enumerate((2, 3, 3)))
    _, expected = cell(x, [h, c])
    kernel, recurrent_kernel, bias = cell.get_weights()
    assert_all_close(lstm(x @ kernel + h @ recurrent_kernel + bias, c), expected, 1e-12)


@pytest.mark.parametrize("output", [0, 1])
def test_lstm_gradients_match_finite_differences(output):
    theory, numeric = tf.test.compute_gradient(
        lambda z, c: lstm(z, c)[output], [normal(2, 12), normal(2, 3, seed=1)], delta=1e-5)
    assert_all_close(theory, numeric, 1e-8)


def test_lstm_is_finite_when_its_gates_saturate():
    z = tf.constant([[-1e4, 1e4, 1e4, -1e4], [1e4, -1e4, -1e4, 1e4]])
    c = tf.constant([[5.0], [5.0]])
    with tf.GradientTape() as tape:
        tape.watch([z, c])
        h, c_new = lstm(z, c)
        loss = tf.reduce_sum(h) + tf.reduce_sum(c_new)
    np.testing.assert_allclose(c_new, [[5], [-1]])
    np.testing.assert_allclose(h, [[0], [np.tanh(-1)]], rtol=1e-6)
    assert all(np.all(np.isfinite(g)) for g in tape.gradient(loss, [z, c]))


def test_sigmoid_and_product():
    x, w = 4 * normal(2, 3, 4), normal(4, 5, seed=1)
    np.testing.assert_allclose(sigmoid(x), logistic(x), atol=1e-15)
    np.testing.assert_allclose(product(x, w), x @ w, atol=1e-12)


def test_chrono_bias_spreads_the_memories_over_the_wanted_range():
    i, f, g, o = np.split(ChronoBias(50, seed=3)([4000]).numpy(), 4)
    np.testing.assert_array_equal(i, -f)
    assert not g.any() and not o.any()
    assert 1 <= np.exp(f).min() < 1.5 and 48.5 < np.exp(f).max() <= 49 + 1e-3
    assert abs(np.exp(f).mean() - 25) < 1.5  # uniform on [1, 49]: deviation 14 / sqrt(1000)


def test_chrono_bias_is_reproducible_by_its_seed():
    bias = ChronoBias(50, seed=3)
    again = ChronoBias.from_config(bias.get_config())
    np.testing.assert_array_equal(bias([40]), again([40]))
    assert np.any(bias([40]) != ChronoBias(50, seed=4)([40]))


@pytest.mark.parametrize("steps", [1, 2])
def test_chrono_bias_of_the_shortest_memory_is_zero(steps):
    assert not np.any(ChronoBias(steps)([8]))


def test_cascade_cell_starts_with_chrono_bias():
    keras.utils.set_random_seed(0)
    cell = CascadeLSTMCell(200, memory_horizon=30)
    cell.build(((None, 2), (None, 1)))
    i, f, g, o = np.split(cell.bias.numpy(), 4)
    np.testing.assert_array_equal(i, -f)
    assert f.min() >= 0 and np.log(25) < f.max() <= np.log(29) + 1e-6
    assert not g.any() and not o.any()


def test_segment_cell_starts_with_forget_bias_one():
    cell = SegmentLSTMCell(2)
    cell.build((None, 3))
    np.testing.assert_array_equal(cell.bias, [0, 0, 1, 1, 0, 0, 0, 0])


KEEP = arrays.arrays(bool, st.tuples(st.integers(1, 3), st.integers(1, 6)))


@given(KEEP)
@settings(max_examples=40, deadline=None)
def test_pack_puts_the_kept_steps_first_and_in_order(keep):
    order, place = pack(tf.constant(keep))
    expected = np.zeros(keep.shape, int)
    for row, kept in zip(expected, keep, strict=True):
        row[:kept.sum()] = np.flatnonzero(kept)
    np.testing.assert_array_equal(order, expected)
    np.testing.assert_array_equal(place, np.cumsum(keep, 1))


@given(KEEP)
@settings(max_examples=20, deadline=None)
def test_what_is_packed_is_found_again_at_its_place(keep):
    x = normal(*keep.shape, 2)
    order, place = pack(tf.constant(keep))
    again = at_steps(at_steps(x, order), tf.maximum(place - 1, 0)).numpy()
    np.testing.assert_array_equal(again[keep], x[keep])


def test_pack_of_unknown_sizes_under_xla():
    packed = tf.function(pack, input_signature=[tf.TensorSpec([None, None], tf.bool)],
                         jit_compile=True)
    for keep in ([[True]], [[False, True, True], [True, False, False]]):
        for actual, expected in zip(packed(tf.constant(keep)), pack(tf.constant(keep)),
                                    strict=True):
            np.testing.assert_array_equal(actual, expected)


def test_take_and_its_gradient():
    x, steps = tf.constant(normal(2, 4, 3)), np.array([[3, 3], [0, 2]])
    with tf.GradientTape() as tape:
        tape.watch(x)
        taken = at_steps(x, steps)
    np.testing.assert_array_equal(taken, np.take_along_axis(x.numpy(), steps[..., None], 1))
    counts = tf.convert_to_tensor(tape.gradient(taken, x)).numpy()[..., 0]
    np.testing.assert_array_equal(counts, [[0, 0, 0, 2], [1, 0, 1, 0]])
