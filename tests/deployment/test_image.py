"""The images hold what they need, pinned, and run as nobody in particular."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deployment.files import ROOT, compose, ours, stages

STAGES = stages()
FINAL = ("pipeline", "notebook")


def ignored(path: str) -> bool:
    """Whether the build does not see the path. The last pattern that fits counts, ``!`` brings back."""
    outcome = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        if not pattern or pattern.startswith("#"):
            continue
        parts = [part for part in (path, *map(str, Path(path).parents)) if part != "."]
        if any(Path(part).match(pattern.removeprefix("**/")) for part in parts):
            outcome = not line.startswith("!")
    return outcome


def test_the_targets_of_the_compose_file_are_the_final_stages() -> None:
    assert {service["build"]["target"] for service in ours(compose()).values()} == set(FINAL)


@pytest.mark.parametrize("stage", FINAL)
def test_an_image_runs_as_another_than_root(stage: str) -> None:
    assert [i.text for i in STAGES[stage] if i.name == "USER"][-1] == "headcount"
    assert any('useradd --uid "$APP_UID"' in i.text for i in STAGES[stage])


@pytest.mark.parametrize("stage", FINAL)
def test_an_image_gets_its_packages_from_another_stage_and_has_no_installer_itself(stage: str) -> None:
    runs = " ".join(i.text for i in STAGES[stage] if i.name == "RUN")
    assert not re.search(r"pip install|apt-get|gcc|curl|wget", runs)
    assert re.search(r"pip uninstall .* pip( |$)", runs)
    copies = [i.text for i in STAGES[stage] if i.name == "COPY"]
    assert copies == [f"--from=built-{stage} /opt/headcount /opt/headcount"]


def test_every_package_is_checked_against_its_hash() -> None:
    installs = [run for stage in STAGES.values() for i in stage if i.name == "RUN" for run in i.text.split(" && ")]
    for run in installs:
        if re.search(r"\binstall\b.*-r ", run):
            assert "--require-hashes" in run
        elif "pip" in run and re.search(r"\binstall\b", run):
            assert {"--no-deps", "--no-index", "--no-build-isolation"} <= set(run.split())


def test_the_python_images_are_pinned_and_of_one_version() -> None:
    images = re.findall(r"^FROM (python:\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    versions = {re.fullmatch(r"python:(3\.11\.\d+)-(?:slim-)?bookworm", image)[1] for image in images}  # type: ignore[index]
    assert len(images) == 2
    assert len(versions) == 1


def test_what_is_copied_is_there_and_is_not_ignored() -> None:
    for stage in STAGES.values():
        for instruction in stage:
            if instruction.name == "COPY" and "--from" not in instruction.text:
                for source in instruction.text.split()[:-1]:
                    assert (ROOT / source).exists(), source
                    assert not ignored(source), source


@pytest.mark.parametrize(
    "path", ["secrets/kek", ".env", ".git/config", "var/keys/route.key", "pipeline/__pycache__/cli.pyc", "tests/x.py"]
)
def test_what_an_image_does_not_need_never_gets_to_the_engine(path: str) -> None:
    assert ignored(path)


@pytest.mark.parametrize("path", ["secrets/kek", ".env"])
def test_a_key_cannot_be_committed_by_mistake(path: str) -> None:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("this is no git repository")
    command = [git, "check-ignore", "--quiet", "--no-index", path]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0, f"{path} belongs in .gitignore"
