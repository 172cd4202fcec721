"""`Recurrent`, a drop-in for `tf.keras.layers.RNN` that runs on `scan`."""

import inspect
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from santm_tf import stepping
from santm_tf.dropout import HeldDropout
from santm_tf.errors import ArgumentError
from santm_tf.keras import RNN, keras, output_of, register, several
from santm_tf.lengths import filled, varies
from santm_tf.lstm import is_plain, keras_lstm
from santm_tf.ops import steps_of
from santm_tf.ragged import takes_ragged
from santm_tf.scan import scan, swap_time
from santm_tf.shards import Sharded
from santm_tf.types import Config, Nest, States

_SPLIT_FROM = 128  # features


@register
@takes_ragged
class Recurrent(RNN):
    """`y_t, s_t = cell(x_t, s_{t-1})` over a sequence, for any Keras cell.

    Takes and returns what `tf.keras.layers.RNN` does: outputs, states, gradients, masks, `stateful`,
    `go_backwards`, constants. Only the time loop is another (`santm_tf.scan`): memory O(T * state), and fast
    under XLA, where the loop of Keras is an order of magnitude slower than without (`benchmarks/scan.py`).
    Keras' own `LSTMCell` is computed by `santm_tf.lstm.lstm`.

    A cell may *split* its work, as `SegmentLSTMCell` does: it has a method `project(inputs)`, and its `call`
    an argument `projected`. If the input is wide (`split`), what depends on the input alone is done for all
    steps as one product. The cell is then called as `cell(project(x)_t, states, projected=True)`.

    Args:
      cell: a Keras cell, or a list of cells to stack.
      jit_compile: compile the loop with XLA, once per batch size and length, and run it on slices of the
        batch side by side. Lengths that vary share few programs (`santm_tf.lengths`). In a model that is
        itself compiled with `jit_compile=True` the loop is part of that one program, which has one core.
      **kwargs: see `tf.keras.layers.RNN`. `unroll` needs a known length, and changes nothing: the scan
        never unrolls.

    Input: `[B, T, d]`, or a nest of such. Output: `[B, T, units]` with `return_sequences`, else
    `[B, units]`; then the states with `return_state`.

    >>> from santm_tf import Recurrent
    >>> layer = Recurrent(tf.keras.layers.LSTMCell(8), return_sequences=True)
    >>> layer(tf.zeros([2, 5, 3])).shape.as_list()
    [2, 5, 8]
    """

    def __init__(self, cell: keras.layers.Layer | Sequence[keras.layers.Layer], jit_compile: bool = False,
                 **kwargs: Any):
        if isinstance(cell, list | tuple) and not cell:
            raise ArgumentError(f"Recurrent: cell={cell}; give a Keras cell, or a list of at least one")
        super().__init__(cell, **kwargs)
        self.jit_compile = jit_compile
        self._on_cores = Sharded(self._loop)

    def run(self, inputs: Nest, state: States, mask: tf.Tensor | None, training: bool | None,
            constants: States | None) -> Nest:
        """The outputs, and the states where asked for."""
        if self.time_major:
            inputs, mask = swap_time(inputs), mask if mask is None else swap_time(mask)
        if self.unroll and tf.nest.flatten(inputs)[0].shape[1] is None:
            raise ArgumentError("Recurrent: Cannot unroll a RNN over an unknown number of steps: give Input "
                                "the number, or leave out unroll=True, which changes nothing")
        loop, steps = self._loop, None
        if self.jit_compile and constants is None:
            loop = self._on_cores
            if varies(inputs):
                steps = tf.convert_to_tensor(steps_of(tf.nest.flatten(inputs)[0]))
                inputs, mask = filled((inputs, mask), start=self.go_backwards)
        outputs, last, state = loop((inputs, mask, state), constants, training, steps)
        if steps is not None:
            outputs = tf.nest.map_structure(lambda y: y[:, :steps], outputs)
        if self.stateful:
            for variable, value in zip(*map(tf.nest.flatten, (self.states, state)), strict=True):
                variable.assign(tf.cast(value, variable.dtype))
        result = last
        if self.return_sequences:
            result = swap_time(outputs) if self.time_major else outputs
        if self.return_state:
            return several(*(result if isinstance(result, list) else [result]), *state)
        return result

    def _loop(self, batched, constants, training, steps):
        """Batch-major `(inputs, mask, state)` to `(outputs, last output, state)`, of leading steps."""
        inputs, mask, state = batched
        if constants is not None and "constants" not in inspect.signature(self.cell.call).parameters:
            raise ValueError(f"RNN cell {self.cell} does not support constants")
        if mask is not None:
            mask = tf.cast(swap_time(mask), tf.bool)
            mask = tf.reverse(mask, [0]) if self.go_backwards else mask
        outputs, state = over_time(
            self.cell, inputs, state, mask=mask, training=training, constants=constants or (),
            backwards=self.go_backwards, steps=steps,
            plain=is_plain(self.cell) and self.cell.compute_dtype == self.compute_dtype)
        if mask is not None and self.zero_output_for_mask:
            outputs = tf.nest.map_structure(
                lambda y: tf.where(tf.reshape(mask, tf.concat(
                    [tf.shape(mask), [1] * (y.shape.rank - 2)], 0)), y, tf.zeros_like(y)), outputs)
        outputs = tf.nest.map_structure(lambda y: output_of(self, y), outputs)
        last = tf.nest.map_structure(lambda y: y[-1 if steps is None else steps - 1], outputs)
        return swap_time(outputs), last, state

    def first_state(self, batch: int | tf.Tensor) -> dict[str, tf.Tensor]:
        """Of B streams before their first step: `santm_tf.stepping`."""
        return stepping.first_state(self, batch)

    def step(self, x: tf.Tensor, state: dict[str, tf.Tensor],
             valid: tf.Tensor | None = None) -> tuple[Nest, dict[str, tf.Tensor]]:
        """One step of streams: `santm_tf.stepping`."""
        return stepping.step(self, x, state, valid)

    def get_config(self) -> Config:
        return {**super().get_config(), "jit_compile": self.jit_compile}


def over_time(cell, inputs, state, *, mask=None, training=None, constants=(), backwards=False, steps=None,
              plain=False):
    """`y_t, s_t = cell(x_t, s_{t-1})`, the cell having its inputs split and its dropout masks drawn once.

    Args:
      cell: a Keras cell.
      inputs: nest of `[B, T, ...]`. state: list of `[B, ...]`.
      mask: optional bool `[T, B]`, in the order of running; masked steps hold the state (`scan`).
      training: handed to a cell that takes it. constants: handed to a cell at every step.
      backwards: run from the last step to the first. steps: how many to run, see `scan`.
      plain: the cell is Keras' `LSTMCell`, to be computed by `santm_tf.lstm.lstm`.

    Returns:
      `(outputs, state)`: time-major outputs, `[T, B, ...]`, and the state after the last step.
    """
    dropout = HeldDropout(cell)
    compute = cell if callable(cell) else cell.call
    options = training_option(cell, training)
    inputs, projected = split(cell, inputs)
    options.update(projected)
    inputs = swap_time(inputs)
    if backwards:
        inputs = tf.nest.map_structure(lambda x: tf.reverse(x, [0]), inputs)
    single = len(state) == 1 and getattr(cell, "_is_tf_rnn_cell", None) is not None

    def step(x, s, *rest):
        if plain:
            return keras_lstm(cell, x, s)
        given = {"constants": rest[0]} if rest else {}
        with dropout:
            y, new = compute(x, s[0] if single else s, **options, **given)
        return y, (new if tf.nest.is_nested(new) else [new])

    return scan(step, inputs, state, constants=constants, mask=mask, steps=steps)


def training_option(cell, training):
    """`{"training": training}` for a cell whose call takes it, else nothing."""
    return {"training": training} if "training" in inspect.signature(cell.call).parameters else {}


def split(cell, inputs):
    """What goes into the loop: the inputs, or what a cell makes of all of them at once.

    Only where they are wide. What is projected ahead is stored, read and given a gradient for every step. Up
    to a width of some 128 that costs more than it saves (LSTMs of 32 and 64 units, B=64, T=784: a third
    slower with one feature, equal with 128). Returns `(inputs, options)`, options of the cell's call.
    """
    width = tf.nest.flatten(inputs)[0].shape[-1]
    if hasattr(cell, "project") and (width or 0) >= _SPLIT_FROM:
        return cell.project(inputs), {"projected": True}
    return inputs, {}
