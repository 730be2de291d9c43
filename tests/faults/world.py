"""A pipeline on an Apache Kafka, to which something happens while an application goes on emitting.

A broker serves one run after the other: each has topics that are made for it, a consumer group and keys of its own.
"""

import base64
import os
import random
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient, TopicPartition
from kafka.errors import KafkaError

from pipeline.core.tallies import FOREVER
from pipeline.core.windows import date_of
from pipeline.replay import PARTITIONS, Sender
from pipeline.settings import HOPS, group_of
from pipeline.stream.topics import TOPICS, create_topics
from pipeline.watching import Watcher
from tests.deployment.apache import Cluster
from tests.e2e.running import EXACT, declared
from tests.faults.checks import check
from tests.faults.feeds import feed_plainly
from tests.faults.workers import Workers

SESSION = 2.0  # seconds until a worker that is silent is missed
PATIENCE = 240.0  # seconds for everything to be released once nothing happens any more

# What others wait for is short, so that a fault costs seconds; all else is as in the compose file.
BROKER = {
    "KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS": "1000",
    "KAFKA_BROKER_SESSION_TIMEOUT_MS": "3000",  # a broker that was killed is let in again after it
    "KAFKA_BROKER_HEARTBEAT_INTERVAL_MS": "500",
}


@dataclass
class World:
    """A run: what is up, and what was sent."""

    cluster: Cluster
    workers: Workers
    directory: Path
    source: random.Random
    group: str
    admin: KafkaAdminClient
    sent: list[dict[str, Any]] = field(default_factory=list)
    quiet: threading.Event = field(default_factory=threading.Event)  # nothing happens any more
    failed: list[BaseException] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    # What has to be rejected, by reason; None where an emitter may repeat itself, which is for the workers to notice.
    rejected: Counter[str] | None = field(default_factory=Counter)

    @property
    def kafka(self) -> dict[str, Any]:
        return kafka_of(self.cluster)

    def pause(self, least: float, most: float) -> None:
        time.sleep(self.source.uniform(least, most))

    def members(self) -> dict[int, set[TopicPartition]]:
        """Per worker that is in its group, what it has; nobody has anything while the group is being made anew."""
        ours = {group_of(self.group, each[2:] or HOPS) for each in self.workers.commands if each[0] == "worker"}
        groups = self.admin.describe_groups(sorted(ours))
        names = {f"headcount-{pid}": place for pid, place in self.workers.pids().items()}
        return {
            names[member["client_id"]]: {
                TopicPartition(topic["topic"], number)
                for topic in (member["member_assignment"] or {}).get("assigned_partitions", [])
                for number in topic["partitions"]
            }
            for group in groups.values()
            if group["group_state"] == "Stable"
            for member in group["members"]
            if member["client_id"] in names
        }

    def all_there(self) -> bool:
        """Whether every worker is in its group."""
        return self.members().keys() == set(self.workers.present())

    def until(self, holds: Callable[[], bool], what: str, seconds: float = 90.0) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with suppress(KafkaError):
                if holds():
                    return
            time.sleep(0.1)
        self.workers.show()
        time.sleep(1.0)
        raise AssertionError(f"{what} within {seconds:.0f} s")


Feed = Callable[[World], Iterator[None]]  # one step a day, and the last word is not its own
Inject = Callable[[World], None]


def kafka_of(cluster: Cluster) -> dict[str, Any]:
    return {"bootstrap_servers": cluster.bootstrap.split(",")}


def _drive(world: World, feed: Feed, pace: float) -> None:
    """Sends day after day for as long as things happen, and then says that it was all."""
    try:
        steps = feed(world)
        while not world.quiet.is_set():
            next(steps)
            world.quiet.wait(pace)
        next(steps)
        with closing(Sender(world.kafka)) as sender:
            sender.tell(date_of(FOREVER))
    except BaseException as error:
        world.failed.append(error)


def _disturb(world: World, inject: Inject, times: int) -> None:
    try:
        world.until(world.all_there, "the workers did not join")
        for _ in range(times):
            inject(world)
    except BaseException as error:
        world.failed.append(error)
    finally:
        world.quiet.set()


@contextmanager
def cluster_of(directory: Path, nodes: int = 1) -> Iterator[Cluster]:
    """A broker, or several, for runs one after the other."""
    with Cluster(directory, nodes=nodes, settings=BROKER) as cluster:
        yield cluster


def renew_topics(admin: KafkaAdminClient, cluster: Cluster) -> None:
    """Makes them new and empty."""
    ours = {topic.name for topic in TOPICS}
    if there := ours & set(admin.list_topics()):
        admin.delete_topics(list(there))
        while ours & set(admin.list_topics()):
            time.sleep(0.05)
    create_topics(kafka_of(cluster), partitions=PARTITIONS, replication=min(len(cluster.ports), 3))
    while not all(topic["partitions"] for topic in admin.describe_topics(list(ours))):
        time.sleep(0.05)  # the broker hears of them from the controller


@contextmanager
def world_of(cluster: Cluster, directory: Path, workers: int, seed: int, **environment: str) -> Iterator[World]:
    """Topics, and workers that begin."""
    directory.mkdir(parents=True, exist_ok=True)
    group = f"headcount-{secrets.token_hex(4)}"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HEADCOUNT_", "KAFKA_"))}
    source = random.Random(seed)
    running = Workers(
        environment={
            **inherited,
            "KAFKA_BOOTSTRAP_SERVERS": cluster.bootstrap,
            "HEADCOUNT_GROUP": group,
            "HEADCOUNT_CLOCK": "replay",
            "HEADCOUNT_POLICY": str(EXACT),
            "HEADCOUNT_KEYS": str(directory / "keys"),
            "HEADCOUNT_KEK": base64.b64encode(secrets.token_bytes(32)).decode(),
            "HEADCOUNT_SESSION_TIMEOUT": str(SESSION),
            **environment,
        },
        logs=directory,
        source=source,
    )
    with closing(KafkaAdminClient(**kafka_of(cluster))) as admin:
        renew_topics(admin, cluster)
        try:
            for _ in range(workers):
                running.add()
            yield World(cluster, running, directory, source, group, admin)
        finally:
            running.stop()


def run(world: World, inject: Inject, times: int, *, feed: Feed = feed_plainly, pace: float = 0.7) -> None:
    """Feeds, disturbs, waits until everything is released, and checks it. Raises AssertionError."""
    threads = [
        threading.Thread(target=_disturb, args=(world, inject, times), daemon=True),
        threading.Thread(target=_drive, args=(world, feed, pace), daemon=True),
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        world.workers.tend()
        time.sleep(0.05)
    if world.failed:
        raise world.failed[0]
    watcher = Watcher(world.kafka, declared().plan, PARTITIONS)
    deadline = time.monotonic() + PATIENCE
    try:
        while not (watcher.watch.complete(FOREVER) and watcher.caught_up()):
            watcher.poll(0.1)
            world.workers.tend()
            assert time.monotonic() < deadline, f"{watcher.watch.missing()} releases are missing after {PATIENCE:.0f} s"
        accepted, rejected = watcher.watch.accepted_events(), watcher.watch.rejected()
    finally:
        watcher.close()
    check(world, accepted, rejected)
