"""Checkpoints as safetensors: the same tensors by name, and nothing of the file is run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_networks import checkpoint
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from edgemtl.cli import main

RAN = "EDGEMTL_TEST_RAN"


class Runs:
    """What runs a program when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.putenv, (RAN, "1")


def test_a_checkpoint_of_ultralytics_keeps_its_tensors_and_description(tmp_path: Path) -> None:
    file = checkpoint("yolo11n", tmp_path / "net.pt", ("person", "car"))
    assert main(["weights", "convert", str(file)]) == 0
    network = torch.load(file, weights_only=False)["model"].float()
    tensors = load_file(tmp_path / "net.safetensors")
    assert tensors.keys() == network.state_dict().keys()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in network.state_dict().items())
    with safe_open(tmp_path / "net.safetensors", "pt") as opened:
        description = json.loads(opened.metadata()["ultralytics"])
    assert description["names"] == {"0": "person", "1": "car"} and description["kind"] == "DetectionModel"
    assert main(["weights", "convert", str(file), "--out", str(tmp_path / "net.safetensors")]) == 2  # there already


def test_a_state_dict_becomes_weights_of_a_library_s_network(tmp_path: Path) -> None:
    import torchvision

    torch.manual_seed(0)
    network = torchvision.models.squeezenet1_1()
    torch.save({"state_dict": network.state_dict()}, tmp_path / "net.pth")
    assert main(["weights", "convert", str(tmp_path / "net.pth"), "--out", str(tmp_path / "w.safetensors")]) == 0
    out = tmp_path / "small.pt2"
    words = ["torchvision:squeezenet1_1", "--input-size", "64", "64", "--out", str(out)]
    assert main(["shrink", *words, "--weights", str(tmp_path / "w.safetensors")]) == 0
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(torch.export.load(out).module()(image), network.eval()(image), atol=1e-4, rtol=1e-4)


def test_what_cannot_be_read_without_running_it_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model": Runs()}, tmp_path / "odd.pt")
    torch.save({"model": nn.Linear(2, 2)}, tmp_path / "plain.pt")
    (tmp_path / "text.pt").write_text("no weights")
    for name, message in (
        ("odd", "names 'posix.putenv'"),
        ("text", "no tensors by name"),
        ("plain", "no tensors by name"),
    ):
        assert main(["weights", "convert", str(tmp_path / f"{name}.pt")]) == 2
        line = capsys.readouterr().err.strip()
        assert "\n" not in line and message in line, line
        assert not (tmp_path / f"{name}.safetensors").exists()
    assert RAN not in os.popen(f"echo ${RAN}").read() and os.environ.get(RAN) is None
