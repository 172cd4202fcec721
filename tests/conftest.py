"""What all tests share. Keras is TensorFlow's: Keras 3, or Keras 2 under TF_USE_LEGACY_KERAS=1."""

import gc
import importlib.metadata
import os

import pytest

os.environ.setdefault("TF_XLA_FLAGS", "--tf_xla_persistent_cache_directory=")  # the user's own stays as it is
# XLA's programs run for moments here, and to compile them takes longer. Keras 2's tests have users' programs.
# A TensorFlow that does not know a flag of XLA's ends the process.
QUICK = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
if not os.environ.get("TF_USE_LEGACY_KERAS") and importlib.metadata.version("tensorflow")[:5] == "2.21.":
    os.environ.setdefault("XLA_FLAGS", QUICK)

from santm_tf.keras import keras  # noqa: E402
from santm_tf.training.board import Board  # noqa: E402


def pytest_collection_finish():
    """Leaves what was imported out of garbage collection, which looks through millions of objects."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


@pytest.fixture(autouse=True, scope="module")
def freed():
    """What a file compiled goes with its last test: in the end it would be gigabytes."""
    yield
    gc.collect()


@pytest.fixture(autouse=True)
def seed():
    """The same initial weights in every run, whatever ran before."""
    if hasattr(keras.backend, "experimental"):  # Keras 2, whose generator a training chooses for the process
        keras.backend.experimental.disable_tf_random_generator()
    keras.utils.set_random_seed(0)


@pytest.fixture
def no_views(monkeypatch):
    """Trainings draw nothing for TensorBoard, which takes seconds."""
    monkeypatch.setattr(Board, "_views", lambda board: ())
