"""One differentiable time loop for every recurrent model."""

import tensorflow as tf

_RANDOM_OPS = ("RandomUniform", "RandomStandardNormal", "TruncatedNormal", "RandomGamma",
               "RandomPoisson", "Multinomial", "RandomShuffle", "StatefulUniform",
               "StatefulStandardNormal", "StatefulTruncatedNormal", "RngReadAndSkip")


def scan(step, inputs, state, *, constants=(), mask=None, steps=None):
    """Runs `outputs_t, state_t = step(inputs_t, state_{t-1})` over time.

    The forward loop keeps the state that enters each step and nothing else; the backward loop walks
    back from the last step, recomputes one step from the state it kept, and takes that step's
    vector-Jacobian product (reverse accumulation with one checkpoint per step; Griewank and
    Walther, *Evaluating Derivatives*, 2008, section 12.1). Memory is O(T * state), whatever happens
    inside a step, and XLA compiles both loops. (That is in a `tf.function`. Run eagerly, an outer
    gradient tape keeps what each step computes as well.)

    Args:
      step: function of `(inputs_t, state)`, or `(inputs_t, state, constants)` where constants are
        given; returns `(outputs_t, new_state)`. It may read variables, which get their gradients;
        other tensors from outside get none, and belong into `constants`.
        It is traced twice and must draw no random numbers of its own.
      inputs: nest of time-major tensors `[T, B, ...]`, T >= 1.
      state: nest of tensors `[B, ...]`. Integer tensors are carried without a gradient.
      constants: nest of tensors that every step sees whole; they get gradients.
      mask: optional bool `[T, B]`. Where it is False the state is held and the output of the last
        step that was not masked is repeated (zeros before the first).
      steps: optional scalar int, how many leading steps to run (default T). The outputs beyond are
        zeros. May be a tensor: XLA needs no retracing when it changes.

    Returns:
      `(outputs, state)`: outputs stacked to `[T, B, ...]`, and the state after the last step run.

    Raises:
      ValueError: the new state's structure is another than the state's, or (in a graph) the step
        draws random numbers, for which the recomputed step would draw others.

    >>> import tensorflow as tf
    >>> from santm_tf.scan import scan
    >>> total = lambda x, s: (s + x, s + x)
    >>> outputs, state = scan(total, tf.constant([[1.0], [2.0], [3.0]]), tf.zeros([1]))
    >>> outputs.numpy().ravel().tolist(), float(state[0])
    ([1.0, 3.0, 6.0], 6.0)
    """
    if mask is not None:
        return _masked(step, inputs, state, constants, mask, steps)
    nest = tf.nest
    leaves = [tf.convert_to_tensor(v) for v in nest.flatten((inputs, state, constants))]
    n_in, n_state = len(nest.flatten(inputs)), len(nest.flatten(state))
    has_gradient = [v.dtype.is_floating or v.dtype.is_complex for v in leaves]
    fixed = {i: v for i, v in enumerate(leaves) if not has_gradient[i]}

    def flat_step(x, s, k):
        """`step` on flat lists; the new state keeps the old one's static shapes."""
        arguments = [nest.pack_sequence_as(inputs, x), nest.pack_sequence_as(state, s)]
        if k:
            arguments.append(nest.pack_sequence_as(constants, k))
        y, new = step(*arguments)
        new = nest.flatten(new)
        if len(new) != n_state:
            raise ValueError(f"scan: step returned {len(new)} state tensors, expected {n_state}")
        new = [tf.convert_to_tensor(v) for v in new]
        for v, old in zip(new, s, strict=True):
            v.set_shape(v.shape.merge_with(old.shape))
        return y, new

    outputs_like = []

    @tf.custom_gradient
    def run(*differentiable):
        given = iter(differentiable)
        everything = [fixed[i] if i in fixed else next(given) for i in range(len(leaves))]
        xs, s0, ks = (everything[:n_in], everything[n_in:n_in + n_state],
                      everything[n_in + n_state:])
        length = xs[0].shape[0] if xs[0].shape[0] is not None else tf.shape(xs[0])[0]
        last = length if steps is None else tf.minimum(tf.cast(steps, tf.int32), length)
        reads = [unstack(x, length) for x in xs]
        # Traced outside the loop for the outputs' structure, and so that a cell which draws its
        # dropout masks once and caches them does so here, where both loops can see them.
        y0, _ = flat_step([x[0] for x in xs], s0, ks)
        outputs_like[:] = [y0]
        y0 = nest.flatten(y0)

        def forward(t, s, ys, kept):
            kept = [a.write(t, v) for a, v in zip(kept, s, strict=True)]
            y, s = flat_step([a.read(t) for a in reads], s, ks)
            forbid_random_ops()
            ys = [a.write(t, v) for a, v in zip(ys, nest.flatten(y), strict=True)]
            return (t + 1, s, ys, kept)

        _, s_end, ys, kept = tf.while_loop(
            lambda t, *_: t < last, forward,
            (0, list(s0), [array(v, length) for v in y0], [array(v, length) for v in s0]),
            maximum_iterations=length, parallel_iterations=1)
        ys, kept = [a.stack() for a in ys], [a.stack() for a in kept]

        def backward(*upstream, variables=None):
            variables = list(variables or ())
            dys = [unstack(d, length) for d in upstream[:len(ys)]]
            reads = [unstack(x, length) for x in xs]
            states = [unstack(v, length) for v in kept]
            smooth_x = [i for i in range(n_in) if has_gradient[i]]
            smooth_s = [i for i in range(n_state) if has_gradient[n_in + i]]
            smooth_k = [i for i in range(len(ks)) if has_gradient[n_in + n_state + i]]
            smooth_y = [i for i, v in enumerate(y0) if v.dtype.is_floating or v.dtype.is_complex]

            def step_back(i, ds, dk, dv, dxs):
                t = last - 1 - i
                x = [a.read(t) for a in reads]
                s = [a.read(t) for a in states]
                sources = [x[j] for j in smooth_x], [s[j] for j in smooth_s], \
                    [tf.identity(ks[j]) for j in smooth_k]
                k = list(ks)
                for j, v in zip(smooth_k, sources[2], strict=True):
                    k[j] = v
                with tf.GradientTape(watch_accessed_variables=False) as tape:
                    tape.watch(sources)
                    tape.watch(variables)
                    y, new = flat_step(x, s, k)
                y = nest.flatten(y)
                gx, gs, gk, gv = tape.gradient(
                    [y[j] for j in smooth_y] + [new[j] for j in smooth_s],
                    (*sources, variables),
                    output_gradients=[dys[j].read(t) for j in smooth_y] + ds,
                    unconnected_gradients="zero")
                return (i + 1, gs, add(dk, gk), add(dv, gv),
                        [a.write(t, g) for a, g in zip(dxs, gx, strict=True)])

            _, ds, dk, dv, dxs = tf.while_loop(
                lambda i, *_: i < last, step_back,
                (0, [upstream[len(ys) + j] for j in smooth_s],
                 [tf.zeros_like(ks[j]) for j in smooth_k], [tf.zeros_like(v) for v in variables],
                 [array(xs[j][0], length) for j in smooth_x]),
                maximum_iterations=length, parallel_iterations=1)
            gradients = [a.stack() for a in dxs] + ds + dk
            return (gradients, dv) if variables else gradients

        return ys + s_end, backward

    flat = run(*[v for v, smooth in zip(leaves, has_gradient, strict=True) if smooth])
    flat = list(flat) if isinstance(flat, (list, tuple)) else [flat]
    n_out = len(flat) - n_state
    return (nest.pack_sequence_as(outputs_like[0], flat[:n_out]),
            nest.pack_sequence_as(state, flat[n_out:]))


def swap_time(nested):
    """Batch-major to time-major and back, for a nest of tensors."""
    return tf.nest.map_structure(
        lambda x: tf.transpose(x, [1, 0, *range(2, x.shape.rank)]), nested)


def _masked(step, inputs, state, constants, mask, steps):
    """The scan whose masked steps hold the state and repeat the output."""
    nest = tf.nest
    first = nest.map_structure(lambda x: x[0], inputs)
    y0, _ = step(first, state, constants) if nest.flatten(constants) else step(first, state)

    def held_step(x, s, *rest):
        x, keep = x
        old, y_old = s
        y, new = step(x, old, *rest)

        def hold(fresh, held):
            fits = tf.reshape(keep, tf.concat([tf.shape(keep), [1] * (fresh.shape.rank - 1)], 0))
            return tf.where(fits, fresh, held)

        y = nest.map_structure(hold, y, y_old)
        new = nest.map_structure(hold, nest.pack_sequence_as(old, nest.flatten(new)), old)
        return y, (new, y)

    outputs, (state, _) = scan(held_step, (inputs, mask),
                               (state, nest.map_structure(tf.zeros_like, y0)),
                               constants=constants, steps=steps)
    return outputs, state


def unstack(x, length):
    # Reading x[t] in a loop makes its gradient O(T^2); a TensorArray's is O(T).
    return tf.TensorArray(x.dtype, length, element_shape=x.shape[1:]).unstack(x)


def array(like, length):
    # Not empty: where no step runs, stack() learns the shape of its zeros from the first.
    array = tf.TensorArray(like.dtype, length, element_shape=like.shape)
    return array.write(0, tf.zeros_like(like))


def add(totals, gradients):
    sums = []
    for a, g in zip(totals, gradients, strict=True):
        # A gradient may be tf.IndexedSlices, where the step looks a row up.
        sums.append(a + tf.cast(tf.convert_to_tensor(g), a.dtype))
        # Where a batch's size is not known, that of a weight of shape [1, .] could be lost to it.
        sums[-1].set_shape(a.shape)
    return sums


def forbid_random_ops():
    if tf.executing_eagerly():
        return
    graph = tf.compat.v1.get_default_graph().as_graph_def()
    inner = [node for function in graph.library.function for node in function.node_def]
    for node in [*graph.node, *inner]:
        if node.op in _RANDOM_OPS:
            raise ValueError(
                f"scan: the step draws random numbers inside the time loop ({node.name}), and the "
                "backward pass would draw others; draw them before and pass them as constants")
