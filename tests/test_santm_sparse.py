"""SANTM with a sparse memory: against the dense one where all slots are kept, and as a layer."""


import numpy as np
import pytest
import tensorflow as tf

from santm_tf import SANTM, NTMCell
from santm_tf.sparse.cell import SparseMemoryCell
from tests.helpers import randomise

STEPS = 12


def layer(**options):
    options = {"memory_slots": 12, "slot_width": 8, "attention_heads": 2, "locality": 2, "access_rate": 0.5,
               "seed": 1, "dtype": "float64", "jit_compile": False, "memory": "sparse", **options}
    made = SANTM(6, **options)
    made.build(tf.TensorShape([None, STEPS, 3]))
    randomise(made.trainable_weights, 0.7, masks=False)
    return made


def sequences(batch=3):
    return tf.constant(np.random.default_rng(0).normal(size=[batch, STEPS, 3]))


def values_and_gradients(model, x, mask=None):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = model(x, mask=mask)
        loss = tf.reduce_sum(tf.sin(3 * y))
    gradients = tape.gradient(loss, [x, *model.trainable_weights], unconnected_gradients="zero")
    return [tf.convert_to_tensor(v) for v in [y, *gradients]]


@pytest.mark.parametrize("recall, sequences_out, heads", [
    ("attention", False, 1), ("attention", True, 2), ("read", True, 1)])
@pytest.mark.parametrize("init", ["learned", "constant"])
def test_with_all_slots_kept_it_is_the_dense_model(recall, sequences_out, heads, init):
    same = dict(recall=recall, return_sequences=sequences_out, read_heads=heads, write_heads=heads,
                memory_init=init)
    dense, sparse = layer(memory="dense", **same), layer(top_k=12, allocate=False, **same)
    if recall == "attention":  # what stands in for the mean over all of the attention is left out of both
        for model in dense, sparse:
            kernel = model.readout.kernel
            kernel.assign(tf.concat([kernel[:-8], tf.zeros_like(kernel[-8:])], 0))
    mask = tf.constant(np.arange(STEPS) < [[STEPS], [7], [3]])
    for ours, theirs in zip(values_and_gradients(sparse, sequences(), mask),
                            values_and_gradients(dense, sequences(), mask), strict=True):
        if ours.shape == sparse.readout.kernel.shape:
            ours, theirs = ours[:-8], theirs[:-8]
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("slots", [12, 5000])
def test_no_plan_and_no_compilation_changes_the_result(slots):
    x, results = sequences(), []
    for jit, size in ((False, 6), (False, 9), (True, 9)):
        made = layer(memory_slots=slots, return_sequences=True, jit_compile=jit)
        made.access.plan_size = size
        results.append(made(x, training=True))
    for y in results[1:]:
        np.testing.assert_allclose(y, results[0], rtol=1e-6, atol=1e-8)


def test_windows_of_a_sequence_are_the_sequence():
    whole = layer(return_sequences=True, return_state=True, mask_period=4, boundary_penalty=0)
    y, *end = whole(sequences())
    parts, state = [], None
    for start in (0, 4, 8):
        part, *state = whole(sequences()[:, start:start + 4], initial_state=state)
        parts.append(part)
    np.testing.assert_allclose(tf.concat(parts, 1), y, rtol=1e-9)
    for ours, theirs in zip(state, end, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def test_sparsemax_weights_sum_to_one_and_some_are_zero():
    made = layer(normaliser="sparsemax", top_k=6, dtype="float32")
    m, a = tf.random.stateless_normal([9, 2, 6], [0, 0]), tf.ones([9, 2, 1])
    values = made.top.run(m, a)[0].values.numpy()[1:]
    np.testing.assert_allclose(values.sum(-1), 1, rtol=1e-5)
    assert values.min() == 0 and np.mean(values == 0) > 0.1


@pytest.mark.parametrize("options, message", [
    (dict(memory="big"), "memory='big'; use 'dense' or 'sparse'"),
    (dict(memory="dense", top_k=3), "top_k=3; it needs memory='sparse'"),
    (dict(top_k=13), "top_k=13; it must be from 1 to memory_slots=12"),
    (dict(locality=6), "locality=6 makes all 12 slots neighbours"),
    (dict(search="lsh", memory_init="learned"), "search='lsh' finds what was written"),
    (dict(search="best"), "search='best'"),
    (dict(normaliser="none"), "normaliser='none'"),
    (dict(memory_slots=10**13), "memory_slots=10000000000000 takes .* GiB for one sequence"),
    (dict(memory="dense", memory_slots=10**10), "memory_slots=10000000000 takes .* GiB for one sequence"),
])
def test_what_cannot_work_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        layer(**options)


def test_a_hash_needs_a_sequence_from_its_beginning():
    made = layer(search="lsh", return_sequences=True, mask_period=4)
    with pytest.raises(ValueError, match="search='lsh' needs sequences from their beginning"):
        made(sequences(), initial_state=made.get_initial_state(3))


def test_the_room_that_is_foreseen_is_what_the_tensors_take():
    visits = 6
    dense = NTMCell(4, memory_slots=12, slot_width=8)
    assert dense.bytes_kept(visits) == visits * 4 * (12 * 8 + 2 * 12)
    sparse = SparseMemoryCell(4, memory_slots=1000, slot_width=8, memory_init="constant")
    assert sparse.bytes_kept(visits) == 4 * (3 * 1000 + 2 * visits * 5 * 8)
