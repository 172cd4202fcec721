"""Search in what was written, exact and hashed, against the whole memory in NumPy."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf

from santm_tf.sparse.rows import Rows, scan_rows
from santm_tf.sparse.search import Hashed, Written, best_distinct, nearest_or_other

HEADS, WIDTH = 2, 8
courses = hypothesis.given(batch=st.integers(1, 3), slots=st.integers(4, 12), steps=st.integers(1, 6),
                           writes=st.integers(1, 4), count=st.integers(1, 4), seed=st.integers(0, 999))


def course(rng, batch, slots, steps, writes, count):
    """What all slots hold first; of each step keys, rows, where those go, and slots never written before.

    And where the rows do go there: a step may give each slot what it held.
    """
    first = rng.normal(size=[1, WIDTH]) * rng.integers(0, 2)
    rows = rng.normal(size=[steps, batch, writes, WIDTH])
    rows *= rng.choice([0, 0.01, 1, 9], [steps, batch, writes, 1])
    at = np.full([steps, batch, writes], batch * slots)
    others = np.zeros([steps, batch, count], np.int32)
    accessed = rng.random([steps, batch]) < 0.8
    for b in range(batch):
        never = set(range(slots))
        some = rng.permutation(slots)[count:]
        for t in range(steps):
            others[t, b] = rng.permutation(sorted(never))[:count]
            taken = rng.choice(some, min(writes, len(some)), replace=False)
            taken = taken[rng.random(len(taken)) < 0.7]
            at[t, b, rng.permutation(writes)[:len(taken)]] = b * slots + taken
            never -= set(taken) if accessed[t, b] else set()
    keys = rng.normal(size=[steps, batch, HEADS, WIDTH]) * rng.choice([0, 0.1, 1], [steps, batch, HEADS, 1])
    copied = rows[rng.integers(0, steps, [steps, batch, HEADS]), np.arange(batch)[:, None], 0]
    keys = np.where(rng.random([steps, batch, HEADS, 1]) < 0.5, copied, keys)
    return [v.astype(np.float32) for v in (first, keys, rows)] + [at.astype(np.int32), others, accessed]


def run(kind, slots, first, keys, rows, at, others, accessed):
    """What an index finds at each step, `[T, B, h, k]`, and the memory after the last, `[B, N, W]`."""
    steps, batch, writes = at.shape
    memory = Rows.start(first, batch, slots, steps * writes + 1)

    def choose(x, state, memory, index):
        keys, _, at, others, accessed = x
        index = index.noted(memory)
        found = index.nearest(keys, memory, others.shape[-1], others)
        return [found], at, (), index.replaced(memory, at, accessed)

    def step(x, state, read, held, reads, writes):
        return tf.identity(reads[0]), state, tf.where(x[-1][:, None, None], x[1], held)

    found, _, _, memory, _ = scan_rows(choose, step, (keys, rows, at, others, accessed), (), memory,
                                       kind.start(memory, batch, writes))
    return found, memory.whole(batch)


def searched(kind, slots, *given, jit=None):
    """`run` eagerly, or as a graph that XLA compiles or not."""
    def search(*given):
        return run(kind, slots, *given)

    if jit is not None:
        search = tf.function(search, jit_compile=jit)
    return [v.numpy() for v in search(*map(tf.constant, given))]


def memories(slots, first, keys, rows, at, others, accessed):
    """The whole memory before each step and after the last, `[T + 1, B, N, W]`."""
    batch = at.shape[1]
    memory = np.repeat(first, batch * slots + 1, 0)
    seen = [memory]
    for row, place, on in zip(rows, at, accessed, strict=True):
        memory = memory.copy()
        memory[place[on]] = row[on]
        seen.append(memory)
    return np.stack(seen)[:, :-1].reshape(-1, batch, slots, first.shape[-1])


def similarity(keys, memory):
    lengths = [np.sqrt((v * v).sum(-1) + 1e-6) for v in (keys, memory)]
    return keys @ np.swapaxes(memory, -1, -2) / (lengths[0][..., None] * lengths[1][..., None, :])


def assert_different(found, slots):
    assert found.min() >= 0 and found.max() < slots
    assert (np.diff(np.sort(found)) > 0).all()


@pytest.mark.parametrize("kind", [Written, Hashed])
def test_compiled_it_finds_the_same(kind):
    given = course(np.random.default_rng(0), 2, 12, 6, 3, 2)
    for ours, theirs in zip(searched(kind, 12, *given, jit=True), searched(kind, 12, *given), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@hypothesis.settings(max_examples=15, deadline=None)
@hypothesis.example(batch=2, slots=4, steps=4, writes=1, count=2, seed=164)  # writes that go nowhere
@courses
def test_of_slots_that_are_alike_a_search_of_all_takes_what_an_index_takes(batch, slots, steps, writes, count,
                                                                          seed):
    rng = np.random.default_rng(seed)
    first, keys, rows, *rest = course(rng, batch, slots, steps, writes, count)
    rows = np.where(np.any(rows, -1, keepdims=True), rows, first[0])  # some are written, and as they were
    keys += rng.normal(size=keys.shape).astype(np.float32)
    found, _ = searched(Written, slots, first, keys, rows, *rest)
    before = memories(slots, first, keys, rows, *rest)[:-1]
    for ours, key, memory, others in zip(found, keys, before, rest[1], strict=True):
        theirs = nearest_or_other(key, memory, count, tf.constant(others), first[0])
        np.testing.assert_array_equal(np.sort(ours), np.sort(theirs))


@hypothesis.settings(max_examples=15, deadline=None)
@courses
def test_written_finds_the_most_similar_of_all_slots(batch, slots, steps, writes, count, seed):
    given = course(np.random.default_rng(seed), batch, slots, steps, writes, count)
    found, after = searched(Written, slots, *given)
    *before, last = memories(slots, *given)
    np.testing.assert_array_equal(after, last)
    assert_different(found, slots)
    scores = similarity(given[1], np.stack(before))
    np.testing.assert_allclose(np.sort(np.take_along_axis(scores, found, -1)), np.sort(scores)[..., -count:],
                               atol=1e-5)


@hypothesis.settings(max_examples=10, deadline=None)
@courses
def test_hashed_finds_no_slot_for_what_it_no_longer_holds(batch, slots, steps, writes, count, seed):
    """Such a slot would come before one that is more similar, or take the place of a better one given."""
    given = course(np.random.default_rng(seed), batch, slots, steps, writes, count)
    found, _ = searched(Hashed, slots, *given)
    assert_different(found, slots)
    scores = similarity(given[1], memories(slots, *given)[:-1])
    ours = np.take_along_axis(scores, found, -1)
    theirs = np.take_along_axis(scores, np.repeat(given[4][:, :, None], HEADS, 2), -1)
    assert (np.diff(ours) < 1e-5).all()
    assert (np.sort(ours) > np.sort(theirs) - 1e-5).all()


def planted():
    """Thousands of random rows, keys of cosine 0.95 to some, which are then overwritten by their opposite.

    The keys are asked for at every step: `(slots, what run takes, the slots of the copied rows)`.
    """
    rng = np.random.default_rng(0)
    batch, slots, steps, writes, width, keys = 2, 6000, 16, 250, 16, 100
    rows = rng.normal(size=[batch, steps * writes, width])
    rows /= np.linalg.norm(rows, axis=-1, keepdims=True)
    noise = rng.normal(size=[batch, keys, width])
    noise -= (noise * rows[:, :keys]).sum(-1, keepdims=True) * rows[:, :keys]
    noise /= np.linalg.norm(noise, axis=-1, keepdims=True)
    key = 0.95 * rows[:, :keys] + np.sqrt(1 - 0.95**2) * noise
    at = np.stack([b * slots + rng.permutation(slots - 4)[:steps * writes] for b in range(batch)])
    copied = at[:, :keys] - slots * np.arange(batch)[:, None]
    rows[:, -writes:-writes + keys] = -key
    at[:, -writes:-writes + keys] = at[:, :keys]

    def by_step(v):
        return v.reshape(batch, steps, writes, -1).transpose(1, 0, 2, 3)

    nothing = np.full([1, batch, writes], batch * slots)  # so that there is a step after the last write
    rows = np.concatenate([by_step(rows), np.zeros([1, batch, writes, width])])
    at = np.concatenate([by_step(at)[..., 0], nothing])
    others = np.broadcast_to(np.arange(slots - 4, slots), [steps + 1, batch, 4])
    keys = np.broadcast_to(key, [steps + 1, *key.shape])
    first, keys, rows = (v.astype(np.float32) for v in (np.zeros([1, width]), keys, rows))
    accessed = np.ones([steps + 1, batch], bool)
    return slots, [first, keys, rows, at.astype(np.int32), others.astype(np.int32), accessed], copied


def test_hashed_finds_a_near_duplicate_until_it_is_overwritten():
    slots, given, copied = planted()
    found, _ = searched(Hashed, slots, *given, jit=False)
    assert_different(found, slots)
    there = (found[1:] == copied[:, :, None]).any(-1)
    assert there[:-1].mean((1, 2)).min() > 0.9  # with more and more other rows
    assert not there[-1].any()


def test_a_slot_that_is_written_again_and_again_does_not_push_others_out_of_their_buckets():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=[1, 1, 1, WIDTH]) + 1e-4 * rng.normal(size=[30, 1, 1, WIDTH])
    at = np.maximum(5 - np.arange(30), 0)  # slots 5 to 0, then 0 alone
    others = np.broadcast_to(np.arange(6, 12), [30, 1, 6])
    found, _ = searched(Hashed, 12, np.zeros([1, WIDTH]), rows, rows, at[:, None, None].astype(np.int32),
                        others.astype(np.int32), np.ones([30, 1], bool), jit=False)
    assert set(found[-1].ravel()) == set(range(6))


@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(count=st.integers(1, 4), more=st.integers(0, 6), seed=st.integers(0, 999))
def test_best_distinct(count, more, seed):
    rng = np.random.default_rng(seed)
    slots = rng.integers(0, count + more + 1, [2, HEADS, 2 * count + more])
    slots[..., :count] = np.arange(count)
    scores = rng.permuted(np.tile(np.linspace(-1, 1, slots.shape[-1]), [2, HEADS, 1]), axis=-1)
    best = best_distinct(tf.constant(slots, tf.int32), tf.constant(scores), count).numpy()
    for own, row, score in zip(best.reshape(-1, count), slots.reshape(-1, slots.shape[-1]),
                               scores.reshape(-1, slots.shape[-1]), strict=True):
        expected = sorted(set(row), key=lambda slot: -score[row == slot].max())
        np.testing.assert_array_equal(own, expected[:count])
