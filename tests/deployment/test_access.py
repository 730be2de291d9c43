"""Under TLS, passwords and access lists each principal can do what its role has to, and nothing else, says the broker.

The broker runs under docker-compose.secure.yml, and what is made there is made by ``headcount topics --acls``.
"""

import base64
import itertools
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.admin import (
    ACLOperation,
    ConfigResource,
    ConfigResourceType,
    NewTopic,
    ResourceType,
    UserScramCredentialUpsertion,
)
from kafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailedError,
    for_code,
)

from pipeline.cli import main
from pipeline.core.tallies import FOREVER
from pipeline.core.windows import date_of
from pipeline.declarations import read_declarations
from pipeline.replay import Sender
from pipeline.settings import HOPS, SCHEMAS, Settings, SettingsError
from pipeline.sources import Lines
from pipeline.stream.acls import ROLES, Grant, acl, grants, principals_of
from pipeline.stream.releaselog import TRANSACTIONAL_ID
from pipeline.stream.topics import CONTRIBUTIONS, EVENTS, KEYS, REJECTIONS, RELEASES, TALLIES
from pipeline.warehouse.projector import rebuild
from pipeline.warehouse.reader import Statistics
from pipeline.watching import Watcher
from tests.deployment.apache import Cluster
from tests.deployment.certificates import make_certificates
from tests.deployment.files import ROOT, within
from tests.deployment.test_apache_kafka import EVENTS as SENT
from tests.deployment.test_apache_kafka import USERS, event

pytestmark = [pytest.mark.e2e, pytest.mark.kafka]

OVERLAY = ROOT / "docker-compose.secure.yml"
REFUSED = (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailedError,
)
TOPICS = (EVENTS, CONTRIBUTIONS, TALLIES, RELEASES, REJECTIONS, KEYS)
GROUPS = ("headcount", "headcount-ingest", "headcount-tally", "headcount-release")

# Written here a second time, and by hand: what each may do. Everything else has to be refused.
OF_KEYS = {("read", KEYS), ("write", KEYS)}
MAY: dict[str, set[tuple[str, str]]] = {
    "application": {("write", EVENTS)},
    "ingest": {
        ("read", EVENTS),
        ("write", CONTRIBUTIONS),
        ("write", REJECTIONS),
        ("commit", "headcount-ingest"),
        *OF_KEYS,
    },
    "tally": {("read", CONTRIBUTIONS), ("write", TALLIES), ("write", REJECTIONS), ("commit", "headcount-tally")},
    "release": {
        ("read", TALLIES),
        ("read", RELEASES),
        ("write", RELEASES),
        ("commit", "headcount-release"),
        ("transact", TRANSACTIONAL_ID),
        *OF_KEYS,
    },
    "keeper": OF_KEYS,
    "project": {("read", RELEASES)},
    "analyst": {("read", RELEASES)},
    "operator": {("read", REJECTIONS), *(("look at", name) for name in (*TOPICS, *GROUPS[1:]))},
}


@dataclass
class Secured:
    """The broker, and how each principal reaches it."""

    cluster: Cluster
    directory: Path

    def environment(self, principal: str) -> dict[str, str]:
        ca = str(self.directory / "ca.pem")
        if principal in ("admin", "stranger"):
            return {
                "KAFKA_BOOTSTRAP_SERVERS": self.cluster.listener("19093"),
                "KAFKA_SECURITY_PROTOCOL": "SSL",
                "KAFKA_SSL_CAFILE": ca,
                "KAFKA_SSL_CERTFILE": str(self.directory / f"{principal}.pem"),
            }
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.cluster.bootstrap,
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SASL_USERNAME": principal,
            "KAFKA_SASL_PASSWORD_FILE": str(self.directory / "passwords" / principal),
            "KAFKA_SSL_CAFILE": ca,
        }

    def kafka(self, principal: str) -> dict[str, Any]:
        return Settings.from_environment(self.environment(principal)).kafka()


@pytest.fixture(scope="module")
def secured(jars: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    directory = tmp_path_factory.mktemp("secrets")
    make_certificates(directory)
    with Cluster(tmp_path_factory.mktemp("secured"), overlay=OVERLAY, mounted=directory) as cluster:
        found = Secured(cluster, directory)
        command = ["topics", "--acls", "--passwords", str(directory / "passwords")]
        results = [CliRunner(env=found.environment("admin")).invoke(main, command) for _ in range(2)]
        assert [result.exit_code for result in results] == [0, 0], results[0].output
        assert "passwords: analyst, application, ingest, keeper, operator, project, release, tally" in results[0].output
        assert "access: 0 grants added" in results[1].output
        assert "not ours" not in results[1].output
        yield found


def write(kafka: dict[str, Any], topic: str) -> None:
    # Idempotence is refused to whoever may write nowhere, and before anybody has said where: here the topic counts.
    with closing(KafkaProducer(**kafka, enable_idempotence=False)) as producer:
        producer.send(topic, partition=0, key=b"k", value=b"").get(15)


def read(kafka: dict[str, Any], topic: str) -> None:
    look_at(kafka, topic)  # who may not even know where it is cannot ask for what is in it
    partition = TopicPartition(topic, 0)
    with closing(KafkaConsumer(**kafka, group_id=None)) as consumer:
        consumer.assign([partition])
        consumer.seek(partition, 0)
        assert within(20, lambda: bool(consumer.poll(timeout_ms=500)) or consumer.highwater(partition) is not None)


def commit(kafka: dict[str, Any], group: str) -> None:
    topic = {"headcount-tally": CONTRIBUTIONS, "headcount-release": TALLIES}.get(group, EVENTS)
    partition = TopicPartition(topic, 0)
    with closing(KafkaConsumer(**kafka, group_id=group, enable_auto_commit=False)) as consumer:
        consumer.assign([partition])
        consumer.commit({partition: OffsetAndMetadata(0, "", -1)}, timeout_ms=15_000)


def transact(kafka: dict[str, Any], name: str) -> None:
    with closing(KafkaProducer(**kafka, transactional_id=name)) as producer:
        producer.init_transactions()


def look_at(kafka: dict[str, Any], name: str) -> None:
    with closing(KafkaAdminClient(**kafka)) as admin:
        if name in GROUPS:
            admin.describe_groups([name])
        else:
            [described] = admin.describe_topics([name])
            raise_for(described["error_code"])


def create(kafka: dict[str, Any], name: str) -> None:
    with closing(KafkaAdminClient(**kafka)) as admin:
        admin.create_topics([NewTopic(name, 1, 1)])


def delete(kafka: dict[str, Any], name: str) -> None:
    with closing(KafkaAdminClient(**kafka)) as admin:
        admin.delete_topics([name])


def keep_longer(kafka: dict[str, Any], name: str) -> None:
    longer = ConfigResource(ConfigResourceType.TOPIC, name, configs={"retention.ms": "-1"})
    with closing(KafkaAdminClient(**kafka)) as admin:
        [[said]] = (each.values() for each in admin.alter_configs([longer], True, raise_on_unknown=False).values())
    if "AuthorizationFailed" in str(said):
        raise TopicAuthorizationFailedError(said)


def grant(kafka: dict[str, Any], name: str) -> None:
    with closing(KafkaAdminClient(**kafka)) as admin:
        everything = Grant("anyone", ACLOperation.READ, ResourceType.TOPIC, name)
        for error in admin.create_acls([acl(everything)])["failed"]:
            raise error


def set_password(kafka: dict[str, Any], name: str) -> None:
    with closing(KafkaAdminClient(**kafka)) as admin:
        [error] = admin.alter_user_scram_credentials(
            [UserScramCredentialUpsertion(name, "SCRAM-SHA-512", "known")]
        ).values()
        if error:
            raise ClusterAuthorizationFailedError(error)


def raise_for(code: int) -> None:
    if code:
        raise for_code(code)


ACTIONS: dict[str, Callable[[dict[str, Any], str], None]] = {
    "write": write,
    "read": read,
    "look at": look_at,
    "commit": commit,
    "transact": transact,
    "create": create,
    "delete": delete,
    "keep longer": keep_longer,
    "grant": grant,
    "set password": set_password,
}
EVERYTHING = [
    *itertools.product(("look at", "write", "read", "keep longer", "grant", "delete"), TOPICS),
    *itertools.product(("look at", "commit"), GROUPS),
    ("transact", TRANSACTIONAL_ID),
    ("transact", "another"),
    ("create", "usage.other"),
    ("set password", "release"),
]


def test_the_whole_pipeline_counts_what_was_sent_with_each_hop_under_its_own_principal(
    secured: Secured, tmp_path: Path
) -> None:
    common = {
        "HEADCOUNT_CLOCK": "replay",
        "HEADCOUNT_POLICY": str(SCHEMAS / "exact.toml"),
        "HEADCOUNT_SESSION_TIMEOUT": "6",
    }
    of_keys = {"HEADCOUNT_KEYS": "kafka:", "HEADCOUNT_KEK": base64.b64encode(secrets.token_bytes(32)).decode()}
    workers = []
    try:
        for role in HOPS:
            command = [sys.executable, "-m", "pipeline.cli", "worker", "--roles", role]
            with (tmp_path / f"{role}.log").open("wb") as log:
                keys = {} if role == "tally" else of_keys
                environment = {**secured.environment(role), **common, **keys}
                workers.append(subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT))
        with closing(Sender(secured.kafka("application"))) as sender:
            lines = (b"\n".join(map(event, range(start, start + 100))) for start in range(0, SENT, 100))
            for _ in sender.send(Lines(value, 100, 0, 0) for value in lines):
                pass
            sender.tell(date_of(FOREVER))
        plan = read_declarations(Settings(policy=SCHEMAS / "exact.toml"), date(2026, 5, 1)).plan
        watcher = Watcher(secured.kafka("admin"), plan, partitions=4)
        with closing(watcher):
            assert within(90, lambda: (watcher.poll(0.2), watcher.watch.complete(FOREVER))[1]), "\n".join(
                path.read_text()[-500:] for path in tmp_path.glob("*.log")
            )
        assert (watcher.watch.accepted_events(), watcher.watch.rejected()) == (SENT, {})
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    assert rebuild(tmp_path / "statistics", secured.kafka("project")) == len(watcher.watch.released)
    with pytest.warns(match="nobody"), Statistics(tmp_path / "statistics") as statistics:
        month = statistics.frame("feature_use", window="month")
    assert month[["feature", "users", "events"]].to_numpy().tolist() == [["search", USERS, SENT]]


@pytest.mark.parametrize("principal", ROLES)
def test_what_a_principal_need_not_do_is_refused_and_what_it_has_to_works(secured: Secured, principal: str) -> None:
    kafka = secured.kafka(principal)
    allowed, refused = set(), set()
    for action, name in EVERYTHING:
        try:
            ACTIONS[action](kafka, name)
            allowed.add((action, name))
        except REFUSED:
            refused.add((action, name))
    # Whoever has to do something with a thing may also look at it.
    mine = MAY[principal] | {("look at", name) for action, name in MAY[principal] if action != "transact"}
    assert allowed == mine
    assert refused == set(EVERYTHING) - mine


@pytest.mark.parametrize(
    ("listener", "wrong"),
    [
        ("9092", {"security_protocol": "PLAINTEXT"}),
        ("9092", {"security_protocol": "SSL"}),
        ("9092", {"sasl_plain_password": "guessed"}),
        ("9092", {"ssl_cafile": None}),
        ("19093", {"security_protocol": "SSL"}),
        ("19093", {"security_protocol": "SSL", "ssl_certfile": "stranger.pem"}),
    ],
)
def test_nobody_comes_in_without_tls_a_password_or_a_certificate_of_the_authority(
    secured: Secured, listener: str, wrong: dict[str, Any]
) -> None:
    kafka = {**secured.kafka("operator"), "bootstrap_servers": secured.cluster.listener(listener), **wrong}
    if "ssl_certfile" in wrong:
        kafka["ssl_certfile"] = str(secured.directory / kafka["ssl_certfile"])
    with pytest.raises(KafkaError):
        KafkaAdminClient(**kafka, bootstrap_timeout_ms=3000).close()


def test_one_principal_may_hold_several_roles_and_then_its_workers_run_those_hops_together() -> None:
    named = principals_of(["ingest=worker", "tally=worker", "release=worker"])
    found = {(grant.operation.name, grant.name) for grant in grants(named, "headcount") if grant.principal == "worker"}
    of_the_roles = {
        (action.upper(), name) for role in HOPS for action, name in MAY[role] if action in ("read", "write")
    }
    assert found == of_the_roles | {("READ", "headcount"), ("WRITE", TRANSACTIONAL_ID)}
    with pytest.raises(SettingsError, match="ROLE=NAME"):
        principals_of(["nobody=worker"])


def test_what_is_allowed_besides_is_said(secured: Secured) -> None:
    grant(secured.kafka("admin"), EVENTS)
    said = CliRunner(env=secured.environment("admin")).invoke(main, ["topics", "--acls"])
    assert "not ours: anyone may read the topic usage.events" in said.stderr
