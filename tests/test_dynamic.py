"""Dynamic evaluation against its equations in NumPy, and against what no model can foretell."""

import math

import numpy as np
import tensorflow as tf

from santm_tf.keras import keras
from santm_tf.tasks.language import BitsPerCharacter
from santm_tf.training.dynamic import dynamic_evaluation

SYMBOLS, WINDOW = 8, 16


def bigrams(text):
    """A model whose logits are a table's row, all zero, and a text in windows of one track."""
    model = keras.Sequential([
        keras.Input([WINDOW], 1, dtype=tf.int32),
        keras.layers.Embedding(SYMBOLS, SYMBOLS, embeddings_initializer="identity", trainable=False),
        keras.layers.Dropout(0.5),
        keras.layers.Dense(SYMBOLS, use_bias=False, kernel_initializer="zeros")])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                  weighted_metrics=[BitsPerCharacter()])
    x, y = text[:-1].reshape(-1, WINDOW), text[1:].reshape(-1, WINDOW)
    windows = tf.data.Dataset.from_tensor_slices((x, y, np.ones(x.shape, np.float32))).batch(1)
    return model, windows


def reference(text, rate, clip_norm):
    """The bits per symbol, by hand."""
    theta, v, nats = np.zeros([SYMBOLS, SYMBOLS]), np.zeros([SYMBOLS, SYMBOLS]), []
    for n, start in enumerate(range(0, len(text) - 1, WINDOW)):
        x, y = text[start:start + WINDOW], text[start + 1:start + WINDOW + 1]
        p = np.exp(theta[x]) / np.exp(theta[x]).sum(1, keepdims=True)
        nats.extend(-np.log(p[np.arange(WINDOW), y]))
        g = np.zeros_like(theta)
        np.add.at(g, x, (p - np.eye(SYMBOLS)[y]) / WINDOW)
        g *= min(1, clip_norm / np.sqrt((g ** 2).sum()))
        v = 0.99 * v + 0.01 * g ** 2
        theta -= rate * g / (np.sqrt(v / (1 - 0.99 ** (n + 1))) + 1e-7)
    return np.mean(nats) / math.log(2)


def test_it_is_the_equations_by_hand():
    text = np.random.default_rng(0).integers(0, SYMBOLS // 2, 20 * WINDOW + 1).astype(np.int32)
    model, windows = bigrams(text)
    found = dynamic_evaluation(model, windows, rate=0.1, clip_norm=0.2)["bits_per_character"]
    np.testing.assert_allclose(found, reference(text, 0.1, 0.2), rtol=1e-4)
    assert found < 0.9 * math.log2(SYMBOLS)


def test_what_cannot_be_foretold_is_not():
    text = np.random.default_rng(1).integers(0, SYMBOLS, 100 * WINDOW + 1).astype(np.int32)
    model, windows = bigrams(text)
    assert dynamic_evaluation(model, windows, rate=0.05)["bits_per_character"] > math.log2(SYMBOLS)
