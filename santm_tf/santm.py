"""The Sparse Access Neural Turing Machine, as one Keras layer."""

from typing import Any

import tensorflow as tf

from santm_tf import parts
from santm_tf.access import AccessMask
from santm_tf.adaptive import AdaptiveAccess
from santm_tf.attention import ChebAttention
from santm_tf.cells import CascadeLSTMCell
from santm_tf.change import ChangeBoundary
from santm_tf.errors import ArgumentError, at_least, whole
from santm_tf.keras import Layer, keras, no_states, register, several, shape_of
from santm_tf.lengths import every, filled, varies
from santm_tf.levels import Levels
from santm_tf.machine import check_fits
from santm_tf.masks import mask_of
from santm_tf.memories import Memory
from santm_tf.ops import at_least_float32, on_at_least_one_row, steps_of
from santm_tf.ragged import takes_ragged
from santm_tf.replicas import mean
from santm_tf.saving import OldNames
from santm_tf.shards import Sharded
from santm_tf.types import Config, Shape, States


@register
@takes_ragged
class SANTM(OldNames, Layer):
    """Sparse Access Neural Turing Machine (Shan, Zhu and Luo 2025, Applied Soft Computing 181, 113448).

    `h_t, beta_t = SegmentLSTM(x_t)`                          bottom, every step
    `m_t = a_t delta_t h^m_t`, `h^m = CascadeLSTM(h, beta)`   middle, at boundaries
    `M_t = MemoryCell(m_t, a_t)`                              top, where the access mask a_t is 1
    `Y = ChebAttention(M_t)`, `o_t = [sum_i w^r_i Y_i ; mean_i Y_i]`   recall, of each read head
    `y_t = W_y [h_t ; h^m_t ; o_tau(t)] + b_y`                tau(t) the last accessed step at or before t

    The recall feeds the output alone, so it is computed outside the time loop. The top level runs over a
    *plan*, an ordered set of steps that holds every accessed one (`AccessMask.plan`), so its cost falls with
    the access rate. The callback `L0Projection` lowers the rate while training. `santm_tf.levels` has the
    wiring, docs/equations.md all equations.

    A part is named by a string, or given: built, or as its configuration. Its options belong to it. SANTM
    hands them on to a part that a string names: `SANTM(32, memory="sparse", memory_slots=1024)`.

    Args:
      units: H, of every level and of the output.
      memory: the external memory: "dense", with weights over all slots, "sparse", with `top_k` weights a
        head at a cost that hardly grows with N, or "key_value", with a row for each segment that is found by
        the key of the segment before (`KeyValueMemory`, which has no controller and no write heads); or its
        sizes, such as `DenseMemory(...)`. Options: `memory_slots` N, `slot_width` W, `read_heads` R,
        `write_heads`, `shift_range`, `memory_init`; of a sparse one `top_k`, `allocate`, `normaliser`,
        `search`; of keys and values `top_k`, `key_width`, `reads_on`.
      access: when the memory is accessed: "learned", "ablation" (`AblationMask`), "hard_concrete", "uniform",
        "random", or an `AccessMask`; or "adaptive", where the input decides (`AdaptiveAccess`). Options:
        `access_rate`, the first one; of a mask `mask_period` P, in steps (default: the length of the
        sequences, which must then be known), `mask_surrogate`, `plan_size`.
      recall: "attention", a `ChebAttention`, or "read" for the plain vectors read, `o_t = r_t`: with
        `access_rate=1` the same model with an NTM on top. Options: `attention_heads` A, divides W;
        `cheb_order` K; `locality` l.
      controller: the bottom level's cell: any Keras cell, which `SegmentCell` makes cut the input (default:
        `SegmentLSTMCell(units)`).
      segment_length: L, the expected length of a segment. See `SegmentLSTMCell`.
      boundaries: where a segment ends: "learned", from the input and the bottom level's cell; "change", where
        the input changes most (`ChangeBoundary`); or "fixed", at every L-th step, L being whole, without a
        penalty. Fixed ones count from the first step of each call: windows whose state is handed on should
        hold a multiple of L.
      boundary_penalty: weight of `(boundary rate - 1/L)^2` in the loss.
      memory_horizon: the longest memory wanted of the middle level and of the top's controller, in steps
        (`ChronoBias`; default P, of an adaptive access the length of the sequences). Small where the external
        memory is to do all the remembering.
      dropout: share of `[h ; h^m ; o]` dropped while training.
      return_sequences: an output at every step, or at the last valid one.
      return_state: give `[output, *state]`: the tensors of `santm_tf.levels.State` after the last step, which
        the next window takes as `initial_state`. Windows must then hold whole periods of the mask.
      go_backwards: read the sequences from their end, for `Bidirectional`.
      stateful: keep the state from batch to batch, gradients cut between. Row i of a batch goes on
        where row i of the last one ended. Needs a fixed batch size; `reset_states()` starts anew.
      jit_compile: compile the three levels with XLA, once per length, and run slices of the batch on all
        cores. In a model that is itself compiled with `jit_compile=True` the layer is part of that one
        program, which has one core: choose the layer's own, beside a model that is not compiled.
      seed: of the mask's first scores, of the plan's samples and of the dropout.
      **options: see above; others are Keras'.

    Input `[B, T, d]` or ragged, and an optional mask `[B, T]`: a masked step, wherever it is, counts as none.
    Output `[B, T, units]` or `[B, units]`. Adds the metrics `access_rate` and `boundary_rate`.

    Raises:
      ArgumentError: sizes that cannot work, or no mask_period where T is unknown.

    >>> from santm_tf import SANTM
    >>> layer = SANTM(8, memory_slots=16, slot_width=8, access_rate=0.5)
    >>> layer(tf.zeros([2, 12, 3])).shape.as_list()
    [2, 8]
    """

    def __init__(self, units: int, memory: str | Memory = "dense",
                 access: str | AccessMask | AdaptiveAccess = "learned",
                 recall: str | ChebAttention | None = "attention",
                 controller: keras.layers.Layer | None = None, segment_length: float = 4.0,
                 boundaries: str = "learned", boundary_penalty: float = 1.0,
                 memory_horizon: int | None = None, dropout: float = 0.0, return_sequences: bool = False,
                 return_state: bool = False, go_backwards: bool = False, stateful: bool = False,
                 jit_compile: bool = True, seed: int | None = None, **options: Any):
        options, keras_options = parts.split_options(options)
        super().__init__(**keras_options)
        whole("SANTM", 1, units=units)
        at_least("SANTM", 0, dropout=dropout)
        units = int(units)
        self.units, self.boundaries, self.boundary_penalty = units, boundaries, boundary_penalty
        self.segment_length, self.memory_horizon = segment_length, memory_horizon
        self.return_sequences, self.return_state, self.stateful = return_sequences, return_state, stateful
        self.go_backwards, self.jit_compile, self.seed = go_backwards, jit_compile, seed
        self.supports_masking, self.input_spec = True, keras.layers.InputSpec(ndim=3)
        self.reports("access_rate", "boundary_rate")
        policy = self.dtype_policy
        self._own_controller = controller is not None
        self.memory = parts.memory_of(memory, options["memory"])
        cell = self.memory.cell(units)  # so that what cannot work is named here and not at the first batch
        self.bottom = parts.bottom_of(controller, units, segment_length, boundaries, policy)
        self.change = None
        if boundaries == "change":
            self.change = ChangeBoundary(self.bottom.segment_length, name="change", dtype=policy)
        self.dropout = keras.layers.Dropout(dropout, seed=seed, dtype=policy)
        self.readout = keras.layers.Dense(units, name="readout", dtype=policy)
        self.recall = parts.recall_of(recall, options["recall"], self.memory.slot_width, policy)
        self.access = parts.access_of(access, options["access"], seed, policy)
        if self.recall is not None:
            cell.check_recall(self.recall)
        self._features_on_cores = Sharded(self._features) if jit_compile else self._features

    def build(self, input_shape: Shape) -> None:
        batch, steps, features = input_shape
        self._check_length(steps)
        self.input_width = features
        units, sizes, policy = self.units, self.memory, self.dtype_policy
        if self.access.period is None and steps is None:
            raise ArgumentError("SANTM: mask_period=None, and the length of the sequences is unknown; give "
                                "the number of steps after which the access mask repeats")
        learned, emitted = self.boundaries == "learned", self.bottom.units
        parts.build(self.access, [batch, steps, units + emitted * self.access.adaptive])
        horizon = self.memory_horizon or (steps if self.access.adaptive else self.access.period)
        if horizon is None:
            raise ArgumentError("SANTM: memory_horizon=None, and the length of the sequences is unknown; "
                                "give the longest memory wanted, in steps")
        self.middle = CascadeLSTMCell(units, horizon, name="middle", dtype=policy)
        self.top = sizes.cell(units, memory_horizon=horizon, name="top", dtype=policy)
        check_fits(f"SANTM: memory_slots={sizes.memory_slots}",
                   self.memory_needed(steps or self.access.period),
                   "use fewer, a lower access rate, or memory='sparse' with memory_init='constant'",
                   each=" for one sequence")
        parts.build(self.bottom, [batch, features] if learned else [[batch, features], [batch, 1]])
        if self.change is not None:
            parts.build(self.change, [batch, steps, features])
        parts.build(self.middle, [[batch, emitted], [batch, 1]])
        by_segment = self.top.by_segment
        parts.build(self.top, [[batch, units + emitted * by_segment], [batch, 1]])
        recalled = sizes.read_heads * sizes.slot_width
        if self.recall is not None:
            parts.build(self.recall, [batch, sizes.memory_slots, sizes.slot_width])
            recalled += sizes.slot_width * (not by_segment)
        parts.build(self.readout, [batch, emitted + units + recalled])
        if self.stateful:
            if batch is None or steps is None or steps % self.access.period:
                raise ArgumentError(
                    f"SANTM: stateful=True needs a fixed batch size and windows of whole mask periods "
                    f"(mask_period={self.access.period}); the input's shape is {tuple(input_shape)}")
            first = tf.nest.map_structure(at_least_float32, self.get_initial_state(batch))
            for i, v in enumerate(first):
                self.keep(f"state_{i}", tf.zeros_like(v))
            self.keep("starts", True)
        self.input_spec = keras.layers.InputSpec(ndim=3, axes={-1: features})
        super().build(input_shape)

    @property
    def levels(self) -> Levels:
        """The built parts, wired: `santm_tf.levels.Levels`."""
        return Levels(self.change, self.bottom, self.middle, self.access, self.top, self.recall)

    def memory_needed(self, steps: int) -> int:
        """Bytes that training on one sequence of so many steps keeps of the external memory, a formula."""
        return self.top.bytes_kept(self.access.visits(steps))

    @tf.autograph.experimental.do_not_convert  # there is nothing to convert, and looking takes seconds
    def call(self, inputs: tf.Tensor, mask: tf.Tensor | None = None, training: bool | None = None,
             initial_state: States | None = None) -> tf.Tensor | list[tf.Tensor]:
        mask = mask_of(inputs, mask, "SANTM")
        inputs = tf.cast(inputs, self.compute_dtype)
        self._check_length(inputs.shape[1])
        if self.go_backwards:
            inputs, mask = tf.reverse(inputs, [1]), mask if mask is None else tf.reverse(mask, [1])
        if training and self.change is not None:
            self.change.adapt(inputs, mask)
        state = None if initial_state is None else self.levels.checked(initial_state, inputs.shape[0])
        if self.stateful and state is None:
            state = self._handed_on(steps_of(inputs, axis=0))
        steps = steps_of(inputs)
        if self.jit_compile and varies(inputs):
            inputs, mask = filled((inputs, every(inputs) if mask is None else mask))
        features, rates, state = self.features(inputs, mask, state, bool(training))
        features = features[:, :steps] if self.return_sequences else features
        if self.stateful:
            for kept, v in zip(self.states, state, strict=True):
                kept.assign(tf.cast(v, kept.dtype))
            self.starts.assign(False)
        self._account(**rates)
        outputs = self.readout(self.dropout(features, training=training))
        outputs = self.access.watched(outputs) if training else outputs
        return several(outputs, *state) if self.return_state else outputs

    def _account(self, boundary_rate, access_rate=None, expected_rate=None):
        """Reports rates, whose means are over all rows, and adds to the loss what holds them."""
        if self.access.adaptive:
            self._add_loss(self.access.penalty(expected_rate))
        else:
            self._add_loss(self.access.penalty())
            access_rate = self.access.rate
        self.report(access_rate=access_rate, boundary_rate=boundary_rate)
        if self.boundary_penalty and self.boundaries != "fixed":
            wanted = 1.0 / self.bottom.segment_length
            self._add_loss(self.boundary_penalty * (mean(boundary_rate, of_none=wanted) - wanted) ** 2)

    def _add_loss(self, loss):
        self.add_loss(tf.cast(loss, keras.backend.floatx()))  # which a model's loss is in

    def _check_length(self, steps):
        if steps == 0:
            raise ArgumentError("SANTM: the sequences have no steps; they need at least one")
        if self.built and self.stateful and steps is not None and steps % self.access.period:
            raise ArgumentError(f"SANTM: a window of {steps} steps; stateful=True needs windows of whole "
                                f"mask periods (mask_period={self.access.period})")

    @property
    def states(self) -> list[tf.Variable | None] | None:
        """What a stateful layer keeps from batch to batch, in float32 at least."""
        if not self.built:
            return None
        count = len(self.levels.shapes(None))
        return [getattr(self, f"state_{i}") for i in range(count)] if self.stateful else no_states(count)

    def _handed_on(self, batch):
        """The state in which the last batch ended, or the first one."""
        rows = self.states[0].shape[0]
        message = f"SANTM: a batch of {{}}, where stateful=True keeps the state of {rows} sequences"
        if isinstance(batch, int) and batch != rows:
            raise ArgumentError(message.format(batch))
        same = tf.debugging.assert_equal(batch, rows, message.format("another size"))
        with tf.control_dependencies([] if same is None else [same]):
            return [tf.where(self.starts, v, tf.cast(kept, v.dtype))
                    for v, kept in zip(self.get_initial_state(rows), self.states, strict=True)]

    def features(self, inputs: tf.Tensor, mask: tf.Tensor | None = None, state: States | None = None,
                 training: bool = False) -> tuple[tf.Tensor, dict[str, tf.Tensor], list[tf.Tensor]]:
        """`[h ; h^m ; o]`, of which `call` makes the output; `santm_tf.levels.Pass.rates`; the state."""
        plan = t, inside = self.access.plan(steps_of(inputs), training)
        a, delta = self.access.gates_of(tf.where(inside, t, 0), steps_of(inputs, axis=0), training)
        return self._features_on_cores((inputs, mask, state, a), plan, delta, training)

    @on_at_least_one_row
    def _features(self, batched, plan, delta, training):
        inputs, mask, state, a = batched
        state = None if state is None else self.levels.state(state)
        features, did = self.levels.features(inputs, plan, mask, state, training, self.return_sequences,
                                             (a, delta))
        kept = self.return_state or self.stateful
        return features, did.rates(mask), tf.nest.flatten(did.state) if kept else []

    def first_state(self, batch: int | tf.Tensor) -> dict[str, tf.Tensor]:
        """The state of B streams before their first step, a dict of tensors `[B, ...]`.

        They are `t`, int32 `[B]`, how many valid steps a row has had; the levels' state
        (`santm_tf.levels.State`); `recalled`, what the recall last gave.

        Raises:
          ArgumentError: a layer that cannot go on from a state.
        """
        if self.go_backwards:
            raise ArgumentError("go_backwards=True begins at a sequence's end, which a stream has not")
        if not self.top.goes_on:
            raise ArgumentError("search='lsh' cannot go on from a stream's state; use search='auto'")
        levels = self.levels
        state = levels.first(batch, self.compute_dtype)
        return levels.named(tf.zeros([batch], tf.int32), state, levels.first_recalled(state))

    def step(self, x: tf.Tensor, state: dict[str, tf.Tensor],
             valid: tf.Tensor | None = None) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """One step of streams, in inference: what the layer gives for the sequences up to here.

        Args:
          x, valid: see `santm_tf.levels.Levels.step`.
          state: as `first_state` or the step before gave it.

        Returns:
          `(output, state)`: `[B, units]`, and the state after the step.

        >>> layer = SANTM(4, memory_slots=6, slot_width=4, locality=1, access_rate=0.5, jit_compile=False)
        >>> x = tf.random.normal([2, 3, 1])
        >>> whole, state = layer(x), layer.first_state(batch=2)
        >>> for t in range(3):
        ...     y, state = layer.step(x[:, t], state)
        >>> float(tf.reduce_max(tf.abs(y - whole))) < 1e-5
        True
        """
        levels, t = self.levels, state["t"]
        before = levels.state(state[name] for name in levels.names)
        features, after, recalled = levels.step(x, t, before, state["recalled"], valid)
        t += 1 if valid is None else tf.cast(valid, t.dtype)
        return self.readout(features), levels.named(t, after, recalled)

    def get_initial_state(self, batch_size: int | tf.Tensor) -> list[tf.Tensor]:
        """The state before the first step: the tensors of `santm_tf.levels.State` in order."""
        return tf.nest.flatten(self.levels.first(batch_size, self.compute_dtype))

    def reset_states(self) -> None:
        """Has the next batch start new sequences.

        Raises:
          AttributeError: the layer is not stateful.
        """
        if not self.stateful:
            raise AttributeError("SANTM: reset_states() needs stateful=True")
        if self.built:
            self.starts.assign(True)

    reset_state = reset_states  # Keras 3's name

    def compute_mask(self, inputs: tf.Tensor,
                     mask: tf.Tensor | None = None) -> tf.Tensor | list[tf.Tensor | None] | None:
        kept = tf.nest.flatten(mask)[0] if self.return_sequences else None
        return [kept] + [None] * len(self.levels.shapes(None)) if self.return_state else kept

    def compute_output_shape(self, input_shape: Shape) -> Shape | list[Shape]:
        batch, steps = input_shape[:2]
        output = shape_of(batch, steps, self.units) if self.return_sequences else shape_of(batch, self.units)
        return several(output, *self.levels.shapes(batch)) if self.return_state else output

    def load_own_variables(self, store: Config) -> None:
        """Nothing, as all weights are the parts'. Earlier versions saved a stateful layer's state here."""

    def get_config(self) -> Config:
        names = ("units", "boundaries", "segment_length", "boundary_penalty", "memory_horizon",
                 "return_sequences", "return_state", "go_backwards", "stateful", "jit_compile", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names},
                "memory": parts.configuration(self.memory), "access": parts.configuration(self.access),
                "recall": "read" if self.recall is None else parts.configuration(self.recall),
                "controller": parts.configuration(self.bottom) if self._own_controller else None,
                "dropout": self.dropout.rate}
