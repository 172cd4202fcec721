"""A time loop over a memory of which each step touches a few rows, and no copy of which is made."""

from typing import NamedTuple

import tensorflow as tf

from santm_tf.scan import add, array, forbid_random_ops, unstack


class Rows(NamedTuple):
    """The memory of B sequences of N slots each: rows that never change, and which of them each slot holds.

    What is written becomes a row of its own, and the slot then holds that one. So every past memory is
    still there, and what a slot that was never written holds can be one row for all of them.

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


def scan_rows(choose, step, inputs, state, memory, index=()):
    """Runs a step over time that reads and overwrites a few slots of a memory.

    `reads_t, writes_t, watched_t, index_t = choose(inputs_t, state_{t-1}, M_{t-1}, index_{t-1})`
    `outputs_t, state_t, new_t = step(inputs_t, state_{t-1}, M_{t-1}[reads_t], M_{t-1}[writes_t], reads_t,
    writes_t)`
    `M_t = M_{t-1}` with what the slots `writes_t` hold replaced by `new_t`

    The backward loop recomputes each step from the rows that it read and overwrote, whose numbers were
    kept; as rows never change (`Rows`), those are the ones that the step saw, to the last bit, and no memory
    has to be walked back. Beside N integers that takes O(T (rows W + state)), gradients included, and the
    time of a step does not depend on N. (Rae et al. 2016, arXiv 1610.09027, section 3.4, roll one memory
    back instead, which needs it and its gradient whole, 2 N W numbers of each sequence.) What chooses the
    slots has no gradient and is not run again.

    Args:
      choose: see above. `reads` and `watched` are nests of ints `[B, ...]`, `writes` is ints `[B, m]`; all
        below B N, or B N for a write that goes nowhere. No slot may be written twice in a step.
      step: see above. It may read variables, which get their gradients; it is traced twice and must draw no
        random numbers. `new` is `[B, m, W]`.
      inputs: nest of time-major tensors `[T, B, ...]`.
      state: nest of tensors `[B, ...]`.
      memory: `Rows` with room for `T m` written rows of each sequence.
      index: nest of what `choose` alone carries from step to step, such as an index of the memory.

    Returns:
      `(outputs, watched, state, memory, index)`: outputs stacked to `[T, B, ...]`; the numbers of the rows
      that `watched_t` hold in M_t, for `memory.rows`, stacked likewise; the others after the last step.

    >>> import tensorflow as tf
    >>> from santm_tf.sparse.rows import Rows, scan_rows
    >>> choose = lambda x, s, memory, index: ([x], x[:, None], (), index)  # slot x_t
    >>> step = lambda x, s, read, held, *slots: (read[0], s, held + 1.0)
    >>> memory = Rows.start(tf.zeros([1, 1]), batch=1, slots=3, writes=3)
    >>> seen, _, _, memory, _ = scan_rows(choose, step, tf.constant([[2], [0], [2]]), (), memory)
    >>> seen.numpy().ravel().tolist(), memory.whole(1).numpy().ravel().tolist()
    ([0.0, 0.0, 1.0], [1.0, 0.0, 2.0])
    """
    nest = tf.nest
    leaves = [tf.convert_to_tensor(v) for v in nest.flatten((inputs, state))]
    n_in, n_state = len(nest.flatten(inputs)), len(nest.flatten(state))
    has_gradient = [v.dtype.is_floating for v in leaves]
    index = nest.map_structure(tf.convert_to_tensor, index)
    like = {}  # structures, known once a step was traced

    def chosen(x, s, memory, index):
        reads, writes, watched, index = choose(nest.pack_sequence_as(inputs, x),
                                               nest.pack_sequence_as(state, s), memory, index)
        like["reads"], like["watched"] = reads, watched
        return nest.flatten(reads), writes, nest.flatten(watched), index

    def flat_step(x, s, read, held, reads, writes):
        y, new, rows = step(nest.pack_sequence_as(inputs, x), nest.pack_sequence_as(state, s),
                            nest.pack_sequence_as(like["reads"], read), held,
                            nest.pack_sequence_as(like["reads"], reads), writes)
        like["outputs"] = y
        return nest.flatten(y), nest.flatten(new), rows

    @tf.custom_gradient
    def run(initial, *differentiable):
        given = iter(differentiable)
        everything = [next(given) if smooth else v for v, smooth in zip(leaves, has_gradient, strict=True)]
        xs, s0 = everything[:n_in], everything[n_in:]
        length = xs[0].shape[0] if xs[0].shape[0] is not None else tf.shape(xs[0])[0]
        reading = [unstack(x, length) for x in xs]
        start = Rows(initial, memory.written, memory.holds)
        first = [x[0] for x in xs]
        r0, w0, watch0, _ = chosen(first, s0, start, index)
        y0, _, new0 = flat_step(first, s0, [start.at(r) for r in r0], start.at(w0), r0, w0)

        def places(t, writes):
            """Where what step t writes to some slots is among what is written, `[B, m]`."""
            # Of shapes, not of numbers from outside: those the backward program would get as data.
            batch, count = tf.unstack(tf.shape(writes))
            begin = tf.range(batch)[:, None] * (tf.shape(memory.written)[0] // batch)
            return begin + t * count + tf.range(count)

        def settled(t, written, holds, writes, new):
            """The memory after the step before wrote some."""
            at = places(tf.maximum(t - 1, 0), writes)  # step 0 writes over what comes before it
            return Rows(initial, tf.tensor_scatter_nd_update(written, at[..., None], new),
                        tf.tensor_scatter_nd_update(holds, writes[..., None], tf.shape(initial)[0] + at))

        def after(watched, holds, writes, t):
            """The rows that slots hold after step t wrote some."""
            batch, count = tf.unstack(tf.shape(writes))
            alone = [batch, *[1] * (watched.shape.rank - 1), count]
            new = tf.reshape(tf.shape(initial)[0] + places(t, writes), alone)
            same = watched[..., None] == tf.reshape(writes, alone)
            return tf.maximum(tf.gather(holds, watched), tf.reduce_max(tf.where(same, new, -1), -1))

        def forward(t, s, written, holds, last, new, index, ys, kept, watching):
            # A step's writes settle in the next: XLA copies, every step, what is read before it is written.
            now = settled(t, written, holds, last, new)
            x = [a.read(t) for a in reading]
            reads, writes, watched, index = chosen(x, s, now, index)
            rows = [tf.gather(now.holds, v) for v in (*reads, writes)]
            kept = [a.write(t, v) for a, v in zip(kept, [*s, *reads, writes, *rows], strict=True)]
            *read, held = map(now.rows, rows)
            y, s, new = flat_step(x, s, read, held, reads, writes)
            forbid_random_ops()
            ys = [a.write(t, v) for a, v in zip(ys, y, strict=True)]
            watched = [after(v, now.holds, writes, t) for v in watched]
            watching = [a.write(t, v) for a, v in zip(watching, watched, strict=True)]
            return (t + 1, s, now.written, now.holds, writes, tf.cast(new, written.dtype), index, ys, kept,
                    watching)

        keep = [*s0, *r0, w0, *r0, w0]
        nowhere = tf.zeros_like(w0) + tf.shape(start.holds)[0] - 1
        _, s_end, written, holds, last, new, index_end, ys, kept, watching = tf.while_loop(
            lambda t, *_: t < length, forward,
            (0, list(s0), start.written, start.holds, nowhere, tf.zeros_like(new0, start.written.dtype),
             index, *([array(v, length) for v in part] for part in (y0, keep, watch0))),
            maximum_iterations=length, parallel_iterations=1)
        ys, kept, watching = ([a.stack() for a in part] for part in (ys, kept, watching))
        end = settled(length, written, holds, last, new)
        counts = [n_state, len(r0), 1, len(r0), 1]

        def backward(*upstream, variables=None):
            variables = list(variables or ())
            d_outputs, _, d_end, (d_written, *_) = _parts(
                [None if d is None else tf.convert_to_tensor(d) for d in upstream],
                [len(ys), len(watching), n_state, len(upstream) - len(ys) - len(watching) - n_state])
            reading, keeping = ([unstack(v, length) for v in part] for part in (xs, kept))
            smooth_x = [i for i in range(n_in) if has_gradient[i]]
            smooth_s = [i for i in range(n_state) if has_gradient[n_in + i]]
            smooth_y = [i for i, v in enumerate(y0) if v.dtype.is_floating]
            dys = [unstack(d_outputs[j], length) for j in smooth_y]

            def step_back(i, ds, d_initial, d_written, dv, dxs):
                t = length - 1 - i
                x = [a.read(t) for a in reading]
                s, reads, (writes,), read_rows, (held_rows,) = _parts([a.read(t) for a in keeping], counts)
                read, held = [end.rows(v) for v in read_rows], end.rows(held_rows)
                sources = [x[j] for j in smooth_x], [s[j] for j in smooth_s], read, held
                with tf.GradientTape(watch_accessed_variables=False) as tape:
                    tape.watch(sources)
                    tape.watch(variables)
                    y, state, new = flat_step(x, s, read, held, reads, writes)
                gx, gs, g_read, g_held, gv = tape.gradient(
                    [*(y[j] for j in smooth_y), *(state[j] for j in smooth_s), new], (*sources, variables),
                    output_gradients=[*(d.read(t) for d in dys), *ds,
                                      tf.cast(tf.gather(d_written, places(t, writes)), new.dtype)],
                    unconnected_gradients="zero")
                initial_rows = tf.shape(initial)[0]
                for rows, g in zip([*read_rows, held_rows], [*g_read, g_held], strict=True):
                    of_initial = tf.where(rows[..., None] < initial_rows, g, tf.zeros_like(g))
                    d_initial = tf.tensor_scatter_nd_add(
                        d_initial, tf.minimum(rows, initial_rows - 1)[..., None], of_initial)
                    d_written = tf.tensor_scatter_nd_add(
                        d_written, tf.maximum(rows - initial_rows, 0)[..., None], g - of_initial)
                return (i + 1, gs, d_initial, d_written, add(dv, gv),
                        [a.write(t, g) for a, g in zip(dxs, gx, strict=True)])

            _, ds, d_initial, _, dv, dxs = tf.while_loop(
                lambda i, *_: i < length, step_back,
                (0, [d_end[j] for j in smooth_s], tf.zeros_like(initial), d_written,
                 [tf.zeros_like(v) for v in variables], [array(xs[j][0], length) for j in smooth_x]),
                maximum_iterations=length, parallel_iterations=1)
            gradients = [d_initial, *(a.stack() for a in dxs), *ds]
            return (gradients, dv) if variables else gradients

        return [*ys, *watching, *s_end, end.written, end.holds, *nest.flatten(index_end)], backward

    flat = run(memory.initial, *[v for v, smooth in zip(leaves, has_gradient, strict=True) if smooth])
    outputs, watched, state_end, end, index_end = _parts(
        flat, [len(nest.flatten(like["outputs"])), len(nest.flatten(like["watched"])), n_state, 2,
               len(nest.flatten(index))])
    return (nest.pack_sequence_as(like["outputs"], outputs), nest.pack_sequence_as(like["watched"], watched),
            nest.pack_sequence_as(state, state_end), Rows(memory.initial, *end),
            nest.pack_sequence_as(index, index_end))


def _parts(flat, counts):
    """A flat list cut into lists of so many."""
    parts, start = [], 0
    for count in counts:
        parts.append(flat[start:start + count])
        start += count
    return parts
