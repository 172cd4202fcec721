"""From a model's last numbers to what its user reads: probabilities and names, or numbers in their unit."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import tensorflow as tf

from santm_tf.errors import ArgumentError


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a model answers.

    Args:
      kind: "class", one of several; "labels", each of several or not; "numbers".
      names: of the classes, the labels, or the numbers, those of the last axis of `shape`.
      mean, scale: of numbers. The model was trained on `(value - mean) / scale`. One for all, or one for each
        of the model's outputs.
      shape: of numbers, that of one answer (default: a row of them).

    >>> found = Answer("class", ["ham", "spam"])(tf.constant([[0.0, 2.0]]))
    >>> found["class"].numpy().tolist(), round(float(found["probabilities"][0, 1]), 2)
    ([b'spam'], 0.88)
    """

    kind: Literal["class", "labels", "numbers"]
    names: Sequence[str] = ()
    mean: float | Sequence[float] = 0.0
    scale: float | Sequence[float] = 1.0
    shape: Sequence[int] | None = None

    def __post_init__(self):
        if self.kind not in ("class", "labels", "numbers"):
            raise ArgumentError(f"Answer: kind={self.kind!r}; use class, labels or numbers")

    def __call__(self, logits: tf.Tensor) -> dict[str, tf.Tensor]:
        """The answers to logits `[..., K]`.

        Returns:
          `probabilities` `[..., K]`, and for one class its name, `class`, a string `[...]`; or `values`,
          `[..., *shape]`.
        """
        if self.kind == "class":
            name = tf.gather(tf.constant(list(map(str, self.names))), tf.argmax(logits, -1))
            return {"probabilities": tf.nn.softmax(logits), "class": name}
        if self.kind == "labels":
            return {"probabilities": tf.sigmoid(logits)}
        values = tf.cast(self.mean, logits.dtype) + tf.cast(self.scale, logits.dtype) * logits
        if self.shape is not None:
            values = tf.reshape(values, tf.concat([tf.shape(values)[:-1], self.shape], 0))
        return {"values": values}

    def check(self, outputs: int) -> None:
        """Raises an `ArgumentError` for names or a shape that do not fit a model of so many outputs."""
        numbers = self.kind == "numbers"
        if self.shape is not None and math.prod(self.shape) != outputs:
            raise ArgumentError(f"Answer: shape={list(self.shape)} holds {math.prod(self.shape)} numbers; "
                                f"the model gives {outputs}")
        wanted = self.shape[-1] if numbers and self.shape else outputs
        if len(self.names) != wanted and (self.names or not numbers):
            raise ArgumentError(f"Answer: names={list(self.names)} are {len(self.names)}; the model needs "
                                f"{wanted}")

    @property
    def facts(self) -> dict:
        """What `santm.json` says of it."""
        shape = {} if self.shape is None else {"shape": list(map(int, self.shape))}
        return {"kind": self.kind, "names": list(map(str, self.names)), **shape}
