"""What contenders share, whatever environment they run in: the job, the clock, and the answer. Standard library only.

The job: each event is parsed; its subject becomes a pseudonym under the key of the event's day; per day and cell
(feature, platform, version) count the distinct pseudonyms, and the events.
"""

import json
import os
import sys
import time
from collections.abc import Iterable
from hashlib import blake2b, sha256
from pathlib import Path

Row = tuple[str, str, str, str, int, int]  # day, feature, platform, version, users, events


class Clock:
    """Runs from the first event that a contender is handed until its answer is complete."""

    def __init__(self) -> None:
        self.events = int(os.environ["BENCH_EVENTS"])
        self.records = int(os.environ["BENCH_RECORDS"])
        self.broker = os.environ["BENCH_BROKER"]
        self.topic = os.environ["BENCH_TOPIC"]
        self._began: tuple[float, float] | None = None

    def begin(self) -> None:
        """May be called for every event; the first call counts."""
        if self._began is None:
            self._began = time.perf_counter(), time.process_time()

    def end(self, rows: Iterable[Row] = ()) -> None:
        """Prints the result; ``rows``: the answer, where the process itself has it."""
        assert self._began is not None
        seconds, cpu = time.perf_counter() - self._began[0], time.process_time() - self._began[1]
        print(
            json.dumps(
                {
                    "seconds": seconds,
                    "cpu_seconds": cpu,
                    "peak_rss_mb": peak_rss_mb(),
                    "answer": digest(rows),
                }
            ),
            file=sys.__stdout__,
            flush=True,
        )


def peak_rss_mb(process: int | str = "self") -> float:
    """Of a process; what getrusage says is that of the process that started it, where that was larger."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1024


def digest(rows: Iterable[Row]) -> str:
    """One word for an answer."""
    return sha256("\n".join("|".join(map(str, row)) for row in sorted(rows)).encode()).hexdigest()


class Pseudonyms:
    """16 bytes for a subject, under the key of a day. Cached, as anybody would."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], bytes] = {}

    def of(self, day: str, subject: str) -> bytes:
        known = self._known.get((day, subject))
        if known is None:
            key = day.encode().ljust(32, b"\0")
            known = self._known[day, subject] = blake2b(subject.encode(), key=key, digest_size=16).digest()
        return known
