"""Closing of sinks: hanging ones within a time limit, and all of them when one cannot be opened."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from processes import wait_for
from recorders import KINDS, LIVE, count_of, sinks_of

from edgemtl_runtime.bundle import Bundle
from edgemtl_runtime.camera import open_cameras
from edgemtl_runtime.camera.mcap import frames
from edgemtl_runtime.cli import main
from edgemtl_runtime.engine.onnxruntime import OrtEngine
from edgemtl_runtime.errors import CameraError, EdgemtlError
from edgemtl_runtime.pipeline import Pipeline

pytestmark = pytest.mark.realtime


class Hanging:
    """A sink that never comes back: from a write, or from its end."""

    on_main_thread = False

    def __init__(self, where: str) -> None:
        self.name, self.forever = f"hanging-{where}", threading.Event()
        hang = lambda *_: self.forever.wait()  # noqa: E731
        go_on = lambda *_: None  # noqa: E731
        self.write, self.close = (hang, go_on) if where == "write" else (go_on, hang)


@pytest.mark.parametrize("on_error", ["end", "degrade"])
def test_a_sink_that_hangs_costs_the_others_nothing(
    on_error: Any, toy_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three hang, and slow ones write what waits; all that together takes no longer than one limit."""
    monkeypatch.setattr("edgemtl_runtime.sink.CLOSE_S", 1.5)
    opened = Bundle.open(toy_bundle)
    cameras = open_cameras({name: "pattern:?fps=50&frames=60" for name in ("rgb", "ir")})
    pipeline = Pipeline(opened, OrtEngine(opened.model, 1), cameras, on_error=on_error)
    stuck = [Hanging("write"), Hanging("close"), Hanging("write")]
    whole = {kind: sinks_of(kind, tmp_path / f"r.{ending}") for kind, ending in KINDS.items()}
    sinks: list[Any] = [stuck[0], stuck[1], *whole.values(), stuck[2]]
    begun = time.monotonic()
    if on_error == "end":
        with pytest.raises(EdgemtlError, match=r"sink hanging-write: did not end within 1\.5 s"):
            pipeline.run(sinks)
    else:
        pipeline.run(sinks)
        assert sum("did not end within" in text for text in pipeline.status()["warnings"]) == 3
    assert time.monotonic() - begun < 1.2 + 1.5 + 1.5
    drops = pipeline.stats.drops
    for kind, sink in whole.items():
        assert count_of(kind, Path(sink.tally.names[0])) == pipeline.stats.pairs - drops[f"sink {kind}: too slow"] > 20
    for sink in stuck:
        sink.forever.set()


def frames_of_parts(folder: Path) -> int:
    """Return how many thermal images recordings hold that are still being written."""
    count = 0
    for part in folder.glob(".*.mcap"):
        with contextlib.suppress(CameraError):  # nothing in it yet
            count += len(list(frames(part, "/camera/ir/image/compressed")))
    return count


def test_the_summary_is_printed_though_a_sink_hangs(toy_bundle: Path, tmp_path: Path) -> None:
    """A pipe that nobody reads any more."""
    os.mkfifo(tmp_path / "fifo")
    words = [
        "run",
        str(toy_bundle),
        *LIVE,
        "--json",
        "--jsonl",
        str(tmp_path / "fifo"),
        "--mcap",
        str(tmp_path / "r.mcap"),
    ]
    code = (
        "import sys, edgemtl_runtime.sink as s; s.CLOSE_S = 1; from edgemtl_runtime.cli import main; sys.exit(main())"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with (tmp_path / "fifo").open("rb") as reader:
        fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
        wait_for(lambda: frames_of_parts(tmp_path) >= 60, process)
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        out, error = process.communicate(timeout=60)
        assert time.monotonic() - begun < 10  # the pipe stays as it is
    assert process.returncode == 2 and "sink jsonl: did not end within 1 s" in error
    report = json.loads(out)
    assert report["drops"]["sink jsonl: too slow"] > 5
    assert count_of("mcap", tmp_path / "r.mcap") == report["pairs"] > 30


@pytest.mark.parametrize("error", [EdgemtlError("no"), RuntimeError("a library's bug"), KeyboardInterrupt()])
def test_what_is_open_is_closed_when_one_cannot_be(
    error: BaseException, toy_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgemtl_runtime.camera import pattern

    closed, fail = [], lambda *_: (_ for _ in ()).throw(error)
    monkeypatch.setattr(pattern.PatternCamera, "close", lambda self: closed.append(self.name) or 1 / 0)
    monkeypatch.setattr("edgemtl_runtime.sink.mcap.McapFile.__init__", fail)
    before = {thread.name for thread in threading.enumerate()}
    words = ["run", str(toy_bundle), *LIVE, "--jsonl", str(tmp_path / "r.jsonl"), "--mcap", str(tmp_path / "r.mcap")]
    if isinstance(error, RuntimeError):
        with pytest.raises(RuntimeError, match="a library's bug"):
            main(words)
    else:
        assert main(words) in (2, 130)
    assert sorted(closed) == ["ir", "rgb"] and not [file for file in tmp_path.iterdir() if file.is_file()]
    closed.clear()
    made = iter([pattern.PatternCamera.__init__, fail])
    monkeypatch.setattr(pattern.PatternCamera, "__init__", lambda self, *args: next(made)(self, *args))
    with pytest.raises(type(error)):
        open_cameras({"rgb": "pattern:", "ir": "pattern:"})
    assert closed == ["rgb"]
    end = time.monotonic() + 3
    while {thread.name for thread in threading.enumerate()} - before and time.monotonic() < end:
        time.sleep(0.05)
    assert not {thread.name for thread in threading.enumerate()} - before
