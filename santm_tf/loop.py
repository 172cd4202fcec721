"""The loop under `scan` and `scan_rows`: over time, back over time, and the gradients of one step.

The loop over time keeps what enters each step. The loop back recomputes a step from what was kept, and takes
its vector-Jacobian product.
"""

import contextlib
import contextvars

import tensorflow as tf

from santm_tf.gradients import custom_gradient
from santm_tf.ops import steps_of

_RANDOM_OPS = ("RandomUniform", "RandomStandardNormal", "TruncatedNormal", "RandomGamma",
               "RandomPoisson", "Multinomial", "RandomShuffle", "StatefulUniform",
               "StatefulStandardNormal", "StatefulTruncatedNormal", "RngReadAndSkip")


def differentiable(run, *given):
    """The result of `run(*given)`, with the gradients that `run` says.

    Args:
      run: returns `(result, back)`. `back(upstream, variables)` takes the gradients of the result, in its
        structure, and returns those of `smooth(given)` and those of the variables that `run` read.
      *given: nests of tensors.
    """
    leaves = tf.nest.flatten(given)

    @custom_gradient
    def run_smooth(*tensors):
        tensors = iter(tensors)
        result, back = run(*tf.nest.pack_sequence_as(
            given, [next(tensors) if _is_smooth(v) else v for v in leaves]))

        def gradients(*upstream, variables=None):
            # A gradient may be tf.IndexedSlices, where the result was indexed.
            upstream = [d if d is None else tf.convert_to_tensor(d) for d in upstream]
            found, of_variables = back(tf.nest.pack_sequence_as(result, upstream), list(variables or ()))
            found = tf.nest.flatten(found)
            return (found, of_variables) if variables else found

        return result, gradients

    return run_smooth(*smooth(leaves))


def forward(step, inputs, start, first, steps=None):
    """Runs `state, rows = step(t, inputs_t, state)` from step 0 on.

    Args:
      step: see above. `state` and `rows` are nests of tensors.
      inputs: nest of tensors `[T, ...]`.
      start: the state before step 0.
      first: what the step returns at t = 0, traced outside the loop.
      steps: how many steps to run; None for T. Then a T of 1 makes no loop: `first` is that step.

    Returns:
      `(state, rows)`: the state after the last step, and the rows stacked to `[T, ...]`, zeros where no step
      ran.
    """
    state, rows = first
    if steps is None and tf.nest.flatten(inputs)[0].shape[0] == 1:
        return state, tf.nest.map_structure(lambda row: row[None], rows)
    return _loop(step, inputs, start, rows, steps, lambda i, last: i)


def backward(step, inputs, start, like, steps=None):
    """Runs the step as `forward` does, but from the last step to step 0. `like`: rows of one step."""
    return _loop(step, inputs, start, like, steps, lambda i, last: last - 1 - i)


def _loop(step, inputs, start, like, steps, time):
    nest = tf.nest
    length, last = steps_run(inputs), steps_run(inputs, steps)

    def unstack(x):
        # Reading x[t] in a loop makes its gradient O(T^2); a TensorArray's is O(T).
        return tf.TensorArray(x.dtype, length, element_shape=x.shape[1:]).unstack(x)

    def array(row):
        # Not empty: where no step runs, stack() learns the shape of its zeros from the first.
        return tf.TensorArray(row.dtype, length, element_shape=row.shape).write(0, tf.zeros_like(row))

    reads, arrays = nest.map_structure(unstack, inputs), nest.map_structure(array, like)

    def body(i, state, arrays):
        t = time(i, last)
        state, rows = step(t, nest.map_structure(lambda a: a.read(t), reads), state)
        _forbid_random_ops()
        return i + 1, state, nest.map_structure(lambda a, row: a.write(t, row), arrays, rows)

    _, state, arrays = tf.while_loop(lambda i, *_: i < last, body, (0, start, arrays),
                                     maximum_iterations=length, parallel_iterations=1)
    return state, nest.map_structure(lambda a: a.stack(), arrays)


_all_steps = contextvars.ContextVar("all_steps", default=False)


@contextlib.contextmanager
def all_steps():
    """In it loops run all T steps, whatever `steps` says: more work, and no loop that depends on data.

    `tf.vectorized_map` and `batch_jacobian` take no such loop. What runs beyond `steps` holds the state.
    """
    token = _all_steps.set(True)
    try:
        yield
    finally:
        _all_steps.reset(token)


def steps_run(inputs, steps=None):
    """How many steps run: an int where T is known and all do."""
    length = steps_of(tf.nest.flatten(inputs)[0], axis=0)
    return length if steps is None or _all_steps.get() else tf.minimum(tf.cast(steps, tf.int32), length)


def runs_beyond(steps):
    """Whether loops run on after `steps`."""
    return steps is not None and _all_steps.get()


def at_first(inputs):
    return tf.nest.map_structure(lambda x: x[0], inputs)


def carried(new, old):
    """A new state in the structure and with the static shapes of the old one."""
    new, before = [tf.convert_to_tensor(v) for v in tf.nest.flatten(new)], tf.nest.flatten(old)
    if len(new) != len(before):
        raise ValueError(f"scan: step returned {len(new)} state tensors, expected {len(before)}")
    for v, was in zip(new, before, strict=True):
        v.set_shape(v.shape.merge_with(was.shape))
    return tf.nest.pack_sequence_as(old, new)


def vjp(run, sources, variables, upstream):
    """The gradients of `smooth(run())`, by the smooth tensors of each source and by the variables."""
    sources = [smooth(source) for source in sources]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch((sources, variables))
        targets = smooth(run())
    upstream = [tf.cast(d, v.dtype) for d, v in zip(tf.nest.flatten(upstream), targets, strict=True)]
    gradients = tape.gradient(targets, (*sources, variables), output_gradients=upstream,
                              unconnected_gradients="zero")
    # One may be tf.IndexedSlices, where the step looks a row up.
    return tf.nest.map_structure(tf.convert_to_tensor, gradients)


def add(totals, gradients):
    sums = [a + tf.cast(g, a.dtype) for a, g in zip(totals, gradients, strict=True)]
    for total, a in zip(sums, totals, strict=True):
        # Where a batch's size is not known, that of a weight of shape [1, .] could be lost to it.
        total.set_shape(a.shape)
    return sums


def smooth(nested):
    """The tensors that have gradients. (The gradient of one that has none may be None.)"""
    return [v for v in tf.nest.flatten(nested) if v is not None and _is_smooth(v)]


def _is_smooth(tensor):
    return tensor.dtype.is_floating or tensor.dtype.is_complex


def _forbid_random_ops():
    if tf.executing_eagerly():
        return
    graph = tf.compat.v1.get_default_graph().as_graph_def()
    inner = [node for function in graph.library.function for node in function.node_def]
    for node in [*graph.node, *inner]:
        if node.op in _RANDOM_OPS:
            raise ValueError(
                f"scan: the step draws random numbers inside the time loop ({node.name}), and the "
                "backward pass would draw others; draw them before and pass them as constants")
