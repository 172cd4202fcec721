"""The channels of own sequences, from raw values to what a model reads, in training and when it is served."""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from santm_tf.tasks.errors import TaskError

TINY = 1e-12  # a deviation below it, beside the mean, is that of a constant
OF_NORMAL = 1.349  # the distance between the quartiles of a normal distribution, in deviations


class Channels(tf.Module):
    """Normalises numbers, marks what is missing, and numbers the categories.

    A number v of a channel becomes `(v - mean) / scale`. Where it is missing (NaN), it becomes the mean, or
    by `missing="carry"` the last value before it in the sequence. A channel that had gaps in training has a
    second feature behind the numbers, 1 where the value was missing. With `differences` the change of every
    normalised number since the step before follows. A category becomes its place among those of the training
    split, from 1; one that was not there, 0.

    Args:
      facts: what `fit` gave, which is JSON.

    Attributes:
      signature, step_signature: the raw inputs of sequences and of one step of streams, by name.
      mean, scale: of the numbers, `[n]`.
      width: features of a step, d.
      sizes: of each channel of categories, its codes; these are the last features.

    >>> found = fit(np.array([[1.0], [3.0], [np.nan]]), ["a"], {}, missing="mask")
    >>> x, valid = Channels(found)(tf.constant([[[5.0], [np.nan]]]), lengths=tf.constant([2]))
    >>> x.numpy().tolist()
    [[[3.0, 0.0], [0.0, 1.0]]]
    """

    def __init__(self, facts: dict[str, Any]):
        super().__init__(name="channels")
        object.__setattr__(self, "facts", facts)  # a module would wrap it, and JSON would not take it then
        numbers, categories = facts["numbers"], facts["categories"]
        self.mean = tf.constant([number["mean"] for number in numbers], tf.float32)
        self.scale = tf.constant([number["scale"] for number in numbers], tf.float32)
        self._gaps = [i for i, number in enumerate(numbers) if number["gaps"]]
        self.sizes = tuple(1 + len(one["values"]) for one in categories)
        count = len(numbers)
        self.width = count * (1 + facts["differences"]) + len(self._gaps) + len(self.sizes)
        self.signature = {"inputs": tf.TensorSpec([None, None, count], tf.float32, "inputs")}
        self.step_signature = {"inputs": tf.TensorSpec([None, count], tf.float32, "inputs")}
        if self.sizes:
            also = len(self.sizes)
            self.signature["categories"] = tf.TensorSpec([None, None, also], tf.string, "categories")
            self.step_signature["categories"] = tf.TensorSpec([None, also], tf.string, "categories")
            self._tables = [_table(one["values"]) for one in categories]
        self.signature["lengths"] = tf.TensorSpec([None], tf.int32, "lengths")

    def get_config(self):
        return {"facts": self.facts}

    def __call__(self, inputs, categories=None, *, lengths):
        """`(x, valid)` of sequences: features `[B, T, d]`, and which steps count, bool `[B, T]`.

        Args:
          inputs: numbers `[B, T, n]`, NaN where they are missing. categories: texts `[B, T, c]`.
          lengths: steps of each sequence, `[B]`.
        """
        valid = tf.sequence_mask(lengths, tf.shape(inputs)[1])
        return self.encoded(inputs, self._codes(categories), valid), valid

    def encoded(self, numbers, codes, valid):
        """Features `[B, T, d]`; codes int32 `[B, T, c]` or None."""
        self._refuse_gaps(numbers, valid)
        present = tf.math.is_finite(numbers) & valid[..., None]
        x = tf.where(present, (numbers - self.mean) / self.scale, 0.0)
        if self.facts["missing"] == "carry":
            x = _carried(x, present)
        before = tf.concat([x[:, :1], x[:, :-1]], 1)
        return self._features(x, before, present, codes)

    def first(self, batch):
        """The state of streams before their first step: the last numbers, and whether there were any."""
        return {"numbers": tf.zeros([batch, self.mean.shape[0]]), "begun": tf.zeros([batch], tf.int32)}

    def step(self, state, inputs, categories=None):
        """`(x, state)` of one step of streams: features `[B, d]`."""
        self._refuse_gaps(inputs, tf.ones(tf.shape(inputs)[:1], tf.bool))
        present = tf.math.is_finite(inputs)
        x = tf.where(present, (inputs - self.mean) / self.scale, 0.0)
        if self.facts["missing"] == "carry":
            x = tf.where(present, x, state["numbers"])
        before = tf.where(state["begun"][:, None] > 0, state["numbers"], x)
        return (self._features(x, before, present, self._codes(categories)),
                {"numbers": x, "begun": tf.ones_like(state["begun"])})

    def _features(self, x, before, present, codes):
        parts = [x]
        if self._gaps:
            parts.append(tf.cast(~tf.gather(present, self._gaps, axis=-1), x.dtype))
        if self.facts["differences"]:
            parts.append(x - before)
        if codes is not None:
            parts.append(tf.cast(codes, x.dtype))
        return tf.concat(parts, -1)

    def _codes(self, categories):
        if not self.sizes:
            return None
        return tf.stack([table.lookup(tf.gather(categories, i, axis=-1))
                         for i, table in enumerate(self._tables)], -1)

    def _refuse_gaps(self, numbers, valid):
        wrong = tf.math.is_inf(numbers)
        if self.facts["missing"] == "refuse":
            wrong |= tf.math.is_nan(numbers)
        wrong = tf.reduce_any(wrong & valid[..., None])
        said = "finite numbers" + " or NaN, which is missing" * (self.facts["missing"] != "refuse")
        tf.debugging.Assert(~wrong, [f"inputs: must be {said}"])


def fit(numbers, names, categories, *, normalise="standard", missing="mask", differences=False):
    """The facts of `Channels`, from the training split.

    Args:
      numbers: all its steps, float64 `[S, n]`, NaN where they are missing. names: of those channels.
      categories: of each other channel its values in the training split, in order: `{name: [str]}`.
      normalise: "standard", by mean and deviation; "robust", by the median and the quartiles; or "none".
      missing: "mask", "carry" or "refuse". differences: whether changes are features, too.

    >>> fit(np.array([[1.0], [3.0]]), ["a"], {}, normalise="robust")["numbers"][0]["mean"]
    2.0
    """
    return fitted([Statistic.of(column) for column in np.asarray(numbers).T], names, categories,
                  normalise=normalise, missing=missing, differences=differences)


class Statistic(NamedTuple):
    """What `fitted` needs of the numbers of a channel in training; of no number, zeros and ones."""

    mean: float
    deviation: float
    quartiles: tuple[float, float, float]
    gaps: bool  # whether some are missing

    @classmethod
    def of(cls, column):
        """Of a column of numbers, `[S]`, NaN where they are missing."""
        known = column[np.isfinite(column)]
        if not len(known):
            return cls(0.0, 1.0, (0.0, 0.0, 0.0), len(column) > 0)
        quartiles = tuple(np.percentile(known, [25, 50, 75]).tolist())
        return cls(float(known.mean()), float(known.std()), quartiles, len(known) < len(column))


def fitted(statistics, names, categories, *, normalise, missing, differences):
    """The same as `fit` from the `Statistic` of each channel of numbers."""
    found = []
    for name, statistic in zip(names, statistics, strict=True):
        mean, scale = _location(name, statistic, normalise)
        found.append({"name": name, "mean": mean, "scale": scale, "gaps": statistic.gaps})
    return {"numbers": found, "missing": missing, "differences": differences,
            "categories": [{"name": name, "values": list(values)} for name, values in categories.items()]}


def _location(name, statistic, normalise):
    if normalise == "none":
        return 0.0, 1.0
    mean, scale, (low, middle, high), _ = statistic
    if normalise == "robust" and high - low > TINY:  # else most values are equal, and the deviation says more
        mean, scale = middle, (high - low) / OF_NORMAL
    if abs(mean) > 1e6 * scale > 0:
        raise TaskError(f"--data_dir: channel {name} changes by {scale:.3g} around {mean:.6g}, which float32 "
                        "cannot hold; subtract a constant from it first")
    return mean, scale if scale > TINY * max(1.0, abs(mean)) else 1.0


def _table(values):
    keys, codes = tf.constant(values, tf.string), tf.range(1, 1 + len(values), dtype=tf.int32)
    return tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, codes), 0)


def _carried(x, present):
    """x `[B, T, n]`, each missing value replaced by the last one before it, or zero."""
    count = tf.cumsum(tf.cast(tf.transpose(present, [0, 2, 1]), tf.int32), 2)
    # The place of the k-th value is the first at which k are counted.
    place = tf.reshape(tf.searchsorted(count, count), tf.shape(count))
    held = tf.gather(tf.transpose(x, [0, 2, 1]), place, axis=2, batch_dims=2)
    return tf.transpose(tf.where(count > 0, held, 0.0), [0, 2, 1])
