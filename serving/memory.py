"""The memory that requests share, and its return to the system."""

import asyncio
import collections
import contextlib
import ctypes


class Memory:
    """`most` bytes, of which each request holds some until it is done: first come, first served.

    >>> memory = Memory(10)
    >>> async def main():
    ...     async with memory.held(4):
    ...         return memory.free
    >>> asyncio.run(main())
    6
    """

    def __init__(self, most):
        self.most, self.free = most, most
        self._waiting = collections.deque()  # (size, future)

    @contextlib.asynccontextmanager
    async def held(self, size):
        """Waits for `size` bytes, at most `most`, and gives them back at the end."""
        await self._take(size)
        try:
            yield
        finally:
            self._give(size)

    async def _take(self, size):
        if not size or not self._waiting and size <= self.free:
            self.free -= size
            return
        one = size, asyncio.get_running_loop().create_future()
        self._waiting.append(one)
        try:
            await one[1]
        except asyncio.CancelledError:
            if one in self._waiting:
                self._waiting.remove(one)
                self._give(0)  # those behind it may fit
            else:
                self._give(size)  # it was given and cancelled at once
            raise

    def _give(self, size):
        self.free += size
        while self._waiting and self._waiting[0][0] <= self.free:
            size, turn = self._waiting.popleft()
            self.free -= size
            if turn.cancelled():  # whose request gives it back, having left the line
                continue
            turn.set_result(None)


def _trim():
    """`malloc_trim` of the GNU library: freed memory goes back to the system. Others have none."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return lambda pad: 0


trim = _trim()
BIG = 2**23  # bytes that were in use, after which freed memory is given back
