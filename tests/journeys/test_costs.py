"""The way of a robot's costs: a run's probe is written, measured by another process, and a training aims by it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgemtl.cli import main
from edgemtl.config_file import load
from edgemtl.errors import EdgemtlError
from edgemtl.methods.channel_sparsity import ChannelSparsity
from edgemtl.run import Run
from edgemtl.synthetic.streets import Streets
from edgemtl.train import begin
from edgemtl.trainer import Trainer
from edgemtl_export.cost_model.deployed_latency import DeployedLatency
from edgemtl_export.cost_model.measured import write_probe
from edgemtl_export.cost_model.probe import Probe
from edgemtl_runtime.cli import main as runtime


@pytest.fixture(scope="module")
def measured(tiny_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a probe and of the costs that a process like a robot's has measured of it."""
    folder = tmp_path_factory.mktemp("costs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Probe, "networks", 2)
        assert main(["export", str(tiny_run.path), "--probe", str(folder / "probe")]) == 0
    words = ["profile", str(folder / "probe"), "--out", str(folder / "costs.json"), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "edgemtl_runtime", *words],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": ":".join(sys.path)},
    )
    answer = json.loads(done.stdout)
    assert answer["dense_ms"] > 0 and answer["backend"] == "onnxruntime-cpu" and answer["threads"] == 1
    return folder


def trainer_of(run: Run, *words: str) -> Trainer:
    size = run.interface.inputs[0]
    config = load(
        None,
        [
            f"network={run.interface.network['name']}",
            f"tasks={json.dumps([head.name for head in run.interface.heads])}",
            f"modalities={json.dumps([spec.name for spec in run.interface.inputs])}",
            f"input_size=[{size.height},{size.width}]",
            "batch_size=2",
            "steps=4",
            "sparsity.target=0.5",
            "sparsity.metric=latency",
            *words,
        ],
    )
    return begin(config, {"train": Streets(4, config.input_size, 0, config.tasks)})[0]


@pytest.mark.long
@pytest.mark.slow
def test_a_training_aims_by_the_costs_of_a_robot(
    tiny_run: Run, measured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Probe, "networks", 2)
    trainer = trainer_of(tiny_run, f"sparsity.costs={measured / 'costs.json'}")
    sparsity = trainer.regularizers["sparsity"]
    assert isinstance(sparsity, ChannelSparsity)
    cost = sparsity.sparsifier.cost
    assert isinstance(cost, DeployedLatency) and not cost.is_here
    times_ms = json.loads((measured / "costs.json").read_text())["times_ms"]
    assert cost() == pytest.approx(times_ms["network-0"])
    half = np.arange(sparsity.sparsifier.penalised.groups.count) % 2 == 0
    assert 0 < cost(half) < cost()


@pytest.mark.long
@pytest.mark.slow
def test_costs_of_another_size_are_refused(tiny_run: Run, measured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Probe, "networks", 2)
    size = tiny_run.interface.inputs[0]
    words = [f"sparsity.costs={measured / 'costs.json'}", f"input_size=[{size.height},{size.width + 32}]"]
    with pytest.raises(EdgemtlError, match="another size of its images"):
        trainer_of(tiny_run, *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["export", "RUN", "--probe", "p", "--precisions", "int8"], "a probe is in fp32 or fp16"),
        (["export", "RUN", "--probe", "FOLDER"], "holds something else"),
    ],
)
def test_export_refuses(
    words: list[str], message: str, tiny_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    places = {"RUN": str(tiny_run.path), "FOLDER": str(tmp_path / "mine"), "p": str(tmp_path / "p")}
    assert main([places.get(word, word) for word in words]) == 2
    assert message in capsys.readouterr().err
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "is no probe"),
        (["PROBE", "--threads", "-1"], "--threads -1: give 1 to"),
        (["PROBE", "--backend", "abacus"], "abacus"),
        (["PROBE", "--precision", "fp16"], "is a probe in fp32, not in fp16"),
        (["PROBE", "--out", "MINE"], "is there already"),
    ],
)
def test_profile_refuses(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(Probe, "networks", 1)
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 2, 1))
    write_probe(Probe(network, (torch.rand(1, 3, 8, 8),)), tmp_path / "probe")
    (tmp_path / "mine.json").write_text("mine")
    places = {"PROBE": str(tmp_path / "probe"), "MINE": str(tmp_path / "mine.json")}
    out = [] if "--out" in words else ["--out", str(tmp_path / "costs.json")]
    assert runtime(["profile", *(places.get(word, word) for word in words), *out]) == 2
    assert message in capsys.readouterr().err
    assert (tmp_path / "mine.json").read_text() == "mine" and not (tmp_path / "costs.json").exists()
