"""The tutorials as they stand: their files are written, their programs and commands run, in an empty folder each."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TUTORIALS = sorted((Path(__file__).parents[2] / "docs" / "tutorials").glob("*.md"))
BLOCK = re.compile(r"```(sh|python|csv)\n(.*?)```", re.S)
WRITE = re.compile(r"Write `([\w.]+)`")
CREATES = {
    "embedding": ("last.png", "bundle/manifest.json"),
    "new-task": ("labels.jpg", "near.mp4", "near.jsonl"),
    "own-data": ("sheet.jpg", "runs/mine/report.html", "street/manifest.json", "out.mp4", "out.jsonl"),
    "shrink": ("small/report.html", "small/figures.json", "out.jsonl"),
    "two-cameras": ("board.pdf", "rig.yaml", "both.png", "drive/rgb/train", "yard-bundle/manifest.json", "out.mp4"),
    "yolo": ("detector/manifest.json", "out.jsonl", "small/network.onnx", "small/report.html"),
}


def run(words: list[str], folder: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        words, cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, (words, done.stdout[-1000:], done.stderr[-2000:])


@pytest.mark.slow
@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda file: file.stem)
def test_a_tutorial_runs_as_it_stands(tutorial: Path, tmp_path: Path) -> None:
    if tutorial.stem == "yolo":
        pytest.importorskip("ultralytics")
    text = tutorial.read_text()
    for block in BLOCK.finditer(text):
        language, content = block.groups()
        before = WRITE.findall(text[: block.start()].rpartition("```")[2])
        name = re.match(r"# (\w+\.py)\n", content)
        if language == "sh":
            run(["bash", "-euo", "pipefail", "-c", content], tmp_path)
        elif before or language == "csv":
            (tmp_path / before[-1]).write_text(content)
        else:
            file = tmp_path / (name[1] if name else "program.py")
            file.write_text(content)
            run([sys.executable, file.name], tmp_path)
    for name in CREATES[tutorial.stem]:
        path = tmp_path / name
        assert path.is_dir() or path.stat().st_size > 0, name
