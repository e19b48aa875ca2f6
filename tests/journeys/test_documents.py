"""Commands of docs/deploying.md and docs/live.md as they stand, with recorded folders in the place of cameras."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"(?:^    .*\n)+", re.M)
CAMERAS = {
    "--rgb 0": "--rgb frames/rgb",
    "--ir 2": "--ir frames/ir",
    "rtsp://cam/colour": "frames/rgb",
    "v4l2:///dev/video2?format=Y16": "frames/ir",
    "127.0.0.1:8080": "127.0.0.1:0",
}
"""What stands for a camera, and for a port that another test may have."""
POINTS = "x_rgb,y_rgb,x_ir,y_ir\n" + "".join(
    f"{x},{y},{x + 2},{y + 1}\n" for x, y in ((10, 8), (110, 12), (14, 84), (104, 80), (60, 40), (30, 60), (90, 30))
)


def run(command: str, folder: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env=os.environ | {"PATH": path, "EDGEMTL_CACHE": str(folder / "cache")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, (command, done.stdout[-1000:], done.stderr[-2000:])


def lines_of(document: str, after: str) -> list[str]:
    """Return the commands of the first block after some text, a line each."""
    text = (DOCS / document).read_text()
    block = BLOCK.search(text, text.index(after))
    assert block is not None
    return [line.strip() for line in block[0].replace("\\\n", " ").splitlines()]


def test_from_a_run_to_a_robot(tiny_run: Any, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "street").symlink_to(tiny_run.path)
    ran = [line for line in lines_of("deploying.md", "# From a run") if "tensorrt-rtx" not in line]
    for line in ran:
        run(line, tmp_path)
    assert len(ran) == 6 and (tmp_path / "street" / "manifest.json").is_file() and (tmp_path / "costs.json").is_file()


def test_live_commands(tiny_bundle: tuple[Any, object], tmp_path: Path) -> None:
    run("edgemtl data draw --out drawn --train 12 --val 4 --size 96 128", tmp_path)
    (tmp_path / "frames").mkdir()
    for name in ("rgb", "ir"):
        (tmp_path / "frames" / name).symlink_to(tmp_path / "drawn" / name / "train")
    (tmp_path / "bundle").symlink_to(tiny_bundle[0].path)
    (tmp_path / "matched.csv").write_text(POINTS)
    rig = [line for line in lines_of("live.md", "## The rig") if " --preview " not in line]
    for line in (*rig, *lines_of("live.md", "# Live:"), *lines_of("live.md", "## Recording")):
        for camera, folder in CAMERAS.items():
            line = line.replace(camera, folder)
        run(line, tmp_path)
    for name in ("board.pdf", "rig.yaml", "results.jsonl", "drive.mcap", "drive/data.yaml", "drives"):
        assert (tmp_path / name).exists(), name
