"""An exported model as the server calls it."""

import contextlib

import numpy as np

from .facts import ExportError, facts_of, first_line, inputs_of
from .footprint import footprint

CHARACTER = 512  # bytes that a character of a text, or a byte of a sound, takes before it is a step
STATES = 3  # of a stream at once: what it keeps, what a step read and what it made


class Model:
    """An exported model.

    Attributes:
      inputs, step_inputs: the `Input`s of sequences and of a stream's step, by name.
      first_state: of one stream, arrays by name; None where the model has no streams.
      state_bytes, answer_bytes: of a stream's state, and of the answer to a step, as text and as objects.
      row, step_row: the `Footprint` of sequences, and the bytes of one stream's step.

    Raises:
      ExportError: the folder holds none, a damaged one, or one of another format.
    """

    def __init__(self, folder):
        self.facts = facts_of(folder)
        import tensorflow as tf  # which is slow and says much: a wrong folder is named before

        try:
            self.stepwise = "lengths" in self.facts["inputs"]  # and not a text or a sound as a whole
            self.inputs = inputs_of(self.facts, "inputs", self.stepwise)
            self.step_inputs = inputs_of(self.facts, "step_inputs", True)
            self._loaded = tf.saved_model.load(folder)  # its signatures do not keep it alive
            signatures = self._loaded.signatures
            self._predict = signatures["serving_default"]
            # The first call of a signature is slow: it is made before the server listens.
            refused = [] if self.stepwise else [tf.errors.InvalidArgumentError]  # one that is as good as none
            with contextlib.suppress(*refused):
                self.predict({name: [[one.blank] if self.stepwise else one.blank]
                              for name, one in self.inputs.items()})
            self.row, self.step_row = footprint(folder, "serving_default"), 0.0
            self.first_state, self.state_bytes = None, 0
            if self.step_inputs:
                self._step = signatures["step"]
                self.first_state = _arrays(signatures["initial_state"](batch=np.int32(1)))
                self.step({name: [i.blank] for name, i in self.step_inputs.items()}, self.first_state)
                self.step_row = footprint(folder, "step").of(1)
                self.state_bytes = STATES * sum(array.nbytes for array in self.first_state.values())
            outputs = self.facts["outputs"]
            longest = max(map(len, outputs.get("names", [])), default=0)
            self.answer_bytes = 256 + outputs.get("width", 1) * (96 + 2 * longest)
        except (OSError, LookupError, TypeError, ValueError, RuntimeError, StopIteration,
                tf.errors.OpError) as error:
            raise ExportError(f"--model={folder}: damaged, or no export of this project "
                              f"({type(error).__name__}: {first_line(error)})") from error

    def predict(self, given):
        """Outputs by name, `{input: [one a sequence]}` being of any lengths: a dict of arrays for each.

        They are of the last step or of each step of the sequence.
        """
        if not self.stepwise:
            found = self._call(self._predict, self.inputs, given)
            return [dict(zip(found, rows, strict=True)) for rows in zip(*found.values(), strict=True)]
        lengths = [len(sequence) for sequence in next(iter(given.values()))]
        filled = {name: [[*sequence, *[self.inputs[name].blank] * (max(lengths) - len(sequence))]
                         for sequence in sequences] for name, sequences in given.items()}
        found = self._call(self._predict, self.inputs, filled, lengths=np.array(lengths, np.int32))
        each = self.facts["return_sequences"]
        return [{name: rows[i, :length] if each else rows[i] for name, rows in found.items()}
                for i, length in enumerate(lengths)]

    def chunks(self, given, most):
        """Parts of the sequences that take at most `most` bytes each: `(part, bytes)`.

        Raises:
          TooLarge: one sequence takes more.
        """
        name, first = next(iter(given.items()))
        start, longest = 0, 0.0
        for i, one in enumerate(first):
            size = self._bytes(len(one))
            if size > most:
                raise TooLarge(f"{name}[{i}]: {len(one)} long, it needs up to {size / 2**20:,.0f} MiB; a "
                               f"prediction may take {most / 2**20:,.0f} MiB (--max_memory_mib)")
            if (i + 1 - start) * max(longest, size) > most:
                yield _part(given, start, i), (i - start) * longest
                start, longest = i, 0.0
            longest = max(longest, size)
        yield _part(given, start, len(first)), (len(first) - start) * longest

    def _bytes(self, length):
        if self.stepwise:
            return self.row.of(length)
        front = self.facts.get("front", {})
        steps = min(length, front.get("max_length") or front.get("max_steps") or length)
        return self.row.of(steps) + CHARACTER * length

    def step(self, given, state):
        """One step of B streams, `{input: [one each]}`: `(outputs, state)`, dicts of arrays `[B, ...]`."""
        found = self._call(self._step, self.step_inputs, given, **state)
        return found, {name: found.pop(name) for name in state}

    def _call(self, signature, inputs, given, **arrays):
        arrays |= {name: np.array(values, inputs[name].dtype) for name, values in given.items()}
        return _arrays(signature(**arrays))

    def answer(self, found, each=False):
        """Outputs as JSON has them: of one step, or of each."""
        if each:
            return [self.answer(dict(zip(found, step, strict=True)))
                    for step in zip(*found.values(), strict=True)]
        if "outputs" in found:
            return found["outputs"].tolist()
        names = self.facts["outputs"]["names"]
        return {name: value.decode() if isinstance(value, bytes) else _named(value, names)
                for name, value in sorted(found.items())}


class TooLarge(Exception):
    """A sequence that would take more memory than there is. One line."""


def _part(given, start, end):
    return {name: values[start:end] for name, values in given.items()}


def _arrays(tensors):
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def _named(array, names):
    """The numbers of an array's last axis by their names, where they have some."""
    if array.ndim > 1:
        return [_named(row, names) for row in array]
    return dict(zip(names, array.tolist(), strict=True)) if names else array.tolist()
