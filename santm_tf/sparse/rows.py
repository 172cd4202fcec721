"""A time loop over a memory. Each step touches a few rows of it, and no copy of it is made."""

from typing import NamedTuple

import tensorflow as tf

from santm_tf.loop import add, at_first, backward, carried, differentiable, forward, smooth, steps_run, vjp


class Rows(NamedTuple):
    """The memory of B sequences of N slots each: rows that never change, and which of them each slot holds.

    What is written becomes a row of its own, and the slot then holds that one. So every past memory is
    still there. All slots that were never written can hold one and the same row.

    >>> memory = Rows.start(tf.zeros([1, 2]), batch=1, slots=1000, writes=5)
    >>> memory.at(tf.constant([[7, 999]])).numpy().tolist(), memory.written.shape.as_list()
    ([[[0.0, 0.0], [0.0, 0.0]]], [5, 2])
    """

    initial: tf.Tensor  # [I, W], what slots hold at the start
    written: tf.Tensor  # [B E, W], in the order of writing, E of each sequence
    holds: tf.Tensor  # int32 [B N + 1], a slot's row: n < I of the initial, n - I of the written ones

    @classmethod
    def start(cls, initial, batch, slots, writes):
        """Before the first step.

        Args:
          initial: `[I, W]` with I = 1, N or B N: what all slots, those of all sequences, or each slot holds.
          batch: B. slots: N. writes: E, how many rows the steps of a sequence write.
        """
        if initial.shape[0] == 1:
            first = tf.zeros([batch * slots + 1], tf.int32)
        else:
            first = tf.range(batch * slots + 1) % tf.minimum(tf.shape(initial)[0], batch * slots)
        return cls(initial, tf.zeros([batch * writes, initial.shape[-1]], initial.dtype), first)

    def rows(self, numbers):
        """The rows of these numbers, `[..., W]`."""
        count = tf.shape(self.initial)[0]
        old = tf.gather(self.initial, tf.minimum(numbers, count - 1))
        return tf.where((numbers < count)[..., None], old,
                        tf.gather(self.written, tf.maximum(numbers - count, 0)))

    def at(self, slots):
        """What slots hold, `[..., W]`; slot n of sequence b is number b N + n."""
        return self.rows(tf.gather(self.holds, slots))

    def whole(self, batch):
        """The memory, `[B, N, W]`."""
        return tf.reshape(self.rows(self.holds[:-1]), [batch, -1, self.initial.shape[-1]])

    def places(self, t, writes):
        """Where among `written` step t puts what it writes to some slots, `[B, m]`."""
        # Of shapes, not of numbers from outside: those the backward program would get as data.
        batch, count = tf.unstack(tf.shape(writes))
        begin = tf.range(batch)[:, None] * (tf.shape(self.written)[0] // batch)
        return begin + t * count + tf.range(count)

    def settled(self, t, writes, new):
        """The memory after step t wrote new rows to some slots."""
        at = self.places(t, writes)
        numbers = tf.shape(self.initial)[0] + at
        return Rows(self.initial, tf.tensor_scatter_nd_update(self.written, at[..., None], new),
                    tf.tensor_scatter_nd_update(self.holds, writes[..., None], numbers))

    def after(self, t, writes, watched):
        """The numbers of the rows that slots are to hold once the writes of step t have settled."""
        batch, count = tf.unstack(tf.shape(writes))
        alone = [batch, *[1] * (watched.shape.rank - 1), count]
        new = tf.reshape(tf.shape(self.initial)[0] + self.places(t, writes), alone)
        same = watched[..., None] == tf.reshape(writes, alone)
        return tf.maximum(tf.gather(self.holds, watched), tf.reduce_max(tf.where(same, new, -1), -1))


def scan_rows(choose, step, inputs, state, memory, index=(), steps=None):
    """Runs a step over time that reads and overwrites a few slots of a memory.

    `reads_t, writes_t, watched_t, index_t = choose(inputs_t, state_{t-1}, M_{t-1}, index_{t-1})`
    `outputs_t, state_t, new_t = step(inputs_t, state_{t-1}, M_{t-1}[reads_t], M_{t-1}[writes_t], reads_t,
    writes_t)`
    `M_t = M_{t-1}` with what the slots `writes_t` hold replaced by `new_t`

    The forward loop keeps the numbers of the rows that a step reads and overwrites. The backward loop
    recomputes the step from those rows. Rows never change (`Rows`), so these are the rows that the step saw,
    to the last bit. Beside N integers that takes O(T (rows W + state)) memory, gradients included, and the
    time of a step does not depend on N. (Rae et al. 2016, arXiv 1610.09027, section 3.4, roll one memory
    back instead, which needs it and its gradient whole, 2 N W numbers a sequence.) `choose` has no gradient
    and is not run again.

    Args:
      choose: see above. `reads` and `watched` are nests of ints `[B, ...]`, `writes` is ints `[B, m]`; all
        below B N, or B N for a write that goes nowhere. No slot may be written twice in a step.
      step: see above. It may read variables, which get their gradients; it is traced twice and must draw no
        random numbers. `new` is `[B, m, W]`.
      inputs: nest of time-major tensors `[T, B, ...]`.
      state: nest of tensors `[B, ...]`.
      memory: `Rows` with room for `T m` written rows of each sequence.
      index: nest of what `choose` alone carries from step to step, such as an index of the memory.
      steps: optional scalar int, how many leading steps to run (default T). The outputs and the numbers of
        rows beyond are zeros. May be a tensor: XLA needs no retracing when it changes.

    Returns:
      `(outputs, watched, state, memory, index)`: outputs stacked to `[T, B, ...]`; the numbers of the rows
      that `watched_t` hold in M_t, for `memory.rows`, stacked likewise; the others after the last step run.

    >>> import tensorflow as tf
    >>> from santm_tf.sparse.rows import Rows, scan_rows
    >>> choose = lambda x, s, memory, index: ([x], x[:, None], (), index)  # slot x_t
    >>> step = lambda x, s, read, held, *slots: (read[0], s, held + 1.0)
    >>> memory = Rows.start(tf.zeros([1, 1]), batch=1, slots=3, writes=3)
    >>> seen, _, _, memory, _ = scan_rows(choose, step, tf.constant([[2], [0], [2]]), (), memory)
    >>> seen.numpy().ravel().tolist(), memory.whole(1).numpy().ravel().tolist()
    ([0.0, 0.0, 1.0], [1.0, 0.0, 2.0])
    """
    inputs, state, index = tf.nest.map_structure(tf.convert_to_tensor, (inputs, state, index))

    def visit(t, x, s, now, index):
        """Step t of a memory where all earlier writes have settled. Its own are handed on."""
        reads, writes, watched, index = choose(x, s, now, index)
        numbers = tf.nest.map_structure(lambda slots: tf.gather(now.holds, slots), (reads, writes))
        y, after, new = step(x, s, *tf.nest.map_structure(now.rows, numbers), reads, writes)
        watched = tf.nest.map_structure(lambda slots: now.after(t, writes, slots), watched)
        pending = writes, tf.cast(new, now.written.dtype)
        return (carried(after, s), now[1:], pending, index), (y, watched, (s, reads, writes, numbers))

    def run(initial, xs, s0):
        return _run(visit, step, xs, s0, memory._replace(initial=initial), index, steps)

    outputs, watched, state, memory_end, index = differentiable(run, memory.initial, inputs, state)
    return outputs, watched, state, Rows(memory.initial, *memory_end), index


def _run(visit, step, xs, s0, start, index, steps):
    """What `differentiable` asks for."""
    def before(t, held, pending):
        """The memory before step t, in which the writes of the step before settle."""
        # Step 0 writes over what settles before it.
        return Rows(start.initial, *held).settled(tf.maximum(t - 1, 0), *pending)

    def settle_and_visit(t, x, carry):
        # A step's writes settle in the next: XLA copies, every step, what is read before it is written.
        s, held, pending, index = carry
        return visit(t, x, s, before(t, held, pending), index)

    first = visit(0, at_first(xs), s0, start, index)
    (_, _, (writes, new), _), _ = first
    nothing = tf.zeros_like(writes) + tf.shape(start.holds)[0] - 1, tf.zeros_like(new)
    (s_end, held, pending, index), (ys, watched, kept) = forward(
        settle_and_visit, xs, (s0, start[1:], nothing, index), first, steps)
    end = before(steps_run(xs, steps), held, pending)

    def back(upstream, variables):
        dys, _, ds, (d_written, _), _ = upstream

        def visit_back(t, read, carry):
            (x, (s, reads, writes, numbers), dy), (ds, d_initial, d_written, dv) = read, carry
            rows = tf.nest.map_structure(end.rows, numbers)
            d_new = tf.gather(d_written, end.places(t, writes))
            gx, gs, *d_rows, gv = vjp(lambda: step(x, s, *rows, reads, writes), (x, s, *rows), variables,
                                      (dy, ds, d_new))
            for n, g in zip(tf.nest.flatten(numbers), tf.nest.flatten(d_rows), strict=True):
                d_initial, d_written = _added(d_initial, d_written, n, g)
            return (gs, d_initial, d_written, add(dv, gv)), gx

        totals = tf.zeros_like(end.initial), d_written, [tf.zeros_like(v) for v in variables]
        (ds, d_initial, _, dv), dxs = backward(visit_back, (xs, kept, smooth(dys)), (smooth(ds), *totals),
                                               smooth(at_first(xs)), steps)
        return (d_initial, dxs, ds), dv

    return (ys, watched, s_end, end[1:], index), back


def _added(d_initial, d_written, numbers, g):
    """Gradients of the initial and the written rows, to which those of numbered rows are added."""
    count = tf.shape(d_initial)[0]
    of_initial = tf.where(numbers[..., None] < count, g, tf.zeros_like(g))
    return (tf.tensor_scatter_nd_add(d_initial, tf.minimum(numbers, count - 1)[..., None], of_initial),
            tf.tensor_scatter_nd_add(d_written, tf.maximum(numbers - count, 0)[..., None], g - of_initial))
