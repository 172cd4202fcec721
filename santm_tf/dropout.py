"""One dropout mask for all steps of a sequence, in all parts of a recurrent cell."""

import tensorflow as tf

from santm_tf.keras import keras, layers_of

_OF_CELLS = "_dropout_mask", "_recurrent_dropout_mask"  # where Keras' cells keep theirs


class HeldDropout:
    """Gives every step of one call the dropout masks that its first step drew.

    Gal and Ghahramani 2016, arXiv 1512.05287: a mask for the inputs, one for the state, the same at all
    steps. A loop's body is a graph of its own, where cells would draw new ones. Entered around each call of
    the cell. It holds the masks of Keras' cells and of `Dropout` layers, wherever in the cell they are.

    Args:
      cell: a cell. What is no Keras layer has nothing to hold.
    """

    def __init__(self, cell):
        layers = layers_of(cell)
        self._held = [_Cached(layer, name) for layer in layers for name in _OF_CELLS
                      if hasattr(layer, f"get{name}_for_cell") or hasattr(layer, f"get{name}")]
        self._held += [_Layer(layer) for layer in layers if type(layer) is keras.layers.Dropout]

    def __enter__(self):
        for held in self._held:
            held.put()

    def __exit__(self, *_):
        for held in self._held:
            held.take()


class _Cached:
    """One mask that a Keras cell draws where it has none."""

    def __init__(self, cell, name):
        self.cell, self.name, self.mask = cell, name, None

    def put(self):
        cache = getattr(self.cell, f"{self.name}_cache", None)
        if cache is None:
            setattr(self.cell, self.name, self.mask)
            return
        cache.clear()  # Keras 2: one mask for each graph
        if self.mask is not None:
            cache[cache._key()] = self.mask

    def take(self):
        cache = getattr(self.cell, f"{self.name}_cache", None)
        if cache is None:
            self.mask = getattr(self.cell, self.name, None)
            setattr(self.cell, self.name, None)
        else:
            self.mask = cache.get(cache._key())
            cache.clear()


class _Layer:
    """A `Dropout` layer, which multiplies by the mask that it drew first."""

    def __init__(self, layer):
        self.layer, self.mask = layer, None

    def put(self):
        draw = self.layer.call

        def call(inputs, training=None):
            if self.mask is None:
                self.mask = draw(tf.ones_like(inputs), training=training)
            return inputs * self.mask

        object.__setattr__(self.layer, "call", call)  # past Keras, which would track it

    def take(self):
        object.__delattr__(self.layer, "call")
