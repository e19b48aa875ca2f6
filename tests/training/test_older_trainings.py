"""Trainings of version 0.1: finished runs open with today's names, unfinished ones are answered in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from edgemtl.checkpoint import OLD_HEADER, lasting, lasting_of, read_values, upgraded
from edgemtl.cli import main
from edgemtl.config_file import load
from edgemtl.plots import training_curves
from edgemtl.run import Run
from edgemtl.run_files import read_metrics
from edgemtl.training_log import TITLES, read_log

OLDER = Path(__file__).parents[1] / "fixtures" / "version-0.1"


@pytest.mark.parametrize("name", ["run", "run-aligned"])
def test_the_metrics_of_a_run_have_todays_keys(name: str) -> None:
    written = json.loads((OLDER / name / "metrics.json").read_text())
    metrics = read_metrics(OLDER / name)
    assert metrics["evals"] == written["judged"] and "judged" not in metrics and metrics["val"] == written["val"]
    assert metrics["loss"]["pruned"] == written["loss"]["gone"]
    assert metrics["loss"]["active_channels"] == written["loss"]["live"]
    assert Run.open(OLDER / name).metrics == metrics


@pytest.mark.parametrize("name", ["run", "run-aligned"])
def test_the_log_of_a_run_is_drawn_with_todays_columns(name: str) -> None:
    rows = read_log(OLDER / name / "log.csv")
    columns = {column for row in rows for column in row}
    assert {"step", "lr", "pruned", "active_channels"} <= columns and not columns & {"gone", "live"}
    assert not any(column.startswith(("weight ", "strength ", "val ", "alignment ")) for column in columns)
    if name == "run":
        assert {"loss_weight/boxes", "strength/all", "val/depth"} <= columns
    assert len(training_curves(rows)) > 10_000 and set(TITLES) <= columns


def older_checkpoint(file: Path) -> None:
    """Write the file that version 0.1 left of a training of the fixture's configuration."""
    import yaml

    config = yaml.safe_load((OLDER / "run" / "config.yaml").read_text())
    values = {"step": 3, "seconds": 1.0, "updates": 3, "log": [], "method": {"balance": {}}, "config": config}
    save_file({"network.weight": torch.zeros(1)}, file, {"told": json.dumps(values)})


def test_an_unfinished_training_is_answered_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    older_checkpoint(tmp_path / ".run.unfinished")
    config = load(OLDER / "run" / "config.yaml")
    values = read_values(tmp_path / ".run.unfinished")
    assert values[OLD_HEADER] and lasting_of(tmp_path / "run") == lasting(config)
    before = (tmp_path / ".run.unfinished").read_bytes()
    monkeypatch.chdir(OLDER)  # the configuration names a file of a network by its relative path
    command = ["train", str(OLDER / "run" / "config.yaml"), "--out", str(tmp_path / "run")]
    assert main([*command, "--resume"]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "version 0.1, which cannot be resumed" in line and "--overwrite" in line
    assert (tmp_path / ".run.unfinished").read_bytes() == before
    assert main(command) == 2 and "an unfinished training stands here" in capsys.readouterr().err


def test_a_configuration_is_upgraded_to_todays_keys() -> None:
    config = load(None, ["batch_size=4", "sparsity.target=0.5"])
    older = {key: value for key, value in lasting(config).items() if key not in ("batch_size", "sparsity")}
    older |= {"batch": 4, "sparsity": {"target": 0.5, "pull": config.sparsity.reg_ratio}}
    assert {key: value for key, value in upgraded(older).items() if key in lasting(config)} == lasting(config)
    assert upgraded({"semantic": {"lr": 0.1}}) == {"semantic": {"lr": 0.1}}
