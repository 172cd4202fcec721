"""The sparse memory against the dense one, and its allocation against NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from santm_tf import MemoryCell
from santm_tf.scan import scan
from santm_tf.sparse.cell import SparseMemoryCell, SparseMemoryState
from tests.helpers import draw

BATCH, STEPS, FEATURES = 2, 6, 3


def inputs(seed=0):
    rng = np.random.default_rng(seed)
    return (tf.constant(rng.normal(size=[STEPS, BATCH, FEATURES])),
            tf.constant(rng.integers(0, 2, size=[STEPS, 1, 1]) * np.ones([1, BATCH, 1])))


def built(cell):
    cell.build([[None, FEATURES], [None, 1]])
    draw(cell.trainable_weights, seed=0)
    return cell


@pytest.mark.parametrize("heads, jit", [(2, False), (1, True)])
def test_with_all_slots_kept_it_is_the_dense_memory(heads, jit):
    sizes = dict(memory_slots=5, slot_width=4, read_heads=heads, write_heads=heads, dtype="float64")
    dense = built(MemoryCell(4, **sizes))
    sparse = built(SparseMemoryCell(4, top_k=5, allocate=False, **sizes))

    @tf.function(jit_compile=jit)
    def by_dense(m, a):
        with tf.GradientTape() as tape:
            tape.watch(m)
            first = dense.get_initial_state(batch_size=BATCH)
            read, state = scan(lambda x, s: ((new := dense(x, s)[1])[2], new), (m, a), first)
            loss = tf.reduce_sum(tf.sin(read)) + tf.reduce_sum(state[5] ** 2)
        return read, state[5], tape.gradient(loss, [m, *dense.trainable_weights])

    @tf.function(jit_compile=jit)
    def by_sparse(m, a):
        with tf.GradientTape() as tape:
            tape.watch(m)
            visits, state = sparse.run(m, a)
            read, memory = visits.read[1:], state.memory
            loss = tf.reduce_sum(tf.sin(read)) + tf.reduce_sum(memory ** 2)
        return read, memory, tape.gradient(loss, [m, *sparse.trainable_weights])

    m, a = inputs()
    for ours, theirs in zip(tf.nest.flatten(by_sparse(m, a)), tf.nest.flatten(by_dense(m, a)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


def test_what_is_allocated_is_written_to_a_slot_of_its_own_that_nothing_else_touches():
    cell = built(SparseMemoryCell(4, memory_slots=20, slot_width=4, top_k=3, dtype="float64"))
    cell.head_bias.assign(tf.concat([cell.head_bias[:-1], [1e3]], 0))  # alpha, clipped to sigmoid(20)
    m, a = inputs()
    before = SparseMemoryState(*cell.get_initial_state(batch_size=BATCH)).memory
    _, state = cell.run(m, a)
    after = state.memory
    changed = np.abs(after - before).max(-1) > 1e-6
    accessed = int(tf.reduce_sum(a[:, 0]))
    np.testing.assert_array_equal(changed.sum(1), accessed)
    assert np.abs(after)[changed].max() <= 1  # erased first: what is there is what was added
    for row, newest in zip(changed, state.order.numpy()[:, ::-1], strict=True):
        assert set(np.flatnonzero(row)) <= set(newest[:accessed * 7])


@pytest.mark.parametrize("init", ["constant", "learned"])
def test_the_mean_is_that_of_the_slots_that_were_written(init):
    cell = built(SparseMemoryCell(4, memory_slots=20, slot_width=4, top_k=3, memory_init=init,
                                  dtype="float64"))
    m, a = inputs()
    for steps in range(1, STEPS + 1):
        visits, state = cell.run(m[:steps], a[:steps])
        for mean, memory in zip(visits.mean[-1].numpy(), state[-2].numpy(), strict=True):
            written = memory[np.any(memory != np.float32(1e-6), -1)]
            np.testing.assert_allclose(mean, written.sum(0) / max(len(written), 1), rtol=1e-9, atol=1e-12)


def test_a_step_that_is_not_accessed_changes_nothing():
    cell = built(SparseMemoryCell(4, memory_slots=20, slot_width=4, top_k=3, dtype="float64"))
    m, _ = inputs()
    first = cell.get_initial_state(batch_size=BATCH)
    _, after = cell.run(m, tf.zeros([STEPS, BATCH, 1], tf.float64))
    for old, new in zip(first, after, strict=True):
        np.testing.assert_array_equal(old, new)


def test_going_on_from_a_state_is_one_run():
    cell = built(SparseMemoryCell(4, memory_slots=20, slot_width=4, top_k=3, dtype="float64"))
    m, a = inputs()
    visits, whole = cell.run(m, a)
    first, state = cell.run(m[:2], a[:2])
    rest, end = cell.run(m[2:], a[2:], state)
    np.testing.assert_allclose(tf.concat([first.read, rest.read[1:]], 0), visits.read, rtol=1e-9)
    for ours, theirs in zip(end, whole, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)


@pytest.mark.parametrize("jit, tape_inside", [(None, True), (True, True), (True, False)])
def test_reads_by_tf_sparse_are_the_gathered_ones(jit, tape_inside):
    """Under XLA, which has no kernel for them, they are the gathers, in a gradient traced outside it too."""
    m, a = (tf.cast(v, tf.float32) for v in inputs())

    def values_and_gradients(reads, **options):
        cell = built(SparseMemoryCell(4, memory_slots=20, slot_width=4, top_k=3, reads=reads))
        run = tf.function(lambda m: cell.run(m, a)[0].read, autograph=False,
                          **({} if tape_inside else options))

        def both(m):
            with tf.GradientTape() as tape:
                tape.watch(m)
                read = run(m)
                loss = tf.reduce_sum(tf.sin(read))
            return [read, *tape.gradient(loss, [m, *cell.trainable_weights], unconnected_gradients="zero")]

        return tf.function(both, autograph=False, **(options if tape_inside else {}))(m)

    gathered = values_and_gradients("gather")
    for ours, theirs in zip(values_and_gradients("sparse", jit_compile=jit), gathered, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_read_that_is_unknown_is_named():
    with pytest.raises(ValueError, match="reads='all'; use 'gather' or 'sparse'"):
        SparseMemoryCell(4, memory_slots=20, reads="all")


@pytest.mark.parametrize("top_k", [0, 21])
def test_more_slots_than_there_are_cannot_be_kept(top_k):
    with pytest.raises(ValueError, match=f"top_k={top_k}; it must be from 1 to memory_slots=20"):
        SparseMemoryCell(4, memory_slots=20, top_k=top_k)


def test_finite_differences():
    cell = built(SparseMemoryCell(4, memory_slots=12, slot_width=3, top_k=2, dtype="float64"))
    m, a = inputs()

    def value(m):
        visits, state = cell.run(m, a)
        return tf.reduce_sum(tf.sin(visits.read)) + tf.reduce_sum(state.memory ** 2)

    with tf.GradientTape() as tape:
        tape.watch(m)
        seen = value(m)
    gradient = tape.gradient(seen, m).numpy()
    rng = np.random.default_rng(0)
    for _ in range(3):
        direction = rng.normal(size=m.shape)
        numeric = (value(m + 1e-6 * direction) - value(m - 1e-6 * direction)) / 2e-6
        np.testing.assert_allclose((gradient * direction).sum(), numeric, rtol=1e-4)
