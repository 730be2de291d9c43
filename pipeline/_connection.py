"""How the emitter reaches Kafka, through kafka-python."""

import importlib.util
import logging
import socket
import threading
from collections.abc import Mapping, Sequence
from typing import Any

NAME = "headcount-emitter"
KNOCK = 5.0  # seconds
SETTINGS = {
    "client_id": NAME,  # kafka-python names its threads after it: see _not_ours
    "allow_auto_create_topics": False,  # such a topic would keep events longer than users were promised
    "batch_size": 512 * 1024,
    "bootstrap_timeout_ms": 5_000,
    "max_block_ms": 5_000,
    "request_timeout_ms": 10_000,
    "delivery_timeout_ms": 15_000,  # after that we send again, without those who opted out meanwhile
    "reconnect_backoff_max_ms": 5_000,
    "metrics_enabled": False,
}
CODECS = (("zstandard", "zstd"), ("lz4", "lz4"), ("gzip", "gzip"))  # the best that is installed


def check(settings: Mapping[str, Any]) -> None:
    """Raises ValueError for settings that KafkaProducer does not have; names them, without their values."""
    if settings and (unknown := settings.keys() - kafka_python().KafkaProducer.DEFAULT_CONFIG.keys()):
        raise ValueError(f"KafkaProducer has no setting {', '.join(sorted(map(str, unknown)))}")


def connect(bootstrap_servers: str | Sequence[str], settings: Mapping[str, Any]) -> Any:
    """A KafkaProducer. Blocks; raises OSError or what kafka-python raises, and then leaves no socket open."""
    kafka = kafka_python()
    if not settings.get("proxy_url"):
        knock(bootstrap_servers)
    clients: list[Any] = []

    def client(**config: Any) -> Any:
        clients.append(kafka.KafkaProducer.DEFAULT_CONFIG["kafka_client"](**config))
        return clients[-1]

    codec = next(codec for module, codec in CODECS if importlib.util.find_spec(module))
    given = {"bootstrap_servers": bootstrap_servers, "compression_type": codec, "kafka_client": client}
    try:
        return kafka.KafkaProducer(**{**SETTINGS, **given, **settings})
    except BaseException:
        for opened in clients:
            opened.close()
        raise


def knock(bootstrap_servers: str | Sequence[str]) -> None:
    """Raises OSError when no server lets us in: kafka-python leaks a socket whenever it is turned away."""
    from kafka.cluster import collect_hosts

    error = OSError()
    for host, port, _ in collect_hosts(bootstrap_servers):
        try:
            return socket.create_connection((host, port), KNOCK).close()
        except OSError as turned_away:
            error = turned_away
    raise error


def kafka_python() -> Any:
    """The library, silenced in our threads: its debug log quotes events, and its errors repeat for ever."""
    import kafka  # here and not above: it takes a third of a second

    for name in list(logging.root.manager.loggerDict):
        if name.split(".")[0] == "kafka":
            logging.getLogger(name).addFilter(_not_ours)
    return kafka


def _not_ours(_: logging.LogRecord) -> bool:
    return NAME not in threading.current_thread().name
