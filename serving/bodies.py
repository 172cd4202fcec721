"""What requests hold, what is wrong with one, and what the API's description says of the answers."""

import math
import textwrap
from typing import Annotated

import fastapi
import pydantic

MEANINGS = {
    400: "The body cannot be parsed.", 401: "The token is missing or another.",
    404: "No such stream: it expired, was closed, or never was.", 409: "A state of another model.",
    413: "The body, its steps or the memory that they need are over a limit.",
    422: "Not what the model takes, or what it gave is not finite.",
    429: "As many streams are open as there may be; Retry-After says when one may expire.",
    501: "The model has no streams.", 503: "The server ends, or has too many bodies at once."}


class Problem(pydantic.BaseModel):
    """What is wrong, in a line."""

    detail: str


def problems(*statuses):
    """What `responses` of a route says of these."""
    return {status: {"model": Problem, "description": MEANINGS[status]} for status in statuses}


def body(name, **fields):
    """What the body of a request holds, and nothing else."""
    return pydantic.create_model(name, __config__=pydantic.ConfigDict(extra="forbid"),
                                 **{field: (kind, ...) for field, kind in fields.items()})


def several(kind, most):
    """A list of one to `most`."""
    return Annotated[list[kind], pydantic.Field(min_length=1, max_length=most, fail_fast=True)]


def answers(facts, each):
    """The schema of `{"outputs": [...]}`: an answer a row, or a list of them, one a step."""
    outputs = facts["outputs"]
    number, names = {"type": "number"}, outputs.get("names")
    row = ({"type": "object", "properties": dict.fromkeys(names, number), "required": names} if names
           else {"type": "array", "items": number})
    if outputs["kind"] == "numbers":
        for _ in outputs.get("shape", [0])[1:]:
            row = {"type": "array", "items": row}
    kinds = {"class": {"class": {"type": "string"}, "probabilities": row}, "labels": {"probabilities": row},
             "numbers": {"values": row}}
    found = kinds.get(outputs["kind"])
    one = {"type": "object", "properties": found, "required": list(found)} if found else row
    if each:
        one = {"type": "array", "items": one}
    schema = {"type": "object", "properties": {"outputs": {"type": "array", "items": one}},
              "required": ["outputs"]}
    return {200: {"description": "The outputs.", "content": {"application/json": {"schema": schema}}}}


def described_state(like):
    """The schema of a state: each tensor's bytes in base64, which has four characters for three bytes."""
    lengths = {name: 4 * math.ceil(v.nbytes / 3) for name, v in like.items()}
    return {"required": list(like), "additionalProperties": False, "properties": {
        name: {"type": "string", "format": "base64", "minLength": size, "maxLength": size}
        for name, size in lengths.items()}}


def check_same_lengths(given):
    (name, count), *others = [(name, len(values)) for name, values in given.items()]
    for other, of_other in others:
        if of_other != count:
            raise fastapi.HTTPException(422, f"{other}: {of_other} of them, and {count} {name}; give as many")


def described(error):
    """What pydantic found: "inputs[0][3]: ..."."""
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"][1:])
    if error["type"] == "json_invalid":
        return f"the body is not JSON: {error['ctx']['error']} at character {error['loc'][-1]}"
    if not where:
        return f"the body: {error['msg']}; send JSON, and Content-Type: application/json"
    return textwrap.shorten(f"{where.lstrip('.')}: {error['msg']}", 200)  # a name may be of any length
