"""Real events for the whole pipeline: reviews, one event each, from a file that the environment names."""

import bz2
import os
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

MAPPING = """
[event]
id = "row"
source = "'reviews'"
time = "date"
subject = "reviewerId"

[data]
feature = "'vendor' || vendorId"
"""


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV of reviewerId, vendorId, rating, date: ``HEADCOUNT_REVIEWS`` (bz2), or one of its shape without it."""
    path = tmp_path_factory.mktemp("reviews") / "reviews.csv"
    given = os.environ.get("HEADCOUNT_REVIEWS")
    if given:
        path.write_bytes(bz2.decompress(Path(given).read_bytes()))
        return path
    source = random.Random(7)
    start = datetime(2006, 1, 1, tzinfo=UTC)
    with path.open("w") as file:
        file.write("reviewerId,vendorId,rating,date\n")
        for _ in range(60_000):
            at = start + timedelta(minutes=source.randrange(200 * 1440))
            subject = source.randrange(45_000) if source.random() < 0.7 else source.randrange(300)
            file.write(f"{subject},{int(source.paretovariate(0.6)) % 247},5,{at:%Y-%m-%d %H:%M}\n")
    return path


@pytest.fixture(scope="session")
def mapping(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Which column of the reviews is what."""
    path = tmp_path_factory.mktemp("mapping") / "map.toml"
    path.write_text(MAPPING)
    return path
