"""``/livez``, ``/readyz`` and ``/metrics`` of a process, from a thread of its own: it answers while the work is stuck.

What it shows are exact small counts, of the operators' class: it listens on 127.0.0.1 unless it is told otherwise.
``python -m pipeline.health livez`` asks the process on this host, for the health check of a container.
"""

import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric

from pipeline.settings import Settings, SettingsError


class Health(Protocol):
    """What a process says of itself, to any thread that asks."""

    def live(self) -> str:
        """What is wrong with it, such that starting it again may help; nothing where all is well."""

    def ready(self) -> str:
        """What it still waits for; nothing where it does its work."""

    def collect(self) -> Iterator[Metric]:
        """The metrics, as Prometheus' client wants them."""


def address_of(text: str) -> tuple[str, int]:
    """``host:port``, or a port of 127.0.0.1. Raises :class:`SettingsError` for anything else."""
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise SettingsError("HEADCOUNT_HTTP is host:port, or a port of 127.0.0.1; nothing is served where it is empty")
    return host.strip("[]") or "127.0.0.1", int(port)


@contextmanager
def served(address: str, health: Health) -> Iterator[int]:
    """Serves for as long as the block lasts; gives the port, 0 where ``address`` is empty and nothing is served."""
    if not address:
        yield 0
        return
    registry = CollectorRegistry()
    registry.register(health)
    ProcessCollector(registry=registry)
    try:
        server = ThreadingHTTPServer(address_of(address), _handler(health, registry))
    except OSError as error:
        raise SettingsError(f"HEADCOUNT_HTTP={address} cannot be listened on ({error.strerror})") from None
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def _handler(health: Health, registry: CollectorRegistry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10  # seconds that one who asks may take

        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(HTTPStatus.OK, generate_latest(registry), CONTENT_TYPE_LATEST)
            elif self.path in ("/livez", "/readyz"):
                missing = health.live() if self.path == "/livez" else health.ready()
                status = HTTPStatus.SERVICE_UNAVAILABLE if missing else HTTPStatus.OK
                self._answer(status, f"{missing or 'ok'}\n".encode())
            else:
                self._answer(HTTPStatus.NOT_FOUND, b"/livez /readyz /metrics\n")

        def _answer(self, status: HTTPStatus, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing: who asks how a process is has a log of its own."""

    return Handler


def ask(address: str, page: str) -> tuple[bool, str]:
    """Whether all is well, and what the process says."""
    host, port = address_of(address)
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104 - what others bind to
    try:
        with urllib.request.urlopen(f"http://{host}:{port}/{page}", timeout=10) as answer:
            return True, answer.read().decode()
    except urllib.error.HTTPError as error:
        return False, error.read().decode()
    except OSError as error:
        return False, f"nothing answers on {host}:{port} ({type(error).__name__})\n"


if __name__ == "__main__":
    try:
        well, text = ask(Settings.from_environment().http, sys.argv[1])
    except SettingsError as wrong:
        well, text = False, f"{wrong}\n"
    sys.stdout.write(text)
    sys.exit(not well)
