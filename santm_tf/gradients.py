"""A gradient of one's own, that lives as long as the graph it was traced into."""

import functools
import weakref
from collections.abc import Callable

import tensorflow as tf
from tensorflow.python.framework import ops

_OF_FUNCTIONS = "CustomGradient-"  # how TensorFlow names these gradients


def custom_gradient(function: Callable) -> Callable:
    """`tf.custom_gradient(function)`, of which nothing is left when its graph is gone.

    TensorFlow enters each gradient that is traced into a registry, for ever, and with it the graph and all
    that it was made of. Here the graph itself keeps its gradients (`keep_gradients`).

    Args:
      function: of tensors, gives `(results, backward)` as `tf.custom_gradient` takes it.

    >>> import tensorflow as tf
    >>> from santm_tf.gradients import custom_gradient
    >>> halved = custom_gradient(lambda x: (x, lambda upstream: upstream / 2))
    >>> x = tf.Variable(3.0)
    >>> with tf.GradientTape() as tape:
    ...     y = halved(x)
    >>> float(tape.gradient(y, x))
    0.5
    """
    differentiable = tf.custom_gradient(function)

    @functools.wraps(function)
    def run(*tensors):
        results = differentiable(*tensors)
        keep_gradients()
        return results

    return run


def keep_gradients():
    """Has the graph that is being traced, and those around it, keep the gradients of functions inside it.

    TensorFlow's registry then only points to them, and forgets them with the graph. That holds for those that
    others trace, too: Keras' optimisers add up gradients by a function with one, by which no step of training
    would ever be freed. Theirs come after ours, and are found when the next graph is traced.
    """
    if tf.executing_eagerly():
        return
    graph = ops.get_default_graph()
    while graph is not None and not hasattr(graph, "gradients_kept"):
        graph.gradients_kept = []
        graph = getattr(graph, "outer_graph", None)
    entries = ops.gradient_registry._registry  # there is no other way to take an entry out
    for name, entry in list(entries.items()):
        gradient = entry["type"]
        if name.startswith(_OF_FUNCTIONS) and not isinstance(gradient, _Pointer):
            kept = getattr(_graph_of(gradient), "gradients_kept", None)
            if kept is not None:
                kept.append(gradient)
                entry["type"] = _Pointer(gradient)
                weakref.finalize(gradient, entries.pop, name, None).atexit = False


class _Pointer:
    """A gradient that is kept elsewhere."""

    def __init__(self, gradient):
        self._gradient = weakref.ref(gradient)

    def __call__(self, *given):
        return self._gradient()(*given)


def _graph_of(gradient):
    """The graph of a function whose gradient TensorFlow registered; None if it did so in another way."""
    for name in "tape_grad_fn", "result":  # what the gradient closes over, and what that does
        free = getattr(getattr(gradient, "__code__", None), "co_freevars", ())
        if name not in free:
            return None
        gradient = gradient.__closure__[free.index(name)].cell_contents
    return next((t.graph for t in tf.nest.flatten(gradient) if tf.is_symbolic_tensor(t)), None)
