"""The layers of a model as they are served: over whole sequences, and one step at a time.

A part has `whole(x, mask)`, and `first_state(batch)` and `step(x, state, valid)` as in `santm_tf.stepping`.
`masked` says whether steps that the mask leaves out change nothing in the others. If not, sequences of
different lengths cannot be computed side by side.
"""

import inspect

import tensorflow as tf

from santm_tf import stepping
from santm_tf.errors import ArgumentError
from santm_tf.keras import keras
from santm_tf.lengths import every

_layers = keras.layers

# Keras' layers that compute each step by itself, where they work along the last axis. Others say `stepwise`.
_STEPWISE = ("Activation ActivityRegularization Add AlphaDropout Average BatchNormalization Concatenate "
             "Dense Dropout ELU Embedding GaussianDropout GaussianNoise Identity LayerNormalization "
             "LeakyReLU Masking Maximum Minimum Multiply Normalization PReLU RMSNormalization ReLU Rescaling "
             "Softmax SpatialDropout1D Subtract ThresholdedReLU TimeDistributed UnitNormalization")
STEPWISE = tuple(getattr(_layers, name) for name in _STEPWISE.split() if hasattr(_layers, name))


def part_of(layer, rank, jit_compile=False):
    """The part that a layer is, its input being of this rank, 3 where it has steps of vectors."""
    if isinstance(layer, STEPWISE) or getattr(layer, "stepwise", False):
        timed = rank > 2 or isinstance(layer, _layers.Embedding)
        return Stepwise(layer, timed) if _of_the_last_axis(layer, rank) else Whole(layer, masked=False)
    if isinstance(layer, _layers.GlobalAveragePooling1D):
        return Mean(layer)
    if hasattr(layer, "first_state") or isinstance(layer, _layers.RNN):
        return Recurring(layer, jit_compile)
    return Whole(layer, masked=layer.supports_masking)


def _of_the_last_axis(layer, rank):
    axes = getattr(layer, "axis", -1)
    axes = {axis for axis in (axes if isinstance(axes, list | tuple) else [axes]) if axis is not None}
    shared = getattr(layer, "shared_axes", None) or []
    alone = isinstance(layer, _layers.PReLU) and rank == 3 and 1 not in shared  # it has weights of each step
    return axes <= {-1, rank - 1} and not alone


class Stepwise:
    """A layer that computes each step by itself, or merges the same step of several values.

    What it takes has steps, or, behind one that gives the last step alone, has not.
    """

    masked = True

    def __init__(self, layer, timed):
        self.layer, self.timed = layer, timed

    def whole(self, x, mask=None):
        return self.layer(x, training=False) if "training" in _takes(self.layer) else self.layer(x)

    def first_state(self, batch):
        return {}

    def step(self, x, state, valid=None):
        if not self.timed:
            return self.whole(x), state
        return self.whole(tf.nest.map_structure(lambda v: v[:, None], x))[:, 0], state


class Mean:
    """`GlobalAveragePooling1D`: of the steps that count; zero where none does."""

    masked = True

    def __init__(self, layer):
        self.layer = layer

    def whole(self, x, mask=None):
        counted = tf.ones_like(x[:, :, :1]) if mask is None else tf.expand_dims(tf.cast(mask, x.dtype), -1)
        return tf.math.divide_no_nan(tf.reduce_sum(counted * x, 1), tf.reduce_sum(counted, 1))

    def first_state(self, batch):
        return {"pooled": tf.zeros([batch, self.width]), "counted": tf.zeros([batch, 1])}

    def step(self, x, state, valid=None):
        count = tf.ones_like(x[:, :1]) if valid is None else tf.cast(valid, x.dtype)[:, None]
        new = {"pooled": state["pooled"] + count * x, "counted": state["counted"] + count}
        return tf.math.divide_no_nan(new["pooled"], new["counted"]), new


class Recurring:
    """A layer with a state that goes on: its own methods, or Keras' layer with a cell."""

    masked = True

    def __init__(self, layer, jit_compile=False):
        self.layer, self._own = layer, layer if hasattr(layer, "first_state") else None
        run = tf.function(self._call, autograph=False, jit_compile=jit_compile or None)
        self._run = in_powers_of_two(run) if jit_compile else run

    def whole(self, x, mask=None):
        return self._run(x, every(x) if mask is None else mask)

    def _call(self, x, mask):
        return self.layer(x, mask=mask)

    def first_state(self, batch):
        return self._own.first_state(batch) if self._own else stepping.first_state(self.layer, batch)

    def step(self, x, state, valid=None):
        return (self._own.step(x, state, valid) if self._own
                else stepping.step(self.layer, x, state, valid))


class Whole:
    """Any other layer, which computes whole sequences alone."""

    def __init__(self, layer, masked):
        self.layer, self.masked = layer, masked

    def whole(self, x, mask=None):
        takes = _takes(self.layer)
        given = {"mask": mask} if "mask" in takes and mask is not None else {}
        return self.layer(x, **given, **({"training": False} if "training" in takes else {}))

    def first_state(self, batch):
        if isinstance(self.layer, _layers.Bidirectional):
            raise ArgumentError("reads sequences from their end, too, which a stream has not")
        raise ArgumentError("computes no step by itself, and has no first_state and step "
                            "(santm_tf.stepping)")


def in_powers_of_two(run):
    """`run(x, valid)` on both axes filled up to powers of two: XLA compiles anew for each shape."""
    def filled(x, valid):
        sizes, powers = tf.shape(valid), 2 ** tf.range(31)
        rows, steps = tf.unstack(tf.gather(powers, tf.searchsorted(powers, sizes)) - sizes)
        y = run(tf.pad(x, [[0, rows], [0, steps], [0, 0]]), tf.pad(valid, [[0, rows], [0, steps]]))
        batch, length = tf.unstack(sizes)
        return y[:batch, :length] if y.shape.rank == 3 else y[:batch]

    return filled


def _takes(layer):
    return inspect.signature(layer.call).parameters
