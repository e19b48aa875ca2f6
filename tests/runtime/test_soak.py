"""The soak of benchmarks/soak.py and reopen.py, a part of it: nothing grows or leaks, every frame is accounted for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SOAK, REOPEN = BENCHMARKS / "soak.py", BENCHMARKS / "reopen.py"


@pytest.mark.slow
def test_nothing_grows_leaks_or_is_lost_uncounted(tmp_path: Path) -> None:
    out = tmp_path / "soak.json"
    words = [sys.executable, str(SOAK), "--pairs", "5000", "--out", str(out)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    told = json.loads(out.read_text())
    assert told["pairs"] == 5000 and told["balanced"] and told["growth"] < 0.01
    assert told["threads_left"] == told["descriptors_left"] == 0
    causes = told["causes"]  # every fault was there
    assert {"ir: corrupt frame", "rgb: repeated picture", "ir: stamp did not rise", "ir: no partner"} <= causes.keys()
    assert told["captured"]["rgb"] == told["delivered"]["rgb"] + told["dropped"]["rgb"]
    assert told["delivered"]["rgb"] > told["delivered"]["ir"]  # while the thermal camera was silent


@pytest.mark.slow
def test_opening_again_and_again_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "reopen.json"
    words = [sys.executable, str(REOPEN), "--times", "60", "--out", str(out)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600)
    rows = {row["how"]: row for row in json.loads(out.read_text())}
    assert rows.keys() == {"close", "drop"}, done.stderr
    for row in rows.values():
        # an engine that stays would be 1.5 MB a time and more; the allocator's own ups and downs are a few in all
        assert row["resident_kb"][1] - row["resident_kb"][0] < 60 * 200
        assert row["threads_left"] == row["descriptors_left"] == 0
