"""A trained model as it is exported: its outputs for whole sequences, its streams, its losses."""

import hashlib
import json

import tensorflow as tf

from santm_tf.errors import ArgumentError
from santm_tf.export import stream
from santm_tf.keras import keras, variable_of
from santm_tf.santm import SANTM

_layers, _losses = keras.layers, keras.losses
_BEFORE = (_layers.Masking, _layers.Embedding, _layers.Dropout)
_AFTER = (_layers.Dense, _layers.Activation, _layers.Dropout)
_PARTS = ("access", "bottom", "middle", "top", "recall", "readout")  # of a SANTM: all that have weights


class ServingModel:
    """A model's layers, copied with their weights to float32. Arguments and errors as in `export`."""

    def __init__(self, model, jit_compile=False):
        layers = model.layers if isinstance(model, keras.Sequential) and model.built else []
        places = [i for i, layer in enumerate(layers) if isinstance(layer, SANTM)]
        if len(places) != 1:
            raise ArgumentError("export: takes a built keras.Sequential with one SANTM; use model=santm")
        before, after = layers[:places[0]], layers[places[0] + 1:]
        self.pooled = bool(after) and isinstance(after[0], _layers.GlobalAveragePooling1D)
        self.before, self.after = _copied(before, _BEFORE), _copied(after[self.pooled:], _AFTER)
        self.layer = layer = _frozen(layers[places[0]])
        parts = *self.before, layer, *self.after
        self.weights = [variable_of(w) for part in parts for w in part.weights]
        self.sequences = layer.return_sequences and not self.pooled
        self.outputs = model.output_shape[-1]
        tokens = [v.input_dim for v in self.before if isinstance(v, _layers.Embedding)]
        self.vocabulary = tokens[0] if tokens else None
        self.features = None if tokens else layer.input_width
        self.loss = _losses.get(model.loss) if getattr(model, "loss", None) else None
        self.classes = (isinstance(self.loss, _losses.SparseCategoricalCrossentropy)
                        or self.loss is _losses.sparse_categorical_crossentropy)
        # A function of its own, which outputs and losses share.
        run = tf.function(layer.features, autograph=False, jit_compile=jit_compile or None)
        self._run = _in_powers_of_two(run) if jit_compile else run
        self.fingerprint = self._fingerprint()
        self.state = {name: tf.TensorSpec([None, *v.shape[1:]], v.dtype, name)
                      for name, v in self.first(1).items()}

    def _fingerprint(self):
        """Of all that a stream's state depends on: an int64."""
        digest = hashlib.sha256()
        for layer in (*self.before, self.layer, *self.after):
            config = {name: value for name, value in layer.get_config().items() if name != "name"}
            digest.update(json.dumps([type(layer).__name__, self.pooled, config], sort_keys=True,
                                     default=str).encode())
            for w in layer.get_weights():
                digest.update(w.tobytes())
        return int.from_bytes(digest.digest()[:8], "little", signed=True)

    def whole(self, inputs, valid):
        """`(outputs, valid)` of sequences, valid being bool `[B, T]`: which steps count."""
        x, mask = self._prepared(inputs)
        valid = valid if mask is None else valid & mask
        features, *_ = self._run(x, valid)
        y = self.layer.readout(features)
        if self.pooled:
            counted = tf.expand_dims(tf.cast(valid, y.dtype), -1)
            y = tf.math.divide_no_nan(tf.reduce_sum(counted * y, 1), tf.reduce_sum(counted, 1))
        return self._answered(y), valid

    def first(self, batch):
        """The state of streams before their first step: `stream.first`, what is pooled, the fingerprint."""
        state = stream.first(self.layer, batch)
        if self.pooled:
            state["pooled"], state["counted"] = tf.zeros([batch, self.layer.units]), tf.zeros([batch, 1])
        return {**state, "model": tf.fill([batch], tf.constant(self.fingerprint, tf.int64))}

    def step(self, inputs, state):
        """`(outputs, state)` of one step of streams."""
        x, mask = self._prepared(inputs[:, None])
        valid = None if mask is None else mask[:, 0]
        y, new = stream.step(self.layer, x[:, 0], state, valid)
        if self.pooled:
            count = tf.ones_like(y[:, :1]) if valid is None else tf.cast(valid, y.dtype)[:, None]
            new["pooled"], new["counted"] = state["pooled"] + count * y, state["counted"] + count
            y = tf.math.divide_no_nan(new["pooled"], new["counted"])
        return self._answered(y), {**state, **new}

    def score(self, inputs, valid, targets, weights=None):
        """Each sequence's loss, `[B]`."""
        y, valid = self.whole(inputs, valid)
        loss = (self.loss.call if isinstance(self.loss, _losses.Loss) else self.loss)(targets, y)
        if loss.shape.rank != 1 + self.sequences:
            raise ArgumentError(f"export: the loss {self.loss} is not one number for each sequence"
                                + " and step" * self.sequences)
        if not self.sequences:
            return loss
        total = tf.reduce_sum(tf.where(valid, weights * loss, 0), 1)
        reduction = getattr(self.loss, "reduction", None)
        if reduction == "sum":
            return total
        count = weights if reduction == "mean_with_sample_weight" else tf.ones_like(weights)
        return tf.math.divide_no_nan(total, tf.reduce_sum(tf.where(valid, count, 0), 1))

    def _prepared(self, inputs):
        """What the SANTM reads, and the mask that the layers before it make, or None."""
        mask = None
        for layer in self.before:
            mask = layer.compute_mask(inputs, mask)
            inputs = layer(inputs)
        return inputs, mask

    def _answered(self, y):
        for layer in self.after:
            y = layer(y)
        return y


def _copied(layers, kinds):
    """Copies of layers; dropout is left out."""
    copies = []
    for layer in layers:
        if not isinstance(layer, kinds):
            raise ArgumentError(f"export: a {type(layer).__name__} ({layer.name}) cannot be served there; "
                                f"use {', '.join(kind.__name__ for kind in kinds)}")
        if not isinstance(layer, _layers.Dropout):
            copies.append(type(layer).from_config({**layer.get_config(), "dtype": "float32"}))
            copies[-1].build(layer.input.shape)
            copies[-1].set_weights(layer.get_weights())
    return copies


def _frozen(layer):
    """A copy of a SANTM for any batch and length, whose access plan holds the accessed steps alone."""
    if layer.go_backwards:
        raise ArgumentError("export: go_backwards=True begins at a sequence's end, which a stream has not")
    if not layer.top.goes_on:
        raise ArgumentError("export: search='lsh' cannot go on from a stream's state; use search='auto'")
    copy = SANTM.from_config({**layer.get_config(), "dtype": "float32", "stateful": False,
                              "return_state": False, "jit_compile": False})
    copy.build([None, None, layer.input_width])
    for part in _PARTS:
        if getattr(layer, part) is not None:
            getattr(copy, part).set_weights(getattr(layer, part).get_weights())
    if copy.recall is not None:
        copy.recall.sparse = False  # TensorFlow Lite has no tf.sparse products, nor XLA, by which some serve
    copy.access.fit_plan()
    return copy


def _in_powers_of_two(run):
    """`run(x, valid)` on both axes filled up to powers of two: XLA compiles anew for each shape."""
    def filled(x, valid):
        sizes, powers = tf.shape(valid), 2 ** tf.range(31)
        rows, steps = tf.unstack(tf.gather(powers, tf.searchsorted(powers, sizes)) - sizes)
        features, *rest = run(tf.pad(x, [[0, rows], [0, steps], [0, 0]]),
                              tf.pad(valid, [[0, rows], [0, steps]]))
        batch, length = tf.unstack(sizes)
        return (features[:batch, :length] if features.shape.rank == 3 else features[:batch], *rest)

    return filled
