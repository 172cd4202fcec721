"""Masks that keep the steps whose gates matter to the loss, against gradients row by row."""

import numpy as np
import pytest
import tensorflow as tf

from santm_tf import SANTM, FisherMask, L0Projection
from santm_tf.fisher_mask import DECAY
from santm_tf.keras import keras


def gathered(layer, x, y):
    """The scores of a layer's mask after one pass back."""
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.reduce_sum((layer(x, training=True) - y) ** 2, -1))
    tape.gradient(loss, layer.trainable_weights)
    return layer.access.scores.numpy()


def row_gradients(layer, x, y):
    """The gradient of each row's own loss to its gates, `[B, P]`."""
    found = []
    for i in range(len(x)):
        t = tf.range(x.shape[1])
        a, delta = layer.access.gates(t)
        with tf.GradientTape() as tape:
            tape.watch(a)
            features, _ = layer.levels.features(x[i:i + 1], (t, t >= 0), training=True,
                                                gates=(a[None], delta))
            loss = tf.reduce_sum((layer.readout(features) - y[i:i + 1]) ** 2)
        found.append(tape.gradient(loss, a).numpy())
    found = np.array(found)
    return found.reshape(len(x), -1, layer.access.period).sum(1)  # a gate is that of all its steps


@pytest.mark.parametrize("memory", ["dense", "sparse"])
@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("period", [6, 12])
def test_scores_are_the_mean_squares_of_each_rows_gradients(memory, jit, period):
    layer = SANTM(4, memory=memory, memory_slots=8, slot_width=4, locality=1, access="fisher",
                  mask_period=period, boundaries="fixed", segment_length=2, jit_compile=jit, seed=0)
    x = tf.random.stateless_normal([17, 12, 3], [0, 1])
    y = tf.random.stateless_normal([17, 4], [0, 2])
    layer(x)
    layer.access.scores.assign(np.where(np.arange(period) % 3 == 1, -0.5, 0.25 + np.arange(period)))
    before = layer.access.scores.numpy()
    fisher = np.mean(row_gradients(layer, x, y) ** 2, 0) * (before > 0)
    share = fisher / fisher[before > 0].mean()
    expected = np.where(before > 0, DECAY * before + (1 - DECAY) * share, before)
    np.testing.assert_allclose(gathered(layer, x, y), expected, rtol=1e-4)


def test_inference_gathers_nothing():
    layer = SANTM(4, memory_slots=8, slot_width=4, access="fisher", jit_compile=False)
    x = tf.ones([2, 5, 3])
    layer(x)
    before = layer.access.scores.numpy()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(x) ** 2)
    tape.gradient(loss, layer.trainable_weights)
    np.testing.assert_array_equal(layer.access.scores, before)


@pytest.mark.parametrize("rows,bad", [(0, 1.0), (3, float("nan")), (3, float("inf")), (3, 0.0)])
def test_a_batch_that_tells_nothing_changes_nothing(rows, bad):
    mask = FisherMask(4, seed=0)
    mask.build()
    before = mask.scores.numpy()
    with tf.GradientTape() as tape:
        a, delta = mask.gates_of(tf.range(4), rows, training=True)
        loss = tf.reduce_sum(a) * bad + tf.reduce_sum(delta)
    tape.gradient(loss, mask.step_weight)
    np.testing.assert_array_equal(mask.scores, before)


class WhatMatters(keras.layers.Layer):
    """`y = sum_t w_t x_t` of a gated sequence."""

    def __init__(self, mask):
        super().__init__()
        self.access, self.sum = mask, keras.layers.Dense(1)

    def call(self, x, training=None):
        return self.sum(self.access(x, training=training)[..., 0])


@pytest.mark.parametrize("matter", [(0, 1, 10, 11), (2, 5, 6, 9)])
def test_the_mask_keeps_the_steps_that_matter_once_they_are_learned(matter):
    keras.utils.set_random_seed(0)
    mask = FisherMask(12, seed=0)
    x = np.random.RandomState(0).normal(size=[512, 12, 1]).astype("float32")
    y = x[:, matter].sum(1)
    inputs = keras.Input([12, 1])
    model = keras.Model(inputs, WhatMatters(mask)(inputs))
    model.compile(keras.optimizers.Adam(0.02), "mse")
    fall = L0Projection(len(matter) / 12, epochs=16, below=0.05)
    losses = model.fit(x, y, batch_size=32, epochs=20, verbose=0, callbacks=[fall]).history["loss"]
    assert np.flatnonzero(mask.scores > 0).tolist() == list(matter)
    assert fall.began == 1 + next(i for i, loss in enumerate(losses) if loss <= 0.05)
    assert losses[-1] < 0.01


def test_the_optimiser_has_no_part_in_it_and_what_is_shut_stays_shut():
    mask = FisherMask(8, 0.5, seed=0)
    shut = mask(tf.ones([2, 8, 1])).numpy()[0, :, 0] == 0
    assert [w.name for w in mask.trainable_weights] == [mask.step_weight.name]
    for _ in range(3):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(mask(tf.random.normal([2, 8, 1]), training=True) ** 2)
        tape.gradient(loss, mask.trainable_weights)
    np.testing.assert_array_equal(mask.scores <= 0, shut)
    assert mask.get_config() == FisherMask.from_config(mask.get_config()).get_config()


def test_half_precision_gathers_too():
    layer = SANTM(4, memory_slots=8, slot_width=4, access="fisher", jit_compile=False,
                  dtype="mixed_bfloat16")
    x, y = tf.random.stateless_normal([4, 6, 3], [0, 1]), tf.zeros([4, 4], tf.bfloat16)
    layer(x)
    before = layer.access.scores.numpy()
    after = gathered(layer, x, y)
    assert np.isfinite(after).all() and np.any(after != before)


def test_the_fall_waits_for_the_loss_but_not_for_ever():
    waits = L0Projection(0.25, epochs=12, below=0.5)
    assert [waits.budget(epoch, 16) for epoch in range(6)] == [16] * 6
    assert [waits.budget(epoch, 16) for epoch in range(6, 13)] == [16, 14, 11, 9, 6, 4, 4]
    waits.set_model(_model_with_a_mask())
    for epoch, loss in enumerate([1.0, 0.4, 0.6]):
        waits.on_epoch_end(epoch, {"loss": loss})
    assert waits.began == 2
    plain = L0Projection(0.25, epochs=12, warmup=2)
    assert [waits.budget(e, 16) for e in range(13)] == [plain.budget(e, 16) for e in range(13)]
    resumed = L0Projection(0.25, epochs=12, below=0.5, began=2)
    assert [resumed.budget(e, 16) for e in range(13)] == [plain.budget(e, 16) for e in range(13)]


def _model_with_a_mask():
    inputs = keras.Input([16, 1])
    return keras.Model(inputs, FisherMask(16)(inputs))
