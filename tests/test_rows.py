"""The loop over a memory's rows, against the same model with the whole memory as its state."""

import numpy as np
import pytest
import tensorflow as tf

from santm_tf.scan import scan
from santm_tf.sparse.rows import Rows, scan_rows

SLOTS, WIDTH, BATCH, STEPS, READS = 12, 3, 2, 7, 2


def problem(seed=0, initial=BATCH * SLOTS, length=STEPS):
    rng = np.random.default_rng(seed)
    return (tf.constant(rng.normal(size=[length, BATCH, WIDTH])),
            tf.constant(rng.normal(size=[BATCH, WIDTH])),
            tf.constant(rng.normal(size=[initial, WIDTH])),
            tf.Variable(rng.normal(size=[WIDTH, WIDTH]) / 2))


def chosen(x, s, memory):
    """Row numbers that depend on everything: reads `[B, READS]`, perhaps equal ones, writes `[B, 1]`."""
    own = tf.range(BATCH)[:, None] * SLOTS
    seen = tf.reduce_sum(tf.reshape(memory, [BATCH, -1]), 1, keepdims=True)
    scores = tf.cast(tf.abs(100 * tf.sin(9 * (x + s + seen))), tf.int32) % SLOTS
    return own + scores[:, :READS], own + scores[:, READS:]


def forward(x, s, read, written, kernel):
    s = tf.tanh((x + tf.reduce_sum(read, 1)) @ kernel + s)
    return s * x, s, written * tf.sigmoid(s)[:, None] + s[:, None]


def by_rows(x, s, initial, kernel, steps=None):
    def choose(x, s, memory, index):
        reads, writes = chosen(x, s, memory.whole(BATCH))
        return [reads], writes, writes, index + tf.reduce_sum(writes)

    def step(x, s, read, held, reads, writes):
        y, s, new = forward(x, s, read[0], held, kernel)
        return (y, tf.identity(reads[0])), s, new

    memory = Rows.start(initial, BATCH, SLOTS, STEPS)
    outputs, watched, s, memory, total = scan_rows(choose, step, x, s, memory, tf.constant(0), steps)
    return (*outputs, memory.rows(watched)), s, memory.whole(BATCH), total


def by_scan(x, s, initial, kernel, steps=None):
    """The same by `scan`, the memory being part of the state."""
    memory = tf.tile(initial, [BATCH * SLOTS // initial.shape[0], 1])

    def step(x, state):
        s, memory = state
        reads, writes = chosen(x, s, memory)
        y, s, new = forward(x, s, tf.gather(memory, reads), tf.gather(memory, writes), kernel)
        memory = tf.tensor_scatter_nd_update(memory, writes[..., None], new)
        return (y, reads, tf.gather(memory, writes)), (s, memory)

    outputs, (s, memory) = scan(step, x, (s, memory), steps=steps)
    return outputs, s, tf.reshape(memory, [BATCH, SLOTS, WIDTH]), None


def outcomes(run, problem, jit):
    """What gives, for so many steps, all values and gradients of them."""
    x, s, rows, kernel = problem

    @tf.function(jit_compile=jit)
    def values_and_gradients(steps):
        with tf.GradientTape() as tape:
            tape.watch([x, s, rows])
            (y, slots, watched), end, after, _ = run(x, s, rows, kernel, steps)
            if steps is not None:  # beyond, the numbers of rows are zeros
                watched *= tf.cast(tf.range(len(x)) < steps, x.dtype)[:, None, None, None]
            weights = tf.reshape(tf.range(BATCH * SLOTS * WIDTH, dtype=tf.float64), after.shape)
            loss = (tf.reduce_sum(tf.sin(y)) + tf.reduce_sum(end ** 2) + tf.reduce_sum(after * weights)
                    + tf.reduce_sum(watched ** 2))
        return [y, slots, watched, end, after, *tape.gradient(loss, [x, s, rows, kernel])]

    return values_and_gradients


def assert_close(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("initial", [1, SLOTS, BATCH * SLOTS])
def test_values_and_gradients_are_those_of_the_whole_memory_as_state(initial, jit):
    ours, theirs = (outcomes(run, problem(initial, initial), jit) for run in (by_rows, by_scan))
    assert_close(ours(None), theirs(None))


@pytest.mark.parametrize("jit", [False, True])
def test_steps_runs_the_leading_steps_alone_and_is_not_traced_again(jit):
    ours, theirs = (outcomes(run, problem(), jit) for run in (by_rows, by_scan))
    for steps in (3, 0, 1, STEPS, STEPS + 2):
        found = ours(tf.constant(steps))
        assert_close(found, theirs(tf.constant(steps)))
        assert not np.any(found[0][steps:]) and np.all(found[0][:steps])
    assert ours.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("jit", [False, True])
def test_one_step_is_run_without_a_loop(jit):
    given = problem(length=1)
    ours, theirs = (outcomes(run, given, jit) for run in (by_rows, by_scan))
    assert_close(ours(None), theirs(tf.constant(1)))
    ops = tf.function(by_rows).get_concrete_function(*given).graph.get_operations()
    assert not any("While" in op.type for op in ops)


def test_what_only_chooses_is_carried():
    (_, slots, _), _, _, total = by_rows(*problem())
    assert slots.shape == [STEPS, BATCH, READS] and int(total) > 0


def test_backward_each_step_sees_the_rows_that_it_saw_forward_bit_for_bit():
    x, s, rows, kernel = problem()
    x, s, rows = (tf.cast(v, tf.float32) for v in (x, s, rows))
    seen = []

    def choose(x, s, memory, index):
        reads, writes = chosen(x, s, memory.whole(BATCH))
        return [reads], writes, (), index

    def step(x, s, read, held, reads, writes):
        tf.numpy_function(lambda *rows: seen.append(rows), [*read, held, x], [])
        y, s, new = forward(x, s, read[0], held, tf.cast(kernel, tf.float32))
        return y, s, 1e4 * new / 3

    @tf.function
    def gradient(x, s, rows):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y, *_ = scan_rows(choose, step, x, s, Rows.start(rows, BATCH, SLOTS, STEPS))
        return tape.gradient(y, x)

    gradient(x, s, rows)
    for step_x in x.numpy():  # whatever the order in which the calls were made
        runs = [rows for rows in seen if np.array_equal(rows[-1], step_x)]
        assert len(runs) >= 2
        for rows in runs[1:]:
            for there, back in zip(runs[0], rows, strict=True):
                np.testing.assert_array_equal(there, back)


def test_of_a_memory_all_of_one_row_nothing_is_made_but_numbers():
    """No tensor of floats has more elements for more slots."""
    def largest(slots):
        x = tf.ones([STEPS, 1, WIDTH])

        def choose(x, s, memory, index):
            return [tf.zeros([1, 1], tf.int32)], tf.ones([1, 1], tf.int32), (), index

        def step(x, s, read, held, reads, writes):
            return read[0][:, 0], s, held + x

        @tf.function
        def gradient(x, initial):
            with tf.GradientTape() as tape:
                tape.watch(initial)
                y, *_ = scan_rows(choose, step, x, (), Rows.start(initial, 1, slots, STEPS))
            return tape.gradient(y, initial)

        graph = gradient.get_concrete_function(x, tf.ones([1, WIDTH])).graph
        return max(np.prod(v.shape) for op in graph.get_operations() for v in op.outputs
                   if v.shape.is_fully_defined() and v.dtype.is_floating)

    assert largest(10_000) == largest(10)
