"""The emitter's other half: carries what is put into a bounded buffer to Kafka, in a thread of its own."""

import atexit
import contextlib
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from math import inf
from typing import Any, Generic, TypeVar

from pipeline._connection import NAME

EVENTS_IN_RECORD, BYTES_IN_RECORD, RECORDS_IN_ROUND = 500, 256 * 1024, 8
BACKOFF_FIRST, BACKOFF_LAST, ANSWER, EXIT, REPORT = 0.5, 15.0, 20.0, 2.0, 60.0  # seconds
COUNTERS = ("accepted", "sent", "dropped_full", "dropped_failed", "opted_out", "refused", "buffered")
BATCH = ("content-type", b"application/cloudevents-batch+json")
# Such a record is refused however often it is sent; after any other error the events wait and are sent again.
HOPELESS = {"MessageSizeTooLargeError", "RecordListTooLargeError", "InvalidRecordError"}

log = logging.getLogger("headcount.emitter")
T = TypeVar("T")


class Delivery(Generic[T]):
    """Every event ends in one counter: accepted = sent + dropped_full + dropped_failed + buffered, always.

    `encode` makes an event's JSON from its number and the event, in the background; None if it was withdrawn.
    """

    def __init__(
        self,
        topic: str,
        connect: Callable[[], Any],
        encode: Callable[[int, T], bytes | None],
        capacity: int,
        linger: float,
    ) -> None:
        self._topic, self._connect, self._encode = topic, connect, encode
        self._capacity, self._linger = capacity, linger
        self.next = 0  # the number of the next event; none is ever used twice
        self._closing = False
        self._reset()
        _deliveries.add(self)

    def _reset(self) -> None:
        self._lock = threading.RLock()  # re-entrant: a signal handler may emit while its own thread emits
        self._work, self._done = threading.Condition(self._lock), threading.Condition(self._lock)
        self._counts = dict.fromkeys(COUNTERS, 0)
        self._buffer: deque[tuple[int, T]] = deque()
        self._round: dict[int, T] = {}  # under way: taken from the buffer, not yet acknowledged
        self._thread: threading.Thread | None = None
        self._producer: Any = None
        self._wake_at = 1.0  # how many events in the buffer wake the thread
        self._urgent = 0.0  # events with a lower number do not linger
        self._nudged = self._ended = False
        self._deadline = inf
        self._error, self._reported, self._report_due = "", 0, -inf

    def count(self, outcome: str) -> None:
        with self._lock:
            self._counts[outcome] += 1

    def counts(self) -> dict[str, int]:
        with self._lock:
            return dict(self._counts)

    def put(self, event: T) -> bool:
        """Buffer the event, or drop it when the buffer is full; after close it is refused. Never waits."""
        with self._lock:
            counts = self._counts
            if self._closing:
                counts["refused"] += 1
                return False
            counts["accepted"] += 1
            if counts["buffered"] >= self._capacity:
                counts["dropped_full"] += 1
                return False
            counts["buffered"] += 1
            number = self.next
            self.next += 1  # before the next call: a signal handler that emits must not get the same number
            self._buffer.append((number, event))
            if len(self._buffer) >= self._wake_at:
                self._wake()
            return True

    def _wake(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._run, name=NAME, daemon=True)
            try:
                thread.start()
            except RuntimeError:  # too many threads, or the interpreter ends: the next event tries again
                return
            self._thread = thread
            _finish_before_kafka()
        self._wake_at = inf
        self._work.notify()

    def flush(self, timeout: float | None) -> bool:
        """Wait until all that was put before has left; True if none was dropped as undeliverable."""
        with self._lock:
            last, failed = self.next, self._counts["dropped_failed"]
            self._urgent, self._nudged = max(self._urgent, last), True
            self._work.notify()
            left = self._done.wait_for(lambda: self._first_waiting() >= last, timeout)
            return left and self._counts["dropped_failed"] == failed

    def _first_waiting(self) -> int:
        return next(iter(self._round), self._buffer[0][0] if self._buffer else self.next)

    def stop(self, timeout: float) -> None:
        """Take no more events, and give those that wait this long to leave. Returns at once."""
        with self._lock:
            if not self._closing:
                self._closing, self._urgent, self._nudged = True, inf, True
                self._deadline = time.monotonic() + timeout
                self._work.notify()

    def close(self, timeout: float) -> bool:
        """Stop, wait, and drop what is then still here; True if nothing had to be dropped."""
        with self._lock:
            failed = self._counts["dropped_failed"]
            self.stop(timeout)
            self._done.wait_for(lambda: self._ended or self._thread is None, timeout)
            self._abandon()
            undelivered = self._counts["dropped_failed"] - failed
        self._report(last=True)
        return undelivered == 0

    def _abandon(self) -> None:
        self._counts["dropped_failed"] += self._counts["buffered"]
        self._counts["buffered"] = 0
        self._buffer.clear()
        self._round.clear()
        self._done.notify_all()

    def _run(self) -> None:
        pause = 0.0
        while self._wait(pause):
            try:
                self._attempt()
                pause = 0.0
            except BaseException as error:  # whatever it is, the thread must live to try again
                self._error = type(error).__name__
                self.disconnect()
                pause = min(max(2 * pause, BACKOFF_FIRST), BACKOFF_LAST)
            with self._lock:
                self._done.notify_all()
            self._report()
        self.disconnect()
        self._report(last=True)
        with self._lock:
            self._ended = True
            self._done.notify_all()

    def _wait(self, pause: float) -> bool:
        """Sleep until a round is due, after a failure for `pause` seconds; False when all is over."""
        with self._lock:
            self._wake_at = 1
            self._work.wait_for(lambda: self._counts["buffered"] or self._closing)
            if not self._counts["buffered"]:
                return False
            self._wake_at = inf if pause else EVENTS_IN_RECORD
            # Events gather while we connect: the first round need not linger.
            lingers = self._producer and self._first_waiting() >= self._urgent
            seconds = pause or (self._linger if lingers else 0.0)
            self._work.wait_for(
                lambda: self._nudged or (not pause and len(self._buffer) >= EVENTS_IN_RECORD),
                min(seconds, max(0.0, self._deadline - time.monotonic())),
            )
            self._wake_at, self._nudged = inf, False
            if time.monotonic() >= self._deadline:
                self._abandon()
            return self._counts["buffered"] > 0 or not self._closing

    def _attempt(self) -> None:
        """Send one round; raise if some of it must be sent again."""
        if self._producer is None:
            self._producer = self._connect()
            _finish_before_kafka()
        self._take()
        sending, trouble = [], None
        for numbers, value in self._records():
            try:
                sending.append((numbers, self._producer.send(self._topic, value, headers=[BATCH])))
            except Exception as error:
                if trouble := self._fail(numbers, error):
                    break
        for numbers, future in sending:
            try:
                future.get(ANSWER)
                self._settle(numbers, "sent")
            except Exception as error:
                trouble = self._fail(numbers, error) or trouble
        if trouble:
            raise trouble

    def _take(self) -> None:
        while self._buffer and len(self._round) < EVENTS_IN_RECORD * RECORDS_IN_ROUND:
            with self._lock:  # once for each event: nobody who emits waits for a whole round to be moved
                if self._buffer:
                    number, event = self._buffer.popleft()
                    self._round[number] = event

    def _records(self) -> Iterator[tuple[list[int], bytes]]:
        """What is under way, as CloudEvents batches, each with the numbers of its events."""
        numbers: list[int] = []
        parts: list[bytes] = []
        size = 0
        for number, event in list(self._round.items()):
            try:
                part = self._encode(number, event)
            except Exception as error:  # it would hold up all others for ever
                self._error = type(error).__name__
                self._settle([number], "dropped_failed")
                continue
            if part is None:
                self._settle([number], "opted_out")
                continue
            if parts and (len(parts) == EVENTS_IN_RECORD or size + len(part) > BYTES_IN_RECORD):
                yield numbers, b"[" + b",".join(parts) + b"]"
                numbers, parts, size = [], [], 0
            numbers.append(number)
            parts.append(part)
            size += len(part) + 1
        if parts:
            yield numbers, b"[" + b",".join(parts) + b"]"

    def _settle(self, numbers: Sequence[int], outcome: str) -> None:
        with self._lock:
            settled = sum(self._round.pop(number, None) is not None for number in numbers)
            self._counts["buffered"] -= settled
            self._counts[outcome] += settled
            if outcome == "opted_out":
                self._counts["accepted"] -= settled

    def _fail(self, numbers: Sequence[int], error: Exception) -> Exception | None:
        if type(error).__name__ not in HOPELESS:
            return error
        self._error = type(error).__name__
        self._settle(numbers, "dropped_failed")
        return None

    def disconnect(self) -> None:
        """Let go of the producer at once; what it has not delivered is still under way, and sent again."""
        producer, self._producer = self._producer, None
        if producer is not None:
            with contextlib.suppress(Exception):
                producer._sender.force_close()  # close() alone waits, raises, and leaves its thread running
            with contextlib.suppress(Exception):
                producer.close(timeout=1)

    def forget_parent(self) -> None:
        """In a forked child: leave what is buffered, and the connection, to the parent."""
        if self._producer is not None:
            self._producer._closed = True  # else, at exit, it waits for a thread that is not here
            _inherited.append(self._producer)  # its finalizers could shut the parent's connection
        self._reset()

    def _report(self, last: bool = False) -> None:
        """Log counts, once a minute at most. Never under the lock: a log handler may wait, or emit."""
        counts = self.counts()
        lost = counts["dropped_full"] + counts["dropped_failed"] + counts["refused"]
        if (lost > self._reported or self._error) and (last or time.monotonic() >= self._report_due):
            error, self._error = self._error, ""
            self._reported, self._report_due = lost, time.monotonic() + REPORT
            log.warning(
                "usage events: %d sent, %d waiting, %d dropped because the buffer was full, %d dropped as "
                "undeliverable, %d refused; last error: %s",
                *(counts[c] for c in ("sent", "buffered", "dropped_full", "dropped_failed", "refused")),
                error or "none",
            )


_inherited: list[Any] = []
_deliveries: weakref.WeakSet[Delivery[Any]] = weakref.WeakSet()  # a running thread keeps its delivery alive


def _finish_all() -> None:
    deadline = time.monotonic() + EXIT
    for delivery in list(_deliveries):
        delivery.stop(EXIT)
    for delivery in list(_deliveries):
        delivery.close(max(0.0, deadline - time.monotonic()))
        delivery.disconnect()


def _finish_before_kafka() -> None:
    """kafka-python closes its producers at exit; the hook that was registered last runs first."""
    atexit.unregister(_finish_all)
    atexit.register(_finish_all)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: list(map(Delivery.forget_parent, list(_deliveries))))
