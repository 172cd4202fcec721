"""The Skip LSTM against gate sequences worked by hand, and NumPy in float64."""


import numpy as np
import pytest
import tensorflow as tf
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from santm_tf import Recurrent
from santm_tf.baselines import skip_lstm
from santm_tf.baselines.skip_lstm import SkipLSTM, SkipLSTMCell
from santm_tf.errors import ArgumentError
from santm_tf.keras import keras

UNITS, FEATURES = 3, 2


def logistic(x):
    return 1 / (1 + np.exp(-x))


def logit(p):
    return np.log(p / (1 - p))


def reference(x, kernel, recurrent_kernel, bias, update_kernel, update_bias, offset=None):
    """`(h, u, u~)` at each step of `[B, T, d]`; `offset` puts `u = u~ + offset` for the rounding."""
    h = c = np.zeros([len(x), len(recurrent_kernel)])
    p = np.ones([len(x), 1])
    hs, us, ps = [], [], []
    for t in range(x.shape[1]):
        u = np.round(p) if offset is None else p + offset[:, t]
        ps.append(p)
        i, f, g, o = np.split(x[:, t] @ kernel + h @ recurrent_kernel + bias, 4, -1)
        c_new = logistic(f) * c + logistic(i) * np.tanh(g)
        h_new = logistic(o) * np.tanh(c_new)
        h, c = u * h_new + (1 - u) * h, u * c_new + (1 - u) * c
        delta = logistic(c @ update_kernel + update_bias)
        p = u * delta + (1 - u) * (p + np.minimum(delta, 1 - p))
        hs.append(h)
        us.append(u)
    return np.stack(hs, 1), np.stack(us, 1), np.stack(ps, 1)


def cell_layer(x):
    """The cell over a sequence in float64, with random weights under which many steps are skipped."""
    layer = Recurrent(SkipLSTMCell(UNITS, dtype="float64"), return_sequences=True, dtype="float64")
    layer.build(x.shape)
    rng = np.random.default_rng(1)
    layer.set_weights([rng.normal(size=w.shape) for w in layer.weights])
    layer.cell.update_bias.assign([-1.0])
    return layer


def sequences(batch=4, steps=12):
    return np.random.default_rng(0).normal(size=[batch, steps, FEATURES])


def gates_of(delta_logit, steps, counting=False):
    """u_1 .. u_T of one unit with given update weights; `counting` makes `c_t` half the updates so far."""
    layer = SkipLSTM(1, return_sequences=True)
    layer(tf.zeros([1, steps, 1]))
    cell = layer.recurrent.cell
    weight, bias = delta_logit
    half = np.arctanh(0.5)
    cell.recurrent_kernel.assign(tf.zeros([1, 4]))
    cell.bias.assign([50.0, 50.0, half, 50.0] if counting else [0.0] * 4)
    cell.update_kernel.assign([[weight]])
    cell.update_bias.assign([bias])
    _, u = layer.recurrent(tf.zeros([1, steps, 1]))
    return u[0, :, 0].numpy().astype(int).tolist()


@pytest.mark.parametrize("delta, expected", [
    (0.6, [1, 1, 1, 1, 1, 1, 1, 1, 1]),
    (0.3, [1, 0, 1, 0, 1, 0, 1, 0, 1]),  # .3, .6
    (0.2, [1, 0, 0, 1, 0, 0, 1, 0, 0]),  # .2, .4, .6
    (0.15, [1, 0, 0, 0, 1, 0, 0, 0, 1]),  # .15, .3, .45, .6
    (1e-6, [1, 0, 0, 0, 0, 0, 0, 0, 0]),
])
def test_a_constant_probability_gives_a_constant_rhythm(delta, expected):
    assert gates_of((0.0, logit(delta)), len(expected)) == expected


def test_a_probability_that_falls_with_the_state_gives_longer_and_longer_gaps():
    # c = n/2 after n updates, delta = sigmoid(1.5 - n): .622, .378, .182, .076
    # t       1  2     3     4     5     6     7
    # u~      1  .622  .378  .755  .182  .365  .547   then .076, .152, .228, .303, .379, .455, .531
    expected = [1, 1, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1]
    assert gates_of((-2.0, 1.5), len(expected), counting=True) == expected


def test_the_cell_is_its_equations():
    x = sequences()
    layer = cell_layer(x)
    h, u = layer(x)
    hs, us, _ = reference(x, *layer.get_weights())
    assert 0.2 < us.mean() < 0.8
    np.testing.assert_allclose(h, hs, atol=1e-12)
    np.testing.assert_array_equal(u, us)


def test_a_skipped_step_copies_the_state():
    x = sequences()
    h, u = cell_layer(x)(x)
    skipped = u[:, 1:, 0].numpy() == 0
    assert skipped.any()
    np.testing.assert_array_equal(h[:, 1:][skipped], h[:, :-1][skipped])


def test_gradients_take_the_gate_for_its_probability():
    x = sequences(batch=2, steps=6)
    layer = cell_layer(x)
    weights = layer.get_weights()
    _, us, ps = reference(x, *weights)

    def loss_of(*values):
        hs, u, _ = reference(x, *values, offset=us - ps)
        return np.sin(hs).sum() + (u * np.arange(6)[:, None]).sum()

    with tf.GradientTape() as tape:
        h, u = layer(x)
        loss = tf.reduce_sum(tf.sin(h)) + tf.reduce_sum(u * np.arange(6.0)[:, None])
    np.testing.assert_allclose(loss, loss_of(*weights), atol=1e-12)
    for n, gradient in enumerate(tape.gradient(loss, layer.trainable_weights)):
        expected = np.zeros_like(weights[n])
        for at in np.ndindex(expected.shape):
            moved = [[v.copy() for v in weights] for _ in range(2)]
            moved[0][n][at] += 1e-6
            moved[1][n][at] -= 1e-6
            expected[at] = (loss_of(*moved[0]) - loss_of(*moved[1])) / 2e-6
        np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def rhythm():
    """u_1 .. u_30 as a function of a constant probability."""
    cell = SkipLSTMCell(1, dtype="float64")
    layer = Recurrent(cell, return_sequences=True, dtype="float64")
    x = tf.zeros([1, 30, 1], tf.float64)
    layer(x)
    cell.update_kernel.assign([[0.0]])

    @tf.function
    def gates(bias):
        cell.update_bias.assign([bias])
        return layer(x)[1][0, :, 0]

    return lambda delta: gates(tf.constant(logit(delta), tf.float64)).numpy().astype(int).tolist()


@settings(max_examples=30, deadline=None)
@given(delta=st.floats(0.01, 0.99))
def test_gaps_are_as_long_as_a_constant_probability_needs(rhythm, delta):
    assume(abs(0.5 / delta - round(0.5 / delta)) > 1e-6)  # at a tie rounding errors decide
    needed = int(0.5 / delta) + 1
    assert rhythm(delta) == [int(t % needed == 0) for t in range(30)]


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_small_probabilities_add_up_in_half_precision(policy):
    cell = SkipLSTMCell(2, dtype=policy)
    zeros = tf.zeros([1, 2], cell.compute_dtype)
    cell.build([1, 2])
    cell.update_bias.assign([logit(1e-4)])
    _, (*_, probability) = cell(zeros, [zeros, zeros, tf.constant([[0.4]])])
    np.testing.assert_allclose(probability, [[0.4001]], rtol=0, atol=1e-5)
    layer = Recurrent(cell, return_state=True, dtype=policy)
    assert layer(tf.zeros([1, 3, 2]))[-1].dtype == tf.float32


def test_updates_cost_and_are_counted_on_valid_steps_alone():
    x = sequences()
    layer = SkipLSTM(UNITS, cost_per_sample=0.5)
    layer(x)
    layer.recurrent.set_weights(cell_layer(x).get_weights())
    lengths = np.array([12, 5, 1, 8])
    valid = np.arange(12) < lengths[:, None]
    layer(x, mask=tf.constant(valid))
    updates = (reference(x, *layer.get_weights())[1][..., 0] * valid).sum(1)
    assert updates.sum() < lengths.sum()
    np.testing.assert_allclose(layer.losses, [0.5 * updates.mean()], rtol=1e-6)
    metric, = layer.metrics
    assert metric.name == "update_rate"
    metric.reset_state()
    layer(x, mask=tf.constant(valid))
    np.testing.assert_allclose(metric.result(), updates.sum() / lengths.sum(), rtol=1e-6)


def test_the_last_output_is_that_of_the_last_valid_step():
    x = sequences().astype("float32")
    layer, every = SkipLSTM(UNITS), SkipLSTM(UNITS, return_sequences=True)
    mask = tf.sequence_mask([12, 5, 1, 8], 12)
    layer(x), every(x)
    every.set_weights(layer.get_weights())
    y = every(x, mask=mask)
    np.testing.assert_allclose(layer(x, mask=mask), [y[n, t - 1] for n, t in enumerate([12, 5, 1, 8])])


def test_a_price_makes_it_skip():
    x, y = sequences(batch=64).astype("float32"), np.zeros([64, 1], "float32")
    model = keras.Sequential([keras.Input([12, FEATURES]), SkipLSTM(4, cost_per_sample=0.1),
                              keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.05), "mse")
    logs = model.fit(x, y, epochs=30, verbose=0).history
    assert logs["update_rate"][0] > 0.8 and logs["update_rate"][-1] < 0.3
    assert logs["loss"][-1] >= 0.1 * 12 * logs["update_rate"][-1] - 1e-3


@pytest.mark.parametrize("arguments, message", [
    ({"units": 0}, "SkipLSTM: units=0; it must be at least 1"),
    ({"units": 2, "cost_per_sample": -1.0}, "SkipLSTM: cost_per_sample=-1.0; it must be at least 0"),
    ({"units": 2, "memory_horizon": 0}, "memory_horizon=0; it must be at least 1"),
])
def test_what_cannot_work_is_refused(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        SkipLSTM(**arguments)


def test_a_model_from_options_reports_its_update_rate_and_pays_for_it():
    x = np.where(np.arange(12)[:, None] < 5, sequences(batch=16), 0).astype("float32")
    model = keras.Sequential([
        keras.Input([12, FEATURES]), keras.layers.Masking(0.0),
        skip_lstm.make(4, cost_per_sample=0.5, memory_horizon=8, dropout=0.1, seed=0),
        keras.layers.Dense(1)])
    model.compile(loss="mse", metrics=["mae"])
    logs = model.evaluate(x, np.zeros([16, 1]), batch_size=16, verbose=0, return_dict=True)
    without = np.mean(np.square(model(x)))
    assert 0 < logs["update_rate"] <= 1
    np.testing.assert_allclose(logs["loss"], without + 0.5 * 5 * logs["update_rate"], rtol=1e-5)
