"""docs/extending.md as it stands: its files are written and its commands run; trainings are cut short."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "training"))
import extending

SHORT = " steps=6 epochs=0 input_size=[64,96] batch_size=4"


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.fault("L12")
def test_the_document_on_extending_runs(tmp_path: Path) -> None:
    extending.write(tmp_path)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    lines = extending.commands()
    assert len(lines) >= 9
    for line in lines:
        words = line.replace(" --out", f"{SHORT} --out") if " train " in line else line
        done = subprocess.run(words, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{words}\n{done.stderr}"
    results = [json.loads(line) for line in (tmp_path / "temperatures.jsonl").read_text().splitlines()]
    assert len(results) == 3 and all(-50 < r["heads"]["temperature"]["percentiles"]["median"] < 80 for r in results)
    assert {"plugins.json", "report.html"} <= {file.name for file in (tmp_path / "runs" / "plain").iterdir()}
