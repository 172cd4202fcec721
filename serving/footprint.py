"""How much memory a call of an exported model takes at most, from the shapes that its graph says.

Operations are taken in their order; a result is there from its operation to the last one that reads it. What
a loop makes in a step is there once. Some operations run at the same time: all counts twice.
"""

import math
import os
import typing

LOOP, MAPPED = "_while_", "map_while_"  # in the names of functions: parts of a loop, of one over sequences
LOOPS = ("While", "StatelessWhile")
SHARING = ("Identity", "Reshape", "ExpandDims", "Squeeze")  # with their input
LISTS = {"TensorListSetItem": 2, "TensorListPushBack": 1, "TensorListFromTensor": 0}  # and what they take
ENTRY = 256.0  # bytes of a list's entry beside the numbers
MERGING, MERGED = ("Reshape", "Where"), 1.5  # an axis of batch and steps
TWICE = 2


class Footprint(typing.NamedTuple):
    """Bytes of a call, for each of its rows: `row + steps * step + steps ** 2 * pair`."""

    row: float
    step: float
    pair: float

    def of(self, steps):
        """Bytes of one row of so many steps.

        >>> Footprint(100.0, 10.0, 1.0).of(5)
        175.0
        """
        return self.row + steps * self.step + steps ** 2 * self.pair


def footprint(folder, signature):
    """The `Footprint` of a signature of a SavedModel."""
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    with open(os.path.join(folder, "saved_model.pb"), "rb") as file:
        saved.ParseFromString(file.read())
    library = {function.signature.name: function
               for function in saved.meta_graphs[0].graph_def.library.function}
    first = next(name for name in library if name.startswith(f"__inference_signature_wrapper_{signature}_"))
    return Footprint(*(TWICE * peak for peak in _peak(library, first, {})))


def _peak(library, name, known):
    """The most that is there at once in a function: bytes of a row, of a step, of a pair of steps."""
    if name in known:
        return known[name]
    known[name] = [0.0] * 3  # for a function that calls itself
    nodes, axes = library[name].node_def, _Axes(name)
    last = {_source(source)[0]: i for i, node in enumerate(nodes) for source in node.input}
    last |= {_source(source)[0]: len(nodes) for source in library[name].ret.values()}
    live, peak, freed = [0.0] * 3, [0.0] * 3, {}
    for i, node in enumerate(nodes):
        inside = [_peak(library, called, known) for called in _called(node) if called in library]
        made = [0.0] * 3
        for size, power in axes.results(node):
            made[power] += size
        live = [there + new for there, new in zip(live, made, strict=True)]
        peak = [max(most, there + max(more)) for most, there, *more
                in zip(peak, live, [0.0] * 3, *inside, strict=True)]
        freed.setdefault(last.get(node.name, i), []).append(made)
        for gone in freed.pop(i, []):
            live = [there - old for there, old in zip(live, gone, strict=True)]
    known[name] = peak
    return peak


class _Axes:
    """What the unknown axes of a function's results are: the batch's, steps', or both in one."""

    def __init__(self, function):
        self._mapped, self._loop = function.startswith(MAPPED), LOOP in function
        self._unknown = {}  # axes of a node's output, by both; one of batch and steps is `MERGED`
        self._bytes = {}

    def results(self, node):
        """`(bytes for a row, power of the steps by which they grow)` of each; numbers have 4 bytes."""
        shapes = [None if shape.unknown_rank else [dim.size for dim in shape.dim]
                  for shape in node.attr["_output_shapes"].list.shape]
        came = [self._unknown.get(_source(source), 0) for source in node.input if not source.startswith("^")]
        merges = MERGED in came or node.op in MERGING and any(unknown > 1 for unknown in came)
        found = []
        for i, shape in enumerate(shapes):
            unknown = sum(size < 0 for size in shape or [])
            if unknown == 1 and (came[i] == MERGED if node.op in LOOPS else merges):
                unknown = MERGED
            self._unknown[node.name, i] = unknown
            size = 4.0 * math.prod(size for size in shape or [] if size > 0)
            self._bytes[node.name, i] = size
            if shape is not None and node.op not in SHARING:
                found.append(self._grows(size, unknown))
        if node.op in LISTS:  # whose results have no shape: a tensor a step
            found.append((ENTRY + self._bytes.get(_source(node.input[LISTS[node.op]]), 0.0), 1))
        return found

    def _grows(self, size, unknown):
        if self._mapped:  # a sequence alone: no axis is the batch's
            return size, min(math.ceil(unknown), 2)
        if not unknown:
            return 0.0, 0  # a weight or a constant, which rows share
        return size, 1 if unknown == MERGED and not self._loop else min(int(unknown) - 1, 2)


def _source(text):
    """A node and the number of its output, from the name of an input: `node:output:0`."""
    name, _, number = text.lstrip("^").partition(":")
    return name, int(number.rpartition(":")[2] or 0) if number else 0


def _called(node):
    return [name for attr in node.attr.values()
            for name in (attr.func.name, *(function.name for function in attr.list.func))]
