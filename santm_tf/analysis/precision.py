"""Running a layer's parts outside its `call`, in the precision that they have inside."""

from santm_tf.keras import Layer


def as_in(layer, function, x):
    """`function(x)`, x and the weights being in the layer's precision, as Keras gives them to its `call`.

    >>> import tensorflow as tf
    >>> from santm_tf.analysis.precision import as_in
    >>> half = tf.keras.layers.Dense(1, dtype="mixed_bfloat16")
    >>> half.build([1, 2])
    >>> as_in(half, lambda x: x @ half.kernel, tf.ones([1, 2])).dtype
    tf.bfloat16
    """
    return _Call(name="call", dtype=layer.dtype_policy)(x, function=function)


class _Call(Layer):
    """A call for nothing but the precision."""

    def call(self, inputs, function):
        return function(inputs)
