"""Where a head looks: the addressing of the Neural Turing Machine, in stable form.

Graves, Wayne and Danihelka 2014 (arXiv 1410.5401), section 3.3, equations 5 to 9. Shapes: B sequences, J
heads, N slots, W their width, F the furthest shift. Every function works for any leading axes.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from santm_tf.ops import at_least_float32, sigmoid, sum_last

EPSILON = 1e-6


def similarity(key, memory):
    """`cos(key, M_i) = key.M_i / sqrt((key.key + eps) (M_i.M_i + eps))` (equation 6): `[B, J, N]`.

    The epsilons stand inside the roots, so that the gradient at a zero slot or key is finite.

    >>> similarity(tf.ones([1, 1, 2]), tf.constant([[[2.0, 2.0], [-1.0, -1.0]]])).numpy().round(3)
    array([[[ 1., -1.]]], dtype=float32)
    """
    dot = tf.matmul(key, memory, transpose_b=True)
    key_scale = tf.math.rsqrt(tf.reduce_sum(key * key, -1, keepdims=True) + EPSILON)
    slot_scale = tf.math.rsqrt(sum_last(memory * memory) + EPSILON)
    return dot * key_scale * slot_scale[..., None, :]


def content(key, strength, memory):
    """`w^c_i = softmax_i(strength cos(key, M_i))` (equation 5). strength `[B, J, 1]`; returns `[B, J, N]`."""
    return tf.nn.softmax(strength * similarity(key, memory))


def interpolate(content_weights, previous, gate):
    """`w^g = g w^c + (1 - g) w_{t-1}` (equation 7). gate `[B, J, 1]`."""
    return gate * content_weights + (1 - gate) * previous


def shift(weights, shifts):
    """`w~_i = sum_j w^g_j q_{i-j}`, circular (equation 8). shifts `[B, J, 2F + 1]` for -F, ..., F.

    >>> shift(tf.constant([[1.0, 0.0, 0.0, 0.0]]), tf.constant([[0.0, 0.0, 1.0]])).numpy()
    array([[0., 1., 0., 0.]], dtype=float32)
    """
    reach = shifts.shape[-1] // 2
    slots = weights.shape[-1]
    total = 0.0
    for position, offset in enumerate(range(-reach, reach + 1)):
        turn = offset % slots
        split = slots - turn
        rolled = tf.concat([weights[..., split:], weights[..., :split]], -1) if turn else weights
        total += shifts[..., position:position + 1] * rolled
    return total


def sharpen(weights, gamma):
    """`w_i = w~_i^gamma / sum_j w~_j^gamma` (equation 9) as `softmax(gamma log(w~ + eps))`.

    The quotient of powers underflows to 0/0 at a large gamma; the softmax of logs does not.
    """
    return tf.nn.softmax(gamma * tf.math.log(weights + EPSILON))


def head_width(slot_width, shift_range):
    """How many numbers one head takes: key, strength, gate, shifts, sharpening."""
    return slot_width + 2 + (2 * shift_range + 1) + 1


def split_head(head, slot_width):
    """A head's raw outputs `[..., head_width]` as key, strength, gate, shifts and sharpening."""
    return tf.split(head, [slot_width, 1, 1, head.shape[-1] - slot_width - 3, 1], -1)


def address(head, memory, previous):
    """A head's raw outputs to its weights over the slots: equations 5 to 9 in order.

    `key = tanh, strength = softplus, g = sigmoid, q = softmax, gamma = 1 + softplus` of head's parts.

    Args:
      head: `[B, J, W + 2F + 4]`, the order of `head_width`.
      memory: `[B, N, W]`.
      previous: `[B, J, N]`, the weights of the step before.

    Returns:
      `[B, J, N]`: non-negative, summing to 1 over the slots. Computed in float32 or better.
    """
    dtype = head.dtype
    head, memory, previous = map(at_least_float32, (head, memory, previous))
    key, strength, gate, moves, gamma = split_head(head, memory.shape[-1])
    weights = content(tf.tanh(key), tf.math.softplus(strength), memory)
    weights = interpolate(weights, previous, sigmoid(gate))
    weights = shift(weights, tf.nn.softmax(moves))
    return tf.cast(sharpen(weights, 1 + tf.math.softplus(gamma)), dtype)


class Addressing(NamedTuple):
    """An addressing mode: how many numbers a head takes, and what it makes of them."""

    width: Callable  # (slot_width, shift_range) to an int
    address: Callable  # (head `[B, J, width]`, memory, previous weights) to weights, see `address`


ADDRESSING = {"ntm": Addressing(head_width, address)}
