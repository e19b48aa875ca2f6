"""Checkpoints of ultralytics from end to end: pruned, run live, and evaluated by ultralytics on the ONNX file."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from foreign_networks import checkpoint
from torch import nn

from edgemtl.cli import main
from edgemtl_runtime.cli import main as runtime

pytestmark = pytest.mark.slow
SIZE = 96
VAL = 120
"""So many that two scores in another order by rounding are below the difference that is allowed."""
CLASSES = ("blue", "green", "red")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Large boxes in the colours of their classes, which any detector finds after a few steps."""
    folder, rng = tmp_path_factory.mktemp("boxes"), np.random.default_rng(0)
    for split, count in (("train", 24), ("val", VAL)):
        for part in ("images", "labels"):
            (folder / part / split).mkdir(parents=True)
        for index in range(count):
            image = rng.integers(90, 160, (SIZE, SIZE, 3), np.uint8)
            label = index % len(CLASSES)
            (width, height), (x, y) = rng.integers(36, 60, 2), rng.integers(0, 36, 2)
            image[y : y + height, x : x + width] = np.eye(3)[label] * 255
            cv2.imwrite(str(folder / "images" / split / f"{index}.png"), image)
            box = (x + width / 2, y + height / 2, width, height)
            text = " ".join(f"{value / SIZE:.6f}" for value in box)
            (folder / "labels" / split / f"{index}.txt").write_text(f"{label} {text}\n")
    names = "".join(f"  {index}: {name}\n" for index, name in enumerate(CLASSES))
    (folder / "data.yaml").write_text(f"path: {folder}\ntrain: images/train\nval: images/val\nnames:\n{names}")
    return folder


LEARNT = 0.2
"""An AP50 at which a network has something to lose."""


def trained(name: str, file: Path, data: Path) -> Path:
    """A checkpoint that finds something, however few epochs that takes here."""
    from edgemtl.external.opening import open_network
    from edgemtl.external.source import parse
    from edgemtl_models.yolo_training import train_detector

    source = parse(str(checkpoint(name, file, CLASSES)))
    assert source is not None
    core: Any = open_network(source).adapter.core
    plain = dict.fromkeys(("mosaic", "scale", "translate", "hsv_h", "hsv_s", "hsv_v", "erasing", "warmup_epochs"), 0.0)
    arguments = {**plain, "epochs": 10, "batch": 8, "lr0": 0.001, "optimizer": "AdamW", "nbs": 8}
    network = core.network.requires_grad_(True)
    for _ in range(6):
        network = train_detector(network, str(data / "data.yaml"), SIZE, file.parent / "training", arguments)
        network.criterion = None
        if map50(copy.deepcopy(network), data) >= LEARNT:
            break
    torch.save({"model": network.half(), "train_args": {"imgsz": SIZE}}, file)
    return file


def map50(model: Any, data: Path, **words: Any) -> float:
    """The AP50 that `yolo val` gives."""
    from ultralytics.models.yolo.detect import DetectionValidator

    args = {"data": str(data / "data.yaml"), "imgsz": SIZE, "rect": False, "batch": 1, "plots": False, "save": False}
    validator = DetectionValidator(args={**args, **words})
    validator(model=model)
    return float(validator.metrics.box.map50)


LONG = [
    pytest.param(name, marks=pytest.mark.long)
    for name in ("yolov5n", "yolov8n", "yolov9t", "yolov10n", "yolo11n", "yolo12n")
]


@pytest.mark.parametrize("name", ["yolo26n", *LONG])
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
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == VAL

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
        self.end2end = end_to_end
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


@pytest.mark.long
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
