"""The runtime's command line, as a robot's owner meets it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest
from conftest import write_frames

RUN = [sys.executable, "-m", "edgemtl_runtime.cli", "run"]


def run(*words: object, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    return subprocess.run([*RUN, *map(str, words)], capture_output=True, text=True, timeout=timeout, env=environment)


def test_a_table_for_people_and_json_for_programs(toy_bundle: Path) -> None:
    pattern = "pattern:?fps=0&frames=20"
    people = run(toy_bundle, "--rgb", pattern, "--ir", pattern)
    assert people.returncode == 0 and "pairs    20" in people.stdout and "infer" in people.stdout
    report = json.loads(run(toy_bundle, "--rgb", pattern, "--ir", pattern, "--json").stdout)
    assert report["pairs"] == 20 and set(report["latency_ms"]["infer"]) == {"p50", "p90", "p99", "max"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_with_complete_files(toy_bundle: Path, tmp_path: Path, number: int) -> None:
    jsonl, video = tmp_path / "o.jsonl", tmp_path / "o.mp4"
    words = [toy_bundle, "--rgb", "pattern:", "--ir", "pattern:", "--jsonl", jsonl, "--video", video, "--json"]
    process = subprocess.Popen([*RUN, *map(str, words)], stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and (not jsonl.exists() or jsonl.read_bytes().count(b"\n") < 10):
        time.sleep(0.05)
    process.send_signal(number)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    pairs = json.loads(out)["pairs"]
    assert pairs >= 10 and len([json.loads(line) for line in jsonl.read_text().splitlines()]) == pairs
    reader, shown = cv2.VideoCapture(str(video)), 0
    while reader.read()[0]:  # the property of that name is an estimate where a rate varies
        shown += 1
    assert shown == pairs


def test_bad_input_is_one_line_and_exit_code_2(toy_bundle: Path, tmp_path: Path) -> None:
    write_frames(tmp_path / "one", 3)
    cases = {
        "no bundle here": [tmp_path / "nothing", "--rgb", "pattern:", "--ir", "pattern:"],
        "needs --ir": [toy_bundle, "--rgb", "pattern:"],
        "no such folder": [toy_bundle, "--rgb", "nowhere", "--ir", "pattern:"],
        "end the name in": [toy_bundle, "--rgb", "pattern:", "--ir", "pattern:", "--video", tmp_path / "o.gif"],
        "cannot be written": [toy_bundle, "--rgb", "pattern:", "--ir", "pattern:", "--jsonl", "/proc/no/o.jsonl"],
        "no screen here": [toy_bundle, "--rgb", "pattern:", "--ir", "pattern:", "--show"],
        "tolerance": [toy_bundle, "--rgb", "pattern:", "--ir", "pattern:", "--tolerance-ms", "0"],
    }
    for expected, words in cases.items():
        result = run(*words)
        assert result.returncode == 2, (expected, result)
        assert expected in result.stderr and result.stderr.count("\n") == 1, result.stderr
        assert result.stdout == ""


def test_streams_that_never_meet_are_reported(toy_bundle: Path, tmp_path: Path) -> None:
    result = run(toy_bundle, "--rgb", "pattern:?fps=0&frames=1", "--ir", write_frames(tmp_path / "f", 1, channels=1))
    assert result.returncode == 0  # one frame each, of one epoch: a pair
    late = run(
        toy_bundle, "--rgb", "pattern:?fps=3&frames=2", "--ir", "pattern:?fps=2&frames=2", "--tolerance-ms", "0.001"
    )
    assert late.returncode in (0, 2)


def test_importing_the_runtime_brings_no_torch_and_little_else() -> None:
    code = (
        "import sys; import edgemtl_runtime.pipeline, edgemtl_runtime.cli;"
        "print([m for m in ('torch', 'cv2', 'onnxruntime', 'ultralytics', 'onnx') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
