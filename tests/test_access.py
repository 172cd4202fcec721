"""The access mask: its projection, its gradient, its plan, and the schedule that lowers it."""

import hypothesis
import hypothesis.extra.numpy
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf

from santm_tf import AccessMask, HardConcreteMask, L0Projection
from santm_tf.access import LEAST, AtMost, accessed, accessed_at_equal_gaps
from santm_tf.keras import keras

few = hypothesis.settings(max_examples=40, deadline=None)
scores = hypothesis.extra.numpy.arrays(
    np.float32, st.integers(1, 20), elements=st.floats(-2, 2, width=16) | st.just(1.0))


def mask(period, on=None, **options):
    """A built mask, with the steps that are on."""
    layer = AccessMask(period, **options)
    layer.build()
    if on is not None:
        layer.scores.assign(np.where(on, 0.5, -0.5))
        layer.fit_plan()
    return layer


def steps_on(layer, steps):
    on = layer.scores.numpy() > 0
    return {t for t in range(steps) if on[t % layer.period]}


@few
@hypothesis.given(before=scores, budget=st.integers(1, 20))
def test_projection_keeps_the_highest_and_pushes_the_others_down(before, budget):
    after = AtMost(tf.Variable(budget))(tf.constant(before)).numpy()
    kept = after > 0
    assert kept.sum() == max(1, min(budget, (before > 0).sum()))
    before[np.argmax(before)] = max(before.max(), np.float32(LEAST))
    np.testing.assert_array_equal(after[kept], before[kept])
    np.testing.assert_array_equal(after[~kept], np.minimum(before[~kept], 0))
    np.testing.assert_array_equal(np.sort(after[kept]), np.sort(before)[len(before) - kept.sum():])


@few
@hypothesis.given(before=scores, budget=st.integers(1, 20))
def test_projection_is_idempotent_and_leaves_what_fits(before, budget):
    project = AtMost(tf.Variable(budget))
    once = project(tf.constant(before))
    np.testing.assert_array_equal(project(once), once)
    if 0 < (before > 0).sum() <= budget and before.max() >= LEAST:
        np.testing.assert_array_equal(once, before)


def test_projection_follows_its_budget():
    budget = tf.Variable(3)
    project = tf.function(AtMost(budget))
    assert np.sum(project(tf.ones([5])) > 0) == 3
    budget.assign(1)
    assert np.sum(project(tf.ones([5])) > 0) == 1


def test_a_step_is_on_where_its_score_is_positive_and_its_gradient_is_the_sigmoids():
    layer = mask(5)
    values = np.array([-3.0, -0.1, 0.0, 0.2, 4.0], np.float32)
    layer.scores.assign(values)
    layer.step_weight.assign(np.arange(5.0))
    t, upstream = tf.constant([4, 0, 8, 7, 3]), tf.constant([1.0, 2.0, 3.0, 4.0, 5.0])
    with tf.GradientTape() as tape:
        a, d = layer.gates(t)
        loss = tf.reduce_sum(a * upstream)
    np.testing.assert_array_equal(a, [1, 0, 1, 0, 1])
    np.testing.assert_array_equal(d, [4, 0, 3, 2, 3])
    p = 1 / (1 + np.exp(-values))
    np.testing.assert_allclose(tf.convert_to_tensor(tape.gradient(loss, layer.scores)),
                               p * (1 - p) * [2, 0, 4, 3 + 5, 1], atol=1e-6)


def test_the_double_tanh_has_the_slope_of_the_papers_surrogate():
    u, scores = 1.0, np.linspace(-4, 4, 81).astype(np.float64)
    x = u - scores

    def surrogate(x):
        return 1 - np.maximum(0.5 * (np.tanh(x + u) + np.tanh(x - u)), 0)

    slope = -(surrogate(x + 1e-6) - surrogate(x - 1e-6)) / 2e-6
    s = tf.constant(scores)
    with tf.GradientTape() as tape:
        tape.watch(s)
        a = accessed(s, "double_tanh")
    smooth = np.abs(x) > 1e-3
    np.testing.assert_allclose(tape.gradient(a, s)[smooth], slope[smooth], atol=1e-6)
    np.testing.assert_array_equal(a, scores > 0)


@pytest.mark.parametrize("support", ["uniform", "random"])
def test_a_fixed_support_is_kept_and_its_weights_are_learned(support):
    layer = AccessMask(12, 0.25, seed=3, support=support)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(tf.ones([2, 12, 3])) ** 2)
    assert [w.name for w in layer.trainable_weights] == [layer.step_weight.name]
    gradient = tape.gradient(loss, layer.step_weight)
    on = np.flatnonzero(gradient)
    assert len(on) == 3
    assert (on.tolist() == [3, 7, 11]) == (support == "uniform")
    again = AccessMask(12, 0.25, seed=3, support=support)
    again.build()
    np.testing.assert_array_equal(again.scores, layer.scores)


def test_the_layer_gates_a_sequence_longer_than_its_period():
    layer = mask(3, [True, False, True])
    layer.step_weight.assign([2.0, 3.0, 4.0])
    y = layer(tf.ones([2, 7, 2]))
    np.testing.assert_array_equal(y, np.tile([[2], [0], [4], [2], [0], [4], [2]], [2, 1, 2]))


@few
@hypothesis.given(on=st.lists(st.booleans(), min_size=1, max_size=20), steps=st.integers(1, 45),
                  spare=st.integers(0, 3), training=st.booleans(), dynamic=st.booleans())
def test_a_plan_of_any_size_holds_every_accessed_step_in_order(on, steps, spare, training, dynamic):
    layer = mask(len(on), on, seed=len(on))
    layer.plan_size = min(max(1, sum(on)) + spare, len(on))
    t, inside = layer.plan(tf.constant(steps) if dynamic else steps, training)
    t, inside = t.numpy(), inside.numpy()
    assert steps_on(layer, steps) <= set(t[inside])
    assert np.all(np.diff(t) > 0) and np.all(t >= 0)
    np.testing.assert_array_equal(inside, t < steps)
    assert len(t) == layer.plan_size * -(-steps // layer.period)


def test_a_full_plan_is_every_step():
    t, inside = mask(4, access_rate=1.0).plan(6)
    np.testing.assert_array_equal(t, range(8))
    np.testing.assert_array_equal(inside, [True] * 6 + [False] * 2)


def test_a_training_plan_samples_and_its_seed_repeats_it():
    def draws(seed):
        layer = mask(40, np.arange(40) < 5, seed=seed)
        layer.limit(5, spare=10)
        return [layer.plan(40, training=True)[0].numpy().tolist() for _ in range(4)]

    first, again, other = draws(1), draws(1), draws(2)
    assert first == again and first != other
    assert len({tuple(plan) for plan in first}) == 4


def test_every_unaccessed_step_is_sampled_at_some_time():
    layer = mask(20, np.arange(20) < 5)
    layer.limit(5, spare=5)
    plan = tf.function(lambda: layer.plan(20, training=True)[0])
    assert set(np.concatenate([plan() for _ in range(60)])) == set(range(20))


def test_a_plan_does_not_vary_outside_training():
    layer = mask(20, np.arange(20) < 5)
    layer.limit(5, spare=5)
    assert layer.plan(20)[0].numpy().tolist() == layer.plan(20)[0].numpy().tolist()


@few
@hypothesis.given(period=st.integers(1, 100), count=st.integers(1, 100), spare=st.integers(0, 100))
def test_a_limit_projects_and_resizes(period, count, spare):
    count, layer = min(count, period), mask(period)
    layer.limit(count, spare)
    assert np.sum(layer.scores > 0) == count == layer.budget.numpy()
    assert min(period, count + spare) <= layer.plan_size <= period
    size = layer.plan_size
    layer.limit(count, spare)
    assert layer.plan_size == size


def test_while_it_explores_a_plan_has_few_sizes():
    layer = mask(100)
    sizes = set()
    for count in range(100, 0, -1):
        layer.limit(count, spare=1)
        sizes.add(layer.plan_size)
    assert len(sizes) <= 7


def test_a_plan_is_fitted_to_loaded_weights():
    layer = mask(64, access_rate=0.25)
    layer.scores.assign(tf.where(tf.range(64) < 40, 1.0, -1.0))
    layer.fit_plan()
    assert steps_on(layer, 64) <= set(layer.plan(64)[0].numpy())
    assert 40 <= layer.plan_size < 64


@few
@hypothesis.given(st.integers(1, 200), st.data())
def test_equal_gaps(period, data):
    count = data.draw(st.integers(1, period))
    steps = accessed_at_equal_gaps(period, count)
    gaps = np.diff(steps, prepend=-1)
    assert len(steps) == count and steps[-1] == period - 1
    assert gaps.min() >= 1 and gaps.max() - gaps.min() <= 1


@pytest.mark.parametrize("period", [1, 7, 64])
@pytest.mark.parametrize("rate", [0.01, 0.3, 0.5, 1.0])
def test_the_first_rate(period, rate):
    layer = mask(period, access_rate=rate)
    expected = max(1, round(rate * period)) / period
    np.testing.assert_allclose(layer.rate, expected, rtol=1e-6)
    assert layer.budget.numpy() == layer.plan_size == round(expected * period)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: AccessMask(0), "AccessMask: period=0"),
    (lambda: AccessMask(4, 0.0), "AccessMask: access_rate=0.0"),
    (lambda: AccessMask(4, 1.1), "AccessMask: access_rate=1.1"),
    (lambda: AccessMask(4, support="some"), "AccessMask: support='some'"),
    (lambda: AccessMask(4, surrogate="step"), "AccessMask: surrogate='step'"),
    (lambda: L0Projection(0, 3), "L0Projection: access_rate=0"),
    (lambda: L0Projection(1.5, 3), "L0Projection: access_rate=1.5"),
    (lambda: L0Projection(0.5, 3, warmup=3), "L0Projection: warmup=3"),
    (lambda: L0Projection(0.5, 3, initial_rate=0.4), "L0Projection: initial_rate=0.4"),
    (lambda: L0Projection(0.5, 3, schedule="square"), "L0Projection: schedule='square'"),
    (lambda: L0Projection(0.5, 3).set_model(keras.Sequential()), "no AccessMask")])
def test_a_bad_value_is_named_in_one_line(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("rate", "epochs", "warmup", "period", "budgets"), [
    (0.25, 5, 0, 64, [64, 52, 40, 28, 16, 16]),
    (0.25, 5, 2, 64, [64, 64, 64, 40, 16, 16]),
    (0.25, 3, 2, 64, [64, 64, 16, 16]),
    (0.5, 1, 0, 8, [4, 4]),
    (1.0, 3, 0, 7, [7, 7, 7]),
    (0.01, 2, 0, 10, [10, 1, 1])])
def test_the_schedule(rate, epochs, warmup, period, budgets):
    schedule = L0Projection(rate, epochs, warmup)
    assert [schedule.budget(e, period) for e in range(len(budgets))] == budgets


def test_a_cubic_schedule_drops_most_at_first():
    schedule = L0Projection(0.25, epochs=5, initial_rate=0.75, schedule="cubic")
    assert [schedule.budget(e, period=128) for e in range(6)] == [96, 59, 40, 33, 32, 32]


@hypothesis.given(rate=st.floats(0.01, 1), data=st.data(), schedule=st.sampled_from(["linear", "cubic"]))
def test_every_schedule_falls_from_its_start_to_its_target(rate, data, schedule):
    initial = data.draw(st.floats(rate, 1))
    epochs, period = data.draw(st.integers(2, 30)), data.draw(st.integers(1, 500))
    warmup = data.draw(st.integers(0, epochs - 2))
    budgets = [L0Projection(rate, epochs, warmup, initial_rate=initial, schedule=schedule).budget(e, period)
               for e in range(epochs + 3)]
    assert set(budgets[:warmup + 1]) == {max(1, round(initial * period))}
    assert set(budgets[epochs - 1:]) == {max(1, round(rate * period))}
    assert budgets == sorted(budgets, reverse=True)


class Watch(keras.callbacks.Callback):
    """Notes the budget, the steps accessed and the plan's size after every batch."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.seen = layer, []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append((int(self.layer.budget), int(np.sum(self.layer.scores > 0)),
                          self.layer.plan_size))


class CountTraces(keras.layers.Layer):
    traces = 0

    def call(self, inputs, training=None):
        self.traces += bool(training) and not tf.executing_eagerly()
        return inputs


@pytest.fixture(scope="module")
def fitted():
    """Six epochs at a rate so high that scores cross zero in both directions."""
    layer, traces = AccessMask(32, seed=0), CountTraces()
    model = keras.Sequential([
        keras.Input([32, 2]), layer, traces, keras.layers.Flatten(),
        keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.3, global_clipnorm=5.0), "mse")
    x = np.random.default_rng(0).normal(size=[40, 32, 2]).astype(np.float32)
    watch, projection = Watch(layer), L0Projection(0.25, epochs=5)
    model.optimizer.build(model.trainable_variables)  # else the first step is traced twice
    model.evaluate(x, x[:, 0, 0], verbose=0)
    traces.traces = 0
    history = model.fit(x, x[:, :8].sum((1, 2)), batch_size=8, epochs=6, verbose=0,
                        validation_split=0.2, callbacks=[projection, watch])
    return watch.seen, history.history, traces.traces


def test_the_constraint_holds_after_every_update(fitted):
    seen, _, _ = fitted
    assert all(on <= budget for budget, on, _ in seen)
    assert len({on for _, on, _ in seen}) > 3


def test_the_budget_falls_to_its_target_while_fitting(fitted):
    seen, history, _ = fitted
    budgets = [budget for budget, _, _ in seen]
    assert budgets == sorted(budgets, reverse=True) and (budgets[0], budgets[-1]) == (32, 8)
    assert len(history["access_rate"]) == 6
    assert 0 < history["access_rate"][-1] <= 0.25
    assert history["access_rate"][-1] == seen[-1][1] / 32


def test_a_plan_is_never_too_short_while_fitting(fitted):
    seen, _, _ = fitted
    assert all(on <= size for _, on, size in seen)


def test_the_step_is_traced_once_per_plan_size(fitted):
    seen, _, traces = fitted
    assert 1 < traces <= len({size for _, _, size in seen})


@pytest.mark.parametrize("make", [AccessMask, HardConcreteMask])
def test_a_mask_driven_empty_keeps_its_best_step_and_says_so(make, caplog):
    class Closing(make):
        def call(self, inputs, mask=None, training=None):
            self.add_loss(tf.reduce_sum(self.scores))
            return super().call(inputs, mask, training)

    layer = Closing(8, seed=0)
    model = keras.Sequential([keras.Input([8, 1]), layer, keras.layers.Flatten()])
    model.compile(keras.optimizers.Adam(0.3), "mse")
    x = np.ones([64, 8, 1], np.float32)
    model.fit(x, x[..., 0], epochs=4, batch_size=8, verbose=0, callbacks=[L0Projection(1.0, 2)])
    assert float(layer.rate) == 1 / 8
    assert any("switched off every step" in message for message in caplog.messages)
    assert np.isfinite(model.predict(x, verbose=0)).all()


def test_a_plan_that_grows_is_what_validation_visits():
    class Growing(AccessMask):
        def limit(self, count, spare=0):
            super().limit(count, spare)
            self.plan_size = 8 if self.grown else 2
            self.grown = True

    class Visited(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.access = Growing(8, access_rate=0.25)
            self.access.build()
            self.access.grown = False

        def call(self, inputs, training=None):
            return inputs + 0.0 * self.access.scores[0] + float(self.access.plan(8, training)[0].shape[0])

    model = keras.Sequential([keras.Input([1]), Visited()])
    model.compile("sgd", "mse")
    x = np.zeros([4, 1], np.float32)
    losses = model.fit(x, x, validation_data=(x, x), epochs=3, verbose=0,
                       callbacks=[L0Projection(0.25, epochs=9, initial_rate=0.25)]).history
    assert losses["val_loss"] == [2.0**2, 8.0**2, 8.0**2] == losses["loss"]


def test_a_function_traced_before_does_not_keep_a_plan_that_is_too_short():
    class Visited(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.access = AccessMask(8, access_rate=0.25)
            self.access.build()

        def call(self, inputs, training=None):
            t, inside = self.access.plan(8, training)
            return inputs + 0.0 * self.access.scores[0] + tf.cast(tf.size(t[inside]), tf.float32)

    layer = Visited()
    model = keras.Sequential([keras.Input([1]), layer])
    model.compile("sgd", "mse")
    x = np.zeros([4, 1], np.float32)
    assert model.evaluate(x, x, verbose=0) == 2.0**2 and np.all(model.predict(x, verbose=0) == 2)
    model.fit(x, x, validation_data=(x, x), verbose=0, callbacks=[L0Projection(1.0, epochs=2)])
    layer.access.scores.assign(tf.ones([8]))
    assert model.evaluate(x, x, verbose=0) == 8.0**2 and np.all(model.predict(x, verbose=0) == 8)
