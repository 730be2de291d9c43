"""The emitter's other half: carries what is put into a bounded buffer to Kafka, in a thread of its own."""

import atexit
import contextlib
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from typing import Any, Generic, Protocol, TypeVar

from pipeline._buffer import EVENTS_IN_RECORD, Buffer, Piece
from pipeline._connection import NAME

BYTES_IN_RECORD, RECORDS_IN_ROUND, RECORDS_UNDER_WAY = 256 * 1024, 32, 16
BACKOFF_FIRST, BACKOFF_LAST, ANSWER, EXIT, REPORT = 0.5, 15.0, 20.0, 2.0, 60.0  # seconds
BATCH = ("content-type", b"application/cloudevents-batch+json")
# Such a record is refused however often it is sent; after any other error the events wait and are sent again.
HOPELESS = {"MessageSizeTooLargeError", "RecordListTooLargeError", "InvalidRecordError"}

log = logging.getLogger("headcount.emitter")
T = TypeVar("T")


class Door(Protocol[T]):
    """What the emitter knows of its events. Called in the background."""

    def leaving(self, piece: Piece[T]) -> Piece[T]:
        """The piece without what was withdrawn."""

    def encode(self, events: Sequence[T]) -> bytes:
        """The value of their record."""


class Delivery(Generic[T]):
    """Starts its thread with the first event."""

    def __init__(self, topic: str, connect: Callable[[], Any], door: Door[T], capacity: int, linger: float) -> None:
        self._topic, self._connect, self._door, self._linger = topic, connect, door, linger
        self.buffer: Buffer[T] = Buffer(capacity, self._wake)
        self._reset()
        _deliveries.add(self)

    def _reset(self) -> None:
        self._lock = self.buffer.lock
        self._work, self._done = threading.Condition(self._lock), threading.Condition(self._lock)
        self._thread: threading.Thread | None = None
        self._producer: Any = None
        self._urgent = 0.0  # events with a lower number do not linger
        self._nudged = self._ended = self._partly = False
        self._deadline = inf
        self._error, self._reported, self._report_due = "", 0, -inf

    def _wake(self) -> bool:
        """False if there is no thread to wake, and none can be started now."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name=NAME, daemon=True)
            try:
                thread.start()
            except RuntimeError:  # too many threads, or the interpreter ends: the next event tries again
                return False
            self._thread = thread
            _finish_before_kafka()
        self._work.notify()
        return True

    def flush(self, timeout: float | None) -> bool:
        """Wait until all that was put before has left; True if none was dropped as undeliverable."""
        with self._lock:
            last, failed = self.buffer.next, self._failed()
            self._urgent, self._nudged = max(self._urgent, last), True
            self._work.notify()
            left = self._done.wait_for(lambda: self.buffer.oldest >= last, timeout)
            return left and self._failed() == failed

    def _failed(self) -> int:
        return self.buffer.counts()["dropped_failed"]

    def stop(self, timeout: float) -> None:
        """Take no more events, and give those that wait this long to leave. Returns at once."""
        with self._lock:
            if not self.buffer.closed:
                self.buffer.closed, self._urgent, self._nudged = True, inf, True
                self._deadline = time.monotonic() + timeout
                self._work.notify()

    def close(self, timeout: float) -> bool:
        """Stop, wait, and drop what is then still here; True if nothing had to be dropped."""
        with self._lock:
            failed = self._failed()
            self.stop(timeout)
            self._done.wait_for(lambda: self._ended or self._thread is None, timeout)
            self._abandon()
            delivered = self._failed() == failed
        self._report(last=True)
        return delivered

    def _abandon(self) -> None:
        self.buffer.abandon()
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
        buffer = self.buffer
        with self._lock:
            buffer.wake_at = 1
            self._work.wait_for(lambda: buffer.buffered or buffer.closed)
            if not buffer.buffered:
                return False
            buffer.wake_at = inf if pause else EVENTS_IN_RECORD
            # Events gather while we connect: the first round need not linger.
            lingers = self._producer and buffer.oldest >= self._urgent
            seconds = pause or (self._linger if lingers else 0.0)
            self._work.wait_for(
                lambda: self._nudged or (not pause and buffer.fills_record),
                min(seconds, max(0.0, self._deadline - time.monotonic())),
            )
            # While records fill up, what fills none yet lingers, unless somebody waits for it.
            self._partly = self._nudged or buffer.oldest < self._urgent or not buffer.fills_record
            buffer.wake_at, self._nudged = inf, False
            if time.monotonic() >= self._deadline:
                self._abandon()
            return buffer.buffered > 0 or not buffer.closed

    def _attempt(self) -> None:
        """Send one round; raise if some of it must be sent again."""
        if self._producer is None:
            self._producer = self._connect()
            _finish_before_kafka()
        futures: deque[tuple[Piece[T], Any]] = deque()
        trouble: Exception | None = None
        try:
            for _ in range(RECORDS_IN_ROUND):
                if trouble or not (piece := self.buffer.take(self._partly)):
                    break
                if value := self._encode(piece):
                    try:
                        futures.append((piece, self._producer.send(self._topic, value, headers=[BATCH])))
                    except Exception as error:
                        trouble = self._fail(piece, error)
                if len(futures) > RECORDS_UNDER_WAY:  # the next is encoded while these are on their way
                    trouble = self._await(*futures.popleft()) or trouble
            for piece, future in futures:
                trouble = self._await(piece, future) or trouble
        finally:
            self.buffer.take_back()
        if trouble:
            raise trouble

    def _encode(self, piece: Piece[T]) -> bytes | None:
        """The piece's record; None if nothing of it is to leave. What is too long for a record goes into the next."""
        self._end(piece, "opted_out", self._door.leaving(piece))
        while piece.events:
            try:
                value = self._door.encode(piece.events)
            except Exception as error:  # one of them is to blame, which must not hold up the others for ever
                self._error, value = type(error).__name__, b""
            if value and (len(value) <= BYTES_IN_RECORD or len(piece.events) == 1):
                return value
            if len(piece.events) > 1:
                self.buffer.halve(piece)
            else:
                self._end(piece, "dropped_failed")
        return None

    def _await(self, piece: Piece[T], future: Any) -> Exception | None:
        try:
            future.get(ANSWER)
        except Exception as error:
            return self._fail(piece, error)
        self._end(piece, "sent")
        return None

    def _end(self, piece: Piece[T], outcome: str, rest: Piece[T] | None = None) -> None:
        with self._lock:
            self.buffer.end(piece, outcome, rest)
            self._done.notify_all()

    def _fail(self, piece: Piece[T], error: Exception) -> Exception | None:
        if type(error).__name__ not in HOPELESS:
            return error
        self._error = type(error).__name__
        self._end(piece, "dropped_failed")
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
        self.buffer.reset()
        self._reset()

    def _report(self, last: bool = False) -> None:
        """Log counts, once a minute at most. Never under the lock: a log handler may wait, or emit."""
        counts = self.buffer.counts()
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
