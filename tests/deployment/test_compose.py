"""The compose file says what the code does, and gives nobody more than they need."""

import importlib.util
import json
import re
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pipeline.cli import main
from pipeline.settings import Settings
from tests.deployment.files import COMPOSE_FILE, ROOT, compose, mounts, ours, stages

MODEL = compose()
SERVICES: dict[str, dict[str, Any]] = MODEL["services"]
OURS = ours(MODEL)
LONG_RUNNING = [name for name, service in SERVICES.items() if service["restart"] == "unless-stopped"]

each_service = pytest.mark.parametrize("name", SERVICES)
each_of_ours = pytest.mark.parametrize("name", OURS)


def test_the_services_are_those_that_the_pipeline_needs() -> None:
    assert list(SERVICES) == ["kafka", "topics", "worker", "projector", "notebook"]
    assert LONG_RUNNING == ["kafka", "worker", "projector", "notebook"]


def test_docker_compose_finds_nothing_wrong_with_the_file() -> None:
    docker = shutil.which("docker")
    if not docker or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("there is no docker compose here: the file was checked by the other tests only")
    command = [docker, "compose", "--file", str(COMPOSE_FILE), "config", "--quiet"]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr) == (0, "")


# What the file says is what the code reads.


@each_of_ours
def test_every_variable_is_a_setting(name: str) -> None:
    assert set(OURS[name]["environment"]) <= {field.metadata["name"] for field in fields(Settings)}


@each_of_ours
def test_every_command_is_one(name: str) -> None:
    command = OURS[name].get("command")
    if command is None:
        assert OURS[name]["build"]["target"] == "notebook"
        return
    [entry] = [i.text for i in stages()["pipeline"] if i.name == "ENTRYPOINT"]
    assert json.loads(entry) == ["headcount"]
    assert CliRunner().invoke(main, [*command, "--help"]).exit_code == 0


@pytest.mark.parametrize("name", ["worker", "projector"])
def test_every_health_check_is_a_command(name: str) -> None:
    marker, program, *arguments = OURS[name]["healthcheck"]["test"]
    assert marker == "CMD"
    if program == "headcount":
        assert CliRunner().invoke(main, [*arguments, "--help"]).exit_code == 0
    else:
        assert (program, arguments[0]) == ("python", "-m")
        assert importlib.util.find_spec(arguments[1]) is not None


def test_jupyter_has_the_options_that_it_is_started_with() -> None:
    labapp = pytest.importorskip("jupyterlab.labapp", reason="JupyterLab is not installed")
    programs = {"LabApp": labapp.LabApp, "ServerApp": labapp.LabApp.serverapp_class}
    [command] = [i.text for i in stages()["notebook"] if i.name == "CMD"]
    options = re.findall(r"--(\w+)\.(\w+)=", " ".join(json.loads(command)))
    assert len(options) == 3
    for program, option in options:
        assert option in programs[program].class_trait_names()


@each_of_ours
def test_directories_are_volumes_and_declarations_are_those_of_the_repository(name: str) -> None:
    settings = OURS[name]["environment"]
    mounted = mounts(OURS[name])
    for directory in ("HEADCOUNT_KEYS", "HEADCOUNT_CHECKPOINTS", "HEADCOUNT_DATA"):
        if directory in settings:
            assert settings[directory] in mounted
            assert mounted[settings[directory]][0] in MODEL["volumes"]
    for setting in ("HEADCOUNT_FIELDS", "HEADCOUNT_STATISTICS", "HEADCOUNT_POLICY"):
        if setting in settings:
            path = Path(settings[setting])
            source, writable = mounted[str(path.parent)]
            assert (source, writable) == ("./schemas", False)
            assert (ROOT / source / path.name).is_file()


def test_the_images_know_the_same_directories() -> None:
    text = " ".join(i.text for i in stages()["pipeline"] if i.name in ("ENV", "RUN"))
    for service in OURS.values():
        for setting in ("HEADCOUNT_KEYS", "HEADCOUNT_DATA"):
            if setting in service["environment"]:
                assert f"{setting}={service['environment'][setting]} " in f"{text} "
                assert re.search(rf"install --directory .* {service['environment'][setting]}( |$)", text)


def test_what_workers_keep_on_disk_is_theirs_alone() -> None:
    runs = [run for i in stages()["pipeline"] if i.name == "RUN" for run in i.text.split(" && ")]
    for setting in ("HEADCOUNT_KEYS", "HEADCOUNT_CHECKPOINTS"):
        directory = OURS["worker"]["environment"][setting]
        assert f"install --directory --owner headcount --group headcount --mode 700 {directory}" in runs


def test_the_broker_makes_no_topic_by_itself_and_topics_are_declared_in_one_place() -> None:
    broker = SERVICES["kafka"]["environment"]
    assert broker["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    assert OURS["topics"]["command"] == ["topics"]
    assert not [name for name in broker if re.search("RETENTION|CLEANUP|NUM_PARTITIONS|TIMESTAMP|SEGMENT", name)]


def test_everyone_talks_to_the_listener_that_the_broker_advertises() -> None:
    advertised = SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    for service in OURS.values():
        if "KAFKA_BOOTSTRAP_SERVERS" in service["environment"]:
            assert f"INSIDE://{service['environment']['KAFKA_BOOTSTRAP_SERVERS']}" in advertised.split(",")
    assert f"HOST://{Settings().bootstrap_servers}" in advertised.split(",")


def test_things_start_in_the_order_in_which_they_need_one_another() -> None:
    after = {name: service.get("depends_on", {}) for name, service in SERVICES.items()}
    assert after["topics"] == {"kafka": {"condition": "service_healthy"}}
    for name in ("worker", "projector"):
        assert after[name]["topics"] == {"condition": "service_completed_successfully"}


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_what_runs_for_long_has_a_health_check(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"


def test_there_may_be_any_number_of_workers() -> None:
    assert not {"container_name", "ports", "hostname", "deploy"} & set(SERVICES["worker"])


# Nobody can do more than they need.


@each_service
def test_a_service_can_write_nothing_gain_nothing_and_is_nobody_in_particular(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"].split(":")[0] not in ("0", "root", "")
    assert service["ulimits"]["core"] == 0
    dangerous = {"privileged", "cap_add", "devices", "network_mode", "pid", "ipc", "userns_mode", "group_add"}
    assert not dangerous & set(service)


@each_service
def test_a_service_listens_on_the_loopback_address_of_the_host_only(name: str) -> None:
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in SERVICES[name].get("ports", []))


@each_service
def test_no_service_has_a_way_out(name: str) -> None:
    for network in SERVICES[name]["networks"]:
        declared = MODEL["networks"][network]
        options = declared.get("driver_opts", {})
        assert declared.get("internal") or options["com.docker.network.bridge.enable_ip_masquerade"] == "false"


@each_service
def test_nothing_of_the_host_is_mounted_but_declarations_and_notebooks_and_neither_can_be_written(name: str) -> None:
    from_host = [mount for mount in mounts(SERVICES[name]).values() if mount[0] not in MODEL["volumes"]]
    assert set(from_host) <= {("./schemas", False), ("./notebooks", False)}


@pytest.mark.parametrize(
    ("volume", "access"),
    [
        ("keys", {"worker": True}),
        ("checkpoints", {"worker": True}),
        ("statistics", {"projector": True, "notebook": False}),
        ("kafka", {"kafka": True}),
        ("notes", {"notebook": True}),
    ],
)
def test_a_volume_is_seen_by_those_who_need_it(volume: str, access: dict[str, bool]) -> None:
    seen = {
        name: writable
        for name, service in SERVICES.items()
        for source, writable in mounts(service).values()
        if source == volume
    }
    assert seen == access


def test_workers_alone_hold_the_key_encryption_key() -> None:
    assert [name for name, service in SERVICES.items() if "secrets" in service] == ["worker"]
    [secret] = OURS["worker"]["secrets"]
    assert OURS["worker"]["environment"]["HEADCOUNT_KEK_FILE"] == f"/run/secrets/{secret}"
    # As a file, and mounted as it is: a variable can be read by `docker inspect`.
    assert MODEL["secrets"][secret] == {"file": "./secrets/kek"}
    assert not [s for s in OURS.values() if "HEADCOUNT_KEK" in s["environment"]]


def test_analysts_cannot_reach_the_broker() -> None:
    assert not set(OURS["notebook"]["networks"]) & set(SERVICES["kafka"]["networks"])


def test_the_broker_may_run_the_libraries_that_java_unpacks() -> None:
    [options] = [each for each in SERVICES["kafka"]["tmpfs"] if each.startswith("/tmp")]  # noqa: S108
    assert "exec" in options.split(":")[1].split(",")


def test_the_user_is_the_one_for_whom_the_images_are_built() -> None:
    for model, uid in ((MODEL, "10001"), (compose(APP_UID="1234"), "1234")):
        for service in ours(model).values():
            assert service["user"] == f"{uid}:{uid}"
            assert service["build"]["args"]["APP_UID"] == uid


def test_the_other_images_are_pinned() -> None:
    for service in SERVICES.values():
        if "image" in service:
            assert re.fullmatch(r"apache/kafka:4\.\d+\.\d+", service["image"])
