"""`scan` against a plain Python loop, autodiff through that loop, and finite differences."""

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings

from santm_tf.ops import product
from santm_tf.scan import scan

MODES = {"eager": lambda f: f, "function": tf.function,
         "jit": lambda f: tf.function(f, jit_compile=True)}
in_every_mode = pytest.mark.parametrize("mode", MODES)


def unrolled(step, inputs, state, *, constants=(), steps=None):
    """What scan means, as a Python loop that the tape sees through."""
    rest = (constants,) if tf.nest.flatten(constants) else ()
    outputs = []
    for t in range(tf.nest.flatten(inputs)[0].shape[0] if steps is None else steps):
        y, state = step(tf.nest.map_structure(lambda x: x[t], inputs), state, *rest)  # noqa: B023
        outputs.append(y)
    return tf.nest.map_structure(lambda *ys: tf.stack(ys), *outputs), state


def normal(*shape, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=shape))


def assert_same(actual, expected):
    tf.nest.assert_same_structure(actual, expected)
    for a, e in zip(tf.nest.flatten(actual), tf.nest.flatten(expected), strict=True):
        assert a.dtype == e.dtype
        np.testing.assert_allclose(a, e, rtol=1e-9, atol=1e-12)


class Rich:
    """A step with nested float and integer inputs, states, outputs, constants and two variables."""

    def __init__(self, steps=4, batch=3):
        self.kernel = tf.Variable(normal(5, 2, seed=1))
        self.scale = tf.Variable(normal(2, seed=2))
        key = np.random.default_rng(3).integers(0, 4, [steps, batch]).astype(np.int32)
        self.inputs = {"x": normal(steps, batch, 3, seed=4), "key": tf.constant(key)}
        self.state = (normal(batch, 2, seed=5), {"count": tf.zeros([batch], tf.int32)})
        self.constants = [normal(batch, 2, seed=6), tf.constant([7, 8, 9, 10])]

    def step(self, inputs, state, constants):
        h, count = state[0], state[1]["count"]
        shift, table = constants
        z = tf.concat([inputs["x"], h], -1) @ self.kernel + shift
        h = tf.tanh(z) * tf.cast(count, tf.float64)[:, None] + self.scale * h
        count += tf.gather(table, inputs["key"])
        return (h * h, {"count": count, "z": z}), (h, {"count": count})

    def run(self, loop):
        """Outputs, state, and the gradients for everything that has one."""
        sources = [self.inputs["x"], self.state[0], self.constants[0], self.kernel, self.scale]
        with tf.GradientTape() as tape:
            tape.watch(sources)
            outputs, state = loop(self.step, self.inputs, self.state, constants=self.constants)
            smooth = [outputs[0], outputs[1]["z"], state[0]]
            loss = tf.add_n([tf.reduce_sum(v * normal(*v.shape, seed=i))
                             for i, v in enumerate(smooth)])
        return outputs, state, tape.gradient(loss, sources)


@in_every_mode
def test_outputs_state_and_all_gradients_are_those_of_the_unrolled_loop(mode):
    rich = Rich()
    assert_same(MODES[mode](rich.run)(scan), Rich.run(rich, unrolled))


@in_every_mode
def test_one_step_is_run_without_a_loop(mode):
    rich = Rich(steps=1)
    assert_same(MODES[mode](rich.run)(scan), rich.run(unrolled))
    graph = tf.function(lambda: scan(rich.step, rich.inputs, rich.state, constants=rich.constants)
                        ).get_concrete_function().graph
    assert not any("While" in op.type for op in graph.get_operations())


def test_recurrence_matches_numpy():
    x, s = normal(5, 2), normal(2, seed=1)
    outputs, state = scan(lambda x, s: (s - x, 0.5 * s + x * x), x, s)
    held, expected = s.numpy(), []
    for row in x.numpy():
        expected.append(held - row)
        held = 0.5 * held + row * row
    np.testing.assert_allclose(outputs, expected, rtol=1e-12)
    np.testing.assert_allclose(state, held, rtol=1e-12)


def test_gradients_match_finite_differences():
    w = normal(3, 3, seed=2)

    def loop(x, s, k):
        def step(x, s, k):
            s = tf.tanh(s @ w + k * x)
            return tf.sin(s), s
        outputs, state = scan(step, x, s, constants=k)
        return tf.concat([tf.reshape(outputs, [-1]), tf.reshape(state, [-1])], 0)

    at = [normal(4, 2, 3), normal(2, 3, seed=1),
          normal(3, seed=3)]
    theory, numeric = tf.test.compute_gradient(loop, at, delta=1e-5)
    for a, b in zip(theory, numeric, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-8)


def test_unused_inputs_and_states_have_zero_gradients():
    x, s, k = normal(3, 2), normal(2), normal(2)
    with tf.GradientTape() as tape:
        tape.watch([x, s, k])
        outputs, _ = scan(lambda x, s, k: (tf.ones_like(s), s), x, s, constants=k)
    gradients = tape.gradient(outputs, [x, s, k])
    assert not any(np.any(g) for g in gradients)


@in_every_mode
def test_step_without_outputs(mode):
    x, s = normal(4, 2), normal(2, seed=1)

    def run():
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs, state = scan(lambda x, s: ((), s * x), x, s)
        return outputs, state, tape.gradient(state, x)

    outputs, state, dx = MODES[mode](run)()
    assert outputs == ()
    product = s.numpy() * np.prod(x.numpy(), 0)
    np.testing.assert_allclose(state, product, rtol=1e-9)
    np.testing.assert_allclose(dx, product / x.numpy(), rtol=1e-9)


@in_every_mode
def test_step_without_differentiable_state_or_inputs(mode):
    run = MODES[mode](lambda: scan(lambda k, n: (n, n + k), tf.constant([[1], [2], [3]]),
                                   tf.zeros([1], tf.int32)))
    outputs, count = run()
    assert outputs.numpy().ravel().tolist() == [0, 1, 3]
    assert count.numpy().tolist() == [6]


@given(arrays.arrays(bool, (5, 3)))
@settings(max_examples=15, deadline=None)
def test_mask_holds_the_state_and_repeats_the_output(mask):
    x, s = normal(5, 3, 2), normal(3, 2, seed=1)
    w = np.array([1.5, -0.5])

    def step(x, s):
        new = s[0] * w + x
        return {"y": tf.sin(new)}, (new, s[1] + 1)

    with tf.GradientTape() as tape:
        tape.watch([x, s])
        outputs, (state, count) = scan(step, x, (s, tf.zeros([3], tf.int32)),
                                       mask=tf.constant(mask))
        loss = tf.reduce_sum(outputs["y"]) + tf.reduce_sum(state * state)
    dx, ds = tape.gradient(loss, [x, s])

    held, repeated, last = s.numpy(), np.zeros([3, 2]), np.full(3, -1)
    copies, expected = np.zeros([5, 3]), []  # copies[t]: how often the output of step t appears
    for t in range(5):
        keep = mask[t][:, None]
        held = np.where(keep, held * w + x[t].numpy(), held)
        repeated = np.where(keep, np.sin(held), repeated)
        last = np.where(mask[t], t, last)
        copies[last[last >= 0], np.flatnonzero(last >= 0)] += 1
        expected.append((held, repeated))
    np.testing.assert_allclose(outputs["y"], [y for _, y in expected], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(state, held, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(count, mask.sum(0))

    upstream = 2 * held
    for t in reversed(range(5)):
        through = upstream + copies[t][:, None] * np.cos(expected[t][0])
        keep = mask[t][:, None]
        np.testing.assert_allclose(dx[t], np.where(keep, through, 0), rtol=1e-9, atol=1e-12)
        upstream = np.where(keep, through * w, upstream)
    np.testing.assert_allclose(ds, upstream, rtol=1e-9, atol=1e-12)


@in_every_mode
def test_mask_of_ones_changes_nothing(mode):
    rich = Rich()
    masked = MODES[mode](lambda: rich.run(
        lambda *args, **kwargs: scan(*args, mask=tf.ones([4, 3], tf.bool), **kwargs)))
    assert_same(masked(), rich.run(scan))


@pytest.mark.parametrize("jit", [False, True])
def test_steps_runs_the_leading_steps_alone_and_is_not_traced_again(jit):
    traces = []
    w = tf.Variable(normal(2))

    def step(x, s):
        s = tf.tanh(w * s + x)
        return s * s, s

    @tf.function(jit_compile=jit, input_signature=[tf.TensorSpec([None, None, 2], tf.float64),
                                                   tf.TensorSpec([], tf.int32)])
    def run(x, steps):
        traces.append(steps)
        s = 0.1 * tf.ones_like(x[0])
        with tf.GradientTape() as tape:
            tape.watch([x, s])
            outputs, state = scan(step, x, s, steps=steps)
            loss = tf.reduce_sum(outputs) + tf.reduce_sum(state)
        return outputs, state, tape.gradient(loss, [x, s, w])

    x = normal(4, 3, 2, seed=1)
    for steps in (2, 4, 1, 0, 9):
        outputs, state, (dx, ds, dw) = run(x, tf.constant(steps))
        ran = min(steps, 4)
        s = 0.1 * tf.ones_like(x[0])
        with tf.GradientTape() as tape:
            tape.watch([x, s])
            expected, end = unrolled(step, x, s, steps=ran) if steps else (x[:0], s)
            loss = tf.reduce_sum(expected) + tf.reduce_sum(end)
        padded = np.pad(expected, [(0, 4 - ran), (0, 0), (0, 0)])
        np.testing.assert_allclose(outputs, padded, rtol=1e-9)
        np.testing.assert_allclose(state, end, rtol=1e-9)
        for actual, wanted in zip((dx, ds, dw), tape.gradient(
                loss, [x, s, w], unconnected_gradients="zero"), strict=True):
            np.testing.assert_allclose(actual, wanted, rtol=1e-9, atol=1e-12)
    assert len(traces) == 1


@pytest.mark.parametrize("jit", [False, True])
def test_dynamic_batch_and_time(jit):
    run = tf.function(
        lambda x: scan(lambda x, s: (s, s + x), x, tf.zeros_like(x[0]), mask=x[..., 0] > 0),
        input_signature=[tf.TensorSpec([None, None, 1])], jit_compile=jit)
    for steps, batch in ((1, 1), (4, 3)):
        x = np.random.default_rng(0).normal(size=[steps, batch, 1]).astype(np.float32)
        outputs, state = run(x)
        assert outputs.shape == (steps, batch, 1)
        np.testing.assert_allclose(state, np.maximum(x, 0).sum(0), rtol=1e-5)


@in_every_mode
def test_gradient_of_an_embedding_lookup(mode):
    table = tf.Variable(normal(5, 2))
    keys = tf.constant([[0, 3], [3, 3], [1, 0]])

    def run():
        with tf.GradientTape() as tape:
            _, total = scan(lambda k, s: ((), s + tf.gather(table, k)), keys,
                            tf.zeros([2, 2], tf.float64))
        return tape.gradient(total, table)

    counts = np.bincount(keys.numpy().ravel(), minlength=5)
    np.testing.assert_allclose(tf.convert_to_tensor(MODES[mode](run)()), np.stack([counts] * 2, 1))


@in_every_mode
def test_gradients_of_a_state_that_is_looked_up(mode):
    x, s = normal(3, 2), normal(2, seed=1)

    def run():
        with tf.GradientTape() as tape:
            tape.watch([x, s])
            _, end = scan(lambda x, s: ((), x * tf.gather(s, [1, 1])), x, s)
            end = tf.gather(end, [0, 0, 1])
        return end, *tape.gradient(end, [x, s])

    end, dx, ds = MODES[mode](run)()
    x, s = x.numpy(), s.numpy()  # s_3 = x_2 x_1[1] x_0[1] s[1]
    factor = x[1, 1] * x[0, 1] * s[1]
    np.testing.assert_allclose(end, factor * x[2, [0, 0, 1]], rtol=1e-9)
    total = 2 * x[2, 0] + x[2, 1]
    np.testing.assert_allclose(dx, [[0, total * factor / x[0, 1]], [0, total * factor / x[1, 1]],
                                    [2 * factor, factor]], rtol=1e-9)
    np.testing.assert_allclose(ds, [0, total * factor / s[1]], rtol=1e-9)


@pytest.mark.parametrize("jit", [False, True])
def test_integers_inside_a_branch(jit):
    x = normal(3, 2)

    @tf.function(jit_compile=jit)
    def gradient(x, taken):
        def run():
            (y, count), (_, end) = scan(lambda x, s: ((x * s[0], s[1]), (s[0] + x, s[1] + 1)), x,
                                        (tf.ones_like(x[0]), tf.constant(0)))
            return tf.reduce_sum(y), tf.reduce_sum(count) + end

        with tf.GradientTape() as tape:
            tape.watch(x)
            total, number = tf.cond(taken, run, lambda: (tf.reduce_sum(x), 0))
        return number, tape.gradient(total, x)

    number, dx = gradient(x, tf.constant(True))
    assert int(number) == 0 + 1 + 2 + 3
    # The sum over t of x_t (1 + the sum of all x before t).
    np.testing.assert_allclose(dx, 1 + tf.reduce_sum(x, 0) - x, rtol=1e-9)


def test_trainable_variables_alone_get_gradients():
    w, fixed = tf.Variable(2.0), tf.Variable(3.0, trainable=False)
    x = tf.constant([[1.0], [2.0]])
    with tf.GradientTape() as tape:
        _, s = scan(lambda x, s: ((), s + x * w * fixed), x, tf.zeros([1]))
    dw, dfixed = tape.gradient(s, [w, fixed])
    assert float(dw) == 9.0 and dfixed is None


def test_scan_inside_a_scan():
    x = normal(3, 2, 4)

    def row(x, s):
        _, total = scan(lambda v, s: ((), s * v), x, s)
        return total, total

    with tf.GradientTape() as tape:
        tape.watch(x)
        _, total = scan(row, x, tf.ones_like(x[0, 0]))
    np.testing.assert_allclose(total, np.prod(x.numpy(), (0, 1)), rtol=1e-9)
    np.testing.assert_allclose(tape.gradient(total, x), total / x, rtol=1e-9)


def test_memory_does_not_grow_with_what_a_step_computes():
    def lists_carried(depth):
        def step(x, s):
            for _ in range(depth):
                s = tf.sin(s) * x
            return s, s

        @tf.function
        def gradient(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                outputs, _ = scan(step, x, tf.ones([3]))
            return tape.gradient(outputs, x)

        ops = gradient.get_concrete_function(tf.ones([4, 3])).graph.get_operations()
        return [sum(v.dtype == tf.variant for v in op.outputs) for op in ops if "While" in op.type]

    assert lists_carried(depth=1) == lists_carried(depth=6)


GENERATOR = tf.random.Generator.from_seed(0)
DRAWS = {
    "uniform": lambda x: x * tf.random.uniform(tf.shape(x)),
    "generator": lambda x: x * GENERATOR.normal([2]),
    "dropout": lambda x: tf.nn.dropout(x, 0.5),
    "inside a branch": lambda x: tf.cond(x[0] > 0, lambda: tf.random.normal([2]), lambda: x),
    "inside a function": tf.function(lambda x: tf.random.normal([2])),
}


def test_a_batch_of_unknown_size_beside_a_weight_of_one_row():
    w = tf.Variable([[0.5]])

    @tf.function(input_signature=[tf.TensorSpec([3, None, 1])])
    def gradient(x):
        with tf.GradientTape() as tape:
            y, _ = scan(lambda x, s: (product(x, w) + s,) * 2, x, tf.zeros_like(x[0]))
            total = tf.reduce_sum(y)
        return tape.gradient(total, w)

    assert gradient(tf.ones([3, 2, 1])).numpy() == 2 * (1 + 2 + 3)  # y_t = w (x_0 + ... + x_t)


@pytest.mark.parametrize("draw", DRAWS)
def test_a_step_that_draws_random_numbers_is_refused(draw):
    run = tf.function(lambda x: scan(lambda x, s: (DRAWS[draw](x), s), x, tf.zeros([2])),
                      autograph=False)
    with pytest.raises(ValueError, match="draws random numbers"):
        run(tf.ones([3, 2]))


def test_the_gradient_of_one_step_that_draws_random_numbers_is_refused():
    @tf.function
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y, _ = scan(lambda x, s: (DRAWS["uniform"](x), s), x, tf.zeros([2]))
        return tape.gradient(y, x)

    with pytest.raises(ValueError, match="draws random numbers"):
        gradient(tf.ones([1, 2]))


def test_random_numbers_drawn_before_are_welcome():
    @tf.function
    def run(x):
        keep = tf.cast(tf.random.uniform([2]) < 0.5, tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs, _ = scan(lambda x, s, keep: (x * keep, s), x, tf.zeros([2]), constants=keep)
        return keep, outputs, tape.gradient(outputs, x)

    keep, outputs, dx = run(tf.ones([20, 2]))
    np.testing.assert_array_equal(outputs, np.tile(keep, [20, 1]))
    np.testing.assert_array_equal(dx, outputs)


@pytest.mark.parametrize("mask", [None, tf.ones([3, 2], tf.bool)])
def test_wrong_number_of_states_is_refused(mask):
    with pytest.raises(ValueError):
        scan(lambda x, s: (x, (s[0],)), tf.ones([3, 2]), (tf.zeros([2]), tf.zeros([2])), mask=mask)


def test_state_of_another_shape_is_refused():
    with pytest.raises(ValueError):
        scan(lambda x, s: (x, tf.zeros([3])), tf.ones([3, 2]), tf.zeros([2]))
