"""The graph of the memory's slots, as `tf.sparse`."""

import numpy as np
import tensorflow as tf

from santm_tf.errors import ArgumentError


def ring(slots, locality):
    """Adjacency of slots on a ring: `A_ij = 1` where `0 < |i - j| <= w`, distances around the ring.

    Args:
      slots: N >= 2. locality: w >= 1; from N/2 on every slot neighbours every other.

    Returns:
      `tf.sparse.SparseTensor` `[N, N]`, float32, in canonical order.

    Raises:
      ValueError: fewer than two slots, or a locality below 1.

    >>> import tensorflow as tf
    >>> from santm_tf.graph import ring
    >>> tf.sparse.to_dense(ring(5, 1)).numpy().astype(int)[0].tolist()
    [0, 1, 0, 0, 1]
    """
    if slots < 2:
        raise ArgumentError(f"ring: slots={slots}; a graph of slots needs at least 2")
    if locality < 1:
        raise ArgumentError(f"ring: locality={locality}; it must be at least 1")
    near = min(locality, slots // 2)
    offsets = np.unique([*range(1, near + 1), *range(slots - near, slots)])
    j = np.sort((np.arange(slots)[:, None] + offsets) % slots, 1)
    edges = np.stack([np.repeat(np.arange(slots), len(offsets)), j.ravel()], 1)
    return tf.sparse.SparseTensor(edges, np.ones(len(edges), np.float32), [slots, slots])


def rescaled_laplacian(adjacency, largest=2.0):
    """`L~ = (2 / lambda_max) L - I` with `L = I - D^{-1/2} A D^{-1/2}` (Defferrard et al. 2016, section 2.1).

    With `lambda_max = 2`, the bound that holds for every graph, it is `-D^{-1/2} A D^{-1/2}`.

    Args:
      adjacency: `tf.sparse.SparseTensor` `[N, N]`, non-negative, no self-loops, every degree > 0.
      largest: lambda_max.

    Returns:
      `tf.sparse.SparseTensor` `[N, N]`.

    >>> import tensorflow as tf
    >>> from santm_tf.graph import rescaled_laplacian, ring
    >>> tf.sparse.to_dense(rescaled_laplacian(ring(4, 1))).numpy()[0].round(3).tolist()
    [0.0, -0.5, 0.0, -0.5]
    """
    scale = tf.math.rsqrt(tf.sparse.reduce_sum(adjacency, 1))
    i, j = adjacency.indices[:, 0], adjacency.indices[:, 1]
    values = -2.0 / largest * adjacency.values * tf.gather(scale, i) * tf.gather(scale, j)
    scaled = tf.sparse.SparseTensor(adjacency.indices, values, adjacency.dense_shape)
    if largest == 2.0:
        return scaled
    return tf.sparse.add(scaled, tf.sparse.eye(adjacency.dense_shape[0]) * (2.0 / largest - 1.0))


def chebyshev(laplacian, signal, order):
    """`T_0 x = x, T_1 x = L~ x, T_k x = 2 L~ T_{k-1} x - T_{k-2} x`: the list of the first K.

    Args:
      laplacian: function that applies L~ to a signal.
      signal: x. order: K >= 1.
    """
    terms = [signal]
    for k in range(1, order):
        applied = laplacian(terms[-1])
        terms.append(applied if k == 1 else 2 * applied - terms[-2])
    return terms
