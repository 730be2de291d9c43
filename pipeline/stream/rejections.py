"""What is kept of a rejected event: why, and where it stood. 7 days, for operators."""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from pipeline.core.outcomes import Reason, Rejection
from pipeline.stream.topics import EVENTS

ROWS = 100_000  # in a record: some megabytes


class Rejections(msgspec.Struct, frozen=True):
    """A record of ``usage.rejections``: rows of (reason, source partition, offset, place in the record)."""

    topic: str
    rows: list[tuple[Reason, int, int, int]]


def encode_rejections(rejections: Iterable[Rejection]) -> bytes:
    """The record's value: JSON."""
    return msgspec.json.encode(Rejections(EVENTS, [(r.reason, r.partition, r.offset, r.place) for r in rejections]))


def rejection_records(rejections: Sequence[Rejection]) -> Iterator[bytes]:
    """The values of as many records as it takes."""
    for start in range(0, len(rejections), ROWS):
        yield encode_rejections(rejections[start : start + ROWS])


def decode_rejections(value: bytes) -> list[Rejection]:
    """The inverse of :func:`encode_rejections`. Raises ``msgspec.MsgspecError`` for anything else."""
    return [Rejection(*row) for row in _DECODER.decode(value).rows]


_DECODER = msgspec.json.Decoder(Rejections)
