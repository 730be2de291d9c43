"""The environment, read once into one frozen value. Nothing else in the package looks at it."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import fields as fields_of
from datetime import date
from pathlib import Path
from typing import Any, Literal, get_type_hints

from pipeline.core.windows import Span, day_of

_PACKAGED = Path(__file__).parent / "_schemas"
SCHEMAS = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parent.parent / "schemas"


HOPS = ("ingest", "tally", "release")  # what a worker does, in the order in which data meets it

_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


class SettingsError(ValueError):
    """A setting is missing or wrong; the message says which and what to do."""


def setting(name: str, default: Any, text: str) -> Any:
    """A field with the name of its environment variable and a line of help."""
    return field(default=default, metadata={"name": name, "text": text})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every setting has the name of an environment variable and a default that works on one machine."""

    bootstrap_servers: str = setting("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092", "brokers, host:port with commas")
    security_protocol: str = setting(
        "KAFKA_SECURITY_PROTOCOL", "PLAINTEXT", "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"
    )
    sasl_mechanism: str = setting("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512", "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512")
    sasl_username: str = setting("KAFKA_SASL_USERNAME", "", "the principal")
    sasl_password: str = setting("KAFKA_SASL_PASSWORD", "", "its password")
    sasl_password_file: str = setting("KAFKA_SASL_PASSWORD_FILE", "", "or a file that holds it")
    ssl_cafile: str = setting("KAFKA_SSL_CAFILE", "", "the authority that signs the brokers' certificates")
    ssl_certfile: str = setting("KAFKA_SSL_CERTFILE", "", "this client's certificate")
    ssl_keyfile: str = setting("KAFKA_SSL_KEYFILE", "", "this client's key")
    fields: Path = setting("HEADCOUNT_FIELDS", SCHEMAS / "fields.toml", "the field registry")
    statistics: Path = setting("HEADCOUNT_STATISTICS", SCHEMAS / "statistics.toml", "the statistics")
    policy: Path = setting("HEADCOUNT_POLICY", SCHEMAS / "policy.toml", "the policy")
    keys: str = setting(
        "HEADCOUNT_KEYS", "var/keys", "the directory of wrapped keys, shared by all workers; or kafka: for a topic"
    )
    kek: str = setting("HEADCOUNT_KEK", "", "the key-encryption key: 32 bytes in base64")
    kek_file: str = setting("HEADCOUNT_KEK_FILE", "", "or a file that holds it, readable by its owner alone")
    data: Path = setting("HEADCOUNT_DATA", Path("var/statistics"), "the directory of statistics.duckdb")
    group: str = setting("HEADCOUNT_GROUP", "headcount", "the consumer group of workers that run every hop")
    roles: str = setting("HEADCOUNT_ROLES", ",".join(HOPS), "the hops that a worker runs, each under its own principal")
    clock: Literal["wall", "replay"] = setting(
        "HEADCOUNT_CLOCK", "wall", "replay: windows close on the replayer's word"
    )
    since: str = setting("HEADCOUNT_SINCE", "", "of a replay: its first day; windows exist from here on")
    until: str = setting("HEADCOUNT_UNTIL", "", "of a replay: the first day after it")
    session_timeout: float = setting(
        "HEADCOUNT_SESSION_TIMEOUT", 30.0, "seconds until a silent worker's partitions are given away"
    )
    checkpoints: str = setting(
        "HEADCOUNT_CHECKPOINTS", "", "a directory for the open windows' sealed state; none when empty"
    )
    checkpoint_seconds: float = setting(
        "HEADCOUNT_CHECKPOINT_SECONDS", 60.0, "the least time between two checkpoints of a partition"
    )
    http: str = setting(
        "HEADCOUNT_HTTP", "", "host:port, or a port of 127.0.0.1, for /livez, /readyz and /metrics; off when empty"
    )
    log: Literal["text", "json"] = setting("HEADCOUNT_LOG", "text", "json: one object a line")
    snapshot_seconds: float = setting("HEADCOUNT_SNAPSHOT_SECONDS", 1.0, "the least time between two snapshots")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "Settings":
        """The settings of a process. Raises :class:`SettingsError` for a value that cannot be read."""
        given = os.environ if environment is None else environment
        types = get_type_hints(cls)
        values: dict[str, Any] = {}
        for each in fields_of(cls):
            name = each.metadata["name"]
            text = given.get(name)
            if not text:
                continue
            try:
                values[each.name] = types[each.name](text) if types[each.name] in (str, float, Path) else text
            except ValueError:
                raise SettingsError(f"{name} is not a number: {each.metadata['text']}") from None
        settings = cls(**values)
        for name, value, known in (
            ("HEADCOUNT_CLOCK", settings.clock, ("wall", "replay")),
            ("HEADCOUNT_LOG", settings.log, ("text", "json")),
            ("KAFKA_SECURITY_PROTOCOL", settings.security_protocol, _PROTOCOLS),
            ("KAFKA_SASL_MECHANISM", settings.sasl_mechanism, _MECHANISMS),
        ):
            if value not in known:
                raise SettingsError(f"{name} is one of {', '.join(known)}")
        if not settings.hops or set(settings.roles.split(",")) - set(HOPS):
            raise SettingsError(f"HEADCOUNT_ROLES are some of {', '.join(HOPS)}, with commas")
        return settings

    @property
    def hops(self) -> tuple[str, ...]:
        """The hops that this worker runs, in their order."""
        return tuple(hop for hop in HOPS if hop in self.roles.split(","))

    @property
    def consumer_group(self) -> str:
        """The group of the workers that run the same hops."""
        return group_of(self.group, self.hops)

    @property
    def password(self) -> str:
        """The password of the principal, from wherever it is kept."""
        if not self.sasl_password_file:
            return self.sasl_password
        try:
            return Path(self.sasl_password_file).read_text().strip()
        except OSError as error:
            raise SettingsError(f"KAFKA_SASL_PASSWORD_FILE cannot be read ({type(error).__name__})") from None

    @property
    def span(self) -> Span:
        """The days that a replay declares, as ordinals: the first, and the first after."""
        try:
            since, until = (day_of(date.fromisoformat(day)) if day else None for day in (self.since, self.until))
        except ValueError:
            raise SettingsError("HEADCOUNT_SINCE and HEADCOUNT_UNTIL are dates such as 2026-05-01") from None
        return since, until

    def kafka(self) -> dict[str, Any]:
        """The connection as keyword arguments of kafka-python, for every client that is not Faust's."""
        settings: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap_servers.split(","),
            "security_protocol": self.security_protocol,
        }
        if "SASL" in self.security_protocol:
            settings |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.sasl_username,
                "sasl_plain_password": self.password,
            }
        if "SSL" in self.security_protocol:
            tls = {
                "ssl_cafile": self.ssl_cafile,
                "ssl_certfile": self.ssl_certfile,
                "ssl_keyfile": self.ssl_keyfile,
            }
            settings |= {name: value for name, value in tls.items() if value}
        return settings


def group_of(group: str, hops: Sequence[str]) -> str:
    """The consumer group of workers that run these hops: members of one group read the same topics.

    >>> group_of("headcount", HOPS), group_of("headcount", ["ingest"])
    ('headcount', 'headcount-ingest')
    """
    return group if len(hops) == len(HOPS) else "-".join([group, *hops])
