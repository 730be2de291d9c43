"""The emitter's bounded buffer: what the application's threads put in, and one other thread takes out."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from typing import Generic, TypeVar

EVENTS_IN_RECORD = 500
COUNTERS = ("sent", "dropped_full", "dropped_failed", "opted_out", "refused")
T = TypeVar("T")


class Piece(Generic[T]):
    """Events that travel in one record, and their numbers."""

    __slots__ = ("events", "numbers")

    def __init__(self, numbers: Sequence[int], events: list[T]) -> None:
        self.numbers, self.events = numbers, events


class Buffer(Generic[T]):
    """Every event ends in one counter: accepted = sent + dropped_full + dropped_failed + buffered, always.

    An event waits in `_events`; the other thread takes it out with others, as a piece, and ends the piece or returns
    it. The lock is re-entrant: a signal handler may emit while its own thread emits, so `put` changes one thing.
    wake: called under the lock when `wake_at` events wait; False if nobody could be woken.
    """

    def __init__(self, capacity: int, wake: Callable[[], bool]) -> None:
        self._capacity, self._wake = capacity, wake
        self._first = 0  # the number of the first event in `_events`; none is ever used twice
        self._events: deque[T] = deque()
        self.closed = False
        self.reset()

    def reset(self) -> None:
        """In a forked child: leave what is buffered to the parent, and count from zero."""
        self.lock = threading.RLock()
        self._first, self._events = self._first + len(self._events), deque()
        self._taken: deque[Piece[T]] = deque()
        self._returned: deque[Piece[T]] = deque()
        self._away = 0  # events in `_taken` and `_returned`
        self._counts = dict.fromkeys(COUNTERS, 0)
        self.wake_at = 1.0

    def count(self, outcome: str) -> None:
        with self.lock:
            self._counts[outcome] += 1

    def counts(self) -> dict[str, int]:
        with self.lock:
            counts = {**self._counts, "buffered": self.buffered}
        accepted = sum(counts[each] for each in ("sent", "dropped_full", "dropped_failed", "buffered"))
        return {"accepted": accepted, **counts}

    def put(self, event: T) -> bool:
        """Buffer the event, or drop it when the buffer is full; once closed it is refused. Never waits."""
        with self.lock:
            events = self._events
            if self.closed or len(events) + self._away >= self._capacity:
                self._counts["refused" if self.closed else "dropped_full"] += 1
                return False
            events.append(event)
            if len(events) >= self.wake_at and self._wake():
                self.wake_at = inf
            return True

    @property
    def next(self) -> int:
        """The number of the next event."""
        with self.lock:
            return self._first + len(self._events)

    @property
    def oldest(self) -> int:
        """The least number that is buffered; that of the next event if none is."""
        with self.lock:
            return next((piece.numbers[0] for piece in (*self._taken, *self._returned)), self._first)

    @property
    def buffered(self) -> int:
        """Events that wait, those under way included."""
        return len(self._events) + self._away

    @property
    def fills_record(self) -> bool:
        return len(self._events) >= EVENTS_IN_RECORD or bool(self._returned)

    def take(self, partly: bool) -> Piece[T] | None:
        """The events of the next record, which stay buffered until they end; None if none wait.

        partly: though they do not fill it.
        """
        with self.lock:  # for 500 events at most: nobody who emits waits for more
            if self._returned:
                self._taken.append(self._returned.popleft())
            elif len(self._events) >= (1 if partly else EVENTS_IN_RECORD):
                first, number = self._first, min(len(self._events), EVENTS_IN_RECORD)
                self._first += number
                self._away += number
                take = self._events.popleft
                self._taken.append(Piece(range(first, first + number), [take() for _ in range(number)]))
            else:
                return None
            return self._taken[-1]

    def halve(self, piece: Piece[T]) -> None:
        """Leave the second half to the next record."""
        half = len(piece.events) // 2
        with self.lock:
            if piece in self._taken:
                self._returned.appendleft(Piece(piece.numbers[half:], piece.events[half:]))
            piece.numbers, piece.events = piece.numbers[:half], piece.events[:half]

    def end(self, piece: Piece[T], outcome: str, rest: Piece[T] | None = None) -> None:
        """Count the piece's events, but for the rest: they are no longer buffered."""
        rest = rest or Piece((), [])
        with self.lock:
            ended = len(piece.events) - len(rest.events)
            piece.numbers, piece.events = rest.numbers, rest.events
            if piece in self._taken:  # else it was abandoned, and counted then
                self._away -= ended
                self._counts[outcome] += ended
                if not piece.events:
                    self._taken.remove(piece)

    def take_back(self) -> None:
        """What was taken and did not end waits again."""
        with self.lock:
            self._returned.extendleft(reversed(self._taken))
            self._taken.clear()

    def abandon(self) -> None:
        """Drop all that is buffered."""
        with self.lock:
            self._counts["dropped_failed"] += self.buffered
            self._first += len(self._events)
            self._away = 0
            for each in (self._events, self._taken, self._returned):
                each.clear()
