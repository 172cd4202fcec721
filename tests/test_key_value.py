"""The memory of keys and values: against NumPy row by row, its ring, its search, as a layer."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.key_value import VARIANTS
from santm_tf import SANTM
from santm_tf.analysis.trace import trace
from santm_tf.sparse.key_value import KeyValueMemoryCell
from santm_tf.sparse.ring import Ring
from santm_tf.visits import Keep
from tests.helpers import randomise

STEPS, BATCH = 14, 3


def built(width=5, **options):
    sizes = {"memory_slots": 6, "slot_width": 4, "key_width": 3, "top_k": 2, "dtype": "float64", **options}
    cell = KeyValueMemoryCell(width, **sizes)
    cell.build([[None, width], [None, 1]])
    randomise(cell.trainable_weights, 0.9)
    return cell


def inputs(seed=0, width=5):
    """u, a with some steps shut, and segments that last some steps."""
    rng = np.random.default_rng(seed)
    ends = rng.random([STEPS, BATCH]) < 0.6
    return (rng.normal(size=[STEPS, BATCH, width]), (rng.random([STEPS, BATCH, 1]) < 0.8).astype(float),
            np.repeat(1.0 + np.cumsum(ends, 0)[..., None], width, -1))


def reference(cell, u, a, segment):
    """The vectors read by one sequence, before the first step and after each, row by row.

    A gate between 0 and 1 leaves its complement of what was read at the access before.
    """
    w = {weight.name.split("/")[-1].split(":")[0]: weight.numpy() for weight in cell.trainable_weights}
    heads, width = cell.read_heads, cell.slot_width
    rows, before, moved = [], unit(w["first_key"]), np.zeros(segment.shape[-1])
    found = [[] for _ in range(heads)]  # of each head the numbers of the rows that it read last, and weights
    read = out = np.zeros([heads, width])
    reads = [out]
    for x, opened, now in zip(u, a[:, 0], segment, strict=True):
        if not opened:
            reads.append(reads[-1])
            continue
        if (now != moved).any():
            key, looked = look_up(cell, w, x, rows)
            phi = np.zeros(heads)
            if cell.reads_on:
                phi = 1 / (1 + np.exp(-x @ w["on_kernel"] - w["on_bias"]))
            after = [[(n + 1, weight) for n, weight in some] for some in found]
            share = phi[:, None]
            read = (1 - share) * values(looked, rows, width) + share * values(after, rows, width)
            found = [after[head] if phi[head] > 0.5 else looked[head] for head in range(heads)]
            strength = 1 / (1 + np.exp(-x @ w["strength_kernel"] - w["strength_bias"]))
            rows.append((before, x @ w["value_kernel"], strength[0]))
            before, moved = key, now
        gate = 1 / (1 + np.exp(-x @ w["gate_kernel"] - w["gate_bias"]))
        before_it, out = out, gate.reshape(heads, width) * read
        reads.append(opened * out + (1 - opened) * before_it)
    return np.array(reads)


def values(found, rows, width):
    """The sums of the rows' values by their weights, `[R, W]`."""
    return np.array([sum((weight * rows[n][1] for n, weight in some), np.zeros(width)) for some in found])


def unit(key):
    return key / np.sqrt((key ** 2).sum(-1, keepdims=True) + 1e-6)


def look_up(cell, w, x, rows):
    """The key of a segment, and of each head the numbers of the rows that it finds, with their weights."""
    heads, found = cell.read_heads, []
    key = unit((x @ w["key_kernel"]).reshape(heads, cell.key_width))
    there = rows[-cell.memory_slots + 1:]
    beta = np.log1p(np.exp(w["temperature_bias"][:, 0])) * np.log1p(min(len(rows), cell.memory_slots))
    for head in range(heads):
        scores = [beta[head] * key[head] @ k[head] + np.log(s) for k, _, s in there]
        best = np.argsort(scores)[::-1][:cell.top_k]
        powers = np.exp([scores[n] for n in best])
        powers /= powers.sum() + np.exp(w["none_bias"][head, 0])
        found.append([(len(rows) - len(there) + n, power) for n, power in zip(best, powers, strict=True)])
    return key, found


@pytest.mark.parametrize("partly", [False, True], ids=["gates of 0 and 1", "gates between"])
@pytest.mark.parametrize("options", [
    {}, {"memory_slots": 30}, {"read_heads": 2, "top_k": 5}, {"reads_on": True},
    {"reads_on": True, "read_heads": 3, "memory_slots": 30}], ids=str)
def test_it_is_its_equations(options, partly):
    cell, given = built(**options), inputs()
    if partly:
        given[1][::2] *= np.random.default_rng(1).random(given[1][::2].shape)
    u, a, segment = map(tf.constant, given)
    read = cell.run(u, a, keep=Keep(partly=partly), segment=segment)[0].read
    expected = [reference(cell, *(v[:, row] for v in given)) for row in range(BATCH)]
    np.testing.assert_allclose(read, expected, rtol=1e-5, atol=1e-7)


def test_a_segment_that_comes_again_finds_what_followed_it():
    cell = KeyValueMemoryCell(8, memory_slots=50, slot_width=8, top_k=1)
    cell.build([[None, 8], [None, 1]])
    cell.temperature_bias.assign([[30.0]])
    u = np.random.default_rng(1).normal(size=[20, 1, 8]).astype(np.float32)
    u[19] = u[7]
    visits, _ = cell.run(tf.constant(u), tf.ones([20, 1, 1]))
    gate = 1 / (1 + np.exp(-u[19] @ cell.gate_kernel.numpy()))
    np.testing.assert_allclose(visits.read[0, -1], gate * (u[8] @ cell.value_kernel.numpy()), rtol=1e-4,
                               atol=1e-5)


def test_the_first_segment_has_a_key_that_is_learned():
    cell = KeyValueMemoryCell(8, memory_slots=50, slot_width=8, top_k=1)
    cell.build([[None, 8], [None, 1]])
    cell.temperature_bias.assign([[30.0]])
    u = np.random.default_rng(1).normal(size=[20, 1, 8]).astype(np.float32)
    with tf.GradientTape() as tape:
        visits, _ = cell.run(tf.constant(u), tf.ones([20, 1, 1]))
        loss = tf.reduce_sum(visits.read ** 2)
    assert np.abs(tape.gradient(loss, cell.first_key)).max() > 0
    cell.first_key.assign(u[19] @ cell.key_kernel)
    visits, _ = cell.run(tf.constant(u), tf.ones([20, 1, 1]))
    gate = 1 / (1 + np.exp(-u[19] @ cell.gate_kernel.numpy()))
    np.testing.assert_allclose(visits.read[0, -1], gate * (u[0] @ cell.value_kernel.numpy()), rtol=1e-4,
                               atol=1e-5)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 40), st.data())
def test_a_list_of_any_length_is_given_back_in_order(length, data):
    first = data.draw(st.integers(0, length - 1))
    cell = KeyValueMemoryCell(8, memory_slots=90, slot_width=8, top_k=1, reads_on=True)
    cell.build([[None, 9], [None, 1]])
    for weight, value in ((cell.temperature_bias, 30.0), (cell.none_bias, -30.0), (cell.on_bias, -30.0),
                          (cell.on_kernel, [[0.0]] * 8 + [[60.0]]), (cell.strength_bias, 30.0)):
        weight.assign(tf.broadcast_to(value, weight.shape))
    u = np.random.default_rng(length).normal(size=[2 * length + 1, 1, 9]).astype(np.float32)
    u[:, :, 8] = 0  # which says to read on
    u[length + 1] = u[first]
    u[length + 2:, :, 8] = 1
    read = cell.run(tf.constant(u), tf.ones([len(u), 1, 1]))[0].read[0, 1:, 0]
    gate = 1 / (1 + np.exp(-u[:, 0] @ cell.gate_kernel.numpy()))
    told = (read / gate)[length + 1:]
    for n, value in enumerate(told[:length - first]):
        np.testing.assert_allclose(value, u[first + 1 + n, 0] @ cell.value_kernel.numpy(), rtol=1e-3,
                                   atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 12), st.integers(0, 9), st.integers(2, 7))
def test_a_ring_is_its_slots_written_in_turn(before, new, slots):
    rows = np.arange(1.0, before + new + 1)[:, None]
    held = np.zeros([slots, 1])
    for n, row in enumerate(rows[:before]):
        held[n % slots] = row
    ring = Ring.of(tf.constant(rows[None, before:]), slots, tf.constant(held[None]), tf.constant([[before]]))
    for count in range(before, before + new + 1):
        np.testing.assert_array_equal(ring.memory(tf.constant([[count]]))[0], held)
        if count < before + new:
            held[count % slots] = rows[count]


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_a_search_finds_the_best_of_the_rows_that_are_there(data):
    batch, heads, steps, slots, before, count, group, block, scores = (
        data.draw(st.integers(*range_)) for range_ in (
            (1, 3), (1, 2), (1, 30), (2, 40), (0, 60), (1, 4), (1, 5), (1, 20), (1, 200)))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    written = before + np.arange(steps) * rng.integers(0, 2, [batch, 1])  # some sequences get no rows
    memory = (tf.zeros([batch, slots, 1]), tf.fill([batch, 1], before)) if before else ()
    ring = Ring.of(tf.zeros([batch, steps, 1]), slots, *memory)
    keys = rng.normal(size=[batch, ring.rows.shape[1], heads, 3])
    queries = rng.normal(size=[batch, steps, heads, 3])
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ("GROUP", group), ("BLOCK", block), ("SCORES", scores):
            patch.setattr(f"santm_tf.sparse.ring.{name}", value)
        found, there = ring.best(*map(tf.constant, (queries, keys)), tf.constant(written, tf.int32), count)
    first = before - slots if before else 0
    for b, step, head in np.ndindex(batch, steps, heads):
        till = written[b, step]
        numbers = np.arange(max(0, till - slots + 1), till)
        best = numbers[np.argsort(keys[b, numbers - first, head] @ queries[b, step, head])[::-1]][:count]
        at = there[b, step, head].numpy()
        assert found[b, step, head].numpy()[at].tolist() == (best % slots).tolist()


def layer(**options):
    options = {"memory_slots": 9, "slot_width": 4, "top_k": 2, "attention_heads": 2, "locality": 1,
               "segment_length": 2, "seed": 1, "dtype": "float64", "jit_compile": False, **options}
    made = SANTM(5, memory="key_value", return_sequences=True, **options)
    made.build(tf.TensorShape([None, STEPS, 2]))
    randomise(made.trainable_weights, 0.7, masks=False)
    return made


@pytest.mark.parametrize("options", [
    {}, {"recall": "read", "read_heads": 2}, {"access_rate": 0.5}, {"jit_compile": True},
    {"reads_on": True, "read_heads": 2}], ids=str)
def test_windows_and_steps_are_the_sequence(options):
    made = layer(mask_period=2, **options)
    x = tf.constant(np.random.default_rng(0).normal(size=[2, STEPS, 2]))
    whole = made(x)
    state, outputs = made.first_state(2), []
    for t in range(STEPS):
        y, state = made.step(x[:, t], state)
        outputs.append(y)
    np.testing.assert_allclose(tf.stack(outputs, 1), whole, atol=1e-9)
    windows = layer(mask_period=2, return_state=True, **options)
    windows.set_weights(made.get_weights())
    first, *state = windows(x[:, :6])
    second, *_ = windows(x[:, 6:], initial_state=state)
    np.testing.assert_allclose(tf.concat([first, second], 1), whole, atol=1e-9)


def test_heads_that_are_undecided_look_in_windows_as_in_the_sequence():
    u, a, segment = map(tf.constant, inputs())
    cell = built(reads_on=True)
    cell.on_kernel.assign(tf.zeros_like(cell.on_kernel))
    cell.on_bias.assign([0.0])  # a share of a half, as of an input of zeros before training
    whole = cell.run(u, a, segment=segment)[0].read
    _, state = cell.run(u[:6], a[:6], segment=segment[:6])
    rest = cell.run(u[6:], a[6:], list(state), segment=segment[6:])[0].read
    np.testing.assert_allclose(rest[:, 1:], whole[:, 7:], atol=1e-12)
    expected = [reference(cell, *(v[:, row] for v in inputs())) for row in range(BATCH)]
    np.testing.assert_allclose(whole, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("reads_on", [False, True])
def test_gradients_are_those_of_finite_differences(reads_on):
    cell, (u, a, segment) = built(reads_on=reads_on), inputs()
    u, a, segment = tf.constant(u), tf.ones_like(a), tf.constant(segment)

    @tf.function
    def loss(u):
        return tf.reduce_sum(tf.sin(cell.run(u, a, segment=segment)[0].read))

    (theirs,), (ours,) = tf.test.compute_gradient(loss, [u], delta=1e-6)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("every", [True, False])
def test_a_gates_gradient_is_what_its_read_changed_up_to_the_next_access(every):
    cell, (u, _, segment) = built(), inputs()
    a = tf.constant(np.array([1, 1, 0, 1, 0, 0, 1, 0] + [0] * (len(u) - 8), "float64")[:, None, None]
                    * np.ones([1, u.shape[1], 1]))
    with tf.GradientTape() as tape:
        tape.watch(a)
        read = cell.run(tf.constant(u), a, keep=Keep(every=every), segment=tf.constant(segment))[0].read
        weights = np.random.RandomState(0).normal(size=read.shape)
        loss = tf.reduce_sum(read * weights)
    all_read = cell.run(tf.constant(u), a, segment=tf.constant(segment))[0].read.numpy()
    if not every:
        weights = np.concatenate([np.zeros_like(all_read[:, 1:]), weights], 1)
    expected = np.zeros(a.shape[:2])
    for t, next_ in [(0, 1), (1, 3), (3, 6), (6, len(u))]:
        change = (all_read[:, t + 1] - all_read[:, t])[:, None] * weights[:, t + 1:next_ + 1]
        expected[t] = change.sum((1, 2, 3))
    np.testing.assert_allclose(tape.gradient(loss, a)[..., 0], expected, atol=1e-9)


@pytest.mark.parametrize("reads_on", [False, True])
def test_it_is_saved(reads_on):
    made = layer(recall="read", reads_on=reads_on)
    again = SANTM.from_config(made.get_config())
    again.build(tf.TensorShape([None, STEPS, 2]))
    again.set_weights(made.get_weights())
    x = tf.constant(np.random.default_rng(0).normal(size=[2, STEPS, 2]))
    np.testing.assert_allclose(again(x), made(x), atol=1e-12)


@pytest.mark.parametrize("options, message", [
    (dict(top_k=9), r"top_k=9; it must be from 1 to memory_slots - 1 = 8"),
    (dict(key_width=0), "key_width=0"),
    (dict(locality=5), "locality=5 makes all 9 slots neighbours"),
    (dict(allocate=False), "allocate=False; it needs memory='sparse'"),
])
def test_what_cannot_work_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        layer(**options)


@pytest.mark.parametrize("reads_on", [False, True])
def test_a_trace_shows_where_it_was_written(reads_on):
    made = layer(memory_slots=60, boundaries="fixed", reads_on=reads_on)
    seen = trace(made, np.random.default_rng(0).normal(size=[2, STEPS, 2]))
    for row in range(2):
        wrote = seen.write_weights[row, :, 0, 0] > 0
        assert 1 < wrote.sum() < STEPS
        assert seen.write_slots[row, wrote, 0, 0].tolist() == list(range(wrote.sum()))
        np.testing.assert_array_equal(seen.memory[row].any(-1), np.arange(60) < wrote.sum())
        assert (seen.read_weights[row].sum(-1) < 1).all()


@pytest.mark.parametrize("name", [name for name, (kind, _) in VARIANTS.items()
                                  if kind is not KeyValueMemoryCell])
def test_what_an_ablation_takes_away_is_away(name):
    u, a, segment = map(tf.constant, inputs(width=16))
    reads = []
    for kind in KeyValueMemoryCell, VARIANTS[name][0]:
        cell = kind(8, memory_slots=50, slot_width=8, dtype="float64")
        cell.build([[None, 16], [None, 1]])
        for w in cell.weights:  # the same in both
            w.assign(np.random.default_rng(len(w.name.split("/")[-1])).normal(size=w.shape))
        reads.append(cell.run(u, a, segment=segment[..., :8])[0].read)
    assert np.abs(reads[0] - reads[1]).max() > 1e-3
