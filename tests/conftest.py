"""What all tests share. Keras is TensorFlow's: Keras 3, or Keras 2 under TF_USE_LEGACY_KERAS=1."""

import gc
import os

import pytest

from santm_tf.keras import keras
from santm_tf.training.board import Board

os.environ.setdefault("TF_XLA_FLAGS", "--tf_xla_persistent_cache_directory=")  # the user's own stays as it is


def pytest_collection_finish():
    """Leaves what was imported out of garbage collection, which looks through millions of objects."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


@pytest.fixture(autouse=True)
def seed():
    """The same initial weights in every run, whatever ran before."""
    keras.utils.set_random_seed(0)


@pytest.fixture
def no_views(monkeypatch):
    """Trainings draw nothing for TensorBoard, which takes seconds."""
    monkeypatch.setattr(Board, "_views", lambda board: ())
