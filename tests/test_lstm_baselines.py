"""`lstm` against PyTorch with the same weights, and `lnlstm` against NumPy and tensorflow-addons."""

import warnings

import numpy as np
import pytest
import tensorflow as tf

from santm_tf import Recurrent
from santm_tf.addons import addons
from santm_tf.baselines import lnlstm, lstm
from santm_tf.baselines.layer_norm_lstm import LayerNormLSTMCell
from santm_tf.baselines.lstm import gate_bias
from santm_tf.errors import ArgumentError
from santm_tf.keras import keras
from santm_tf.masks import mask_of
from tests.helpers import draw

UNITS, FEATURES = 5, 3


def built(make, x, return_sequences=True, **changes):
    """The layer in float64, with random weights."""
    keras.mixed_precision.set_global_policy("float64")
    try:
        layer = make(units=UNITS, return_sequences=return_sequences, jit_compile=False, seed=0, **changes)
        layer(x)
    finally:
        keras.mixed_precision.set_global_policy("float32")
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
    theirs = keras.layers.LSTM(UNITS)
    ours(sequences()), theirs(sequences())
    np.testing.assert_array_equal(ours.get_weights()[2], theirs.get_weights()[2])


@pytest.mark.parametrize("make", [lstm.make, lnlstm.make])
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


@pytest.mark.parametrize("own", [False, True])
def test_layer_normalised_cell_is_its_equations(own, monkeypatch):
    if own:
        monkeypatch.setattr(lnlstm, "addons", lambda: None)
    x = sequences()
    layer = built(lnlstm.make, x)
    cell, y = layer.layers[0].cell, layer(x)
    assert isinstance(cell, LayerNormLSTMCell) == (own or addons() is None)

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


def both_cells(**arguments):
    """`Recurrent` over our cell and tensorflow-addons', with the same random weights."""
    layers = []
    for kind in (LayerNormLSTMCell, addons().rnn.LayerNormLSTMCell):
        layers.append(Recurrent(kind(UNITS, **arguments), return_sequences=True, return_state=True))
        layers[-1].build((None, None, FEATURES))
        draw(layers[-1].weights)
    return layers


@pytest.mark.skipif(addons() is None, reason="tensorflow-addons cannot be imported")
@pytest.mark.parametrize("arguments", [
    {}, {"dropout": 0.3}, {"recurrent_dropout": 0.4}, {"dropout": 0.3, "recurrent_dropout": 0.4},
    {"use_bias": False, "activation": "relu", "norm_epsilon": 0.1, "norm_beta_initializer": "ones"}], ids=str)
@pytest.mark.parametrize("training", [False, True])
def test_our_layer_normalised_cell_is_that_of_the_addons(arguments, training):
    ours, theirs = layers = both_cells(**arguments)
    names = [[w.name.split("/", 1)[1] for w in layer.weights] for layer in layers]
    assert names[0] == names[1]
    assert ours.cell.get_config().keys() == theirs.cell.get_config().keys()
    for name, value in theirs.cell.get_config().items():
        assert name == "name" or ours.cell.get_config()[name] == value
    x, results = tf.constant(sequences(), tf.float32), []
    for layer in layers:
        keras.utils.set_random_seed(1)  # for the same dropout
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = layer(x, training=training)
            loss = sum(tf.reduce_sum(tf.sin(y)) for y in outputs)
        results.append([*outputs, *tape.gradient(loss, [x, *layer.trainable_weights])])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.skipif(addons() is None, reason="tensorflow-addons cannot be imported")
def test_our_layer_normalised_cell_starts_as_that_of_the_addons():
    starts = []
    for kind in (LayerNormLSTMCell, addons().rnn.LayerNormLSTMCell):
        keras.utils.set_random_seed(1)
        cell = kind(UNITS)
        cell.build([None, FEATURES])
        starts.append(cell.get_weights())
    for a, b in zip(*starts, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("loop", [Recurrent, keras.layers.RNN])
def test_a_layer_normalised_cell_keeps_its_dropout_masks_for_all_steps(loop):
    """With its inputs or its state dropped whole or kept whole, half of the units each time."""
    cell = LayerNormLSTMCell(1, dropout=0.5, recurrent_dropout=0.5)
    layer, x = loop(cell, return_sequences=True), np.ones([64, 5, 1], "float32")
    layer(x)
    draw(layer.weights)
    kinds = {tuple(np.round(row, 4)) for row in layer(x, training=True).numpy()[..., 0]}
    assert len(kinds) == 4
    assert len(np.unique(layer(x), axis=0)) == 1


def test_a_layer_normalised_cell_is_saved_with_its_arguments(tmp_path):
    cell = LayerNormLSTMCell(UNITS, norm_epsilon=0.1, norm_beta_initializer="ones", activation="relu")
    model = keras.Sequential([keras.Input([7, FEATURES]), Recurrent(cell)])
    draw(model.weights)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.layers[0].cell.get_config() == cell.get_config()
    np.testing.assert_array_equal(again(sequences()), model(sequences()))


@pytest.mark.parametrize("return_sequences", [False, True])
def test_a_mask_passes_through_as_through_the_loop(return_sequences):
    x = np.where(np.arange(7)[:, None] < 5, sequences(), 0)
    layer = lstm.make(UNITS, return_sequences=return_sequences, dropout=0.1, jit_compile=False)
    model = keras.Sequential([keras.layers.Masking(), layer])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mask = mask_of(model(x), None)
    assert (mask is None) == (not return_sequences)
    if return_sequences:
        np.testing.assert_array_equal(mask, np.tile(np.arange(7) < 5, [4, 1]))


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
