"""Responses come out as they were sent, whatever pieces they came in; and a socket that nobody reads is stopped."""

import asyncio
import io

import pytest
from aiokafka import conn
from hypothesis import given
from hypothesis import strategies as st

from pipeline.settings import Settings
from pipeline.stream.framework import new_app
from pipeline.stream.pieces import LARGE, Reader, Response
from tests.properties.worlds import examples

LIMIT = 1 << 16


@examples(100)
@given(st.lists(st.binary(max_size=40)), st.lists(st.integers(1, 20)), st.booleans())
def test_what_is_read_is_what_was_fed(frames: list[bytes], cuts: list[int], fed_before: bool) -> None:
    stream = b"".join(frames)
    pieces, at = [], 0
    for cut in [*cuts, len(stream)]:
        if stream[at : at + cut]:
            pieces.append(stream[at : at + cut])
        at += cut

    async def read() -> list[bytes]:
        reader = Reader(LIMIT)
        if fed_before:
            for piece in pieces:
                reader.feed_data(piece)
        reading = asyncio.ensure_future(gather(reader))
        for piece in () if fed_before else pieces:
            await asyncio.sleep(0)
            reader.feed_data(piece)
        found = await reading
        reader.feed_eof()
        assert reader.at_eof()
        return found

    async def gather(reader: Reader) -> list[bytes]:
        return [await reader.readexactly(len(frame)) for frame in frames]

    assert asyncio.run(read()) == frames


def test_a_stream_that_ends_too_early_says_so() -> None:
    async def read() -> None:
        reader = Reader(LIMIT)
        reader.feed_data(b"abc")
        reader.feed_eof()
        assert not reader.at_eof()
        await reader.readexactly(4)

    with pytest.raises(asyncio.IncompleteReadError) as raised:
        asyncio.run(read())
    assert (raised.value.partial, raised.value.expected) == (b"abc", 4)


def test_an_error_of_the_connection_reaches_whoever_reads() -> None:
    async def read() -> None:
        reader = Reader(LIMIT)
        reading = asyncio.ensure_future(reader.readexactly(1))
        await asyncio.sleep(0)
        reader.set_exception(ConnectionResetError())
        with pytest.raises(ConnectionResetError):
            await reading
        await reader.readexactly(1)

    with pytest.raises(ConnectionResetError):
        asyncio.run(read())


def test_a_socket_is_stopped_while_nobody_reads_and_a_large_response_comes_whole() -> None:
    """Through a real connection: much more is sent than may wait, and all of it arrives once it is asked for."""
    sent = bytes(range(256)) * (64 << 10)  # 16 MB

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent + b"end")
        await writer.drain()
        writer.close()

    async def read() -> tuple[bool, bytes, bytes]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        loop, reader = asyncio.get_running_loop(), Reader(LIMIT)
        host, port = server.sockets[0].getsockname()
        transport, _ = await loop.create_connection(lambda: asyncio.StreamReaderProtocol(reader), host, port)
        while transport.is_reading():
            await asyncio.sleep(0)
        held = reader._held
        found = await reader.readexactly(len(sent))
        last = await reader.readexactly(3)
        transport.close()
        server.close()
        return held < len(sent) // 4, found, last

    few, found, last = asyncio.run(asyncio.wait_for(read(), 30))
    assert few
    assert found == sent
    assert last == b"end"


@examples(50)
@given(st.lists(st.integers(0, 2 * LARGE) | st.just(LARGE) | st.none(), max_size=5), st.integers(0, 3 * LARGE))
def test_a_response_is_read_as_any_buffer_is_and_what_is_large_in_it_is_not_copied(
    sizes: list[int | None], length: int
) -> None:
    whole = bytes(range(256)) * (length // 256) + bytes(length % 256)
    response, buffer = Response(whole), io.BytesIO(whole)
    for size in sizes:
        found = response.read(size)
        assert found == buffer.read(size)
        if size is not None and size >= LARGE:
            assert isinstance(found, memoryview)
            assert found.obj is whole
    assert response.tell() == buffer.tell()


def test_every_connection_of_a_worker_reads_so() -> None:
    new_app(Settings())
    assert conn.asyncio.StreamReader is Reader
    assert conn.io.BytesIO is Response
