"""How aiokafka reads from its connections: what has come stays in pieces until a whole response is there, and what is
large in it is not copied again.

asyncio's reader puts every piece behind a buffer that grows and moves, stops the socket beyond 128 KB though megabytes
are wanted, and copies the response out: a fifth of what fetching costs. aiokafka then copies each partition's records
out of that. aiokafka's version is pinned exactly.
"""

import asyncio
import io
from collections import deque
from types import SimpleNamespace

from aiokafka import conn

LARGE = 1 << 20  # bytes: what a group says of itself is never so long, a busy partition's records mostly are


def install() -> None:
    """From here on every connection of this process reads with what is below."""
    conn.asyncio = SimpleNamespace(**{**vars(asyncio), "StreamReader": Reader})
    conn.io = SimpleNamespace(**{**vars(io), "BytesIO": Response})


class Response(io.BytesIO):
    """A response, of which what is large is read as a view: a partition's records."""

    def __init__(self, whole: bytes) -> None:
        super().__init__(whole)
        self._whole = whole

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < LARGE:
            return super().read(size)
        start = self.tell()
        end = self.seek(min(start + size, len(self._whole)))
        return memoryview(self._whole)[start:end]  # type: ignore[return-value] # as good, to who takes records apart


class Reader(asyncio.StreamReader):
    """Of :class:`asyncio.StreamReader` only what aiokafka uses: :meth:`readexactly` and :meth:`at_eof`."""

    # Of the class above, which has no names for these that are public.
    _limit: int
    _eof: bool
    _paused: bool
    _exception: BaseException | None
    _transport: asyncio.ReadTransport | None

    def __init__(self, limit: int, loop: asyncio.AbstractEventLoop | None = None) -> None:
        super().__init__(limit, loop)
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._wanted = 0

    def at_eof(self) -> bool:
        return self._eof and not self._held

    def feed_data(self, data: bytes) -> None:  # type: ignore[override]
        self._pieces.append(data)
        self._held += len(data)
        if self._held >= self._wanted:
            self._wakeup_waiter()  # type: ignore[attr-defined]
        if self._transport is not None and not self._paused and self._held > max(self._wanted, 2 * self._limit):
            self._transport.pause_reading()
            self._paused = True

    async def readexactly(self, n: int) -> bytes:
        """So many bytes. Raises :class:`asyncio.IncompleteReadError` where the stream ends before."""
        if self._exception is not None:
            raise self._exception
        self._wanted = n
        while self._held < n:
            if self._eof:
                raise asyncio.IncompleteReadError(self._taken(self._held), n)
            await self._wait_for_data("readexactly")  # type: ignore[attr-defined]
        self._wanted = 0
        found = self._taken(n)
        if self._paused and self._transport is not None and self._held <= self._limit:
            self._paused = False
            self._transport.resume_reading()
        return found

    def _taken(self, n: int) -> bytes:
        """The first bytes, which are there."""
        self._held -= n
        taken = []
        while n:
            piece = self._pieces.popleft()
            if len(piece) > n:
                self._pieces.appendleft(piece[n:])
                piece = piece[:n]
            taken.append(piece)
            n -= len(piece)
        return taken[0] if len(taken) == 1 else b"".join(taken)
