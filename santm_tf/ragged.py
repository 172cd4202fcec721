"""Sequences of different lengths, as TensorFlow has them."""

import inspect

import tensorflow as tf

from santm_tf.errors import ArgumentError
from santm_tf.keras import RAGGED_COMES_TO, several


def takes_ragged(layer):
    """Has a class of recurrent layers take a `tf.RaggedTensor`: padded, under a mask, and ragged again."""
    method = getattr(layer, RAGGED_COMES_TO)

    def run(self, inputs, *args, **kwargs):
        if not isinstance(inputs, tf.RaggedTensor):
            return method(self, inputs, *args, **kwargs)
        if kwargs.get("mask") is not None:
            raise ArgumentError(f"{type(self).__name__}: mask is given, and the inputs are ragged: their "
                                "lengths are the mask; give one of them")
        lengths = inputs.row_lengths()
        padded = inputs.to_tensor()
        kwargs["mask"] = tf.sequence_mask(lengths, tf.shape(padded)[1])
        result = method(self, padded, *args, **kwargs)
        if not self.return_sequences:
            return result
        y, *state = result if self.return_state else [result]
        if self.go_backwards:  # the padding came first
            y = tf.reverse_sequence(tf.reverse(y, [1]), lengths, 1)
        y = tf.RaggedTensor.from_tensor(y, lengths)
        return several(y, *state) if self.return_state else y

    # Made so that Keras 2, which asks for the method's arguments, finds those behind the wrapping.
    spec = inspect.getfullargspec(inspect.unwrap(method))
    setattr(layer, RAGGED_COMES_TO, tf.__internal__.decorator.make_decorator(
        method, run, decorator_argspec=spec))
    return layer
