"""A function compiled by XLA whose gradients are compiled programs, too."""

import functools

import tensorflow as tf
from tensorflow.python import pywrap_tfe
from tensorflow.python.eager import record
from tensorflow.python.ops.resource_variable_ops import variable_accessed

from santm_tf.gradients import keep_gradients
from santm_tf.loop import all_steps, differentiable, smooth, vjp

_HIGHER_ORDER = 2  # TensorFlow's number for a persistent tape, or one inside another


class Program:
    """`function(*args)` compiled by XLA, once per shape. Gradients of any order are programs of their own.

    TensorFlow's gradient of a compiled function hands what the forward pass kept to the backward pass. For a
    tape that may be asked more than once it also hands on what a second gradient would need: lists of
    tensors, which cannot leave an XLA program. There the gradient is a program that computes the function
    once more.

    Args:
      function: of nests of tensors and `None`s, and of what is hashable; gives a nest of tensors. It may read
        variables.

    >>> square = Program(lambda x: x ** 3)
    >>> with tf.GradientTape(persistent=True) as tape:
    ...     x = tf.constant(2.0)
    ...     tape.watch(x)
    ...     y = square(x)
    >>> float(tape.gradient(y, x))
    12.0
    """

    def __init__(self, function):
        self._function, self._variables, self._gradients = function, {}, {}
        # As a partial, which TensorFlow counts by itself: of the programs of one function it would warn as of
        # a function that is traced too often.
        self._compiled = tf.function(functools.partial(self._traced), jit_compile=True, autograph=False)

    def __call__(self, *args):
        keep_gradients()
        if not self._differentiated_twice(args):
            return self._compiled(*args)
        leaves = tf.nest.flatten(args)
        places = [i for i, leaf in enumerate(leaves) if tf.is_tensor(leaf)]

        def run(tensors):
            for i, tensor in zip(places, tensors, strict=True):
                leaves[i] = tensor
            given = tf.nest.pack_sequence_as(args, leaves)
            for variable in self._variables.values():
                variable_accessed(variable)  # has `differentiable` ask for its gradient
            with record.stop_recording():
                result = self._compiled(*given)
            return result, lambda *upstream: self._gradient(given, *upstream)

        return differentiable(run, [leaves[i] for i in places])

    def _traced(self, *args):
        with record.VariableWatcher() as watcher:
            result = self._function(*args)
        self._variables.update({variable.ref(): variable for variable in watcher.watched_variables()})
        return result

    def _differentiated_twice(self, args):
        """Whether a gradient tape around this call may want the gradient of its gradient."""
        if record.could_possibly_record():
            if not self._variables:
                self._compiled.get_concrete_function(*args)  # to know them
            for variable in self._variables.values():
                variable_accessed(variable)
        watched = [*filter(tf.is_tensor, tf.nest.flatten(args)),
                   *[variable.handle for variable in self._variables.values()]]
        return pywrap_tfe.TFE_Py_TapeSetPossibleGradientTypes(watched) == _HIGHER_ORDER

    def _gradient(self, args, upstream, variables):
        """Of the result, to the smooth tensors of args and to variables."""
        key = tuple(variable.ref() for variable in variables)
        if key not in self._gradients:
            def once_more(args, upstream):
                tensors = list(filter(tf.is_tensor, tf.nest.flatten(args)))
                with all_steps():
                    return vjp(lambda: self._function(*args), [tensors], variables, smooth(upstream))

            self._gradients[key] = Program(once_more)
        return self._gradients[key](args, upstream)
