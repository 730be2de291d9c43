"""The environment becomes one frozen value: every variable is read, and a wrong one is refused by its name."""

from dataclasses import FrozenInstanceError, fields
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.windows import day_of
from pipeline.settings import Settings, SettingsError
from pipeline.stream.framework import new_app

# Another value than the default for every variable there is.
VARIABLES: dict[str, tuple[str, Any]] = {
    "KAFKA_BOOTSTRAP_SERVERS": ("a:1,b:2", "a:1,b:2"),
    "KAFKA_SECURITY_PROTOCOL": ("SASL_SSL", "SASL_SSL"),
    "KAFKA_SASL_MECHANISM": ("SCRAM-SHA-256", "SCRAM-SHA-256"),
    "KAFKA_SASL_USERNAME": ("headcount", "headcount"),
    "KAFKA_SASL_PASSWORD": ("secret", "secret"),
    "KAFKA_SASL_PASSWORD_FILE": ("password", "password"),
    "KAFKA_SSL_CAFILE": ("ca.pem", "ca.pem"),
    "KAFKA_SSL_CERTFILE": ("cert.pem", "cert.pem"),
    "KAFKA_SSL_KEYFILE": ("key.pem", "key.pem"),
    "HEADCOUNT_FIELDS": ("f.toml", Path("f.toml")),
    "HEADCOUNT_STATISTICS": ("s.toml", Path("s.toml")),
    "HEADCOUNT_POLICY": ("p.toml", Path("p.toml")),
    "HEADCOUNT_KEYS": ("keys", "keys"),
    "HEADCOUNT_KEK": ("abc=", "abc="),
    "HEADCOUNT_KEK_FILE": ("kek", "kek"),
    "HEADCOUNT_DATA": ("data", Path("data")),
    "HEADCOUNT_GROUP": ("others", "others"),
    "HEADCOUNT_ROLES": ("release,ingest", "release,ingest"),
    "HEADCOUNT_CLOCK": ("replay", "replay"),
    "HEADCOUNT_SINCE": ("2026-05-01", "2026-05-01"),
    "HEADCOUNT_UNTIL": ("2026-06-01", "2026-06-01"),
    "HEADCOUNT_SESSION_TIMEOUT": ("12.5", 12.5),
    "HEADCOUNT_CHECKPOINTS": ("c", "c"),
    "HEADCOUNT_CHECKPOINT_SECONDS": ("5", 5.0),
    "HEADCOUNT_HTTP": ("127.0.0.1:8300", "127.0.0.1:8300"),
    "HEADCOUNT_LOG": ("json", "json"),
    "HEADCOUNT_SNAPSHOT_SECONDS": ("3", 3.0),
}


def test_no_variable_is_missing_here() -> None:
    assert [each.metadata["name"] for each in fields(Settings)] == list(VARIABLES)
    assert all(each.metadata["text"] for each in fields(Settings))


@pytest.mark.parametrize("name", VARIABLES)
def test_every_variable_is_read(name: str) -> None:
    text, expected = VARIABLES[name]
    attribute = {each.metadata["name"]: each.name for each in fields(Settings)}[name]
    changed = Settings.from_environment({name: text, "UNKNOWN": "x"})
    assert getattr(changed, attribute) == expected
    assert type(getattr(changed, attribute)) is type(expected)
    assert expected != getattr(Settings(), attribute)
    others = [each.name for each in fields(Settings) if each.name != attribute]
    assert all(getattr(changed, other) == getattr(Settings(), other) for other in others)


def test_the_process_s_environment_is_read_where_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert Settings.from_environment() == Settings()
    monkeypatch.setenv("HEADCOUNT_GROUP", "others")
    assert Settings.from_environment().group == "others"


def test_an_empty_variable_is_one_that_nobody_set() -> None:
    """As compose files and shells leave them."""
    assert Settings.from_environment(dict.fromkeys(VARIABLES, "")) == Settings()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("HEADCOUNT_SESSION_TIMEOUT", "soon"),
        ("HEADCOUNT_SNAPSHOT_SECONDS", "10s"),
        ("HEADCOUNT_CLOCK", "sun"),
        ("HEADCOUNT_ROLES", "ingest,project"),
        ("HEADCOUNT_ROLES", ","),
        ("HEADCOUNT_CLOCK", "Replay"),
        ("HEADCOUNT_SINCE", "1 May"),
        ("HEADCOUNT_UNTIL", "2026-13-01"),
        ("KAFKA_SECURITY_PROTOCOL", "TLS"),
        ("KAFKA_SASL_MECHANISM", "ROT13"),
    ],
)
def test_a_wrong_value_is_refused_and_its_variable_named(name: str, text: str) -> None:
    with pytest.raises(SettingsError, match=name):
        _ = Settings.from_environment({name: text}).span


def test_a_replay_s_span_is_a_pair_of_days() -> None:
    assert Settings().span == (None, None)
    given = Settings.from_environment({"HEADCOUNT_SINCE": "2026-05-01", "HEADCOUNT_UNTIL": "2026-06-01"})
    assert given.span == (day_of(date(2026, 5, 1)), day_of(date(2026, 6, 1)))


def test_settings_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().group = "others"  # type: ignore[misc]


def test_the_connection_has_what_was_set_and_no_more() -> None:
    assert Settings(bootstrap_servers="a:1,b:2").kafka() == {
        "bootstrap_servers": ["a:1", "b:2"],
        "security_protocol": "PLAINTEXT",
    }
    sasl = {"sasl_mechanism": "PLAIN", "sasl_username": "u", "sasl_password": "p"}
    assert Settings(security_protocol="SASL_SSL", ssl_cafile="ca.pem", **sasl).kafka() == {
        "bootstrap_servers": ["127.0.0.1:9092"],
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": "u",
        "sasl_plain_password": "p",
        "ssl_cafile": "ca.pem",
    }
    assert "sasl_mechanism" not in Settings(security_protocol="SSL", **sasl).kafka()


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL", "SSL"])
def test_the_worker_connects_as_the_other_clients_do(protocol: str, mechanism: str) -> None:
    """A worker that left its credentials out could not reach a broker that asks for them."""
    sasl = {"sasl_mechanism": mechanism, "sasl_username": "u", "sasl_password": "p"}
    credentials: Any = new_app(Settings(security_protocol=protocol, **sasl)).conf.broker_credentials
    assert credentials.protocol.value == protocol
    if "SASL" in protocol:
        assert (credentials.mechanism.value, credentials.username, credentials.password) == (mechanism, "u", "p")
    if protocol.endswith("SSL"):
        context = credentials.ssl_context if "SASL" in protocol else credentials.context
        assert context.check_hostname


def test_a_worker_without_credentials_sends_none() -> None:
    assert new_app(Settings()).conf.broker_credentials is None


def test_the_password_may_be_in_a_file_which_is_named_when_it_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("secret\n")
    sasl = {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_PASSWORD_FILE": str(path)}
    assert Settings.from_environment(sasl).kafka()["sasl_plain_password"] == "secret"
    path.unlink()
    with pytest.raises(SettingsError, match="KAFKA_SASL_PASSWORD_FILE cannot be read"):
        Settings.from_environment(sasl).kafka()


def test_workers_that_run_the_same_hops_are_one_group() -> None:
    def group(roles: str) -> str:
        return Settings.from_environment({"HEADCOUNT_ROLES": roles}).consumer_group

    assert [group(""), group("release,tally,ingest")] == ["headcount"] * 2
    assert group("release,ingest") == group("ingest,release") == "headcount-ingest-release"
    assert group("tally") == "headcount-tally"
