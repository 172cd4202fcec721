"""Figures of a test split, against NumPy and what is true by definition."""

import sys
import types

import numpy as np
import pytest
import tensorflow as tf

from santm_tf.answers import Answer
from santm_tf.training import measures


def made(y, logits, weight=None, classes=None, answer=None, return_sequences=False):
    """A task whose test split has these targets, and a model that gives these logits, in batches of 7."""
    parts = (np.zeros([len(y), 1], "f"), y) if weight is None else (np.zeros([len(y), 1], "f"), y, weight)
    task = types.SimpleNamespace(test=tf.data.Dataset.from_tensor_slices(parts).batch(7), stateful=False,
                                 classes=classes, answer=answer, return_sequences=return_sequences)
    return task, types.SimpleNamespace(predict=lambda data, verbose: logits)


def test_of_classes():
    rng = np.random.default_rng(0)
    y = rng.choice(3, 400, p=[0.7, 0.2, 0.1])
    logits = rng.normal(size=[400, 3]) + 1.5 * np.eye(3)[y]
    found = measures.measured(*made(y, logits, classes=list("abc")))
    named = logits.argmax(1)
    recall = [(named[y == n] == n).mean() for n in range(3)]
    precision = [(y[named == n] == n).mean() for n in range(3)]
    assert found["balanced_accuracy"] == pytest.approx(np.mean(recall))
    assert found["macro_f1"] == pytest.approx(np.mean([2 * p * r / (p + r)
                                                       for p, r in zip(precision, recall, strict=True)]))
    assert found["largest_class"] == pytest.approx((y == 0).mean())
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    # The share of pairs in the right order (Mann and Whitney).
    ranks = [np.mean(shares[y == n, n][:, None] > shares[y != n, n]) for n in range(3)]
    assert found["auc"] == pytest.approx(np.mean(ranks))
    accuracy = (named == y).mean()
    width = 2 * 1.96 * np.sqrt(accuracy * (1 - accuracy) / 400)
    assert found["accuracy_low"] < accuracy < found["accuracy_high"]
    assert found["accuracy_high"] - found["accuracy_low"] == pytest.approx(width, rel=0.15)


def test_a_class_that_the_test_has_not_leaves_no_auc():
    found = measures.measured(*made(np.array([0, 1, 0]), np.eye(3), classes=list("abc")))
    assert "auc" not in found and found["largest_class"] == pytest.approx(2 / 3)


def test_of_numbers_in_their_unit():
    rng = np.random.default_rng(1)
    y, error = rng.normal(size=[200, 2]), rng.normal(scale=0.1, size=[200, 2])
    answer = Answer("numbers", ["cm", "kg"], mean=np.array([170.0, 70.0]), scale=np.array([10.0, 5.0]))
    found = measures.measured(*made(y, y + error, answer=answer))
    scale = np.array([10.0, 5.0])
    assert found["mae"] == pytest.approx(np.abs(error * scale).mean())
    assert found["rmse"] == pytest.approx(np.mean(np.sqrt(np.mean((error * scale) ** 2, 0))))
    assert found["mean_mae"] == pytest.approx(np.abs(y * scale).mean())
    assert found["r2"] == pytest.approx(np.mean(1 - (error ** 2).sum(0) / ((y - y.mean(0)) ** 2).sum(0)))
    assert found["mae_low"] < found["mae"] < found["mae_high"]


def test_of_labels():
    y = np.array([[1, 0, 1], [0, 0, 1], [1, 1, 1], [0, 1, 1]], "f")
    logits = np.where(y > 0, 2.0, -2.0)
    logits[0, 1] = 3.0  # one wrong
    found = measures.measured(*made(y, logits, answer=Answer("labels", list("abc"))))
    assert found["macro_f1"] == pytest.approx((1 + 0.8 + 1) / 3)
    assert found["auc"] == pytest.approx((1 + 0.5) / 2)  # the third label is the same everywhere


def test_each_step_counts_that_is_known_and_examples_are_drawn_whole():
    y = np.array([[0, 1, 1], [1, 0, 0]] * 50)
    weight = np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]] * 50)
    logits = np.eye(2)[np.array([[0, 1, 0], [0, 1, 1]] * 50)]  # rows of two right, and of one wrong
    task, model = made(y, logits, weight, classes=["a", "b"], return_sequences=True)
    found = measures.measured(task, model)
    assert found["balanced_accuracy"] == pytest.approx((1 + 0.5) / 2)
    assert found["accuracy_low"] < 2 / 3 < found["accuracy_high"]
    rows = measures.by_class(task, *measures.known(task, *measures.tested(task, model))[:2])
    assert [row[0] for row in rows] == ["a", "b"] and [row[-1] for row in rows] == [50, 100]


def test_what_has_no_names_has_no_such_figures():
    task, model = made(np.array([0]), np.eye(2)[:1])
    assert measures.measured(task, model) == {}
    assert measures.by_class(task, *measures.known(task, *measures.tested(task, model))[:2]) == []


def test_without_scikit_learn_the_figures_are_left_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    task, model = made(np.array([0, 1]), np.eye(2), classes=["a", "b"])
    assert measures.measured(task, model) == {}
    assert measures.by_class(task, *measures.known(task, *measures.tested(task, model))[:2]) == []
