"""A run of ours under the same verb: trained on from its weights, taught by itself, exported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgemtl.cli import main
from edgemtl.run import Run
from edgemtl_runtime.bundle import Bundle


@pytest.mark.slow
def test_a_run_is_pruned_with_its_own_data(tiny_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "small"
    words = ["prune", str(tiny_run.path), "--finetune", "--metric", "parameters", "--target", "0.8", "--steps", "12"]
    assert main([*words, "--out", str(out), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["parameters"][1] < 0.4 * answer["parameters"][0]
    run = Run.open(out / "run")
    assert run.config.init_from == str(tiny_run.path.resolve()) and run.config.sparsity.target == 0.8
    assert Bundle.open(out / "bundle").manifest.removed["parameters_after"] == answer["parameters"][1]
    assert set(answer["agreement"]) >= {"semantic"} and answer["accuracy"]["semantic"]["all"][0] is not None
    assert main(["prune", str(tiny_run.path), "--images", str(tmp_path), "--out", str(tmp_path / "b")]) == 2
    assert "a run has its data" in capsys.readouterr().err
