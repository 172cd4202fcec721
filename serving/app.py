"""The application: what can be asked of a model over HTTP."""

import asyncio
import json
import typing
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import fastapi
import pydantic
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response

from .bodies import answers, body, check_same_lengths, described, described_state, problems, several
from .facts import ExportError, first_line
from .guard import PARSED, Limits, Token
from .memory import BIG, Memory, trim
from .metrics import Measured, Metrics
from .model import TooLarge
from .states import StateError, all_finite, decoded, encoded
from .streams import Steps


class Bounds(typing.NamedTuple):
    """What a request may ask for, and what all may hold; the flags of the same names.

    `max_memory_mib` goes in three equal parts to what the model computes, to what requests and their answers
    hold, and to the states of streams.
    """

    max_steps: int = 32768
    max_batch: int = 64
    max_body_mib: float = 4.0
    max_memory_mib: float = 1024.0
    threads: int = 1

    @property
    def part(self):
        """Bytes of each of the three."""
        return int(self.max_memory_mib * 2**20 / 3)

    @property
    def call(self):
        """Bytes of one call of the model: predictions run in their threads, steps in one."""
        return self.part // (self.threads + 1)

    def streams(self, model, most):
        """How many streams there may be, at most `most`; `ExportError` where there is no room for one."""
        if model.first_state is None:
            return most
        if max(model.state_bytes, model.step_row) > min(self.part, self.call):
            size = max(model.state_bytes * 3, model.step_row * 3 * (self.threads + 1)) / 2**20
            raise ExportError(f"--max_memory_mib={self.max_memory_mib:g}: a stream of this model needs "
                              f"{size:,.0f}")
        return min(most, self.part // model.state_bytes)


def create_app(model, sessions, bounds=None, token=None, save=None):
    """The application.

    Args:
      bounds: the `Bounds`.
      token: what requests must send, if anything.
      save: `save(states)` writes the streams' states to a file; without it there is none.
    """
    import tensorflow as tf

    bounds = bounds or Bounds()
    memory = Memory(bounds.part)
    metrics = Metrics(lambda: len(sessions), lambda: memory.free)
    step = Steps(model, max(1, min(bounds.max_batch, int(bounds.call // (model.step_row or 1)))))
    predicting = ThreadPoolExecutor(bounds.threads, "predictions")
    max_steps, each = bounds.max_steps, model.facts["return_sequences"]

    def needs(scope, length):
        """Bytes of a request: its body as objects, the answer to as many steps as it may hold, a state."""
        state = 4 * model.state_bytes if scope["path"].endswith("/state") else 0
        return PARSED * length + min(max_steps, length // 2) * model.answer_bytes + state

    app = fastapi.FastAPI(title="SANTM", description="Sequences and streams of an exported model.",
                          responses=problems(*[401] * bool(token), 503), dependencies=_scheme(token))
    app.add_middleware(Limits, most=round(bounds.max_body_mib * 2**20), memory=memory, needs=needs)
    if token:
        app.add_middleware(Token, token=token)
    app.add_middleware(Measured, metrics=metrics)

    NextSteps = body("NextSteps", **{name: several(i.type, max_steps) for name, i in
                                     model.step_inputs.items()})
    Sequences = body("Sequences", **{name: several(several(i.type, max_steps) if model.stepwise else i.type,
                                                   None) for name, i in model.inputs.items()})
    State = body("State", state=Annotated[dict[str, pydantic.Base64Bytes], pydantic.Field(
        json_schema_extra=described_state(model.first_state or {}))])

    @app.exception_handler(RequestValidationError)
    async def invalid(request, error):
        return JSONResponse({"detail": described(error.errors()[0])}, 422)

    @app.exception_handler(tf.errors.InvalidArgumentError)
    async def refused(request, error):
        return JSONResponse({"detail": f"the model refuses this: {first_line(error)}"}, 422)

    @app.exception_handler(UnicodeDecodeError)  # TensorFlow's message quotes bytes of a damaged file
    async def damaged(request, error):
        return JSONResponse({"detail": "the model refuses this: a damaged file"}, 422)

    @app.exception_handler(TooLarge)
    async def too_large(request, error):
        return JSONResponse({"detail": str(error)}, 413)

    @app.exception_handler(StateError)
    async def wrong_state(request, error):
        return JSONResponse({"detail": str(error)}, 409 if error.other else 422)

    @app.head("/health", operation_id="health_head")
    @app.get("/health")
    async def health():
        """Answers as soon as the model is loaded and has run once."""
        return {"status": "ok"}

    @app.get("/metrics", response_class=fastapi.responses.PlainTextResponse)
    async def figures():
        """Requests, their times, streams and memory, for Prometheus."""
        return metrics.answer()

    @app.get("/model")
    async def info():
        """What the export says of itself, and how many streams are open."""
        return {**model.facts, "open_streams": len(sessions), "max_streams": sessions.most,
                "max_steps": max_steps}

    def predicted(part, size):
        """The answers to some sequences, each as JSON."""
        found = model.predict(part)
        if not all_finite(*found):
            raise NotFinite
        texts = [json.dumps(model.answer(one, each), separators=(",", ":")) for one in found]
        if size > BIG:
            del found
            trim(0)
        return texts

    @app.post("/predict", responses=answers(model.facts, each) | problems(400, 413, 422))
    async def predict(body: Sequences):
        """The outputs of sequences of any lengths."""
        given, texts = vars(body), []
        check_same_lengths(given)
        if model.stepwise:
            rows, longest = len(body.inputs), max(map(len, body.inputs))
            if rows * longest > max_steps:
                raise fastapi.HTTPException(413, f"inputs: {rows} sequences times {longest} steps, the "
                                            f"longest's, are over {max_steps} (--max_steps)")
            for sequences in zip(*given.values(), strict=True):
                check_same_lengths(dict(zip(given, sequences, strict=True)))
        for part, size in list(model.chunks(given, bounds.call)):
            texts += await asyncio.get_running_loop().run_in_executor(predicting, predicted, part, size)
        metrics.sequences.inc(len(texts))
        return Response(f'{{"outputs":[{",".join(texts)}]}}', media_type="application/json")

    @app.exception_handler(NotFinite)
    async def not_finite(request, error):
        return JSONResponse({"detail": "the outputs for these inputs are not all finite; nothing was "
                                       "changed"}, 422)

    @app.post("/streams", status_code=201, responses=problems(429, 501))
    async def open_stream():
        """A new stream, before its first step."""
        if not model.step_inputs:
            why = model.facts["streams"].removeprefix("no: ")
            raise fastapi.HTTPException(501, f"this model has no streams: {why}; use /predict")
        return {"id": sessions.open(model.first_state)}

    @app.post("/streams/{id}", responses=answers(model.facts, False) | problems(400, 404, 413, 422))
    async def run_steps(id: str, body: NextSteps):
        """The outputs of a stream's next steps; if one fails, none was made."""
        async with sessions.use(id) as session:
            state, outputs, given = session.state, [], vars(body)
            check_same_lengths(given)
            for inputs in zip(*given.values(), strict=True):
                found, state = await step(dict(zip(given, inputs, strict=True)), state)
                outputs.append(found)
            if not all_finite(*outputs, state):
                raise NotFinite
            session.state = state
        metrics.steps.inc(len(outputs))
        return JSONResponse({"outputs": [model.answer(found) for found in outputs]})

    @app.delete("/streams/{id}", status_code=204, responses=problems(404))
    async def close_stream(id: str):
        """Forgets a stream."""
        await sessions.close(id)

    @app.get("/streams/{id}/state", responses=problems(404))
    async def export_state(id: str):
        """A stream's state, each tensor's bytes in base64."""
        async with sessions.use(id) as session:
            return JSONResponse({"state": encoded(session.state)})

    @app.put("/streams/{id}/state", status_code=204, responses=problems(400, 404, 409, 413, 422))
    async def restore_state(id: str, body: State):
        """Has a stream go on from a state that was exported."""
        async with sessions.use(id) as session:
            session.state = decoded(body.state, model.first_state)

    @app.post("/save", responses=problems(501))
    async def save_streams():
        """Writes the streams' states to the server's file (--streams_file), as its end does."""
        if not save:
            raise fastapi.HTTPException(501, "the server has no --streams_file")
        states = sessions.states()
        await asyncio.to_thread(save, states)
        return {"streams": len(states)}

    return app


class NotFinite(Exception):
    """Outputs that are not all finite."""


def _scheme(token):
    """What the API's description says of the token; `Token` checks it."""
    if not token:
        return []
    return [fastapi.Depends(fastapi.security.HTTPBearer(auto_error=False))]
