"""Hard-concrete gates against their closed forms, and the rate that their Lagrangian holds."""

import numpy as np
import pytest
import tensorflow as tf

from santm_tf import SANTM, HardConcreteMask, L0Projection
from santm_tf.hard_concrete import ABOVE, BELOW, TEMPERATURE
from santm_tf.keras import keras


def mask(log_alpha, **options):
    layer = HardConcreteMask(len(log_alpha), 0.5, seed=0, **options)
    layer.build()
    layer.scores.assign(log_alpha)
    return layer


def sigma(x):
    return 1 / (1 + np.exp(-x))


LOG_ALPHA = np.linspace(-4, 4, 9).astype("float32")


def test_drawn_gates_open_as_often_as_the_closed_form_says():
    layer, drawn = mask(LOG_ALPHA), []

    @tf.function
    def draw():
        layer.plan(9, training=True)
        return layer.openings(training=True)

    for _ in range(3000):
        drawn.append(draw().numpy())
    drawn = np.array(drawn)
    closed = sigma(LOG_ALPHA - TEMPERATURE * np.log(-BELOW / ABOVE))
    np.testing.assert_allclose(layer.chances(), closed, rtol=1e-5)
    np.testing.assert_allclose((drawn > 0).mean(0), closed, atol=0.04)
    assert drawn.min() == 0 and drawn.max() == 1


def test_gates_at_rest_are_the_clipped_sigmoid_and_do_not_change():
    layer = mask(LOG_ALPHA)
    expected = np.clip(sigma(LOG_ALPHA) * (ABOVE - BELOW) + BELOW, 0, 1)
    for _ in range(2):
        layer.plan(9, training=True)
        np.testing.assert_allclose(layer.openings(), expected, rtol=1e-5)
    assert float(layer.rate) == pytest.approx((expected > 0).mean())
    layer.fit_plan()
    assert layer.plan_size == (expected > 0).sum()
    t, _ = layer.plan(9)
    assert set(np.flatnonzero(expected)) == set(t.numpy())


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_a_plan_holds_every_gate_that_is_open_at_rest_before_and_after_a_limit(rate):
    layer = HardConcreteMask(32, rate, seed=0)
    layer.build()
    layer.scores.assign(np.where(np.arange(32) < 16, -2.0, -6.0))  # 16 open at rest, each drawn at 0.4
    for _ in range(2):
        t, _ = layer.plan(32)
        assert set(np.flatnonzero(layer.openings())) == set(range(16)) <= set(t.numpy())
        layer.limit(2)
    assert layer.plan_size == 16


def test_a_draw_is_the_same_for_the_plan_and_the_gates_until_the_next():
    layer = mask(np.zeros(64, "float32"), plan_size=64)
    layer.plan(64, training=True)
    first = layer.openings(training=True)
    np.testing.assert_array_equal(first, layer.openings(training=True))
    layer.plan(64, training=True)
    assert np.any(first != layer.openings(training=True))


def test_the_penalty_is_zero_and_its_gradients_are_the_lagrangians():
    layer = mask(LOG_ALPHA)
    layer.multiplier.assign(2.5)
    with tf.GradientTape() as tape:
        penalty = layer.penalty()
    of_alpha, of_multiplier = tape.gradient(penalty, [layer.scores, layer.multiplier])
    p = sigma(LOG_ALPHA - TEMPERATURE * np.log(-BELOW / ABOVE))
    assert float(penalty) == 0
    np.testing.assert_allclose(of_alpha, 2.5 * p * (1 - p) / 9, rtol=1e-4)
    np.testing.assert_allclose(of_multiplier, -(p.mean() - int(layer.budget) / 9), rtol=1e-4)


def test_the_lagrangian_brings_the_rate_to_its_target_and_keeps_what_the_task_needs():
    needed = np.zeros(32, "float32")
    needed[[3, 17, 20, 30]] = 1
    layer = HardConcreteMask(32, seed=0)
    model = keras.Sequential([keras.Input([32, 1]), layer, keras.layers.Flatten(),
                              keras.layers.Dense(1, use_bias=False, kernel_initializer="ones",
                                                 trainable=False)])
    model.compile(keras.optimizers.Adam(0.02), "mse")
    x = np.random.default_rng(0).normal(size=[512, 32, 1]).astype("float32")
    model.fit(x, x[..., 0] @ needed, epochs=100, batch_size=32, verbose=0,
              callbacks=[L0Projection(4 / 32, epochs=20)])
    assert float(tf.reduce_mean(layer.chances())) == pytest.approx(4 / 32, abs=0.01)
    opened = layer.openings().numpy()
    assert opened[needed > 0].min() > 0.5 and opened[needed == 0].max() < 0.2


def test_a_santm_learns_with_it_and_its_plan_leaves_out_nothing():
    layer = SANTM(8, memory_slots=4, slot_width=4, attention_heads=1, access="hard_concrete",
                  access_rate=0.5, jit_compile=False, seed=0)
    x = tf.random.stateless_normal([16, 12, 2], [0, 1])
    model = keras.Sequential([keras.Input([12, 2]), layer, keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.02), "mse")
    losses = model.fit(x, x[:, 5, :1], epochs=40, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]
    layer.access.plan_size = 12
    full = model(x)
    layer.access.fit_plan()
    np.testing.assert_allclose(model(x), full, atol=1e-6)
