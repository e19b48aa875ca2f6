"""Checkpoints of ultralytics from end to end: pruned, run live, and evaluated by ultralytics on the ONNX file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import write_pairs
from foreign_networks import checkpoint
from torch import nn

from edgemtl.cli import main
from edgemtl.synthetic import CLASSES
from edgemtl_runtime.cli import main as runtime

pytestmark = pytest.mark.slow
SIZE = 96


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn streets as ultralytics reads them."""
    root = write_pairs(tmp_path_factory.mktemp("streets") / "pairs", 24, 12, (96, 96))
    for split in ("train", "val"):
        for folder, given in (("images", "rgb"), ("labels", "labels_rgb")):
            (root / "yolo" / folder).mkdir(parents=True, exist_ok=True)
            shutil.copytree(root / given / split, root / "yolo" / folder / split)
    names = "".join(f"  {index}: {name}\n" for index, name in enumerate(CLASSES))
    (root / "yolo" / "data.yaml").write_text(
        f"path: {root / 'yolo'}\ntrain: images/train\nval: images/val\nnames:\n{names}"
    )
    return root / "yolo"


def trained(name: str, file: Path, data: Path) -> Path:
    """A checkpoint that finds something: trained for a few epochs."""
    from edgemtl.external.opening import open_network
    from edgemtl.external.source import parse
    from edgemtl_models.yolo_training import train_detector

    source = parse(str(checkpoint(name, file, CLASSES)))
    assert source is not None
    core: Any = open_network(source).adapter.core
    arguments = {"epochs": 6, "batch": 8, "lr0": 0.01, "optimizer": "AdamW", "nbs": 8, "warmup_epochs": 0.5}
    average = train_detector(core.network, str(data / "data.yaml"), SIZE, file.parent / "training", arguments)
    average.criterion = None  # type: ignore[assignment]  # ultralytics keeps no loss in a file either
    torch.save({"model": average.half(), "train_args": {"imgsz": SIZE}}, file)
    return file


def map50(model: Any, data: Path, **words: Any) -> float:
    """The AP50 that `yolo val` gives."""
    from ultralytics.models.yolo.detect import DetectionValidator

    args = {"data": str(data / "data.yaml"), "imgsz": SIZE, "rect": False, "batch": 1, "plots": False, "save": False}
    validator = DetectionValidator(args={**args, **words})
    validator(model=model)
    return float(validator.metrics.box.map50)


@pytest.mark.parametrize("name", ["yolov8n", "yolo11n", "yolo26n"])
def test_pruned_run_and_evaluated_by_its_library(name: str, data: Path, tmp_path: Path) -> None:
    from ultralytics import YOLO

    file = trained(name, tmp_path / "net.pt", data)
    out = tmp_path / "small"
    words = ["prune", str(file), "--images", str(data), "--metric", "parameters", "--target", "0.3", "--steps", "30"]
    assert main([*words, "--batch-size", "4", "--out", str(out)]) == 0
    figures = json.loads((out / "figures.json").read_text())
    assert figures["parameters"][1] < 0.8 * figures["parameters"][0]

    stream = ["run", str(out / "bundle"), "--rgb", str(data / "images" / "val"), "--jsonl", str(tmp_path / "a.jsonl")]
    assert runtime(stream) == 0
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 12

    end_to_end = name in ("yolov10n", "yolo26n")
    words_of = {"nms": False} if end_to_end else {}
    onnx = YOLO(str(out / "network.onnx"), task="detect")
    of_file = onnx.val(
        data=str(data / "data.yaml"), imgsz=SIZE, rect=False, batch=1, plots=False, verbose=False, **words_of
    )
    narrow = torch.export.load(out / "network.pt2").module()
    of_torch = map50(_Torch(narrow, out, end_to_end), data, **words_of)
    assert abs(float(of_file.box.map50) - of_torch) <= 0.002
    assert float(of_file.box.map50) > 0


class _Torch(nn.Module):
    """The narrow program as ultralytics takes a module: with its names, stride and output."""

    def __init__(self, program: nn.Module, out: Path, end_to_end: bool) -> None:
        super().__init__()
        self.program, self.end2end = program, end_to_end
        self.names = dict(enumerate(CLASSES))
        self.stride = torch.tensor([32.0])
        self.yaml = {"channels": 3}
        self.anchor = nn.Parameter(torch.zeros(1))
        from edgemtl.external.formats import GridBoxes, UltralyticsFile
        from edgemtl.external.network import ProgramCore

        self.file = UltralyticsFile(ProgramCore(program), GridBoxes((SIZE, SIZE)), end_to_end)

    def forward(self, x: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return torch.cat([self.file(image[None]) for image in x])

    def fuse(self, *_: Any, **__: Any) -> _Torch:
        return self


@pytest.mark.parametrize("optimizer", ["MuSGD"])
def test_pruned_with_labels_in_its_librarys_training(optimizer: str, data: Path, tmp_path: Path) -> None:
    file = trained("yolo11n", tmp_path / "net.pt", data)
    out = tmp_path / "small"
    train = ["epochs=3", "batch=8", "nbs=8", f"optimizer={optimizer}", "lr0=0.002"]
    words = ["prune", str(file), "--data", str(data), "--metric", "flops", "--target", "0.3"]
    assert main([*words, "--train", *train, "--out", str(out)]) == 0
    figures = json.loads((out / "figures.json").read_text())
    assert figures["flops"][1] < 0.75 * figures["flops"][0] and figures["steps"] == 9
    assert set(figures["accuracy"]["boxes"]) >= {"all"}
    assert np.isfinite(figures["accuracy"]["boxes"]["all"]).all()
