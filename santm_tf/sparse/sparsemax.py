"""Weights of which some are exactly 0."""

import tensorflow as tf

from santm_tf.addons import addons


def sparsemax(logits):
    """`argmin_p |p - z|^2` over the weights p >= 0 that sum to 1, along the last axis.

    `p_i = max(z_i - tau, 0)`,   `tau = (sum_{j <= k} z_(j) - 1) / k`
    `k = max {k: 1 + k z_(k) > sum_{j <= k} z_(j)}`

    with z_(1) >= z_(2) >= ... (Martins and Astudillo 2016, arXiv 1602.02068, algorithm 1). It is
    tensorflow-addons' where that can be imported.

    Args:
      logits: z, `[..., n]`.

    >>> sparsemax(tf.constant([[2.0, 1.5, -1.0]])).numpy().tolist()
    [[0.75, 0.25, 0.0]]
    """
    return projected(logits) if addons() is None else addons().activations.sparsemax(logits)


def projected(logits):
    """`sparsemax` by its formula."""
    highest = tf.sort(logits, -1, "DESCENDING")
    total = tf.cumsum(highest, -1)
    places = tf.range(1, tf.shape(logits)[-1] + 1)
    inside = 1 + tf.cast(places, logits.dtype) * highest > total
    k = tf.reduce_sum(tf.cast(inside, tf.int32), -1, keepdims=True)
    chosen = tf.gather(total, k - 1, axis=-1, batch_dims=logits.shape.rank - 1)
    return tf.nn.relu(logits - (chosen - 1) / tf.cast(k, logits.dtype))
