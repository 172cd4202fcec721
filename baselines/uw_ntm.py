"""The Neural Turing Machine that touches its memory at uniform intervals."""

import tensorflow as tf

from santm_tf import NTMCell
from santm_tf.analysis import cost as costs
from santm_tf.analysis import counting
from santm_tf.baselines import ntm
from santm_tf.baselines.model import Model
from santm_tf.errors import ArgumentError, at_least
from santm_tf.keras import keras
from santm_tf.lstm import lstm
from santm_tf.memory import MemoryState
from santm_tf.ops import last_two_joined, steps_of
from santm_tf.packing import at_steps, pack
from santm_tf.scan import scan, swap_time
from santm_tf.stepping import held


def optimal_interval(steps, memory_slots):
    """`L = max(1, floor(T / (N + 1)))`, the interval that keeps the most of T steps in N slots.

    Le, Tran and Venkatesh 2019 (arXiv 1901.01347), theorem 3 and equation 8. N writes cut the sequence
    into N + 1 pieces. The bound on what is remembered is greatest where the pieces are equal.

    >>> from santm_tf.baselines.uw_ntm import optimal_interval
    >>> optimal_interval(784, 15)
    49
    """
    if steps is None:
        raise ArgumentError("write_interval=None: the length of the sequences is unknown; give the number "
                            "of steps between two writes to the memory")
    return max(1, steps // (memory_slots + 1))


@keras.saving.register_keras_serializable("baselines")
class UniformWritingCell(NTMCell):
    """A block of L steps of an NTM that reads and writes at the last of them only.

    `h_t, c_t = LSTM([x_t ; r_{t-1}]; h_{t-1}, c_{t-1})`,  `r_t, M_t = r_{t-1}, M_{t-1}`   between
    `s_t = NTM(x_t, s_{t-1})`                                                              at the write

    Le, Tran and Venkatesh 2019 (arXiv 1901.01347), equation 8 and algorithm 1. A loop over the block's
    steps, where r is constant, runs inside the loop over blocks. So the memory costs T / L steps.

    Arguments and state: see `NTMCell`. Input `[B, L, d]`; output `[h_t ; r_t]` of the block's steps,
    `[B, L, H + R W]`.

    >>> import tensorflow as tf
    >>> from santm_tf.baselines.uw_ntm import UniformWritingCell
    >>> from santm_tf import Recurrent
    >>> blocks = tf.zeros([2, 3, 4, 5])  # three blocks of four steps
    >>> layer = Recurrent(UniformWritingCell(8, memory_slots=6, slot_width=4), return_sequences=True)
    >>> layer(blocks).shape.as_list()
    [2, 3, 4, 12]
    """

    def __init__(self, units, **kwargs):
        super().__init__(units, **kwargs)
        self.output_size = tf.TensorShape([None, self.output_size])

    def call(self, inputs, states, projected=False):
        inputs = swap_time(inputs)
        z = inputs if projected else self.project(inputs)
        old = MemoryState(*states)
        read = tf.reshape(old.read, [-1, self.read_heads * self.slot_width])
        hidden, held = self._between(z[:-1], old, read)
        new, _, _ = self._advance(z[-1], held._replace(h=self._previous(hidden, read)))
        reads = [read] * (z.shape[0] - 1) + [tf.reshape(new.read, tf.shape(read))]
        outputs = tf.concat([tf.concat([hidden[1:], new.h[None]], 0), tf.stack(reads)], -1)
        return swap_time(outputs), list(new)

    def _between(self, z, state, read):
        """The controller alone over `z` `[L - 1, B, 4H]`: all its h `[L, B, H]`, the first its old one."""
        if not z.shape[0]:
            return state.h[None], state
        kernel, read_kernel = self.recurrent_kernel[:self.units], self.recurrent_kernel[self.units:]

        def step(x, s, kernel):
            h, c = lstm(x + s[0] @ kernel, s[1])
            return h, (h, c)

        hidden, (h, c) = scan(step, z + read @ read_kernel, (state.h, state.c), constants=kernel)
        return tf.concat([state.h[None], hidden], 0), state._replace(h=h, c=c)

    def _previous(self, hidden, read):
        """The h from which the controller goes on at the write."""
        return hidden[-1]

    def step(self, x, state, hidden, writes):
        """One step of a block: `(MemoryState, hidden)`.

        Args:
          x: `[B, d]`. state: `MemoryState`. hidden: `[n, B, H]`, the controller's last outputs.
          writes: bool `[B, 1]`, whether this is the block's last step.
        """
        z, read = self.project(x), last_two_joined(state.read)
        h, c = lstm(z + tf.concat([state.h, read], -1) @ self.recurrent_kernel, state.c)
        new, _, _ = self._advance(z, state._replace(h=self._previous(hidden, read)))
        between = state._replace(h=h, c=c)
        new = MemoryState(*(tf.where(writes[(..., *[None] * (v.shape.rank - 2))], v, other)
                            for v, other in zip(new, between, strict=True)))
        return new, tf.concat([hidden[1:], new.h[None]], 0)

    def kept(self, interval):
        """How many of the controller's last outputs `step` looks at."""
        return 1


@keras.saving.register_keras_serializable("baselines")
class UniformWritingNTM(ntm.NTM):
    """An NTM with Uniform Writing (Le, Tran and Venkatesh, ICLR 2019, arXiv 1901.01347).

    At the steps t = L, 2L, ... it is an NTM. Between them only its controller moves, with the vectors
    last read (`UniformWritingCell` has the equations). With `write_interval=1` it is the NTM.

    From the paper: equation 8, and that reads happen at the writes' steps (algorithm 1). Our choices: an
    NTM in place of the paper's DNC; a read sees the memory before the write of its step, as in the
    paper's equation 1 (algorithm 1 lists the write first); only valid steps count, so that padding
    leaves no trace wherever it is.

    Args:
      write_interval: L, in steps (default: `optimal_interval` of the length of the sequences, which must
        then be known; a built layer keeps it).

    The others: see `NTM`.

    Input and output: see `SequenceLayer`. T need not be a multiple of L.

    Raises:
      ValueError: a size that cannot work, or no write_interval where T is unknown.

    >>> import tensorflow as tf
    >>> from santm_tf.baselines.uw_ntm import UniformWritingNTM
    >>> layer = UniformWritingNTM(8, memory_slots=4, slot_width=4)
    >>> layer(tf.zeros([2, 23, 3])).shape.as_list(), layer.write_interval
    ([2, 8], 4)
    """

    cell_class, every_step = UniformWritingCell, True

    def __init__(self, units, write_interval=None, **kwargs):
        super().__init__(units, **kwargs)
        if write_interval is not None:
            at_least(type(self).__name__, 1, write_interval=write_interval)
        self.write_interval = write_interval

    def build(self, input_shape):
        if self.write_interval is None:
            self.write_interval = optimal_interval(input_shape[1], self.recurrent.cell.memory_slots)
        super().build(input_shape)

    def _loop_shape(self, input_shape):
        batch, _, features = input_shape
        return [batch, None, self.write_interval, features]

    def _features(self, inputs, mask):
        length, steps = self.write_interval, steps_of(inputs)
        blocks = -(-steps // length)
        if mask is not None:
            order, place = pack(tf.cast(mask, tf.bool))
            inputs = at_steps(inputs, order)
        # Steps after the last valid one, repeated or padded, move only states that no output sees.
        inputs = tf.pad(inputs, [[0, 0], [0, -steps % length], [0, 0]])
        outputs = self.recurrent(tf.reshape(inputs, [-1, blocks, length, inputs.shape[-1]]))
        outputs = tf.reshape(outputs, [-1, blocks * length, outputs.shape[-1]])
        if mask is None:
            return outputs[:, :steps] if self.return_sequences else outputs[:, steps - 1]
        outputs = tf.pad(outputs, [[0, 0], [1, 0], [0, 0]])  # zeros, before the first valid step
        return at_steps(outputs, place) if self.return_sequences else at_steps(outputs, place[:, -1:])[:, 0]

    def first_state(self, batch):
        """The cell's state, its last outputs `[B, n, H]`, the place in the block; the last features."""
        cell = self.recurrent.cell
        state = MemoryState(*cell.get_initial_state(batch_size=batch, dtype=self.compute_dtype))
        features = tf.zeros([batch, cell.units + cell.read_heads * cell.slot_width], self.compute_dtype)
        return {**state._asdict(), "hidden": tf.repeat(state.h[:, None], cell.kept(self.write_interval), 1),
                "place": tf.zeros([batch, 1], tf.int32), "features": features}

    def step(self, x, state, valid=None):
        old = MemoryState(*(state[name] for name in MemoryState._fields))
        place = state["place"] + 1
        new, hidden = self.recurrent.cell.step(x, old, swap_time(state["hidden"]),
                                               place == self.write_interval)
        features = tf.concat([new.h, last_two_joined(new.read)], -1)
        after = {**new._asdict(), "hidden": swap_time(hidden), "place": place % self.write_interval,
                 "features": features}
        after = dict(zip(after, held(valid, after.values(), [state[name] for name in after]), strict=True))
        return self.readout(after["features"]), after

    @classmethod
    def for_steps(cls, steps, **options):
        layer = super().for_steps(steps, **options)
        if layer.write_interval is None:
            layer.write_interval = optimal_interval(steps, layer.recurrent.cell.memory_slots)
        return layer

    def get_config(self):
        return {**super().get_config(), "write_interval": self.write_interval}


def make(write_interval: int | None = None, *, steps=None, **options: ntm.make):
    """A `UniformWritingNTM`, with the options of `ntm` and its own.

    Args:
      write_interval: Steps between writes (default: the optimum for the length and the slots).
    """
    return UniformWritingNTM.for_steps(steps, write_interval=write_interval, **options)


@counting.checked
def cost(features, units, steps, write_interval=None, memory_slots=32, slot_width=32, read_heads=1,
         write_heads=1, shift_range=1, return_sequences=False):
    """`D ntm_step + (T - D) (lstm(d, H) + 4 H) + D 8 R W H + readout` FLOPs, D = floor(T / L) writes.

    Between writes the controller alone moves. What it takes from the vectors read is computed once.

    >>> cost(1, 32, steps=784, write_interval=1) == ntm.cost(1, 32, steps=784)
    True
    """
    sizes = memory_slots, slot_width, read_heads, write_heads, shift_range
    writes = steps // (write_interval or optimal_interval(steps, memory_slots))
    between = steps - writes
    from_read = counting.dense(read_heads * slot_width, 4 * units, bias=False)
    return (writes * costs.ntm_step(features, units, *sizes)
            + between * (costs.lstm(features, units) + counting.Cost(4 * units))
            + (writes if between else 0) * from_read
            + (steps if return_sequences else 1) * counting.dense(units + read_heads * slot_width, units))


MODEL = Model(make, cost)
