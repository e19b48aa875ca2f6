"""Head taps from the active layers of sparse single-task networks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import edgemtl_models
from edgemtl.cli import main
from edgemtl.errors import EdgemtlError
from edgemtl.experiments.lomt import block_of, last_needed, mean, survival
from edgemtl.run import Run

LAYERS = ["stem", "a.0.conv", "a.1.conv", "b.0.conv", "c.0.conv", "stage32.0"]
STRIDES = {"a.0": 4, "a.1": 4, "b.0": 8, "c.0": 16, "stage32": 32}


@pytest.mark.parametrize(
    ("shares", "least", "tap"),
    [
        ([1, 1, 1, 1, 1, 1], 4, "stage32"),
        ([1, 1, 0.5, 0, 0, 0], 4, "a.1"),
        ([1, 1, 0, 0.02, 0.009, 0], 4, "b.0"),
        ([1, 0, 0, 0, 0, 0], 4, "a.0"),
        ([1, 0.3, 0, 0, 0, 0], 8, "b.0"),
    ],
)
def test_a_head_is_tapped_after_the_block_of_the_last_active_layer(shares: list[float], least: int, tap: str) -> None:
    profile = mean([dict(zip(LAYERS, shares, strict=True))] * 2)
    assert block_of(last_needed(profile, 0.01, "depth"), LAYERS, STRIDES, least) == tap


def test_a_task_whose_layers_are_all_pruned_is_an_error() -> None:
    with pytest.raises(EdgemtlError, match="every layer was pruned for depth; lower sparsity"):
        last_needed(dict.fromkeys(LAYERS, 0.0), 0.01, "depth")


def test_survival_counts_what_each_convolution_reads() -> None:
    taps = {"depth": "stage32"}
    network = edgemtl_models.build("rgbir-mobilenetv2", {"depth": 1}, (64, 64), pretrained=False, head_taps=taps)
    assert set(survival(network).values()) == {1.0}
    for modality, backbone in network.trunk.backbones.items():
        plain, depthwise = backbone.body.blocks[1][0].conv_pw, backbone.body.blocks[1][0].conv_dw
        with torch.no_grad():
            plain.weight[:, : 4 if modality == "rgb" else 8] = 0
            depthwise.weight[: depthwise.out_channels // 4] = 0
    profile = survival(network)
    assert profile["body.blocks.1.0.conv_pw"] == 1 - 4 / 16 and profile["body.blocks.1.0.conv_dw"] == 0.75


@pytest.mark.slow
def test_lomt_ends_in_a_network_with_head_taps_that_can_be_exported(tmp_path: Path) -> None:
    out = tmp_path / "lomt"
    words = [
        "input_size=[32,64]",
        "data.synthetic.num_train=16",
        "data.synthetic.num_val=4",
        "steps=20",
        "batch_size=4",
        "precision=fp32",
        "lomt.seeds=1",
    ]
    words += ["method=lomt", "tasks=[semantic,depth]", "sparsity.strength=0.05", "sparsity.begin=0"]
    assert main(["train", *words, "--out", str(out)]) == 0
    profile = json.loads((out / "profile.json").read_text())
    run = Run.open(out / "network")
    assert run.config.head_taps == profile["head_taps"] and (out / "profile.png").stat().st_size > 1000
    assert set(profile["profiles"]) == {"semantic", "depth"} and "stage32" not in profile["head_taps"].values()
    assert not any("stage32" in name for name, _ in run.network.named_modules())
    assert main(["train", *words, "--out", str(out), "--resume"]) == 0
    assert main(["export", str(out / "network"), "--out", str(tmp_path / "bundle")]) == 0
