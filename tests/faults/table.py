"""The faults as data: what happens, how it is done, how often in the short form and how often in the full one."""

import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
from kafka import TopicPartition

from pipeline.stream.topics import TALLIES
from pipeline.warehouse.projector import rebuild
from tests.faults.world import SESSION, World, feed_by_emitter, feed_roughly, run, world_of

Runner = Callable[["Fault", Path, int, int], str]  # fault, directory, seed, times → what was seen


@dataclass(frozen=True)
class Fault:
    """``times``: in the short form; ``full``: in the full form; ``at_once``: how many happen in one run."""

    name: str
    text: str
    times: int
    full: int
    run: Runner
    at_once: int = 1


def killed(fault: Fault, directory: Path, seed: int, times: int) -> str:
    """Of one, two or three workers any is killed, at any moment, its start included."""

    def inject(world: World) -> None:
        world.pause(0.2, 4.0)
        world.workers.signal(world.source.randrange(len(world.workers.processes)), signal.SIGKILL)

    with world_of(directory, 1 + seed % 3, seed) as world:
        run(world, inject, times)
        return f"exits {dict(world.workers.exits)}"


def zombie(fault: Fault, directory: Path, seed: int, times: int) -> str:
    """A worker is stopped until its partitions were given away, and goes on."""

    def inject(world: World) -> None:
        silent_then_fenced(world, world.source.choice(sorted(settled(world))))

    with world_of(directory, 2, seed) as world:
        run(world, inject, times)
        return f"{world.notes['said so']} of {times} said that they were fenced; exits {dict(world.workers.exits)}"


def zombie_releaser(fault: Fault, directory: Path, seed: int, times: int) -> str:
    """The worker that releases is stopped until another releases, and goes on."""

    def inject(world: World) -> None:
        [releaser] = [worker for worker, has in settled(world).items() if any(tp.topic == TALLIES for tp in has)]
        silent_then_fenced(world, releaser)

    with world_of(directory, 2, seed) as world:
        run(world, inject, times)
        return f"{world.notes['said so']} of {times} said that they were fenced; exits {dict(world.workers.exits)}"


def settled(world: World) -> dict[int, set[TopicPartition]]:
    """What the two workers have, once they had it for some time; a worker that only begins cannot be fenced."""
    found: list[dict[int, set[TopicPartition]]] = [{}]

    def same_again() -> bool:
        found.append(world.members())
        return len(found[-1]) == 2 and found[-1] == found[-2]

    world.until(same_again, "two workers did not share the work")
    world.pause(0.5, 2.0)
    return found[-1] if world.members() == found[-1] else settled(world)


def silent_then_fenced(world: World, place: int) -> None:
    """SIGSTOP past the session time-out, the rebalance, SIGCONT; notes whether the worker then says so."""
    before = len(world.workers.text(place))
    process = world.workers.processes[place]
    world.workers.signal(place, signal.SIGSTOP)
    try:
        time.sleep(SESSION)
        world.until(lambda: world.members().keys() == {1 - place}, "the silent worker was not put out of the group")
        world.pause(0.5, 3.0)
    finally:
        process.send_signal(signal.SIGCONT)
    said = "a worker that was fenced said nothing"
    world.until(lambda: "fenced" in world.workers.text(place)[before:].lower(), said, 30)
    world.notes["said so"] += 1


def broker_away(stop: Callable[[World], None], seconds: float) -> Runner:
    """The only broker is gone for a while; an application emits all the time, with room for what waits or without."""

    def away(fault: Fault, directory: Path, seed: int, times: int) -> str:
        def inject(world: World) -> None:
            world.pause(1.0, 4.0)
            stop(world)
            time.sleep(seconds)
            world.cluster.start()
            world.until(lambda: len(world.members()) == 2, "the workers did not come back")
            world.pause(1.0, 3.0)

        roomy = seed % 3 != 1
        with world_of(directory, 2, seed) as world:
            run(world, inject, times, feed=feed_by_emitter(10**6 if roomy else 2_000), pace=0.5)
            dropped = world.notes["emitter dropped"]
            assert not (roomy and dropped)
            return f"emitter dropped {dropped} of a buffer of {'1,000,000' if roomy else '2,000'}"

    return away


def come_and_go(fault: Fault, directory: Path, seed: int, times: int) -> str:
    """Every few seconds a worker joins or leaves, in good order; there are one to four."""
    leaving = 0
    for number in range(times):

        def inject(world: World) -> None:
            nonlocal leaving
            for _ in range(6):
                world.pause(1.0, 4.0)
                here = world.workers.present()
                if len(here) > 1 and (len(here) == 4 or world.source.random() < 0.5):
                    leaving += 1
                    code = world.workers.retire(world.source.choice(here))
                    assert code in (0, -signal.SIGTERM), (
                        f"a worker that was asked to leave ended with {code}"
                    )  # it began
                else:
                    world.workers.add()

        with world_of(directory / str(number), 1, seed + number) as world:
            run(world, inject, 1)
            if world.workers.exits:
                return f"exits {dict(world.workers.exits)}"
    return f"{leaving} left in good order"


def rough(fault: Fault, directory: Path, seed: int, times: int) -> str:
    """Nothing happens but what applications send."""
    for number in range(times):
        with world_of(directory / str(number), 2, seed + number) as world:
            run(world, lambda world: world.pause(8.0, 8.0), 1, feed=feed_roughly, pace=0.3)
    return ""


def keys_away(fault: Fault, directory: Path, seed: int, times: int) -> str:
    """The directory of keys cannot be had for some seconds: no worker stays up, and none counts under other keys."""

    def inject(world: World) -> None:
        world.pause(2.0, 4.0)
        keys = directory / "keys"
        keys.rename(directory / "elsewhere")
        if seed % 2:
            keys.write_text("a file where the directory was")
        else:
            keys.mkdir(0o700)  # as where a disk is not mounted
        before = world.workers.exits.total()
        world.until(lambda: world.workers.exits.total() > before + 2, "a worker went on without keys")
        world.pause(2.0, 4.0)
        if keys.is_dir():
            assert list(keys.iterdir()) == [], "a key was drawn where there were none"
            keys.rmdir()
        else:
            keys.unlink()
        (directory / "elsewhere").rename(keys)
        world.until(lambda: len(world.members()) == 2, "the workers did not come back")

    with world_of(directory, 2, seed) as world:
        run(world, inject, times)
        said = {
            line
            for place in range(2)
            for line in world.workers.text(place).splitlines()
            if ("keys" in line and "KeyStoreError" in line) or "directory of keys" in line
        }
        assert said, "no worker said what was wrong"
        return f"exits {dict(world.workers.exits)}"


def statistics_deleted(fault: Fault, directory: Path, seed: int, times: int) -> str:
    """The analysts' file and the projector's own are deleted; ``headcount rebuild`` makes the same file again."""
    with world_of(directory, 1, seed) as world:
        run(world, lambda world: world.pause(3.0, 3.0), 1)
        before = figures(directory / "statistics")
        for _ in range(times):
            shutil.rmtree(directory / "statistics")
            rebuild(directory / "statistics", world.kafka)
            assert figures(directory / "statistics") == before
        return f"{len(before):,} rows, the same"


def disk_full(fault: Fault, directory: Path, seed: int, times: int) -> str:
    """The projector may write no file beyond some kilobytes: it ends and says why; what was published stays."""
    with world_of(directory, 1, seed) as world:
        run(world, lambda world: world.pause(3.0, 3.0), 1)
        before = figures(directory / "statistics")
        for _ in range(times):
            for old in (directory / "statistics").glob("work.duckdb*"):
                old.unlink()  # so that all is written again
            command = [sys.executable, "-m", "pipeline.cli", "project", "--once"]
            environment = {**world.workers.environment, "HEADCOUNT_DATA": str(directory / "statistics")}

            def small() -> None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

            full = subprocess.run(
                command, check=False, env=environment, capture_output=True, text=True, preexec_fn=small, timeout=90
            )
            assert full.returncode == 1, full.stdout + full.stderr
            assert full.stderr.splitlines()[-1].startswith("Error: the statistics could not be written"), full.stderr
            assert figures(directory / "statistics") == before
            again = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=90)
            assert again.returncode == 0, again.stderr
            assert figures(directory / "statistics") == before
        return full.stderr.splitlines()[-1]


def figures(directory: Path) -> list[Any]:
    """Every release and every value of one statistic."""
    with duckdb.connect(directory / "statistics.duckdb", read_only=True) as connection:
        releases = connection.execute("SELECT key, digest FROM released.release ORDER BY ALL").fetchall()
        return releases + connection.execute("FROM feature_use ORDER BY ALL").fetchall()


# fmt: off
FAULTS: tuple[Fault, ...] = (
    Fault("worker killed", "SIGKILL of a random one of 1-3 workers at a random moment", 36, 500, killed, at_once=12),
    Fault("zombie worker", "SIGSTOP past the session time-out, rebalance, SIGCONT", 2, 20, zombie, at_once=5),
    Fault("zombie releaser", "the same, of the worker that releases", 2, 20, zombie_releaser, at_once=5),
    Fault("broker stopped", "SIGTERM, 30 s without a broker, start", 1, 5,
          broker_away(lambda world: world.cluster.stop(), 30)),
    Fault("broker killed", "SIGKILL, start", 1, 5, broker_away(lambda world: world.cluster.kill(), 1)),
    Fault("workers come and go", "every few seconds one joins or leaves (SIGTERM); 1-4 workers", 1, 10, come_and_go),
    Fault("rough application", "5 % twice, shuffled over 3 days, records cut anyhow, random keys", 1, 10, rough),
    Fault("keys away", "an empty directory of keys, or a file, for some seconds", 2, 6, keys_away),
    Fault("statistics deleted", "the directory of the DuckDB files is deleted", 1, 5, statistics_deleted, at_once=5),
    Fault("disk full", "no file of the projector may grow beyond 300 kB", 1, 5, disk_full, at_once=5),
)
# fmt: on


def new_seed() -> int:
    return random.SystemRandom().randrange(10**6)
