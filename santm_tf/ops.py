"""Arithmetic that several layers share."""

import tensorflow as tf


def sigmoid(x):
    """`1 / (1 + exp(-x))` as `1/2 + tanh(x/2)/2`: XLA's CPU code has a vector tanh."""
    return 0.5 + 0.5 * tf.tanh(0.5 * x)


def product(x, kernel):
    """`x W` over the last axis of x, folded into one two-dimensional product."""
    return tf.tensordot(x, kernel, [[-1], [0]])


@tf.custom_gradient
def sum_last(x):
    """Sum over the last axis, as a product with ones: XLA's CPU code adds up an axis one by one."""
    ones = tf.ones([x.shape[-1], 1], x.dtype)
    return product(x, ones)[..., 0], lambda d: tf.broadcast_to(d[..., None], tf.shape(x))


@tf.custom_gradient
def straight_through(p):
    """`1[p > 1/2]` forward, the identity backward (Bengio et al. 2013, arXiv 1308.3432)."""
    return tf.cast(p > 0.5, p.dtype), lambda upstream: upstream


def mean(x):
    """The mean of all numbers of x, 0 where there are none: a replica's share of a batch may be empty."""
    return tf.math.divide_no_nan(tf.reduce_sum(x), tf.cast(tf.size(x), x.dtype))


def at_least_float32(x):
    """x, in float32 where its precision is less.

    >>> at_least_float32(tf.zeros([], tf.bfloat16)).dtype, at_least_float32(tf.zeros([], tf.float64)).dtype
    (tf.float32, tf.float64)
    """
    return tf.cast(x, tf.float32) if x.dtype.is_floating and x.dtype.size < 4 else x


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
