"""SANTM one step at a time: at every step what the layer gives for the sequence up to there."""

import numpy as np
import pytest
import tensorflow as tf
from test_santm import ADAPTIVE, ON, STEPS, VARIANTS, built, random


def streamed(layer, x, mask=None):
    """y at every step, `[B, T, units]`."""
    state, outputs = layer.first_state(len(x)), []
    for t in range(x.shape[1]):
        y, state = layer.step(x[:, t], state, None if mask is None else mask[:, t])
        outputs.append(y)
    return tf.stack(outputs, 1)


@pytest.mark.parametrize("options", [
    *VARIANTS[1::2], {"boundaries": "fixed", "segment_length": 3}, {"access": "hard_concrete"}, ADAPTIVE,
    {**ADAPTIVE, "memory": "sparse"}, {**ADAPTIVE, "memory": "key_value"},
    {"write_heads": 2, "shift_range": 2}, {"on": [True] * 30}, {"on": [False] * 29 + [True]}], ids=str)
def test_at_every_step_it_is_the_layer(options):
    layer, x = built(**{"return_sequences": True, **options}), tf.constant(random(3, STEPS, 2))
    if options.get("access") == "hard_concrete":
        layer.access.scores.assign([3.0, -9.0, 0.4, -9.0, -1.0])  # wholly open, shut, and between
        layer.access.fit_plan()
    np.testing.assert_allclose(streamed(layer, x), layer(x), atol=1e-9)


@pytest.mark.parametrize("slots, top_k, init", [
    (6, 3, "constant"), (45, 3, "constant"), (300, 5, "constant"), (45, 3, "learned")])
def test_a_sparse_memory_finds_the_same_slots(slots, top_k, init):
    """Where slots are alike, too: few that were never accessed are left, or many."""
    layer = built(memory="sparse", memory_slots=slots, top_k=top_k, memory_init=init, return_sequences=True)
    x = tf.constant(random(3, STEPS, 2))
    np.testing.assert_allclose(streamed(layer, x), layer(x), atol=1e-9)


@pytest.mark.parametrize("options", [{"memory": "dense"}, {"memory": "sparse"}, ADAPTIVE], ids=str)
def test_a_masked_step_holds_everything(options):
    layer, x = built(**{"return_sequences": True, **options}), tf.constant(random(3, STEPS, 2))
    mask = tf.constant(np.array([[1, 1, 0, 1] * 3, [0, 0, 1, 1, 0, 0] * 2, [1] + [0] * 10 + [1]]) > 0)
    np.testing.assert_allclose(streamed(layer, x, mask), layer(x, mask=mask), atol=1e-9)


def test_rows_may_be_at_different_steps():
    layer, x = built(), tf.constant(random(2, STEPS, 2))
    state = layer.first_state(1)
    for t in range(7):
        y, state = layer.step(x[:1, t], state)
    both = {name: tf.concat([v, layer.first_state(1)[name]], 0) for name, v in state.items()}
    for t in range(5):
        y, both = layer.step(tf.stack([x[0, 7 + t], x[1, t]]), both)
    np.testing.assert_allclose(y[0], layer(x[:1])[0], atol=1e-9)
    np.testing.assert_allclose(y[1], layer(x[1:, :5])[0], atol=1e-9)
    assert both["t"].numpy().tolist() == [12, 5]


def test_the_recall_is_evaluated_where_a_row_accesses_the_memory_only():
    layer, x = built(), tf.constant(random(2, STEPS, 2))
    state = layer.first_state(2)
    layer.recall.theta.assign(np.nan * layer.recall.theta)
    seen = []
    for t in range(len(ON)):
        y, _ = layer.step(x[:, t], {**state, "t": tf.constant([t, 1])})  # 1 is shut
        seen.append(bool(np.all(np.isfinite(y))))
    assert seen == [not on for on in ON]


def test_a_stream_may_be_longer_than_the_mask():
    layer, x = built(), tf.constant(random(2, 40, 2))
    alone = streamed(layer, x)
    for n in (1, 17, 40):
        np.testing.assert_allclose(alone[:, n - 1], layer(x[:, :n]), atol=1e-9)
