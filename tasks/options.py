"""The options of a function or a dataclass, read from its source: nothing is imported for them.

A signature says it all: name, type, bounds and default; the docstring's `Args:` has a text for each. An
annotation is of `int`, `float`, `bool`, `str`, `None`, `|`, `Literal[...]` and `Annotated[int, "[0, inf)"]`,
whose interval holds the bounds. A plain `int` is at least 1. Defaults are literals. A function with
`**options: ntm.make` also takes the options of `make` in `ntm`, a module beside its own.
"""

import ast
import dataclasses
import functools
import importlib.util
import math
import numbers
import os
import re
import types
import typing

GRAMMAR = {"int": int, "float": float, "bool": bool, "str": str, "Annotated": typing.Annotated,
           "Literal": typing.Literal, "__builtins__": {}}
KINDS = {int: numbers.Integral, float: numbers.Real, bool: numbers.Integral, str: (str, os.PathLike)}
MOST = {int: 10**9, float: 3.4028234663852886e38}  # where the bounds name none: of TensorFlow's numbers
NOUNS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


@dataclasses.dataclass(frozen=True)
class Option:
    """One option.

    Args:
      name: as in the signature. default: its value where none is given. help: its text.
      kind: `int`, `float`, `str` or `bool`; None where there are only choices.
      choices: texts that it may be, beside what is of its kind.
      bounds: the interval of a number, as in "[0, 1)"; empty for no bounds.

    >>> Option("units", 32, kind=int, bounds="[1, inf)").parse("0")
    Traceback (most recent call last):
        ...
    ValueError: --units=0: must be a whole number of at least 1
    """

    name: str
    default: object
    help: str = ""
    kind: type | None = None
    choices: tuple = ()
    bounds: str = ""

    def parse(self, text):
        """The value of a flag's text.

        Raises:
          ValueError: names the flag and what it takes.
        """
        try:
            value = text if text in self.choices or isinstance(text, bool) else self.kind(text)
        except (TypeError, ValueError):
            value = None
        if value is None or self.need(value):
            need = self.need(value) if isinstance(value, float | int) else ""
            within = f"of {need}".replace("of above", "above") if "at most" in need else self._within()
            kinds = [f"{NOUNS[self.kind]} {within}".strip()] if self.kind else []
            raise ValueError(f"--{self.name}={text}: must be {_any(*kinds, *self.choices)}")
        return value

    def need(self, value):
        """What a value must be, as text; empty where it is right."""
        if value is None or value in self.choices:
            return ""
        if not self.kind:
            return _any(*self.choices)
        if not isinstance(value, KINDS[self.kind]):
            return _any(f"{NOUNS[self.kind]} {self._within()}".strip(), *self.choices)
        low, high = map(float, self.bounds[1:-1].split(",")) if self.bounds else (-math.inf, math.inf)
        if value != value and not self.bounds:  # NaN
            return "a finite number"
        endless = value == math.inf and self.bounds.endswith("inf]")
        if self.kind in MOST and high == math.inf and not endless and not abs(value) <= MOST[self.kind]:
            least = f"{self._within().removeprefix('of ')} and " * bool(self.bounds)
            return f"{least}at most {MOST[self.kind]:.10g}"
        if not self.bounds:
            return ""
        above = value >= low if self.bounds[0] == "[" else value > low
        below = value <= high if self.bounds[-1] == "]" else value < high
        return "" if above and below else self._within().removeprefix("of ")

    def text(self, value):
        """A value as a flag file has it, `--name=value`; empty for None."""
        if isinstance(value, bool):
            return f"--{'' if value else 'no'}{self.name}"
        return "" if value is None else f"--{self.name}={value}"

    def _within(self):
        low, high = self.bounds[1:-1].split(", ") if self.bounds else ("", "")
        if high == "inf":
            return f"{'of at least' if self.bounds[0] == '[' else 'above'} {low}"
        return f"in {self.bounds}" if self.bounds else ""


@functools.cache
def read(where):
    """The options of a function or a class, `{name: Option}`.

    Of a function those are the arguments with a default, up to the `*`, after what it takes from another one;
    of a class its fields.

    Args:
      where: `module:name`.

    >>> read("santm_tf.tasks.adding:load")["length"].default
    50
    """
    module, name = where.split(":")
    with open(importlib.util.find_spec(module).origin, encoding="utf-8") as file:
        found = next(node for node in ast.parse(file.read()).body if getattr(node, "name", None) == name)
    others = {}
    if isinstance(found, ast.ClassDef):
        fields = [(node.target.id, node.annotation, node.value) for node in found.body
                  if isinstance(node, ast.AnnAssign)]
    else:
        count = len(found.args.defaults)
        fields = [(argument.arg, argument.annotation, default) for argument, default
                  in zip(found.args.args[-count:] if count else [], found.args.defaults, strict=True)]
        if found.args.kwarg and found.args.kwarg.annotation:
            beside, other = ast.unparse(found.args.kwarg.annotation).split(".")
            others = read(f"{module.rpartition('.')[0]}.{beside}:{other}")
    texts = _described(ast.get_docstring(found) or "")
    return others | {name: _option(name, eval(ast.unparse(annotation), dict(GRAMMAR)),
                                   ast.literal_eval(default), texts.get(name, ""))
                     for name, annotation, default in fields}


def _option(name, annotation, default, text):
    several = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    kind, choices, bounds = None, (), ""
    for part in typing.get_args(annotation) if several else (annotation,):
        origin = typing.get_origin(part)
        if origin is typing.Literal:
            choices += typing.get_args(part)
        elif origin is typing.Annotated:
            kind, bounds = typing.get_args(part)
        elif part is not types.NoneType and part is not None:
            kind = part
    return Option(name, default, text, kind, choices, bounds or "[1, inf)" * (kind is int))


def _described(docstring):
    """The texts of `Args:`, by name."""
    body = re.search(r"^Args:\n((?:  .*\n?|\n(?=  ))*)", docstring, re.MULTILINE)
    entries = re.findall(r"^  (\w+): (.*(?:\n    .*)*)", body[1] if body else "", re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def _any(*texts):
    """Texts as a list with "or" before the last."""
    *some, last = texts
    return f"{', '.join(some)} or {last}" if some else last
