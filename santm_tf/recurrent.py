"""`Recurrent`, a drop-in for `tf.keras.layers.RNN` that runs on `scan`."""

import inspect

import tensorflow as tf

from santm_tf.errors import ArgumentError
from santm_tf.lstm import is_plain, keras_lstm
from santm_tf.scan import scan, swap_time
from santm_tf.shards import Sharded

_SPLIT_FROM = 128  # features


@tf.keras.utils.register_keras_serializable("santm_tf")
class Recurrent(tf.keras.layers.RNN):
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
        batch side by side. Inside a model compiled with `jit_compile=True` it adds nothing.
      **kwargs: see `tf.keras.layers.RNN`; `unroll` is refused.

    Input: `[B, T, d]`, or a nest of such. Output: `[B, T, units]` with `return_sequences`, else
    `[B, units]`; then the states with `return_state`.

    >>> from santm_tf import Recurrent
    >>> layer = Recurrent(tf.keras.layers.LSTMCell(8), return_sequences=True)
    >>> layer(tf.zeros([2, 5, 3])).shape.as_list()
    [2, 5, 8]
    """

    def __init__(self, cell, jit_compile=False, **kwargs):
        super().__init__(cell, **kwargs)
        if self.unroll:
            raise ArgumentError("Recurrent: unroll=True is not supported; the scan never unrolls")
        self.jit_compile = jit_compile
        self._sharded = None

    def build(self, input_shape):
        super().build(self._several(input_shape))

    def __call__(self, inputs, *args, **kwargs):
        return super().__call__(self._several(inputs), *args, **kwargs)

    def _several(self, inputs):
        """A saved model gives a tuple of inputs back as a list, in which RNN would see states."""
        count = getattr(self.cell, "input_count", 1)
        return tuple(inputs) if isinstance(inputs, list) and len(inputs) == count > 1 else inputs

    def call(self, inputs, mask=None, training=None, initial_state=None, constants=None):
        lengths = None
        if isinstance(inputs, tf.RaggedTensor):
            self._validate_args_if_ragged(True, mask)
            lengths = inputs.row_lengths()
            inputs = inputs.to_tensor()
            mask = tf.sequence_mask(lengths, tf.shape(inputs)[1])
        inputs, state, constants = self._process_inputs(inputs, initial_state, constants)
        if mask is not None:
            mask = tf.convert_to_tensor(tf.nest.flatten(mask)[0])
        if self.time_major:
            inputs, mask = swap_time(inputs), mask if mask is None else swap_time(mask)
        if self.jit_compile:
            if self._sharded is None:
                self._sharded = Sharded(self._loop)
            outputs, last, state = self._sharded(
                (inputs, mask, state), constants, training, whole=constants is not None)
        else:
            outputs, last, state = self._loop((inputs, mask, state), constants, training)
        if self.stateful:
            for variable, value in zip(*map(tf.nest.flatten, (self.states, state)), strict=True):
                variable.assign(tf.cast(value, variable.dtype))
        if not self.return_sequences:
            result = last
        elif lengths is not None:
            if self.go_backwards:  # the padding came first
                outputs = tf.reverse_sequence(tf.reverse(outputs, [1]), lengths, 1)
            result = tf.RaggedTensor.from_tensor(outputs, lengths)
        else:
            result = swap_time(outputs) if self.time_major else outputs
        if self.return_state:
            return (result if isinstance(result, list) else [result]) + list(state)
        return result

    def _loop(self, batched, constants, training):
        """Batch-major `(inputs, mask, state)` to `(outputs, last output, state)`."""
        inputs, mask, state = batched
        if constants is not None and "constants" not in inspect.signature(self.cell.call).parameters:
            raise ValueError(f"RNN cell {self.cell} does not support constants")
        if mask is not None:
            mask = tf.cast(swap_time(mask), tf.bool)
            mask = tf.reverse(mask, [0]) if self.go_backwards else mask
        outputs, state = over_time(
            self.cell, inputs, state, mask=mask, training=training, constants=constants or (),
            backwards=self.go_backwards,
            plain=is_plain(self.cell) and self.cell.compute_dtype == self.compute_dtype)
        if mask is not None and self.zero_output_for_mask:
            outputs = tf.nest.map_structure(
                lambda y: tf.where(tf.reshape(mask, tf.concat(
                    [tf.shape(mask), [1] * (y.shape.rank - 2)], 0)), y, tf.zeros_like(y)), outputs)
        last = tf.nest.map_structure(lambda y: y[-1], outputs)
        return swap_time(outputs), last, state

    def get_config(self):
        return {**super().get_config(), "jit_compile": self.jit_compile}


def over_time(cell, inputs, state, *, mask=None, training=None, constants=(), backwards=False, plain=False):
    """`y_t, s_t = cell(x_t, s_{t-1})`, the cell having its inputs split and its dropout masks drawn once.

    Args:
      cell: a Keras cell.
      inputs: nest of `[B, T, ...]`. state: list of `[B, ...]`.
      mask: optional bool `[T, B]`, in the order of running; masked steps hold the state (`scan`).
      training: handed to a cell that takes it. constants: handed to a cell at every step.
      backwards: run from the last step to the first.
      plain: the cell is Keras' `LSTMCell`, to be computed by `santm_tf.lstm.lstm`.

    Returns:
      `(outputs, state)`: time-major outputs, `[T, B, ...]`, and the state after the last step.
    """
    dropout = _DropoutMasks([cell, *cell.submodules])
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
            y, new = cell(x, s[0] if single else s, **options, **given)
        return y, (new if tf.nest.is_nested(new) else [new])

    return scan(step, inputs, state, constants=constants, mask=mask)


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


class _DropoutMasks:
    """Gives every step of one call the dropout masks that its first step drew.

    Keras keeps a cell's masks per graph. A loop's body is a graph of its own, where the cell would draw new
    ones. Entered around each call of the cell.
    """

    def __init__(self, cells):
        names = "_dropout_mask_cache", "_recurrent_dropout_mask_cache"
        self._caches = [getattr(c, name) for c in cells for name in names if hasattr(c, name)]
        self._masks = [None] * len(self._caches)

    def __enter__(self):
        for cache, mask in zip(self._caches, self._masks, strict=True):
            cache.clear()
            if mask is not None:
                cache[cache._key()] = mask

    def __exit__(self, *_):
        self._masks = [cache.get(cache._key()) for cache in self._caches]
        for cache in self._caches:
            cache.clear()
