"""A time loop over a memory of which each step touches a few rows, and no copy of which is kept."""

import tensorflow as tf

from santm_tf.scan import add, array, forbid_random_ops, unstack


def scan_rows(choose, step, inputs, state, memory, index=()):
    """Runs a step over time that reads and overwrites a few rows of a memory.

    `slots_t = (reads_t, writes_t)`, `slots_t, index_t = choose(inputs_t, state_{t-1}, M_{t-1}, index_{t-1})`
    `outputs_t, state_t, new_t = step(inputs_t, state_{t-1}, M_{t-1}[reads_t], M_{t-1}[writes_t], slots_t)`
    `M_t = M_{t-1}` with the rows `writes_t` replaced by `new_t`

    The forward loop keeps the rows that a step overwrites, and what the loop of `scan` keeps. The backward
    loop puts them back step by step and so walks the memory back to where it began, bit for bit; it
    recomputes each step from its rows (*rollback*: Rae et al. 2016, arXiv 1610.09027, section 3.4). Memory
    is one M, one gradient of it and O(T (rows W + state)), and the time of a step does not depend on N,
    whatever the length. What chooses the rows has no gradient, and is not run again.

    Args:
      choose: see above; ints `reads` and `writes`, nests of tensors of one axis or more, below N. No row may
        be written twice in a step, unless nothing that counts ever reads it.
      step: see above. It gets the rows as nests like `reads` and `writes`, with an axis W more, and gives the
        new rows of `writes`. It may read variables, which get their gradients; it is traced twice and
        must draw no random numbers.
      inputs: nest of time-major tensors `[T, B, ...]`.
      state: nest of tensors `[B, ...]`.
      memory: `[N, W]`; of a batch, the memories one after the other.
      index: nest of what `choose` alone carries from step to step, such as an index of the memory.

    Returns:
      `(outputs, state, memory, index)`: outputs stacked to `[T, B, ...]`, the others after the last step.

    >>> import tensorflow as tf
    >>> from santm_tf.rows import scan_rows
    >>> choose = lambda x, s, memory, index: (([x], [x]), index)  # row x_t
    >>> step = lambda x, s, read, written, slots: (read[0], s, [written[0] + 1.0])
    >>> seen, _, memory, _ = scan_rows(choose, step, tf.constant([[2], [0], [2]]), (), tf.zeros([3, 1]))
    >>> seen.numpy().ravel().tolist(), memory.numpy().ravel().tolist()
    ([0.0, 0.0, 1.0], [1.0, 0.0, 2.0])
    """
    nest = tf.nest
    leaves = [tf.convert_to_tensor(v) for v in nest.flatten((inputs, state))]
    n_in, n_state = len(nest.flatten(inputs)), len(nest.flatten(state))
    has_gradient = [v.dtype.is_floating for v in leaves]
    index = nest.map_structure(tf.convert_to_tensor, index)
    like = {}  # structures, known once a step was traced

    def rows(memory, slots):
        return [tf.gather(memory, v) for v in slots]

    def replaced(memory, slots, new):
        for place, row in zip(slots, new, strict=True):
            memory = tf.tensor_scatter_nd_update(memory, place[..., None], tf.cast(row, memory.dtype))
        return memory

    def chosen(x, s, memory, index):
        slots, index = choose(nest.pack_sequence_as(inputs, x), nest.pack_sequence_as(state, s), memory,
                              index)
        like["reads"], like["writes"] = slots
        reads, writes = (nest.flatten(part) for part in slots)
        return reads, writes, index

    def flat_step(x, s, read, written, reads, writes):
        packed = [nest.pack_sequence_as(like[part], v) for part, v in
                  (("reads", read), ("writes", written), ("reads", reads), ("writes", writes))]
        y, new, overwriting = step(nest.pack_sequence_as(inputs, x), nest.pack_sequence_as(state, s),
                                   packed[0], packed[1], (packed[2], packed[3]))
        like["outputs"] = y
        return nest.flatten(y), nest.flatten(new), nest.flatten(overwriting)

    @tf.custom_gradient
    def run(memory, *differentiable):
        given = iter(differentiable)
        everything = [next(given) if smooth else v for v, smooth in zip(leaves, has_gradient, strict=True)]
        xs, s0 = everything[:n_in], everything[n_in:]
        length = xs[0].shape[0] if xs[0].shape[0] is not None else tf.shape(xs[0])[0]
        reading = [unstack(x, length) for x in xs]
        first = [x[0] for x in xs]
        r0, w0, _ = chosen(first, s0, memory, index)
        y0, _, _ = flat_step(first, s0, rows(memory, r0), rows(memory, w0), r0, w0)

        def forward(t, s, memory, index, ys, kept):
            x = [a.read(t) for a in reading]
            reads, writes, index = chosen(x, s, memory, index)
            old = rows(memory, writes)
            kept = [a.write(t, v) for a, v in zip(kept, [*s, *reads, *writes, *old], strict=True)]
            y, s, new = flat_step(x, s, rows(memory, reads), old, reads, writes)
            forbid_random_ops()
            ys = [a.write(t, v) for a, v in zip(ys, y, strict=True)]
            return t + 1, s, replaced(memory, writes, new), index, ys, kept

        keep = [*s0, *r0, *w0, *rows(memory, w0)]
        _, s_end, end, index_end, ys, kept = tf.while_loop(
            lambda t, *_: t < length, forward,
            (0, list(s0), memory, index, [array(v, length) for v in y0], [array(v, length) for v in keep]),
            maximum_iterations=length, parallel_iterations=1)
        ys, kept = [a.stack() for a in ys], [a.stack() for a in kept]
        counts = [n_state, len(r0), len(w0), len(w0)]

        def backward(*upstream, variables=None):
            variables = list(variables or ())
            dys = [unstack(d, length) for d in upstream[:len(ys)]]
            reading, keeping = ([unstack(v, length) for v in part] for part in (xs, kept))
            smooth_x = [i for i in range(n_in) if has_gradient[i]]
            smooth_s = [i for i in range(n_state) if has_gradient[n_in + i]]
            smooth_y = [i for i, v in enumerate(y0) if v.dtype.is_floating]

            def step_back(i, ds, d_memory, memory, dv, dxs):
                t = length - 1 - i
                x = [a.read(t) for a in reading]
                s, reads, writes, old = _parts([a.read(t) for a in keeping], counts)
                memory = replaced(memory, writes, old)
                read = rows(memory, reads)
                sources = [x[j] for j in smooth_x], [s[j] for j in smooth_s], read, old
                with tf.GradientTape(watch_accessed_variables=False) as tape:
                    tape.watch(sources)
                    tape.watch(variables)
                    y, state, new = flat_step(x, s, read, old, reads, writes)
                gx, gs, g_read, g_old, gv = tape.gradient(
                    [*(y[j] for j in smooth_y), *(state[j] for j in smooth_s), *new], (*sources, variables),
                    output_gradients=[*(dys[j].read(t) for j in smooth_y), *ds, *rows(d_memory, writes)],
                    unconnected_gradients="zero")
                d_memory = replaced(d_memory, writes, g_old)
                for place, g in zip(reads, g_read, strict=True):
                    d_memory = tf.tensor_scatter_nd_add(d_memory, place[..., None], g)
                return (i + 1, gs, d_memory, memory, add(dv, gv),
                        [a.write(t, g) for a, g in zip(dxs, gx, strict=True)])

            d_end = upstream[len(ys) + n_state]
            _, ds, d_memory, _, dv, dxs = tf.while_loop(
                lambda i, *_: i < length, step_back,
                (0, [upstream[len(ys) + j] for j in smooth_s], d_end, end,
                 [tf.zeros_like(v) for v in variables], [array(xs[j][0], length) for j in smooth_x]),
                maximum_iterations=length, parallel_iterations=1)
            gradients = [d_memory, *(a.stack() for a in dxs), *ds]
            return (gradients, dv) if variables else gradients

        return [*ys, *s_end, end, *nest.flatten(index_end)], backward

    flat = run(memory, *[v for v, smooth in zip(leaves, has_gradient, strict=True) if smooth])
    outputs, state_end, (end,), index_end = _parts(
        flat, [len(flat) - n_state - 1 - len(nest.flatten(index)), n_state, 1, len(nest.flatten(index))])
    return (nest.pack_sequence_as(like["outputs"], outputs), nest.pack_sequence_as(state, state_end), end,
            nest.pack_sequence_as(index, index_end))


def _parts(flat, counts):
    """A flat list cut into lists of so many."""
    parts, start = [], 0
    for count in counts:
        parts.append(flat[start:start + count])
        start += count
    return parts
