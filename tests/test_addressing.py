"""Addressing: each equation against NumPy float64, and what holds at any extreme."""

import hypothesis
import hypothesis.extra.numpy
import hypothesis.strategies as st
import numpy as np
import pytest
import reference
import tensorflow as tf

from santm_tf import addressing
from tests.helpers import random

SLOTS, WIDTH, SHIFTS = 5, 3, 3
TOLERANCE = {"float32": 1e-6, "float16": 5e-3, "bfloat16": 3e-2}  # of a sum of weights
few = hypothesis.settings(max_examples=30, deadline=None)
seeds = st.integers(0, 2**31)


def probabilities(*shape, seed=0):
    e = np.exp(random(*shape, seed=seed))
    return e / e.sum(-1, keepdims=True)


def heads_of(batch, heads, scale=1.0, width=WIDTH, shifts=SHIFTS, seed=0):
    return scale * random(batch, heads, width + 3 + shifts, seed=seed)


def test_similarity_is_the_cosine():
    key, memory = random(2, 4, WIDTH), random(2, SLOTS, WIDTH, seed=1)
    ours = addressing.similarity(tf.constant(key), tf.constant(memory)).numpy()
    for b, h, n in np.ndindex(ours.shape):
        np.testing.assert_allclose(ours[b, h, n], reference.similarity(key[b, h], memory[b, n]))
        norms = np.linalg.norm(key[b, h]) * np.linalg.norm(memory[b, n])
        np.testing.assert_allclose(ours[b, h, n], key[b, h] @ memory[b, n] / norms, atol=1e-4)


def test_content_is_a_softmax_of_similarities():
    key, memory, beta = random(2, 4, WIDTH), random(2, SLOTS, WIDTH), 5 * probabilities(2, 4, 1)
    ours = addressing.content(*map(tf.constant, (key, beta, memory))).numpy()
    for b, h in np.ndindex(2, 4):
        cosines = np.array([reference.similarity(key[b, h], slot) for slot in memory[b]])
        np.testing.assert_allclose(ours[b, h], reference.softmax(beta[b, h] * cosines))


def test_interpolate_mixes_by_the_gate():
    new, old = probabilities(2, 4, SLOTS), probabilities(2, 4, SLOTS, seed=1)
    gate = probabilities(2, 4, 2)[..., :1]
    ours = addressing.interpolate(*map(tf.constant, (new, old, gate)))
    np.testing.assert_allclose(ours, gate * new + (1 - gate) * old)


@few
@hypothesis.given(slots=st.integers(1, 9), reach=st.integers(0, 6), seed=seeds)
def test_shift_is_a_mixture_of_rolls_for_any_range(slots, reach, seed):
    w, s = probabilities(2, 3, slots, seed=seed), probabilities(2, 3, 2 * reach + 1, seed=seed + 1)
    ours = addressing.shift(tf.constant(w), tf.constant(s)).numpy()
    rolls = sum(s[..., n + reach, None] * np.roll(w, n, -1) for n in range(-reach, reach + 1))
    np.testing.assert_allclose(ours, rolls, atol=1e-14)
    np.testing.assert_allclose(ours[1, 2], reference.shift(w[1, 2], s[1, 2]), atol=1e-14)


def test_sharpen_is_the_normalised_power():
    w, gamma = probabilities(2, 3, SLOTS), 1 + 4 * probabilities(2, 3, 1, seed=1)[..., :1]
    ours = addressing.sharpen(tf.constant(w), tf.constant(gamma)).numpy()
    np.testing.assert_allclose(ours, w**gamma / (w**gamma).sum(-1, keepdims=True), atol=1e-4)
    np.testing.assert_allclose(ours[1, 2], reference.sharpen(w[1, 2], gamma[1, 2]))


@few
@hypothesis.given(slots=st.integers(2, 7), width=st.integers(1, 4), reach=st.integers(0, 2),
                  scale=st.sampled_from([0.1, 1.0, 5.0]), seed=seeds)
def test_address_is_all_of_it_in_order(slots, width, reach, scale, seed):
    head = heads_of(2, 3, scale, width, 2 * reach + 1, seed)
    memory, previous = random(2, slots, width, seed=seed), probabilities(2, 3, slots, seed=seed)
    ours = addressing.address(*map(tf.constant, (head, memory, previous))).numpy()
    assert head.shape[-1] == addressing.head_width(width, reach)
    for b, h in np.ndindex(2, 3):
        np.testing.assert_allclose(
            ours[b, h], reference.address(head[b, h], memory[b], previous[b, h]), atol=1e-12)


def extreme(kind, shape):
    return {"zeros": np.zeros(shape), "constant": np.full(shape, 1e-6),
            "huge": 1e4 * random(*shape), "equal": np.full(shape, 1e4)}[kind]


def slopes(head, memory, previous):
    """The weights, and the gradients of their sum at a slope."""
    with tf.GradientTape() as tape:
        tape.watch([head, memory, previous])
        w = addressing.address(head, memory, previous)
        loss = tf.reduce_sum(w * tf.cast(tf.range(1, SLOTS + 1), w.dtype))
    return w, tape.gradient(loss, [head, memory, previous])


@pytest.mark.parametrize("dtype", TOLERANCE)
@few
@hypothesis.given(kind=st.sampled_from(["zeros", "constant", "huge", "equal"]),
                  raw=hypothesis.extra.numpy.arrays(
                      np.float64, [2, 2, WIDTH + 3 + SHIFTS],
                      elements=st.sampled_from([-60.0, -20.0, 0.0, 1.0, 20.0, 60.0])),
                  hot=st.integers(0, SLOTS - 1))
def test_weights_and_gradients_are_sound_at_extremes(dtype, kind, raw, hot):
    """Raw heads at the clip and beyond (gamma up to 61), degenerate memories, one-hot weights."""
    head, memory = tf.constant(raw, dtype), tf.constant(extreme(kind, [2, SLOTS, WIDTH]), dtype)
    previous = tf.one_hot(tf.fill([2, 2], hot), SLOTS, dtype=dtype)
    w, gradients = slopes(head, memory, previous)
    assert w.dtype == dtype and np.all(w >= 0)
    np.testing.assert_allclose(tf.reduce_sum(tf.cast(w, "float64"), -1), 1, atol=TOLERANCE[dtype])
    _, exact = slopes(*(tf.cast(v, tf.float64) for v in (head, memory, previous)))
    for ours, theirs in zip(gradients, exact, strict=True):
        fits = abs(theirs) < 0.9 * tf.as_dtype(dtype).max  # at a slot of zeros it can reach 1e5
        assert np.all(np.isfinite(theirs))
        assert np.all(np.isfinite(tf.cast(ours, tf.float64))[fits])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("gamma", [-20.0, 60.0])
@pytest.mark.parametrize("memory", ["zeros", "huge"])
def test_two_hundred_steps_stay_finite(dtype, gamma, memory):
    raw = heads_of(2, 2)
    raw[..., -1] = gamma
    head = tf.constant(raw, dtype)
    memory = tf.constant(extreme(memory, [2, SLOTS, WIDTH]), dtype)

    @tf.function
    def run(head):
        w = tf.one_hot(tf.zeros([2, 2], tf.int32), SLOTS, dtype=dtype)
        for _ in tf.range(200):
            w = addressing.address(head, memory, w)
        return w, tf.gradients(w[..., 0], head)[0]

    w, gradient = (tf.cast(v, tf.float64) for v in run(head))
    assert np.all(w >= 0) and np.all(np.isfinite(gradient))
    np.testing.assert_allclose(tf.reduce_sum(w, -1), 1, atol=TOLERANCE[dtype])


def test_half_precision_is_computed_in_single():
    head, memory, previous = heads_of(2, 3), random(2, SLOTS, WIDTH), probabilities(2, 3, SLOTS)
    half = [tf.constant(v, tf.float16) for v in (head, memory, previous)]
    single = [tf.cast(v, tf.float32) for v in half]
    ours = addressing.address(*half)
    assert ours.dtype == tf.float16
    np.testing.assert_array_equal(ours, tf.cast(addressing.address(*single), tf.float16))


def test_address_gradients_match_finite_differences():
    arguments = [tf.constant(v) for v in (
        heads_of(1, 2), random(1, SLOTS, WIDTH), probabilities(1, 2, SLOTS))]
    exact, numeric = tf.test.compute_gradient(addressing.address, arguments, delta=1e-5)
    for a, b in zip(exact, numeric, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-7)
