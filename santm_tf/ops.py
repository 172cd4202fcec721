"""Arithmetic that several layers share."""

import functools

import tensorflow as tf
from tensorflow.python.ops import control_flow_util

from santm_tf.gradients import custom_gradient


def sigmoid(x):
    """`1 / (1 + exp(-x))` as `1/2 + tanh(x/2)/2`: XLA's CPU code has a vector tanh."""
    return 0.5 + 0.5 * tf.tanh(0.5 * x)


def product(x, kernel):
    """`x W` over the last axis of x, folded into one two-dimensional product."""
    return tf.tensordot(x, kernel, [[-1], [0]])


@custom_gradient
def sum_last(x):
    """Sum over the last axis, as a product with ones: XLA's CPU code adds up an axis one by one."""
    ones = tf.ones([x.shape[-1], 1], x.dtype)
    return product(x, ones)[..., 0], lambda d: tf.broadcast_to(d[..., None], tf.shape(x))


@custom_gradient
def straight_through(p):
    """`1[p > 1/2]` forward, the identity backward (Bengio et al. 2013, arXiv 1308.3432)."""
    return tf.cast(p > 0.5, p.dtype), lambda upstream: upstream


def on_at_least_one_row(method):
    """A `method(self, batched, *rest)` that is never called on an empty batch: then on one row of zeros.

    Args:
      method: maps a nest of tensors `[B, ...]` (and `None`s), and anything after it, to a nest of tensors
        `[B, ...]`.

    >>> import tensorflow as tf
    >>> from santm_tf.ops import on_at_least_one_row
    >>> flip = on_at_least_one_row(lambda self, x: tf.reshape(x, [tf.shape(x)[0], -1]))
    >>> flip(None, tf.zeros([0, 2, 3])).shape.as_list()
    [0, 6]
    """
    @functools.wraps(method)
    def run(self, batched, *rest):
        rows = next(v for v in tf.nest.flatten(batched) if v is not None)
        if rows.shape[0]:
            return method(self, batched, *rest)
        count = tf.shape(rows)[0]
        missing = 1 - tf.minimum(count, 1)

        def filled(v):
            if v is not None:
                v = tf.ensure_shape(tf.pad(v, [[0, missing], *[[0, 0]] * (v.shape.rank - 1)]),
                                    [None, *v.shape[1:]])
            return v

        results = method(self, tf.nest.map_structure(filled, batched), *rest)
        return tf.nest.map_structure(lambda v: v[:count], results)

    return run


def at_least_float32(x):
    """x, in float32 where its precision is less.

    >>> at_least_float32(tf.zeros([], tf.bfloat16)).dtype, at_least_float32(tf.zeros([], tf.float64)).dtype
    (tf.float32, tf.float64)
    """
    return tf.cast(x, tf.float32) if x.dtype.is_floating and x.dtype.size < 4 else x


def steps_of(x, axis=1):
    """How many steps x has along an axis: a number where it is known, else a tensor."""
    return x.shape[axis] if x.shape[axis] is not None else tf.shape(x)[axis]


def gated(gate, new, held):
    """`gate new + (1 - gate) held`, for a gate `[B, 1]` and tensors `[B, ...]`."""
    gate = tf.reshape(gate, [-1] + [1] * (new.shape.rank - 1))
    return gate * new + (1 - gate) * held


def last_two_joined(x):
    """`[..., m, n]` as `[..., m n]`."""
    return tf.reshape(x, tf.concat([tf.shape(x)[:-2], [x.shape[-2] * x.shape[-1]]], 0))


def smart_cond(which, if_true, if_false):
    """`tf.cond`, of which one branch alone is traced where it is known which."""
    known = tf.get_static_value(which)
    if known is None:
        return tf.cond(which, if_true, if_false)
    return if_true() if known else if_false()


def in_xla():
    """Whether XLA compiles what is traced here: `tf.function(jit_compile=True)` and all that it calls.

    False where the gradient of such a function is traced after it: choose in the forward pass, and keep to
    it in the backward pass. False, too, in a plain `tf.function` that was traced before a compiled one calls
    it, as TensorFlow does not trace it again.

    >>> in_xla(), bool(tf.function(lambda: tf.constant(in_xla()), jit_compile=True)())
    (False, True)
    """
    return control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())
