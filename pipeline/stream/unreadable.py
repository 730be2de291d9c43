"""Records that aiokafka cannot read: a header name that is not UTF-8 would stop every worker that fetches it, for ever.

Such a record is handed on with a value that is not UTF-8 either, so that it ends like any other of its kind: rejected,
counted, and the records around it read. Private names of aiokafka are used; its version is pinned exactly.
"""

import struct
from collections.abc import Iterator
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy, _DefaultRecordPy, decode_varint
from aiokafka.record.memory_records import MemoryRecords

NOT_UTF8 = b"\xff"

_OVERHEAD = 12  # bytes of a batch that its own length does not count: base offset and length
_LENGTH = struct.Struct(">8xi")


def install() -> None:
    """From here on every consumer of this process reads with :class:`Records`."""
    fetcher.MemoryRecords = Records


class Records:
    """The batches of a fetched partition, as aiokafka reads them, each with a way to read it again."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._records = MemoryRecords(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._records, name)

    def next_batch(self) -> Any:
        batch = self._records.next_batch()
        if batch is None:
            return None
        size = _OVERHEAD + _LENGTH.unpack_from(self._data, self._at)[0]
        start, self._at = self._at, self._at + size
        return _Batch(batch, self._data, start, self._at)


class _Batch:
    """A batch that is read by the fast parser, and from where that gives up by the patient one."""

    def __init__(self, batch: Any, data: bytes, start: int, end: int) -> None:
        self._batch = batch
        self._data, self._start, self._end = data, start, end

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        read = 0
        try:
            for record in self._batch:
                yield record
                read += 1
        except UnicodeDecodeError:
            patient = _Patient(bytearray(self._data[self._start : self._end]))
            for place, record in enumerate(patient):
                if place >= read:
                    yield record


class _Patient(_DefaultRecordBatchPy):
    """Reads what is readable; of the rest, where and when it was."""

    _pos: int

    def _read_msg(self, *_: Any) -> Any:
        start = self._pos
        try:
            return super()._read_msg()
        except UnicodeDecodeError:
            length, place = decode_varint(self._buffer, start)
            self._pos = place + length
            _, place = decode_varint(self._buffer, place)  # attributes
            delta, place = decode_varint(self._buffer, place)
            number, _ = decode_varint(self._buffer, place)
            appended = self.timestamp_type == self.LOG_APPEND_TIME
            timestamp = self.max_timestamp if appended else self.first_timestamp + delta
            return _DefaultRecordPy(self.base_offset + number, timestamp, self.timestamp_type, None, NOT_UTF8, [])
