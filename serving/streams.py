"""The open streams: one state each, whose requests come one after the other."""

import asyncio
import collections
import contextlib
import math
import secrets
import time
from concurrent.futures import ThreadPoolExecutor

import fastapi
import numpy as np


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

    def states(self):
        """The state of each open stream, by its id."""
        self._expire()
        return {id: session.state for id, session in self._open.items()}

    def restore(self, states):
        """Opens streams with these ids and states."""
        for id, state in states.items():
            self._open[id] = Session(state, self._clock())

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
        self._thread = ThreadPoolExecutor(1, "steps")

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
            results = await asyncio.get_running_loop().run_in_executor(
                self._thread, self._together, [waiting[:2] for waiting in batch])
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


