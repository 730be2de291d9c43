"""Who may do what at the broker: access lists from the operations of the AsyncAPI document, and passwords for SCRAM.

Roles are the unit, principals hold them: one each, unless somebody lets one principal hold several. Whoever changes
lists and passwords is none of them, but the broker's administrator (``super.users``).
"""

import os
import secrets
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
    UserScramCredentialUpsertion,
)

from pipeline.asyncapi import OPERATIONS
from pipeline.settings import HOPS, SettingsError, group_of
from pipeline.stream.releaselog import TRANSACTIONAL_ID
from pipeline.stream.topics import TOPICS

ROLES: Final = ("application", "ingest", "tally", "release", "project", "analyst", "operator", "keeper")

_NEEDS = {"send": ACLOperation.WRITE, "receive": ACLOperation.READ}  # each lets describe, too


class Grant(NamedTuple):
    """One thing that a principal may do; nobody may do anything else."""

    principal: str
    operation: ACLOperation
    kind: ResourceType
    name: str


def principals_of(given: Iterable[str] = ()) -> dict[str, str]:
    """Role → principal: of the same name, but for those given as ``ROLE=NAME``."""
    found = {role: role for role in ROLES}
    for each in given:
        role, _, name = each.partition("=")
        if role not in found or not name:
            raise SettingsError(f"a principal is given as ROLE=NAME, where the role is one of {', '.join(ROLES)}")
        found[role] = name
    return found


def grants(principals: Mapping[str, str], group: str) -> set[Grant]:
    """All that the principals may do. ``group``: what the group is called of workers that run every hop."""
    found = {
        Grant(principals[each.role], _NEEDS[each.action], ResourceType.TOPIC, each.topic)
        for each in OPERATIONS
        if each.role in principals
    }
    groups = set()
    for principal in {principals[role] for role in HOPS}:
        held = group_of(group, [role for role in HOPS if principals[role] == principal])
        groups.add(held)
        found.add(Grant(principal, ACLOperation.READ, ResourceType.GROUP, held))
    releaser, operator = principals["release"], principals["operator"]
    found.add(Grant(releaser, ACLOperation.WRITE, ResourceType.TRANSACTIONAL_ID, TRANSACTIONAL_ID))
    found |= {Grant(operator, ACLOperation.DESCRIBE, ResourceType.TOPIC, topic.name) for topic in TOPICS}
    found |= {Grant(operator, ACLOperation.DESCRIBE, ResourceType.GROUP, held) for held in groups}
    return found


def allow(kafka: Mapping[str, Any], wanted: set[Grant]) -> tuple[set[Grant], set[Grant]]:
    """Makes the lists; gives what was added, and what the broker allows on the same resources besides."""
    with closing(KafkaAdminClient(**kafka)) as admin:
        found = _allowed(admin)
        added = wanted - found
        made = admin.create_acls([acl(grant) for grant in sorted(added)])
        for failed in made["failed"]:
            raise failed("the broker refused an access list")
    resources = {(grant.kind, grant.name) for grant in wanted}
    return added, {grant for grant in found - wanted if (grant.kind, grant.name) in resources or grant.name == "*"}


def set_passwords(kafka: Mapping[str, Any], principals: Iterable[str], directory: Path, mechanism: str) -> list[str]:
    """A password for each principal that has no file yet, set at the broker; files are their owner's alone."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = []
    with closing(KafkaAdminClient(**kafka)) as admin:
        for name in sorted(set(principals)):
            path = directory / name
            if path.exists():
                continue
            password = secrets.token_urlsafe(32)
            [error] = admin.alter_user_scram_credentials(
                [UserScramCredentialUpsertion(name, mechanism, password)]
            ).values()
            if error:
                raise SettingsError(f"the broker does not take a password for {name}: is {mechanism} switched on?")
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(password + "\n")
            made.append(name)
    return made


def acl(grant: Grant) -> ACL:
    """The grant as the broker knows it."""
    return ACL(
        f"User:{grant.principal}",
        "*",
        grant.operation,
        ACLPermissionType.ALLOW,
        ResourcePattern(grant.kind, grant.name),
    )


def _allowed(admin: Any) -> set[Grant]:
    everything = ResourcePatternFilter(ResourceType.ANY, None, ACLResourcePatternType.ANY)
    found, _ = admin.describe_acls(ACLFilter(None, None, ACLOperation.ANY, ACLPermissionType.ANY, everything))
    return {
        Grant(
            each.principal.removeprefix("User:"),
            each.operation,
            each.resource_pattern.resource_type,
            each.resource_pattern.resource_name,
        )
        for each in found
        if each.permission_type == ACLPermissionType.ALLOW
    }
