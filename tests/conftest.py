"""Keras 2 before any test file imports TensorFlow (spektral looks for it at `tensorflow.keras`)."""

import gc  # noqa: I001  (santm_tf first: it chooses Keras 2)

import pytest

import santm_tf  # noqa: F401
import tensorflow as tf

from training.board import Board


def pytest_collection_finish():
    """Leaves what was imported out of garbage collection, which looks through millions of objects."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


@pytest.fixture(autouse=True)
def seed():
    """The same initial weights in every run, whatever ran before."""
    tf.keras.utils.set_random_seed(0)


@pytest.fixture
def no_views(monkeypatch):
    """Trainings draw nothing for TensorBoard, which takes seconds."""
    monkeypatch.setattr(Board, "_views", lambda board: ())
