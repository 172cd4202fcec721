"""SANTM's top level with a memory of which a step touches a few slots, however many there are."""

import tensorflow as tf

from santm_tf.errors import ArgumentError
from santm_tf.keras import register
from santm_tf.lstm import lstm
from santm_tf.memory import CONSTANT, FLOAT, MemoryCell, MemoryState, write
from santm_tf.ops import at_least_float32, gated, in_xla, last_two_joined, sigmoid, smart_cond, steps_of
from santm_tf.recurrent import split
from santm_tf.sparse.recency import Recency
from santm_tf.sparse.rows import Rows, scan_rows
from santm_tf.sparse.search import Hashed, Written, nearest, nearest_or_other
from santm_tf.sparse.sparsemax import sparsemax
from santm_tf.sparse.state import Controller, SparseMemoryState, SparseVisits
from santm_tf.sparse.weights import SparseWeights, first, largest, reached, read, weights_at
from santm_tf.visits import EVERY, Heads

# So many rows are looked through, which misses none, in a fifth of a millisecond (benchmarks/search.py).
EXACT_UP_TO = 20_000
# Biases of what heads say at first: beta = softplus(3), g = sigmoid(2), 91 % no shift, alpha = sigmoid(2).
FIRST_STRENGTH, FIRST_GATE, FIRST_SHIFT, FIRST_ALPHA = 3.0, 2.0, 3.0, 2.0


@register
class SparseMemoryCell(MemoryCell):
    """A `MemoryCell` whose heads keep k weights each; `run` takes a whole sequence at once.

    Content is looked for in the k slots most similar to the key. Interpolation and shift reach further slots
    from there and from the last weights. The k largest weights are kept and made to sum to 1
    (`santm_tf.sparse.weights`); gradients are exact with respect to those. With k = N it is the dense memory.
    A write head may write elsewhere (Rae et al. 2016, arXiv 1610.09027, equations 5 and 6):

    `w^w = (1 - alpha) w + alpha 1_lru`,   `M_lru` erased by alpha first,

    lru the slot that was accessed longest ago (`Recency`), alpha in [0, 1] the head's choice.

    From a constant memory the time of a step does not depend on N, beside 3 N integers made at the start.
    From a learned one, or a state that is given, every step looks at all slots for the most similar.

    Args:
      units, memory_slots, ...: see `NTMCell`.
      top_k: k, from 1 to N.
      allocate: whether write heads may take the slot that was accessed longest ago.
      normaliser: "softmax", or "sparsemax" (Martins and Astudillo 2016, arXiv 1602.02068) for weights of
        which some of the k are exactly 0.
      search: "exact", "lsh" (`search.Hashed`, needs a constant memory), or "auto": "lsh" from a constant
        memory to which a sequence, its length being known, writes more than 20,000 rows.
      reads: "gather" sums the rows read by their weights. "sparse" takes a `tf.sparse` product, which is
        never faster (`benchmarks/sparse_products.py`); compiled by XLA it is "gather".

    Input, output as in `MemoryCell`, with weights over all slots; state `SparseMemoryState`.

    Raises:
      ValueError: sizes that cannot work.

    >>> cell = SparseMemoryCell(8, memory_slots=1000, slot_width=4)
    >>> cell.build([[None, 3], [None, 1]])
    >>> visits, state = cell.run(tf.zeros([5, 2, 3]), tf.ones([5, 2, 1]))
    >>> visits.read.shape.as_list(), state.memory.shape.as_list()
    ([6, 2, 1, 4], [2, 1000, 4])
    """

    state_class = SparseMemoryState
    lite = False

    def __init__(self, units, top_k=4, allocate=True, normaliser="softmax", search="auto",
                 reads="gather", **kwargs):
        super().__init__(units, **kwargs)
        name, slots = type(self).__name__, self.memory_slots
        if self.addressing != "ntm":
            raise ArgumentError(f"{name}: addressing={self.addressing!r}; a sparse memory has 'ntm' alone")
        if not 1 <= top_k <= slots:
            raise ArgumentError(f"{name}: top_k={top_k}; it must be from 1 to memory_slots={slots}")
        if search not in ("auto", "exact", "lsh"):
            raise ArgumentError(f"{name}: search={search!r}; use 'auto', 'exact' or 'lsh'")
        if search == "lsh" and self.memory_init != "constant":
            raise ArgumentError(f"{name}: search='lsh' finds what was written; it needs "
                                "memory_init='constant'")
        if reads not in ("gather", "sparse"):
            raise ArgumentError(f"{name}: reads={reads!r}; use 'gather' or 'sparse'")
        if normaliser not in ("softmax", "sparsemax"):
            raise ArgumentError(f"{name}: normaliser={normaliser!r}; use 'softmax' or 'sparsemax'")
        self.top_k, self.allocate, self.normaliser, self.search = top_k, allocate, normaliser, search
        self.reads, self.goes_on = reads, search != "lsh"
        self._normalise = {"softmax": tf.nn.softmax, "sparsemax": sparsemax}[normaliser]
        heads, width = self.read_heads + self.write_heads, self.slot_width
        shape = tf.TensorShape
        self.state_size = list(SparseMemoryState(
            units, units, shape([self.read_heads, width]), shape([heads, top_k]), shape([heads, top_k]),
            width, 1, shape([slots, width]), shape([slots])))

    def _weighted_slots(self):
        return self.top_k

    def _head_sizes(self):
        return super()._head_sizes() + [self.write_heads] * self.allocate

    def _first_head_kernel(self, shape, dtype=None, **_):
        """Every head's first key is what a write head would add: a head finds what was written like it.

        Of a dense memory each slot has a gradient and keys can begin anywhere; here those found alone have.
        """
        kernel = super()._first_head_kernel(shape, dtype)
        addressing, erase, add, *allocated = tf.split(kernel, self._head_sizes(), -1)
        heads, writes = self.read_heads + self.write_heads, self.write_heads
        keys = tf.gather(tf.reshape(add, [shape[0], writes, -1]), tf.range(heads) % writes, axis=1)
        rest = tf.reshape(addressing, [shape[0], heads, -1])[..., self.slot_width:]
        addressing = tf.reshape(tf.concat([keys, rest], -1), [shape[0], -1])
        return tf.concat([addressing, erase, add, *allocated], -1)

    def _first_head_bias(self, shape, dtype=None, **_):
        """At first heads look where content is found, and write to the slot accessed longest ago."""
        shifts = [FIRST_SHIFT if n == self.shift_range else 0 for n in range(2 * self.shift_range + 1)]
        head = [0] * self.slot_width + [FIRST_STRENGTH, FIRST_GATE, *shifts, 0]
        bias = head * (self.read_heads + self.write_heads) + [0] * (2 * self.write_heads * self.slot_width)
        return tf.constant(bias + [FIRST_ALPHA] * self.write_heads * self.allocate, dtype)

    def heads(self, h):
        """As in `NTMCell`, and alpha `[B, writes]` of each write head (None without `allocate`)."""
        addressing, erase, add, *allocated = self._head_parts(h)
        return (*self._shaped(addressing, erase, add), sigmoid(allocated[0]) if allocated else None)

    def _control(self, m, state, projected=False):
        """The controller's next h and c, and what the heads make of h."""
        carried = tf.concat([state.h, last_two_joined(state.read)], -1)
        z = m if projected else self.project((m, None))[0]
        h, c = lstm(z + carried @ self.recurrent_kernel, state.c)
        return h, c, self.heads(h)

    def _start(self, batch_size, dtype=None):
        """The first `Controller`, and a learned memory `[N, W]` or the one row of a constant one."""
        state = MemoryState(*super().get_initial_state(batch_size=1, dtype=dtype))
        slots = tf.tile(tf.range(self.top_k)[None, None], [1, self.read_heads + self.write_heads, 1])
        weights = tf.concat([state.read_weights, state.write_weights], 1)
        learned = self.memory_init == "learned"
        memory = state.memory[0, :None if learned else 1]
        total = tf.reduce_sum(at_least_float32(memory), 0, keepdims=True) * learned
        first = Controller(state.h, state.c, state.read, slots, weights, total,
                           tf.fill([1, 1], tf.cast(self.memory_slots * learned, total.dtype)))
        return tf.nest.map_structure(lambda v: tf.repeat(v, batch_size, 0), first), memory

    def get_initial_state(self, inputs=None, batch_size=None, dtype=None):
        if inputs is not None:
            batch_size = tf.shape(tf.nest.flatten(inputs)[0])[0]
        controller, initial = self._start(batch_size, dtype)
        memory = tf.broadcast_to(initial, [batch_size, self.memory_slots, self.slot_width])
        order = tf.tile(tf.range(self.memory_slots)[None], [batch_size, 1])
        return list(SparseMemoryState(*controller, memory, order))

    @tf.autograph.experimental.do_not_convert  # there is nothing to convert, and looking takes seconds
    def run(self, m, a, state=None, keep=EVERY, steps=None):
        """See `MemoryCell.run`; the state is a `SparseMemoryState`, the visits are `SparseVisits`."""
        batch, reach = tf.shape(m)[1], keep.reach or 0
        length = steps_of(m, axis=0)
        if state is None:
            controller, initial = self._start(batch, m.dtype)
            order = Recency.start(batch, self.memory_slots, *self._accesses(length))
        else:
            state = SparseMemoryState(*state)
            controller, order = Controller(*state[:-2]), Recency.of(state.order, *self._accesses(length))
            initial = tf.reshape(state.memory, [-1, self.slot_width])
        memory = Rows.start(initial, batch, self.memory_slots, length * self._writes() + 1)
        index, finds_all = self._index(memory, batch, length, state is None)
        (m, a), options = split(self, (m, a))
        sparse = self.reads == "sparse" and not in_xla()  # said here for backward, too, which cannot know
        first_near = tf.gather(memory.holds, self._around(controller.slots, reach))
        (after, *were), near, end, memory, (order, _) = scan_rows(
            lambda *given: self._choose(*given, reach, finds_all, **options),
            # Through `call`, so that backward, too, Keras gives it the weights in the layer's precision.
            lambda x, s, *rows: self(x, s, rows=rows, heads=keep.heads, sparse=sparse, **options),
            (m, a), controller, memory, (order, index), steps)
        visits = [tf.concat([v[None], w], 0) for v, w in zip(
            (*self._seen(controller), first_near), (*after, near), strict=True)]
        if not keep.every:
            visits = [tf.gather(v, [length if steps is None else steps]) for v in visits]
        return (SparseVisits(*visits, memory, *were or [None]),
                SparseMemoryState(*end, memory.whole(batch), order.of_each()))

    def check_recall(self, attention):
        """Raises an `ArgumentError` for a recall from all slots: `SparseVisits` sees neighbourhoods alone."""
        if 2 * attention.locality >= self.memory_slots:
            raise ArgumentError(f"SANTM: locality={attention.locality} makes all {self.memory_slots} slots "
                                "neighbours; memory='sparse' recalls locally: use fewer than half of them")

    def bytes_kept(self, visits):
        """Three integers a slot, and the rows that are written with their gradient.

        A learned memory has its weights, their gradient and two moments beside. What grows neither with N nor
        with the writes is not counted.

        >>> SparseMemoryCell(8, memory_slots=2**20, memory_init="constant").bytes_kept(visits=100) / 2**20
        12.1220703125
        """
        learned = self.memory_init == "learned"
        rows = 4 * self.memory_slots * learned + 2 * visits * self._writes()
        return FLOAT * (3 * self.memory_slots + rows * self.slot_width)

    def _seen(self, state):
        """What of a `Controller` the visits have."""
        mean = tf.math.divide_no_nan(state.total, state.written)
        return state.read, state.values[:, :self.read_heads], tf.cast(mean, state.read.dtype)

    def _writes(self):
        """How many slots a step writes."""
        return self.write_heads * (self.top_k + self.allocate)

    def _accesses(self, steps):
        """How many accesses steps make, and how many of the slots accessed longest ago one asks for."""
        a_step = self.read_heads * self.top_k + self._writes()
        return steps * a_step, max(self.top_k, self.write_heads if self.allocate else 0)

    def _index(self, memory, batch, steps, starts):
        """What finds similar slots, and whether it finds all of them; `((), False)` to look at all slots."""
        if not starts or self.memory_init != "constant":
            if self.search == "lsh":
                raise ArgumentError(f"{self.name}: search='lsh' needs sequences from their beginning; "
                                    "for a state that is handed on use search='exact'")
            return (), False
        written = tf.get_static_value(steps * self._writes())
        many = written is not None and min(written, self.memory_slots) > EXACT_UP_TO
        if self.search == "lsh" or (self.search == "auto" and many):
            return Hashed.start(memory, batch, self._writes()), True
        # What was never accessed stands for all that was never written, as long as there are k such slots.
        enough = self._accesses(steps)[0] + self.top_k <= self.memory_slots
        return Written.start(memory, batch, self._writes()), enough

    def _around(self, slots, reach):
        """Numbers of the slots within reach of those `[B, heads, k]` read: `[B, R, k, 2 reach + 1]`."""
        near = (slots[:, :self.read_heads, :, None] + tf.range(-reach, reach + 1)) % self.memory_slots
        return near + self.memory_slots * tf.range(tf.shape(slots)[0])[:, None, None, None]

    def _choose(self, inputs, state, memory, carried, reach, finds_all, projected=False):
        """The slots read: where content was found, where the heads are, what was not accessed for longest."""
        m, a = inputs
        order, index = carried
        _, _, (addressing, *_) = self._control(m, state, projected)
        batch, slots, reads = tf.shape(m)[0], self.memory_slots, self.read_heads
        begin = tf.range(batch)[:, None, None] * slots
        keys = tf.tanh(addressing[..., :self.slot_width])
        if index:
            index = index.noted(memory)
        others = order.least_recent(self.top_k)
        found = smart_cond(finds_all, lambda: index.nearest(keys, memory, self.top_k, others),
                           lambda: self._nearest_of_all(keys, memory.whole(batch), others))
        places, logits = reached(addressing, found, memory.at(begin + found),
                                 SparseWeights(state.slots, state.values), slots)
        kept = largest(places, logits, self.top_k)
        written = tf.reshape(kept[:, reads:], [-1, self.write_heads * self.top_k])
        longest_ago = tf.zeros([batch, 0], tf.int32)
        if self.allocate:
            longest_ago = order.least_recent(self.write_heads)
            written = tf.concat([written, longest_ago], 1)
        accessed = a[:, 0] > 0
        order = order.accessed(tf.concat([tf.reshape(kept[:, :reads], [-1, reads * self.top_k]), written], 1),
                               accessed)
        writes = tf.where(first(written), begin[:, 0] + written, batch * slots)
        if index:
            index = index.replaced(memory, writes, accessed)
        held = tf.where(accessed[:, None, None], kept, state.slots)
        return ((begin + found, begin + kept, begin[:, 0] + longest_ago), writes,
                self._around(held, reach), (order, index))

    def _nearest_of_all(self, keys, memory, others):
        if self.memory_init == "learned":
            return nearest(keys, memory, self.top_k)
        unwritten = tf.fill([self.slot_width], tf.cast(CONSTANT, memory.dtype))
        return nearest_or_other(keys, memory, self.top_k, others, unwritten)

    def _step(self, inputs, state, rows, held, slots_read, writes, projected, heads, sparse):
        m, a = inputs
        found, kept, longest_ago = slots_read
        slots, reads = self.memory_slots, self.read_heads
        h, c, (addressing, erase, add, allocated) = self._control(m, state, projected)
        begin = tf.range(tf.shape(m)[0])[:, None, None] * slots
        places, logits = reached(addressing, found - begin, rows[0], SparseWeights(state.slots, state.values),
                                 slots)
        own = weights_at(kept - begin, places, logits, self._normalise)
        values = tf.cast(own.values, m.dtype)
        vectors = read(values[:, :reads], rows[1][:, :reads], sparse)

        at = tf.cast(kept[:, reads:, :, None] == writes[:, None, None], m.dtype)
        weights = tf.reduce_sum(values[:, reads:, :, None] * at, 2)
        wiped = tf.ones_like(held[..., 0])
        if self.allocate:
            at = tf.cast(longest_ago[..., None] == writes[:, None], m.dtype)
            alpha = allocated[..., None]
            weights = (1 - alpha) * weights + alpha * at
            wiped = tf.reduce_prod(1 - a[..., None] * alpha * at, 1)
        weights *= a[..., None]
        new = write(wiped[..., None] * held, weights, erase, add)
        there = tf.where(a[..., None] > 0, own.slots, state.slots)
        # What a weight would be with the gate the other way, which its gradient needs, is that of its slot.
        values = gated(a, *(tf.cast(weights.at(there), m.dtype) for weights in (
            own, SparseWeights(state.slots, state.values))))
        state = Controller(gated(a, h, state.h), gated(a, c, state.c), gated(a, vectors, state.read), there,
                           values, *self._counted(a, state, held, new, writes))
        seen = [self._seen(state)]
        if heads:
            numbers = tf.where(writes < tf.shape(m)[0] * slots, writes - begin[:, 0], 0)
            numbers = tf.broadcast_to(numbers[:, None], tf.shape(weights))
            kept = wiped[..., None] * tf.reduce_prod(1 - weights[..., None] * erase[:, :, None], 1)
            left = 1 - tf.reduce_sum(tf.reduce_mean(1 - kept, -1), -1) / slots
            seen.append(Heads(state.h, state.slots[:, :reads], values[:, :reads], numbers, weights, left))
        return seen, state, new

    def _counted(self, a, state, held, new, writes):
        """The total of the slots that were written and how many they are, after some writes."""
        change, count = new - held, tf.zeros_like(state.written)
        if self.memory_init == "constant":
            is_slot = writes < tf.shape(a)[0] * self.memory_slots
            fresh = is_slot & tf.reduce_all(held == tf.cast(CONSTANT, held.dtype), -1)
            change = tf.where(fresh[..., None], new, change)
            count = tf.reduce_sum(tf.cast(fresh, count.dtype), 1, keepdims=True)
        a = tf.cast(a, state.total.dtype)
        return (state.total + a * tf.reduce_sum(tf.cast(change, a.dtype), 1), state.written + a * count)

    def call(self, inputs, states, projected=False, rows=None, heads=False, sparse=False):
        if rows is not None:
            return self._step(inputs, states, *rows, projected, heads, sparse)
        m, a = inputs
        _, state = self.run(m[None], a[None], SparseMemoryState(*states))
        weights = SparseWeights(state.slots, state.values).dense(self.memory_slots)
        return (weights[:, :self.read_heads], state.memory), list(state)

    def get_config(self):
        names = "top_k", "allocate", "normaliser", "search", "reads"
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
