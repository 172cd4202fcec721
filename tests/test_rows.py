"""The loop over a memory's rows, against the same model with the whole memory as its state."""

import numpy as np
import pytest
import tensorflow as tf

from santm_tf.rows import scan_rows
from santm_tf.scan import scan

SLOTS, WIDTH, BATCH, STEPS, READS = 12, 3, 2, 7, 2


def problem(seed=0):
    rng = np.random.default_rng(seed)
    return (tf.constant(rng.normal(size=[STEPS, BATCH, WIDTH])),
            tf.constant(rng.normal(size=[BATCH, WIDTH])),
            tf.constant(rng.normal(size=[BATCH * SLOTS, WIDTH])),
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


def by_rows(x, s, memory, kernel):
    def choose(x, s, memory, index):
        reads, writes = chosen(x, s, memory)
        return ([reads], [writes]), index + tf.reduce_sum(writes)

    def step(x, s, read, written, slots):
        y, s, new = forward(x, s, read[0], written[0], kernel)
        return (y, tf.identity(slots[0][0])), s, [new]

    return scan_rows(choose, step, x, s, memory, tf.constant(0))


def whole(x, s, memory, kernel):
    """The same by `scan`, the memory being part of the state."""
    def step(x, state):
        s, memory = state
        reads, writes = chosen(x, s, memory)
        y, s, new = forward(x, s, tf.gather(memory, reads), tf.gather(memory, writes), kernel)
        return (y, reads), (s, tf.tensor_scatter_nd_update(memory, writes[..., None], new))

    (outputs, (s, memory)) = scan(step, x, (s, memory))
    return outputs, s, memory, None


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_values_and_gradients_are_those_of_the_whole_memory_as_state(seed, jit):
    found = {}
    for run in by_rows, whole:
        x, s, memory, kernel = problem(seed)

        @tf.function(jit_compile=jit)
        def values_and_gradients(x, s, memory, run=run, kernel=kernel):
            with tf.GradientTape() as tape:
                tape.watch([x, s, memory])
                (y, slots), end, after, _ = run(x, s, memory, kernel)
                weights = tf.reshape(tf.range(BATCH * SLOTS * WIDTH, dtype=tf.float64), after.shape)
                loss = tf.reduce_sum(tf.sin(y)) + tf.reduce_sum(end ** 2) + tf.reduce_sum(after * weights)
            return [y, slots, end, after, *tape.gradient(loss, [x, s, memory, kernel])]

        found[run] = [v.numpy() for v in values_and_gradients(x, s, memory)]
    for ours, theirs in zip(found[by_rows], found[whole], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


def test_what_only_chooses_is_carried():
    x, s, memory, kernel = problem()
    (_, slots), _, _, total = by_rows(x, s, memory, kernel)
    assert slots.shape == [STEPS, BATCH, READS] and int(total) > 0


def test_the_memory_is_walked_back_bit_for_bit():
    """Each step recomputed backward sees the rows that it saw forward, to the last bit."""
    x, s, memory, kernel = problem()
    x, s, memory = (tf.cast(v, tf.float32) for v in (x, s, memory))
    seen = []

    def choose(x, s, memory, index):
        reads, writes = chosen(x, s, memory)
        return ([reads], [writes]), index

    def step(x, s, read, written, slots):
        tf.numpy_function(lambda *rows: seen.append(rows), [*read, *written, x], [])
        y, s, new = forward(x, s, read[0], written[0], tf.cast(kernel, tf.float32))
        return y, s, [1e4 * new / 3]

    @tf.function
    def gradient(x, s, memory):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y, *_ = scan_rows(choose, step, x, s, memory)
        return tape.gradient(y, x)

    gradient(x, s, memory)
    for step_x in x.numpy():  # whatever the order in which the calls were made
        runs = [rows for rows in seen if np.array_equal(rows[-1], step_x)]
        assert len(runs) >= 2
        for rows in runs[1:]:
            for there, back in zip(runs[0], rows, strict=True):
                np.testing.assert_array_equal(there, back)


def test_no_step_costs_the_memory():
    """What the loops keep grows with the rows, and not with the memory."""
    def kept(slots):
        x = tf.ones([STEPS, 1, WIDTH])
        memory = tf.ones([slots, WIDTH])

        def choose(x, s, memory, index):
            return ([tf.zeros([1, 1], tf.int32)], [tf.ones([1, 1], tf.int32)]), index

        def step(x, s, read, written, slots):
            return read[0][:, 0], s, [written[0] + x]

        @tf.function
        def gradient(x, memory):
            with tf.GradientTape() as tape:
                tape.watch(memory)
                y, *_ = scan_rows(choose, step, x, (), memory)
            return tape.gradient(y, memory)

        graph = gradient.get_concrete_function(x, memory).graph
        return max((np.prod(v.shape) for op in graph.get_operations() for v in op.outputs
                    if v.shape.is_fully_defined()), default=0)

    assert kept(10_000) == 10_000 * WIDTH
