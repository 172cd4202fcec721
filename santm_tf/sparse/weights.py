"""Weights over a memory's slots of which only the k largest are kept."""

from typing import NamedTuple

import tensorflow as tf

from santm_tf.addressing import EPSILON, split_head
from santm_tf.gradients import custom_gradient
from santm_tf.ops import at_least_float32, sigmoid


class SparseWeights(NamedTuple):
    """The weights of heads over N slots: those of k slots each, the others being 0."""

    slots: tf.Tensor  # int32 [B, J, k], different ones for a head
    values: tf.Tensor  # [B, J, k], non-negative, summing to 1 for a head

    def at(self, slots):
        """The weights at other slots `[B, J, n]`: `[B, J, n]`."""
        same = slots[..., None] == self.slots[..., None, :]
        return tf.reduce_sum(tf.cast(same, self.values.dtype) * self.values[..., None, :], -1)

    def dense(self, slots):
        """The weights over all N slots, `[B, J, N]`."""
        return tf.reduce_sum(tf.one_hot(self.slots, slots, dtype=self.values.dtype)
                             * self.values[..., None], -2)


def read(values, rows, sparse=False):
    """`r = sum_i w^r_i M_i`, `[..., W]`, from k weights of each head and the rows that they weigh.

    Args:
      values: `[..., k]`. rows: `[..., k, W]`.
      sparse: by `tf.sparse.sparse_dense_matmul`, all heads in one product; for which XLA has no kernel.

    >>> read(tf.constant([[0.5, 0.5]]), tf.constant([[[3.0], [1.0]]]), sparse=True).numpy().ravel()
    array([2.], dtype=float32)
    """
    if not sparse:
        return tf.reduce_sum(values[..., None] * rows, -2)

    @custom_gradient  # TensorFlow's own is slower, and copies the rows
    def product(values, rows):
        kept, width = rows.shape[-2:]
        column = tf.range(tf.size(values, tf.int64))
        heads = tf.sparse.SparseTensor(
            tf.stack([column // kept, column], 1), tf.reshape(values, [-1]),
            tf.stack([tf.size(values, tf.int64) // kept, tf.size(values, tf.int64)]))
        vectors = tf.sparse.sparse_dense_matmul(heads, tf.reshape(rows, [-1, width]))

        def backward(upstream):
            upstream = upstream[..., None, :]
            return tf.reduce_sum(upstream * rows, -1), values[..., None] * upstream

        return tf.reshape(vectors, tf.concat([tf.shape(values)[:-1], [width]], 0)), backward

    return product(values, rows)


def reached(head, candidates, rows, previous, slots):
    """`addressing.address` where content is looked for in some slots only: logits of the slots reached.

    w^c is a softmax over the candidates. It is interpolated with the last weights, shifted and sharpened as
    in the dense memory, over the slots that these steps reach: at most `(C + k) (2F + 1)` of them.

    Args:
      head: `[B, J, W + 2F + 4]`, as in `addressing.address`.
      candidates: int32 `[B, J, C]`, different ones for a head.
      rows: `[B, J, C, W]`, what the memory holds there.
      previous: SparseWeights of k slots.
      slots: N.

    Returns:
      `(places, logits)`, int32 and float32 or better `[B, J, (C + k) (2F + 1)]`. A softmax of the logits
      gives weights; a place that comes again has -1e30.
    """
    head, rows, previous = tf.nest.map_structure(at_least_float32, (head, rows, previous))
    key, strength, gate, moves, gamma = split_head(head, rows.shape[-1])
    key = tf.tanh(key)
    scale = tf.math.rsqrt(tf.reduce_sum(key * key, -1, keepdims=True) + EPSILON) * tf.math.rsqrt(
        tf.reduce_sum(rows * rows, -1) + EPSILON)
    similarities = tf.reduce_sum(key[:, :, None] * rows, -1) * scale
    found = tf.nn.softmax(tf.math.softplus(strength) * similarities)
    gate, moves = sigmoid(gate), tf.nn.softmax(moves)

    places = tf.concat([candidates, previous.slots], -1)
    weights = tf.concat([gate * found, (1 - gate) * previous.values], -1)
    reach = moves.shape[-1] // 2
    places = tf.concat([(places + offset) % slots for offset in range(-reach, reach + 1)], -1)
    weights = tf.concat([weights * moves[..., n:n + 1] for n in range(2 * reach + 1)], -1)
    same = places[..., None] == places[..., None, :]
    weights = tf.reduce_sum(tf.where(same, weights[..., None, :], 0.0), -1)
    logits = (1 + tf.math.softplus(gamma)) * tf.math.log(weights + EPSILON)
    return places, tf.where(first(places), logits, -1e30)


def first(places):
    """Where a number is the first of its kind in the last axis, bool.

    >>> first(tf.constant([3, 1, 3, 1])).numpy().tolist()
    [True, True, False, False]
    """
    same = places[..., None] == places[..., None, :]
    return tf.argmax(same, -1, tf.int32) == tf.range(places.shape[-1])


def largest(places, logits, kept):
    """The slots of the k largest weights, int32 `[B, J, k]`; arguments as `reached` gives them."""
    return tf.gather(places, tf.math.top_k(logits, kept).indices, batch_dims=2)


def weights_at(slots, places, logits, normalise=tf.nn.softmax):
    """The weights at some of the places reached, made to sum to 1: SparseWeights.

    With all slots reached and taken that is, by softmax, `addressing.address`.
    """
    found = tf.where(slots[..., None] == places[..., None, :], logits[..., None, :], -1e30)
    return SparseWeights(slots, normalise(tf.reduce_max(found, -1)))
