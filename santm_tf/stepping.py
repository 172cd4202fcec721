"""One step of a layer at a time, for a sequence that is served as it arrives.

A layer that can go on has two methods. `Recurrent`, `SANTM` and the layers of `baselines` have them. Here
they are as functions, for any Keras layer with a cell.

`first_state(batch) -> state`: before the first step, a dict of tensors `[B, ...]`. A layer that cannot go on
  raises an `ArgumentError` that says why.
`step(x, state, valid=None) -> (y, state)`: x `[B, d]`; y `[B, units]`, what the layer gives for the sequence
  up to here, in inference. valid is bool `[B]`: where it is False, the step is a masked one.
"""

import inspect

import tensorflow as tf

from santm_tf.errors import ArgumentError


def first_state(layer, batch):
    """Of a Keras layer with a cell, as `keras.layers.RNN`.

    >>> from santm_tf import stepping
    >>> layer = tf.keras.layers.LSTM(4)
    >>> x = tf.random.normal([2, 3, 5])
    >>> whole, state = layer(x), stepping.first_state(layer, batch=2)
    >>> for t in range(3):
    ...     y, state = stepping.step(layer, x[:, t], state)
    >>> float(tf.reduce_max(tf.abs(y - whole))) < 1e-6
    True
    """
    cell = layer.cell
    if layer.go_backwards:
        raise ArgumentError("go_backwards=True begins at a sequence's end, which a stream has not")
    size = getattr(cell, "output_size", None)
    size = tf.nest.flatten(cell.state_size)[0] if size is None else size
    dtype = layer.compute_dtype
    outputs = tf.nest.map_structure(lambda s: tf.zeros([batch, *tf.TensorShape(s)], dtype), size)
    return _named(first_of_cell(cell, batch, dtype), outputs)


def step(layer, x, state, valid=None):
    """Of a Keras layer with a cell. A masked step holds the state and repeats the output."""
    cell = layer.cell
    before = [v for name, v in state.items() if name.startswith("state_")]
    states = before
    if tf.nest.is_nested(cell.state_size):
        states = tf.nest.pack_sequence_as(cell.state_size, before)
    single = len(before) == 1 and getattr(cell, "_is_tf_rnn_cell", None) is not None
    y, after = (cell if callable(cell) else cell.call)(x, states[0] if single else states)
    last = [v for name, v in state.items() if name.startswith("output_")]
    instead = [tf.zeros_like(v) for v in last] if getattr(layer, "zero_output_for_mask", False) else last
    y = tf.nest.pack_sequence_as(y, held(valid, tf.nest.flatten(y), instead))
    return y, _named(held(valid, tf.nest.flatten(after), before), y)


def held(valid, new, old):
    """The new tensors `[B, ...]`, in rows where valid `[B]` is False the old ones; None for all valid."""
    if valid is None:
        return new
    return [tf.where(valid[(slice(None), *[None] * (v.shape.rank - 1))], v, was)
            for v, was in zip(new, old, strict=True)]


def _named(state, outputs):
    return {**{f"state_{n}": v for n, v in enumerate(tf.nest.flatten(state))},
            **{f"output_{n}": v for n, v in enumerate(tf.nest.flatten(outputs))}}


def first_of_cell(cell, batch, dtype):
    """A cell's state before the first step, zeros where it does not say; in dtype, if it takes one."""
    dtype = getattr(cell, "compute_dtype", dtype)
    if not hasattr(cell, "get_initial_state"):
        return tf.nest.map_structure(lambda size: tf.zeros([batch, *tf.TensorShape(size)], dtype),
                                     cell.state_size)
    takes = inspect.signature(cell.get_initial_state).parameters
    return cell.get_initial_state(batch_size=batch, **({"dtype": dtype} if "dtype" in takes else {}))
