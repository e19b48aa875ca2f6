"""Recordings of killed, silent and concurrent programs."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from pathlib import Path

import pytest
from processes import wait_for
from recorders import COMMAND, KINDS, LIVE, count_of, feed

from edgemtl_runtime.camera.mcap import topics
from edgemtl_runtime.sink.mcap import McapFile

pytestmark = pytest.mark.realtime


def started(words: list[str], folder: Path, pattern: str) -> subprocess.Popen[str]:
    """Start a command and return it once a file has content."""
    process = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: any(file.stat().st_size for file in folder.glob(pattern)), process)
    return process


@pytest.mark.slow
def test_kills_at_any_time_lose_no_more_than_a_second(toy_bundle: Path, tmp_path: Path) -> None:
    """Every start recovers what the one before left; at the end all is there but a second of each."""
    names = {kind: tmp_path / f"r.{ending}" for kind, ending in KINDS.items()}
    words = ["run", str(toy_bundle), *LIVE, *(w for kind, name in names.items() for w in (f"--{kind}", str(name)))]
    rng = random.Random(0)
    for _ in range(3):
        before = set(tmp_path.glob("[!.]*.jsonl"))
        process = started(words, tmp_path, "*.jsonl")
        # a file has its name from the first result on
        wait_for(lambda before=before: set(tmp_path.glob("[!.]*.jsonl")) != before, process)  # type: ignore[misc]
        time.sleep(1.5 + rng.random())
        process.kill()
        process.communicate()
    cameras = ["--rgb", "pattern:?fps=0&frames=2", "--ir", "pattern:?fps=0&frames=2"]
    last = subprocess.run([*COMMAND, *words[:2], *cameras, *words[6:], "--json"], capture_output=True, text=True)
    assert last.returncode == 0 and last.stderr.count("recovered") == 2, last.stderr
    recovered = {r["sink"]: r["recovered"] for r in json.loads(last.stdout)["recordings"]}
    assert len(recovered["mcap"]) == len(recovered["video"]) == 1 and not recovered["jsonl"]
    assert not list(tmp_path.glob(".*"))
    counts = {
        kind: [count_of(kind, file) for file in sorted(tmp_path.glob(f"*.{ending}"), key=os.path.getmtime)]
        for kind, ending in KINDS.items()
    }
    assert all(len(results) == 4 and results[-1] == 2 for results in counts.values())
    for kind in ("mcap", "video"):  # lines are written one by one: they tell how far a run came
        assert all(0 <= lines - count <= 45 for lines, count in zip(counts["jsonl"], counts[kind], strict=True)), counts
        assert sum(counts[kind]) > 30


def test_a_camera_that_falls_silent_keeps_nothing_in_memory(tmp_path: Path) -> None:
    """What came before is on its way to the disk within a second, though nothing follows."""
    feed(sink := McapFile(tmp_path / "r.mcap"), 2)
    part = next(tmp_path.glob(".*"))
    end = time.monotonic() + 30
    while not (names := topics(part)) and time.monotonic() < end:
        time.sleep(0.05)
    assert "/camera/ir/image" in names
    sink.close()


def test_two_programs_of_one_name_at_once(toy_bundle: Path, tmp_path: Path) -> None:
    cameras = ["--rgb", "pattern:?fps=30&frames=30", "--ir", "pattern:?fps=30&frames=30", "--json"]
    files = [word for kind, ending in KINDS.items() for word in (f"--{kind}", str(tmp_path / f"r.{ending}"))]
    words = [*COMMAND, "run", str(toy_bundle), *cameras, *files]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) for _ in range(2)]
    reports = [json.loads(process.communicate(timeout=40)[0]) for process in both]
    names = [name for report in reports for recording in report["recordings"] for name in recording["files"]]
    assert len(set(names)) == 6 == len([file for file in tmp_path.iterdir() if file.is_file()])
    for report in reports:
        for recording in report["recordings"]:
            dropped = report["drops"].get(f"sink {recording['sink']}: too slow", 0)
            assert count_of(recording["sink"], Path(recording["files"][0])) == report["pairs"] - dropped


def test_a_partial_file_that_is_foreign_or_being_written_is_left(tmp_path: Path) -> None:
    (tmp_path / ".r.part.mcap").write_bytes(b"mine")
    (tmp_path / ".r-20200101T000000Z-001.part.mcap").touch()  # killed before it wrote anything
    living, sink = McapFile(tmp_path / "r.mcap"), McapFile(tmp_path / "r.mcap")
    feed(living, 2)
    feed(sink, 3)
    again = McapFile(tmp_path / "r.mcap")
    again.close()
    for writer in (sink, living):
        writer.close()
        assert not writer.tally.recovered
    assert not again.tally.recovered and (tmp_path / ".r.part.mcap").read_bytes() == b"mine"
    assert sorted(count_of("mcap", file) for file in tmp_path.glob("r-*.mcap")) == [2, 3]
