"""Masks that keep the steps which the loss misses when they are shut, against losses row by row."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from santm_tf import SANTM, AblationMask, L0Projection
from santm_tf.ablation_mask import KEPT, MARGIN, PROBES
from santm_tf.keras import keras


def falling(mask):
    """A mask as it is while its accesses get fewer."""
    mask.limit(mask.period, spare=1)
    return mask


def told(worth, on, probed, gradient):
    """The worths after a batch, in NumPy: probe after probe, those of one step by their mean."""
    asked = (gradient.reshape(len(gradient), gradient[:1].size) ** 2).sum(1)
    rest = asked[probed < 0].mean() if np.any(probed < 0) else 0
    new = np.array(worth, np.float64)
    for t in set(probed[probed >= 0]):
        found = (asked[probed == t] - rest) / asked.mean() * (1 if on[t] else -1)
        for _ in found:
            new[t] = KEPT * new[t] + (1 - KEPT) * found.mean()
    return new


@pytest.mark.parametrize("memory, jit, period", [("dense", False, 6), ("sparse", False, 8),
                                                 ("key_value", True, 4)])
def test_probes_have_one_step_turned_over_and_tell_its_worth(memory, jit, period):
    layer = SANTM(4, memory=memory, memory_slots=8, slot_width=4, locality=1, access="ablation",
                  mask_period=period, boundaries="fixed", segment_length=2, jit_compile=jit, seed=0)
    x = tf.random.stateless_normal([9, 8, 3], [0, 1])
    target = tf.random.stateless_normal([9, 4], [0, 2])
    layer(x)
    scores = np.where(np.arange(period) % 3 == 1, -0.5, 1.0 + np.arange(period)).astype("float32")
    layer.access.scores.assign(scores)
    falling(layer.access)
    with tf.GradientTape() as tape:
        y = layer(x, training=True)
        loss = tf.reduce_mean(tf.reduce_sum((y - target) ** 2, -1))
    probed = layer.access._probed(9).numpy()
    row, on = np.arange(9), scores > 0
    assert on[probed[row % PROBES == 0]].all() and not on[probed[row % 8 == 2]].any()
    assert (probed[(row % PROBES != 0) & (row % 8 != 2)] == -1).all()
    for row, step in list(enumerate(probed))[:3]:  # as a mask without that step would have it, or with it
        t = tf.range(8)
        a, delta = layer.access.gates(t)
        a = tf.where(t % period == step, 1 - a, a)
        features, _ = layer.levels.features(x[row:row + 1], (t, t >= 0), training=True,
                                            gates=(a[None], delta))
        np.testing.assert_allclose(layer.readout(features)[0], y[row], atol=1e-5)
    tape.gradient(loss, layer.trainable_weights)
    wanted = told(np.zeros(period), on, probed, 2 * (y - target).numpy() / 9)
    np.testing.assert_allclose(layer.access.worth, wanted, rtol=1e-3, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 9), st.integers(1, 7), st.integers(0, 100))
def test_any_batch_tells_what_it_tells_in_numpy(rows, period, seed):
    mask = falling(_built(period, seed))
    random = np.random.RandomState(seed)
    probed = random.randint(-1, period, rows).astype("int32")
    gradient = random.normal(size=[rows, 2, 3]).astype("float32")
    on, worth = random.rand(period) < 0.7, random.normal(size=period).astype("float32")
    mask.scores.assign(on.astype("float32"))
    mask.worth.assign(worth)
    mask._tell(tf.constant(probed, shape=[rows]), tf.constant(gradient, shape=[rows, 2, 3]))
    np.testing.assert_allclose(mask.worth, told(worth, on, probed, gradient), rtol=1e-3, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(0, 100), st.sampled_from([0.0, 0.5, 1.0]))
def test_an_exchange_keeps_how_many_are_open_and_takes_those_that_are_worth_more(period, seed, share):
    mask, random = falling(_built(period)), np.random.RandomState(seed)
    on, worth = random.rand(period) < share, random.normal(size=period).astype("float32")
    on[random.randint(period)] = True
    mask.scores.assign(on.astype("float32"))
    mask.worth.assign(worth)
    mask.exchange()
    scores = mask.scores.numpy()
    after = scores > 0
    gone, came = on & ~after, after & ~on
    assert after.sum() == on.sum() and gone.sum() == came.sum() <= max(1, period // 25)
    if gone.any():
        assert worth[came].min() > worth[gone].max() + MARGIN
    elif not on.all():
        assert worth[~on].max() <= worth[on].min() + MARGIN
    assert (np.argsort(scores[after]) == np.argsort(worth[after])).all()


def _built(period, seed=0):
    mask = AblationMask(period, seed=seed)
    mask.build()
    return mask


def test_probes_are_not_trained_on():
    mask = falling(_built(4))
    y = tf.Variable(tf.random.stateless_normal([9, 2], [0, 0]))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(mask.watched(y) ** 2)
    probes = np.arange(9) % PROBES == 0  # all steps are open: none is there to be opened
    np.testing.assert_allclose(tape.gradient(loss, y), np.where(probes[:, None], 0, 2 * y.numpy()))


def test_each_batch_probes_other_steps_and_one_seed_the_same():
    mask, again = falling(_built(100)), falling(_built(100))
    drawn = []
    for _ in range(3):
        mask.plan(100, training=True)
        again.plan(100, training=True)
        drawn.append(tuple(mask._probed(8).numpy()))
        assert drawn[-1] == tuple(again._probed(8).numpy())
    assert len(set(drawn)) == 3


def test_steps_that_are_to_go_are_dropped_from_half_of_the_sequences_that_are_no_probes():
    mask = falling(_built(6))
    mask.aim = 3
    mask.worth.assign([0.1, 3.0, 0.2, 2.0, 1.0, 0.0])
    t = tf.range(12)
    assert np.all(np.delete(mask.gates_of(t, 400, training=True)[0], np.s_[::PROBES], 0) == 1)  # not told yet
    mask.exchange()
    mask.plan(12, training=True)
    rows = np.arange(400) % PROBES != 0
    a = mask.gates_of(t, 400, training=True)[0].numpy()[rows]
    np.testing.assert_array_equal(a[:, :6], a[:, 6:])
    assert a[:, [1, 3, 4]].all()
    np.testing.assert_allclose(a[:, [0, 2, 5]].mean(0), 0.5, atol=0.1)
    assert abs(np.corrcoef(a[:, [0, 2, 5]].T) - np.eye(3)).max() < 0.2  # each by itself
    assert np.all(mask.gates_of(t, 400)[0] == 1)


@pytest.mark.parametrize("training, falls", [(False, True), (True, False)])
def test_inference_and_a_mask_that_does_not_fall_have_no_probes(training, falls):
    layer = SANTM(4, memory_slots=8, slot_width=4, access="ablation", jit_compile=False, seed=0)
    x = tf.random.stateless_normal([8, 5, 3], [0, 1])
    layer(x)
    if falls:
        falling(layer.access)
    scores, worth = layer.access.scores.numpy(), layer.access.worth.numpy()
    with tf.GradientTape() as tape:
        y = layer(x, training=training)
        loss = tf.reduce_sum(y ** 2)
    tape.gradient(loss, layer.trainable_weights)
    np.testing.assert_array_equal(layer.access.worth, worth)
    if not falls:
        layer.access.exchange()
        np.testing.assert_array_equal(layer.access.scores, scores)
    np.testing.assert_allclose(y, layer(x), atol=1e-6)


@pytest.mark.parametrize("rows, bad", [(0, 1.0), (4, float("nan")), (4, float("inf")), (4, 0.0)])
def test_a_batch_that_tells_nothing_changes_nothing(rows, bad):
    mask = falling(_built(4))
    y = tf.Variable(tf.ones([rows, 2]))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(mask.watched(y)) * bad
    tape.gradient(loss, y)
    assert not np.any(mask.worth)


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
    mask = AblationMask(12, seed=0)
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


def test_the_optimiser_has_no_part_in_it():
    mask = AblationMask(8, 0.5, seed=0)
    mask(tf.ones([2, 8, 1]))
    falling(mask)
    assert [w.name for w in mask.trainable_weights] == [mask.step_weight.name]
    before = mask.scores.numpy()
    for _ in range(3):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(mask(tf.random.normal([8, 8, 1]), training=True) ** 2)
        tape.gradient(loss, mask.trainable_weights)
    np.testing.assert_array_equal(mask.scores, before)
    assert np.any(mask.worth)
    assert mask.get_config() == AblationMask.from_config(mask.get_config()).get_config()


def test_half_precision_scores_too():
    layer = SANTM(4, memory_slots=8, slot_width=4, access="ablation", jit_compile=False,
                  dtype="mixed_bfloat16")
    x, y = tf.random.stateless_normal([4, 6, 3], [0, 1]), tf.zeros([4, 4], tf.bfloat16)
    layer(x)
    falling(layer.access)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((layer(x, training=True) - y) ** 2)
    tape.gradient(loss, layer.trainable_weights)
    assert np.isfinite(layer.access.worth).all() and np.any(layer.access.worth)


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
    return keras.Model(inputs, AblationMask(16)(inputs))
