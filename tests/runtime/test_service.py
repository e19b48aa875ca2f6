"""The shipped unit: its command line as it stands, killed, started again and stopped as systemd does it."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from mcap.reader import make_reader
from processes import wait_for

from edgemtl_runtime.rig import CameraModel, Rig
from edgemtl_runtime.sink import CLOSE_S

pytestmark = pytest.mark.realtime

UNIT = Path(__file__).parents[2] / "docs" / "edgemtl.service"
PROGRAM = "/home/robot/edgemtl/bin/edgemtl-runtime"
HANGING = """
import sys, threading
import edgemtl_runtime.sink
import edgemtl_runtime.sink.ros2 as ros2
from edgemtl_runtime.cli import main

class Ros2:
    name, on_main_thread = "ros2", False
    def __init__(self, *given, **named): pass
    def write(self, pair, result): threading.Event().wait()
    def close(self): pass

ros2.Ros2 = Ros2
edgemtl_runtime.sink.CLOSE_S = 2.0
sys.exit(main())
"""


def unit() -> dict[str, str]:
    """Return the unit's settings."""
    text = re.sub(r"\\\n\s*", " ", UNIT.read_text())

    parser = configparser.RawConfigParser(comment_prefixes=("#", ";"))
    parser.optionxform = str  # type: ignore[assignment]
    parser.read_string(text)
    return {key: value for part in parser.sections() for key, value in parser.items(part)}


class Supervisor:
    """Does what systemd does with the unit: the folder of its state, restarts, and how it is stopped."""

    def __init__(self, state: Path, bundle: Path, program: list[str], extra: tuple[str, ...] = ()) -> None:
        self.unit, self.state = unit(), state
        rig = state.parent / "rig.yaml"
        plain = {n: CameraModel(n, 320, 240, np.zeros((3, 3)), np.zeros(5)) for n in ("rgb", "ir")}
        Rig(plain, homography_rgb_to_ir=np.eye(3)).save(rig)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        replacements = {
            "/home/robot/bundle": str(bundle),
            "/home/robot/rig.yaml": str(rig),
            "csi://0": "pattern:?fps=20",
            "v4l2:///dev/video1?format=Y16": "pattern:?fps=20",
            "127.0.0.1:8080": f"127.0.0.1:{self.port}",
        }
        first, *words = [word.replace("$$", "$") for word in shlex.split(self.unit["ExecStart"])]
        assert first == PROGRAM and all(word in words for word in replacements)
        self.words = [*program, *(replacements.get(word, word) for word in words), *extra]
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> subprocess.Popen[str]:
        """Start the command in the folder of its state."""
        environment = os.environ | dict(word.split("=", 1) for word in self.unit["Environment"].split())
        self.process = subprocess.Popen(
            self.words, cwd=self.state, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        return self.process

    def crash(self) -> None:
        """Kill it, and start it again after the time that the unit gives."""
        assert self.process is not None and self.unit["Restart"] == "on-failure"
        self.process.kill()
        self.process.communicate()
        assert self.process.returncode == -signal.SIGKILL
        time.sleep(0.1 * float(self.unit["RestartSec"]))  # a tenth of it
        self.start()

    def stop(self) -> tuple[int, str, str]:
        """Stop it by the unit's signal, within the unit's time: without a kill."""
        assert self.process is not None
        self.process.send_signal(signal.Signals[self.unit["KillSignal"]])
        out, error = self.process.communicate(timeout=float(self.unit["TimeoutStopSec"]))
        return self.process.returncode, out, error

    def has_written(self, count: int, seconds: float = 20) -> None:
        """Wait until so many more lines are written."""
        expected = self.lines() + count
        assert self.process is not None
        wait_for(lambda: self.lines() >= expected, self.process, seconds)

    def lines(self) -> int:
        """Count the lines of all files."""
        try:
            return sum(file.read_bytes().count(b"\n") for file in self.state.glob("*.jsonl"))
        except FileNotFoundError:  # finished under its own name in between: look again
            return self.lines()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The unit's StateDirectory, which is its working directory."""
    name = unit()["StateDirectory"]
    assert unit()["WorkingDirectory"] == f"/var/lib/{name}"
    (tmp_path / name).mkdir()
    return tmp_path / name


def results(file: Path) -> int:
    """Return how many results a complete MCAP file has."""
    with file.open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        assert reader.get_summary() is not None
        return sum(channel.topic == "/result" for _, channel, _ in reader.iter_messages())


def test_kills_restarts_and_a_stop_lose_nothing_that_was_written(toy_bundle: Path, state: Path) -> None:
    service = Supervisor(state, toy_bundle, [sys.executable, "-m", "edgemtl_runtime.cli"])
    service.start()
    service.has_written(30)
    written: dict[Path, bytes] = {}
    for _ in range(2):
        service.crash()
        for file, content in written.items():  # as long as it was, and the same
            assert file.read_bytes() == content
        service.has_written(30)
        finished = sorted(state.glob("*.mcap")) + sorted(state.glob("*.jsonl"))[:-1]
        written |= {file: file.read_bytes() for file in finished}
    code, out, error = service.stop()
    assert code == 0 and "pairs" in out and error.count("recovered") == 1, error
    lines, recordings = sorted(state.glob("*.jsonl")), sorted(state.glob("*.mcap"))
    assert len(lines) == len(recordings) == 3 and not list(state.glob(".*"))
    for file, recording in zip(lines, recordings, strict=True):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        assert len(rows) >= 29 and len(rows) - 25 <= results(recording) <= len(rows) + 1
    assert len(rows) == results(recording)  # of the one that was stopped


def test_a_stop_with_a_sink_that_hangs_needs_no_kill(toy_bundle: Path, state: Path) -> None:
    service = Supervisor(state, toy_bundle, [sys.executable, "-c", HANGING], ("--ros2",))
    service.start()
    service.has_written(30)
    begin = time.monotonic()
    code, out, error = service.stop()
    assert time.monotonic() - begin < float(service.unit["TimeoutStopSec"]) / 2 - (CLOSE_S - 2)
    assert "sink ros2: did not end within 2 s" in error and "pairs" in out and code == 0  # --on-error degrade
    (recording,), (lines,) = state.glob("*.mcap"), state.glob("*.jsonl")
    assert results(recording) == len([json.loads(line) for line in lines.read_text().splitlines()]) > 25


def test_the_unit_has_what_the_program_needs() -> None:
    settings = unit()
    assert float(settings["TimeoutStopSec"]) >= 2 * CLOSE_S and settings["KillSignal"] == "SIGTERM"
    for hidden in ("PrivateTmp", "PrivateDevices", "ProtectClock"):  # Argus's socket, the cameras
        assert hidden not in settings
    assert settings["EnvironmentFile"] == "-/etc/edgemtl/secrets" and "token" not in settings["ExecStart"]
    assert {"--split-s", "--keep-mb", "--wait-for-cameras"} <= set(settings["ExecStart"].split())


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    text = UNIT.read_text()
    assert text.count(PROGRAM) == 1
    (tmp_path / UNIT.name).write_text(text.replace(PROGRAM, "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", str(tmp_path / UNIT.name)], capture_output=True, text=True)
    assert done.returncode == 0 and UNIT.name not in done.stderr, done.stderr
