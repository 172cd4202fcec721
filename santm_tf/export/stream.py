"""SANTM one step at a time, for a sequence that is served as it arrives: its state as named tensors."""

import tensorflow as tf


def first(layer, batch):
    """The state of B rows before the first step.

    Args:
      layer: a built `SANTM`.
      batch: B, int or scalar tensor.

    Returns:
      A dict of tensors `[B, ...]`: `t`, int32 `[B]`, how many valid steps a row has had; the levels'
      state (`santm_tf.levels.State`); `recalled`, what the recall last gave.
    """
    levels = layer.levels
    state = levels.first(batch, layer.compute_dtype)
    m = tf.zeros_like(state.middle.h)
    recalled, _ = levels.access_memory(m, m[:, :1], state.top)
    return _named(levels, tf.zeros([batch], tf.int32), state, recalled)


def step(layer, x, state, valid=None):
    """One step of a stream: what the layer gives for the sequence up to here, in inference.

    Args:
      layer: a built `SANTM`.
      x, valid: see `santm_tf.levels.Levels.step`.
      state: as `first` or the step before gave it.

    Returns:
      `(output, state)`: `[B, units]`, and the state after the step.

    >>> from santm_tf import SANTM
    >>> from santm_tf.export import stream
    >>> layer = SANTM(4, memory_slots=6, slot_width=4, locality=1, access_rate=0.5, jit_compile=False)
    >>> x = tf.random.normal([2, 3, 1])
    >>> whole = layer(x)
    >>> state = stream.first(layer, batch=2)
    >>> for t in range(3):
    ...     y, state = stream.step(layer, x[:, t], state)
    >>> float(tf.reduce_max(tf.abs(y - whole))) < 1e-5
    True
    """
    levels, t = layer.levels, state["t"]
    before = levels.state(state[name] for name in _names(levels))
    features, after, recalled = levels.step(x, t, before, state["recalled"], valid)
    t += 1 if valid is None else tf.cast(valid, t.dtype)
    return layer.readout(features), _named(levels, t, after, recalled)


def _names(levels):
    """The names of a state's tensors, in their order."""
    bottom = ["h", "c"] if len(levels.bottom.state_size) == 2 else range(len(levels.bottom.state_size))
    return [*(f"bottom_{name}" for name in bottom), "middle_h", "middle_c",
            *(f"top_{name}" for name in levels.top.state_class._fields)]


def _named(levels, t, state, recalled):
    return {"t": t, **dict(zip(_names(levels), tf.nest.flatten(state), strict=True)), "recalled": recalled}
