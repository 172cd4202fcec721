"""Which layers a Keras model calls, on what, and in which order. Here the two Kerases differ, too.

`santm_tf.keras` has all else in which they do.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from santm_tf.errors import ArgumentError
from santm_tf.keras import VERSION, keras


class Call(NamedTuple):
    """One call of a layer, whose result is the next value. Value 0 is the model's input."""

    layer: Any
    places: tuple[int, ...]  # which values it takes
    several: bool = False  # as a list, even of one


def calls_of(model: keras.Model) -> tuple[list[Call], int]:
    """The calls that a built model and the models in it consist of; which value is the output.

    The layers of a subclassed model are found by calling it. A model is one call of itself where its `call`
    computes something of its own, or a layer is called on several tensors that are no list.

    >>> inputs = keras.Input([None, 2])
    >>> dense = keras.layers.Dense(2)
    >>> model = keras.Model(inputs, keras.layers.Add()([inputs, keras.Sequential([dense])(inputs)]))
    >>> calls, output = calls_of(model)
    >>> [(type(call.layer).__name__, call.places) for call in calls], output
    ([('Dense', (0,)), ('Add', (0, 1))], 2)
    """
    calls, plain = [], _is(model, "Sequential") or _is(model, "Functional")
    try:
        return calls, _append(calls, model if plain else _functional(model) or model, (0,), False)
    except NotImplementedError:
        return [Call(model, (0,))], 1


def input_of(model: keras.Model) -> tuple[tuple[int | None, ...], bool]:
    """The shape of a built model's one input, and whether it takes whole numbers: tokens."""
    if not _is(model, "Sequential") and not _is(model, "Functional"):
        shapes = ([model._build_input_shape] if VERSION == 2 else
                  list((model._build_shapes_dict or {}).values()))
        shape = tuple(shapes[0] or ()) if len(shapes) == 1 else ()
        if len(shape) < 2 or any(map(tf.nest.is_nested, shape)):
            raise ArgumentError(f"export: {model.name} has no one input of a known shape; call it on a "
                                "batch [B, T, d] or tokens [B, T] first")
        return shape, len(shape) == 2
    inputs = model.inputs
    if len(inputs) != 1 or len(model.outputs) != 1:
        raise ArgumentError(f"export: {model.name} has {len(inputs)} inputs and {len(model.outputs)} "
                            "outputs; give a model with one of each")
    return tuple(inputs[0].shape), tf.as_dtype(inputs[0].dtype).is_integer


def output_shape(layer, *shapes):
    """The shape that a built layer gives for one of inputs of these shapes, or for a list of them."""
    shape = tuple(shapes[0]) if len(shapes) == 1 else [tuple(shape) for shape in shapes]
    if VERSION == 2:
        return tuple(layer.compute_output_shape(shape))
    dtype = "int32" if isinstance(layer, keras.layers.Embedding) else layer.compute_dtype
    given = [keras.KerasTensor(shape, dtype) for shape in shapes]
    return tuple(layer.compute_output_spec(given[0] if len(given) == 1 else given).shape)


def _is(layer, kind):
    """Whether a layer computes what a `Sequential` or `Functional` model does."""
    return type(layer).call.__qualname__ == f"{kind}.call"


def _append(calls, layer, places, several):
    """Appends the calls that a layer consists of; the place of its result."""
    if _is(layer, "Sequential") and layer.built:
        for inner in layer.layers:
            places = (_append(calls, inner, places, False),)
        return places[0]
    if _is(layer, "Functional") and len(layer.inputs) == len(places) and len(layer.outputs) == 1:
        found = dict(zip(map(id, layer.inputs), places, strict=True))
        for inner, taken, listed, output in _nodes(layer):
            if any(id(x) not in found for x in taken):
                raise NotImplementedError(inner.name)
            found[id(output)] = _append(calls, inner, tuple(found[id(x)] for x in taken), listed)
        return found[id(layer.outputs[0])]
    calls.append(Call(layer, places, several))
    return len(calls)


def _nodes(model):
    """`(layer, inputs, whether they are a list, output)` of each call in a functional model, in order.

    Keras 3 has calls of operations, too: the masks that layers make are of such.
    """
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            args, kwargs, layer = (
                (node.call_args, node.call_kwargs, node.layer) if VERSION == 2 else
                (node.arguments.args, node.arguments.kwargs, node.operation))
            if node.is_input or not isinstance(layer, keras.layers.Layer):
                continue
            outputs, taken = tf.nest.flatten(node.outputs), tf.nest.flatten(args[:1])
            made = [getattr(x, "_keras_mask", None) for x in taken]  # which Keras hands on by itself
            others = [v for v in tf.nest.flatten([*args[1:], *kwargs.values()])
                      if _symbolic(v) and not any(v is mask for mask in made)]
            if others or len(outputs) != 1:
                raise NotImplementedError(layer.name)
            yield layer, taken, isinstance(args[0], list | tuple), outputs[0]


def _symbolic(value):
    return hasattr(value, "_keras_history")


def _functional(model):
    """The functional model that a subclassed one is; None where its `call` is more than calls of layers."""
    shape, tokens = input_of(model)
    inputs = keras.Input(shape[1:], dtype=tf.int32 if tokens else None)
    try:
        return keras.Model(inputs, model.call(inputs))
    except Exception:  # whatever it does with what is no tensor yet
        return None
