"""An example as it goes into a batch, as a `tf.train.Example`, and back.

`x` are the numbers of all steps, one step after another, and `shape` is `[T, d]`, as `tasks.reading.records`
reads them; `label` is y, and `weight` the sample weight. Steps at the end that are padding are left out.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from santm_tf.tasks.errors import TaskError

NAMES = "x", "label", "weight"


class Part(NamedTuple):
    """One of x, y and the sample weight.

    Attributes:
      shape: of an example. dtype: its name. per_step: whether the first axis are the steps of x.
      fill: its value at steps that are padding.
    """

    shape: tuple[int, ...]
    dtype: str
    per_step: bool
    fill: float

    @property
    def stored(self):
        """The type of its values in a record."""
        return tf.int64 if tf.as_dtype(self.dtype).is_integer else tf.float32

    def of_values(self, values):
        """The part of a batch, `[B, ...]`, from ragged values `[B, (n)]`."""
        fill, count = tf.cast(self.fill, self.stored), int(np.prod(self.shape))
        flat = tf.ensure_shape(values.to_tensor(fill, shape=[None, count]), [values.shape[0], count])
        return tf.cast(tf.reshape(flat, [tf.shape(flat)[0], *self.shape]), self.dtype)


class Layout(NamedTuple):
    """The parts of the examples of a split, all of one shape.

    Attributes:
      parts: x and y, or these and the sample weight. padded: whether steps at the end may be padding.

    >>> layout = Layout.of((np.zeros([1, 3, 2], "f"), np.zeros([1], "i4")), padding=-1.0)
    >>> record = layout.encode((np.array([[5, 6], [-1, -1], [-1, -1]], "f"), np.array(7, "i4")))
    >>> [part.numpy().tolist() for part in layout.decode(tf.constant([record]))]
    [[[[5.0, 6.0], [-1.0, -1.0], [-1.0, -1.0]]], [7]]
    """

    parts: tuple[Part, ...]
    padded: bool

    @classmethod
    def of(cls, batch, padding, return_sequences=False):
        """That of a batch, a tuple of arrays; the other arguments are those of a `Task`."""
        parts = [Part(part.shape[1:], part.dtype.name, n == 0 or return_sequences,
                      (padding or 0.0) if n == 0 else 0.0) for n, part in enumerate(batch)]
        return cls(tuple(parts), padding is not None)

    @classmethod
    def of_facts(cls, facts):
        """From what `facts` gave."""
        return cls(tuple(Part(tuple(shape), *more) for shape, *more in facts["parts"]), facts["padded"])

    @property
    def facts(self):
        """For JSON."""
        return {"parts": [list(part) for part in self.parts], "padded": self.padded}

    def encode(self, example):
        """The bytes of an example, a tuple of arrays.

        Raises:
          TaskError: it is of another shape or type.
        """
        for part, value in zip(self.parts, example, strict=True):
            if (value.shape, value.dtype.name) != (part.shape, part.dtype):
                raise TaskError(f"an example is {value.dtype.name}{list(value.shape)} and the first one "
                                f"{part.dtype}{list(part.shape)}; shards hold examples of one shape")
        steps = self._used(example) if self.padded else self.parts[0].shape[0]
        features = {name: _feature(value[:steps] if part.per_step else value)
                    for name, part, value in zip(NAMES, self.parts, example, strict=False)}
        features["shape"] = _feature(np.array([steps, int(np.prod(self.parts[0].shape[1:]))]))
        return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()

    def decode(self, records):
        """The batch of records, strings `[B]`: a tuple of tensors `[B, ...]`."""
        named = dict(zip(NAMES, self.parts, strict=False))
        found = tf.io.parse_example(
            records, {name: tf.io.RaggedFeature(part.stored) for name, part in named.items()})
        return tuple(part.of_values(found[name]) for name, part in named.items())

    def _used(self, example):
        """How many steps there are up to the last that holds anything."""
        held = [(value != part.fill).reshape(len(value), -1).any(1)
                for part, value in zip(self.parts, example, strict=True) if part.per_step]
        places = np.flatnonzero(np.any(held, 0))
        return int(places[-1]) + 1 if len(places) else 0


def _feature(value):
    if value.dtype.kind in "iu":
        return tf.train.Feature(int64_list=tf.train.Int64List(value=value.ravel().tolist()))
    return tf.train.Feature(float_list=tf.train.FloatList(value=value.ravel().tolist()))
