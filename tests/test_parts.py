"""SANTM's parts: named by a string, as a configuration, or built; and any Keras cell at the bottom."""

import numpy as np
import pytest
import tensorflow as tf

from santm_tf import (
    SANTM,
    AblationMask,
    AccessMask,
    AdaptiveAccess,
    ChebAttention,
    DenseMemory,
    HardConcreteMask,
    Recurrent,
    SegmentCell,
    SegmentLSTMCell,
    SparseMemory,
    load_model,
)
from santm_tf.keras import keras
from tests.helpers import randomise

STEPS = 8


def sequences():
    return tf.constant(np.random.default_rng(0).normal(size=[3, STEPS, 2]), tf.float32)


def outputs(layer):
    """What a layer gives whose weights are drawn in their order."""
    x = sequences()
    layer(x)
    randomise(layer.trainable_weights, 0.7, masks=False)
    return layer(x)


@pytest.mark.parametrize("named, built", [
    (dict(memory_slots=6, slot_width=4, attention_heads=2, locality=1),
     dict(memory=DenseMemory(6, 4), recall=lambda: ChebAttention(2, locality=1))),
    (dict(memory="sparse", memory_slots=9, slot_width=4, top_k=2, recall="read"),
     dict(memory=SparseMemory(9, 4, top_k=2), recall="read")),
    (dict(access="uniform", access_rate=0.25, memory_slots=6, recall="read"),
     dict(access=lambda: AccessMask(None, 0.25, support="uniform"), memory=DenseMemory(6), recall="read")),
    (dict(access="ablation", mask_period=4, access_rate=0.5, seed=3, recall="read"),
     dict(access=lambda: AblationMask(4, 0.5, seed=3), recall="read")),
    (dict(access="hard_concrete", mask_period=4, access_rate=0.5, seed=3, recall="read"),
     dict(access=lambda: HardConcreteMask(4, 0.5, seed=3), recall="read")),
    (dict(access="adaptive", access_rate=0.5, seed=3, recall="read"),
     dict(access=lambda: AdaptiveAccess(0.5, seed=3), recall="read")),
    (dict(segment_length=2, recall="read"),
     dict(segment_length=2, controller=lambda: SegmentLSTMCell(4, 2), recall="read")),
], ids=["dense", "sparse", "uniform", "ablation", "hard concrete", "adaptive", "controller"])
def test_a_part_by_its_name_is_the_part_built_and_the_part_from_its_configuration(named, built):
    one = SANTM(4, jit_compile=False, **named)
    two = SANTM(4, jit_compile=False, **{k: v() if callable(v) else v for k, v in built.items()})
    three = SANTM.from_config(two.get_config())
    first = outputs(one)
    for other in two, three:
        np.testing.assert_allclose(outputs(other), first, atol=1e-6)
    assert three.get_config() == two.get_config()


@pytest.mark.parametrize("options, message", [
    (dict(memory=DenseMemory(), memory_slots=9), "memory_slots=9; memory is built already"),
    (dict(access=AccessMask(4), access_rate=0.5), "access_rate=0.5; access is built already"),
    (dict(access=AdaptiveAccess(), access_rate=0.5), "access_rate=0.5; access is built already"),
    (dict(recall=ChebAttention(), locality=2), "locality=2; recall is built already"),
    (dict(allocate=False), "allocate=False; it needs memory='sparse'"),
    (dict(access="often"), "access='often'"), (dict(memory=3), "memory=3"),
    (dict(controller=SegmentLSTMCell(4), boundaries="fixed"), "boundaries='fixed'; the controller's are"),
    (dict(controller=7), "cell=7; give a Keras cell"),
])
def test_what_does_not_fit_is_named_in_one_line(options, message):
    with pytest.raises(ValueError, match=message) as error:
        SANTM(4, **options)
    assert "\n" not in str(error.value)


def test_any_cell_that_cuts_is_the_segmenting_lstm_where_it_is_an_lstm():
    """The equations are the same; Keras' own LSTM is what they are compared with."""
    ours = Recurrent(SegmentLSTMCell(5, 2.0), return_sequences=True)
    theirs = Recurrent(SegmentCell(keras.layers.LSTMCell(5), 2.0), return_sequences=True)
    x = sequences()
    ours(x), theirs(x)
    randomise(ours.cell.trainable_weights, 0.7)
    own = {w.name.split("/")[-1]: w for w in ours.cell.weights}
    for w in theirs.cell.weights:
        w.assign(own[w.name.split("/")[-1]])
    for a, b in zip(ours(x), theirs(x), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert 0 < float(tf.reduce_mean(ours(x)[1])) < 1


@pytest.mark.parametrize("cell, boundaries", [
    (lambda: keras.layers.GRUCell(5), "change"), (lambda: keras.layers.SimpleRNNCell(3), "fixed"),
    (lambda: keras.layers.LSTMCell(4, dropout=0.5, recurrent_dropout=0.5), "learned")],
    ids=["GRU", "RNN", "LSTM"])
def test_any_keras_cell_may_be_the_controller(cell, boundaries, tmp_path):
    layer = SANTM(4, controller=cell(), memory_slots=6, slot_width=4, access_rate=0.5, locality=1,
                  segment_length=2, boundaries=boundaries, jit_compile=False)
    model = keras.Sequential([keras.Input([STEPS, 2]), layer, keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = sequences()
    before = [w.numpy() for w in layer.bottom.trainable_weights]
    model.fit(x, x[:, -1, :1], epochs=1, verbose=0)
    moved = [np.any(w.numpy() != b) for w, b in zip(layer.bottom.trainable_weights, before, strict=True)]
    assert all(moved) if boundaries == "learned" else any(moved)
    whole, state = layer(x), layer.first_state(3)
    for t in range(STEPS):
        y, state = layer.step(x[:, t], state)
    np.testing.assert_allclose(y, whole, atol=1e-5)
    model.save(tmp_path / "model.keras")
    np.testing.assert_allclose(load_model(tmp_path / "model.keras")(x), model(x), atol=1e-6)


def test_a_gru_forgets_at_a_cut():
    """After a cut its output is that of a sequence which begins there."""
    layer = Recurrent(SegmentCell(keras.layers.GRUCell(5), boundaries="given"), return_sequences=True)
    x, cuts = sequences(), np.zeros([3, STEPS, 1], np.float32)
    cuts[:, 3] = 1
    y, _ = layer((x, tf.constant(cuts)))
    alone, _ = layer((x[:, 4:], tf.zeros([3, STEPS - 4, 1])))
    np.testing.assert_allclose(y[:, 4:], alone, atol=1e-6)
