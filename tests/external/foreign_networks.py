"""Small networks as people have them: a file with a function, an ONNX file, a program, checkpoints of ultralytics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

FILE = """
import torch
from torch import nn


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.norm = nn.Conv2d(3, 32, 3, 2, 1), nn.BatchNorm2d(32)
        self.b, self.c = nn.Conv2d(32, 48, 3, 2, 1), nn.Conv2d(48, 5, 1)

    def forward(self, x):
        return self.c(torch.relu(self.b(torch.relu(self.norm(self.a(x))))))


def small():
    torch.manual_seed(0)
    return Small()


def fails():
    raise RuntimeError("no such thing")


def number():
    return 3
"""


def python_file(folder: Path) -> Path:
    """Write a file whose functions make networks."""
    file = folder / "nets.py"
    file.write_text(FILE)
    return file


class GridNet(nn.Module):
    """Three levels of a grid of cells, as one row of numbers a cell: (B, A, 5 + classes) or (B, 4 + classes, A)."""

    def __init__(self, numbers: int, rows: bool) -> None:
        super().__init__()
        self.rows = rows
        self.stem = nn.Conv2d(3, 48, 3, 8, 1)
        self.down = nn.ModuleList([nn.Conv2d(48, 48, 3, 2, 1) for _ in range(2)])
        self.out = nn.ModuleList([nn.Conv2d(48, numbers, 1) for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x / 128))
        levels = [self.out[0](x)]
        for down, out in zip(self.down, list(self.out)[1:], strict=True):
            x = torch.relu(down(x))
            levels.append(out(x))
        grid = torch.cat([level.flatten(2) for level in levels], 2)
        box, scores = grid.split([4, grid.shape[1] - 4], 1)
        if not self.rows:  # decoded: centres follow the cells
            centre, size = box.split(2, 1)
            steps = [8 * 2**level for level, item in enumerate(levels) for _ in range(item[0, 0].numel())]
            cells = [self._cells(item, 8 * 2**level) for level, item in enumerate(levels)]
            box = torch.cat([torch.cat(cells, 1) + centre, size.exp() * torch.tensor(steps)], 1)
        grid = torch.cat([box, scores.sigmoid()], 1)
        return grid.transpose(1, 2) if self.rows else grid

    @staticmethod
    def _cells(level: Tensor, stride: int) -> Tensor:
        """The centres of a level's cells in pixels, (2, cells)."""
        rows, columns = level.shape[2:]
        y, x = torch.meshgrid(torch.arange(rows) + 0.5, torch.arange(columns) + 0.5, indexing="ij")
        return torch.stack([x.flatten(), y.flatten()]) * stride


def grid_onnx(file: Path, numbers: int, rows: bool, size: tuple[int, int] = (64, 96)) -> nn.Module:
    """Write such a network as ONNX, and return it."""
    torch.manual_seed(0)
    network = GridNet(numbers, rows).eval()
    for out in network.out:
        nn.init.normal_(out.weight, std=0.02)  # type: ignore[arg-type]  # boxes of some pixels
    program = torch.onnx.export(network, (torch.zeros(1, 3, *size),), dynamo=True, opset_version=20, verbose=False)
    assert program is not None
    program.save(str(file))
    return network


class BestBoxes(nn.Module):
    """Such a network that chooses its best boxes itself: (B, K, 6) corners, score and class."""

    def __init__(self, classes: int, most: int) -> None:
        super().__init__()
        self.grid, self.most, self.classes = GridNet(4 + classes, False), most, classes

    def forward(self, x: Tensor) -> Tensor:
        centre, size, scores = self.grid(255 * x).split([2, 2, self.classes], 1)
        corners = torch.cat([centre - size / 2, centre + size / 2], 1).transpose(1, 2)
        best, index = scores.transpose(1, 2).flatten(1).topk(self.most)
        cell = torch.div(index, self.classes, rounding_mode="floor")
        chosen = corners.gather(1, cell.unsqueeze(-1).expand(-1, -1, 4))
        label = (index - cell * self.classes).to(best.dtype)
        return torch.cat([chosen, best.unsqueeze(-1), label.unsqueeze(-1)], -1)


def best_boxes_onnx(file: Path, classes: int, most: int, size: tuple[int, int] = (64, 96)) -> nn.Module:
    """Write such a network as ONNX with the names that ultralytics writes, and return it."""
    torch.manual_seed(0)
    network = BestBoxes(classes, most).eval()
    program = torch.onnx.export(network, (torch.zeros(1, 3, *size),), dynamo=True, opset_version=20, verbose=False)
    assert program is not None
    names = {index: f"name{index}" for index in range(classes)}
    model = program.model_proto
    onnx.helper.set_model_props(model, {"names": str(names), "end2end": "True"})
    onnx.save(model, str(file))
    return network


def checkpoint(name: str, file: Path, classes: tuple[str, ...] = (), seed: int = 0) -> Path:
    """Save a network of ultralytics with random weights, as ultralytics does."""
    pytest.importorskip("edgemtl_models.yolo", reason="ultralytics is not installed")
    from ultralytics import YOLO
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(seed)
    model = YOLO(f"{name}.yaml")
    if classes:
        model.model = DetectionModel(f"{name}.yaml", nc=len(classes), verbose=False)
        model.model.names = dict(enumerate(classes))
    calibrate(model.model)
    model.save(str(file))
    return file


def calibrate(network: nn.Module) -> None:
    """Set the batch statistics of random weights to those of noise: without them no image would reach the outputs."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
    with torch.no_grad():
        network.train()(torch.rand(4, 3, 96, 96))
    for norm in norms:
        norm.momentum = 0.03
    network.eval()


def images(folder: Path, count: int = 12, size: tuple[int, int] = (48, 64)) -> Path:
    """Write images of noise and blots without labels."""
    import cv2

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        small = rng.integers(0, 256, (6, 8, 3), np.uint8)
        cv2.imwrite(str(folder / f"{number:03}.png"), cv2.resize(small, size[::-1]))
    return folder
