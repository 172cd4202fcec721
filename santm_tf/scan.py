"""One differentiable time loop for every recurrent model."""

from collections.abc import Callable

import tensorflow as tf

from santm_tf.loop import add, at_first, backward, carried, differentiable, forward, runs_beyond, smooth, vjp
from santm_tf.types import Nest


def scan(step: Callable[..., tuple[Nest, Nest]], inputs: Nest, state: Nest, *, constants: Nest = (),
         mask: tf.Tensor | None = None, steps: int | tf.Tensor | None = None) -> tuple[Nest, Nest]:
    """Runs `outputs_t, state_t = step(inputs_t, state_{t-1})` over time.

    The forward loop keeps the state that enters each step and nothing else. The backward loop walks back
    from the last step: it recomputes one step from the state it kept, and takes that step's
    vector-Jacobian product (reverse accumulation with one checkpoint per step; Griewank and Walther,
    *Evaluating Derivatives*, 2008, section 12.1). Memory is O(T * state), whatever happens inside a step,
    and XLA compiles both loops. (That is in a `tf.function`. Run eagerly, an outer gradient tape keeps what
    each step computes as well.) Where T is known to be 1, the step runs without a loop.

    Args:
      step: function of `(inputs_t, state)`, or `(inputs_t, state, constants)` where constants are given;
        returns `(outputs_t, new_state)`. It may read variables, which get their gradients. Other tensors
        from outside get none: pass them as `constants`. It is traced more than once and must draw no random
        numbers of its own.
      inputs: nest of time-major tensors `[T, B, ...]`, T >= 1.
      state: nest of tensors `[B, ...]`. Integer tensors are carried without a gradient.
      constants: nest of tensors that every step sees whole; they get gradients.
      mask: optional bool `[T, B]`. Where it is False the state is held and the output of the last step that
        was not masked is repeated (zeros before the first).
      steps: optional scalar int, how many leading steps to run (default T). The outputs beyond are zeros.
        May be a tensor: XLA needs no retracing when it changes.

    Returns:
      `(outputs, state)`: outputs stacked to `[T, B, ...]`, and the state after the last step run.

    Raises:
      ValueError: the new state has another structure or shape than the state, or (in a graph) the step
        draws random numbers, for which the recomputed step would draw others.

    >>> import tensorflow as tf
    >>> from santm_tf.scan import scan
    >>> total = lambda x, s: (s + x, s + x)
    >>> outputs, state = scan(total, tf.constant([[1.0], [2.0], [3.0]]), tf.zeros([1]))
    >>> outputs.numpy().ravel().tolist(), float(state[0])
    ([1.0, 3.0, 6.0], 6.0)
    """
    if runs_beyond(steps):
        rows = tf.nest.flatten(inputs)[0]
        within = tf.broadcast_to(tf.range(tf.shape(rows)[0])[:, None] < steps, tf.shape(rows)[:2])
        mask, steps = within if mask is None else mask & within, None
    if mask is not None:
        return _masked(step, inputs, state, constants, mask, steps)
    inputs, state, constants = tf.nest.map_structure(tf.convert_to_tensor, (inputs, state, constants))

    def one(x, s, k):
        y, new = step(x, s, k) if tf.nest.flatten(k) else step(x, s)
        return y, carried(new, s)

    return differentiable(lambda *given: _run(one, *given, steps), inputs, state, constants)


def _run(one, xs, s0, ks, steps):
    """What `differentiable` asks for."""
    def visit(t, x, s):
        y, new = one(x, s, ks)
        return new, (y, s)

    # Traced outside the loop for the outputs' structure. And a cell that draws its dropout masks once and
    # caches them does so here, where both loops can see them.
    first = visit(0, at_first(xs), s0)
    end, (ys, kept) = forward(visit, xs, s0, first, steps)

    def back(upstream, variables):
        dys, ds = map(smooth, upstream)

        def visit_back(t, read, carry):
            (x, s, dy), (ds, dk, dv) = read, carry
            k = tf.nest.map_structure(tf.identity, ks)
            gx, gs, gk, gv = vjp(lambda: one(x, s, k), (x, s, k), variables, (dy, ds))
            return (gs, add(dk, gk), add(dv, gv)), gx

        zeros = [[tf.zeros_like(v) for v in part] for part in (smooth(ks), variables)]
        (ds, dk, dv), dxs = backward(visit_back, (xs, kept, dys), (ds, *zeros), smooth(at_first(xs)), steps)
        return (dxs, ds, dk), dv

    return (ys, end), back


def swap_time(nested):
    """Batch-major to time-major and back, for a nest of tensors."""
    return tf.nest.map_structure(
        lambda x: tf.transpose(x, [1, 0, *range(2, x.shape.rank)]), nested)


def _masked(step, inputs, state, constants, mask, steps):
    """The scan whose masked steps hold the state and repeat the output."""
    def held_step(x, s, *rest):
        (x, keep), (old, y_old) = x, s
        y, new = step(x, old, *rest)

        def hold(fresh, held):
            fits = tf.reshape(keep, tf.concat([tf.shape(keep), [1] * (fresh.shape.rank - 1)], 0))
            return tf.where(fits, fresh, held)

        y = tf.nest.map_structure(hold, y, y_old)
        return y, (tf.nest.map_structure(hold, carried(new, old), old), y)

    y0, _ = step(at_first(inputs), state, *[constants] if tf.nest.flatten(constants) else [])
    start = state, tf.nest.map_structure(tf.zeros_like, y0)
    outputs, (state, _) = scan(held_step, (inputs, mask), start, constants=constants, steps=steps)
    return outputs, state
