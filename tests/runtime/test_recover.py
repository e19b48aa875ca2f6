"""The command recover on JSON lines, videos and files that are no recordings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from recorders import count_of, feed, image_count

from edgemtl_runtime.cli import main
from edgemtl_runtime.sink.jsonl import JsonLines
from edgemtl_runtime.sink.video import Video


def test_recover_drops_a_truncated_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
    report = json.loads(capsys.readouterr().out)
    assert 20 <= report["count"] < 60 and image_count(tmp_path / f"r-recovered.{ending}") >= report["count"] - 1


def test_recover_rejects_other_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {"a.mcap": b"nothing", "b.mp4": b"no video" * 100, "c.txt": b"text", "d.mcap": b"\x89MCAP0\r\n"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    for name in (*files, "none.mcap", "."):
        assert main(["recover", str(tmp_path / name)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and str(tmp_path / name) in error
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(files)
