"""ASGI middleware: who may ask, how large a body may be, how much memory requests hold at once."""

import asyncio
import hmac

from starlette.responses import JSONResponse

from .memory import BIG, trim

PARSED = 64  # bytes that a byte of JSON takes at most as objects, with their copies
OPEN = ("/health",)  # which anyone may ask


class Token:
    """HTTP 401 to who does not send `Authorization: Bearer TOKEN`."""

    def __init__(self, app, token):
        self._app, self._wanted = app, b"Bearer " + token.encode()

    async def __call__(self, scope, receive, send):
        given = dict(scope.get("headers", ())).get(b"authorization", b"")
        # In constant time: how long a comparison takes would tell how much of a guess is right.
        if scope["type"] == "http" and scope["path"] not in OPEN and not hmac.compare_digest(
                given, self._wanted):
            await _refuse(scope, receive, send, 401, "send Authorization: Bearer and the server's token",
                          {"WWW-Authenticate": "Bearer"})
            return
        await self._app(scope, receive, send)


class Limits:
    """Reads a body before it is understood; HTTP 413 if it is too large, 503 if there are too many.

    A request that is cancelled, because the server ends, is answered by 503.

    Args:
      most: bytes of a body.
      memory: the `Memory` that requests share.
      needs: `needs(scope, length)`, the bytes that a request needs, its body being of this length.
    """

    def __init__(self, app, most, memory, needs):
        self._app, self._most, self._memory, self._needs = app, most, memory, needs
        self._read = 0  # bytes of bodies, of all requests

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, body = False, bytearray()

        async def sent(message):
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._limited(scope, receive, sent, body)
        except asyncio.CancelledError:
            if begun:
                raise
            await _refuse(scope, receive, send, 503, "the server ends; nothing was changed")
        finally:
            self._read -= len(body)

    async def _limited(self, scope, receive, send, body):
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            part, more = message.get("body", b""), message.get("more_body", False)
            if len(body) + len(part) > self._most:
                await _refuse(scope, receive, send, 413, f"the body is over {self._most} bytes "
                              "(--max_body_mib)", {"Connection": "close"})
                return
            if self._read + len(part) > self._memory.most // 4:
                await _refuse(scope, receive, send, 503, "too many bodies at once; try again",
                              {"Retry-After": "1", "Connection": "close"})
                return
            body += part
            self._read += len(part)
        size = self._needs(scope, len(body))
        if size > self._memory.most:
            await _refuse(scope, receive, send, 413, f"this request needs up to {size / 2**20:,.0f} MiB; "
                          f"requests may hold {self._memory.most / 2**20:,.0f} MiB (--max_memory_mib)")
            return

        given = iter([{"type": "http.request", "body": bytes(body), "more_body": False}])

        async def replayed():
            return next(given, None) or await receive()

        async with self._memory.held(size):
            await self._app(scope, replayed, send)
        if size > BIG:
            trim(0)


async def _refuse(scope, receive, send, status, detail, headers=None):
    await JSONResponse({"detail": detail}, status, headers)(scope, receive, send)
