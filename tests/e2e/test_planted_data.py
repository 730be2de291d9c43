"""Names, addresses and numbers of invented people are planted in events in every place, and are nowhere afterwards."""

import base64
import contextlib
import hashlib
import io
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest
from kafka import KafkaProducer

from pipeline.cli import print_summary
from pipeline.core.pseudonyms import WindowKey
from pipeline.core.windows import window_named
from pipeline.replay import PARTITIONS, no_report, summarise, wait_for_releases
from pipeline.settings import SCHEMAS
from pipeline.stack import Stack
from pipeline.stream.keystore import FileKeyStore
from pipeline.stream.topics import CONTRIBUTIONS, EVENTS, REJECTIONS, RELEASES, TALLIES
from pipeline.testing import event
from pipeline.warehouse.projector import rebuild
from tests.e2e.planting import FEATURES, PLANTED, TIMES, Scanner, patterns, planted_records
from tests.e2e.running import declared, read_all, stack_of, tell_everything_was_sent

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(200)]

POLICY = SCHEMAS / "policy.toml"
OTHERS = 2_500  # people whose data is nobody's concern here, and whom the planted few can hide among
WINDOWS = ("day-2026-05-05", "day-2026-05-06", "week-2026-05-04", "month-2026-05-01")
TOPICS = (EVENTS, CONTRIBUTIONS, TALLIES, RELEASES, REJECTIONS)


@dataclass
class Run:
    """Everything that a run left behind, as bytes, by where it was."""

    topics: dict[str, bytes]
    places: dict[str, bytes]
    keys: dict[str, WindowKey]  # looked at while they lived, as nobody can afterwards
    left: FileKeyStore
    summary: Any
    accepted: int
    rejected: int
    features: set[str] = field(default_factory=set)  # that the statistics show


def send(stack: Stack) -> tuple[int, int]:
    """The planted records among many others; gives how many are accepted and rejected."""
    source = random.Random(5)
    planted = list(planted_records())
    others = [
        msgspec.json.encode(
            event(
                id=f"other-{number}",
                subject=f"other-{number % OTHERS}",
                time=source.choice(TIMES),
                feature=source.choice(["search", "playlist", "download"]),
                platform=source.choice(["ios", "web"]),
                app_version=source.choice(["4.1.2", "4.2"]),
                duration_ms=source.choice([100, 20_000]),
            )
        )
        for number in range(6 * OTHERS)
    ]
    producer = KafkaProducer(**stack.kafka, linger_ms=10, compression_type="lz4", max_request_size=8 << 20)
    records = [(each.value, each.headers, each.key) for each in planted]
    lines = [("content-type", b"application/x-ndjson")]
    records += [(b"\n".join(others[start : start + 100]), lines, None) for start in range(0, len(others), 100)]
    source.shuffle(records)
    for number, (value, headers, key) in enumerate(records):
        producer.send(EVENTS, value, key=key, headers=headers, partition=number % PARTITIONS)
    producer.flush()
    producer.close()
    accepted = sum(each.accepted for each in planted)
    return accepted + len(others), len(planted) - accepted


@pytest.fixture(scope="module")
def scanner() -> Scanner:
    return Scanner()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    root = tmp_path_factory.mktemp("planted")
    directory, temporary = root / "run", root / "temporary"
    temporary.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(temporary))  # of the workers
        patch.setattr(tempfile, "tempdir", str(temporary))  # of the broker's log and the directory of keys
        yield run_in(root, directory)


def run_in(root: Path, directory: Path) -> Run:
    with stack_of(directory, 1, POLICY) as stack:
        kek = base64.b64decode(stack.environment["HEADCOUNT_KEK"])
        store = FileKeyStore(Path(stack.environment["HEADCOUNT_KEYS"]), kek)
        keys = {name: store.window(window_named(name)) for name in WINDOWS}
        accepted, rejected = send(stack)
        with talkative_worker(stack, directory):
            tell_everything_was_sent(stack.kafka)
            watch = wait_for_releases(stack, declared(POLICY).plan, no_report)
            records = read_all(stack.kafka, *TOPICS)
            rebuild(directory, stack.kafka)
            summary = summarise(
                watch,
                directory,
                events_in=accepted + rejected,
                rejected=watch.rejected(),
                seconds=1.0,
                stack=stack,
                accountant=declared(POLICY).accountant,
            )
            places = {str(path.relative_to(root)): path.read_bytes() for path in files_of(root)}
        destroyed = FileKeyStore(Path(stack.environment["HEADCOUNT_KEYS"]), kek)
        assert all(destroyed.window(window_named(name)) is None for name in WINDOWS)
    places |= {f"{path.relative_to(root)}, later": path.read_bytes() for path in files_of(root)}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        print_summary(summary)
        print(msgspec.json.encode(summary).decode())
    places["printed"] = printed.getvalue().encode()
    exported = root / "exported"
    with duckdb.connect(directory / "statistics.duckdb", read_only=True) as connection:
        connection.execute(f"EXPORT DATABASE '{exported}' (FORMAT CSV)")
        features = {name for (name,) in connection.execute("SELECT DISTINCT feature FROM feature_use").fetchall()}
    places |= {f"exported {path.name}": path.read_bytes() for path in files_of(exported)}
    return Run(
        topics={topic: b"\0".join(map(content_of, found)) for topic, found in records.items()},
        places=places,
        keys={name: key for name, key in keys.items() if key is not None},
        left=destroyed,
        summary=summary,
        accepted=accepted,
        rejected=rejected,
        features=features,
    )


@contextlib.contextmanager
def talkative_worker(stack: Stack, directory: Path) -> Iterator[None]:
    """One more worker, that logs as much as it can."""
    with (directory / "logs" / "talkative.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.cli", "worker", "--loglevel", "INFO"],
            env=stack.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def content_of(record: Any) -> bytes:
    """A record's key, value and headers."""
    headers = [part for name, value in record.headers for part in (name.encode(), value or b"")]
    return b"\0".join([record.key or b"", record.value or b"", *headers])


def files_of(directory: Path) -> list[Path]:
    return [Path(path, name) for path, _, names in os.walk(directory) for name in names]


@pytest.mark.parametrize("value", PLANTED)
def test_the_scanner_finds_every_form_of_it_and_nothing_in_noise(scanner: Scanner, value: str) -> None:
    noise = random.Random(value).randbytes(4_096)
    assert scanner.find(noise) == set()
    forms = list(patterns(value))
    assert len(forms) > 50
    for number, pattern in enumerate(forms):
        content = pattern.content.upper() if pattern.any_case and number % 2 else pattern.content
        haystack = noise[:number] + content + noise[number : 2 * number]
        assert pattern.trace in scanner.find(haystack), pattern.trace


def test_the_scanner_knows_base64_at_every_alignment_and_hashes_that_were_cut(scanner: Scanner) -> None:
    value = "quirijn.zwaluwstaart@post.voorbeeld.example"
    for before in range(6):
        text = base64.b64encode(b"x" * before + value.encode() + b", and more")
        assert value in {trace.value for trace in scanner.find(b"{" + text + b"}")}
    for digest in (
        hashlib.sha256(value.encode()).hexdigest()[:20].encode(),
        hashlib.md5(value.encode(), usedforsecurity=False).digest(),
    ):
        assert value in {trace.value for trace in scanner.find(b"..." + digest + b"...")}
    assert scanner.find(hashlib.sha256(b"salt" + value.encode()).digest()) == set()


def test_what_was_planted_is_in_the_events(run: Run, scanner: Scanner) -> None:
    found = {trace.value for trace in scanner.find(run.topics[EVENTS]) if trace.how == "plain"}
    assert found == set(PLANTED)


def test_what_was_planted_went_all_the_way(run: Run) -> None:
    """Else nothing of it could be anywhere: its rows are there, sealed, and so are its people's pseudonyms."""
    assert run.summary.accepted == run.accepted
    assert sum(run.summary.rejected.values()) == run.rejected
    assert len(run.summary.rejected) > 10
    assert run.summary.protects
    assert set(run.summary.windows) == {"day", "week", "month"}
    assert {"search", "playlist", "download"} <= run.features
    assert run.summary.cells_held_back > len(FEATURES)
    for name, key in run.keys.items():
        for feature in FEATURES:
            assert key.seal("feature", feature) in run.topics[CONTRIBUTIONS], name
            assert key.seal("feature", feature) in run.topics[TALLIES], name
        for value in PLANTED:
            assert key.pseudonym(value) in run.topics[CONTRIBUTIONS], name
            assert key.pseudonym(value) not in b"".join(run.topics[topic] for topic in (TALLIES, RELEASES, REJECTIONS))


@pytest.mark.parametrize("topic", TOPICS[1:])
def test_it_is_in_no_other_topic(run: Run, scanner: Scanner, topic: str) -> None:
    assert len(run.topics[topic]) > 1_000
    assert scanner.find(run.topics[topic]) == set()


def test_it_is_in_no_file_and_nothing_that_was_printed(run: Run, scanner: Scanner) -> None:
    found = {name: scanner.find(content) for name, content in run.places.items()}
    assert {name: traces for name, traces in found.items() if traces} == {}


def test_the_files_that_were_searched_are_all_that_there_can_be(run: Run) -> None:
    names = "\n".join(run.places)
    for expected in (
        "run/logs/worker-1.log",
        "run/logs/talkative.log",
        "run/statistics.duckdb",
        "run/work.duckdb",
        "temporary/headcount-keys-",
        "temporary/headcount-broker-",
        "exported released_feature_use.csv",
        "printed",
    ):
        assert expected in names
    assert b"PARTITIONS ASSIGNED" in run.places["run/logs/talkative.log"].upper().replace(b"_", b" ")
    later = [name for name in run.places if name.endswith(", later")]
    assert not [name for name in later if name.startswith("temporary/")]  # keys and the broker's log are gone
    assert all(len(content) > 0 for name, content in run.places.items() if name.endswith(".duckdb"))


def test_no_key_can_link_it_afterwards(run: Run) -> None:
    """Every window's key is destroyed; the route's, which outlives them, is of no use without what was never stored."""
    keys = b"".join(content for name, content in run.places.items() if "headcount-keys-" in name)
    assert keys
    route = run.left.route()
    everything = b"".join([*run.topics.values(), *run.places.values()])
    assert route not in everything
    assert not [
        name for name in run.places if "headcount-keys-" in name and name.endswith(".key") and "route" not in name
    ]
