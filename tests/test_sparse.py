"""Sparse addressing against the dense memory's, and against its steps over all slots in NumPy."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf

from santm_tf import addressing
from santm_tf.sparse import search
from santm_tf.sparse import weights as sparse
from santm_tf.sparse.weights import SparseWeights

few = hypothesis.settings(max_examples=25, deadline=None)
BATCH, HEADS, WIDTH = 2, 3, 4


def problem(slots, kept, shift_range=1, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    head = rng.normal(size=[BATCH, HEADS, addressing.head_width(WIDTH, shift_range)]) * scale
    memory = rng.normal(size=[BATCH, slots, WIDTH])
    previous = np.stack([[rng.permutation(slots)[:kept] for _ in range(HEADS)] for _ in range(BATCH)])
    values = rng.dirichlet(np.ones(kept), size=[BATCH, HEADS])
    return (tf.constant(head), tf.constant(memory),
            SparseWeights(tf.constant(previous, tf.int32), tf.constant(values)))


def addressed(head, memory, previous, kept, candidates=None):
    key = tf.tanh(head[..., :WIDTH])
    found = search.nearest(key, memory, candidates or kept)
    rows = tf.gather(memory, found, batch_dims=1)
    places, logits = sparse.reached(head, found, rows, previous, memory.shape[1])
    return sparse.weights_at(sparse.largest(places, logits, kept), places, logits), found


@few
@hypothesis.given(slots=st.integers(3, 9), seed=st.integers(0, 99), scale=st.sampled_from([0.1, 1.0, 20.0]))
def test_with_all_slots_kept_it_is_the_dense_address(slots, seed, scale):
    head, memory, previous = problem(slots, slots, seed=seed, scale=scale)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([head, memory, previous.values])
        ours = addressed(head, memory, previous, slots)[0].dense(slots)
        theirs = addressing.address(head, memory, previous.dense(slots))
    np.testing.assert_allclose(ours, theirs, atol=1e-9)
    weights = tf.random.stateless_normal(ours.shape, [seed, 0], dtype=tf.float64)
    for a, b in zip(*(tape.gradient(v, [head, memory, previous.values], output_gradients=weights)
                      for v in (ours, theirs)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-7)


@few
@hypothesis.given(slots=st.integers(6, 20), kept=st.integers(1, 5), seed=st.integers(0, 99),
                  reach=st.integers(0, 2))
def test_it_keeps_the_largest_of_what_its_steps_over_all_slots_give(slots, kept, seed, reach):
    head, memory, previous = problem(slots, kept, reach, seed)
    ours, found = addressed(head, memory, previous, kept)
    parts = addressing.split_head(head, WIDTH)
    key, strength, gate, moves, gamma = (v.numpy() for v in parts)
    softmax = tf.nn.softmax
    for b in range(BATCH):
        for h in range(HEADS):
            at, k = found[b, h].numpy(), np.tanh(key[b, h])
            m = memory.numpy()[b, at]
            cos = m @ k / np.sqrt((k @ k + 1e-6) * ((m * m).sum(1) + 1e-6))
            w, reached = np.zeros(slots), np.zeros(slots, bool)
            g = 1 / (1 + np.exp(-gate[b, h]))
            w[at] = g * softmax(np.log1p(np.exp(strength[b, h])) * cos)
            np.add.at(w, previous.slots[b, h].numpy(), (1 - g) * previous.values[b, h].numpy())
            reached[at] = reached[previous.slots[b, h].numpy()] = True
            s = softmax(moves[b, h]).numpy()
            w = sum(s[i] * np.roll(w, i - reach) for i in range(2 * reach + 1))
            reached = np.any([np.roll(reached, i - reach) for i in range(2 * reach + 1)], 0)
            w = np.where(reached, (w + 1e-6) ** (1 + np.log1p(np.exp(gamma[b, h]))), 0)
            most = np.argsort(-w)[:kept]
            assert set(ours.slots[b, h].numpy()) == set(most)
            kept_weights = ours.dense(slots)[b, h].numpy()[most]
            np.testing.assert_allclose(kept_weights, w[most] / w[most].sum(), rtol=1e-6)


def test_nearest_finds_the_most_similar():
    head, memory, _ = problem(30, 4)
    key = tf.tanh(head[..., :WIDTH])
    expected = np.argsort(-addressing.similarity(key, memory).numpy())[..., :5]
    np.testing.assert_array_equal(np.sort(search.nearest(key, memory, 5)), np.sort(expected))


@pytest.mark.parametrize("jit", [False, True])
def test_it_compiles(jit):
    head, memory, previous = problem(12, 3)
    (slots, values), _ = addressed(head, memory, previous, 3)
    run = tf.function(lambda *v: addressed(*v, 3)[0], jit_compile=jit)
    ours = run(head, memory, previous)
    np.testing.assert_array_equal(ours.slots, slots)
    np.testing.assert_allclose(ours.values, values, rtol=1e-9)


@few
@hypothesis.given(slots=st.integers(3, 30), kept=st.integers(1, 3), seed=st.integers(0, 99))
def test_both_reads_are_those_of_the_dense_weights(slots, kept, seed):
    _, memory, weights = problem(slots, kept, seed=seed)
    found = []
    for sparsely in (False, True):
        with tf.GradientTape() as tape:
            tape.watch([weights.values, memory])
            read = sparse.read(weights.values, tf.gather(memory, weights.slots, batch_dims=1), sparsely)
            loss = tf.reduce_sum(tf.sin(read))
        np.testing.assert_allclose(read, weights.dense(slots) @ memory, rtol=1e-12, atol=1e-14)
        found.append([tf.convert_to_tensor(v) for v in tape.gradient(loss, [weights.values, memory])])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)


@few
@hypothesis.given(seed=st.integers(0, 99), scale=st.sampled_from([0.0, 1.0, 1e3]))
def test_at_extremes_it_is_finite_and_a_distribution(seed, scale):
    head, memory, previous = problem(12, 3, seed=seed, scale=scale)
    head, memory = tf.cast(head, tf.float32), tf.cast(scale * memory, tf.float32)
    previous = SparseWeights(previous.slots, tf.cast(previous.values, tf.float32))
    with tf.GradientTape() as tape:
        tape.watch([head, memory])
        weights, _ = addressed(head, memory, previous, 3)
        seen = tf.reduce_sum(weights.values ** 2)
    assert all(len(set(row)) == 3 for row in weights.slots.numpy().reshape(-1, 3))
    np.testing.assert_allclose(tf.reduce_sum(weights.values, -1), 1, rtol=1e-5)
    assert all(np.isfinite(g).all() for g in tape.gradient(seen, [head, memory]))
