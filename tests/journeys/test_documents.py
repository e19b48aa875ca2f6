"""Commands of the documents as they stand, but for cameras, the size of a dataset and the length of a training."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgemtl.cli import main as edgemtl
from edgemtl_runtime.cli import main as runtime

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


SHORT = {
    "input_size": "[64,96]",
    "steps": "4",
    "batch_size": "4",
    "precision": "fp32",
    "data.synthetic.num_train": "8",
    "data.synthetic.num_val": "4",
}
"""Settings of a training that is over at once."""


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


@pytest.mark.long
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


TRAINING = ("training.md", "methods.md")
ELSEWHERE = ("yolo11n.pt", "FILE.pt", "weights get", "IMAGES")
"""Of commands that need a file of the reader's, or the network: the tutorials run the same on files of theirs."""


def training_commands() -> list[list[str]]:
    """Return the words of every command of the documents about training, comments left out."""
    found = []
    for document in TRAINING:
        text = (DOCS / document).read_text()
        for line in re.findall(r"^(edgemtl(?:-runtime)? .*)$", text, re.M):
            if not any(word in line for word in ELSEWHERE):
                found.append(shlex.split(line, comments=True))
    return found


@pytest.mark.long
def test_commands_of_trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undrawn: None) -> None:
    """In the order of the documents; runs that a command begins with and none has made yet are made first."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEMTL_CACHE", str(tmp_path / "cache"))
    short = [f"{key}={value}" for key, value in SHORT.items()]
    for number, words in enumerate(training_commands()):
        for name in re.findall(r"runs/[a-z-]+", " ".join(words[2:])):
            is_made = f"--out {name}" in " ".join(words)
            if not is_made and not Path(name).exists():
                sparse = ["sparsity.target=0.3"] if name == "runs/rgbir-n" else []
                assert edgemtl(["train", *short, *sparse, "--out", name]) == 0, name
        if words[1] == "adapt":
            run_words = [*words, *short]
        elif words[1] in ("train", "sweep"):
            of_cost = "sparsity.max_cost" in " ".join(words)  # of images of the usual size
            begin = 4 if words[1] == "sweep" else 3  # the key that is swept comes first
            run_words = [*words[:begin], *(short[1:] if of_cost else short), *words[begin:]]
        else:
            run_words = words
        if words[1] == "train" and "--out" not in words:
            run_words += ["--out", f"runs/unnamed-{number}"]
        if words[2] == "more.yaml":
            Path("more.yaml").write_text("{}\n")
        if words[1] in ("train", "adapt", "compare") and "--resume" not in words:
            run_words += ["--overwrite"]
        program = edgemtl if words[0] == "edgemtl" else runtime
        assert program(run_words[1:]) == 0, run_words
