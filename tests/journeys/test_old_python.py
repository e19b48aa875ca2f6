"""`make` on systems whose `python3` is too old, has no venv module or is missing, with stand-ins on an own PATH."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("sh", "make", "basename", "cp", "dirname", "echo", "ln", "mkdir", "mktemp", "rm", "tail", "touch", "tr")
TOO_OLD = "python3 is Python 3.10 and 3.11 or newer is needed"

PYTHON = """#!/bin/sh
case "$*" in
  *version_info*3,*) exit {too_old} ;;
  *version_info*) echo {version} ;;
  -c*import*venv*) exit {no_venv} ;;
  -c*import*pip*) exit {no_pip} ;;
  "-m venv"*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && echo "$(basename "$0") -m venv" >> {log} ;;
  "-m pip install"*)
    echo "pip install" >> {log}
    [ {offline} = 0 ] || {{ echo "ERROR: No matching distribution found for uv" >&2; exit 1; }}
    to=${{0%/python}}
    while [ $# -gt 0 ]; do [ "$1" != --target ] || to=$2/bin; shift; done
    mkdir -p "$to" && cp {folder}/uv.stand-in "$to/uv" ;;
esac
"""

UV = """#!/bin/sh
echo "uv $*" >> {log}
case $1 in
  venv)
    [ {offline} = 0 ] || {{ echo "error: no internet" >&2; exit 2; }}
    for folder; do :; done
    mkdir -p "$folder/bin" && cp {folder}/python.stand-in "$folder/bin/python" ;;
  pip)
    case "$*" in *"constraints.txt uv") cp -f {folder}/uv.stand-in {environment}/bin/uv ;; esac ;;
esac
"""


class System:
    """A PATH with the usual tools and stand-ins for Python and uv, which write their calls to a log."""

    def __init__(self, folder: Path, offline: bool = False) -> None:
        self.folder, self.log, self.offline = folder / "bin", folder / "calls.log", int(offline)
        self.environment = folder / "environment"
        self.folder.mkdir()
        for tool in TOOLS:
            (self.folder / tool).symlink_to(shutil.which(tool) or pytest.fail(f"{tool} is missing"))
        self.write("uv.stand-in", UV, environment=self.environment)
        self.python("python.stand-in", "3.12")

    def write(self, name: str, text: str, **values: object) -> None:
        path = self.folder / name
        path.write_text(text.format(log=self.log, folder=self.folder, offline=self.offline, **values))
        path.chmod(0o755)

    def python(self, name: str = "python3", version: str = "3.10", venv: bool = True, pip: bool = True) -> None:
        too_old = int(version.split(".")[1]) < 11
        self.write(name, PYTHON, version=version, too_old=int(too_old), no_venv=int(not venv), no_pip=int(not pip))

    def setup(self) -> subprocess.CompletedProcess[str]:
        command = ["make", "-C", str(ROOT), "setup", f"VENV={self.environment}"]
        variables = {"PATH": str(self.folder)}
        return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60)

    @property
    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


def lines(result: subprocess.CompletedProcess[str]) -> list[str]:
    """Return what was printed to standard error but for make's own last line."""
    return [line for line in result.stderr.splitlines() if not line.startswith("make")]


@pytest.mark.parametrize("venv", [True, False])
def test_an_older_python_installs_uv_which_provides_a_newer_one(venv: bool, tmp_path: Path) -> None:
    """Ubuntu 22.04 and JetPack 6 with python3-venv, or with pip alone."""
    system = System(tmp_path)
    system.python(venv=venv, pip=not venv)
    result = system.setup()
    assert result.returncode == 0, result.stderr
    assert lines(result) == [f"setup: {TOO_OLD}: uv provides Python 3.12"]
    assert "pip install" in system.calls
    assert f"uv venv --quiet --allow-existing --python 3.12 {system.environment}" in system.calls
    assert (
        system.calls[-1].endswith("-e runtime -e export -e .[dev,weights,yolo]")
        and (system.environment / ".ready").exists()
    )


def test_an_installed_uv_is_enough(tmp_path: Path) -> None:
    system = System(tmp_path)
    shutil.copy(system.folder / "uv.stand-in", system.folder / "uv")
    result = system.setup()
    assert result.returncode == 0 and lines(result) == ["setup: there is no python3 here: uv provides Python 3.12"]


def test_a_newer_python_on_the_path_is_taken(tmp_path: Path) -> None:
    system = System(tmp_path)
    system.python()
    system.python("python3.12", "3.12")
    result = system.setup()
    assert result.returncode == 0 and lines(result) == [
        "setup: python3 is older than 3.11 or missing: taking python3.12"
    ]
    assert system.calls[:2] == ["python3.12 -m venv", "pip install"]


@pytest.mark.parametrize("version", ["3.11", "3.12"])
def test_an_ordinary_python_is_used_as_it_is(version: str, tmp_path: Path) -> None:
    system = System(tmp_path)
    system.python(version=version)
    for _ in range(2):  # the second time the environment is there
        result = system.setup()
        assert result.returncode == 0 and not lines(result)
    assert system.calls[:2] == ["python3 -m venv", "pip install"] and system.calls.count("python3 -m venv") == 1


def test_an_environment_of_an_older_python_is_replaced(tmp_path: Path) -> None:
    system = System(tmp_path)
    system.python()
    (system.environment / "bin").mkdir(parents=True)
    (system.environment / "pyvenv.cfg").write_text("version = 3.10.12\n")
    (system.environment / "bin" / "pip3.10").touch()
    assert system.setup().returncode == 0
    assert not (system.environment / "bin" / "pip3.10").exists()


@pytest.mark.parametrize(
    ("version", "offline", "expected"),
    [
        (None, False, "there is no python3 here: apt install python3 python3-venv, or install uv, and try again"),
        (
            "3.10",
            False,
            f"{TOO_OLD}; with venv it can install uv, which brings one: apt install python3-venv, and try again",
        ),
        (
            "3.12",
            False,
            "python3 has no venv module, and no pip to install uv: apt install python3-venv, or install uv, ",
        ),
        (
            "3.10 venv",
            True,
            f"{TOO_OLD}, and pip cannot install uv, which brings one (ERROR: No matching distribution ",
        ),
        (
            "3.10 uv",
            True,
            f"{TOO_OLD}, and uv has none (error: no internet): install Python 3.11 with venv, or go online",
        ),
    ],
)
def test_one_line_where_no_python_can_be_had(version: str | None, offline: bool, expected: str, tmp_path: Path) -> None:
    system = System(tmp_path, offline)
    number, _, extra = (version or "").partition(" ")
    if number:
        system.python(version=number, venv=extra == "venv", pip=False)
    if extra == "uv":
        shutil.copy(system.folder / "uv.stand-in", system.folder / "uv")
    result = system.setup()
    errors = [line for line in lines(result) if "uv provides" not in line]
    assert result.returncode != 0 and len(errors) == 1 and errors[0].startswith(f"setup: {expected}"), result.stderr
    assert not (system.environment / ".ready").exists()
