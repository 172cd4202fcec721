"""The Sparse Access Neural Turing Machine, as one Keras layer."""

import tensorflow as tf

from santm_tf import room, top
from santm_tf.access import AccessMask
from santm_tf.attention import ChebAttention
from santm_tf.cells import CascadeLSTMCell, SegmentLSTMCell
from santm_tf.errors import ArgumentError
from santm_tf.hard_concrete import HardConcreteMask
from santm_tf.memory import MemoryCell
from santm_tf.packing import pack, take
from santm_tf.recurrent import split
from santm_tf.scan import scan, swap_time
from santm_tf.shards import Sharded
from santm_tf.sparse.cell import SparseMemoryCell

_EXPLORED = 8  # while training the middle level also visits one step in so many that is no boundary


@tf.keras.utils.register_keras_serializable("santm_tf")
class SANTM(tf.keras.layers.Layer):
    """Sparse Access Neural Turing Machine (Shan, Zhu and Luo 2025, Applied Soft Computing 181, 113448).

    `h_t, beta_t = SegmentLSTM(x_t)`                      bottom, every step
    `m_t = a_t d_t h^m_t`, `h^m = CascadeLSTM(h, beta)`   middle, at boundaries
    `s_t = MemoryCell(m_t, a_t)`                          top, where the access mask a_t is 1
    `Y = ChebAttention(M_t)`, `o_t = [sum_i w^r_i Y_i ; mean_i Y_i]`   recall
    `y_t = W_y [h_t ; h^m_t ; o_tau(t)] + b_y`            tau(t) the last accessed step at or before t

    The recall feeds the output and not the recurrence, so it is computed outside the time loop: once
    per sequence, or in one call over the accessed steps. The top level runs over a *plan*, an ordered
    set of steps that holds every accessed one (`AccessMask.plan`), and so its cost falls with the
    access rate. Lower the rate while training with the callback `L0Projection`.

    Args:
      units: H, of every level and of the output.
      memory_slots: N. slot_width: W. read_heads: R. write_heads. shift_range. memory_init: the
        external memory's, see `NTMCell` (memory_init: "learned", of a sparse memory "constant").
      attention_heads: A, divides W. cheb_order: K. locality: w. See `ChebAttention`.
      mask_period: P, in steps (default: the length of the sequences, which must then be known).
      access_rate: the access mask's first rate, in (0, 1]. See `AccessMask`.
      access_mask: "learned", "uniform", "random" (`AccessMask`'s support), or "hard_concrete"
        (`HardConcreteMask`). mask_surrogate: see `accessed` in `santm_tf.access`.
      segment_length: L, the expected length of a segment. See `SegmentLSTMCell`.
      boundaries: "learned", or "fixed": a boundary at every L-th step, `beta_t = 1[(t + 1) mod L = 0]`, L
        being whole. t counts from the first step of each call: windows of a sequence whose state is
        handed on should hold a multiple of L steps. The boundary penalty does not apply.
      max_steps: the longest memory wanted of the middle level and of the top's controller, in steps
        (`ChronoBias`; default P). Small where the external memory is to do all the remembering.
      boundary_penalty: weight of `(mean(beta) - 1/L)^2` in the loss, which holds the boundary rate
        near 1/L and leaves open where the boundaries fall.
      dropout: share of `[h ; m ; o]` dropped while training.
      memory: "dense", with weights over all slots, or "sparse" (`SparseMemoryCell`): top_k weights a head,
        a cost that hardly grows with N. The mean in o_t is then that of the slots that were written.
      top_k, allocate, normaliser, search: of a sparse memory, see `SparseMemoryCell`.
      recall: "attention", or "read" for the plain vectors read, `o_t = r_t`: with `access_rate=1`
        the same model with an NTM on top.
      return_sequences: an output at every step, or at the last valid one.
      return_state: give the state after the last step too: `[output, *state]`, the h and c of bottom
        and middle and the `MemoryState` of the top, to be handed to the next window of the same
        sequences as `initial_state`. Windows must then hold whole periods of the mask.
      stateful: keep the state from batch to batch, gradients cut between; row i of a batch goes on
        where row i of the last one ended. Needs a fixed batch size; `reset_states()` starts anew.
      jit_compile: compile the three levels with XLA and run slices of the batch on all cores. Inside
        a model compiled with `jit_compile=True` it adds nothing. XLA compiles once per length.
      seed: of the mask's first scores and of the plan's samples.
      plan_size: see `AccessMask`; a saved layer keeps its present one.

    Input `[B, T, d]`, and an optional mask `[B, T]`: a masked step holds every state. Output
    `[B, T, units]` or `[B, units]`. Adds the metrics `access_rate` and `boundary_rate`.

    Raises:
      ValueError: sizes that cannot work, or no mask_period where T is unknown.

    >>> import tensorflow as tf
    >>> from santm_tf import SANTM
    >>> layer = SANTM(8, memory_slots=16, slot_width=8, access_rate=0.5)
    >>> layer(tf.zeros([2, 12, 3])).shape.as_list()
    [2, 8]
    """

    def __init__(self, units, memory_slots=32, slot_width=32, read_heads=1, attention_heads=4,
                 cheb_order=3, locality=4, mask_period=None, access_rate=1.0, memory="dense",
                 top_k=None, return_sequences=False, write_heads=1, shift_range=1,
                 memory_init=None, segment_length=4.0, boundary_penalty=1.0, max_steps=None,
                 dropout=0.0,
                 recall="attention", jit_compile=True, seed=None, plan_size=None, return_state=False,
                 stateful=False, access_mask="learned", mask_surrogate="sigmoid",
                 boundaries="learned", allocate=True, normaliser="softmax", search="auto", **kwargs):
        super().__init__(**kwargs)
        if memory not in ("dense", "sparse"):
            raise ArgumentError(f"SANTM: memory={memory!r}; use 'dense' or 'sparse'")
        if memory == "dense" and top_k is not None:
            raise ArgumentError(f"SANTM: top_k={top_k}; it needs memory='sparse'")
        memory_init = memory_init or ("learned" if memory == "dense" else "constant")
        if recall not in ("attention", "read"):
            raise ArgumentError(f"SANTM: recall={recall!r}; use 'attention' or 'read'")
        if boundaries not in ("learned", "fixed"):
            raise ArgumentError(f"SANTM: boundaries={boundaries!r}; use 'learned' or 'fixed'")
        if boundaries == "fixed" and segment_length % 1 != 0:
            raise ArgumentError(f"SANTM: segment_length={segment_length}; boundaries='fixed' needs a whole "
                                "number of steps")
        if attention_heads < 1 or slot_width % attention_heads:
            raise ArgumentError(f"SANTM: attention_heads={attention_heads} does not divide "
                             f"slot_width={slot_width}")
        if not 0 < access_rate <= 1:
            raise ArgumentError(f"SANTM: access_rate={access_rate}; it must be in (0, 1]")
        if mask_period is not None and mask_period < 1:
            raise ArgumentError(f"SANTM: mask_period={mask_period}; it must be at least 1")
        self._config = dict(
            units=units, memory_slots=memory_slots, slot_width=slot_width, read_heads=read_heads,
            attention_heads=attention_heads, cheb_order=cheb_order, locality=locality,
            mask_period=mask_period, access_rate=access_rate, memory=memory, top_k=top_k,
            return_sequences=return_sequences, write_heads=write_heads, shift_range=shift_range,
            memory_init=memory_init, segment_length=segment_length, max_steps=max_steps,
            boundary_penalty=boundary_penalty, dropout=dropout, recall=recall,
            jit_compile=jit_compile, seed=seed, plan_size=plan_size, return_state=return_state,
            stateful=stateful, access_mask=access_mask, mask_surrogate=mask_surrogate, boundaries=boundaries,
            allocate=allocate, normaliser=normaliser, search=search)
        self.units, self.return_sequences = units, return_sequences
        self.return_state, self.stateful = return_state, stateful
        self.mask_period, self.boundary_penalty = mask_period, boundary_penalty
        self.boundaries = boundaries
        self.supports_masking = True
        self.bottom = SegmentLSTMCell(units, segment_length, "given" if boundaries == "fixed" else "learned",
                                      name="bottom", dtype=self.dtype_policy)
        self.dropout = tf.keras.layers.Dropout(dropout, seed=seed, dtype=self.dtype_policy)
        self.readout = tf.keras.layers.Dense(units, name="readout", dtype=self.dtype_policy)
        # Built now, so that a choice which cannot work is named here and not at the first batch.
        if access_mask != "hard_concrete":
            AccessMask(1, support=access_mask, surrogate=mask_surrogate)
        self._top_sizes = dict(
            memory_slots=memory_slots, slot_width=slot_width, read_heads=read_heads,
            write_heads=write_heads, shift_range=shift_range, memory_init=memory_init)
        self._top_cell = MemoryCell
        if memory == "sparse":
            self._top_cell = SparseMemoryCell
            self._top_sizes.update(top_k=4 if top_k is None else top_k, allocate=allocate,
                                   normaliser=normaliser, search=search)
            if recall == "attention" and 2 * locality >= memory_slots:
                raise ArgumentError(f"SANTM: locality={locality} makes all {memory_slots} slots neighbours; "
                                    "memory='sparse' recalls locally: use fewer than half of them")
        self._top_cell(units, **self._top_sizes)
        self.recall = None
        if recall == "attention":
            self.recall = ChebAttention(attention_heads, cheb_order, locality, name="recall",
                                        dtype=self.dtype_policy)
        self._levels_on_cores = Sharded(self._levels) if jit_compile else None

    def build(self, input_shape):
        config, units = self._config, self.units
        steps, features = input_shape[1], input_shape[2]
        period = self.mask_period or steps
        if period is None:
            raise ArgumentError("SANTM: mask_period=None, and the length of the sequences is unknown; give "
                                "the number of steps after which the access mask repeats")
        first = [period, config["access_rate"], config["plan_size"], config["seed"]]
        if config["access_mask"] == "hard_concrete":
            self.access = HardConcreteMask(*first, name="access", dtype=self.dtype_policy)
        else:
            self.access = AccessMask(*first, config["access_mask"], config["mask_surrogate"],
                                     name="access", dtype=self.dtype_policy)
        longest = config["max_steps"] or period
        self.middle = CascadeLSTMCell(units, longest, name="middle", dtype=self.dtype_policy)
        self.top = self._top_cell(units, max_steps=longest, name="top", dtype=self.dtype_policy,
                                  **self._top_sizes)
        batch = input_shape[0]
        learned = self.boundaries == "learned"
        _build(self.access, None)
        room.check("SANTM", self.memory_needed(steps or period), config["memory_slots"])
        _build(self.bottom, [batch, features] if learned else [[batch, features], [batch, 1]])
        _build(self.middle, [[batch, units], [batch, 1]])
        _build(self.top, [[batch, units], [batch, 1]])
        recalled = config["read_heads"] * config["slot_width"]
        if self.recall is not None:
            _build(self.recall, [batch, config["memory_slots"], config["slot_width"]])
            recalled += config["slot_width"]
        _build(self.readout, [batch, 2 * units + recalled])
        if self.stateful:
            if batch is None or steps is None or steps % period:
                raise ArgumentError(
                    f"SANTM: stateful=True needs a fixed batch size and windows of whole mask periods "
                    f"(mask_period={period}); the input's shape is {tuple(input_shape)}")
            self._kept = [self.add_weight(f"state_{i}", v.shape, v.dtype, "zeros", trainable=False)
                          for i, v in enumerate(self.get_initial_state(batch))]
            self._starts = self.add_weight("starts", [], tf.bool, trainable=False, initializer="ones")
        super().build(input_shape)

    def memory_needed(self, steps):
        """Bytes that training on one sequence of so many steps keeps of the external memory, a formula."""
        config, period = self._config, self.access.period
        visits = -(-steps // period) * self.access.plan_size
        slots, width, writes = (config[name] for name in ("memory_slots", "slot_width", "write_heads"))
        if config["memory"] == "dense":
            return room.dense(slots, width, visits, config["read_heads"] + writes)
        rows = writes * (self._top_sizes["top_k"] + config["allocate"])
        return room.sparse(slots, width, visits, rows, self._top_sizes["memory_init"] == "learned")

    @tf.autograph.experimental.do_not_convert  # there is nothing to convert, and looking takes seconds
    def call(self, inputs, mask=None, training=None, initial_state=None):
        state = initial_state
        if self.stateful and state is None:
            first = self.get_initial_state(inputs.shape[0])
            state = [tf.where(self._starts, v, tf.cast(kept, v.dtype))
                     for v, kept in zip(first, self._kept, strict=True)]
        features, boundaries, state = self.features(inputs, mask, state, bool(training))
        if self.stateful:
            for kept, v in zip(self._kept, state, strict=True):
                kept.assign(tf.cast(v, kept.dtype))
            self._starts.assign(False)
        boundary_rate = tf.reduce_mean(boundaries)
        self.add_loss(self.access.penalty())
        self.add_metric(self.access.rate, name="access_rate")
        self.add_metric(boundary_rate, name="boundary_rate")
        if self.boundary_penalty and self.boundaries == "learned":
            self.add_loss(self.boundary_penalty * (boundary_rate - 1.0 / self.bottom.segment_length) ** 2)
        outputs = self.readout(self.dropout(features, training=training))
        return [outputs, *state] if self.return_state else outputs

    def features(self, inputs, mask=None, state=None, training=False):
        """What `call` makes the output of, `[h ; m ; o]`; each sequence's boundary rate `[B]`; the state."""
        steps = inputs.shape[1] if inputs.shape[1] is not None else tf.shape(inputs)[1]
        plan = self.access.plan(steps, training)
        levels = self._levels_on_cores or self._levels
        return levels((inputs, mask, state), plan, training)

    def get_initial_state(self, batch_size):
        """The state before the first step: tensors of `batch_size` rows, ten with a dense memory."""
        return self._first_state(batch_size, self.bottom, self.middle, self.top)

    def _first_state(self, batch_size, *levels):
        return [v for level in levels
                for v in level.get_initial_state(batch_size=batch_size, dtype=self.compute_dtype)]

    def reset_states(self):
        """Has the next batch start new sequences (stateful layers)."""
        self._starts.assign(True)

    def _levels(self, batched, plan, training):
        """The features `[h ; m ; o]` at the steps wanted, each sequence's boundary rate `[B]`, the state."""
        inputs, mask, state = batched
        if state is None:
            tops = [self.top] if self._config["memory"] == "dense" else []  # a sparse one starts itself
            state = self._first_state(tf.shape(inputs)[0], self.bottom, self.middle, *tops)
        valid = tf.ones_like(inputs[:, :, 0], tf.bool) if mask is None else tf.cast(mask, tf.bool)
        (h, beta), bottom = self._bottom(inputs, None if mask is None else valid, list(state[:2]))
        beta *= tf.expand_dims(tf.cast(valid, beta.dtype), -1)
        middle_at, middle = self._middle(h, beta, list(state[2:4]), training)
        t, inside = plan
        o, last = self._visits(middle_at, valid, plan, state[4:] or None, training)
        if self.return_sequences:
            steps = tf.range(tf.shape(inputs)[1])
            # How many visits there were up to each step. XLA's searchsorted takes T^2 numbers.
            visited = tf.cumsum(tf.math.unsorted_segment_sum(
                tf.cast(inside, tf.int32), tf.where(inside, t, 0), tf.shape(inputs)[1]))
            features = [h, middle_at(steps), tf.gather(o, visited, axis=1)]
        else:
            features = [h[:, -1], middle[0], o]
        lengths = tf.reduce_sum(tf.cast(valid, tf.float32), 1)  # float16 ends at 65,504 steps
        boundaries = tf.reduce_sum(tf.cast(beta[..., 0], tf.float32), 1)
        kept = self.return_state or self.stateful
        return (tf.concat(features, -1), boundaries / tf.maximum(lengths, 1),
                [*bottom, *middle, *last] if kept else [])

    def bottom_inputs(self, inputs):
        """What the bottom level takes at every step: x, or `(x, beta)` where boundaries are fixed."""
        if self.boundaries == "learned":
            return inputs
        ends = tf.range(1, tf.shape(inputs)[1] + 1) % int(self.bottom.segment_length) == 0
        return inputs, tf.zeros_like(inputs[..., :1]) + tf.cast(ends, inputs.dtype)[:, None]

    def _bottom(self, inputs, mask, state):
        """`(h, beta)` at every step, `[B, T, H]` and `[B, T, 1]`, and the state after the last."""
        inputs, options = split(self.bottom, self.bottom_inputs(inputs))
        outputs, state = scan(lambda x, s: self.bottom(x, s, **options), swap_time(inputs), state,
                              mask=None if mask is None else tf.transpose(mask))
        return swap_time(outputs), state

    def _middle(self, h, beta, state, training):
        """`h^m` as a function of the steps wanted, and the state after the last.

        It moves at boundaries only, so the loop runs over those, packed per sequence, as long as the
        longest needs. While training learned boundaries it visits a few other steps too: the state is
        held there, but their beta gets a gradient from this level.
        """
        keep, steps = beta[..., 0] > 0, tf.range(tf.shape(h)[1])
        if training and self.boundaries == "learned":
            keep |= steps % _EXPLORED == 0
        order, place = pack(keep)
        # A sequence with fewer boundaries than the longest rests until that one is through.
        packed_beta = take(beta, order) * tf.expand_dims(tf.cast(steps < place[:, -1:], beta.dtype), -1)
        states, last = scan(self.middle, swap_time((take(h, order), packed_beta)), state,
                            steps=tf.reduce_max(place[:, -1]))
        states = tf.concat([state[0][:, None], swap_time(states)], 1)
        return lambda t: take(states, tf.gather(place, t, axis=1)), last

    def _visits(self, middle_at, valid, plan, state, training):
        """The top level over the plan: what is recalled, and its state after the last step."""
        m, a = self._top_inputs(middle_at, valid, plan, training)
        if self._config["memory"] == "sparse":
            return top.sparse(self.top, self.recall, m, a, state, self.return_sequences)
        whole = valid.shape[1] is not None and valid.shape[1] % self.access.period == 0
        visits = None if whole else tf.reduce_sum(tf.cast(plan[1], tf.int32))  # the rest is past the end
        return top.dense(self.top, self.recall, m, a, state, self.return_sequences, visits)

    def _top_inputs(self, middle_at, valid, plan, training):
        """`m_t` and a_t over the plan, `[S, B, H]` and `[S, B, 1]`."""
        t, inside = plan
        at = tf.where(inside, t, 0)
        a, d = self.access.gates(at, training)
        a *= tf.cast(inside, a.dtype)
        m = middle_at(at) * (a * d)[None, :, None]
        open_ = tf.transpose(a * tf.cast(tf.gather(valid, at, axis=1), a.dtype))
        return swap_time(m), tf.expand_dims(open_, -1)

    def compute_mask(self, inputs, mask=None):
        return mask if self.return_sequences else None

    def compute_output_shape(self, input_shape):
        batch, steps = tf.TensorShape(input_shape)[:2]
        return tf.TensorShape([batch, steps, self.units] if self.return_sequences
                              else [batch, self.units])

    def get_config(self):
        config = {**super().get_config(), **self._config}
        return {**config, "plan_size": self.access.plan_size} if self.built else config


def _build(layer, shape):
    with tf.name_scope(layer.name):
        layer.build(shape)

