# ruff: noqa: I001
"""Sparse Access Neural Turing Machine for TensorFlow and Keras."""

import importlib

from santm_tf import compat  # noqa: F401  (first: it chooses Keras 2 before anything touches tf.keras)
from santm_tf.access import AccessMask
from santm_tf.attention import ChebAttention
from santm_tf.cells import CascadeLSTMCell, SegmentCell, SegmentLSTMCell
from santm_tf.hard_concrete import HardConcreteMask
from santm_tf.memories import DenseMemory, SparseMemory
from santm_tf.memory import MemoryCell, NTMCell
from santm_tf.projection import L0Projection
from santm_tf.recurrent import Recurrent
from santm_tf.santm import SANTM
from santm_tf.saving import load_model


def __getattr__(name):
    if name == "capacity":  # on demand: it is a program too, which Python runs only if not yet imported
        return importlib.import_module("santm_tf.capacity")
    raise AttributeError(f"module 'santm_tf' has no attribute {name!r}")


__all__ = ["SANTM", "Recurrent", "ChebAttention", "AccessMask", "HardConcreteMask", "SegmentLSTMCell",
           "SegmentCell", "CascadeLSTMCell", "DenseMemory", "SparseMemory", "MemoryCell", "NTMCell",
           "L0Projection", "capacity", "load_model"]
