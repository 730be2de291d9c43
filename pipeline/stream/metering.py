"""What a worker has done since it started: events by outcome, and the seconds that each step took."""

import time
from collections import Counter
from collections.abc import Callable, Iterable

from pipeline.core.outcomes import Reason, Rejection

Lap = Callable[[str], None]


class Meter:
    """Written by whoever does the work; what it holds are whole dictionaries, which any thread may copy."""

    def __init__(self) -> None:
        self.accepted: Counter[str] = Counter()  # hop → events
        self.rejected: Counter[tuple[str, Reason]] = Counter()
        self.seconds: Counter[str] = Counter()  # step → seconds
        self.released = 0  # windows

    def reject(self, hop: str, rejections: Iterable[Rejection]) -> None:
        self.rejected.update((hop, rejection.reason) for rejection in rejections)

    def laps(self) -> Lap:
        """A stopwatch: each call names the step that has just ended."""
        last = time.perf_counter()

        def lap(step: str) -> None:
            nonlocal last
            now = time.perf_counter()
            self.seconds[step] += now - last  # type: ignore[assignment] # a Counter of seconds
            last = now

        return lap
