"""The mask of a layer's input: which steps are valid."""

import tensorflow as tf

from santm_tf.errors import ArgumentError


def mask_of(inputs, mask, where="mask"):
    """The mask of a layer's first input, bool `[B, T]`: what was given, or what came with it; None for none.

    Keras 3 forgets the latter for a layer that is called with an initial state, too.

    Args:
      inputs: nest of `[B, T, ...]`.
      mask: `[B, T]`, `[1, T]` for all rows, either with a last axis of one, or None; or a nest, whose first
        counts.
      where: who asks, for errors.

    Raises:
      ArgumentError: a mask of another shape. XLA would read past its end in silence.

    >>> mask_of(tf.zeros([2, 3, 4]), tf.constant([[1, 1, 0]])).numpy().tolist()
    [[True, True, False], [True, True, False]]
    """
    first, mask = tf.nest.flatten(inputs)[0], tf.nest.flatten(mask)[0]
    if mask is None:
        mask = getattr(first, "_keras_mask", None)
    if mask is None:
        return None
    mask = tf.cast(mask, tf.bool)
    if mask.shape.rank == 3 and mask.shape[-1] == 1:
        mask = mask[..., 0]
    rows, steps = first.shape[:2]
    for_all = mask.shape.rank == 2 and mask.shape[0] == 1
    if not mask.shape.is_compatible_with([1 if for_all else rows, steps]):
        raise ArgumentError(f"{where}: the mask's shape is {tuple(mask.shape)}; it must be {(rows, steps)}, "
                            "[B, T]")
    return tf.broadcast_to(mask, tf.shape(first)[:2]) if for_all and rows != 1 else mask
