"""Where each task leaves the network, from which layers of sparse networks are alive."""

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
    ("shares", "least", "exit_"),
    [
        ([1, 1, 1, 1, 1, 1], 4, "stage32"),
        ([1, 1, 0.5, 0, 0, 0], 4, "a.1"),
        ([1, 1, 0, 0.02, 0.009, 0], 4, "b.0"),
        ([1, 0, 0, 0, 0, 0], 4, "a.0"),
        ([1, 0.3, 0, 0, 0, 0], 8, "b.0"),
    ],
)
def test_a_task_leaves_behind_the_block_of_the_last_living_layer(shares: list[float], least: int, exit_: str) -> None:
    profile = mean([dict(zip(LAYERS, shares, strict=True))] * 2)
    assert block_of(last_needed(profile, 0.01, "depth"), LAYERS, STRIDES, least) == exit_


def test_a_task_for_which_all_died_is_told() -> None:
    with pytest.raises(EdgemtlError, match="every layer died for depth; lower sparsity"):
        last_needed(dict.fromkeys(LAYERS, 0.0), 0.01, "depth")


def test_survival_counts_what_each_convolution_reads() -> None:
    exits = {"depth": "stage32"}
    network = edgemtl_models.build("rgbir-mobilenetv2", {"depth": 1}, (64, 64), pretrained=False, head_taps=exits)
    assert set(survival(network).values()) == {1.0}
    for camera, backbone in network.trunk.backbones.items():
        plain, depthwise = backbone.body.blocks[1][0].conv_pw, backbone.body.blocks[1][0].conv_dw
        with torch.no_grad():
            plain.weight[:, : 4 if camera == "rgb" else 8] = 0
            depthwise.weight[: depthwise.out_channels // 4] = 0
    told = survival(network)
    assert told["body.blocks.1.0.conv_pw"] == 1 - 4 / 16 and told["body.blocks.1.0.conv_dw"] == 0.75


@pytest.mark.slow
def test_the_whole_way_ends_in_a_network_with_exits_that_can_be_shrunk(tmp_path: Path) -> None:
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
    told = json.loads((out / "profile.json").read_text())
    run = Run.open(out / "network")
    assert run.config.head_taps == told["exits"] and (out / "profile.png").stat().st_size > 1000
    assert set(told["profiles"]) == {"semantic", "depth"} and "stage32" not in told["exits"].values()
    assert not any("stage32" in name for name, _ in run.network.named_modules())
    assert main(["train", *words, "--out", str(out), "--resume"]) == 0
    assert main(["export", str(out / "network"), "--out", str(tmp_path / "bundle")]) == 0
