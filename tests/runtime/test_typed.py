"""What another program's type checker sees of the packages as they are installed."""

from __future__ import annotations

import os
import site
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CLIENT = '''
import asyncio
from collections.abc import Iterator

import numpy as np

from edgemtl_runtime import Boxes, Bundle, Camera, Event, Frame, FramePair, Pipeline, QueuePolicy, Recording, Result
from edgemtl_runtime import CameraError, Engine, open_selected_engine, open_cameras


class Mine:
    """The least that a camera is."""

    name, live = "rgb", True

    def frames(self) -> Iterator[Frame]:
        yield Frame(np.zeros((4, 4, 3), np.uint8), 0, self.name, 0)

    def close(self) -> None: ...


def told(event: Event) -> None: ...


def program(bundle: Bundle, engine: Engine) -> list[float]:
    mine: Camera = Mine()
    cameras: dict[str, Camera] = {"rgb": mine} | open_cameras({"ir": "pattern:"})
    policy = QueuePolicy("queue")
    with (
        open_selected_engine(bundle) as selected,
        Pipeline(bundle, selected, cameras, policy=policy, on_event=told) as pipeline,
    ):
        reveal_type(pipeline)
        found = pipeline.read(timeout_s=0.5)
        if found is None:
            return []
        reveal_type(found)
        boxes = found[1].heads["boxes"]
        assert isinstance(boxes, Boxes)
        return [float(score) for score in boxes.scores]


async def asynchronous(pipeline: Pipeline, recording: Recording) -> None:
    async for pair, result in pipeline:
        reveal_type(result)
    for each in recording:
        reveal_type(each)
'''
WRONG = "from edgemtl_runtime import Bundle\nBundle.open(3)\nBundle.opened('x')\n"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages as a wheel puts them there, beside those that are here."""
    room = tmp_path_factory.mktemp("installed")
    for name in ("runtime", "export"):
        words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(room)]
        subprocess.run(words, cwd=ROOT / name, check=True, capture_output=True, timeout=120)
    packages = room / "lib"
    for wheel in room.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(packages)
    return packages


@pytest.mark.parametrize("package", ["edgemtl_runtime", "edgemtl_export"])
def test_wheels_say_that_they_are_typed(installed: Path, package: str) -> None:
    assert (installed / package / "py.typed").is_file()


@pytest.mark.slow
def test_a_strict_program_against_the_installed_wheel(installed: Path, tmp_path: Path) -> None:
    """An interpreter of its own that has the wheel's packages, and numpy and msgspec from here."""
    words = [sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")]
    subprocess.run(words, check=True, capture_output=True, timeout=60)
    (place,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    for name in ("numpy", "msgspec"):
        (place / name).symlink_to(Path(site.getsitepackages()[0]) / name)
    (place / "edgemtl_runtime").symlink_to(installed / "edgemtl_runtime")
    for name, text in (("client", CLIENT), ("wrong", WRONG)):
        (tmp_path / f"{name}.py").write_text(text)
    words = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={tmp_path / 'cache'}"]
    words += ["--python-executable", str(tmp_path / "venv" / "bin" / "python"), "client.py", "wrong.py"]
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300, env=env)
    notes = [line.partition('type is "')[2].rstrip('"') for line in done.stdout.splitlines() if "type is" in line]
    pair, result = "edgemtl_runtime.frame.FramePair", "edgemtl_runtime.result.Result"
    assert notes == ["edgemtl_runtime.pipeline.Pipeline", f"tuple[{pair}, {result}]", result, pair], done.stdout
    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert len(errors) == 2 and all(line.startswith("wrong.py") for line in errors), done.stdout
