"""Runs, configurations and datasets of others are read within bounds: a problem is one line."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import save_file

import edgemtl_models
from edgemtl.cli import main
from edgemtl.config_file import load
from edgemtl.data.check import check
from edgemtl.errors import ConfigError, EdgemtlError
from edgemtl.run import Run, read_metrics

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    "text", [LAUGHS, "[" * 5000, "a: " + "9" * 10_000, "lr: .nan", "lr: 1e400", "batch: " + "9" * 4000, "a: &a [*a]"]
)
def test_a_configuration_has_bounds(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as error:
        load(file)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500
    assert main(["train", str(file), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("word", ["lr=" + "[" * 5000, "batch=" + "9" * 10_000, "lr=&a [*a]"])
def test_a_word_has_bounds(word: str) -> None:
    with pytest.raises(ConfigError):
        load(None, [word])


@pytest.mark.parametrize("text", [LAUGHS, "[" * 5000, "names: " + "9" * 10_000, "a" * (5 << 20)])
def test_a_description_of_data_has_bounds(tmp_path: Path, text: str) -> None:
    (tmp_path / "data.yaml").write_text(text)
    index, _ = check(tmp_path)
    assert any("data.yaml" in str(problem) for problem in index.problems)


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "{", "9" * 10_000, "\x00"])
def test_figures_have_bounds(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(EdgemtlError, match=r"metrics.json: cannot be read") as error:
        read_metrics(tmp_path)
    assert "\n" not in str(error.value)


def test_figures_that_are_no_number_are_read(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text('{"val": NaN}')
    assert list(read_metrics(tmp_path)) == ["val"]


@pytest.mark.parametrize(
    "interface",
    [
        "[" * 100_000,
        {"network": {"name": "x", "streams": {"rgb": {"width": 10**9}}}, "inputs": [], "heads": []},
        {"network": {"name": "x", "neck": [8192] * 9999}, "inputs": [], "heads": []},
        {"network": {"name": "x", "neck": [1e300]}, "inputs": [], "heads": []},
        {"network": {}, "inputs": [], "heads": []},
    ],
)
def test_a_run_has_bounds(tmp_path: Path, interface: Any) -> None:
    encoded = interface if isinstance(interface, str) else msgspec.json.encode(interface).decode()
    save_file({"w": torch.zeros(1)}, tmp_path / "weights.safetensors", {"interface": encoded})
    (tmp_path / "config.yaml").write_text("steps: 1\n")
    (tmp_path / "metrics.json").write_text(json.dumps({}))
    with pytest.raises(EdgemtlError, match="damaged run") as error:
        Run.open(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text", ["[" * 5000, "a: &a [1]\nb: *a", "name: x\nneck: [999999]", "- 1", "\x00", "a: " * 50_000, "x: .inf"]
)
def test_a_network_of_a_file_has_bounds(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "net.yaml"
    file.write_text(text)
    with pytest.raises(ValueError):
        edgemtl_models.build(str(file), {"boxes": 2}, (96, 128))


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
@pytest.mark.parametrize("data", [b"", b"no tensors", pickle.dumps({"a": 1}), pickle.dumps(print)])
def test_weights_without_tensors_are_an_error(tmp_path: Path, name: str, data: bytes) -> None:
    from edgemtl_models.backbone import TimmBackbone

    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match="no tensors in it") as error:
        TimmBackbone(3, "resnet18", str(tmp_path / name))
    assert "\n" not in str(error.value)
