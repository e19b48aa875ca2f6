"""Names of recordings: what exists is not opened, names rise in order, lines go to pipes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from recorders import COMMAND, DATED, KINDS, count_of, feed, sinks_of

from edgemtl_runtime.errors import EdgemtlError
from edgemtl_runtime.sink.file_sink import FileSink
from edgemtl_runtime.sink.jsonl import JsonLines
from edgemtl_runtime.sink.mcap import McapFile
from edgemtl_runtime.sink.rotation import RotationLimits
from edgemtl_runtime.sink.video import Video

pytestmark = pytest.mark.realtime


@pytest.mark.parametrize(("kind", "ending"), KINDS.items())
def test_a_name_that_is_taken_is_not_opened(kind: str, ending: str, tmp_path: Path) -> None:
    first, second = (sinks_of(kind, tmp_path / f"r.{ending}") for _ in range(2))  # both at once
    for sink in (first, second):
        feed(sink, 3)
    first.close()
    second.close()
    third = sinks_of(kind, tmp_path / f"r.{ending}")
    feed(third, 3)
    third.close()
    names = sorted(file.name for file in tmp_path.iterdir())
    assert len(names) == 3 and names[-1] == f"r.{ending}"
    assert all(re.fullmatch(DATED.format("r", ending), name) for name in names[:-1])
    assert [count_of(kind, tmp_path / name) for name in names] == [3, 3, 3]


def test_names_that_are_anything_else_are_left(tmp_path: Path) -> None:
    (tmp_path / "r.mcap").symlink_to(tmp_path / "nowhere")
    (tmp_path / "secret").write_text("mine")
    (tmp_path / ".r.part.mcap").symlink_to(tmp_path / "secret")
    (tmp_path / "s.mcap").mkdir()
    feed(sink := McapFile(tmp_path / "r.mcap"), 2)
    sink.close()
    assert sink.file is not None and count_of("mcap", sink.file) == 2 and "r-" in sink.file.name
    assert (tmp_path / "secret").read_text() == "mine" and not (tmp_path / "nowhere").exists()
    feed(sink := McapFile(tmp_path / "s.mcap"), 2)  # a folder
    sink.close()
    assert sink.file is not None and sink.file.parent.name == "s.mcap"


@pytest.mark.parametrize(("kind", "ending"), KINDS.items())
def test_in_a_folder_names_have_time_and_number(kind: str, ending: str, tmp_path: Path) -> None:
    feed(sink := sinks_of(kind, f"{tmp_path}/new/"), 2)  # type: ignore[arg-type]
    sink.close()
    (file,) = (tmp_path / "new").iterdir()
    assert re.fullmatch(DATED.format("edgemtl", ending), file.name) and str(file) == sink.tally.names[0]


def test_without_links_a_name_is_still_taken_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAT and exFAT, which memory cards have, know no links."""

    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", no_links)
    first, second = (McapFile(tmp_path / "r.mcap") for _ in range(2))
    for sink in (second, first):
        feed(sink, 2)
        sink.close()
    assert [count_of("mcap", file) for file in tmp_path.iterdir()] == [2, 2]


def test_a_clock_that_was_set_back_keeps_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = []
    for now in (2e9, 1e9, 1.5e9):
        monkeypatch.setattr(time, "gmtime", lambda now=now: time.struct_time(time.localtime(now)))
        feed(sink := McapFile(tmp_path / "r.mcap", None, RotationLimits.of(split_mb=1)), 1)
        sink.close()
        assert sink.file is not None
        numbers.append(sink.file.stem.rpartition("-")[2])
    assert numbers == ["001", "002", "003"]


@pytest.mark.parametrize("target", ["fifo", "/dev/stdout", "-"])
def test_lines_go_to_pipes(target: str, toy_bundle: Path, tmp_path: Path) -> None:
    cameras = [word + ("&" if "?" in word else "?") + "frames=5&fps=0" for word in ("pattern:", "pattern:")]
    words = ["run", str(toy_bundle), "--rgb", cameras[0], "--ir", cameras[1], "--jsonl"]
    if target == "fifo":
        os.mkfifo(tmp_path / "fifo")
        process = subprocess.Popen([*COMMAND, *words, str(tmp_path / "fifo")], stdout=subprocess.DEVNULL)
        lines = (tmp_path / "fifo").read_text().splitlines()
        assert process.wait(20) == 0
    else:
        with (tmp_path / "out").open("w") as out:
            out.write("before\n")
            out.flush()
            assert subprocess.run([*COMMAND, *words, target], stdout=out, timeout=60).returncode == 0
        lines = (tmp_path / "out").read_text().splitlines()
        assert lines.pop(0) == "before"
    assert [json.loads(line)["index"] for line in lines if line.startswith("{")] == [0, 1, 2, 3, 4]


def test_a_pipe_that_nobody_reads_ends_the_start(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(EdgemtlError, match=r"fifo: cannot be written \(no program reads it; start that first\)"):
        JsonLines(tmp_path / "fifo")


@pytest.mark.parametrize("sink", [McapFile, partial(Video, fps=20)], ids=["mcap", "video"])
def test_what_is_written_in_files_goes_to_no_pipe(sink: Callable[[Path], FileSink], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.mp4")
    for given in (tmp_path / "fifo.mp4", Path("/dev/stdout"), Path("-")):
        with pytest.raises(EdgemtlError, match=r"is a pipe or a device; give a file or a folder|end the name in .mp4"):
            sink(given)
    assert [file.name for file in tmp_path.iterdir()] == ["fifo.mp4"]
