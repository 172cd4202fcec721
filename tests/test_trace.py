"""What a trace says, against NumPy replays of the memory, the cells run alone, and the layer's own output."""

import numpy as np
import pytest
import tensorflow as tf

from santm_tf import SANTM
from santm_tf.analysis.trace import inputs_of, layer_of, outputs_of, trace
from santm_tf.keras import keras
from santm_tf.memory import CONSTANT
from tests.helpers import randomise
from tests.reference import hard_concrete, sigmoid, weights

STEPS, BATCH, FEATURES = 12, 3, 3
MASK = np.arange(STEPS) < np.array([[STEPS], [7], [0]])  # whole, cut, and nothing but padding
KINDS = {
    "dense": dict(return_sequences=True),
    "two heads": dict(recall="read", read_heads=2, write_heads=2),
    "sparse": dict(memory="sparse", memory_slots=60, top_k=3, return_sequences=True),
    "sparse, two heads": dict(memory="sparse", memory_init="learned", allocate=False, read_heads=2,
                              write_heads=2, boundaries="fixed", segment_length=3),
}


def layer(**options):
    made = SANTM(5, **{"memory_slots": 12, "slot_width": 4, "attention_heads": 2, "locality": 2, "seed": 1,
                       "access_rate": 0.5, "dtype": "float64", "jit_compile": False, **options})
    made.build(tf.TensorShape([None, STEPS, FEATURES]))
    randomise(made.trainable_weights, 0.7, masks=False)
    return made


def inputs(steps=STEPS):
    return np.random.default_rng(0).normal(size=[BATCH, steps, FEATURES])


@pytest.fixture(scope="module")
def traced():
    """`{kind: (layer, trace of padded sequences)}`."""
    made = {kind: layer(**options) for kind, options in KINDS.items()}
    return {kind: (one, trace(one, inputs(), MASK)) for kind, one in made.items()}


@pytest.fixture(params=KINDS)
def seen(request, traced):
    return traced[request.param]


def test_weights_sum_to_one_where_the_memory_is_accessed_and_to_nothing_elsewhere(seen):
    _, seen = seen
    happened = MASK[:, seen.steps]
    np.testing.assert_array_equal(seen.gates, happened)
    for kind in ("read", "write"):
        heads = getattr(seen, f"{kind}_weights")
        sums = np.broadcast_to(happened[..., None], heads.shape[:3])
        np.testing.assert_allclose(heads.sum(-1), sums, atol=1e-9)
        assert (heads >= 0).all()
        slots = getattr(seen, f"{kind}_slots")
        assert slots.shape == heads.shape and (slots >= 0).all() and (slots < seen.memory.shape[1]).all()


def test_accesses_are_those_of_the_mask(seen):
    made, seen = seen
    open_ = made.access.openings().numpy() > 0
    np.testing.assert_array_equal(seen.accesses, open_)
    np.testing.assert_array_equal(seen.steps, np.flatnonzero(open_))
    assert len(seen.steps) == STEPS // 2
    np.testing.assert_array_equal(seen.valid, MASK)


def test_boundaries_are_those_of_the_bottom_cell_run_alone(seen):
    made, seen = seen
    x = made.levels.bottom_inputs(tf.constant(inputs()))
    state = made.bottom.get_initial_state(batch_size=BATCH, dtype=tf.float64)
    for t in range(STEPS):
        (h, beta), new = made.bottom(tf.nest.map_structure(lambda v, t=t: v[:, t], x), state)
        held = MASK[:, t, None]
        state = [tf.where(held, v, old) for v, old in zip(new, state, strict=True)]
        np.testing.assert_array_equal(seen.boundaries[:, t], (beta[:, 0] > 0) & MASK[:, t])
        np.testing.assert_allclose(seen.bottom[MASK[:, t], t], h[MASK[:, t]], rtol=1e-9)
    assert seen.boundaries.any() and not seen.boundaries[0].all()


def replayed(made, seen, row):
    """The memory and the vectors read, by the recorded weights: Graves et al. 2014, equations 2 to 4."""
    w, cell = weights(made.top), made.top
    slots, width, heads = cell.memory_slots, cell.slot_width, cell.write_heads
    memory = np.full([slots, width], CONSTANT)
    if cell.memory_init == "learned":
        memory = np.tanh(w.initial_memory)
    longest_ago, reads = list(range(slots)), []
    sizes = np.cumsum(cell._head_sizes())
    for n, h in enumerate(seen.controller[row]):
        if not seen.gates[row, n]:
            continue
        raw = np.clip(h @ w.head_kernel + w.head_bias, -20, 20)
        _, erase, add, alpha, *_ = *np.split(raw, sizes[:-1]), None
        read = seen.over("read", row, np.arange(slots))[n]
        reads.append(read @ memory)
        if getattr(cell, "allocate", False):  # one head: the slot accessed longest ago is wiped first
            lru = longest_ago[0]
            memory[lru] *= 1 - sigmoid(alpha)
            for slot in (*seen.read_slots[row, n, 0], *seen.write_slots[row, n, 0, :cell.top_k], lru):
                longest_ago.remove(slot)
                longest_ago.append(slot)
        written = seen.over("write", row, np.arange(slots))[n]
        for head in range(heads):
            memory = memory * (1 - np.outer(written[head], sigmoid(erase.reshape(heads, width)[head])))
        memory = memory + written.T @ np.tanh(add.reshape(heads, width))
    return memory, reads


def test_reads_and_writes_by_the_recorded_weights_give_the_memory(seen):
    made, seen = seen
    for row in range(BATCH):
        memory, _ = replayed(made, seen, row)
        np.testing.assert_allclose(seen.memory[row], memory, rtol=1e-7, atol=1e-10)
    assert np.abs(seen.memory[0] - seen.memory[2]).max() > 0.01  # the last row is as it began


def test_what_is_recalled_without_attention_is_what_the_weights_read(traced):
    made, seen = traced["two heads"]
    _, reads = replayed(made, seen, 0)
    np.testing.assert_allclose(seen.recalled[0, 1:], [read.ravel() for read in reads], rtol=1e-7, atol=1e-10)


def test_the_layers_output_follows(seen):
    made, seen = seen
    at = np.cumsum(seen.accesses)
    features = np.concatenate([seen.bottom, seen.middle, seen.recalled[:, at]], -1)
    y = features @ made.readout.kernel.numpy() + made.readout.bias.numpy()
    expected = made(inputs(), mask=tf.constant(MASK))
    np.testing.assert_allclose(y if made.return_sequences else y[:, -1], expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("options", [
    dict(return_sequences=True, mask_period=STEPS), dict(access="hard_concrete", mask_period=STEPS),
    dict(access="adaptive", memory_horizon=STEPS)], ids=str)
def test_a_models_output_follows(options):
    model = keras.Sequential([
        keras.Input([None, FEATURES]), keras.layers.Masking(-1.0),
        layer(**options), keras.layers.Dense(2, dtype="float64")])
    x = np.where(MASK[..., None] | ~MASK.any(1)[:, None, None], inputs(), -1.0)
    model(x)
    seen = trace(layer_of(model), *inputs_of(model, x))
    np.testing.assert_allclose(outputs_of(model, seen), model(x), rtol=1e-5)
    np.testing.assert_array_equal(seen.valid[:2], MASK[:2])
    if "access" in options:  # gates between 0 and 1
        assert ((seen.gates > 0) & (seen.gates < 1)).any()
        np.testing.assert_allclose(seen.write_weights.sum((2, 3)), seen.gates, rtol=1e-9)


@pytest.mark.parametrize("options", [dict(), dict(boundaries="fixed", segment_length=3),
                                     dict(go_backwards=True), dict(access="hard_concrete"),
                                     dict(access="adaptive")], ids=str)
def test_padding_may_be_anywhere(options):
    """The trace is that of the valid steps alone, and so is the layer's output after the last of them."""
    made, mask = layer(**options), np.array([[False] * 5 + [True] * 7, [True, False, True] * 4])
    seen, y = trace(made, inputs()[:2], mask), made(inputs()[:2], mask=tf.constant(mask))
    for row, valid in enumerate(mask):
        x = inputs()[row, valid][None]
        alone, n = trace(made, x), valid.sum()
        assert seen.valid[row].tolist() == [True] * n + [False] * (STEPS - n)
        np.testing.assert_array_equal(seen.boundaries[row, :n], alone.boundaries[0])
        assert not seen.boundaries[row, n:].any()
        np.testing.assert_allclose(seen.bottom[row, :n], alone.bottom[0], rtol=1e-9)
        accesses = len(alone.steps)
        np.testing.assert_allclose(seen.write_weights[row, :accesses], alone.write_weights[0], rtol=1e-9)
        assert not seen.write_weights[row, accesses:].any()
        np.testing.assert_allclose(seen.memory[row], alone.memory[0], rtol=1e-9)
        np.testing.assert_allclose(y[row], made(x)[0], rtol=1e-9)
        features = np.concatenate([seen.bottom[row, -1], seen.middle[row, -1], seen.recalled[row, -1]])
        np.testing.assert_allclose(made.readout(features[None])[0], y[row], rtol=1e-7)


def test_an_adaptive_access_is_at_each_rows_own_steps():
    made = layer(access="adaptive", boundaries="fixed", segment_length=2)
    made.access.kernel.assign(4 * made.access.kernel)
    made.access.bias.assign([-3.2])
    seen = trace(made, inputs(), MASK)
    kernel, bias = made.access.kernel.numpy()[:, 0], made.access.bias.numpy()
    locations = np.concatenate([seen.middle, seen.bottom], -1) @ kernel + bias
    opened = (hard_concrete(locations) > 0) & MASK & (np.arange(STEPS) % 2 == 1)
    assert seen.steps.tolist() == list(range(STEPS)) and 0 < opened[0].sum() < STEPS // 2
    for row in range(BATCH):
        assert seen.accessed(row).tolist() == np.flatnonzero(opened[row]).tolist()


def test_a_pooled_output_counts_the_valid_steps():
    layers = keras.layers
    model = keras.Sequential([
        keras.Input([STEPS]), layers.Embedding(9, FEATURES, mask_zero=True), layer(return_sequences=True),
        layers.GlobalAveragePooling1D(), layers.Dense(2)])
    x = np.random.default_rng(0).integers(1, 9, [2, STEPS])
    x[0, :5] = x[1, 7:] = 0
    seen = trace(layer_of(model), *inputs_of(model, x))
    np.testing.assert_allclose(outputs_of(model, seen), model(x), rtol=1e-5)


def test_weights_over_some_slots(traced):
    _, seen = traced["sparse"]
    touched = seen.slots("write", 0)
    whole = np.zeros([len(seen.steps), 1, 60])
    for step, head, k in np.ndindex(seen.write_slots[0].shape):
        whole[step, head, seen.write_slots[0, step, head, k]] += seen.write_weights[0, step, head, k]
    np.testing.assert_array_equal(touched, np.flatnonzero(whole.sum((0, 1))))
    np.testing.assert_allclose(seen.over("write", 0, np.arange(60)), whole)
    np.testing.assert_allclose(seen.over("write", 0, touched[::2]), whole[..., touched[::2]])
    most = seen.slots("write", 0, most=3)
    assert set(most) == set(np.argsort(-whole.sum((0, 1)))[:3]) and (np.diff(most) > 0).all()
    assert len(seen.slots("read", 2)) == 0


def test_nothing_but_the_memory_grows_with_its_slots():
    made = layer(memory="sparse", memory_slots=50_000, top_k=3, dtype="float32")
    seen = trace(made, inputs())
    assert seen.memory.shape == (BATCH, 50_000, 4)
    assert all(part.size < 2_000 for part in seen._replace(memory=np.zeros(0)))


def test_a_sequence_without_an_access():
    made = layer(return_sequences=True)
    first = int(np.flatnonzero(made.access.openings().numpy() > 0)[0])
    assert first > 0
    seen = trace(made, inputs(first))
    assert seen.steps.shape == (0,) and seen.read_weights.shape == (BATCH, 0, 1, 12)
    np.testing.assert_allclose(seen.memory[0], np.tanh(made.top.initial_memory), rtol=1e-12)
    features = np.concatenate([seen.bottom, seen.middle, seen.recalled.repeat(first, 1)], -1)
    np.testing.assert_allclose(features @ made.readout.kernel.numpy() + made.readout.bias.numpy(),
                               made(inputs(first)), rtol=1e-7)


def test_half_precision_gives_single(traced):
    made = layer(dtype="mixed_float16")
    seen = trace(made, inputs())
    assert {part.dtype for part in seen if part.dtype.kind == "f"} == {np.dtype("float32")}


@pytest.mark.parametrize("what, x, named", [
    (keras.layers.LSTM(2), inputs(), "LSTM is no SANTM"),
    (SANTM(4), inputs(), "not built"),
    (None, inputs()[..., :2], r"\[B, T, 3\]"),
    (None, inputs()[0], r"\[B, T, 3\]"),
    (None, inputs()[:, :0], r"\[B, T, 3\]"),
], ids=["another layer", "not built", "too narrow", "one sequence", "no step"])
def test_what_cannot_be_traced_is_refused(traced, what, x, named):
    with pytest.raises(ValueError, match=named):
        trace(what or traced["dense"][0], x)
