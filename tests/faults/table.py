"""The faults as data: what happens, how it is done, how often in the short form and how often in the full one."""

from dataclasses import dataclass

from tests.faults.groups import (
    Runner,
    broker_away,
    come_and_go,
    kill_all,
    kill_broker,
    killed,
    killed_apart,
    killed_at_edges,
    rough,
    stop_broker,
    zombie,
    zombie_releaser,
)
from tests.faults.load import steady_load
from tests.faults.malformed import malformed
from tests.faults.stores import disk_full, disk_full_for_checkpoints, keys_away, statistics_deleted


@dataclass(frozen=True)
class Fault:
    """``times``: in the short form, ``full``: in the full form (0: on demand); ``at_once``: in one run."""

    name: str
    text: str
    times: int
    full: int
    run: Runner
    at_once: int = 1


# fmt: off
FAULTS: tuple[Fault, ...] = (
    Fault("worker killed", "SIGKILL of a random one of 1-3 workers at a random moment", 100, 500, killed, at_once=25),
    Fault("one-hop worker killed", "the same, where each runs ingest, tally or release alone; 1-2 of each",
          20, 200, killed_apart, at_once=10),
    Fault("killed at each edge", "SIGKILL by its own hand, each of the edges in tests/faults/edges.py so often",
          2, 20, killed_at_edges, at_once=4),
    Fault("zombie worker", "SIGSTOP past the session time-out, rebalance, SIGCONT", 2, 20, zombie, at_once=5),
    Fault("zombie releaser", "the same, of the worker that releases", 2, 20, zombie_releaser, at_once=5),
    Fault("broker stopped", "SIGTERM, 30 s without a broker, start", 1, 5, broker_away(stop_broker, 30)),
    Fault("broker killed", "SIGKILL, start", 1, 5, broker_away(kill_broker, 1)),
    Fault("all killed at once", "SIGKILL of the broker and of all workers, start", 1, 5, broker_away(kill_all, 1)),
    Fault("workers come and go", "every few seconds one joins or leaves (SIGTERM); 1-4 workers", 1, 10, come_and_go),
    Fault("rough application", "5 % twice, shuffled over 3 days, records cut anyhow, random keys", 1, 10, rough),
    Fault("keys away", "an empty directory of keys, or a file, for some seconds", 2, 6, keys_away),
    Fault("statistics deleted", "the directory of the DuckDB files is deleted", 1, 5, statistics_deleted, at_once=5),
    Fault("disk full for snapshots", "no file of the projector may grow beyond 300 kB", 1, 5, disk_full, at_once=5),
    Fault("disk full for checkpoints", "no file can be written for some seconds; SIGKILL",
          1, 5, disk_full_for_checkpoints, at_once=5),
    Fault("malformed records", "4,000 of every kind among 20,000 good events", 1, 5, malformed),
    Fault("steady load", "a year's days in some minutes, at half of what the worker can do; on demand, see --minutes",
          0, 0, steady_load(20)),
)
# fmt: on
