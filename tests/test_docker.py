"""The Dockerfiles, which no Docker has built here: what they copy is there, and what they install is what we need."""

from __future__ import annotations

import fnmatch
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tomllib

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "docker").glob("*Dockerfile"))


def instructions(file: Path) -> list[tuple[str, str]]:
    """Return a Dockerfile's instructions and their arguments, continued lines joined."""
    lines = [line for line in file.read_text().replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
    return [(word, " ".join(rest.split())) for word, _, rest in (line.partition(" ") for line in lines)]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_what_is_copied_is_there_and_not_ignored(file: Path) -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    for word, rest in instructions(file):
        if word != "COPY" or rest.startswith("--from"):
            continue
        *sources, _ = rest.split()
        for source in sources:
            assert (ROOT / source).exists(), source
            assert not any(fnmatch.fnmatch(source, pattern) for pattern in ignored)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_an_image_runs_as_nobody_special_and_begins_with_our_program(file: Path) -> None:
    words = dict(instructions(file))
    assert words["USER"] == "robot" and words["ENTRYPOINT"] == '["edgemtl-runtime"]' and words["CMD"] == '["doctor"]'
    assert not re.search(r"FROM \S+\.\S+/", file.read_text())  # of no registry but the builder's own


def test_windowless_requirements_are_the_extras_of_the_runtime() -> None:
    spec = importlib.util.spec_from_file_location("docker_requirements", ROOT / "docker" / "requirements.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    project = tomllib.loads((ROOT / "runtime" / "pyproject.toml").read_text())["project"]
    lines = module.requirements(project, ["live", "zenoh", "sign"])
    names = {re.match(r"[\w.-]+", line)[0] for line in lines}  # type: ignore[index]
    assert {"numpy", "msgspec", "onnxruntime", "opencv-python-headless", "av", "uvicorn", "eclipse-zenoh"} <= names
    assert "opencv-python" not in names and not any("edgemtl" in name for name in names)
    command = [sys.executable, "docker/requirements.py", "live", "zenoh", "sign"]
    assert (
        subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")[:-1] == lines
    )
