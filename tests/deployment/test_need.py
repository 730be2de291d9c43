"""Java and Maven are installed where they may be, and where not it is said what to do."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

NEED = Path(__file__).parent / "kafka" / "need.sh"
JAVA = """#!/bin/sh
echo 'openjdk version "{}"' >&2
"""
NOTHING = "#!/bin/sh\n"
# What gets a package is a script of this directory, and so is what it installs.
APT = """#!/bin/sh
[ "$1" = install ] || exit 0
for package; do case $package in
  {java}) printf '#!/bin/sh\\necho "version \\\\"17.0.9\\\\"" >&2\\n' > {bin}/java; chmod +x {bin}/java;;
  maven) echo '#!/bin/sh' > {bin}/mvn; chmod +x {bin}/mvn;;
  *-headless) exit 100;;
esac; done
"""


class Machine:
    """A machine that has a shell, and what a test gives it."""

    def __init__(self, directory: Path) -> None:
        self.bin = directory
        for name in ("sh", "grep", "chmod"):
            (directory / name).symlink_to(shutil.which(name) or "")
        self.give("id", "#!/bin/sh\necho 0\n")

    def give(self, name: str, script: str) -> None:
        (self.bin / name).write_text(script)
        (self.bin / name).chmod(0o755)

    def run(self) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PATH": str(self.bin)}
        return subprocess.run(
            ["/bin/sh", str(NEED)], env=environment, capture_output=True, text=True, check=False, timeout=30
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize("version", ["17.0.9", "21.0.1", "25"])
def test_where_both_are_there_nothing_is_done(machine: Machine, version: str) -> None:
    machine.give("java", JAVA.format(version))
    machine.give("mvn", NOTHING)
    done = machine.run()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("package", ["openjdk-17-jre-headless", "default-jre-headless"])
def test_what_is_missing_is_installed_under_the_name_that_the_system_has_for_it(machine: Machine, package: str) -> None:
    machine.give("apt-get", APT.format(java=package, bin=machine.bin))
    done = machine.run()
    assert done.returncode == 0
    assert (machine.bin / "java").exists()
    assert (machine.bin / "mvn").exists()


@pytest.mark.parametrize("installer", [None, "#!/bin/sh\nexit 100\n", NOTHING])
def test_what_cannot_be_installed_is_said_with_what_to_do(machine: Machine, installer: str | None) -> None:
    if installer is not None:
        machine.give("apt-get", installer)
    machine.give("java", JAVA.format("11.0.2"))
    done = machine.run()
    assert done.returncode == 1
    assert "needs Java 17 or later and Maven, which could not be installed here" in done.stderr
    assert "apt-get install openjdk-17-jre-headless maven" in done.stderr
    assert "KAFKA_BOOTSTRAP_SERVERS=host:9092 make test-kafka" in done.stderr


def test_only_what_is_missing_is_named(machine: Machine) -> None:
    machine.give("java", JAVA.format("17.0.9"))
    assert "needs Maven, which" in machine.run().stderr
