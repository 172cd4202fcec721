"""The graph of the memory's slots, and products with matrices on it, by `tf.sparse`."""

import numpy as np
import tensorflow as tf

from santm_tf.errors import ArgumentError, at_least
from santm_tf.gradients import custom_gradient


def ring(slots, locality):
    """Adjacency of slots on a ring: 1 where `0 < |i - j| <= l`, distances around the ring.

    Args:
      slots: N >= 2. locality: l >= 1; from N/2 on every slot neighbours every other.

    Returns:
      `tf.sparse.SparseTensor` `[N, N]`, float32, in canonical order.

    Raises:
      ValueError: fewer than two slots, or a locality below 1.

    >>> tf.sparse.to_dense(ring(5, 1)).numpy().astype(int)[0].tolist()
    [0, 1, 0, 0, 1]
    """
    if slots < 2:
        raise ArgumentError(f"ring: slots={slots}; a graph of slots needs at least 2")
    at_least("ring", 1, locality=locality)
    near = min(locality, slots // 2)
    offsets = np.unique([*range(1, near + 1), *range(slots - near, slots)])
    j = np.sort((np.arange(slots)[:, None] + offsets) % slots, 1)
    edges = np.stack([np.repeat(np.arange(slots), len(offsets)), j.ravel()], 1)
    return tf.sparse.SparseTensor(edges, np.ones(len(edges), np.float32), [slots, slots])


def chebyshev(laplacian, signal, order):
    """`Cheb_0 x = x, Cheb_1 x = -G x, Cheb_n x = -2 G Cheb_{n-1} x - Cheb_{n-2} x`: the first K, a list.

    Args:
      laplacian: function that applies -G to a signal.
      signal: x. order: K >= 1.
    """
    terms = [signal]
    for n in range(1, order):
        applied = laplacian(terms[-1])
        terms.append(applied if n == 1 else 2 * applied - terms[-2])
    return terms


def diagonals(x, y, locality):
    """`x_i . y_{i + n}` for n = 1, ..., l around the ring: what `x y^T` has on its first diagonals.

    Its gradient is by `tf.sparse` products, so that training keeps x and y alone. Not under XLA.

    Args:
      x, y: `[..., N, columns]`. locality: l < N.

    Returns:
      `[..., N, l]`.

    >>> x = tf.constant([[1.0], [2.0], [3.0]])
    >>> diagonals(x, x, 1).numpy().ravel().tolist()
    [2.0, 6.0, 3.0]
    """
    @custom_gradient
    def run(x, y):
        slots = x.shape[-2]
        around = tf.concat([y, y[..., :locality, :]], -2)
        values = tf.stack([tf.reduce_sum(x * around[..., n:n + slots, :], -1)
                           for n in range(1, locality + 1)], -1)

        def backward(upstream):
            above = _above(upstream)
            return _times(above, y), _times(above, x, adjoint_a=True)

        return values, backward

    return run(x, y)


def symmetric(values):
    """The function `x -> G x` of a symmetric G on a ring, by `tf.sparse.sparse_dense_matmul`. Not under XLA.

    Args:
      values: `[..., N, l]`, G's diagonals above the main one, as `diagonals` gives them; the others are 0.

    Returns:
      The function, of `[..., N, columns]`.

    >>> symmetric(tf.constant([[1.0], [2.0], [3.0]]))(tf.constant([[1.0], [10.0], [100.0]])).numpy().ravel()
    array([310., 201.,  23.], dtype=float32)
    """
    above = _above(values)

    @custom_gradient
    def run(values, x):
        def product(x):
            return _times(above, x) + _times(above, x, adjoint_a=True)

        def backward(upstream):
            pairs = tf.concat([upstream, x], -1), tf.concat([x, upstream], -1)
            return diagonals(*pairs, values.shape[-1]), product(upstream)

        return product(x), backward

    return lambda x: run(values, x)


def _above(values):
    """Diagonals `[..., N, l]` of n rings, as one `tf.sparse.SparseTensor` `[n N, n N]` of n blocks."""
    slots, locality = values.shape[-2:]
    count = tf.size(values, tf.int64) // locality
    row = tf.range(count)[:, None]
    column = row - row % slots + (row + tf.range(1, locality + 1, dtype=tf.int64)) % slots
    places = tf.stack([tf.broadcast_to(row, tf.shape(column)), column], -1)
    return tf.sparse.SparseTensor(tf.reshape(places, [-1, 2]), tf.reshape(values, [-1]),
                                  tf.stack([count, count]))


def _times(matrix, x, **options):
    flat = tf.reshape(x, [-1, x.shape[-1]])
    return tf.reshape(tf.sparse.sparse_dense_matmul(matrix, flat, **options), tf.shape(x))
