"""`santm.json`: what an export says of itself."""

import json
import os
import typing
from typing import Annotated

import numpy as np
import pydantic

FORMAT = 2  # of santm.json
BYTES = "wav"  # the input whose strings are bytes, in JSON base64


class ExportError(Exception):
    """The folder holds no export that can be served. One line."""


class Input(typing.NamedTuple):
    """What a request says of one step, or of one text or sound: its type in JSON, and one as good as any."""

    dtype: type | np.dtype
    type: object
    blank: object


def facts_of(folder):
    """What santm.json says."""
    if set(folder) & set("*?[\\"):
        raise ExportError(f"--model={folder}: TensorFlow reads * ? [ \\ in a path as a pattern; "
                          "rename the folder")
    path = os.path.join(folder, "santm.json")
    if not os.path.exists(path):
        raise ExportError(f"{path}: no such file; --model takes what python -m santm_tf.export wrote")
    try:
        with open(path, encoding="utf-8") as file:
            facts = json.load(file)
        if facts["format"] != FORMAT:
            raise ExportError(f"{path}: format {facts['format']}; this server reads {FORMAT}: export again, "
                              "or take the server of the version that exported")
        size = facts["features" if "features" in facts else "vocabulary"]
        if not (isinstance(size, int) and size > 0 and isinstance(facts["return_sequences"], bool)
                and facts["inputs"] and facts["outputs"]["kind"] and isinstance(facts["streams"], str)):
            raise ValueError("a value of the wrong kind")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ExportError(f"{path}: damaged ({type(error).__name__}: {first_line(error)})") from error
    return facts


def inputs_of(facts, which, stepwise):
    """The `Input`s, by name, that santm.json says; no step's without streams."""
    specs = facts.get(which, {})
    return {name: _input(facts, name, spec["dtype"], spec["shape"][1 + ("lengths" in specs):], stepwise)
            for name, spec in specs.items() if name != "lengths"}


def _input(facts, name, dtype, row, stepwise):
    if not stepwise:
        return Input(object, pydantic.Base64Bytes if name == BYTES else str, "a")
    if dtype == "string":
        one, blank, dtype = str, "", object
    elif not row:
        one, blank = Annotated[int, pydantic.Field(strict=True, ge=0, lt=facts["vocabulary"])], 0
    else:
        largest = float(np.finfo(np.float32).max)
        one = Annotated[float, pydantic.Field(strict=True, allow_inf_nan=False, ge=-largest, le=largest)]
        one, blank = one | None if facts.get("front", {}).get("missing") else one, 0.0
    if not row:
        return Input(dtype, one, blank)
    width = row[0] if row[0] is not None else facts["features"]
    row = Annotated[list[one], pydantic.Field(min_length=width, max_length=width, fail_fast=True)]
    return Input(dtype, row, [blank] * width)


def first_line(error):
    """What TensorFlow's assertions, or any exception, say."""
    lines = str(error).splitlines() or [""]
    said = [line for line in lines if "assertion failed: [" in line]
    return said[0].split("[", 1)[1].split("]", 1)[0] if said else lines[0]
