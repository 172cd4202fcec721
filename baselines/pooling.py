"""From outputs at every step to one output a sequence, for layers that do not recur."""

import tensorflow as tf

from santm_tf.baselines.layer import only_valid
from santm_tf.packing import at_steps


def last_valid(outputs, mask=None):
    """The output at each sequence's last valid step; zeros where no step is valid.

    From `[B, T, H]` to `[B, H]`, by a bool mask `[B, T]`, True where a step is valid; None where all are.

    >>> import tensorflow as tf
    >>> from santm_tf.baselines.pooling import last_valid
    >>> last_valid(tf.constant([[[1.0], [2.0], [3.0]]]), tf.constant([[True, True, False]])).numpy().tolist()
    [[2.0]]
    """
    if mask is None:
        return outputs[:, -1]
    last = tf.reduce_max(tf.where(mask, tf.range(tf.shape(mask)[1]), 0), 1)
    outputs = at_steps(outputs, last[:, None])[:, 0]
    return tf.where(tf.reduce_any(mask, 1)[:, None], outputs, tf.zeros_like(outputs))


def mean_valid(outputs, mask=None):
    """The mean of each sequence's outputs over its valid steps. Arguments and shapes: see `last_valid`.

    >>> import tensorflow as tf
    >>> from santm_tf.baselines.pooling import mean_valid
    >>> mean_valid(tf.constant([[[1.0], [2.0], [3.0]]]), tf.constant([[True, True, False]])).numpy().tolist()
    [[1.5]]
    """
    if mask is None:
        return tf.reduce_mean(outputs, 1)
    outputs = only_valid(outputs, mask)
    wide = tf.cast(outputs, tf.float32) if outputs.dtype.size < 4 else outputs
    count = tf.maximum(tf.reduce_sum(tf.cast(mask, wide.dtype), 1, keepdims=True), 1)
    return tf.cast(tf.reduce_sum(wide, 1) / count, outputs.dtype)
