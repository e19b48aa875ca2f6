"""Recordings on a full disk: reported at once, no record torn, the oldest deleted where that is allowed."""

from __future__ import annotations

import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from recorders import KINDS, count_of, feed, sinks_of
from test_mcap import make_pair, make_result

from edgemtl_runtime.camera.mcap import frames
from edgemtl_runtime.cli import main
from edgemtl_runtime.errors import EdgemtlError
from edgemtl_runtime.sink.rotation import RotationLimits
from edgemtl_runtime.sink.video import Video

pytestmark = pytest.mark.realtime


@pytest.fixture
def small_disk() -> Iterator[None]:
    """A disk that takes files of 1.5 MB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(("kind", "ending"), KINDS.items())
def test_a_full_disk_is_reported_at_once_and_tears_no_record(
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
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("may not mount a file system here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize(("kind", "ending"), KINDS.items())
def test_a_disk_that_is_smaller_than_what_is_to_be_kept(kind: str, ending: str, tiny_disk: Path) -> None:
    """The oldest go, as was asked for, before anything fails; what others wrote stays."""
    (tiny_disk / "other").write_bytes(bytes(1_500_000 if kind != "jsonl" else 2_050_000))
    split_mb = 0.01 if kind == "jsonl" else 0.1
    sink = sinks_of(kind, tiny_disk / f"r.{ending}", RotationLimits.of(split_mb=split_mb, keep_mb=100))
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
        assert count_of(kind, file) > (30 if kind == "video" else 80)  # panels are at least 400 pixels wide
        return
    assert len(list(frames(file, "/camera/ir/image"))) > 10
    assert main(["recover", str(file), "--out", str(tiny_disk.parent / "whole.mcap")]) == 0
    assert count_of("mcap", tiny_disk.parent / "whole.mcap") > 10


def test_a_full_disk_is_reported_with_opencv_too(tiny_disk: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    monkeypatch.setattr("edgemtl_runtime.sink.video.find_spec", lambda module: None)
    monkeypatch.setattr("edgemtl_runtime.sink.video.SCARCE_BYTES", 300_000)
    sink = Video(tiny_disk / "r.mkv", 10)
    with pytest.raises(EdgemtlError, match="No space left on device"):
        feed(sink, 20_000, size=(120, 160))
    sink.close()
    assert capfd.readouterr() == ("", "")
