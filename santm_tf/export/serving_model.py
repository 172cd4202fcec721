"""A trained model as it is exported: its outputs for whole sequences, its streams, its losses."""

import hashlib
import json

import tensorflow as tf

from santm_tf.errors import ArgumentError
from santm_tf.export.copies import copied, nameless
from santm_tf.export.parts import part_of
from santm_tf.keras import keras, layers_of, variable_of
from santm_tf.keras_graph import calls_of, input_of, output_shape
from santm_tf.santm import SANTM

_losses = keras.losses


class ServingModel:
    """A model's layers, copied with their weights to float32. Arguments and errors as in `export`.

    Attributes:
      features, vocabulary: d of inputs `[B, T, d]`, or how many tokens there are in `[B, T]`. One is None.
      outputs: K. sequences: whether there is an output at every step, `[B, T, K]`.
      streams: None, or why the model has none, in one line.
      state: what a stream keeps, a `tf.TensorSpec` by name.
      lite: whether TensorFlow Lite has all operations.
    """

    def __init__(self, model, jit_compile=False):
        if not isinstance(model, keras.Model) or not model.built:
            raise ArgumentError("export: takes a built Keras model; give its input's shape, or call it on a "
                                "batch")
        (_, _, *row), tokens = shape, _ = input_of(model)
        if len(row) != (not tokens) or row and row[0] is None:
            raise ArgumentError(f"export: the input's shape is {shape}; it must be sequences [B, T, d], d "
                                "being known, or tokens [B, T], whole numbers")
        self._calls, self._output = calls_of(model)
        self._copy(row, jit_compile)
        self.features = None if tokens else row[0]
        tables = [layer.input_dim for layer in self.layers if isinstance(layer, keras.layers.Embedding)]
        self.vocabulary = min(tables, default=2**31 - 1) if tokens else None
        self.loss = _losses.get(model.loss) if getattr(model, "loss", None) else None
        self.classes = (isinstance(self.loss, _losses.SparseCategoricalCrossentropy)
                        or self.loss is _losses.sparse_categorical_crossentropy)
        self.fingerprint = self._fingerprint()
        self._name_states()

    def _copy(self, row, jit_compile):
        """Makes the parts, in the order of the calls; a layer that is called twice is one part."""
        shapes, parts, made = [(None, None, *row)], [], {}
        for layer, places, _ in self._calls:
            given = [shapes[place] for place in places]
            if id(layer) not in made:
                made[id(layer)] = part_of(copied(layer, *given), len(given[0]), jit_compile)
            parts.append(made[id(layer)])
            shapes.append(output_shape(parts[-1].layer, *given))
            parts[-1].width = shapes[-1][-1]
        *steps, self.outputs = shapes[self._output][1:]
        self.sequences, self._parts = bool(steps), parts
        # Whether each value has steps; a first value of tokens has, too.
        self._timed = [True, *(len(shape) > 2 for shape in shapes[1:])]
        self.layers = layers_of(*(part.layer for part in parts))
        self.weights = list({id(v): v for v in (
            variable_of(w) for part in parts for w in part.layer.weights)}.values())
        self.lite = all(layer.top.lite for layer in self.layers if isinstance(layer, SANTM))

    def _fingerprint(self):
        """Of all that a stream's state depends on: an int64."""
        digest = hashlib.sha256()
        for part, call in zip(self._parts, self._calls, strict=True):
            kind, config = type(part.layer).__name__, nameless(part.layer.get_config())
            digest.update(json.dumps([kind, call.places, config], sort_keys=True, default=str).encode())
            for w in part.layer.get_weights():
                digest.update(w.tobytes())
        return int.from_bytes(digest.digest()[:8], "little", signed=True)

    def _name_states(self):
        """Names each part's state: as the part does, from the second of a name on with its number."""
        self._names, self.streams, self.state, counts = [], None, {}, {}
        try:
            for part in self._parts:
                own = {}
                for name in _first_state(part):
                    counts[name] = counts.get(name, 0) + 1
                    own[name] = name if counts[name] == 1 else f"{name}_{counts[name]}"
                self._names.append(own)
        except ArgumentError as error:
            self.streams = str(error)
        else:
            self.state = {name: tf.TensorSpec([None, *v.shape[1:]], v.dtype, name)
                          for name, v in self.first(1).items()}

    def whole(self, inputs, valid):
        """`(outputs, valid)` of sequences, valid being bool `[B, T]`: which steps count."""
        if all(part.masked for part in self._parts):
            y, mask = self._run(inputs, valid)
            return y, valid if mask is None else valid & mask
        # Each sequence alone: what a layer makes of padding would change what counts.
        steps = tf.shape(valid)[1]

        def alone(row):
            x, valid = row
            y, _ = self._run(tf.boolean_mask(x, valid)[None])
            if not self.sequences:
                return y[0]
            at = tf.cast(tf.where(valid), tf.int32)
            return tf.scatter_nd(at, y[0], [steps, self.outputs])

        return tf.map_fn(alone, (inputs, valid), fn_output_signature=tf.TensorSpec(
            [None, self.outputs] if self.sequences else [self.outputs])), valid

    def _run(self, inputs, valid=None):
        """The outputs, and the mask that the layers made for them, or None."""
        values, masks = [inputs], [None]
        for call, part in zip(self._calls, self._parts, strict=True):
            x, mask = self._taken(call, values), self._taken(call, masks)
            used = [_both(m, valid) for m in tf.nest.flatten(mask)] if self._timed[call.places[0]] else [None]
            values.append(part.whole(x, used if call.several else used[0]))
            masks.append(self._masked(part.layer, x, mask) if self._timed[len(masks)] else None)
        return values[self._output], masks[self._output]

    def _masked(self, layer, x, mask):
        return layer.compute_mask(x, mask) if layer.supports_masking else None

    def _taken(self, call, values):
        taken = [values[place] for place in call.places]
        return taken if call.several else taken[0]

    def first(self, batch):
        """The state of streams before their first step: of each part, and the fingerprint."""
        state = {names[own]: v for part, names in zip(self._parts, self._names, strict=True)
                 for own, v in part.first_state(batch).items()}
        return {**state, "model": tf.fill([batch], tf.constant(self.fingerprint, tf.int64))}

    def step(self, inputs, state):
        """`(outputs, state)` of one step of streams."""
        values, masks, after = [inputs], [None], dict(state)
        for call, part, names in zip(self._calls, self._parts, self._names, strict=True):
            x, mask = self._taken(call, values), self._taken(call, masks)
            y, new = part.step(x, {own: state[name] for own, name in names.items()}, tf.nest.flatten(mask)[0])
            after.update({names[own]: v for own, v in new.items()})
            values.append(y)
            x, mask = tf.nest.map_structure(lambda v: None if v is None else v[:, None], (x, mask))
            mask = self._masked(part.layer, x, mask) if self._timed[len(masks)] else None
            masks.append(None if mask is None else mask[:, 0])
        return values[self._output], after

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


def _both(mask, valid):
    return valid if mask is None else mask if valid is None else valid & mask


def _first_state(part):
    """A part's state of one stream; an `ArgumentError` that names the layer where there is none."""
    try:
        return part.first_state(1)
    except ArgumentError as error:
        raise ArgumentError(f"{part.layer.name} ({type(part.layer).__name__}) {error}") from error
