"""The READMEs' commands and examples, run as they stand; long trainings are cut short."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edgemtl.run import Run
from edgemtl_runtime.bundle import Bundle

ROOT = Path(__file__).parents[2]
FIGURES = ["ap50_day", "ap50_night", "miou", "params_dense", "params_shrunk"]
FIGURES += ["latency_ratio", "parity_max_abs", "seconds", "peak_mb"]
SHORT = " data.synthetic.num_train=64 data.synthetic.num_val=8 steps=12 input_size=[96,128]"


def blocks(file: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", file.read_text(), re.S)


def environment() -> dict[str, str]:
    return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


@pytest.mark.long  # the tutorial own-data runs the same commands, and tests/test_documented_commands.py parses these
@pytest.mark.slow
def test_the_journey_of_the_readme(tmp_path: Path) -> None:
    """Every shell line but the two make targets, in an empty folder."""
    lines = [
        line
        for block in blocks(ROOT / "README.md", "sh")
        for line in block.splitlines()
        if line.strip() and not line.startswith(("#", "make ", ". .venv"))
    ]
    assert len(lines) >= 5
    for line in lines:
        line = re.split(r"\s+# ", line)[0].replace("?fps=20", "?fps=60")
        line = line.replace("edgemtl train ", f"edgemtl train{SHORT} ")
        if "$EDGEMTL_DATA" in line and not os.environ.get("EDGEMTL_DATA"):
            continue
        line = line.replace("pattern:'", "pattern:?frames=20'")
        result = subprocess.run(
            line, shell=True, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=600
        )
        assert result.returncode == 0, (line, result.stderr[-2000:])


def test_the_readme_is_short_and_links_what_is_there() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) < 120
    linked = set(re.findall(r"\]\(([^)]+)\)", text))
    assert all((ROOT / path).exists() for path in linked)
    assert "docs/index.md" in linked  # whose site lists every page (tests/test_site.py)


@pytest.mark.long
@pytest.mark.slow
def test_make_demo(tmp_path: Path) -> None:
    """The README's first command, cut to a few steps: every artefact is there and tells of the others."""
    out = tmp_path / "demo"
    command = ["make", "-C", str(ROOT), "demo", f"OUT={out}", "STEPS=30", f"VENV={Path(sys.executable).parents[1]}"]
    subprocess.run(command, check=True, capture_output=True, timeout=900)
    names = {path.name for path in out.iterdir()}
    assert {"bundle", "demo.json", "report.html", "result.png", "stream.mp4"} <= names
    told = json.loads((out / "demo.json").read_text())
    assert set(FIGURES) <= set(told) and all(isinstance(told[key], (int, float)) for key in FIGURES)
    assert told["params_shrunk"] <= 0.5 * told["params_dense"] and told["parity_max_abs"] <= 1e-3
    assert told["peak_mb"] < 4096
    assert Bundle.open(out / "bundle").manifest.removed["parameters_after"] == told["params_shrunk"]
    report = re.sub(r'src="data:[^"]*"', "", (out / "report.html").read_text())
    assert "$" not in report and "http" not in report and "src=" not in report and report.count("<img") >= 10
    assert Run.open(out / "run").metrics["steps"] == 30


@pytest.mark.parametrize("room", ["runtime", pytest.param("export", marks=pytest.mark.slow)])
def test_the_examples_of_the_rooms(room: str, tmp_path: Path, toy_bundle: Path) -> None:
    (tmp_path / "bundle").symlink_to(toy_bundle)
    promised: list[str] = []
    for example in blocks(ROOT / room / "README.md", "python"):
        result = subprocess.run(
            [sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, timeout=600
        )
        assert result.returncode == 0 and result.stdout, result.stderr[-2000:]
        lines = re.findall(r"# (parameters .*? removed\))", example)
        assert all(line in result.stdout for line in lines)
        promised += lines
    assert len(promised) == (room == "export")
