"""Records that aiokafka cannot read, or must not: they would stop every worker that fetches them, for ever.

A header name that is not UTF-8 ends aiokafka's parser; a batch that inflates to gigabytes ends the process. Such a
record is handed on with a value that stands for what is wrong with it, so that it ends like any other of its kind:
rejected, counted, and the records around it read. Of what nobody but workers writes, sizes are not limited here.

Private names of aiokafka are used; its version is pinned exactly.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import (
    DefaultRecordBatch,
    _DefaultRecordBatchPy,
    _DefaultRecordPy,
    decode_varint,
)
from aiokafka.record.memory_records import MemoryRecords
from crc32c import crc32c

from pipeline.core.events import MAX_RECORD, Record
from pipeline.stream.inflating import MAX_INFLATED, Damaged, TooLarge, plain
from pipeline.stream.topics import EVENTS

NOT_UTF8: Final = b"\xff"
TOO_LARGE: Final = bytes(MAX_RECORD + 1)  # one for all: it is looked at by its length alone
MAX_READ: Final = 16 << 20  # bytes of values that one fetch of a partition hands on
SEVERAL: Final = 100  # records that are handed on at once; no worker may ask for fewer

_OVERHEAD = 12  # bytes of a batch that its own length does not count: base offset and length
_CHECKED = 21  # bytes of a batch before those that its checksum is of
_LENGTH = struct.Struct(">8xi")
_MAGIC = 2


def install() -> None:
    """From here on every consumer of this process reads with what is below."""
    fetcher.MemoryRecords = Records
    fetcher.PartitionRecords = PartitionRecords
    fetcher.FetchResult = FetchResult


class PartitionRecords(fetcher.PartitionRecords):
    """What was fetched of one partition; of ``usage.events``, anybody may have written it."""

    def __init__(self, tp: Any, records: "Records", *args: Any, **kwargs: Any) -> None:
        records.limited = tp.topic == EVENTS
        super().__init__(tp, records, *args, **kwargs)

    def _consumer_record(self, _: Any, several: "_Several") -> list[Record]:
        records = several.records
        if records[0].offset < self.next_fetch_offset:  # a batch is fetched whole
            records = [record for record in records if record.offset >= self.next_fetch_offset]
        return made_of(records)


def made_of(read: Iterable[Any]) -> list[Record]:
    """Records as the core knows them, from what was read off the wire: aiokafka's own take 3 µs each to make."""
    return [Record(each.offset, each.timestamp / 1000, tuple(each.headers), each.value) for each in read]


class FetchResult(fetcher.FetchResult):
    """Hands on so many records at most, and no more bytes than :data:`MAX_READ` but for the last few's."""

    _partition_records: Any

    def getall(self, max_records: int | None = None) -> list[Record]:
        if not self.check_assignment(self._topic_partition) or not self.has_more():
            return []
        if max_records is not None and max_records < SEVERAL:
            return []
        found: list[Record] = []
        size = 0
        for records in self._partition_records:
            found += records
            size += size_of(records)
            if size >= MAX_READ or (max_records is not None and len(found) + SEVERAL > max_records):
                self._update_position()
                break
        else:
            self._update_position()
            self._partition_records = None
        return found


def size_of(records: Sequence[Any]) -> int:
    """The bytes that fetched records take."""
    values = [record.value for record in records]
    return sum([len(value) for value in values if value is not None and value is not TOO_LARGE])


class Records:
    """The batches of a fetched partition, as aiokafka reads them, each with a way to read it again. They are copied out
    of the response one at a time.
    """

    def __init__(self, data: bytes | memoryview) -> None:
        self.limited = False
        self._data = memoryview(data)
        self._at = 0

    def size_in_bytes(self) -> int:
        return len(self._data)

    def has_next(self) -> bool:
        """The last batch of a response may be cut off."""
        return self._at + _OVERHEAD <= len(self._data) and self._end() <= len(self._data)

    def next_batch(self) -> Any:
        if not self.has_next():
            return None
        data = bytes(self._data[self._at : self._end()])
        batch = MemoryRecords(data).next_batch()
        if batch is None:
            raise CorruptRecordException("a batch is shorter than its own length")
        self._at += len(data)
        return _Batch(batch, data, limited=self.limited)

    def _end(self) -> int:
        return self._at + _OVERHEAD + int(_LENGTH.unpack_from(self._data, self._at)[0])


class _Several(NamedTuple):
    """Records of one batch, which aiokafka takes for a single one: it goes through them one by one, at 2 µs each.

    ``offset``: of the last.
    """

    offset: int
    records: list[Any]


class _Batch:
    """A batch that is read by the fast parser, and from where that gives up by the patient one."""

    def __init__(self, batch: Any, data: bytes, *, limited: bool) -> None:
        self._batch = batch
        self._data = data
        self._limited = limited

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def validate_crc(self) -> bool:
        """By the processor's own instruction: aiokafka's takes fifteen times as long, and no thread runs meanwhile."""
        if self._batch.magic < _MAGIC:
            return bool(self._batch.validate_crc())
        return bool(crc32c(memoryview(self._data)[_CHECKED:]) == self._batch.crc)

    def __iter__(self) -> Iterator[_Several]:
        records = self._records()
        if isinstance(records, list):
            for start in range(0, len(records), SEVERAL):
                several = records[start : start + SEVERAL]
                yield _Several(several[-1].offset, several)
        else:  # they may be large
            yield from (_Several(record.offset, [record]) for record in records)

    def _records(self) -> Iterable[Any]:
        if self._limited and self._batch.magic >= _MAGIC:
            try:
                inflated = plain(self._data, MAX_INFLATED)
                if len(inflated) <= MAX_RECORD:  # then none of its records is over the limit
                    return list(DefaultRecordBatch(inflated))
            except (TooLarge, Damaged, CorruptRecordException, UnicodeDecodeError):
                pass  # something is wrong with it: find out where
        return self._patiently()

    def _patiently(self) -> Iterator[Any]:
        """One by one, up to where something is wrong, and with something instead of the rest."""
        if not self._limited or self._batch.magic < _MAGIC:
            yield from _read(self._batch, self._data)
            return
        following = self._batch.base_offset  # after the last that was handed on
        try:
            inflated = plain(self._data, MAX_INFLATED)
            for record in _read(DefaultRecordBatch(inflated), inflated):
                large = record.value is not None and len(record.value) > MAX_RECORD
                yield self._instead(record.offset, TOO_LARGE) if large else record
                following = record.offset + 1
        except TooLarge:
            yield from self._rest(following, TOO_LARGE)
        except (Damaged, CorruptRecordException):
            yield from self._rest(following, NOT_UTF8)

    def _rest(self, start: int, value: bytes) -> Iterator[Any]:
        """A record for each offset of the batch that was not handed on: the header alone says how many there are."""
        return (self._instead(offset, value) for offset in range(start, self._batch.next_offset))

    def _instead(self, offset: int, value: bytes) -> Any:
        batch = self._batch
        return _DefaultRecordPy(offset, batch.max_timestamp, batch.timestamp_type, None, value, [])


def _read(batch: Any, data: bytes) -> Iterator[Any]:
    read = 0
    try:
        for record in batch:
            yield record
            read += 1
    except UnicodeDecodeError:
        for place, record in enumerate(_Patient(bytearray(data))):
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
