"""Serves an exported model over HTTP: whole sequences, and streams whose steps come one after another.

    pip install tensorflow fastapi uvicorn
    python server.py --model=FOLDER --port=8500

This file needs nothing else: copy it. FOLDER is what `python -m santm_tf.export` wrote. The endpoints are
described in README.md beside this file and, while it runs, at /docs.

A stream is one session: its state lives here, between its steps. The requests of one session run one after
the other, in the order in which they came; its state is replaced only after a request has succeeded as a
whole. Steps of different sessions that wait at the same time run as one batch.
"""

import argparse
import asyncio
import base64
import collections
import contextlib
import gc
import json
import math
import os
import secrets
import signal
import sys
import textwrap
import time
import typing
from typing import Annotated

try:
    import fastapi
    import numpy as np
    import pydantic
    import uvicorn
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse
except ModuleNotFoundError as error:
    if __name__ != "__main__":
        raise
    print(f"error: {error.name} is not installed: pip install tensorflow fastapi uvicorn, or "
          "santm-tf[serving]", file=sys.stderr)
    sys.exit(2)

FORMAT = 2  # of santm.json
BYTES = "wav"  # the input whose strings are bytes, in JSON base64


class ExportError(Exception):
    """The folder holds no export that can be served. One line."""


class Input(typing.NamedTuple):
    """What a request says of one step, or of one text or sound: its type in JSON, and one as good as any."""

    dtype: type | np.dtype
    type: object
    blank: object


class Model:
    """An exported model.

    Raises:
      ExportError: the folder holds none, a damaged one, or one of another format.
    """

    def __init__(self, folder):
        self.facts = _facts(folder)
        import tensorflow as tf  # which is slow and says much: a wrong folder is named before

        try:
            self.stepwise = "lengths" in self.facts["inputs"]  # and not a text or a sound as a whole
            self.inputs = _inputs(self.facts, "inputs", self.stepwise)
            self.step_inputs = _inputs(self.facts, "step_inputs", True)
            self._loaded = tf.saved_model.load(folder)  # its signatures do not keep it alive
            signatures = self._loaded.signatures
            self._predict = signatures["serving_default"]
            # The first call of a signature is slow: it is made before the server listens.
            refused = [] if self.stepwise else [tf.errors.InvalidArgumentError]  # one that is as good as none
            with contextlib.suppress(*refused):
                self.predict({name: [[one.blank] if self.stepwise else one.blank]
                              for name, one in self.inputs.items()})
            if self.step_inputs:
                self._step = signatures["step"]
                self.first_state = _arrays(signatures["initial_state"](batch=np.int32(1)))
                self.step({name: [i.blank] for name, i in self.step_inputs.items()}, self.first_state)
        except (OSError, LookupError, TypeError, ValueError, RuntimeError, tf.errors.OpError) as error:
            raise ExportError(f"--model={folder}: damaged, or no export of this project "
                              f"({type(error).__name__}: {_first_line(error)})") from error

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


def _arrays(tensors):
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def _named(array, names):
    """The numbers of an array's last axis by their names, where they have some."""
    if array.ndim > 1:
        return [_named(row, names) for row in array]
    return dict(zip(names, array.tolist(), strict=True)) if names else array.tolist()


def _inputs(facts, which, stepwise):
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


def _facts(folder):
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
        raise ExportError(f"{path}: damaged ({type(error).__name__}: {_first_line(error)})") from error
    return facts


class Session:
    """A stream: its state, the time of its last use, the lock that orders its requests."""

    def __init__(self, state, used):
        self.state, self.used, self.lock = state, used, asyncio.Lock()


class Sessions:
    """The open streams, `most` at most; one unused for `idle` seconds is forgotten. `clock` gives seconds."""

    def __init__(self, most, idle, clock=time.monotonic):
        self.most, self.idle, self._clock = most, idle, clock
        self._open = collections.OrderedDict()  # the one unused for longest is first

    def __len__(self):
        self._expire()
        return len(self._open)

    def open(self, state):
        """The id of a new stream; HTTP 429 if there are too many."""
        if len(self) >= self.most:
            oldest = next(iter(self._open.values()))
            wait = max(1, math.ceil(oldest.used + self.idle - self._clock()))
            raise fastapi.HTTPException(429, f"{self.most} streams are open, the most there may be; close "
                                        f"one, or try again in {wait} seconds", {"Retry-After": str(wait)})
        id = secrets.token_urlsafe(16)
        self._open[id] = Session(state, self._clock())
        return id

    @contextlib.asynccontextmanager
    async def use(self, id):
        """The stream, held for this request alone; HTTP 404 if there is none."""
        session = self._find(id)
        async with session.lock:
            self._find(id)  # it may have been closed meanwhile
            try:
                yield session
            finally:
                session.used = self._clock()
                self._open.move_to_end(id)

    async def close(self, id):
        async with self._find(id).lock:
            self._find(id)
            del self._open[id]

    def _find(self, id):
        self._expire()
        if id not in self._open:
            raise fastapi.HTTPException(404, f"no such stream: it was unused for {self.idle:g} seconds and "
                                        "expired, was closed, or never was")
        return self._open[id]

    def _expire(self):
        now = self._clock()
        for id, session in list(self._open.items()):
            if now - session.used < self.idle:
                break
            if not session.lock.locked():
                del self._open[id]


class Steps:
    """Steps of different streams that wait at the same time, run as batches of at most `most`, in turn."""

    def __init__(self, model, most):
        self._model, self._most = model, most
        self._waiting, self._running = [], None

    async def __call__(self, inputs, state):
        """One step of one stream, `{input: value}`: `(outputs, state)`, dicts of arrays."""
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((inputs, state, done))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await done

    async def _run(self):
        while self._waiting:
            batch, self._waiting = self._waiting[:self._most], self._waiting[self._most:]
            results = await asyncio.to_thread(self._together, [waiting[:2] for waiting in batch])
            for (_, _, done), result in zip(batch, results, strict=True):
                if not done.cancelled():
                    (done.set_exception if isinstance(result, Exception) else done.set_result)(result)
        self._running = None

    def _together(self, batch):
        """A result, or the exception, for each."""
        inputs, states = zip(*batch, strict=True)
        try:
            outputs, after = self._model.step(
                {name: [step[name] for step in inputs] for name in inputs[0]},
                {name: np.concatenate([state[name] for state in states]) for name in states[0]})
        except Exception as error:
            # What is wrong with one stream is no other one's matter.
            return [error] if len(batch) == 1 else [self._together([one])[0] for one in batch]
        # Copies: a view would keep the whole batch alive.
        return [({name: rows[i] for name, rows in outputs.items()},
                 {name: rows[i:i + 1].copy() for name, rows in after.items()}) for i in range(len(batch))]


def create_app(model, sessions, max_steps=32768, max_batch=64, max_body_mib=4.0, threads=1):
    """The application, with the limits that the flags of the same names set."""
    import tensorflow as tf

    app = fastapi.FastAPI(title="SANTM")
    app.add_middleware(BodyLimit, most=round(max_body_mib * 2**20))
    step, predicting = Steps(model, max_batch), asyncio.Semaphore(threads)

    def several(kind, most=max_steps):
        return Annotated[list[kind], pydantic.Field(min_length=1, max_length=most, fail_fast=True)]

    NextSteps = _body("NextSteps", **{name: several(i.type) for name, i in model.step_inputs.items()})
    Sequences = _body("Sequences", **{name: several(several(i.type) if model.stepwise else i.type, None)
                                      for name, i in model.inputs.items()})
    State = _body("State", state=dict[str, pydantic.Base64Bytes])

    @app.exception_handler(RequestValidationError)
    async def invalid(request, error):
        return JSONResponse({"detail": _described(error.errors()[0])}, 422)

    @app.exception_handler(tf.errors.InvalidArgumentError)
    async def refused(request, error):
        return JSONResponse({"detail": f"the model refuses this: {_first_line(error)}"}, 422)

    @app.exception_handler(UnicodeDecodeError)  # TensorFlow's message quotes bytes of a damaged file
    async def damaged(request, error):
        return JSONResponse({"detail": "the model refuses this: a damaged file"}, 422)

    @app.get("/health")
    async def health():
        """Answers as soon as the model is loaded and has run once."""
        return {"status": "ok"}

    @app.get("/model")
    async def info():
        """What the export says of itself, and how many streams are open."""
        return {**model.facts, "open_streams": len(sessions), "max_streams": sessions.most,
                "max_steps": max_steps}

    @app.post("/predict")
    async def predict(body: Sequences):
        """The outputs of sequences of any lengths."""
        given = vars(body)
        _check_same_lengths(given)
        if model.stepwise:
            rows, longest = len(body.inputs), max(map(len, body.inputs))
            if rows * longest > max_steps:
                raise fastapi.HTTPException(413, f"inputs: {rows} sequences times {longest} steps, the "
                                            f"longest's, are over {max_steps} (--max_steps)")
            for sequences in zip(*given.values(), strict=True):
                _check_same_lengths(dict(zip(given, sequences, strict=True)))
        async with predicting:
            outputs = await asyncio.to_thread(model.predict, given)
        _check_finite("the outputs for these inputs", *outputs)
        each = model.facts["return_sequences"]
        return JSONResponse({"outputs": [model.answer(found, each) for found in outputs]})

    @app.post("/streams", status_code=201)
    async def open_stream():
        """A new stream, before its first step."""
        if not model.step_inputs:
            why = model.facts["streams"].removeprefix("no: ")
            raise fastapi.HTTPException(501, f"this model has no streams: {why}; use /predict")
        return {"id": sessions.open(model.first_state)}

    @app.post("/streams/{id}")
    async def run_steps(id: str, body: NextSteps):
        """The outputs of a stream's next steps; if one fails, none was made."""
        async with sessions.use(id) as session:
            state, outputs, given = session.state, [], vars(body)
            _check_same_lengths(given)
            for inputs in zip(*given.values(), strict=True):
                found, state = await step(dict(zip(given, inputs, strict=True)), state)
                outputs.append(found)
            _check_finite("the outputs for these inputs", *outputs, state)
            session.state = state
        return JSONResponse({"outputs": [model.answer(found) for found in outputs]})

    @app.delete("/streams/{id}", status_code=204)
    async def close_stream(id: str):
        await sessions.close(id)

    @app.get("/streams/{id}/state")
    async def export_state(id: str):
        """A stream's state, each tensor's bytes in base64."""
        async with sessions.use(id) as session:
            return JSONResponse({"state": {key: base64.b64encode(value.tobytes()).decode()
                                           for key, value in session.state.items()}})

    @app.put("/streams/{id}/state", status_code=204)
    async def restore_state(id: str, body: State):
        """Has a stream go on from a state that was exported."""
        async with sessions.use(id) as session:
            session.state = _decoded(body.state, model.first_state)

    return app


class BodyLimit:
    """ASGI middleware: HTTP 413 to a body of over `most` bytes, which is not read to its end."""

    def __init__(self, app, most):
        self._app, self._most = app, most

    async def __call__(self, scope, receive, send):
        read = 0

        async def limited():
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._most:
                raise fastapi.HTTPException(413, f"the body is over {self._most} bytes (--max_body_mib)")
            return message

        await self._app(scope, limited, send)


def _body(name, **fields):
    """What the body of a request holds, and nothing else."""
    return pydantic.create_model(name, __config__=pydantic.ConfigDict(extra="forbid"),
                                 **{field: (kind, ...) for field, kind in fields.items()})


def _decoded(state, like):
    """A state from the bytes of its tensors; HTTP 409 and 422 if it is none of this model's."""
    if set(state) != set(like):
        raise fastapi.HTTPException(422, f"state: this model's has {', '.join(sorted(like))}, no others")
    if state["model"] != like["model"].tobytes():
        raise fastapi.HTTPException(409, "state: of another model")
    for name, v in like.items():
        if len(state[name]) != v.nbytes:
            raise fastapi.HTTPException(422, f"state: {name} has {len(state[name])} bytes, not {v.nbytes}")
    found = {name: np.frombuffer(state[name], v.dtype).reshape(v.shape) for name, v in like.items()}
    _check_finite("state: its numbers", found)
    return found


def _check_same_lengths(given):
    (name, count), *others = [(name, len(values)) for name, values in given.items()]
    for other, of_other in others:
        if of_other != count:
            raise fastapi.HTTPException(422, f"{other}: {of_other} of them, and {count} {name}; give as many")


def _check_finite(what, *arrays):
    numbers = [v for some in arrays for v in map(np.asarray, some.values()) if v.dtype.kind == "f"]
    if not all(np.isfinite(v).all() for v in numbers):
        raise fastapi.HTTPException(422, f"{what} are not all finite; nothing was changed")


def _described(error):
    """What pydantic found: "inputs[0][3]: ..."."""
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"][1:])
    if error["type"] == "json_invalid":
        return f"the body is not JSON: {error['ctx']['error']} at character {error['loc'][-1]}"
    if not where:
        return f"the body: {error['msg']}; send JSON, and Content-Type: application/json"
    return textwrap.shorten(f"{where.lstrip('.')}: {error['msg']}", 200)  # a name may be of any length


def _first_line(error):
    """What TensorFlow's assertions, or any exception, say."""
    lines = str(error).splitlines() or [""]
    said = [line for line in lines if "assertion failed: [" in line]
    return said[0].split("[", 1)[1].split("]", 1)[0] if said else lines[0]


def _positive(kind):
    def number(text):
        value = kind(text)
        if not 0 < value < math.inf:
            raise ValueError
        return value

    number.__name__ = f"positive {kind.__name__}"
    return number


def main(argv=None):
    parser = argparse.ArgumentParser(description="Serves an exported model over HTTP.")
    parser.add_argument("--model", required=True, help="folder that python -m santm_tf.export wrote")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (%(default)s)")
    parser.add_argument("--port", type=int, default=8500, help="port, or 0 for a free one (%(default)s)")
    for name, default, text in [
            ("max_sessions", 1000, "streams open at once"),
            ("idle_seconds", 300.0, "seconds after which an unused stream is forgotten"),
            ("max_steps", 32768, "steps in a request, padding included"),
            ("max_batch", 64, "steps of different streams that run together"),
            ("max_body_mib", 4.0, "size of a request"),
            ("threads", 1, "predictions that run at once; steps have a thread of their own")]:
        parser.add_argument(f"--{name}", type=_positive(type(default)), default=default,
                            help=f"{text} (%(default)s)")
    options = parser.parse_args(argv)
    try:
        model = Model(options.model)
    except ExportError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    app = create_app(model, Sessions(options.max_sessions, options.idle_seconds), options.max_steps,
                     options.max_batch, options.max_body_mib, options.threads)
    gc.freeze()  # a collection that looks through TensorFlow's objects, too, stops every request for long
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn ends cleanly and then raises it again
    # The ids of streams are secrets of their users: they are not logged.
    uvicorn.run(app, host=options.host, port=options.port, timeout_graceful_shutdown=10, access_log=False)


if __name__ == "__main__":
    main()
