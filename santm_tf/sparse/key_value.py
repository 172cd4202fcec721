"""SANTM's top level with a memory of keys and values, of which a step reads a few rows."""

from typing import NamedTuple

import tensorflow as tf

from santm_tf.addressing import EPSILON
from santm_tf.errors import ArgumentError, whole
from santm_tf.keras import Cell, keras, register
from santm_tf.ops import at_least_float32, last_two_joined, product, sigmoid
from santm_tf.packing import at_steps, pack
from santm_tf.scan import swap_time
from santm_tf.sparse.reading_on import Found, read_on
from santm_tf.sparse.ring import Ring
from santm_tf.visits import EVERY, Heads, Keep

FLOAT = 4  # bytes
# softplus(beta) and the sigmoid of what is written before training.
FIRST_TEMPERATURE, FIRST_STRENGTH = 3.0, 3.0


class Moves(NamedTuple):
    """The steps, of S, at which a state moves. Elsewhere it is held."""

    there: tf.Tensor  # bool [B, S]
    order: tf.Tensor  # int32 [B, S], those steps, then 0
    place: tf.Tensor  # int32 [B, S], how many there are up to each step

    @classmethod
    def at(cls, there):
        return cls(there, *pack(there))

    def since(self):
        """Of the states before the first step and after each, which each is held from: int32 `[B, S + 1]`."""
        return self.held(tf.zeros_like(self.order[:, 0]), self.order + 1)

    def held(self, first, moved):
        """The state before the first step and after each, `[B, S + 1, ...]`, from that after each move."""
        states = tf.concat([first[:, None], moved], 1)
        return tf.concat([first[:, None], at_steps(states, self.place)], 1)

    def states(self, first, new):
        """The same from what each step would make of it."""
        return self.held(first, at_steps(new, self.order))


class KeyValueState(NamedTuple):
    """What the memory carries from access to access."""

    segment: tf.Tensor  # [B, H], h^m at the last access
    key: tf.Tensor  # [B, R, K], the key of the last segment
    slots: tf.Tensor  # int32 [B, R, k], the slots it found; of heads that read on [B, R, 2k]
    weights: tf.Tensor  # [B, R, k], and their weights; of heads that read on [B, R, 2k + 1], phi the last
    gate: tf.Tensor  # [B, R, W], what of them comes out
    index: tf.Tensor  # [B, N, R K + 1], the keys of each slot and its log s
    memory: tf.Tensor  # [B, N, W], the values
    written: tf.Tensor  # int32 [B, 1], how many rows were written so far


class KeyValueVisits(NamedTuple):
    """`santm_tf.visits.Visits` of a memory of keys and values: the first state and those after each step."""

    weights: tf.Tensor  # [B, states, R, k], of the rows read
    gate: tf.Tensor  # [B, states, R, W]
    near: tf.Tensor  # [B, states, R, k, 2 reach + 1, W], the values in and around the slots read
    gap: tf.Tensor  # [B, states - 1, 1], at the step between two states a - 1, or 0 with its gradient
    since: tf.Tensor  # int32 [B, n], of which of them the n states that are asked for are held
    heads: Heads | None

    @property
    def read(self):
        """r, `[B, states, R, W]`."""
        return self._read(self.near[..., self.near.shape[-2] // 2, :])

    def recalled(self, attention):
        """`o = g (sum_i w_i Y_i)`, `[B, states, R W]`; Y the values where there is no attention."""
        return last_two_joined(self.read if attention is None else self._read(attention.at_centre(self.near)))

    def _read(self, values):
        read = self.gate * tf.reduce_sum(self.weights[..., None] * values, -2)
        # A gate leaves `1 - a` of what was read before, an open one nothing.
        change = self.gap[..., None] * (read[:, 1:] - read[:, :-1])
        return at_steps(read + tf.pad(change, [[0, 0], [1, 0], [0, 0], [0, 0]]), self.since)


@register
class KeyValueMemoryCell(Cell):
    """Rows of a key and a value, one for each segment, found by the key alone.

    `u_t = [m_t ; h_t]`, and at the first access to see that a segment ended, the n-th such,
    `k_n = unit(W_k u_t)`,   `v_n = W_v u_t`,   `s_n = sigmoid(w_s.u_t + b_s)`
    `w_i = softmax_i(beta log(1 + n) k_n.k_{i-1} + log s_i)` over the top k of the n rows there are, and a row
    of logit b_0 and value 0; then `(k_{n-1}, v_n, s_n)` becomes a row
    `o_t = g_t sum_i w_i Y_i`,   `g_t = sigmoid(W_g u_t + b_g)` at every access

    Y is the recall of the values (`santm_tf.levels`). One map W_k makes the keys to read and to write by, as
    in neural episodic control (Pritzel et al. 2017, arXiv 1703.01988). A row holds the value of a segment
    under the key of the segment before, as H3's shift does (Fu et al. 2023, arXiv 2212.14052, section 3): a
    segment that comes again finds what followed it. k_0, before the first segment, is learned, so that the
    first can be found, too. The logarithm keeps the weight of one row among n from
    falling with n (Nakanishi 2025, arXiv 2501.19399).

    While training a gate a_t between 0 and 1 leaves `1 - a_t` of what was read at the access before, so that
    the loss tells what an access is worth. At rest every access reads wholly.

    With `reads_on` a head also reads the rows after those where it was, by a share `phi_n = sigmoid(W_phi u_t
    + b_phi)`, and goes there where `phi_n > 1/2` (`santm_tf.sparse.reading_on`). So it gives a list back in
    order, of which a key finds the first row, whatever its length.

    What is written does not depend on what is read, so a whole sequence is searched at once, by products of
    matrices. A new row takes the slot written longest ago; the one that is next to be taken is not read.

    Args:
      units: not used: there is no controller.
      memory_slots: N. slot_width: W, of a value. key_width: K (default W).
      read_heads: R, each with a key of its own in each row.
      top_k: k, from 1 to N - 1.
      reads_on: whether heads may read on.

    Input `(u, a)`, `[B, d]` and `[B, 1]`; output r `[B, R, W]`; state `KeyValueState`.

    Raises:
      ArgumentError: sizes that cannot work.

    >>> cell = KeyValueMemoryCell(8, memory_slots=1000, slot_width=4)
    >>> cell.build([[None, 3], [None, 1]])
    >>> visits, state = cell.run(tf.zeros([5, 2, 3]), tf.ones([5, 2, 1]))
    >>> visits.read.shape.as_list(), state.memory.shape.as_list()
    ([2, 6, 1, 4], [2, 1000, 4])
    """

    input_count = 2  # for Recurrent
    state_class = KeyValueState
    goes_on = True  # from a state that is handed to it
    lite = False  # TensorFlow Lite has not its operations
    erases = "oldest"  # slot, in a write: see `santm_tf.capacity.recallable`
    by_segment = True  # `run` also takes h^m, and m is [m ; h]

    def __init__(self, units, memory_slots=1024, slot_width=32, read_heads=1, key_width=None, top_k=4,
                 reads_on=False, memory_horizon=None, **kwargs):
        super().__init__(**kwargs)
        name, keys = type(self).__name__, slot_width if key_width is None else key_width
        whole(name, 1, units=units, slot_width=slot_width, read_heads=read_heads, key_width=keys)
        whole(name, 2, memory_slots=memory_slots)
        if not 1 <= top_k < memory_slots:
            raise ArgumentError(f"{name}: top_k={top_k}; it must be from 1 to memory_slots - 1 = "
                                f"{memory_slots - 1}")
        self.units, self.memory_slots, self.slot_width = units, memory_slots, slot_width
        self.read_heads, self.key_width, self.top_k = read_heads, keys, top_k
        self.reads_on, self.memory_horizon = bool(reads_on), memory_horizon
        shape, read = tf.TensorShape, top_k * (1 + self.reads_on)
        self.state_size = list(KeyValueState(
            units, shape([read_heads, keys]), shape([read_heads, read]),
            shape([read_heads, read + self.reads_on]), shape([read_heads, slot_width]),
            shape([memory_slots, read_heads * keys + 1]), shape([memory_slots, slot_width]), 1))
        self.output_size = shape([read_heads, slot_width])

    def build(self, input_shape):
        features, heads, width = input_shape[0][-1], self.read_heads, self.slot_width
        constant, weight = keras.initializers.Constant, self.add_weight
        self.key_kernel = weight(name="key_kernel", shape=[features, heads * self.key_width],
                                 initializer="glorot_uniform")
        self.value_kernel = weight(name="value_kernel", shape=[features, width],
                                   initializer="glorot_uniform")
        self.strength_kernel = weight(name="strength_kernel", shape=[features, 1], initializer="zeros")
        self.strength_bias = weight(name="strength_bias", shape=[1], initializer=constant(FIRST_STRENGTH))
        self.gate_kernel = weight(name="gate_kernel", shape=[features, heads * width],
                                  initializer="glorot_uniform")
        self.gate_bias = weight(name="gate_bias", shape=[heads * width], initializer="zeros")
        if self.reads_on:
            self.on_kernel = weight(name="on_kernel", shape=[features, heads], initializer="glorot_uniform")
            self.on_bias = weight(name="on_bias", shape=[heads], initializer="zeros")
        self.temperature_bias = weight(name="temperature_bias", shape=[heads, 1],
                                       initializer=constant(FIRST_TEMPERATURE))
        self.none_bias = weight(name="none_bias", shape=[heads, 1], initializer="zeros")
        self.first_key = weight(name="first_key", shape=[heads, self.key_width],
                                initializer=keras.initializers.RandomNormal(stddev=1.0))
        super().build(input_shape)

    def get_initial_state(self, inputs=None, batch_size=None, dtype=None):
        if inputs is not None:
            batch_size = tf.shape(tf.nest.flatten(inputs)[0])[0]
        dtype = dtype or self.compute_dtype
        integers = "slots", "written"
        state = KeyValueState(*(
            tf.zeros([batch_size, *tf.TensorShape(size)], tf.int32 if name in integers else dtype)
            for name, size in zip(KeyValueState._fields, self.state_size, strict=True)))
        return list(state._replace(key=state.key + tf.cast(_unit(self.first_key), dtype)))

    def run(self, m, a, state=None, keep=EVERY, steps=None, segment=None):
        """See `santm_tf.memories`.

        Args:
          m: u, `[S, B, d]`. a: `[S, B, 1]`; beyond `steps` it is 0.
          segment: h^m `[S, B, H]`. A segment ended where it changed (default: at every access).
        """
        u, a = swap_time(m), swap_time(a)
        starts = state is None
        if starts:
            state = self.get_initial_state(batch_size=tf.shape(u)[0], dtype=u.dtype)
        state, opened = KeyValueState(*state), Moves.at(a[..., 0] > 0)
        segment = None if segment is None else swap_time(segment)
        segments, ended = self._segments(state.segment, segment, opened)
        keys = ended.states(state.key, new := self._keys(u))
        ring, written, strength = self._write(u, keys[:, :-1], ended, state, starts)
        slots, weights = self._looked_up(ring, at_steps(new, ended.order), tf.where(
            tf.sequence_mask(ended.place[:, -1], tf.shape(u)[1]), at_steps(written, ended.order), 0))
        slots, weights = self._read(u, ended, Found(slots, weights), state)
        gates = opened.states(state.gate, self._gate(u))
        end = KeyValueState(segments[:, -1], keys[:, -1], slots[:, -1], weights[:, -1], gates[:, -1],
                            *tf.split(ring.memory(written[:, -1:]), [-1, self.slot_width], -1),
                            written[:, -1:])
        weights = weights[..., :slots.shape[-1]]  # less phi
        heads = self._heads(u, strength, slots, weights, written) if keep.heads else None
        seen = slots, weights, gates, written
        since = opened.since()
        if not keep.every:  # the last state, and that before the last access
            last = tf.maximum(since[:, -1:] - 1, 0)
            seen, a = [tf.concat([at_steps(v, last), v[:, -1:]], 1) for v in seen], at_steps(a, last)
            since = tf.ones_like(last)
        whole = tf.ones_like(a) if keep.partly else tf.stop_gradient(a)
        return self._visits(ring, *seen, a - whole, since, keep.reach or 0, heads), end

    def _read(self, u, ended, found, state):
        """What is read before the first step and after each, as it is in a state."""
        before = Found(state.slots, state.weights)
        if self.reads_on:
            phi = sigmoid(product(at_steps(u, ended.order), self.on_kernel) + self.on_bias)
            found = read_on(phi, found, before, self.memory_slots)
        return map(ended.held, before, found)

    def _segments(self, before, segment, opened):
        """h^m before the first step and after each access, and the accesses at which it had moved."""
        if segment is None:
            return before[:, None], opened
        segments = opened.states(before, segment)
        moved = tf.reduce_any(segments[:, :-1] != segment, -1)
        return segments, Moves.at(opened.there & moved)

    def _write(self, u, keys, ended, state, starts):
        """All rows, how many there are before the first step and after each, what each step wrote of s."""
        rows, strength = self._rows(keys, u)
        old = () if starts else (tf.concat([state.index, state.memory], -1), state.written)
        ring = Ring.of(at_steps(rows, ended.order), self.memory_slots, *old)
        return (ring, tf.concat([state.written, state.written + ended.place], 1),
                strength * tf.cast(ended.there, strength.dtype))

    def _gate(self, u):
        """g, `[B, S, R, W]`."""
        return self._shaped(sigmoid(product(u, self.gate_kernel) + self.gate_bias), self.slot_width)

    def _visits(self, ring, slots, weights, gates, written, gap, since, reach, heads):
        around = (slots[..., None] + tf.range(-reach, reach + 1)) % self.memory_slots
        near = ring.at(around, written[..., None, None, None], slice(-self.slot_width, None))
        return KeyValueVisits(weights, gates, near, gap, since, heads)

    def _shaped(self, x, width):
        return tf.reshape(x, tf.concat([tf.shape(x)[:2], [self.read_heads, width]], 0))

    def _keys(self, u):
        """k, `[B, S, R, K]`."""
        return _unit(self._shaped(product(u, self.key_kernel), self.key_width))

    def _rows(self, keys, u):
        """What each step would write, `[k ; log s ; v]`, and its strength s, `[B, S]`."""
        strength = product(u, self.strength_kernel) + self.strength_bias
        rows = [last_two_joined(keys), tf.math.log_sigmoid(strength), product(u, self.value_kernel)]
        return tf.concat(rows, -1), sigmoid(strength[..., 0])

    def _sharpness(self, written, dtype):
        """`beta log(1 + n)`, `[B, S, R, 1]`."""
        count = tf.cast(tf.minimum(written, self.memory_slots), dtype)[..., None, None]
        return tf.math.softplus(tf.cast(self.temperature_bias, dtype)) * tf.math.log1p(count)

    def _looked_up(self, ring, query, written):
        """The slots that the segments' keys find and their weights, `[B, S, R, k]`."""
        dtype, query = query.dtype, at_least_float32(query)
        query *= self._sharpness(written, query.dtype)
        keys, strength = self._stored(ring.rows[..., :-self.slot_width])
        slots, there = ring.best(tf.concat([query, tf.ones_like(query[..., :1])], -1),
                                 tf.concat([keys, strength], -1), written, self.top_k)
        keys, strength = self._stored(ring.at(slots, written[..., None, None], slice(0, -self.slot_width)))
        own = tf.reduce_sum(keys * tf.eye(self.read_heads, dtype=keys.dtype)[:, None, :, None], -2)
        scores = tf.reduce_sum(query[..., None, :] * own, -1) + strength[..., 0, 0]
        scores = tf.where(there, scores, -1e30)
        none = tf.broadcast_to(tf.cast(self.none_bias, scores.dtype), tf.shape(scores[..., :1]))
        return slots, tf.cast(tf.nn.softmax(tf.concat([none, scores], -1))[..., 1:], dtype)

    def _stored(self, rows):
        """Of rows `[..., R K + 1]` the keys `[..., R, K]`, and log s for each, `[..., R, 1]`."""
        keys, strength = tf.split(at_least_float32(rows), [-1, 1], -1)
        keys = tf.reshape(keys, tf.concat([tf.shape(keys)[:-1], [self.read_heads, self.key_width]], 0))
        return keys, tf.repeat(strength[..., None], self.read_heads, -2)

    def _heads(self, u, strength, slots, weights, written):
        """`Heads`, time-major."""
        at = (written[:, :-1] % self.memory_slots)[..., None, None]
        wrote = tf.cast(written[:, 1:] - written[:, :-1], u.dtype)
        return Heads(*map(swap_time, (
            u, slots[:, 1:], weights[:, 1:], at, strength[..., None, None],
            1 - wrote / self.memory_slots)))

    def call(self, inputs, states):
        u, a = inputs
        visits, state = self.run(u[None], a[None], KeyValueState(*states), Keep(every=False))
        return visits.read[:, 0], list(state)

    def bytes_kept(self, visits):
        """The rows that are written and read, with their gradients.

        >>> KeyValueMemoryCell(8, slot_width=32).bytes_kept(visits=100) / 2**10
        253.90625
        """
        row = self.read_heads * self.key_width + self.slot_width + 1
        return FLOAT * 2 * visits * row * (1 + self.read_heads * self.top_k * (1 + self.reads_on))

    def check_recall(self, attention):
        """Raises an `ArgumentError` for a recall from all slots: visits see neighbourhoods alone."""
        if 2 * attention.locality >= self.memory_slots:
            raise ArgumentError(f"SANTM: locality={attention.locality} makes all {self.memory_slots} slots "
                                "neighbours; memory='key_value' recalls locally: use fewer than half of them")

    def get_config(self):
        names = ("units", "memory_slots", "slot_width", "read_heads", "key_width", "top_k", "reads_on",
                 "memory_horizon")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _unit(key):
    """Keys `[..., K]` of length 1."""
    precise = at_least_float32(tf.convert_to_tensor(key))
    length = tf.sqrt(tf.reduce_sum(precise ** 2, -1, keepdims=True) + EPSILON)
    return tf.cast(precise / length, key.dtype)
