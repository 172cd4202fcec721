"""Sparse Access Neural Turing Machine for TensorFlow and Keras.

To import this package imports no TensorFlow: its names come at their first use, all at once, so that Keras
then knows every layer. Where TensorFlow is imported already, they come at once.
"""

import importlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from santm_tf.ablation_mask import AblationMask
    from santm_tf.access import AccessMask
    from santm_tf.adaptive import AdaptiveAccess
    from santm_tf.attention import ChebAttention
    from santm_tf.cells import CascadeLSTMCell, SegmentCell, SegmentLSTMCell
    from santm_tf.embed import EmbedCategories
    from santm_tf.hard_concrete_mask import HardConcreteMask
    from santm_tf.memories import DenseMemory, KeyValueMemory, SparseMemory
    from santm_tf.memory import MemoryCell, NTMCell
    from santm_tf.pretrained import load_pretrained
    from santm_tf.projection import L0Projection
    from santm_tf.recurrent import Recurrent
    from santm_tf.santm import SANTM
    from santm_tf.saving import load_model

__version__ = "0.1.0"

_FROM = {"SANTM": "santm", "Recurrent": "recurrent", "ChebAttention": "attention", "AccessMask": "access",
         "AblationMask": "ablation_mask", "HardConcreteMask": "hard_concrete_mask",
         "AdaptiveAccess": "adaptive", "SegmentLSTMCell": "cells",
         "SegmentCell": "cells", "CascadeLSTMCell": "cells", "EmbedCategories": "embed",
         "DenseMemory": "memories", "SparseMemory": "memories", "KeyValueMemory": "memories",
         "MemoryCell": "memory", "NTMCell": "memory", "L0Projection": "projection", "load_model": "saving",
         "load_pretrained": "pretrained"}
__all__ = ["SANTM", "Recurrent", "ChebAttention", "AccessMask", "AblationMask", "HardConcreteMask",
           "AdaptiveAccess", "SegmentLSTMCell", "SegmentCell", "CascadeLSTMCell", "EmbedCategories",
           "DenseMemory", "SparseMemory", "KeyValueMemory", "MemoryCell", "NTMCell", "L0Projection",
           "capacity", "load_model", "load_pretrained"]


def __getattr__(name):
    if name == "capacity":  # on demand: it is a program too, which Python runs only if not yet imported
        return importlib.import_module("santm_tf.capacity")
    if name not in _FROM:
        raise AttributeError(f"module 'santm_tf' has no attribute {name!r}")
    for public, module in _FROM.items():
        globals()[public] = getattr(importlib.import_module(f"santm_tf.{module}"), public)
    return globals()[name]


def __dir__():
    return sorted({*globals(), *__all__})


if "tensorflow" in sys.modules:  # whose Keras may be about to read a file with our layers
    __getattr__("SANTM")
