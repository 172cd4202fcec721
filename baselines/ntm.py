"""The Neural Turing Machine, as one Keras layer."""

from typing import Annotated, Literal

from santm_tf import NTMCell, Recurrent
from santm_tf.analysis import cost as costs
from santm_tf.analysis import counting
from santm_tf.baselines.layer import SequenceLayer, built
from santm_tf.baselines.model import Model
from santm_tf.keras import keras


@keras.saving.register_keras_serializable("baselines")
class NTM(SequenceLayer):
    """A Neural Turing Machine with an LSTM controller (Graves et al. 2014, arXiv 1410.5401).

    `h_t, r_t = NTMCell(x_t)`,   `y_t = W_y [h_t ; r_t] + b_y`

    The cell is SANTM's memory without its access mask (`santm_tf.NTMCell` has the equations). Here the
    memory starts constant. The output feeds nothing back, so the readout is outside the time loop.

    Args:
      dropout: share of `[h ; r]` dropped while training. seed: of the dropout.
      jit_compile: see `Recurrent`. return_sequences: see `SequenceLayer`. The others: see `NTMCell`.

    Input and output: see `SequenceLayer`. A masked step holds the state.

    Raises:
      ValueError: a size that cannot work.

    >>> import tensorflow as tf
    >>> from santm_tf.baselines.ntm import NTM
    >>> NTM(8, memory_slots=16, slot_width=4, read_heads=2)(tf.zeros([2, 5, 3])).shape.as_list()
    [2, 8]
    """

    cell_class, every_step = NTMCell, False  # every_step: the loop's outputs are those of all steps

    def __init__(self, units, memory_slots=32, slot_width=32, read_heads=1, write_heads=1,
                 shift_range=1, memory_init="constant", memory_horizon=100, dropout=0.0,
                 return_sequences=False, jit_compile=True, seed=None, **kwargs):
        sizes = dict(memory_slots=memory_slots, slot_width=slot_width, read_heads=read_heads,
                     write_heads=write_heads, shift_range=shift_range, memory_init=memory_init)
        super().__init__(dict(units=units, dropout=dropout, return_sequences=return_sequences, seed=seed,
                              jit_compile=jit_compile, memory_horizon=memory_horizon, **sizes), **kwargs)
        policy = {"dtype": self.dtype_policy}
        cell = self.cell_class(units, memory_horizon=memory_horizon, name="cell", **sizes, **policy)
        self.recurrent = Recurrent(cell, return_sequences=return_sequences or self.every_step,
                                   jit_compile=jit_compile, name="recurrent", **policy)
        self.dropout = keras.layers.Dropout(dropout, seed=seed, **policy)
        self.readout = keras.layers.Dense(units, name="readout", **policy)

    @classmethod
    def for_steps(cls, steps, units=32, memory_horizon=None, **options):
        """The layer for sequences of so many steps, or None: how long its gates remember at first follows."""
        return cls(units, memory_horizon=memory_horizon or steps or 100, **options)

    def build(self, input_shape):
        cell = self.recurrent.cell
        built(self.recurrent, self._loop_shape(input_shape))
        built(self.readout, [input_shape[0], cell.units + cell.read_heads * cell.slot_width])
        super().build(input_shape)

    def memory_needed(self, steps):
        """Bytes that training on one sequence of so many steps keeps of the external memory, a formula."""
        return self.recurrent.cell.bytes_kept(steps)

    def _loop_shape(self, input_shape):
        """The shape that the loop runs over."""
        return input_shape

    def call(self, inputs, mask=None, training=None):
        return self.readout(self.dropout(self._features(inputs, mask), training=training))

    def _features(self, inputs, mask):
        """`[h ; r]`, `[B, T, H + R W]` or `[B, H + R W]`."""
        return self.recurrent(inputs, mask=mask)

    def first_state(self, batch):
        return self.recurrent.first_state(batch)

    def step(self, x, state, valid=None):
        features, state = self.recurrent.step(x, state, valid)
        return self.readout(features), state


def make(units: int = 32, memory_slots: Annotated[int, "[2, inf)"] = 32,
         slot_width: int = 32, read_heads: int = 1, write_heads: int = 1,
         shift_range: Annotated[int, "[0, inf)"] = 1,
         memory_init: Literal["learned", "constant"] = "constant", memory_horizon: int | None = None,
         dropout: Annotated[float, "[0, 1)"] = 0.0, *, steps=None, return_sequences=False, seed=None,
         jit_compile=True):
    """An `NTM`.

    Args:
      units: Units of the controller and of the output, H.
      memory_slots: Slots of the external memory, N.
      slot_width: Width of a slot, W.
      read_heads: Read heads.
      write_heads: Write heads.
      shift_range: Furthest shift of a head, in slots.
      memory_init: The memory at the start of a sequence.
      memory_horizon: Longest memory wanted of the controller's gates at first, in steps (default: the length
        of a training sequence, or 100).
      dropout: Share of features dropped before the output.
    """
    return NTM.for_steps(
        steps, units=units, memory_slots=memory_slots, slot_width=slot_width, read_heads=read_heads,
        write_heads=write_heads, shift_range=shift_range, memory_init=memory_init,
        memory_horizon=memory_horizon, dropout=dropout, return_sequences=return_sequences,
        jit_compile=jit_compile, seed=seed)


@counting.checked
def cost(features, units, steps, memory_slots=32, slot_width=32, read_heads=1, write_heads=1, shift_range=1,
         return_sequences=False):
    """`T ntm_step + readout` FLOPs; `readout = 2 (H + R W) H + H`, T times that with sequences.

    >>> cost(1, 32, steps=784).accesses == 784 * 2 * 32
    True
    """
    step = costs.ntm_step(features, units, memory_slots, slot_width, read_heads, write_heads, shift_range)
    readout = counting.dense(units + read_heads * slot_width, units)
    return steps * step + (steps if return_sequences else 1) * readout


MODEL = Model(make, cost)
