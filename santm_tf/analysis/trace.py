"""What a SANTM layer did with a batch: its segments, its accesses, where it wrote and what it recalled."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from santm_tf.analysis.precision import as_in
from santm_tf.errors import ArgumentError
from santm_tf.masks import mask_of
from santm_tf.ops import at_least_float32
from santm_tf.packing import valid_first
from santm_tf.santm import SANTM
from santm_tf.visits import Keep


class Trace(NamedTuple):
    """B sequences of T steps, S of which the top level visited: NumPy arrays, as `trace` gives them.

    Steps are in the order in which the layer reads them, with `go_backwards` from the end of the sequence.
    The valid steps of each sequence are its first ones; the rest is padding, wherever it was before. A head's
    weights are over k slots: all N in a dense memory, those that it touched in a sparse one. `over` gives
    them over slots of one's choice.
    """

    boundaries: np.ndarray  # bool [B, T], where a segment ends
    valid: np.ndarray  # bool [B, T], False for padding
    accesses: np.ndarray  # bool [T], where the access mask is open; of an adaptive access every step
    steps: np.ndarray  # int [S], those steps
    gates: np.ndarray  # [B, S], a_t; 0 where nothing happened: in padding, where an adaptive gate is shut
    read_slots: np.ndarray  # int [B, S, R, k]
    read_weights: np.ndarray  # [B, S, R, k], summing to 1, but 0 where the gate is 0
    write_slots: np.ndarray  # int [B, S, writes, k]
    write_weights: np.ndarray  # [B, S, writes, k], summing to the gate
    memory: np.ndarray  # [B, N, W], after the last step
    bottom: np.ndarray  # [B, T, H], h
    middle: np.ndarray  # [B, T, H], h^m
    controller: np.ndarray  # [B, S, H], the top level's h after each access
    recalled: np.ndarray  # [B, 1 + S, .], o before the first access and after each

    def accessed(self, row: int) -> np.ndarray:
        """The steps at which one sequence accessed the memory, int, ascending."""
        return self.steps[self.gates[row] > 0]

    def over(self, kind: str, row: int, slots: np.ndarray) -> np.ndarray:
        """The weights of one sequence over some slots, `[S, heads, n]`.

        Args:
          kind: "read" or "write". row: of the batch. slots: int `[n]`, ascending, n >= 1.
        """
        at, weights = self._heads(kind, row)
        column = np.minimum(np.searchsorted(slots, at), len(slots) - 1)
        found = np.zeros([*at.shape[:2], len(slots)], weights.dtype)
        step, head, _ = np.indices(at.shape)
        np.add.at(found, (step, head, column), np.where(slots[column] == at, weights, 0))
        return found

    def slots(self, kind: str, row: int, most: int | None = None) -> np.ndarray:
        """The slots that one sequence read or wrote, ascending, int `[n]`; at most those of most weight."""
        at, weights = self._heads(kind, row)
        touched, place = np.unique(at[weights > 0], return_inverse=True)
        if most is not None and len(touched) > most:
            total = np.bincount(place.ravel(), weights[weights > 0])
            touched = np.sort(touched[np.argsort(-total, kind="stable")[:most]])
        return touched

    def _heads(self, kind, row):
        return getattr(self, f"{kind}_slots")[row], getattr(self, f"{kind}_weights")[row]


def layer_of(model):
    """The first `SANTM` among a Keras model's layers, or None."""
    return next((layer for layer in model.layers if isinstance(layer, SANTM)), None)


def inputs_of(model, x):
    """What a `tf.keras.Sequential` hands to its SANTM: `(inputs, mask)`, the mask None where none is."""
    x = tf.convert_to_tensor(x)
    for layer in model.layers[:model.layers.index(layer_of(model))]:
        x = layer(x, training=False)
    return x, mask_of(x, None)


def outputs_of(model, seen):
    """What a `tf.keras.Sequential` gives for sequences, at the steps of the `Trace` of its SANTM."""
    layer = layer_of(model)
    steps = np.arange(len(seen.accesses))
    if not layer.return_sequences:
        steps = steps[-1:]
    o = seen.recalled[:, np.cumsum(seen.accesses)[steps]]
    y = layer.readout(np.concatenate([seen.bottom[:, steps], seen.middle[:, steps], o], -1))
    if layer.return_sequences:
        y._keras_mask = tf.constant(seen.valid)  # as Keras hands it on
    else:
        y = y[:, 0]
    for after in model.layers[model.layers.index(layer) + 1:]:
        y = after(y, training=False)
    return y


def trace(layer: SANTM, inputs: tf.Tensor, mask: tf.Tensor | None = None) -> Trace:
    """What a SANTM layer does with sequences from their beginning, in inference.

    Runs the layer's own levels, the top one over the accessed steps alone, without XLA.

    Args:
      layer: a built `SANTM`.
      inputs: `[B, T, d]`, T >= 1. mask: bool `[B, T]`, False for padding, which may be anywhere.

    Returns:
      `Trace`.

    Raises:
      ValueError: a layer that is no SANTM or not built, or inputs of another shape.

    >>> layer = SANTM(8, memory_slots=16, slot_width=8, access_rate=0.5, jit_compile=False)
    >>> _ = layer(tf.zeros([2, 6, 3]))
    >>> seen = trace(layer, tf.zeros([2, 6, 3]))
    >>> seen.steps.tolist(), seen.read_weights.shape, seen.memory.shape
    ([1, 3, 5], (2, 3, 1, 16), (2, 16, 8))
    """
    if not isinstance(layer, SANTM):
        raise ArgumentError(f"trace: {type(layer).__name__} is no SANTM layer")
    if not layer.built:
        raise ArgumentError("trace: the layer is not built; call it on a batch first")
    inputs, features = tf.cast(inputs, layer.compute_dtype), layer.input_width
    if inputs.shape.rank != 3 or inputs.shape[-1] != features or 0 in inputs.shape:
        raise ArgumentError(f"trace: inputs of shape {tuple(inputs.shape)}; they must be [B, T, {features}]")
    length = inputs.shape[1]
    plan = t, inside = layer.access.shortest_plan(length)
    steps = t.numpy()[inside.numpy()]
    accesses = np.isin(np.arange(length), steps)
    valid = tf.ones(inputs.shape[:2], tf.bool) if mask is None else tf.cast(mask, tf.bool)
    if layer.go_backwards:
        inputs, valid = tf.reverse(inputs, [1]), tf.reverse(valid, [1])
    if mask is not None:
        inputs, valid, _ = valid_first(inputs, valid)
    h, beta, middle, a, heads, memory, o = tf.nest.map_structure(
        _array, _run(layer, inputs, plan, valid if mask is not None else None))
    a, *heads = (np.swapaxes(v, 0, 1)[:, :len(steps)] for v in (a[..., 0], *heads[:-1]))
    controller, read_slots, read_weights, write_slots, write_weights = heads
    return Trace(beta[..., 0] > 0, valid.numpy(), accesses, steps, a, read_slots,
                 read_weights * (a > 0)[..., None, None], write_slots, write_weights, memory, h, middle,
                 controller, o[:, :1 + len(steps)])


@tf.function(autograph=False, reduce_retracing=True)  # traced once a layer
def _run(layer, inputs, plan, mask):
    return as_in(layer, lambda x: _seen(layer, x, plan, mask), inputs)


def _seen(layer, inputs, plan, mask):
    levels = layer.levels
    did = levels.run(inputs, plan, mask, keep=Keep(reach=levels.reach, heads=True))
    return (did.h, did.beta, did.middle_at(tf.range(tf.shape(inputs)[1])), did.a, did.visits.heads,
            did.state.top.memory, did.visits.recalled(layer.recall))


def _array(tensor):
    return at_least_float32(tensor).numpy()
