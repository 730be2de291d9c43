"""What was compressed is inflated up to a limit: 39 kB on the wire can be 40 MB in memory, and no fetch limit sees it.

KIP-98's record batches (magic 2): everything behind the header is compressed as a whole. Kafka 4 stores no others.
"""

import struct
import zlib
from typing import Final

import cramjam
import lz4.frame
import zstandard

MAX_INFLATED: Final = 32 << 20  # bytes of one batch: 8 records of the largest size that is looked at
MAX_WINDOW: Final = 8 << 20  # of zstd, which a decoder has to hold beside its output (RFC 8878, 3.1.1.1.2)

HEADER: Final = struct.Struct(">qiibIhiqqqhii")
_ATTRIBUTES = struct.Struct(">h")
_ATTRIBUTES_AT = struct.calcsize(">qiibI")
_CODECS = 0x07
_XERIAL = b"\x82SNAPPY\x00"
_XERIAL_HEADER = 16


DAMAGED = (
    KeyError,
    EOFError,
    RuntimeError,
    ValueError,
    struct.error,
    zlib.error,
    cramjam.DecompressionError,
    zstandard.ZstdError,
)


class TooLarge(ValueError):
    """There would be more bytes than are looked at."""


class Damaged(ValueError):
    """The bytes are not of that compression."""


def plain(batch: bytes, limit: int) -> bytes:
    """The batch as if it had never been compressed. Raises :class:`TooLarge`, :class:`Damaged`."""
    (attributes,) = _ATTRIBUTES.unpack_from(batch, _ATTRIBUTES_AT)
    codec = attributes & _CODECS
    if not codec:
        return batch
    header = bytearray(batch[: HEADER.size])
    _ATTRIBUTES.pack_into(header, _ATTRIBUTES_AT, attributes & ~_CODECS)
    return bytes(header) + inflate(codec, batch[HEADER.size :], limit)


def inflate(codec: int, data: bytes, limit: int) -> bytes:
    """At most ``limit`` bytes. ``codec``: 1 gzip, 2 snappy, 3 lz4, 4 zstd, as in a batch's attributes."""
    try:
        return {1: _gzip, 2: _snappy, 3: _lz4, 4: _zstd}[codec](data, limit)
    except DAMAGED as error:
        if isinstance(error, TooLarge):
            raise
        raise Damaged(type(error).__name__) from None


def _gzip(data: bytes, limit: int) -> bytes:
    parts, size = [], 0
    while data:  # a stream may have several members (RFC 1952, 2.2)
        stream = zlib.decompressobj(wbits=31)
        parts.append(stream.decompress(data, limit - size + 1))
        size += len(parts[-1])
        if size > limit:
            raise TooLarge
        if not stream.eof:
            raise EOFError
        data = stream.unused_data
    return b"".join(parts)


def _snappy(data: bytes, limit: int) -> bytes:
    if not data.startswith(_XERIAL):
        return _snappy_block(data, limit)
    parts, size, at = [], 0, _XERIAL_HEADER
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        parts.append(_snappy_block(data[at + 4 : at + 4 + length], limit - size))
        size += len(parts[-1])
        at += 4 + length
    return b"".join(parts)


def _snappy_block(data: bytes, limit: int) -> bytes:
    if cramjam.snappy.decompress_raw_len(data) > limit:  # it says first how much it is
        raise TooLarge
    return bytes(cramjam.snappy.decompress_raw(data))


def _lz4(data: bytes, limit: int) -> bytes:
    stream = lz4.frame.LZ4FrameDecompressor()
    inflated: bytes = stream.decompress(data, max_length=limit + 1)
    if len(inflated) > limit:
        raise TooLarge
    if not stream.eof:
        raise EOFError
    return inflated


def _zstd(data: bytes, limit: int) -> bytes:
    reader = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).stream_reader(data, read_across_frames=True)
    inflated = reader.read(limit + 1)
    if len(inflated) > limit:
        raise TooLarge
    return inflated
