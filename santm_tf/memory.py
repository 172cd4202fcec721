"""The external memory and its controller: the Neural Turing Machine, and SANTM's top level."""

from typing import Any, NamedTuple

import tensorflow as tf

from santm_tf.addressing import ADDRESSING
from santm_tf.errors import ArgumentError, whole
from santm_tf.gradients import custom_gradient
from santm_tf.keras import Cell, keras, register
from santm_tf.lstm import ChronoBias, lstm
from santm_tf.ops import gated, last_two_joined, product, sigmoid
from santm_tf.recurrent import split
from santm_tf.saving import OldNames
from santm_tf.scan import scan, swap_time
from santm_tf.types import Config, Nest, Shape, States
from santm_tf.visits import EVERY, Heads, Keep, Visits

FLOAT = 4  # bytes
HEAD_CLIP = 20.0
CONSTANT = 1e-6  # what every slot of a constant memory holds at the start


class MemoryState(NamedTuple):
    """What the top level carries from step to step."""

    h: tf.Tensor  # [B, H], the controller's output
    c: tf.Tensor  # [B, H], the controller's cell
    read: tf.Tensor  # [B, R, W], the vectors read
    read_weights: tf.Tensor  # [B, R, N]
    write_weights: tf.Tensor  # [B, writes, N]
    memory: tf.Tensor  # [B, N, W]


def write(memory, weights, erase, add):
    """`M_i prod (1 - w^w_i e) + sum w^w_i v` over the write heads (Graves et al. 2014, equations 3 and 4).

    Args:
      memory: `[B, N, W]`.
      weights: w^w, `[B, heads, N]`. erase, add: e in [0, 1] and v, `[B, heads, W]`.

    Returns:
      `[B, N, W]`.

    >>> w = tf.constant([[[1.0, 0.0]]])
    >>> write(tf.ones([1, 2, 1]), w, tf.ones([1, 1, 1]), 5 * tf.ones([1, 1, 1])).numpy().ravel()
    array([5., 1.], dtype=float32)
    """
    heads = range(weights.shape[1])

    @custom_gradient
    def run(memory, weights, erase, add):
        gates = [1 - weights[:, h, :, None] * erase[:, h, None, :] for h in heads]
        erased = [memory]
        for gate in gates:
            erased.append(erased[-1] * gate)
        written = sum((weights[:, h, :, None] * add[:, h, None, :] for h in heads), erased[-1])

        def backward(upstream):
            # By hand, with products for the sums over slots: XLA's CPU code sums a last axis slowly.
            d_weights = tf.matmul(add, upstream, transpose_b=True)
            d_add = tf.matmul(weights, upstream)
            from_erasing, d_erase = [], []
            for h in reversed(heads):
                lost = upstream * erased[h]
                from_erasing.insert(0, -tf.matmul(erase[:, h:h + 1], lost, transpose_b=True))
                d_erase.insert(0, -tf.matmul(weights[:, h:h + 1], lost))
                upstream *= gates[h]
            return upstream, d_weights + tf.concat(from_erasing, 1), tf.concat(d_erase, 1), d_add

        return written, backward

    return run(memory, weights, erase, add)


@register
class NTMCell(OldNames, Cell):
    """A Neural Turing Machine with an LSTM controller (Graves et al. 2014, arXiv 1410.5401).

    `h_t, c_t = LSTM([x_t ; r_{t-1}]; h_{t-1}, c_{t-1})`
    `w^r_t, w^w_t = address(heads(h_t), M_{t-1}, w_{t-1})`   (`santm_tf.addressing.address`)
    `r_t = w^r_t M_{t-1}`,   `M_t = write(M_{t-1}, w^w_t, e_t, v_t)`

    The heads read before they write. The heads' raw outputs are clipped to [-20, 20].

    Args:
      units: H, the controller's.
      memory_slots: N >= 2. slot_width: W.
      read_heads: R. write_heads: J - R.
      shift_range: F, the furthest shift; 2F + 1 <= N.
      memory_init: "learned" (`tanh` of weights), or "constant" (1e-6 everywhere, which Collier and Beel 2018,
        arXiv 1807.08518, find the most stable).
      memory_horizon: the longest memory wanted of the controller, in steps (`ChronoBias`).
      addressing: how a head finds its slots, one of `santm_tf.addressing.ADDRESSING`.

    Input `[B, d]`; output `[h_t ; r_t]`, `[B, H + R W]`; state `MemoryState`.

    Raises:
      ValueError: a size that cannot work.

    >>> from santm_tf import NTMCell, Recurrent
    >>> Recurrent(NTMCell(8, memory_slots=16, slot_width=4))(tf.zeros([2, 5, 3])).shape.as_list()
    [2, 12]
    """

    def __init__(self, units: int, memory_slots: int = 32, slot_width: int = 32, read_heads: int = 1,
                 write_heads: int = 1, shift_range: int = 1, memory_init: str = "learned",
                 memory_horizon: int = 100, addressing: str = "ntm", **kwargs: Any):
        super().__init__(**kwargs)
        name = type(self).__name__
        whole(name, 1, units=units, slot_width=slot_width, read_heads=read_heads, write_heads=write_heads)
        whole(name, 2, memory_slots=memory_slots)
        whole(name, 0, shift_range=shift_range)
        if 2 * shift_range + 1 > memory_slots:
            raise ArgumentError(f"{name}: shift_range={shift_range} needs at least "
                             f"{2 * shift_range + 1} memory_slots, not {memory_slots}")
        if memory_init not in ("learned", "constant"):
            raise ArgumentError(f"{name}: memory_init={memory_init!r}; use 'learned' or 'constant'")
        if addressing not in ADDRESSING:
            raise ArgumentError(f"{name}: addressing={addressing!r}; use one of {', '.join(ADDRESSING)}")
        self.units, self.memory_slots, self.slot_width = units, memory_slots, slot_width
        self.read_heads, self.write_heads, self.shift_range = read_heads, write_heads, shift_range
        self.memory_init, self.memory_horizon, self.addressing = memory_init, memory_horizon, addressing
        self.state_size = list(MemoryState(
            units, units, tf.TensorShape([read_heads, slot_width]),
            tf.TensorShape([read_heads, memory_slots]), tf.TensorShape([write_heads, memory_slots]),
            tf.TensorShape([memory_slots, slot_width])))
        self.output_size = units + read_heads * slot_width

    def build(self, input_shape: Shape) -> None:
        units, width, slots = self.units, self.slot_width, self.memory_slots
        heads = self.read_heads + self.write_heads
        carried = units + self.read_heads * width
        self.kernel = self.add_weight(name="kernel", shape=[input_shape[-1], 4 * units],
                                      initializer="glorot_uniform")
        self.recurrent_kernel = self.add_weight(name="recurrent_kernel", shape=[carried, 4 * units],
                                                initializer="glorot_uniform")
        self.bias = self.add_weight(name="bias", shape=[4 * units],
                                    initializer=ChronoBias(self.memory_horizon))
        head_outputs = sum(self._head_sizes())
        self.head_kernel = self.add_weight(name="head_kernel", shape=[units, head_outputs],
                                           initializer=self._first_head_kernel)
        self.head_bias = self.add_weight(name="head_bias", shape=[head_outputs],
                                         initializer=self._first_head_bias)
        normal = keras.initializers.RandomNormal
        self.initial_read = self.add_weight(name="initial_read", shape=[self.read_heads, width],
                                            initializer="zeros")
        self.initial_weights = self.add_weight(name="initial_weights", shape=[heads, self._weighted_slots()],
                                               initializer=normal(stddev=1.0))
        if self.memory_init == "learned":
            self.initial_memory = self.add_weight(name="initial_memory", shape=[slots, width],
                                                  initializer=normal(stddev=0.5))
        super().build(input_shape)

    def get_initial_state(self, inputs: Nest = None, batch_size: int | tf.Tensor | None = None,
                          dtype: tf.DType | str | None = None) -> list[tf.Tensor]:
        if inputs is not None:
            batch_size = tf.shape(tf.nest.flatten(inputs)[0])[0]
        if not self.built:
            raise ArgumentError(f"{type(self).__name__}: build the cell before asking for its state")
        dtype = tf.as_dtype(dtype or self.compute_dtype)
        weights = tf.nn.softmax(tf.cast(self.initial_weights, dtype))
        memory = (tf.tanh(tf.cast(self.initial_memory, dtype)) if self.memory_init == "learned"
                  else tf.fill([self.memory_slots, self.slot_width], tf.cast(CONSTANT, dtype)))
        zeros = tf.zeros([batch_size, self.units], dtype)

        def each(v):
            return tf.tile(v[None], [batch_size] + [1] * v.shape.rank)

        return list(MemoryState(
            zeros, zeros, each(tf.tanh(tf.cast(self.initial_read, dtype))),
            each(weights[:self.read_heads]), each(weights[self.read_heads:]), each(memory)))

    def project(self, inputs: tf.Tensor) -> tf.Tensor:
        """`x W + b` for any leading axes: what depends on the input alone."""
        return product(inputs, self.kernel) + self.bias

    def heads(self, h: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """What the heads make of the controller's output `[B, H]`: `(addressing, erase, add)`.

        `[B, J, head_width]` as `address` takes it, and `[B, J - R, W]` twice, in [0, 1] and [-1, 1].
        """
        return self._shaped(*self._head_parts(h))

    def _head_sizes(self):
        """How many numbers the controller gives for the heads: addressing, erase and add vectors."""
        width, writes = self.slot_width, self.write_heads
        heads = self.read_heads + writes
        return [heads * self._head_width(), writes * width, writes * width]

    def _head_width(self):
        """How many of them one head's addressing takes."""
        return ADDRESSING[self.addressing].width(self.slot_width, self.shift_range)

    def _weighted_slots(self):
        """How many slots a head has weights for."""
        return self.memory_slots

    def _first_head_kernel(self, shape, dtype=None, **_):
        return keras.initializers.GlorotUniform()(shape, dtype)

    def _first_head_bias(self, shape, dtype=None, **_):
        return tf.zeros(shape, dtype)

    def _head_parts(self, h):
        raw = tf.clip_by_value(h @ self.head_kernel + self.head_bias, -HEAD_CLIP, HEAD_CLIP)
        return tf.split(raw, self._head_sizes(), -1)

    def _shaped(self, addressing, erase, add):
        width, writes = self.slot_width, self.write_heads
        return (tf.reshape(addressing, [-1, self.read_heads + writes, self._head_width()]),
                sigmoid(tf.reshape(erase, [-1, writes, width])),
                tf.tanh(tf.reshape(add, [-1, writes, width])))

    def call(self, inputs: tf.Tensor, states: States,
             projected: bool = False) -> tuple[tf.Tensor, list[tf.Tensor]]:
        z = inputs if projected else self.project(inputs)
        new, _, _ = self._advance(z, MemoryState(*states))
        return tf.concat([new.h, last_two_joined(new.read)], -1), list(new)

    def _advance(self, z, state, a=None):
        """One step from the controller's projected input: the state after it, the write weights, e_t.

        With a `[B, 1]` the memory is held where a = 0, through the write weights: gating the whole of it
        would be the dearest part of a step.
        """
        reads = self.read_heads
        carried = tf.concat([state.h, last_two_joined(state.read)], -1)
        h, c = lstm(z + carried @ self.recurrent_kernel, state.c)
        head, erase, add = self.heads(h)
        weights = ADDRESSING[self.addressing].address(
            head, state.memory, tf.concat([state.read_weights, state.write_weights], 1))
        read_weights, write_weights = weights[:, :reads], weights[:, reads:]
        written = write_weights if a is None else a[..., None] * write_weights
        memory = write(state.memory, written, erase, add)
        new = MemoryState(h, c, tf.matmul(read_weights, state.memory), read_weights, write_weights, memory)
        return new, written, erase

    def bytes_kept(self, visits: int) -> int:
        """Bytes that training on one sequence keeps: memory and weights at each step that visits it.

        >>> NTMCell(8, memory_slots=32, slot_width=32).bytes_kept(visits=784) / 2**20
        3.25390625
        """
        heads = self.read_heads + self.write_heads
        return FLOAT * visits * self.memory_slots * (self.slot_width + heads)

    def get_config(self) -> Config:
        names = ("units", "memory_slots", "slot_width", "read_heads", "write_heads", "shift_range",
                 "memory_init", "memory_horizon", "addressing")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@register
class MemoryCell(NTMCell):
    """SANTM's top level: an NTM that acts where the access mask is 1 and is held elsewhere.

    `M_t = write(M_{t-1}, a_t w^w_t, e_t, v_t)`, and of the rest of the state `a_t new + (1 - a_t) old`.

    Shan et al. 2025; docs/equations.md, top. Arguments as in `NTMCell`. Input `(m, a)`, `[B, d]` and
    `[B, 1]`, a from 0 to 1; output `(read weights, memory)`, `[B, R, N]` and `[B, N, W]`.

    >>> from santm_tf import MemoryCell, Recurrent
    >>> top = Recurrent(MemoryCell(8, memory_slots=16, slot_width=4))
    >>> read_weights, memory = top((tf.zeros([2, 5, 3]), tf.ones([2, 5, 1])))
    >>> read_weights.shape.as_list(), memory.shape.as_list()
    ([2, 1, 16], [2, 16, 4])
    """

    input_count = 2  # for Recurrent
    state_class = MemoryState
    goes_on = True  # from a state that is handed to it
    lite = True  # TensorFlow Lite has its operations
    erases = "share"  # of every slot, on average, in a write: see `santm_tf.capacity.recallable`
    by_segment = False  # `run` takes m alone

    def __init__(self, units: int, **kwargs: Any):
        super().__init__(units, **kwargs)
        self.output_size = [tf.TensorShape([self.read_heads, self.memory_slots]),
                            tf.TensorShape([self.memory_slots, self.slot_width])]

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape[0])
        Cell.build(self, input_shape)  # what is saved is the shape of both inputs

    def project(self, inputs: Nest) -> tuple[tf.Tensor, tf.Tensor]:
        m, a = inputs
        return super().project(m), a

    def call(self, inputs: Nest, states: States, projected: bool = False,
             heads: bool = False) -> tuple[Nest, list[tf.Tensor]]:
        z, a = inputs if projected else self.project(inputs)
        old = MemoryState(*states)
        new, written, erase = self._advance(z, old, a)
        rest = (gated(a, v, held) for v, held in zip(new[:-1], old[:-1], strict=True))
        new = MemoryState(*rest, new.memory)
        emitted = new.read_weights, new.memory
        if heads:
            left = tf.reduce_prod(1 - written[..., None] * erase[:, :, None], 1)
            emitted = *emitted, written, tf.reduce_mean(left, [1, 2])
        return emitted, list(new)

    def run(self, m: tf.Tensor, a: tf.Tensor, state: MemoryState | None = None, keep: Keep = EVERY,
            steps: tf.Tensor | None = None) -> tuple[Visits, MemoryState]:
        """Over the steps of a sequence: `(Visits, MemoryState)`. See `santm_tf.memories`.

        Args:
          m: `[S, B, d]`. a: `[S, B, 1]`, the access mask.
          state: `MemoryState`; by default the first.
          keep: `Keep`.
          steps: how many of the S steps to run, an int tensor (default: all); what is kept beyond is of no
            meaning.
        """
        if state is None:
            state = self.get_initial_state(batch_size=tf.shape(m)[1], dtype=m.dtype)
        first = MemoryState(*state)
        names = ("read",) if keep.reach is None else ("read_weights", "memory")
        (m, a), options = split(self, (m, a))

        def step(x, s):
            (_, _, *seen), new = self(x, s, heads=keep.heads, **options)
            state = MemoryState(*new)
            kept = [getattr(state, name) for name in names] if keep.every else []
            return (kept, [state.h, state.read_weights, *seen] if keep.heads else []), new

        (after, seen), end = scan(step, (m, a), list(first), steps=steps)
        end = MemoryState(*end)
        kept = dict.fromkeys(("read", "read_weights", "memory"))
        for n, name in enumerate(names):
            kept[name] = (tf.concat([getattr(first, name)[:, None], swap_time(after[n])], 1) if keep.every
                          else getattr(end, name)[:, None])
        return Visits(*kept.values(), self._heads(*seen) if keep.heads else None), end

    def _heads(self, h, read_weights, written, left):
        slots = tf.broadcast_to(tf.range(self.memory_slots), tf.shape(read_weights))
        return Heads(h, slots, read_weights, tf.broadcast_to(tf.range(self.memory_slots), tf.shape(written)),
                     written, left)

    def check_recall(self, attention: keras.layers.Layer | None) -> None:
        """A `ChebAttention` of any locality recalls from all slots."""
