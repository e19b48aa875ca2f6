"""An export that cannot end: what stood there before is whole, and the next one runs."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

from edgemtl.run import Run
from edgemtl_export import Shrunk
from edgemtl_runtime.bundle import Bundle

Exported = tuple[Bundle, Shrunk]


def begun(run: Run, out: Path, most_bytes: int = 0) -> subprocess.Popen[str]:
    """Begin an export; ``most_bytes`` is the size at which writing to a file fails, as on a full disk."""

    def limited() -> None:
        if most_bytes:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

    words = [sys.executable, "-m", "edgemtl.cli", "export", str(run.path), "--out", str(out)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=limited)


def there(folder: Path) -> dict[str, bytes]:
    """Return what a folder holds."""
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_full_disk_and_a_kill_leave_the_older_bundle_whole(
    tiny_run: Run, tiny_bundle: Exported, tmp_path: Path
) -> None:
    out = tmp_path / "bundle"
    subprocess.run(["cp", "-r", tiny_bundle[0].path, out], check=True)
    before = there(out)

    full = begun(tiny_run, out, most_bytes=20_000)
    _, told = full.communicate(timeout=300)
    assert full.returncode not in (0, -9) and told.strip().count("\n") == 0 and "File too large" in told
    assert there(out) == before and [each.name for each in tmp_path.iterdir()] == ["bundle"]

    killed = begun(tiny_run, out)
    while not (parts := list(tmp_path.glob(".bundle.*.part"))) and killed.poll() is None:
        time.sleep(0.005)
    killed.kill()
    killed.communicate(timeout=60)
    assert parts and there(out) == before and Bundle.open(out)
    last = begun(tiny_run, out)
    _, told = last.communicate(timeout=300)
    assert last.returncode == 0 and Bundle.open(out), told
