"""What controller and memory keep, against weights that say it in closed form and against NumPy."""

import numpy as np
import pytest
import reference
import tensorflow as tf

from santm_tf import SANTM
from santm_tf.analysis.retention import controller_retention, memory_retention
from tests.helpers import random, randomise

UNITS, STEPS, SLOTS, WIDTH = 4, 12, 6, 4


def built(**options):
    """A layer of zero weights."""
    options = {"attention_heads": 2, "locality": 1, "jit_compile": False, "dtype": "float64", **options}
    layer = SANTM(UNITS, memory_slots=SLOTS, slot_width=WIDTH, mask_period=STEPS, **options)
    layer.build(tf.TensorShape([None, None, 2]))
    for w in layer.trainable_weights:
        w.assign(tf.zeros_like(w))
    layer.access.scores.assign(np.ones(STEPS))
    return layer


def gates(i, f, g, o):
    return np.repeat([i, f, g, o], UNITS)


def controller(forget, recurrent=0.0, others=0.0):
    """A layer whose middle cell forgets by one bias, and whose bottom remembers nothing."""
    layer = built()
    layer.bottom.boundary_bias.assign([9.0])
    layer.bottom.kernel.assign(random(2, 4 * UNITS) * gates(0, 0, 1, 0))
    layer.middle.kernel.assign(random(UNITS, 4 * UNITS, seed=1) * gates(0, 0, 1, 0))
    layer.middle.recurrent_kernel.assign(np.tile(recurrent * np.eye(UNITS), 4) * gates(0, 0, 1, 0))
    layer.middle.bias.assign(gates(others, forget, 0.0, others))
    return layer


@pytest.mark.parametrize("bias, steps", [(-3.0, 12), (0.0, 2), (2.0, 12), (9.0, 5)])
def test_a_forget_gate_held_at_a_constant_is_the_retention(bias, steps):
    x = np.ones([3, steps, 2]) * random(3, 1, 2)
    np.testing.assert_allclose(controller_retention(controller(bias), x), reference.sigmoid(bias), rtol=1e-9)


def test_fixed_segments_of_a_step_keep_what_boundaries_everywhere_do():
    learned, fixed = controller(0.5), built(boundaries="fixed", segment_length=1)
    fixed.bottom.kernel.assign(learned.bottom.kernel)
    fixed.middle.set_weights(learned.middle.get_weights())
    x = random(2, STEPS, 2)
    np.testing.assert_allclose(controller_retention(fixed, x), controller_retention(learned, x), rtol=1e-9)


def test_where_nothing_is_kept_it_is_zero():
    assert controller_retention(controller(-30.0), np.ones([1, STEPS, 2])) == 0


@pytest.mark.parametrize("gain, kept", [(0.5, 0.5), (2.0, 1.0)])
def test_a_gain_of_the_recurrence_is_the_retention_and_a_growing_one_counts_as_one(gain, kept):
    """Near zero and with its gates open the cell is linear: `h' = gain h`."""
    layer = controller(-40.0, gain, others=40.0)
    np.testing.assert_allclose(controller_retention(layer, np.full([2, STEPS, 2], 1e-9)), kept, rtol=1e-6)


def test_a_controller_that_never_moves_holds_nothing_of_its_input():
    layer = controller(2.0)
    layer.bottom.boundary_bias.assign([-9.0])
    assert controller_retention(layer, np.ones([1, STEPS, 2])) == 0


@pytest.mark.parametrize("writes", [1, 2])
def test_uniform_weights_leave_what_the_erase_biases_say(writes):
    layer = built(write_heads=writes)
    bias = np.zeros(layer.top.head_bias.shape[0])
    erased = random(writes, WIDTH)
    bias[-2 * writes * WIDTH:-writes * WIDTH] = erased.ravel()
    layer.top.head_bias.assign(bias)
    expected = np.prod(1 - reference.sigmoid(erased) / SLOTS, axis=0).mean()
    np.testing.assert_allclose(memory_retention(layer, random(2, STEPS, 2)), expected, rtol=1e-12)


def test_heads_without_weights_erase_half_wherever_they_point():
    layer = built()
    layer.top.initial_weights.assign(3 * random(*layer.top.initial_weights.shape))
    np.testing.assert_allclose(memory_retention(layer, random(2, STEPS, 2)), 1 - 0.5 / SLOTS, rtol=1e-12)


def test_the_accessed_steps_alone_count_and_match_numpy():
    on = np.arange(STEPS) % 3 == 1
    layer, x = built(), random(2, STEPS, 2)
    randomise(layer.trainable_weights)
    layer.access.scores.assign(np.where(on, 0.5, -0.5))
    bottom, middle, top = (reference.weights(level) for level in (layer.bottom, layer.middle, layer.top))
    left = []
    for row in x:
        h = c = h_middle = c_middle = np.zeros(UNITS)
        state = reference.first_state(layer.top)
        for t in range(STEPS):
            score = row[t] @ bottom.boundary_kernel + c @ bottom.boundary_recurrent_kernel
            h, c = reference.lstm(row[t], h, c, bottom)
            if score + bottom.boundary_bias > 0:
                c = np.zeros(UNITS)
                h_middle, c_middle = reference.lstm(h, h_middle, c_middle, middle)
            if on[t]:
                state = reference.ntm(layer.top, layer.access.step_weight[t] * h_middle, state)
                erase = reference.sigmoid((state.h @ top.head_kernel + top.head_bias)[-2 * WIDTH:-WIDTH])
                left.append(1 - np.outer(state.write_weights[0], erase))
    np.testing.assert_allclose(memory_retention(layer, x), np.mean(left), rtol=1e-9)


def test_an_adaptive_access_counts_where_it_is_open():
    """Open at every boundary it is a mask whose period is a segment."""
    left, x = [], random(2, STEPS, 2)
    for options in dict(access="uniform", mask_period=3, access_rate=1 / 3), dict(access="adaptive"):
        layer = SANTM(UNITS, memory_slots=SLOTS, slot_width=WIDTH, recall="read", boundaries="fixed",
                      segment_length=3, memory_horizon=3, dtype="float64", jit_compile=False, **options)
        layer.build([None, STEPS, 2])
        for level in layer.bottom, layer.middle, layer.top:
            randomise(level.trainable_weights)
        left.append(memory_retention(layer, x))
    np.testing.assert_allclose(*left, rtol=1e-9)
    layer.access.hold_at(0.5)
    layer.access.bias.assign([-50.0])
    with pytest.raises(ValueError, match="off at all 12 steps"):
        memory_retention(layer, x)


def test_a_sparse_memory_with_all_slots_kept_leaves_what_the_dense_one_does():
    left = []
    for options in {}, {"memory": "sparse", "top_k": SLOTS, "allocate": False, "memory_init": "learned"}:
        layer = built(write_heads=2, read_heads=2, **options)
        randomise(layer.trainable_weights)
        layer.access.scores.assign(np.ones(STEPS))
        left.append(memory_retention(layer, random(2, STEPS, 2)))
    np.testing.assert_allclose(*left, rtol=1e-6)


def test_what_an_allocation_wipes_counts_as_lost():
    """With alpha = 1 each write wipes one slot of N whole, and leaves the others."""
    layer = built(memory="sparse", memory_init="constant")
    layer.top.head_bias.assign(tf.concat([layer.top.head_bias[:-1], [1e3]], 0))  # clipped to sigmoid(20)
    np.testing.assert_allclose(memory_retention(layer, random(2, STEPS, 2)), 1 - 1 / SLOTS, rtol=1e-6)


def test_half_precision_says_about_the_same():
    rates = []
    for policy in "float32", "mixed_bfloat16":
        layer = built(dtype=policy)
        randomise(layer.trainable_weights, 0.3)
        layer.access.scores.assign(np.ones(STEPS))
        x = random(8, STEPS, 2)
        rates.append([controller_retention(layer, x), memory_retention(layer, x)])
    np.testing.assert_allclose(*rates, rtol=0.05)


def test_a_layer_that_reads_backwards_keeps_what_it_would_of_the_sequence_turned():
    rates = []
    for backwards in False, True:
        layer = built(go_backwards=backwards)
        randomise(layer.trainable_weights)
        layer.access.scores.assign(np.ones(STEPS))
        x = random(2, STEPS, 2)[:, ::-1 if backwards else 1]
        rates.append([controller_retention(layer, x), memory_retention(layer, x)])
    np.testing.assert_allclose(*rates, rtol=1e-9)


def test_a_mistake_is_named():
    layer = built()
    with pytest.raises(ValueError, match="at least 2"):
        controller_retention(layer, np.ones([1, 1, 2]))
    layer.access.scores.assign(-np.ones(STEPS))
    with pytest.raises(ValueError, match="off at all 12 steps"):
        memory_retention(layer, np.ones([1, STEPS, 2]))
    for estimate in (controller_retention, memory_retention):
        with pytest.raises(ValueError, match="build the layer"):
            estimate(SANTM(UNITS), np.ones([1, STEPS, 2], np.float32))
