"""Types of arguments and results."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import tensorflow as tf

Shape: TypeAlias = tf.TensorShape | Sequence[int | None]  # None is a size that is not known yet
States: TypeAlias = Sequence[tf.Tensor]  # of a recurrent layer or a cell
Nest: TypeAlias = Any  # a tensor, or tensors in tuples, lists and dicts
Config: TypeAlias = dict[str, Any]  # what a layer is made of again
