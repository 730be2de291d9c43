"""docker-compose.secure.yml: each role has a container, a principal and a password of its own."""

import shutil
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate

from pipeline.cli import main
from pipeline.settings import HOPS, Settings
from pipeline.stream.acls import ROLES
from tests.deployment.files import ROOT, compose, mounts

OVERLAY = ROOT / "docker-compose.secure.yml"
TEXT = OVERLAY.read_text()
SERVICES: dict[str, dict[str, Any]] = compose(OVERLAY)["services"]
PRINCIPALS = {"ingest": "ingest", "tally": "tally", "release": "release", "projector": "project"}


def test_the_head_of_the_file_names_every_principal() -> None:
    head = TEXT[: TEXT.index("x-principal")]
    assert ", ".join(ROLES) in head
    assert [role for role in ROLES if f"#   {role} " not in head] == []


@pytest.mark.parametrize("service", PRINCIPALS)
def test_a_service_has_one_principal_one_password_and_no_certificate_of_an_administrator(service: str) -> None:
    declared, principal = SERVICES[service], PRINCIPALS[service]
    environment = declared["environment"]
    assert environment["KAFKA_SECURITY_PROTOCOL"] == "SASL_SSL"
    assert environment["KAFKA_SASL_USERNAME"] == principal
    assert environment["KAFKA_SASL_PASSWORD_FILE"] == f"/run/passwords/{principal}"
    assert declared["volumes"] == [f"./secrets/passwords/{principal}:/run/passwords/{principal}:ro"]
    assert set(declared["secrets"]) <= {"kek", "ca.pem"}


def test_hops_run_apart_and_never_together() -> None:
    assert SERVICES["worker"]["scale"] == 0
    for hop in HOPS:
        declared = SERVICES[hop]
        assert declared["extends"] == {"file": "docker-compose.yml", "service": "worker"}
        assert declared["command"] == ["worker", "--roles", hop]


def laid_over(service: str) -> dict[str, Any]:
    """A service with what it extends: variables by their names, volumes by their targets, secrets as one list."""
    own, base = SERVICES[service], compose()["services"][SERVICES[service]["extends"]["service"]]
    joined = {name: base[name] + own.get(name, []) for name in ("volumes", "secrets")}
    return {**base, **own, **joined, "environment": {**base["environment"], **own["environment"]}}


@pytest.mark.parametrize("hop", HOPS)
def test_hops_that_run_apart_share_keys_and_the_tally_has_checkpoints_which_are_sealed_under_them(hop: str) -> None:
    declared, volumes = laid_over(hop), compose()["volumes"]
    for setting, volume in (("HEADCOUNT_KEYS", "keys"), ("HEADCOUNT_CHECKPOINTS", "checkpoints")):
        assert mounts(declared)[declared["environment"][setting]] == (volume, True)
        assert volume in volumes
    assert declared["environment"]["HEADCOUNT_KEK_FILE"] == "/run/secrets/kek"
    assert "kek" in declared["secrets"]


@pytest.mark.parametrize("service", [name for name in SERVICES if name not in ("kafka", "worker")])
def test_every_variable_is_a_setting_and_every_command_is_one(service: str) -> None:
    known = {field.metadata["name"] for field in fields(Settings)}
    assert set(SERVICES[service]["environment"]) <= known
    if command := SERVICES[service].get("command"):
        assert CliRunner().invoke(main, [command[0], "--help"]).exit_code == 0


def test_no_listener_lets_anyone_in_who_does_not_say_who_it_is() -> None:
    broker = SERVICES["kafka"]["environment"]
    protocols = dict(each.split(":") for each in broker["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(","))
    for listener, protocol in protocols.items():
        asks = broker.get(f"KAFKA_LISTENER_NAME_{listener}_SSL_CLIENT_AUTH") == "required"
        assert protocol == "SASL_SSL" or (protocol == "SSL" and asks), listener
    assert "KAFKA_ALLOW_EVERYONE_IF_NO_ACL_FOUND" not in broker
    assert broker["KAFKA_AUTHORIZER_CLASS_NAME"].endswith(".StandardAuthorizer")


def test_the_documented_commands_make_the_files_that_the_broker_takes(tmp_path: Path) -> None:
    if not shutil.which("openssl"):
        pytest.skip("there is no openssl here")
    page = (ROOT / "docs" / "operators.md").read_text()
    [block] = [each for each in page.split("```") if "openssl" in each]
    lines = [line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ ")]
    script = "\n".join(line.split(" && sudo")[0] for line in lines)
    (tmp_path / "secrets").mkdir()
    subprocess.run(["/bin/sh", "-ec", script], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    authority = load_pem_x509_certificate((tmp_path / "secrets" / "ca.pem").read_bytes())
    for file, name in (("broker.pem", "CN=kafka"), ("admin.pem", "CN=headcount-admin")):
        pem = (tmp_path / "secrets" / file).read_bytes()
        assert pem.startswith(b"-----BEGIN PRIVATE KEY-----")  # PKCS #8, the one form that the broker reads
        load_pem_private_key(pem, None)
        certificate = load_pem_x509_certificate(pem[pem.index(b"-----BEGIN CERT") :])
        certificate.verify_directly_issued_by(authority)
        assert certificate.subject.rfc4514_string() == name
