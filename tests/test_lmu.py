"""The Legendre Memory Unit against NumPy, SciPy's zero-order hold, Legendre polynomials and KerasLMU."""

import numpy as np
import pytest
import tensorflow as tf

from santm_tf import SANTM, Recurrent
from santm_tf.baselines.lmu import LMUCell, legendre, make
from santm_tf.errors import ArgumentError


def of_the_paper(order, theta):
    """a and b of `dm/dt = a m + b u`, entry by entry (Voelker et al. 2019, equation 2)."""
    a, b = np.zeros([order, order]), np.zeros(order)
    for i in range(order):
        b[i] = (2 * i + 1) * (-1) ** i / theta
        for j in range(order):
            a[i, j] = (2 * i + 1) * (-1 if i < j else (-1) ** (i - j + 1)) / theta
    return a, b


def reference(x, cell):
    """h at each step of `[B, T, d]`, in NumPy."""
    weights = [w.numpy() for w in cell.trainable_weights]
    encoder = np.eye(x.shape[-1]) if cell.encoder is None else weights.pop(0)
    kernel, *recurrent_kernel, bias = weights
    transition, entry = legendre(cell.order, cell.theta)
    m, h, hs = np.zeros([len(x), cell.memory_d, cell.order]), np.zeros([len(x), cell.units]), []
    for t in range(x.shape[1]):
        m = m @ transition.T + (x[:, t] @ encoder)[..., None] * entry
        seen = np.concatenate([x[:, t], m.reshape(len(x), -1)], -1)
        h = np.tanh(seen @ kernel + sum(h @ w for w in recurrent_kernel) + bias)
        hs.append(h)
    return np.stack(hs, 1)


def random(*shape):
    return np.random.default_rng(0).normal(size=shape)


@pytest.mark.parametrize("order, theta", [(1, 1), (6, 4.5), (64, 20), (256, 784)])
def test_a_step_is_scipys_zero_order_hold(order, theta):
    signal = pytest.importorskip("scipy.signal")
    a, b = of_the_paper(order, theta)
    a, b, *_ = signal.cont2discrete((a, b[:, None], np.eye(order), np.zeros([order, 1])), 1.0, "zoh")
    transition, entry = legendre(order, theta)
    np.testing.assert_allclose(transition, a, atol=1e-12)
    np.testing.assert_allclose(entry, b[:, 0], atol=1e-12)


def test_the_memory_is_the_last_steps_in_legendre_polynomials():
    theta, t = 100, np.arange(400)
    u = np.sin(t / 30) + 0.5 * np.cos(t / 17)
    transition, entry = legendre(12, theta)
    m = np.zeros(12)
    for value in u:
        m = transition @ m + entry * value
    ago = np.arange(5, 96)  # a signal held for a step is half a step late
    told = np.polynomial.legendre.legval(2 * ago / theta - 1, m)
    np.testing.assert_allclose(told, np.interp(399 + 0.5 - ago, t, u), atol=0.02)


@pytest.mark.parametrize("recurrent", [True, False])
@pytest.mark.parametrize("memory_d", [1, 2, 3])
def test_a_cell_is_its_equations(memory_d, recurrent):
    cell = LMUCell(4, order=5, theta=7, memory_d=memory_d, recurrent=recurrent, dtype="float64")
    layer, x = Recurrent(cell, return_sequences=True, dtype="float64"), random(2, 9, 3)
    y = layer(x)
    assert (cell.encoder is None) == (memory_d == 3) and len(cell.state_size) == 1 + recurrent
    np.testing.assert_allclose(y, reference(x, cell), atol=1e-12)


def test_as_a_controller_it_knows_its_segment_and_nothing_before_it():
    cell = LMUCell(4, order=6, theta=4, recurrent=False)
    layer = SANTM(4, controller=cell, segment_length=4, boundaries="fixed", memory_slots=6, slot_width=4,
                  locality=1, jit_compile=False)
    x = random(1, 12, 1).astype(np.float32)
    layer(x)
    (h, beta), _ = layer.levels.bottom_of(tf.constant(x))
    assert beta[0, :, 0].numpy().tolist() == 3 * [0, 0, 0, 1]
    for start in (0, 4, 8):
        np.testing.assert_allclose(h[:, start:start + 4], reference(x[:, start:start + 4], cell), atol=1e-5)


def test_its_weights_are_those_of_the_published_model():
    layer = make(units=212, order=256, theta=784)
    layer(tf.zeros([1, 2, 1]))
    assert sum(np.prod(w.shape) for w in layer.trainable_weights) + 10 * 213 == 101770


@pytest.mark.parametrize("sizes, message", [
    (dict(order=0), "order=0"), (dict(theta=0.5), "theta=0.5"), (dict(memory_d=0), "memory_d=0")])
def test_sizes_that_cannot_work_are_named(sizes, message):
    with pytest.raises(ArgumentError, match=f"LMU: {message}; it must be at least 1"):
        LMUCell(4, **sizes)


def test_it_is_keraslmus():
    keras_lmu, keras = pytest.importorskip("keras_lmu"), pytest.importorskip("keras")
    ours, x = Recurrent(LMUCell(5, order=8, theta=20), return_sequences=True), random(2, 30, 1).astype("f")
    theirs = keras_lmu.LMU(1, 8, 20, keras.layers.SimpleRNNCell(5), input_to_hidden=True,
                           return_sequences=True, kernel_initializer="ones")
    y, _ = ours(x), theirs(x)
    kernel, recurrent_kernel, bias = (w.numpy() for w in ours.trainable_weights)
    by_shape = {v.shape: v for v in (kernel, recurrent_kernel, bias)}
    kernel = np.concatenate([kernel[1:], kernel[:1]])  # theirs has m before x
    by_shape[kernel.shape] = kernel
    for w in theirs.trainable_weights:
        if tuple(w.shape) in by_shape:
            w.assign(by_shape[tuple(w.shape)])
    np.testing.assert_allclose(theirs(x), y, atol=1e-4)
