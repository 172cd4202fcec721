"""SANTM's top level with a memory of which a step touches a few slots, however many there are."""

from typing import NamedTuple

import tensorflow as tf

from santm_tf.errors import ArgumentError
from santm_tf.lstm import lstm, sigmoid
from santm_tf.memory import MemoryCell, write
from santm_tf.recency import Recency
from santm_tf.rows import scan_rows
from santm_tf.sparse import SparseWeights, first, largest, nearest, reached, weights_at


class Controller(NamedTuple):
    """What of a sparse memory's state is carried and kept from step to step."""

    h: tf.Tensor  # [B, H], the controller's output
    c: tf.Tensor  # [B, H], the controller's cell
    read: tf.Tensor  # [B, R, W], the vectors read
    slots: tf.Tensor  # int32 [B, R + writes, k], where the heads were
    values: tf.Tensor  # [B, R + writes, k], and their weights there


@tf.keras.utils.register_keras_serializable("santm_tf")
class SparseMemoryCell(MemoryCell):
    """A `MemoryCell` whose heads keep k weights each, run by `scan_rows`.

    Content is looked for in the k slots most similar to the key; of the slots that interpolation and shift
    reach from there and from the last weights the k largest are kept and made to sum to 1
    (`santm_tf.sparse`). Gradients are exact with respect to the kept weights. With k = N it is the dense
    memory. A write head may write elsewhere (Rae et al. 2016, arXiv 1610.09027, equations 5 and 6):

    `w^w = (1 - alpha) w + alpha 1_lru`,   `M_lru` erased by alpha first,

    lru being the slot that was accessed longest ago (`Recency`), alpha in [0, 1] the head's choice.

    Args:
      units, memory_slots, ...: as of `MemoryCell`.
      top_k: k, from 1 to N.
      allocate: whether write heads may take the slot that was accessed longest ago.

    Raises:
      ValueError: sizes that cannot work.

    >>> import tensorflow as tf
    >>> from santm_tf.sparse_memory import SparseMemoryCell
    >>> cell = SparseMemoryCell(8, memory_slots=1000, slot_width=4)
    >>> cell.build([[None, 3], [None, 1]])
    >>> read, state, memory, _ = cell.run(tf.zeros([5, 2, 3]), tf.ones([5, 2, 1]))
    >>> read.shape.as_list(), memory.shape.as_list()
    ([5, 2, 1, 4], [2, 1000, 4])
    """

    def __init__(self, units, top_k=4, allocate=True, **kwargs):
        super().__init__(units, **kwargs)
        if not 1 <= top_k <= self.memory_slots:
            raise ArgumentError(f"{type(self).__name__}: top_k={top_k}; it must be from 1 to "
                                f"memory_slots={self.memory_slots}")
        self.top_k, self.allocate = top_k, allocate

    def _weighted_slots(self):
        return self.top_k

    def _head_sizes(self):
        return super()._head_sizes() + [self.write_heads] * self.allocate

    def heads(self, h):
        """As of `NTMCell`, and alpha `[B, writes]` of each write head (None without `allocate`)."""
        addressing, erase, add, *allocated = self._head_parts(h)
        return (*self._shaped(addressing, erase, add), sigmoid(allocated[0]) if allocated else None)

    def _control(self, m, state):
        """The controller's next h and c, and what the heads make of h."""
        carried = tf.concat([state.h, tf.reshape(state.read, [-1, self.read_heads * self.slot_width])], -1)
        z, _ = self.project((m, None))
        h, c = lstm(z + carried @ self.recurrent_kernel, state.c)
        return h, c, self.heads(h)

    def first_state(self, batch_size):
        """`(Controller, memory [B, N, W], Recency)` before the first step."""
        state = super().get_initial_state(batch_size=batch_size)
        heads = self.read_heads + self.write_heads
        slots = tf.tile(tf.range(self.top_k)[None, None], [batch_size, heads, 1])
        values = tf.concat([state[3], state[4]], 1)
        return (Controller(*state[:3], slots, values), state[5], Recency.start(batch_size, self.memory_slots))

    def run(self, m, a, state=None):
        """Over the steps of a sequence.

        Args:
          m: `[S, B, d]`. a: `[S, B, 1]`, the access mask, 0 or 1.
          state: `(Controller, memory, Recency)`; by default the first.

        Returns:
          `(read, Controller, memory, Recency)`: the vectors read at every step, `[S, B, R, W]`, and the state
          after the last.
        """
        batch = tf.shape(m)[1]
        controller, memory, order = state or self.first_state(batch)
        slots, width = self.memory_slots, self.slot_width
        # One row more, for what two heads would write to one slot twice.
        flat = tf.concat([tf.reshape(memory, [-1, width]), tf.zeros([1, width], memory.dtype)], 0)
        read, controller, flat, order = scan_rows(self._choose, self._step, (m, a), controller, flat, order)
        return read, controller, tf.reshape(flat[:-1], [-1, slots, width]), order

    def _choose(self, inputs, state, memory, order):
        """The rows read: where content was found, where the heads are, what was not accessed for longest."""
        m, a = inputs
        _, _, (addressing, *_) = self._control(m, state)
        batch, slots, reads = tf.shape(m)[0], self.memory_slots, self.read_heads
        begin = tf.range(batch)[:, None, None] * slots
        whole = tf.reshape(memory[:-1], [-1, slots, self.slot_width])
        found = nearest(tf.tanh(addressing[..., :self.slot_width]), whole, self.top_k)
        places, logits = reached(addressing, found, tf.gather(memory, begin + found),
                                 SparseWeights(state.slots, state.values), slots)
        kept = largest(places, logits, self.top_k)
        written = tf.reshape(kept[:, reads:], [-1, self.write_heads * self.top_k])
        longest_ago = tf.zeros([batch, 0], tf.int32)
        if self.allocate:
            longest_ago = order.least_recent(self.write_heads, batch)
            written = tf.concat([written, longest_ago], 1)
            touched = tf.concat([tf.reshape(kept[:, :reads], [-1, reads * self.top_k]), written], 1)
            order = order.accessed(touched, a[:, 0] > 0)
        writes = tf.where(first(written), begin[:, 0] + written, batch * slots)
        return ((begin + found, begin + kept, begin[:, 0] + longest_ago), (writes,)), order

    def _step(self, inputs, state, read, written, rows):
        m, a = inputs
        (found, kept, longest_ago), (writes,) = rows
        slots, reads = self.memory_slots, self.read_heads
        h, c, (addressing, erase, add, allocated) = self._control(m, state)
        begin = tf.range(tf.shape(m)[0])[:, None, None] * slots
        places, logits = reached(addressing, found - begin, read[0], SparseWeights(state.slots, state.values),
                                 slots)
        own, values = weights_at(kept - begin, places, logits)
        values = tf.cast(values, m.dtype)
        vectors = tf.reduce_sum(values[:, :reads, :, None] * read[1][:, :reads], 2)

        at = tf.cast(kept[:, reads:, :, None] == writes[:, None, None], m.dtype)
        weights, old = tf.reduce_sum(values[:, reads:, :, None] * at, 2), written[0]
        if self.allocate:
            at = tf.cast(longest_ago[..., None] == writes[:, None], m.dtype)
            alpha = allocated[..., None]
            weights = (1 - alpha) * weights + alpha * at
            old *= tf.reduce_prod(1 - a[..., None] * alpha * at, 1)[..., None]
        new = write(old, a[..., None] * weights, erase, add)

        def gate(new, old):
            open_ = tf.reshape(a, [-1] + [1] * (new.shape.rank - 1))
            return open_ * new + (1 - open_) * old if new.dtype.is_floating else tf.where(open_ > 0, new, old)

        state = Controller(*map(gate, Controller(h, c, vectors, own, values), state))
        return state.read, state, (new,)

    def call(self, inputs, states, projected=False):
        raise NotImplementedError("SparseMemoryCell is run by its `run`, not step by step")

    def get_config(self):
        return {**super().get_config(), "top_k": self.top_k, "allocate": self.allocate}
