"""An export that cannot end: what stood there before is whole, and the next one runs."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgemtl.cli import main
from edgemtl.run import Run
from edgemtl_export import Shrunk
from edgemtl_runtime.bundle import Bundle

Exported = tuple[Bundle, Shrunk]


@contextmanager
def full_disk(most_bytes: int) -> Iterator[None]:
    """Let writing to a file fail at a size, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def there(folder: Path) -> dict[str, bytes]:
    """Return what a folder holds."""
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.slow
def test_a_full_disk_and_a_kill_leave_the_older_bundle_whole(
    tiny_run: Run, tiny_bundle: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bundle"
    subprocess.run(["cp", "-r", tiny_bundle[0].path, out], check=True)
    before = there(out)

    again = ["export", str(tiny_run.path), "--out", str(out), "--overwrite"]
    with full_disk(20_000):
        assert main(again) not in (0, -9)
    told = capsys.readouterr().err.strip().splitlines()
    assert "File too large" in told[-1] and "Traceback" not in "".join(told)
    assert there(out) == before and [each.name for each in tmp_path.iterdir()] == ["bundle"]

    killed = subprocess.Popen(
        [sys.executable, "-m", "edgemtl.cli", *again], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while not (parts := list(tmp_path.glob(".bundle.*.part"))) and killed.poll() is None:
        time.sleep(0.005)
    killed.kill()
    killed.wait(timeout=60)
    assert parts and there(out) == before and Bundle.open(out)
    assert main(["export", str(tiny_run.path), "--out", str(out)]) == 2 and there(out) == before
    assert main(again) == 0 and Bundle.open(out) and [each.name for each in tmp_path.iterdir()] == ["bundle"]
