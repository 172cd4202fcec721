"""The wiring of SANTM's three levels: the first state, one step, and a whole sequence.

`h_t, beta_t = bottom(x_t)`                        every step
`h^m_t = middle(h_t, beta_t)`                      at boundaries
`m_t = a_t delta_t h^m_t`, `state_t = top(m_t, a_t)`   where the access mask, or gate, a_t is above 0
`o_t = recall(state_t)`                            from the top's states, outside the recurrence
`[h_t ; h^m_t ; o_tau(t)]`                         the features; tau(t) the last accessed step up to t

Shan et al. 2025; docs/equations.md.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from santm_tf.access import AccessMask
from santm_tf.adaptive import AdaptiveAccess
from santm_tf.attention import ChebAttention
from santm_tf.change import ChangeBoundary
from santm_tf.errors import ArgumentError
from santm_tf.keras import shape_of
from santm_tf.lstm import LSTMState
from santm_tf.packing import at_steps, back_in_place, pack, valid_first
from santm_tf.recurrent import over_time
from santm_tf.scan import scan, swap_time
from santm_tf.visits import Keep

EXPLORED = 8  # while training the middle level also visits one step in so many that is no boundary


class State(NamedTuple):
    """What the levels carry from step to step; its tensors, `[B, ...]`, in this order are a Keras state."""

    bottom: Any  # list of the cell's own; its first part is the last output h
    middle: LSTMState
    top: Any  # `MemoryState`, or another memory's
    before: list  # what the boundaries keep of the steps before: `ChangeBoundary.after`, or nothing


class Pass(NamedTuple):
    """What the levels did with sequences of T steps, of which the top visited S."""

    h: tf.Tensor  # [B, T, H], the bottom's output
    beta: tf.Tensor  # [B, T, 1], where a segment ends; 0 at masked steps
    middle_at: Callable  # from steps, int [n], to h^m there, [B, n, H]
    a: tf.Tensor  # [S, B, 1], the gate at the visited steps
    chance: tf.Tensor | None  # [B, S], of an adaptive access beta Pr(a > 0) there
    visits: Any  # see `santm_tf.memories`
    state: State  # after the last step

    def rates(self, mask=None):
        """Of each sequence the share of its valid steps, `[B]`, that end a segment: "boundary_rate".

        Of an adaptive access also the share that accesses the memory, "access_rate", and the share that is
        expected to, "expected_rate". mask: bool `[B, T]`.
        """
        valid = tf.ones_like(self.beta[..., 0], tf.float32) if mask is None else tf.cast(mask, tf.float32)
        lengths = tf.maximum(tf.reduce_sum(valid, 1), 1)  # float16 ends at 65,504 steps
        shares = {"boundary_rate": self.beta[..., 0]}
        if self.chance is not None:
            shares |= {"access_rate": tf.transpose(self.a[..., 0]) > 0, "expected_rate": self.chance}
        return {name: tf.reduce_sum(tf.cast(v, tf.float32), 1) / lengths for name, v in shares.items()}


@dataclasses.dataclass(frozen=True)  # no tuple, in which Keras would look for weights to save
class Levels:
    """The built parts of a `SANTM`, wired."""

    change: ChangeBoundary | None
    bottom: Any  # `SegmentLSTMCell` or `SegmentCell`
    middle: Any  # `CascadeLSTMCell`
    access: AccessMask | AdaptiveAccess
    top: Any  # a cell of `santm_tf.memories`
    recall: ChebAttention | None

    @property
    def reach(self):
        """How far around the slots read the recall looks, None where it does not."""
        return None if self.recall is None else self.recall.reach

    def first(self, batch, dtype=None):
        """The `State` before the first step, of so many rows."""
        bottom, middle, top = (level.get_initial_state(batch_size=batch, dtype=dtype)
                               for level in (self.bottom, self.middle, self.top))
        before = [] if self.change is None else [self.change.first(batch, dtype)]
        return self.state([*bottom, *middle, *top, *before])

    def state(self, tensors):
        """A `State` of its tensors in order."""
        tensors, top = list(tensors), self.top.state_class
        bottom, middle, upper, before = (
            [tensors.pop(0) for _ in range(count)]
            for count in (len(self.bottom.state_size), 2, len(top._fields), int(self.change is not None)))
        return State(bottom, LSTMState(*middle), top(*upper), before)

    @property
    def names(self):
        """The names of a `State`'s tensors, in their order."""
        bottom = ["h", "c"] if len(self.bottom.state_size) == 2 else range(len(self.bottom.state_size))
        return [*(f"bottom_{name}" for name in bottom), "middle_h", "middle_c",
                *(f"top_{name}" for name in self.top.state_class._fields),
                *["before"] * (self.change is not None)]

    def shapes(self, batch):
        """The shapes of a `State`'s tensors, in their order."""
        sizes = tf.nest.flatten([level.state_size for level in (self.bottom, self.middle, self.top)])
        sizes += [] if self.change is None else [self.change.width + 1]
        return [shape_of(batch, *tf.TensorShape(size)) for size in sizes]

    def checked(self, state, batch):
        """A `State`'s tensors as a list, as a user gives them: as many and as large as they must be."""
        state, wanted = list(state) if isinstance(state, list | tuple) else [state], self.shapes(batch)
        if len(state) != len(wanted):
            raise ArgumentError(f"SANTM: initial_state has {len(state)} tensors; the layer's state has "
                                f"{len(wanted)}, see return_state")
        for i, (v, shape) in enumerate(zip(state, wanted, strict=True)):
            if not tf.TensorShape(v.shape).is_compatible_with(tf.TensorShape(shape)):
                raise ArgumentError(f"SANTM: initial_state[{i}] has the shape {tuple(v.shape)}; it must be "
                                    f"{tuple(shape)}")
        return state

    def named(self, t, state, recalled):
        """A stream's state as named tensors: how many steps it has had, the `State`, what was recalled."""
        return {"t": t, **dict(zip(self.names, tf.nest.flatten(state), strict=True)), "recalled": recalled}

    def run(self, inputs, plan, mask=None, state=None, training=False, keep=None, gates=None):
        """Over whole sequences: `Pass`.

        Args:
          inputs: `[B, T, d]`. mask: bool `[B, T]`; a masked step holds every state.
          plan: the steps that the top visits, as `AccessMask.plan` gives them.
          gates: `(a, delta)` there, as `AccessMask.gates_of` gives them (default: in inference).
          state: `State` before the first step (default: the first one).
          keep: `Keep` (default: every state, for the recall).
        """
        bottom, middle, top, before = state or (None, None, None, [])  # each level makes its own first state
        valid = tf.ones_like(inputs[:, :, 0], tf.bool) if mask is None else tf.cast(mask, tf.bool)
        time_mask = None if mask is None else swap_time(valid)
        (h, beta), bottom = self.bottom_of(inputs, time_mask, bottom, training, before)
        before = self._after(inputs, before, valid)
        beta *= tf.expand_dims(tf.cast(valid, beta.dtype), -1)
        middle_at, middle = self.middle_of(h, beta, middle, training)
        m, a, chance, options = self._top_inputs(h, beta, middle_at, valid, plan, gates)
        whole = inputs.shape[1] is not None and inputs.shape[1] % self.access.period == 0
        steps = None if whole else tf.reduce_sum(tf.cast(plan[1], tf.int32))  # the rest is past the end
        visits, top = self.top.run(m, a, top, keep or Keep(reach=self.reach), steps, **options)
        return Pass(h, beta, middle_at, a, chance, visits, State(bottom, middle, top, before))

    def features(self, inputs, plan, mask=None, state=None, training=False, sequences=False, gates=None):
        """`[h ; h^m ; o]` at every step, `[B, T, .]`, or at the last alone, `[B, .]`; and the `Pass`."""
        if mask is not None:  # what counts steps is to count those that are valid
            inputs, mask, place = valid_first(inputs, mask)
        keep = Keep(sequences, self.reach, partly=training)
        did = self.run(inputs, plan, mask, state, training, keep, gates)
        o = did.visits.recalled(self.recall)
        if not sequences:
            return tf.concat([did.state.bottom[0], did.state.middle.h, o[:, -1]], -1), did
        (t, inside), steps = plan, tf.shape(inputs)[1]
        # How many visits there were up to each step. XLA's searchsorted takes T^2 numbers.
        visited = tf.cumsum(tf.math.unsorted_segment_sum(
            tf.cast(inside, tf.int32), tf.where(inside, t, 0), steps))
        features = tf.concat([did.h, did.middle_at(tf.range(steps)), tf.gather(o, visited, axis=1)], -1)
        if mask is not None:
            first = state or self.first(tf.shape(inputs)[0], inputs.dtype)
            before = tf.concat([first.bottom[0], first.middle.h, o[:, 0]], -1)
            features = back_in_place(features, place, before)
        return features, did

    def step(self, x, t, state, recalled, valid=None):
        """One step, in inference: `([h ; h^m ; o], state, recalled)`. Rows may be at different steps.

        The top level and the recall are evaluated only where a row accesses the memory.

        Args:
          x: `[B, d]`. t: int `[B]`, how many valid steps each row has had.
          state: `State`. recalled: o `[B, .]` after the last access.
          valid: optional bool `[B]`; where it is False the step is a masked one.
        """
        inputs = self.bottom_inputs(x[:, None], t[:, None], state.before)
        (_, beta), bottom = self.bottom(tf.nest.map_structure(lambda v: v[:, 0], inputs), list(state.bottom))
        if valid is not None:
            bottom = [tf.where(valid[:, None], new, old)
                      for new, old in zip(bottom, state.bottom, strict=True)]
            beta *= tf.cast(valid, beta.dtype)[:, None]
        h_middle, middle = self.middle((bottom[0], beta), list(state.middle))
        a, delta = self.access.gates(t)
        a, _ = self._opened(a, bottom[0], h_middle, beta[:, 0])
        if valid is not None:
            a *= tf.cast(valid, a.dtype)
        m, options = self._seen_by_top(bottom[0], h_middle, (a * delta)[:, None])
        recalled, *top = tf.cond(
            tf.reduce_any(a > 0),
            lambda: tf.nest.flatten(self.access_memory(m, a[:, None], state.top, **options)),
            lambda: [recalled, *state.top])
        valid = tf.ones_like(t, tf.bool) if valid is None else valid
        before = self._after(x[:, None], state.before, valid[:, None])
        state = State(bottom, LSTMState(*middle), self.top.state_class(*top), before)
        return tf.concat([bottom[0], h_middle, recalled], -1), state, recalled

    def access_memory(self, m, a, state, **options):
        """What is recalled after one step of the top, `[B, .]`, and its state."""
        m, a, options = tf.nest.map_structure(lambda v: v[None], (m, a, options))
        visits, state = self.top.run(m, a, state, Keep(every=False, reach=self.reach), **options)
        return visits.recalled(self.recall)[:, 0], state

    def first_recalled(self, state):
        """What is recalled before the first access."""
        m, options = self._seen_by_top(state.bottom[0], state.middle.h, tf.zeros_like(state.middle.h[:, :1]))
        return self.access_memory(m, m[:, :1], state.top, **options)[0]

    @property
    def learns_boundaries(self):
        return self.change is not None or self.bottom.boundaries == "learned"

    def bottom_inputs(self, inputs, t=None, before=()):
        """What the bottom takes: x, or `(x, beta)` of changes or of a clock.

        Args:
          inputs: `[B, T, d]`. t: their steps, int `[B, T]` (default: from 0 on). before: see `State`.
        """
        if self.change is not None:
            return inputs, self.change(inputs, *before)
        if self.bottom.boundaries == "learned":
            return inputs
        t = tf.range(tf.shape(inputs)[1])[None] if t is None else t
        ends = (t + 1) % int(self.bottom.segment_length) == 0
        return inputs, tf.zeros_like(inputs[..., :1]) + tf.cast(ends, inputs.dtype)[..., None]

    def _after(self, inputs, before, valid):
        """`State.before` after inputs `[B, T, d]`, those that are not valid `[B, T]` coming last."""
        if self.change is None:
            return []
        count = tf.reduce_sum(tf.cast(valid, tf.int32), 1)
        return [self.change.after(inputs, *(before or [None]), count)]

    def bottom_of(self, inputs, mask=None, state=None, training=False, before=()):
        """`(h, beta)` at every step, and the state after the last. mask: bool `[T, B]`."""
        state = _first(self.bottom, inputs) if state is None else list(state)
        inputs = self.bottom_inputs(inputs, before=before)
        outputs, state = over_time(self.bottom, inputs, state, mask=mask, training=training)
        return swap_time(outputs), state

    def middle_of(self, h, beta, state=None, training=False, explored=None):
        """`h^m` as a function of the steps wanted, and the `LSTMState` after the last.

        It moves at boundaries only, so the loop runs over those, packed per sequence, as long as the
        longest needs. While training learned boundaries it also visits one step in `explored` (default:
        `EXPLORED`): the state is held there, but their beta gets a gradient from this level.
        """
        state = _first(self.middle, h) if state is None else list(state)
        keep, steps = beta[..., 0] > 0, tf.range(tf.shape(h)[1])
        if training and self.learns_boundaries:
            keep |= steps % (explored or EXPLORED) == 0
        order, place = pack(keep)
        # A sequence with fewer boundaries than the longest rests until that one is through.
        packed_beta = at_steps(beta, order) * tf.expand_dims(tf.cast(steps < place[:, -1:], beta.dtype), -1)
        states, last = scan(self.middle, swap_time((at_steps(h, order), packed_beta)), state,
                            steps=tf.reduce_max(place[:, -1]))
        states = tf.concat([state[0][:, None], swap_time(states)], 1)
        return lambda t: at_steps(states, tf.gather(place, t, axis=1)), LSTMState(*last)

    def _top_inputs(self, h, beta, middle_at, valid, plan, gates):
        """Over the plan m_t `[S, B, .]`, a_t `[S, B, 1]`, `Pass.chance`, and options of the top's `run`."""
        t, inside = plan
        at = tf.where(inside, t, 0)
        h, middle = tf.gather(h, at, axis=1), middle_at(at)
        a, delta = gates or self.access.gates_of(at, tf.shape(valid)[0])
        a, chance = self._opened(a, h, middle, beta[..., 0])
        a *= tf.cast(inside, a.dtype)
        m, options = self._seen_by_top(h, middle, (a * delta)[..., None])
        open_ = tf.transpose(a * tf.cast(tf.gather(valid, at, axis=1), a.dtype))
        return swap_time(m), tf.expand_dims(open_, -1), chance, tf.nest.map_structure(swap_time, options)

    def _opened(self, given, h, middle, beta):
        """a_t at steps that are visited, and `Pass.chance`. A mask has given a_t already.

        An adaptive access visits every step, so that beta `[B, T]` or `[B]` is that of those steps.
        """
        if not self.access.adaptive:
            return given, None
        a, chance = self.access.opened(tf.concat([middle, h], -1), given)
        return a * beta, chance * tf.stop_gradient(tf.cast(beta, chance.dtype))

    def _seen_by_top(self, h, middle, gate):
        """`m = a delta h^m`; for a memory of segments `a delta [h^m ; h]`, and h^m."""
        if not self.top.by_segment:
            return middle * gate, {}
        return tf.concat([middle, h], -1) * gate, {"segment": middle}


def _first(cell, inputs):
    return list(cell.get_initial_state(batch_size=tf.shape(inputs)[0], dtype=inputs.dtype))
