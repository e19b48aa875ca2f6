"""The soak of benchmarks/soak.py, a twentieth of it: nothing grows, nothing leaks, every frame is accounted for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SOAK = Path(__file__).parents[2] / "benchmarks" / "soak.py"


def test_nothing_grows_leaks_or_is_lost_uncounted(tmp_path: Path) -> None:
    out = tmp_path / "soak.json"
    words = [sys.executable, str(SOAK), "--pairs", "5000", "--out", str(out)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    told = json.loads(out.read_text())
    assert told["pairs"] == 5000 and told["balanced"] and told["growth"] < 0.01
    assert told["threads_left"] == told["descriptors_left"] == 0
    causes = told["causes"]  # every fault was there
    assert {"ir: corrupt frame", "rgb: repeated picture", "ir: stamp did not rise", "ir: no partner"} <= causes.keys()
    assert told["captured"]["rgb"] == told["delivered"]["rgb"] + told["dropped"]["rgb"]
    assert told["delivered"]["rgb"] > told["delivered"]["ir"]  # while the thermal camera was silent
