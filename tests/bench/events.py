"""What every contender reads: events of about 260 bytes, Zipf over subjects and features, spread over days.

The peers' examples count by the hour; Headcount's shortest window is the day. So the clock of the input runs 24 times
slower, and everybody counts by the day: as many windows, the same work.
"""

from datetime import UTC, datetime

import numpy as np

SUBJECTS, FEATURES, DAYS = 50_000, 40, 24
PLATFORMS = ("ios", "android", "web")
VERSIONS = ("4.0", "4.1", "4.2", "5.0", "5.1", "5.2")
FIRST = datetime(2026, 5, 1, tzinfo=UTC)
_LINE = (
    '{{"specversion":"1.0","id":"{:016x}","source":"app.example.com","type":"usage.feature.used.v1",'
    '"subject":"user-{:06d}","time":"2026-05-{:02d}T{:02d}:{:02d}:{:02d}.{:03d}Z","data":{{"feature":"feature-{:02d}",'
    '"platform":"{}","app_version":"{}","country":"NL","duration_ms":{}}}}}'
)


def make_events(count: int, seed: int = 1) -> list[bytes]:
    """As many events, each with an id of its own, in the order of their times but for some that come late."""
    rng = np.random.default_rng(seed)
    seconds = np.sort(rng.integers(0, DAYS * 86_400, count)) - rng.exponential(600, count).astype(int)
    days, rest = np.divmod(np.maximum(seconds, 0), 86_400)
    hours, rest = np.divmod(rest, 3_600)
    columns = (
        rng.permutation(1 << 24)[np.arange(count) % (1 << 24)] + (np.arange(count) << 24),
        _zipf(rng, SUBJECTS, count),
        days + 1,
        hours,
        rest // 60,
        rest % 60,
        rng.integers(0, 1_000, count),
        _zipf(rng, FEATURES, count),
        np.array(PLATFORMS)[rng.integers(0, len(PLATFORMS), count)],
        np.array(VERSIONS)[rng.integers(0, len(VERSIONS), count)],
        rng.integers(0, 900_000, count),
    )
    return [_LINE.format(*row).encode() for row in zip(*(column.tolist() for column in columns), strict=True)]


def _zipf(rng: np.random.Generator, values: int, count: int) -> np.ndarray:
    weights = 1 / np.arange(1, values + 1)
    return rng.choice(values, count, p=weights / weights.sum())
