"""Ultralytics is an extra: what is said without it, and the licence that its networks carry along."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
import pytest
from foreign_networks import checkpoint, grid_onnx

from edgemtl.cli import main
from edgemtl.external.opening import open_network
from edgemtl.external.options import OpenOptions
from edgemtl.external.source import NetworkSource


def test_without_ultralytics_a_checkpoint_is_refused_in_a_line_and_its_weights_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = checkpoint("yolo11n", tmp_path / "net.pt", ("person", "car"))
    for name in [name for name in sys.modules if name.startswith(("edgemtl_models.yolo", "ultralytics."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ultralytics", None)
    monkeypatch.delattr("edgemtl_models.yolo", raising=False)
    assert main(["export", str(file), "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "net.pt: a network of ultralytics (AGPL-3.0)" in line and "pip install 'ultralytics>=8.4,<9'" in line
    assert not (tmp_path / "out").exists()
    assert main(["weights", "convert", str(file)]) == 0 and (tmp_path / "net.safetensors").is_file()


def test_an_onnx_file_keeps_the_licence_that_it_names(tmp_path: Path) -> None:
    file = tmp_path / "net.onnx"
    grid_onnx(file, 6, False)
    model = onnx.load(file)
    opened = open_network(NetworkSource(".onnx", file), OpenOptions())
    assert "not known" in opened.licence
    onnx.helper.set_model_props(model, {"license": "AGPL-3.0 License\n(https://ultralytics.com/license)"})
    onnx.save(model, file)
    opened = open_network(NetworkSource(".onnx", file), OpenOptions())
    assert opened.licence.startswith("AGPL-3.0 License (https://ultralytics.com/license), as the file says")
