"""The DRR LSTM against NumPy in float64; its projection, its routes, its rank."""

import itertools

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from santm_tf import Recurrent
from santm_tf.baselines import drr_lstm
from santm_tf.baselines.drr_lstm import DRRLSTMCell, sparse_simplex
from santm_tf.errors import ArgumentError
from santm_tf.keras import keras
from santm_tf.sparse.sparsemax import sparsemax
from tests.helpers import draw

UNITS, FEATURES, ROUTES, RANK = 4, 2, 3, 2


def sequences(batch=3, steps=9):
    return np.random.default_rng(0).normal(size=[batch, steps, FEATURES])


def built(x, routes=ROUTES, **arguments):
    """In float64, with random weights under which every route is taken."""
    cell = DRRLSTMCell(UNITS, routes, RANK, dtype="float64", **arguments)
    layer = Recurrent(cell, return_sequences=True, dtype="float64")
    layer.build(x.shape)
    draw(layer.weights)
    return layer


def projected(e, count):
    """The nearest of the projections on every face of the simplex with `count` corners or fewer."""
    nearest, least = None, np.inf
    for size in range(1, min(count, len(e)) + 1):
        for corners in map(list, itertools.combinations(range(len(e)), size)):
            g = np.zeros(len(e))
            g[corners] = e[corners] - (e[corners].sum() - 1) / size
            distance = ((g - e) ** 2).sum()
            if g.min() >= 0 and distance < least - 1e-12:
                nearest, least = g, distance
    return nearest


def reference(x, kernel, recurrent_kernel, gate_kernel, bias, route_kernel, route_recurrent_kernel,
              route_bias):
    """`(h, g)` at each step of `[B, T, d]`."""
    batch, steps, _ = x.shape
    routes = len(route_bias)
    w = np.concatenate([kernel, recurrent_kernel]) @ gate_kernel
    hs, cs = ([np.zeros([batch, UNITS])] * routes for _ in range(2))
    gs = []
    for t in range(steps):
        score = x[:, t] @ route_kernel + hs[-1] @ route_recurrent_kernel + route_bias
        g = np.stack([projected(e, 2) for e in score])
        h, c = (sum(g[:, j - 1:j] * s[-j] for j in range(1, routes + 1)) for s in (hs, cs))
        i, f, a, o = np.split(np.concatenate([x[:, t], h], -1) @ w + bias, 4, -1)
        i, f, o = (1 / (1 + np.exp(-v)) for v in (i, f, o))
        cs.append(f * c + i * np.tanh(a))
        hs.append(o * np.tanh(cs[-1]))
        gs.append(g)
    return np.stack(hs[routes:], 1), np.stack(gs)


def fixed_route(j, x):
    """A layer whose router always takes the j-th route."""
    layer = built(x)
    layer.cell.route_bias.assign(100.0 * np.eye(ROUTES)[j - 1])
    return layer


def test_the_cell_is_its_equations():
    x = sequences()
    layer = built(x)
    hs, gs = reference(x, *layer.get_weights())
    assert np.all(gs.sum((0, 1)) > 0) and 0.2 < np.mean((gs > 0).sum(-1) == 2) < 0.9
    np.testing.assert_allclose(layer(x), hs, atol=1e-12)


def test_gradients_are_finite_differences():
    x = sequences(batch=2, steps=5)
    layer = built(x, low_rank_penalty=0.0)
    weights = layer.get_weights()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.sin(3 * layer(x)))
    rng = np.random.default_rng(2)
    for n, gradient in enumerate(tape.gradient(loss, layer.trainable_weights)):
        way = rng.normal(size=gradient.shape)
        ends = [np.sin(3 * reference(x, *(w + e * way if k == n else w for k, w in enumerate(weights)))[0])
                for e in (1e-6, -1e-6)]
        np.testing.assert_allclose(np.sum(gradient * way), (ends[0] - ends[1]).sum() / 2e-6, rtol=1e-6)


@pytest.mark.parametrize("j", range(1, ROUTES + 1))
def test_a_route_of_j_depends_on_every_j_th_step_before_alone(j):
    x = tf.constant(sequences(batch=1))
    layer, steps = fixed_route(j, x), x.shape[1]
    reaches = np.zeros([steps, steps], bool)  # from s to t
    for s in range(steps):
        moved = x + tf.one_hot(s, steps, dtype=x.dtype)[None, :, None]
        reaches[s] = np.abs(layer(moved) - layer(x)).max((0, 2)) > 0
    s, t = np.indices(reaches.shape)
    np.testing.assert_array_equal(reaches, (t >= s) & ((t - s) % j == 0))


def test_with_one_route_and_full_rank_it_is_an_lstm():
    x = sequences()
    layer = built(x, routes=1)
    kernel, recurrent_kernel, gate_kernel, bias, *_ = layer.get_weights()
    plain = keras.layers.LSTM(UNITS, return_sequences=True, dtype="float64")
    plain(x)
    plain.set_weights([kernel @ gate_kernel, recurrent_kernel @ gate_kernel, bias])
    np.testing.assert_allclose(layer(x), plain(x), atol=1e-12)


def test_the_penalty_is_at_least_the_nuclear_norm_and_reaches_it():
    x, strength = sequences(), 0.3
    layer = built(x, low_rank_penalty=strength)
    p, q = np.concatenate(layer.get_weights()[:2]), layer.get_weights()[2]
    u, s, v = np.linalg.svd(p @ q, full_matrices=False)
    assert np.all(s[RANK:] < 1e-12)

    def penalty():
        return np.sum([float(loss) for loss in layer.losses])

    assert penalty() > strength * s.sum() * 1.01
    layer(x)
    p, q = u[:, :RANK] * np.sqrt(s[:RANK]), np.sqrt(s[:RANK])[:, None] * v[:RANK]
    before = layer(x)
    layer.set_weights([p[:FEATURES], p[FEATURES:], q, *layer.get_weights()[3:]])
    np.testing.assert_allclose(layer(x), before, atol=1e-12)
    np.testing.assert_allclose(penalty(), strength * s.sum(), rtol=1e-6)


def test_the_penalty_lowers_the_rank():
    x = np.random.default_rng(0).normal(size=[64, 6, FEATURES]).astype("float32")
    cell = DRRLSTMCell(8, routes=2, rank=8, low_rank_penalty=0.03)
    model = keras.Sequential([keras.Input([6, FEATURES]), Recurrent(cell), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.02), "mse")

    def rank():
        w = np.concatenate([cell.kernel, cell.recurrent_kernel]) @ cell.gate_kernel.numpy()
        s = np.linalg.svd(w, compute_uv=False)
        return np.sum(s > 0.05 * s[0])

    before = rank()
    model.fit(x, x[:, -1, :1], epochs=100, batch_size=64, verbose=0)
    assert before >= 6 and 1 <= rank() <= 3


vectors = arrays.arrays(np.float64, st.integers(1, 6), elements=st.floats(-3, 3).map(lambda v: round(v, 3)))


@settings(max_examples=100, deadline=None)
@given(vectors, st.integers(1, 6))
def test_the_projection_is_the_nearest_point(e, count):
    g = sparse_simplex(tf.constant(e), count).numpy()
    assert np.all(g >= 0) and (g > 0).sum() <= count
    np.testing.assert_allclose(g.sum(), 1)
    np.testing.assert_allclose(((g - e) ** 2).sum(), ((projected(e, count) - e) ** 2).sum(), atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(vectors, st.floats(-1e3, 1e3))
def test_the_projection_does_not_see_a_common_shift(e, shift):
    np.testing.assert_allclose(sparse_simplex(tf.constant(e + shift), 2), sparse_simplex(tf.constant(e), 2),
                               atol=1e-9)


def test_at_a_tie_the_first_come_first():
    e = tf.constant([[0.5, 0.5, 0.5], [0.0, 0.5, 0.5]])
    np.testing.assert_array_equal(sparse_simplex(e, 2), [[0.5, 0.5, 0], [0, 0.5, 0.5]])
    np.testing.assert_array_equal(sparse_simplex(e, 1), [[1, 0, 0], [0, 1, 0]])


def test_the_projection_without_a_limit_is_sparsemax():
    e = tf.random.stateless_normal([50, 5], [0, 0])
    np.testing.assert_allclose(sparse_simplex(e, 5), sparsemax(e), atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_the_projection_is_right_at_extremes(dtype):
    largest = float(tf.as_dtype(dtype).max)
    e = tf.constant([[largest, 0, -largest], [0, 0, -largest], [0, -1e-30, -largest]], dtype)
    with tf.GradientTape() as tape:
        tape.watch(e)
        g = sparse_simplex(e, 2)
    assert np.all(np.isfinite(tf.cast(tape.gradient(g, e), tf.float32)))
    np.testing.assert_array_equal(tf.cast(g, tf.float32), [[1, 0, 0], [0.5, 0.5, 0], [0.5, 0.5, 0]])


@pytest.mark.parametrize("scale", [0.0, 1e4, 1e30])
def test_it_stays_finite(scale):
    x = sequences().astype("float32") * scale
    layer = Recurrent(DRRLSTMCell(UNITS, ROUTES, RANK))
    with tf.GradientTape() as tape:
        y = tf.reduce_sum(layer(x))
    assert np.isfinite(y)
    for gradient in tape.gradient(y, layer.trainable_weights):
        assert np.all(np.isfinite(gradient))


def test_padding_holds_all_routes():
    x, lengths = sequences(), [9, 2, 5]
    layer = built(x)
    y = layer(x, mask=tf.sequence_mask(lengths, 9))
    hs, _ = reference(x, *layer.get_weights())
    for n, length in enumerate(lengths):
        held = np.tile(hs[n, length - 1], [10 - length, 1])
        np.testing.assert_allclose(y[n, length - 1:], held, atol=1e-12)


def test_options_give_its_sizes():
    cell = drr_lstm.make(6, routes=5, memory_horizon=10).layers[0].cell
    assert (cell.units, cell.routes, cell.rank, cell.get_config()["memory_horizon"]) == (6, 5, 3, 10)


@pytest.mark.parametrize("argument, least", [("units", 1), ("routes", 1), ("rank", 1), ("active_routes", 2)])
def test_what_cannot_work_is_refused(argument, least):
    with pytest.raises(ArgumentError, match=f"DRRLSTM: {argument}={least - 1}; it must be at least {least}"):
        DRRLSTMCell(**{"units": 4, argument: least - 1})


def test_a_negative_penalty_is_refused():
    with pytest.raises(ArgumentError, match="low_rank_penalty=-1; it must be at least 0"):
        DRRLSTMCell(4, low_rank_penalty=-1)
