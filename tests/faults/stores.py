"""What happens to what is on disks: keys, checkpoints, statistics."""

import os
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb

from pipeline.warehouse.projector import rebuild
from tests.deployment.apache import Cluster
from tests.faults.world import World, run, world_of

NOT_WRITTEN = b"was not written (OSError"


def keys_away(cluster: Cluster, directory: Path, seed: int, times: int) -> str:
    """The directory of keys cannot be had for some seconds: no worker stays up, and none counts under other keys."""

    def inject(world: World) -> None:
        world.pause(1.0, 3.0)
        keys = directory / "keys"
        keys.rename(directory / "elsewhere")
        if seed % 2:
            keys.write_text("a file where the directory was")
        else:
            keys.mkdir(0o700)  # as where a disk is not mounted
        before = world.workers.exits.total()
        world.until(lambda: world.workers.exits.total() > before + 2, "a worker went on without keys")
        world.pause(1.0, 3.0)
        if keys.is_dir():
            assert list(keys.iterdir()) == [], "a key was drawn where there were none"
            keys.rmdir()
        else:
            keys.unlink()
        (directory / "elsewhere").rename(keys)
        world.until(world.all_there, "the workers did not come back")

    with world_of(cluster, directory, 2, seed) as world:
        run(world, inject, times)
        said = {
            line
            for place in range(2)
            for line in world.workers.text(place).splitlines()
            if ("keys" in line and "KeyStoreError" in line) or "directory of keys" in line
        }
        assert said, "no worker said what was wrong"
        return f"{world.workers.ends()}"


def statistics_deleted(cluster: Cluster, directory: Path, seed: int, times: int) -> str:
    """The analysts' file and the projector's own are deleted; ``headcount rebuild`` makes the same file again."""
    with world_of(cluster, directory, 1, seed) as world:
        run(world, lambda world: world.pause(3.0, 3.0), 1)
        before = figures(directory / "statistics")
        for _ in range(times):
            shutil.rmtree(directory / "statistics")
            rebuild(directory / "statistics", world.kafka)
            assert figures(directory / "statistics") == before
        return f"{len(before):,} rows, the same"


def disk_full(cluster: Cluster, directory: Path, seed: int, times: int) -> str:
    """The projector may write no file beyond some kilobytes: it ends and says why; what was published stays."""
    statistics = directory / "statistics"
    with world_of(cluster, directory, 1, seed, HEADCOUNT_DATA=str(statistics)) as world:
        run(world, lambda world: world.pause(3.0, 3.0), 1)
        before = figures(statistics)
        for _ in range(times):
            for old in statistics.glob("work.duckdb*"):
                old.unlink()  # so that all is written again
            full = project(world, largest=300_000)
            assert full.returncode == 1, full.stdout + full.stderr
            assert full.stderr.splitlines()[-1].startswith("Error: the statistics could not be written"), full.stderr
            assert figures(statistics) == before
            project_once(world)
            assert figures(statistics) == before
        return full.stderr.splitlines()[-1]


def disk_full_for_checkpoints(cluster: Cluster, directory: Path, seed: int, times: int) -> str:
    """No checkpoint can be written for some seconds: the worker says so, goes on without, and is killed. Whoever takes
    over begins with what there is, and writes checkpoints again.
    """
    checkpoints, log = directory / "checkpoints", directory / "worker-1.log"
    environment = {"HEADCOUNT_CHECKPOINTS": str(checkpoints), "HEADCOUNT_CHECKPOINT_SECONDS": "0.2"}
    heard = bytearray()

    def newest() -> int:
        return max((int(path.name) for path in checkpoints.glob("*/*") if path.name.isdecimal()), default=0)

    def said() -> int:
        with suppress(BlockingIOError):
            heard.extend(os.read(listening, 1 << 16))
        return heard.count(NOT_WRITTEN)

    def inject(world: World) -> None:
        before, exits = newest(), world.workers.exits.total()
        world.until(lambda: newest() > before, "no checkpoint was written")
        for pid in world.workers.pids():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        before = said()
        world.until(lambda: said() > before + 5, "nobody said that a checkpoint could not be written")
        assert world.workers.exits.total() == exits, "a worker ended with its checkpoints' disk"
        assert world.workers.kill(0)
        world.until(lambda: world.workers.exits.total() > exits and world.all_there(), "no worker took over")

    # Keys in the topic and a log that is no file: of what a worker writes, checkpoints alone are on the disk.
    with world_of(cluster, directory, 0, seed, HEADCOUNT_KEYS="kafka:", **environment) as world:
        os.mkfifo(log)
        listening = os.open(log, os.O_RDWR | os.O_NONBLOCK)
        try:
            world.workers.add()
            run(world, inject, times)
        finally:
            os.close(listening)
        return f"{heard.count(NOT_WRITTEN)} times a checkpoint was not written; {world.workers.ends()}"


def figures(directory: Path) -> list[Any]:
    """Every release and every value of one statistic."""
    with duckdb.connect(directory / "statistics.duckdb", read_only=True) as connection:
        releases = connection.execute("SELECT key, digest FROM released.release ORDER BY ALL").fetchall()
        return releases + connection.execute("FROM feature_use ORDER BY ALL").fetchall()


def project(world: World, *, largest: int = resource.RLIM_INFINITY) -> "subprocess.CompletedProcess[str]":
    """``headcount project --once``, which may write files of so many bytes."""
    command = [sys.executable, "-m", "pipeline.cli", "project", "--once"]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    environment = world.workers.environment
    return subprocess.run(
        command, check=False, env=environment, capture_output=True, text=True, preexec_fn=limit, timeout=90
    )


def project_once(world: World) -> None:
    done = project(world)
    assert done.returncode == 0, done.stderr
