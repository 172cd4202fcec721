"""The process around the application: connections that wait too long are closed, SIGTERM ends it cleanly."""

import asyncio
import sys

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

PERIOD = 0.5  # seconds between two looks at a connection


def protocol(seconds):
    """A class of connections that are cut once the other side has been waited for, for so many seconds.

    It is waited for until a request has come as a whole, and while it does not read the answer. The time
    counts from the end of the last answer.
    """
    class Connection(H11Protocol):
        def connection_made(self, transport):
            super().connection_made(transport)
            self._waited = 0.0
            self._look = self.loop.call_later(PERIOD, self._watch)

        def connection_lost(self, exc):
            self._look.cancel()
            super().connection_lost(exc)

        def on_response_complete(self):
            self._waited = 0.0
            super().on_response_complete()

        def _watch(self):
            cycle = self.cycle
            if cycle is None or cycle.response_complete or cycle.more_body or self.flow.write_paused:
                self._waited += PERIOD
            if self._waited >= seconds:
                self.transport.abort()  # close() would wait for the other side to take what was written
                return
            self._look = self.loop.call_later(PERIOD, self._watch)

    return Connection


class Server(uvicorn.Server):
    """Gives the running requests `grace` seconds when it ends, and then cancels them, which answers them."""

    def __init__(self, config, grace):
        super().__init__(config)
        self._grace = grace

    async def startup(self, sockets=None):
        await super().startup(sockets)
        host, port = sockets[0].getsockname()[:2]
        print(f"serving at http://{f'[{host}]' if ':' in host else host}:{port}", file=sys.stderr, flush=True)

    async def shutdown(self, sockets=None):
        asyncio.get_running_loop().call_later(self._grace, self._cancel)
        await super().shutdown(sockets)

    def _cancel(self):
        for task in list(self.server_state.tasks):
            task.cancel()
