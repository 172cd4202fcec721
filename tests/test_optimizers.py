"""RectifiedAdam and Lamb against their equations in NumPy, tensorflow-addons' and Keras' own."""

import numpy as np
import pytest
import tensorflow as tf

from santm_tf.addons import addons
from santm_tf.keras import keras
from santm_tf.training.optimizers import Lamb, RectifiedAdam
from tests.helpers import random

STEPS, RATE, B1, B2 = 50, 0.01, 0.9, 0.99
START, GRADIENTS = random(3, 4), random(STEPS, 3, 4, seed=1)
ZEROS = np.zeros([3, 4])  # a weight without a length


def rectified(theta, m, v, t):
    most = 2 / (1 - B2) - 1
    length = most - 2 * t * B2 ** t / (1 - B2 ** t)
    if length < 5:
        return m
    r = np.sqrt((length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length))
    return r * m / (np.sqrt(v) + 1e-7)


def layerwise(theta, m, v, t):
    update = m / (np.sqrt(v) + 1e-6)
    length = np.linalg.norm(theta)
    return update * (length / np.linalg.norm(update) if length else 1)


def by_hand(change, theta, decay=0.0):
    """The weight after every step."""
    m, v, found = 0, 0, []
    for t, g in enumerate(GRADIENTS, 1):
        m, v = B1 * m + (1 - B1) * g, B2 * v + (1 - B2) * g ** 2
        theta = theta * (1 - RATE * decay)
        theta = theta - RATE * change(theta, m / (1 - B1 ** t), v / (1 - B2 ** t), t)
        found.append(theta)
    return np.array(found)


def taken(optimizer, start, dtype="float64"):
    weight, found = tf.Variable(start, dtype=dtype), []
    for g in GRADIENTS:
        optimizer.apply_gradients([(tf.constant(g, dtype), weight)])
        found.append(weight.numpy())
    return np.array(found)


@pytest.mark.parametrize("start", [START, ZEROS], ids=["some", "zeros"])
@pytest.mark.parametrize("kind, change", [(RectifiedAdam, rectified), (Lamb, layerwise)])
def test_they_are_the_equations_by_hand(kind, change, start):
    np.testing.assert_allclose(taken(kind(RATE, B1, B2), start), by_hand(change, start), atol=1e-6)
    decayed = taken(kind(RATE, B1, B2, weight_decay=0.1), start)
    np.testing.assert_allclose(decayed, by_hand(change, start, 0.1), atol=1e-6)


@pytest.mark.skipif(addons() is None, reason="tensorflow-addons cannot be imported here")
@pytest.mark.parametrize("kind, name, options", [(RectifiedAdam, "RectifiedAdam", {"weight_decay": 0.1}),
                                                 (RectifiedAdam, "RectifiedAdam", {}), (Lamb, "LAMB", {})])
def test_they_are_those_of_the_addons(kind, name, options):
    theirs = getattr(addons().optimizers, name)(RATE, B1, B2, **options)
    np.testing.assert_allclose(taken(kind(RATE, B1, B2, **options), START, "float32"),
                               taken(theirs, START, "float32"), atol=1e-6)


@pytest.mark.skipif(not hasattr(keras.optimizers, "Lamb"), reason="Keras 2 has no Lamb")
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}])
def test_lamb_is_that_of_keras_3(options):
    np.testing.assert_allclose(taken(Lamb(RATE, B1, B2, **options), START),
                               taken(keras.optimizers.Lamb(RATE, B1, B2, **options), START), atol=1e-6)


@pytest.mark.parametrize("kind", [RectifiedAdam, Lamb])
def test_they_train_embeddings_and_are_saved_with_their_model(kind, tmp_path):
    model = keras.Sequential([keras.Input([5], dtype="int32"), keras.layers.Embedding(7, 4),
                              keras.layers.Flatten(), keras.layers.Dense(1)])
    model.compile(kind(0.1, global_clipnorm=1.0), "mse")
    x = np.arange(40).reshape(8, 5) % 7
    y = x.sum(1, keepdims=True) / 10
    before = model.evaluate(x, y, verbose=0)
    model.fit(x, y, epochs=20, verbose=0)
    assert model.evaluate(x, y, verbose=0) < 0.7 * before
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert type(again.optimizer) is kind and int(again.optimizer.iterations) == 20
    for ours, theirs in zip(again.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)
