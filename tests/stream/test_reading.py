"""The transport against a broker, one event a record: to the end, again after a hard kill, and shared by two."""

import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic

from pipeline.stream.broker import embedded_broker
from tests.stream.reading import EVENTS, FOLD, GROUP

PARTITIONS = 4
EACH = 5_000  # records of a partition of EVENTS
FOLDED = 600  # records of a partition of FOLD
ROOT = Path(__file__).parents[2]

Read = dict[tuple[str, int], list[range]]


class Readers:
    """A broker with the two topics filled, and the workers that read them."""

    def __init__(self, address: str, directory: Path) -> None:
        self.address = address
        self.directory = directory
        self.running: list[subprocess.Popen[bytes]] = []
        self.admin = KafkaAdminClient(bootstrap_servers=[address])

    def fill(self) -> None:
        self.admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in (EVENTS, FOLD)])
        producer = KafkaProducer(bootstrap_servers=[self.address], linger_ms=20)
        for topic, number in ((EVENTS, EACH), (FOLD, FOLDED)):
            for offset in range(number):
                for partition in range(PARTITIONS):
                    producer.send(topic, b"%d" % offset, partition=partition)
        producer.flush()
        producer.close()

    def start(self, seconds: float = 0.0) -> int:
        """One more worker, that waits so long on each batch; gives its number."""
        number = len(self.running)
        with (self.directory / f"{number}.log").open("wb") as log:
            self.running.append(
                subprocess.Popen(
                    [sys.executable, "-m", "tests.stream.reading", self.address, self.notes(number), str(seconds)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=ROOT,
                )
            )
        return number

    def kill(self, number: int, how: int = signal.SIGKILL) -> None:
        self.running[number].send_signal(how)
        self.running[number].wait(20)

    def notes(self, number: int) -> Path:
        return self.directory / f"{number}.notes"

    def read(self, *numbers: int) -> Read:
        """What those workers handled: per partition, the ranges of offsets in order."""
        found: Read = defaultdict(list)
        for number in numbers:
            text = self.notes(number).read_text() if self.notes(number).exists() else ""
            for line in text.splitlines():
                topic, partition, first, last = line.split(" ")
                found[topic, int(partition)].append(range(int(first), int(last) + 1))
        return found

    def committed(self) -> dict[int, int]:
        """Per partition of EVENTS, what the group has committed."""
        offsets = self.admin.list_group_offsets(GROUP)[GROUP]
        return {tp.partition: given.offset for tp, given in offsets.items() if tp.topic == EVENTS and given.offset > 0}

    def wait(self, until: Callable[[], object], seconds: float = 40.0) -> None:
        deadline = time.monotonic() + seconds
        while not until():
            dead = [number for number, each in enumerate(self.running) if each.poll() not in (None, -9, 0)]
            logs = "".join((self.directory / f"{number}.log").read_text()[-1000:] for number in dead)
            assert not dead, logs
            assert time.monotonic() < deadline, f"committed {self.committed()}"
            time.sleep(0.05)


@pytest.fixture
def readers(tmp_path: Path) -> Iterator[Readers]:
    with embedded_broker() as address:
        readers = Readers(address, tmp_path)
        readers.fill()
        yield readers
        for process in readers.running:
            process.kill()
            process.wait()
        readers.admin.close()


ENDS = dict.fromkeys(range(PARTITIONS), EACH)


def offsets(ranges: list[range]) -> list[int]:
    return [offset for each in ranges for offset in each]


def test_a_hard_kill_loses_nothing_and_reading_goes_on_from_what_was_committed(readers: Readers) -> None:
    killed = readers.start(seconds=0.05)
    readers.wait(lambda: sum(map(len, offsets_of(readers, killed, EVENTS))) >= EACH and len(readers.committed()) >= 2)
    readers.kill(killed)
    committed = readers.committed()
    handled = readers.read(killed)
    assert sum(committed.values()) < PARTITIONS * EACH, "it was killed too late to prove anything"
    for partition, offset in committed.items():
        ranges = handled[EVENTS, partition]
        assert offset in {each.stop for each in ranges}  # whole batches
        assert offset <= max(each.stop for each in ranges)  # never what nobody has handled

    second = readers.start()
    readers.wait(lambda: readers.committed() == ENDS)
    readers.wait(lambda: all(done(each, FOLDED) for each in offsets_of(readers, second, FOLD)))
    readers.kill(second, signal.SIGTERM)
    after = readers.read(second)
    for partition in range(PARTITIONS):
        # From there on, not from the beginning: at least once, and no more often than it must.
        assert set(offsets(after[EVENTS, partition])) == set(range(committed.get(partition, 0), EACH))
        # A fold is made again from the beginning, whatever was committed.
        assert set(offsets(after[FOLD, partition])) == set(range(FOLDED))


def test_two_share_the_partitions_and_when_one_leaves_the_other_reads_all(readers: Readers) -> None:
    first, second = readers.start(seconds=0.1), readers.start(seconds=0.1)
    readers.wait(lambda: all(readers.read(number) for number in (first, second)))
    readers.kill(second)
    readers.wait(lambda: readers.committed() == ENDS)
    read = readers.read(first, second)
    for partition in range(PARTITIONS):
        assert set(offsets(read[EVENTS, partition])) == set(range(EACH))
        assert set(offsets(readers.read(first)[FOLD, partition])) == set(range(FOLDED))
    assert readers.running[first].poll() is None


def offsets_of(readers: Readers, number: int, topic: str) -> list[Any]:
    read = readers.read(number)
    return [offsets(read[topic, partition]) for partition in range(PARTITIONS)]


def done(given: list[int], number: int) -> bool:
    return bool(given) and given[-1] == number - 1
