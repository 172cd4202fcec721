"""The sparse memory against the dense one, and its allocation against NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from santm_tf import MemoryCell
from santm_tf.scan import scan
from santm_tf.sparse_memory import SparseMemoryCell

BATCH, STEPS, FEATURES = 2, 6, 3


def inputs(seed=0):
    rng = np.random.default_rng(seed)
    return (tf.constant(rng.normal(size=[STEPS, BATCH, FEATURES])),
            tf.constant(rng.integers(0, 2, size=[STEPS, 1, 1]) * np.ones([1, BATCH, 1])))


def built(cell, seed=0):
    cell.build([[None, FEATURES], [None, 1]])
    rng = np.random.default_rng(seed)
    for w in cell.trainable_weights:
        w.assign(rng.normal(size=w.shape))
    return cell


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("heads", [1, 2])
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
            read, _, memory, _ = sparse.run(m, a)
            loss = tf.reduce_sum(tf.sin(read)) + tf.reduce_sum(memory ** 2)
        return read, memory, tape.gradient(loss, [m, *sparse.trainable_weights])

    m, a = inputs()
    for ours, theirs in zip(tf.nest.flatten(by_sparse(m, a)), tf.nest.flatten(by_dense(m, a)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)
