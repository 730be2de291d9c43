"""Whatever client sends an event, it is counted like the emitter's."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from kafka import TopicPartition

from pipeline.core.release import Release, decode_release
from pipeline.core.tallies import FOREVER
from pipeline.core.windows import date_of
from pipeline.declarations import read_declarations
from pipeline.replay import Sender, wait_for_releases
from pipeline.settings import SCHEMAS, Settings
from pipeline.stack import running_stack
from pipeline.stream.releaselog import read_log
from pipeline.stream.topics import RELEASES
from pipeline.watching import Watch
from tests.clients.senders import CLIENTS, Use

PLATFORMS = {"ios": 13, "web": 12}  # uses by each client; two records of ten and one of five
DAY = datetime(2026, 5, 1, 10, tzinfo=UTC)

pytestmark = pytest.mark.e2e


def uses_of(client: str) -> list[Use]:
    """The same uses for each client, by subjects of its own whose names are not all ASCII."""
    platforms = [platform for platform, n in PLATFORMS.items() for _ in range(n)]
    return [Use(n, client, platform, f"ü☃-{client}-{n}", DAY.replace(minute=n)) for n, platform in enumerate(platforms)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Watch, list[Release]]]:
    """All clients against one pipeline, under a policy without noise; every window closed."""
    policy = SCHEMAS / "exact.toml"
    plan = read_declarations(Settings(policy=policy), DAY.date()).plan
    directory = tmp_path_factory.mktemp("clients")
    with running_stack(directory, workers=1, environment={"HEADCOUNT_POLICY": str(policy)}) as stack:
        [address] = stack.kafka["bootstrap_servers"]
        for name, send in CLIENTS.items():
            send(address, uses_of(name))
        Sender(stack.kafka).tell(date_of(FOREVER))
        watch = wait_for_releases(stack, plan, report=lambda *_: None)
        log = read_log(stack.kafka, TopicPartition(RELEASES, 0))
        yield watch, [decode_release(value) for _, value in log]


def test_no_event_of_any_client_is_refused_or_lost(run: tuple[Watch, list[Release]]) -> None:
    watch, _ = run
    assert watch.rejected() == {}
    assert watch.accepted_events() == len(CLIENTS) * sum(PLATFORMS.values())


@pytest.mark.parametrize("window", ["day", "week", "month"])
def test_each_client_is_counted_like_the_emitter(run: tuple[Watch, list[Release]], window: str) -> None:
    _, releases = run
    [use] = [each for each in releases if (each.statistic, each.window) == ("feature_use", window)]
    users, events = (dict(zip(use.cells, column, strict=True)) for column in use.values)
    assert users == events == {(name, platform): n for name in CLIENTS for platform, n in PLATFORMS.items()}


def test_users_of_all_clients_are_told_apart(run: tuple[Watch, list[Release]]) -> None:
    _, releases = run
    [day] = [each for each in releases if (each.statistic, each.window) == ("active_users", "day")]
    assert day.values == [[len(CLIENTS) * sum(PLATFORMS.values())]]
