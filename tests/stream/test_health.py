"""What a process says of itself over HTTP: three pages, on the loopback address."""

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from pipeline.health import address_of, ask, served
from pipeline.settings import SettingsError


class Patient:
    """A process that is as it is told to be."""

    def __init__(self, live: str = "", ready: str = "") -> None:
        self._live, self._ready = live, ready

    def live(self) -> str:
        return self._live

    def ready(self) -> str:
        return self._ready

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("headcount_ready", "whether it is ready", value=1.0)


def test_a_page_says_what_is_missing_and_its_status_says_so_too() -> None:
    with served("127.0.0.1:0", Patient(ready="the state is being made")) as port:
        address = f"127.0.0.1:{port}"
        assert ask(address, "livez") == (True, "ok\n")
        assert ask(address, "readyz") == (False, "the state is being made\n")
        with pytest.raises(urllib.error.HTTPError, match="503"):
            urllib.request.urlopen(f"http://{address}/readyz")
        assert ask(address, "tables")[0] is False
    assert ask(address, "livez")[0] is False


def test_metrics_are_those_of_the_process_and_its_memory() -> None:
    with served("127.0.0.1:0", Patient()) as port:
        _, text = ask(f"127.0.0.1:{port}", "metrics")
    found = {family.name for family in text_string_to_metric_families(text)}
    assert {"headcount_ready", "process_resident_memory_bytes"} <= found


def test_nothing_is_served_where_no_address_is_set() -> None:
    with served("", Patient()) as port:
        assert port == 0


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("8300", ("127.0.0.1", 8300)),
        (":8300", ("127.0.0.1", 8300)),
        ("10.0.0.1:8300", ("10.0.0.1", 8300)),
        ("[::1]:8300", ("::1", 8300)),
    ],
)
def test_without_a_host_it_is_the_loopback_address(text: str, address: tuple[str, int]) -> None:
    assert address_of(text) == address


@pytest.mark.parametrize("text", ["here", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:70000", "-1"])
def test_an_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="HEADCOUNT_HTTP"):
        address_of(text)


def test_an_address_that_is_taken_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(SettingsError, match="cannot be listened on"), served(address, Patient()):
            pass


def test_a_worker_that_cannot_be_asked_is_not_healthy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    assert ask(f"127.0.0.1:{port}", "livez")[0] is False
