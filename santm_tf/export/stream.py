"""SANTM one step at a time, for a sequence that is served as it arrives."""

import tensorflow as tf

from santm_tf import top
from santm_tf.memory import MemoryState
from santm_tf.sparse.cell import SparseMemoryCell, SparseMemoryState


def first(layer, batch):
    """The state before the first step.

    Args:
      layer: a built `SANTM`.
      batch: B, how many rows, int or scalar tensor.

    Returns:
      A dict of tensors `[B, ...]`: `t`, int32 `[B]`, how many steps a row has had; h and c of the bottom and
      the middle level; the top's `MemoryState` or `SparseMemoryState`; `recalled`, what the recall last gave.
    """
    levels = layer.get_initial_state(batch)
    closed = tf.zeros([batch, 1], levels[0].dtype)
    recalled, _ = _access(layer, tf.zeros_like(levels[0]), closed, levels[4:])
    return _named(layer, tf.zeros([batch], tf.int32), levels, recalled)


def step(layer, x, state, valid=None):
    """One step of a stream: what the layer gives for the sequence up to here, in inference.

    Rows may be at different steps. The top level and the recall are evaluated where a row accesses the memory
    at all, and else not.

    Args:
      layer: a built `SANTM`.
      x: `[B, d]`.
      state: as `first` or the step before gave it.
      valid: optional bool `[B]`. Where it is False the step is a masked one, that holds every state.

    Returns:
      `(output, state)`: `[B, units]`, and the state after the step.

    >>> import tensorflow as tf
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
    t, recalled = state["t"], state["recalled"]
    levels = [state[name] for name in _names(layer)]
    bottom, middle, memory = levels[:2], levels[2:4], levels[4:]
    if layer.boundaries == "fixed":
        ends = (t + 1) % int(layer.bottom.segment_length) == 0
        x = x, tf.cast(ends, x.dtype)[:, None]
    (_, beta), after = layer.bottom(x, bottom)
    a, d = layer.access.gates(t)
    if valid is not None:
        after = [tf.where(valid[:, None], new, old) for new, old in zip(after, bottom, strict=True)]
        beta *= tf.cast(valid, beta.dtype)[:, None]
        a *= tf.cast(valid, a.dtype)
    h = after[0]
    h_middle, middle = layer.middle((h, beta), middle)
    m = h_middle * (a * d)[:, None]
    recalled, *memory = tf.cond(
        tf.reduce_any(a > 0), lambda: tf.nest.flatten(_access(layer, m, a[:, None], memory)),
        lambda: [recalled, *memory])
    output = layer.readout(tf.concat([h, h_middle, recalled], -1))
    return output, _named(layer, t + 1, [*after, *middle, *memory], recalled)


def _access(layer, m, a, state):
    """What is recalled after one step of the top level, and its state."""
    if isinstance(layer.top, SparseMemoryCell):
        return top.sparse(layer.top, layer.recall, m[None], a[None], state, sequences=False)
    (read_weights, memory), state = layer.top((m, a), state)
    if layer.recall is None:
        return top.joined(MemoryState(*state).read), state
    return top.recalled(layer.recall, read_weights, memory), state


def _names(layer):
    """The names of the levels' states, in the order of `SANTM.get_initial_state`."""
    memory = SparseMemoryState if isinstance(layer.top, SparseMemoryCell) else MemoryState
    return ["bottom_h", "bottom_c", "middle_h", "middle_c", *(f"top_{name}" for name in memory._fields)]


def _named(layer, t, levels, recalled):
    return {"t": t, **dict(zip(_names(layer), levels, strict=True)), "recalled": recalled}
