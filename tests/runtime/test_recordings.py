"""Recordings that are killed, met by a full disk, split, kept to a size, begun twice, cut at any byte, recovered."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from mcap.reader import NonSeekingReader, make_reader
from mcap.writer import CompressionType
from mcap.writer import Writer as RawWriter
from test_mcap import NOW_NS, make_pair, make_result

from edgemtl_runtime.bundle import Bundle
from edgemtl_runtime.camera import open_cameras
from edgemtl_runtime.camera.mcap import frames, topics
from edgemtl_runtime.cli import main
from edgemtl_runtime.engine.onnxruntime import OrtEngine
from edgemtl_runtime.errors import CameraError, EdgemtlError
from edgemtl_runtime.frame import FramePair
from edgemtl_runtime.mcap_mend import mend
from edgemtl_runtime.pipeline import Pipeline
from edgemtl_runtime.sink.family import Limits
from edgemtl_runtime.sink.jsonl import JsonLines
from edgemtl_runtime.sink.mcap import McapFile
from edgemtl_runtime.sink.recorder import TOLD, Recorder
from edgemtl_runtime.sink.video import Video

pytestmark = pytest.mark.realtime

COMMAND = [sys.executable, "-m", "edgemtl_runtime.cli"]
LIVE = ["--rgb", "pattern:?fps=30", "--ir", "pattern:?fps=30"]
DATED = r"{}-\d{{8}}T\d{{6}}Z-\d{{3}}\.{}"


def feed(sink: Any, count: int, step: int = 10, size: tuple[int, int] = (48, 64)) -> None:
    """Write pairs with results, ``step`` hundredths of a second apart."""
    for index in range(count):
        pair = make_pair(index * step, size)
        sink.write(pair, make_result(pair, index))


def sinks_of(kind: str, file: Path, limits: Limits = Limits()) -> Recorder:  # noqa: B008
    """Return a sink by its option's name."""
    if kind == "jsonl":
        return JsonLines(file, limits).lines  # type: ignore[return-value]
    return Video(file, 10, limits) if kind == "video" else McapFile(file, NOW_NS, limits)


KINDS = {"mcap": "mcap", "video": "mp4", "jsonl": "jsonl"}


def pictures(file: Path) -> int:
    """Return how many pictures PyAV and OpenCV both read from a video."""
    with av.open(str(file)) as container:
        by_av = sum(1 for _ in container.decode(video=0))
    reader, by_cv = cv2.VideoCapture(str(file)), 0
    while reader.read()[0]:
        by_cv += 1
    assert by_av == by_cv
    return by_av


def count_of(kind: str, file: Path) -> int:
    """Return how many results a whole file holds."""
    if kind == "jsonl":
        return len([json.loads(line) for line in file.read_text().splitlines()])
    if kind == "video":
        return pictures(file)
    with file.open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        summary = reader.get_summary()
        assert summary is not None and summary.statistics is not None and summary.chunk_indexes
        found = [channel.topic for _, channel, _ in reader.iter_messages()]
        assert summary.statistics.message_count == len(found)
        stream.seek(0)
        assert len(list(NonSeekingReader(stream, validate_crcs=True).iter_messages())) == len(found)
        return found.count("/result")


@pytest.fixture
def small_disk() -> Iterator[None]:
    """A disk that takes files of 1.5 MB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


# names


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

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    first, second = (McapFile(tmp_path / "r.mcap") for _ in range(2))
    for sink in (second, first):
        feed(sink, 2)
        sink.close()
    assert [count_of("mcap", file) for file in tmp_path.iterdir()] == [2, 2]


def test_a_clock_that_was_set_back_keeps_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = []
    for now in (2e9, 1e9, 1.5e9):
        monkeypatch.setattr(time, "gmtime", lambda now=now: time.struct_time(time.localtime(now)))
        feed(sink := McapFile(tmp_path / "r.mcap", None, Limits.of(split_mb=1)), 1)
        sink.close()
        assert sink.file is not None
        numbers.append(sink.file.stem.rpartition("-")[2])
    assert numbers == ["001", "002", "003"]


@pytest.mark.parametrize("place", ["fifo", "/dev/stdout"])
def test_lines_go_to_pipes(place: str, toy_bundle: Path, tmp_path: Path) -> None:
    cameras = [word + ("&" if "?" in word else "?") + "frames=5&fps=0" for word in ("pattern:", "pattern:")]
    words = ["run", str(toy_bundle), "--rgb", cameras[0], "--ir", cameras[1], "--jsonl"]
    if place == "fifo":
        os.mkfifo(tmp_path / "fifo")
        process = subprocess.Popen([*COMMAND, *words, str(tmp_path / "fifo")], stdout=subprocess.DEVNULL)
        lines = (tmp_path / "fifo").read_text().splitlines()
        assert process.wait(60) == 0
    else:
        with (tmp_path / "out").open("w") as out:
            out.write("before\n")
            out.flush()
            assert subprocess.run([*COMMAND, *words, place], stdout=out, timeout=60).returncode == 0
        lines = (tmp_path / "out").read_text().splitlines()
        assert lines.pop(0) == "before"
    assert [json.loads(line)["index"] for line in lines if line.startswith("{")] == [0, 1, 2, 3, 4]


# segments


@pytest.mark.parametrize(("kind", "ending"), KINDS.items())
def test_a_recording_is_split_by_size_and_every_file_is_whole(kind: str, ending: str, tmp_path: Path) -> None:
    split_mb = {"jsonl": 0.01, "video": 0.15, "mcap": 0.3}[kind]
    feed(sink := sinks_of(kind, tmp_path / f"r.{ending}", Limits.of(split_mb=split_mb)), 120, size=(60, 80))
    sink.close()
    files = sorted(tmp_path.iterdir())
    assert len(files) >= 3 and all(re.fullmatch(DATED.format("r", ending), file.name) for file in files)
    assert all(file.stat().st_size <= split_mb * 1e6 for file in files)
    assert sum(count_of(kind, file) for file in files) == 120
    assert [str(file) for file in files][-TOLD:] == list(sink.tally.names)


@pytest.mark.parametrize(("kind", "ending"), KINDS.items())
def test_a_recording_is_split_by_time(kind: str, ending: str, tmp_path: Path) -> None:
    feed(sink := sinks_of(kind, tmp_path / f"r.{ending}", Limits.of(split_s=1)), 25)  # ten a second
    sink.close()
    assert [count_of(kind, file) for file in sorted(tmp_path.iterdir())] == [10, 10, 5]


@pytest.mark.parametrize(("kind", "ending"), KINDS.items())
def test_the_oldest_go_and_nothing_else(kind: str, ending: str, tmp_path: Path) -> None:
    keep = 20_000 if kind == "jsonl" else 150_000
    foreign = {
        f"r-20200101T000000Z-001.{ending}": b"not ours",
        f"r-20200101T000000Z-002-best.{ending}": b"named by hand",
        f"r2-20200101T000000Z-001.{ending}": b"of another name",
        f".r-20200101T000000Z-003.part.{ending}": b"not ours either",
    }
    feed(other := sinks_of(kind, tmp_path / f"r.{ending}"), 3)
    other.close()
    ours = (tmp_path / f"r.{ending}").read_bytes()
    foreign |= {f"r.{ending}": ours, f"my-r-20200101T000000Z-001.{ending}": ours, "r-20200101T000000Z-001.txt": ours}
    for name, content in foreign.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / f"r-20200101T000000Z-004.{ending}").symlink_to(tmp_path / f"r.{ending}")
    sink = sinks_of(kind, tmp_path / f"r.{ending}", Limits.of(keep_mb=keep / 1e6))
    most = 0
    for index in range(150):
        pair = make_pair(index * 10, (60, 80))
        sink.write(pair, make_result(pair, index))
        held = [file for file in tmp_path.iterdir() if file.name not in foreign and not file.is_symlink()]
        most = max(most, sum(file.stat().st_size for file in held))
    sink.close()
    kept = [f for f in tmp_path.iterdir() if f.name not in foreign and not f.is_symlink()]
    assert keep / 2 < most <= keep and sum(file.stat().st_size for file in kept) <= keep
    assert sink.tally.deleted == sink.tally.files - len(kept) > 0
    assert sorted(str(file) for file in kept) == list(sink.tally.names)[-len(kept) :]
    assert all((tmp_path / name).read_bytes() == content for name, content in foreign.items())


def test_a_file_that_another_program_writes_is_not_removed(tmp_path: Path) -> None:
    limits = Limits.of(split_mb=0.01, keep_mb=0.02)
    feed(living := JsonLines(tmp_path / "r.jsonl", limits), 5)
    feed(sink := JsonLines(tmp_path / "r.jsonl", limits), 200)
    sink.close()
    feed(living, 1)
    living.close()
    (name,) = living.tally.names
    assert Path(name).exists() and count_of("jsonl", Path(name)) == 6 and sink.tally.deleted > 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--split-mb", "-1"], "are not negative"),
        (["--keep-mb", "nan"], "are not negative"),
        (["--split-mb", "5", "--keep-mb", "8"], "keep at least twice"),
    ],
)
def test_limits_that_cannot_be_are_told(
    words: list[str], expected: str, tmp_path: Path, toy_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cameras = ["--rgb", "pattern:?frames=2", "--ir", "pattern:?frames=2"]
    assert main(["run", str(toy_bundle), *cameras, "--mcap", str(tmp_path / "x.mcap"), *words]) == 2
    assert expected in capsys.readouterr().err
    assert main(["record", *cameras, "--out", str(tmp_path / "x.mcap"), *words]) == 2
    assert main(["record", *cameras, "--out", str(tmp_path / "folder"), "--keep-mb", "9"]) == 2
    assert "end --out in .mcap" in capsys.readouterr().err and not (tmp_path / "folder").exists()


def test_record_makes_segments_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cameras = ["--rgb", "pattern:?fps=0&frames=70", "--ir", "pattern:?fps=0&frames=70"]
    assert main(["record", *cameras, "--out", str(tmp_path / "d.mcap"), "--split-s", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["recordings"][0]
    files = sorted(tmp_path.iterdir())
    assert told["files"] == [str(file) for file in files] and told["count"] == len(files) == 3
    assert [len(list(frames(file, "/camera/ir/image/compressed"))) for file in files] == [30, 30, 10]


# kills


def started(words: list[str], seen: Path, pattern: str) -> subprocess.Popen[str]:
    """Start a command and return it once a file has content."""
    process = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while not any(file.stat().st_size for file in seen.glob(pattern)):
        assert time.monotonic() < end and process.poll() is None, process.communicate()
        time.sleep(0.01)
    return process


@pytest.mark.slow
def test_kills_at_any_moment_cost_no_more_than_a_second(toy_bundle: Path, tmp_path: Path) -> None:
    """Every start recovers what the one before left; at the end all is there but a second of each."""
    names = {kind: tmp_path / f"r.{ending}" for kind, ending in KINDS.items()}
    words = ["run", str(toy_bundle), *LIVE, *(w for kind, name in names.items() for w in (f"--{kind}", str(name)))]
    rng = random.Random(0)
    for _ in range(3):
        before = len(list(tmp_path.glob("*.jsonl")))
        process = started(words, tmp_path, "*.jsonl")
        while len(list(tmp_path.glob("*.jsonl"))) == before:
            time.sleep(0.01)
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
    assert all(len(found) == 4 and found[-1] == 2 for found in counts.values())
    for kind in ("mcap", "video"):  # lines are written one by one: they tell how far a run came
        assert all(0 <= lines - found <= 45 for lines, found in zip(counts["jsonl"], counts[kind], strict=True)), counts
        assert sum(counts[kind]) > 30


def test_a_camera_that_falls_silent_keeps_nothing_in_memory(tmp_path: Path) -> None:
    """What came before is on its way to the disk within a second, though nothing follows."""
    feed(sink := McapFile(tmp_path / "r.mcap"), 2)
    part = next(tmp_path.glob(".*"))
    end = time.monotonic() + 30
    while not (found := topics(part)) and time.monotonic() < end:
        time.sleep(0.05)
    assert "/camera/ir/image" in found
    sink.close()


def test_two_programs_of_one_name_at_once(toy_bundle: Path, tmp_path: Path) -> None:
    cameras = ["--rgb", "pattern:?fps=30&frames=30", "--ir", "pattern:?fps=30&frames=30", "--json"]
    files = [word for kind, ending in KINDS.items() for word in (f"--{kind}", str(tmp_path / f"r.{ending}"))]
    words = [*COMMAND, "run", str(toy_bundle), *cameras, *files]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) for _ in range(2)]
    told = [json.loads(process.communicate(timeout=40)[0]) for process in both]
    names = [name for each in told for recording in each["recordings"] for name in recording["files"]]
    assert len(set(names)) == 6 == len([file for file in tmp_path.iterdir() if file.is_file()])
    for each in told:
        for recording in each["recordings"]:
            dropped = each["drops"].get(f"sink {recording['sink']}: too slow", 0)
            assert count_of(recording["sink"], Path(recording["files"][0])) == each["pairs"] - dropped


def test_a_part_that_is_no_recording_or_in_work_is_left(tmp_path: Path) -> None:
    (tmp_path / ".r.part.mcap").write_bytes(b"mine")
    (tmp_path / ".r-20200101T000000Z-001.part.mcap").touch()  # killed before it wrote anything
    living, sink = McapFile(tmp_path / "r.mcap"), McapFile(tmp_path / "r.mcap")
    feed(living, 2)
    feed(sink, 3)
    again = McapFile(tmp_path / "r.mcap")
    again.close()
    for each in (sink, living):
        each.close()
        assert not each.tally.recovered
    assert not again.tally.recovered and (tmp_path / ".r.part.mcap").read_bytes() == b"mine"
    assert sorted(count_of("mcap", file) for file in tmp_path.glob("r-*.mcap")) == [2, 3]


# a full disk


@pytest.mark.parametrize(("kind", "ending"), KINDS.items())
def test_a_full_disk_is_told_at_once_and_costs_no_record(
    kind: str, ending: str, tmp_path: Path, small_disk: None
) -> None:
    sink = sinks_of(kind, tmp_path / f"r.{ending}")
    written = 0
    with pytest.raises(EdgemtlError, match=r"r\.\w+: cannot be written \(File too large\); what was recorded is in "):
        for index in range(20_000):
            pair = make_pair(index * 10, (8, 8) if kind == "jsonl" else (120, 160))
            sink.write(pair, make_result(pair, index))
            written += 1
    with pytest.raises(EdgemtlError):
        sink.write(pair, make_result(pair, 0))
    sink.close()
    (file,) = tmp_path.iterdir()
    assert file.stat().st_size <= 1_500_000
    if kind == "mcap":
        assert written - 40 < len(list(frames(file, "/camera/ir/image"))) <= written
    else:
        assert written - (20 if kind == "video" else 0) <= count_of(kind, file) <= written
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    again = sinks_of(kind, tmp_path / f"r.{ending}")  # room again: the next start makes it whole
    again.close()
    (file,) = tmp_path.iterdir()
    assert count_of(kind, file) > 0 and not file.name.startswith(".")


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 2 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("may not mount a file system here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize(("kind", "ending"), KINDS.items())
def test_a_disk_that_is_smaller_than_what_is_to_be_kept(kind: str, ending: str, tiny_disk: Path) -> None:
    """The oldest go, as was asked for, before anything fails; what others wrote stays."""
    (tiny_disk / "other").write_bytes(bytes(1_500_000 if kind != "jsonl" else 2_050_000))
    split_mb = 0.01 if kind == "jsonl" else 0.1
    sink = sinks_of(kind, tiny_disk / f"r.{ending}", Limits.of(split_mb=split_mb, keep_mb=100))
    feed(sink, 300 if kind == "jsonl" else 100, size=(90, 120))
    sink.close()
    assert sink.tally.deleted > 0 and (tiny_disk / "other").exists()
    assert all(count_of(kind, file) for file in tiny_disk.glob(f"r*.{ending}"))


@pytest.mark.parametrize(("kind", "ending"), KINDS.items())
def test_a_disk_that_is_full(kind: str, ending: str, tiny_disk: Path) -> None:
    sink = sinks_of(kind, tiny_disk / f"r.{ending}")
    with pytest.raises(EdgemtlError, match="No space left on device"):
        feed(sink, 20_000, size=(8, 8) if kind == "jsonl" else (120, 160))
    sink.close()
    (file,) = tiny_disk.iterdir()
    if kind != "mcap":  # that one needs room for its index
        assert count_of(kind, file) > 80
        return
    assert len(list(frames(file, "/camera/ir/image"))) > 10
    assert main(["recover", str(file), "--out", str(tiny_disk.parent / "whole.mcap")]) == 0
    assert count_of("mcap", tiny_disk.parent / "whole.mcap") > 10


def test_opencv_tells_a_full_disk_at_once(tiny_disk: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    monkeypatch.setattr("edgemtl_runtime.sink.video.find_spec", lambda module: None)
    monkeypatch.setattr("edgemtl_runtime.sink.video.SCARCE_BYTES", 300_000)
    sink = Video(tiny_disk / "r.mkv", 10)
    with pytest.raises(EdgemtlError, match="No space left on device"):
        feed(sink, 20_000, size=(120, 160))
    sink.close()
    assert capfd.readouterr() == ("", "")


# closing


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
    for each in stuck:
        each.forever.set()


def frames_of_parts(folder: Path) -> int:
    """Return how many thermal pictures recordings hold that are still being written."""
    count = 0
    for part in folder.glob(".*.mcap"):
        with contextlib.suppress(CameraError):  # nothing in it yet
            count += len(list(frames(part, "/camera/ir/image/compressed")))
    return count


def test_what_was_done_is_told_though_a_sink_hangs(toy_bundle: Path, tmp_path: Path) -> None:
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
        end = time.monotonic() + 60
        while frames_of_parts(tmp_path) < 60:
            assert time.monotonic() < end and process.poll() is None, process.communicate()
            time.sleep(0.1)
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        out, error = process.communicate(timeout=60)
        assert time.monotonic() - begun < 10  # the pipe stays as it is
    assert process.returncode == 2 and "sink jsonl: did not end within 1 s" in error
    told = json.loads(out)
    assert told["drops"]["sink jsonl: too slow"] > 5
    assert count_of("mcap", tmp_path / "r.mcap") == told["pairs"] > 30


@pytest.mark.parametrize("error", [EdgemtlError("no"), RuntimeError("a library's bug"), KeyboardInterrupt()])
def test_what_is_open_is_closed_when_one_cannot_be(
    error: BaseException, toy_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgemtl_runtime.camera import pattern

    closed, refuse = [], lambda *_: (_ for _ in ()).throw(error)
    monkeypatch.setattr(pattern.PatternCamera, "close", lambda self: closed.append(self.name) or 1 / 0)
    monkeypatch.setattr("edgemtl_runtime.sink.mcap.McapFile.__init__", refuse)
    before = {thread.name for thread in threading.enumerate()}
    words = ["run", str(toy_bundle), *LIVE, "--jsonl", str(tmp_path / "r.jsonl"), "--mcap", str(tmp_path / "r.mcap")]
    if isinstance(error, RuntimeError):
        with pytest.raises(RuntimeError, match="a library's bug"):
            main(words)
    else:
        assert main(words) in (2, 130)
    assert sorted(closed) == ["ir", "rgb"] and not [file for file in tmp_path.iterdir() if file.is_file()]
    closed.clear()
    made = iter([pattern.PatternCamera.__init__, refuse])
    monkeypatch.setattr(pattern.PatternCamera, "__init__", lambda self, *args: next(made)(self, *args))
    with pytest.raises(type(error)):
        open_cameras({"rgb": "pattern:", "ir": "pattern:"})
    assert closed == ["rgb"]
    end = time.monotonic() + 30
    while {thread.name for thread in threading.enumerate()} - before and time.monotonic() < end:
        time.sleep(0.05)
    assert not {thread.name for thread in threading.enumerate()} - before


# cut files


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of several chunks, small."""
    sink = McapFile(tmp_path_factory.mktemp("cut") / "run.mcap", NOW_NS)
    for index in range(12):
        pair = make_pair(index, (20, 30))
        sink.write(pair, make_result(pair, index))
        if index % 3 == 2:
            sink.segment.flush()  # type: ignore[union-attr]
    sink.close()
    return sink.file  # type: ignore[return-value]


def write_foreign(file: Path, compression: CompressionType, is_chunked: bool) -> Path:
    """Write text messages as another program does, with an attachment and metadata between them."""
    with file.open("wb") as stream:
        writer = RawWriter(stream, 400, compression, use_chunking=is_chunked)
        writer.start("mine", "another")
        schema = writer.register_schema("Text", "jsonschema", b"{}")
        channels = [writer.register_channel(f"/{name}", "json", schema, {"a": name}) for name in "ab"]
        for number in range(60):
            writer.add_message(channels[number % 2], 10**9 + number * 10**7, b"%05d" % number, 5, number)
            if number == 30:
                writer.add_attachment(1, 2, "note", "text/plain", b"x" * 50)
                writer.add_metadata("about", {"b": "c"})
        writer.finish()
    return file


def messages_of(file: Path) -> list[tuple[str, int, int, bytes]]:
    """Return every message of a whole file, in the order of recording."""
    with file.open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        assert reader.get_summary() is not None
        found = reader.iter_messages(log_time_order=False)
        return [(channel.topic, m.log_time, m.sequence, m.data) for _, channel, m in found]


def test_a_recording_cut_anywhere_is_read_and_recovered(recording: Path, tmp_path: Path) -> None:
    raw = recording.read_bytes()
    whole = messages_of(recording)
    pictures = [ns for ns, _ in frames(recording, "/camera/ir/image")]
    cut, counts = tmp_path / "cut.mcap", []
    for size in range(8, len(raw), 397):
        cut.write_bytes(raw[:size])
        seen = [ns for ns, _ in frames(cut, "/camera/ir/image")] if "/camera/ir/image" in topics(cut) else []
        assert seen == pictures[: len(seen)]
        mended = mend(cut)
        if mended.messages:
            found = messages_of(cut)
            assert found == whole[: len(found)] and len(found) == mended.messages >= len(seen)
            counts.append(len(found))
            assert mend(cut).was_whole
    assert counts == sorted(counts) and counts[-1] == len(whole) and len(set(counts)) == 4


@pytest.mark.parametrize("is_chunked", [True, False])
@pytest.mark.parametrize("compression", list(CompressionType), ids=lambda c: c.name)
def test_what_other_programs_wrote_is_recovered(compression: CompressionType, is_chunked: bool, tmp_path: Path) -> None:
    file = write_foreign(tmp_path / "a.mcap", compression, is_chunked)
    raw, whole = file.read_bytes(), messages_of(file)
    cut = tmp_path / "b.mcap"
    for size in range(60, len(raw), 97):
        cut.write_bytes(raw[:size])
        mended = mend(cut)
        found = messages_of(cut)
        assert found == whole[: len(found)] and len(found) == mended.messages
    with cut.open("rb") as stream:
        reader = make_reader(stream)
        assert reader.get_header().library == "another"
        assert [a.data for a in reader.iter_attachments()] == [b"x" * 50]
        assert [m.metadata for m in reader.iter_metadata()] == [{"b": "c"}]
    assert len(found) == 60


@pytest.mark.parametrize("compression", list(CompressionType), ids=lambda c: c.name)
def test_whole_messages_of_the_cut_chunk_are_saved(compression: CompressionType, tmp_path: Path) -> None:
    """Cut at four fifths of one chunk: compressed blocks of 64 or 128 kB are lost, not the chunk."""
    rng = np.random.default_rng(0)
    file = tmp_path / "a.mcap"
    with file.open("wb") as stream:
        writer = RawWriter(stream, 1 << 30, compression)
        writer.start()
        channel = writer.register_channel("/a", "json", writer.register_schema("A", "jsonschema", b"{}"))
        for number in range(1000):
            writer.add_message(channel, number, rng.bytes(1000), number)
        writer.finish()
    whole = messages_of(file)
    file.write_bytes(file.read_bytes()[:800_000])
    mended = mend(file)
    assert 650 < mended.messages <= 800 and messages_of(file) == whole[: mended.messages]


def test_damage_in_the_middle_costs_one_chunk(recording: Path, tmp_path: Path) -> None:
    with recording.open("rb") as stream:
        summary = make_reader(stream).get_summary()
    assert summary is not None
    second = summary.chunk_indexes[1]
    whole = messages_of(recording)
    for offset in (60, 3):  # in the data, and in the length of the record
        raw = bytearray(recording.read_bytes())
        raw[second.chunk_start_offset + offset] ^= 0x40
        (tmp_path / "a.mcap").write_bytes(raw)
        out = tmp_path / f"{offset}.mcap"
        assert main(["recover", str(tmp_path / "a.mcap"), "--out", str(out)]) == 0
        found = messages_of(out)
        assert [m for m in whole if m in found] == found and 0 < len(whole) - len(found) <= 30
        with out.open("rb") as stream:
            assert len(list(NonSeekingReader(stream, validate_crcs=True).iter_messages())) == len(found)


def mutated(raw: bytes, rng: random.Random) -> bytes:
    """Return bytes with some flipped, overwritten, taken out or doubled, and perhaps cut; the begin stays."""
    changed = bytearray(raw)
    for _ in range(rng.choice([1, 1, 2, 5])):
        place, how = rng.randrange(8, len(changed)), rng.randrange(4)
        if how == 0:
            changed[place] ^= 1 << rng.randrange(8)
        elif how == 1:
            changed[place : place + 8] = rng.choice([bytes(8), b"\xff" * 8, b"\x7f" + bytes(7)])
        elif how == 2:
            del changed[place : place + rng.randrange(1, 60)]
        else:
            changed[place:place] = changed[place : place + rng.randrange(1, 200)]
    return bytes(changed[: rng.randrange(8, len(changed) + 1)] if rng.random() < 0.5 else changed)


@pytest.mark.parametrize("seed", range(4))
def test_damage_of_any_kind_is_survived(seed: int, recording: Path, tmp_path: Path) -> None:
    """Reading gives pictures or a line; what is mended is read to its end by the library's reader."""
    file, rng = tmp_path / "a.mcap", random.Random(seed)
    sources = [recording.read_bytes()]
    for compression in CompressionType:
        for is_chunked in (True, False):
            sources.append(write_foreign(tmp_path / "b.mcap", compression, is_chunked).read_bytes())
    for _ in range(60):
        file.write_bytes(mutated(rng.choice(sources), rng))
        try:
            for topic in topics(file):
                assert all(image.size for _, image in frames(file, topic))
        except CameraError as error:
            assert "a.mcap" in str(error) and "\n" not in str(error)
        told = mend(file)
        if told.messages and not told.was_whole:
            assert len(messages_of(file)) == told.messages and mend(file).was_whole


def test_zeros_that_a_disk_has_not_written_are_no_messages(recording: Path, tmp_path: Path) -> None:
    raw = recording.read_bytes()
    half = len(raw) // 2
    (tmp_path / "a.mcap").write_bytes(raw[:half] + bytes(5000))
    assert [ns for ns, _ in frames(tmp_path / "a.mcap", "/camera/ir/image")]
    assert main(["recover", str(tmp_path / "a.mcap")]) == 0
    found = messages_of(tmp_path / "a-recovered.mcap")
    assert found and found == messages_of(recording)[: len(found)]


def test_a_cut_recording_warns_once(
    recording: Path, tmp_path: Path, toy_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(recording.read_bytes()[: recording.stat().st_size * 2 // 3])
    cameras = ["--rgb", f"mcap:{cut}#/camera/rgb/image/compressed", "--ir", f"mcap:{cut}#/camera/ir/image"]
    assert main(["run", str(toy_bundle), *cameras]) == 0
    out, error = capsys.readouterr()
    assert error.count("was cut off") == 1 and "recover" in error and "pairs" in out
    cut.write_bytes(recording.read_bytes()[:100])
    with pytest.raises(CameraError, match="holds no images"):
        frames(cut)


def test_a_recording_out_of_order_loses_no_frame(tmp_path: Path) -> None:
    sink = McapFile(tmp_path / "r.mcap", 0)
    for index in (0, 3, 1, 2, 7, 5, 4, 6):
        sink.write_pair(make_pair(index))
        sink.segment.flush()  # type: ignore[union-attr]
    sink.close()
    assert [ns // 10_000_000 for ns, _ in frames(tmp_path / "r.mcap", "/camera/ir/image")] == list(range(8))


# recover


def test_recover_writes_beside_and_says_what_is_in_it(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = tmp_path / ".drive.part.mcap"
    part.write_bytes(recording.read_bytes()[:-3000])
    before = part.read_bytes()
    for name in ("drive-recovered.mcap", "drive-recovered-2.mcap"):
        assert main(["recover", str(part), "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["file"] == str(tmp_path / name) and told["count"] == len(messages_of(tmp_path / name)) > 0
        assert not told["was_whole"] and told["seconds"] == pytest.approx(0.11, abs=0.02)
    assert part.read_bytes() == before
    assert main(["recover", str(part), "--out", str(tmp_path / "drive-recovered.mcap")]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main(["recover", str(recording)]) == 0 and "is whole" in capsys.readouterr().out
    assert len(list(tmp_path.iterdir())) == 3 and len(list(recording.parent.iterdir())) == 1


def test_recover_drops_half_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    feed(sink := JsonLines(tmp_path / "r.jsonl"), 5)
    sink.close()
    raw = (tmp_path / "r.jsonl").read_bytes()
    (tmp_path / "r.jsonl").write_bytes(raw[:-7])
    assert main(["recover", str(tmp_path / "r.jsonl")]) == 0
    assert "4 lines over 0.3 s" in capsys.readouterr().out
    assert raw.startswith((tmp_path / "r-recovered.jsonl").read_bytes())
    assert count_of("jsonl", tmp_path / "r-recovered.jsonl") == 4


@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi"])
def test_recover_gives_a_video_its_end(ending: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    feed(sink := Video(tmp_path / f"r.{ending}", 10), 60, size=(120, 160))
    sink.close()
    raw = (tmp_path / f"r.{ending}").read_bytes()
    (tmp_path / f"r.{ending}").write_bytes(raw[: len(raw) * 2 // 3])
    assert main(["recover", str(tmp_path / f"r.{ending}"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert 20 <= told["count"] < 60 and pictures(tmp_path / f"r-recovered.{ending}") >= told["count"] - 1


def test_recover_refuses_what_it_cannot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {"a.mcap": b"nothing", "b.mp4": b"no video" * 100, "c.txt": b"text", "d.mcap": b"\x89MCAP0\r\n"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    for name in (*files, "none.mcap", "."):
        assert main(["recover", str(tmp_path / name)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and str(tmp_path / name) in error
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(files)


def test_mending_on_a_full_disk_leaves_the_file_as_it_was(recording: Path, tmp_path: Path) -> None:
    part = tmp_path / "a.mcap"
    part.write_bytes(raw := recording.read_bytes()[:-4000])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(raw) + 100, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            mend(part)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert part.read_bytes() == raw


def test_mending_holds_no_file_in_memory(tmp_path: Path) -> None:
    sink = McapFile(tmp_path / "r.mcap")
    noise = np.random.default_rng(0).integers(0, 65536, (1000, 1000)).astype(np.uint16)
    from edgemtl_runtime.frame import Frame

    for index in range(100):
        sink.write_pair(FramePair({"ir": Frame(noise, index * 10**7, "ir", index)}))
    sink.segment.flush()  # type: ignore[union-attr]
    (part,) = tmp_path.glob(".*")
    shutil.copy(part, tmp_path / "cut.mcap")
    sink.close()
    assert (tmp_path / "cut.mcap").stat().st_size > 150e6
    code = "import resource, sys; from pathlib import Path; from edgemtl_runtime.mcap_mend import mend\n"
    code += "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; told = mend(Path(sys.argv[1]))\n"
    code += "print(told.messages, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1000)"
    words = [sys.executable, "-c", code, str(tmp_path / "cut.mcap")]
    messages, grown_mb = map(int, subprocess.run(words, capture_output=True, text=True, check=True).stdout.split())
    assert messages == 100 and grown_mb < 60


# videos


def test_a_video_plays_at_the_speed_at_which_it_was_taken(tmp_path: Path) -> None:
    """Nine pictures a second by the camera, though thirty are nominal; then a pause."""
    sink = Video(tmp_path / "r.mp4", 30)
    times_s = [index / 9 for index in range(18)] + [5.0, 5.5]
    for index, moment in enumerate(times_s):
        pair = make_pair(round(moment * 100), (49, 65))  # odd sides
        sink.write(pair, make_result(pair, index))
    sink.close()
    with av.open(str(tmp_path / "r.mp4")) as container:
        shown = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]
        assert container.streams.video[0].codec.name == "h264"
    assert shown == pytest.approx(times_s, abs=0.01)
    assert pictures(tmp_path / "r.mp4") == 20


@pytest.mark.parametrize("name", ["r.mp4", "r.mkv", "r.avi"])
def test_without_pyav_opencv_writes_what_survives(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgemtl_runtime.sink.video.find_spec", lambda module: None)
    feed(sink := Video(tmp_path / name, 10), 30, size=(49, 65))
    sink.close()
    assert sink.file == tmp_path / name.replace("mp4", "mkv") and pictures(sink.file) == 30
    sink.file.rename(sink.file.with_name(f".r.part{sink.file.suffix}"))  # as a kill leaves it
    (again := Video(tmp_path / name, 10)).close()
    assert list(again.tally.recovered) == [str(sink.file)] and pictures(sink.file) == 30
    with pytest.raises(EdgemtlError, match="--keep-mb needs PyAV"):
        Video(tmp_path / name, 10, Limits.of(keep_mb=5))


def test_without_x264_mpeg_4_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    feed(sink := Video(tmp_path / "r.mp4", 10), 15)
    sink.close()
    assert pictures(tmp_path / "r.mp4") == 15


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_picture_of_another_size_is_fitted(tmp_path: Path) -> None:
    sink = Video(tmp_path / "r.mp4", 10)
    for index, size in enumerate([(48, 64), (96, 128), (48, 64)]):
        pair = make_pair(index * 10, size)
        sink.write(pair, make_result(pair, index))
    sink.close()
    assert pictures(tmp_path / "r.mp4") == 3
