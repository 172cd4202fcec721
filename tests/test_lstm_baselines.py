"""`lstm` against PyTorch with the same weights, and `lnlstm` against NumPy in float64."""

import importlib.util

import numpy as np
import pytest
import tensorflow as tf

from baselines import lnlstm, lstm
from baselines.lstm import gate_bias
from santm_tf import compat
from santm_tf.errors import ArgumentError
from tests.helpers import draw

UNITS, FEATURES = 5, 3
needs_addons = pytest.mark.skipif(importlib.util.find_spec("tensorflow_addons") is None,
                                  reason="tensorflow-addons has no wheel for this Python")


def built(make, x, return_sequences=True, **changes):
    """The layer in float64, with random weights."""
    tf.keras.backend.set_floatx("float64")
    try:
        layer = make(units=UNITS, return_sequences=return_sequences, jit_compile=False, seed=0, **changes)
        layer(x)
    finally:
        tf.keras.backend.set_floatx("float32")
    draw(layer.weights)
    return layer


def sequences(batch=4, steps=7):
    return np.random.default_rng(0).normal(size=[batch, steps, FEATURES])


def torch_lstm(torch, layer):
    """PyTorch's LSTM with the layer's weights; its gates come in the same order i, f, g, o."""
    theirs = torch.nn.LSTM(FEATURES, UNITS, batch_first=True, dtype=torch.float64)
    kernel, recurrent_kernel, bias = map(torch.tensor, layer.get_weights())
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(kernel.T)
        theirs.weight_hh_l0.copy_(recurrent_kernel.T)
        theirs.bias_ih_l0.copy_(bias)
        theirs.bias_hh_l0.zero_()
    return theirs


def test_outputs_and_gradients_are_those_of_pytorch():
    torch = pytest.importorskip("torch")
    x = sequences()
    layer = built(lstm.make, x)
    theirs, x_theirs = torch_lstm(torch, layer), torch.tensor(x, requires_grad=True)
    y_theirs, _ = theirs(x_theirs)
    y_theirs.sin().sum().backward()
    x_ours = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x_ours)
        y = layer(x_ours)
        loss = tf.reduce_sum(tf.sin(y))
    np.testing.assert_allclose(y, y_theirs.detach(), atol=1e-12)
    ours = tape.gradient(loss, [x_ours, *layer.trainable_weights])
    expected = [x_theirs.grad, theirs.weight_ih_l0.grad.T, theirs.weight_hh_l0.grad.T,
                theirs.bias_ih_l0.grad]
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)


def test_padding_is_left_out_as_pytorch_packs_it():
    torch = pytest.importorskip("torch")
    x, lengths = sequences(), np.array([7, 1, 4, 2])
    layer = built(lstm.make, x, return_sequences=False)
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        torch.tensor(x), lengths, batch_first=True, enforce_sorted=False)
    _, (h, _) = torch_lstm(torch, layer)(packed)
    y = layer(x, mask=tf.sequence_mask(lengths, x.shape[1]))
    np.testing.assert_allclose(y, h[0].detach(), atol=1e-12)


def test_the_bias_without_chrono_is_that_of_keras():
    ours = lstm.make(UNITS)
    theirs = tf.keras.layers.LSTM(UNITS)
    ours(sequences()), theirs(sequences())
    np.testing.assert_array_equal(ours.get_weights()[2], theirs.get_weights()[2])


@pytest.mark.parametrize("make", [lstm.make, pytest.param(lnlstm.make, marks=needs_addons)])
def test_chrono_gates_remember_up_to_the_horizon(make):
    layer = make(units=300, memory_horizon=101)
    layer(tf.zeros([1, 1, 1]))
    i, f, g, o = np.split(layer.layers[0].cell.bias.numpy(), 4)
    np.testing.assert_allclose(i, -f)
    assert not g.any() and not o.any()
    memory = np.exp(f)
    assert memory.min() >= 1 and memory.max() <= 100.1
    np.testing.assert_allclose(memory.mean(), 50.5, atol=5)


def test_a_memory_below_one_step_is_refused():
    with pytest.raises(ArgumentError, match="memory_horizon=0; it must be at least 1"):
        gate_bias(3, 0)


@needs_addons
def test_layer_normalised_cell_is_its_equations():
    x = sequences()
    layer = built(lnlstm.make, x)
    cell, y = layer.layers[0].cell, layer(x)

    def norm(v, layer):
        v = v - v.mean(-1, keepdims=True)
        v = v / np.sqrt((v**2).mean(-1, keepdims=True) + 1e-3)
        return v * layer.gamma.numpy() + layer.beta.numpy()

    h = c = np.zeros([len(x), UNITS])
    for t in range(x.shape[1]):
        z = norm(x[:, t] @ cell.kernel.numpy(), cell.kernel_norm) + cell.bias.numpy()
        z += norm(h @ cell.recurrent_kernel.numpy(), cell.recurrent_norm)
        i, f, g, o = np.split(z, 4, -1)
        i, f, o = (1 / (1 + np.exp(-v)) for v in (i, f, o))
        c = norm(f * c + i * np.tanh(g), cell.state_norm)
        h = o * np.tanh(c)
        np.testing.assert_allclose(y[:, t], h, atol=1e-6)


def test_without_addons_one_line_says_so(monkeypatch):
    def missing():
        raise ImportError("tensorflow-addons is not installed: it has wheels for Python 3.11 and older only")

    monkeypatch.setattr(compat, "addons", missing)
    with pytest.raises(ArgumentError, match="^model=lnlstm: tensorflow-addons is not installed") as error:
        lnlstm.make(units=UNITS)
    assert "\n" not in str(error.value)


def test_dropout_thins_the_outputs_while_training():
    layer = lstm.make(1000, dropout=0.25, seed=0)
    x = sequences()
    whole, thinned = layer(x), layer(x, training=True)
    kept = np.not_equal(thinned, 0)
    assert 0.7 < kept.mean() < 0.8
    np.testing.assert_allclose(thinned[kept] * 0.75, whole[kept], rtol=1e-5)


def test_it_can_be_compiled():
    x = tf.constant(sequences(batch=16), tf.float32)
    plain, compiled = (lstm.make(UNITS, return_sequences=True, jit_compile=jit)
                       for jit in (False, True))
    y, _ = plain(x), compiled(x)
    compiled.set_weights(plain.get_weights())
    np.testing.assert_allclose(compiled(x), y, atol=1e-6)
