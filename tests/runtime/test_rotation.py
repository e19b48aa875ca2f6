"""Rotation and retention: files split by size and time, the oldest of ours deleted, nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from recorders import DATED, KINDS, count_of, feed, sinks_of
from test_mcap import make_pair, make_result

from edgemtl_runtime.camera.mcap import frames
from edgemtl_runtime.cli import main
from edgemtl_runtime.sink.file_sink import RECENT_NAMES
from edgemtl_runtime.sink.jsonl import JsonLines
from edgemtl_runtime.sink.rotation import RotationLimits

pytestmark = pytest.mark.realtime


@pytest.mark.parametrize(("kind", "ending"), KINDS.items())
def test_a_recording_is_split_by_size_and_every_file_is_whole(kind: str, ending: str, tmp_path: Path) -> None:
    split_mb = {"jsonl": 0.01, "video": 0.15, "mcap": 0.3}[kind]
    feed(sink := sinks_of(kind, tmp_path / f"r.{ending}", RotationLimits.of(split_mb=split_mb)), 120, size=(60, 80))
    sink.close()
    files = sorted(tmp_path.iterdir())
    assert len(files) >= 3 and all(re.fullmatch(DATED.format("r", ending), file.name) for file in files)
    assert all(file.stat().st_size <= split_mb * 1e6 for file in files)
    assert sum(count_of(kind, file) for file in files) == 120
    assert [str(file) for file in files][-RECENT_NAMES:] == list(sink.tally.names)


@pytest.mark.parametrize(("kind", "ending"), KINDS.items())
def test_a_recording_is_split_by_time(kind: str, ending: str, tmp_path: Path) -> None:
    feed(sink := sinks_of(kind, tmp_path / f"r.{ending}", RotationLimits.of(split_s=1)), 25)  # ten a second
    sink.close()
    assert [count_of(kind, file) for file in sorted(tmp_path.iterdir())] == [10, 10, 5]


@pytest.mark.parametrize(("kind", "ending"), KINDS.items())
def test_the_oldest_are_deleted_and_nothing_else(kind: str, ending: str, tmp_path: Path) -> None:
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
    sink = sinks_of(kind, tmp_path / f"r.{ending}", RotationLimits.of(keep_mb=keep / 1e6))
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
    limits = RotationLimits.of(split_mb=0.01, keep_mb=0.02)
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
def test_invalid_limits_are_reported(
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
    report = json.loads(capsys.readouterr().out)["recordings"][0]
    files = sorted(tmp_path.iterdir())
    assert report["files"] == [str(file) for file in files] and report["count"] == len(files) == 3
    assert [len(list(frames(file, "/camera/ir/image/compressed"))) for file in files] == [30, 30, 10]
