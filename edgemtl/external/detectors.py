"""Recognition of detectors by what they give: as many boxes as the cells of a grid, of a known layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgemtl_models.yolo_detector import cells
from edgemtl_runtime.bundle import Head

from .coco import COCO_NAMES
from .formats import STRIDES, DecodedYoloxBoxes, PixelGridBoxes, SelectedBoxes, YoloxBoxes
from .network import OutputFormat
from .options import Pixels

UNITS = "pixels of the camera, xyxy"
FOLLOWS = 0.9
"""Correlation of decoded centres with the cells that they are of."""


@dataclass(frozen=True, eq=False)
class Detector:
    """A detector: the format of its boxes, its head, and what pixels it takes."""

    format: OutputFormat
    head: Head
    pixels: Pixels
    bgr: bool
    note: str


def recognised(
    outputs: Any, module: nn.Module, size: tuple[int, int], names: dict[int, str] | None = None
) -> Detector | None:
    """Return the detector that a module with these outputs for black images of ``size`` is, None where it is none."""
    tensors = [outputs] if isinstance(outputs, Tensor) else list(outputs) if isinstance(outputs, list | tuple) else []
    if isinstance(outputs, dict):
        tensors = list(outputs.values())
    if len(tensors) != 1 or not isinstance(tensors[0], Tensor) or tensors[0].ndim != 3:
        return None
    _, rows, columns = tensors[0].shape
    count = cells(size, STRIDES)[0].shape[1]
    if columns == count and 5 <= rows < columns and _follows_cells(module, size, pixels=1.0) > FOLLOWS:
        classes = _classes(rows - 4, names)
        note = f"read as a detector of ultralytics' ONNX layout: {rows - 4} classes"
        return Detector(PixelGridBoxes(size), _head(classes), "0-1", False, note)
    if columns == 6 and _are_selected(module, size):
        classes = _selected_classes(names)
        note = f"read as an end-to-end detector of ultralytics: the best {rows} boxes, {len(classes)} classes"
        return Detector(SelectedBoxes(len(classes)), _head(classes, "topk_boxes"), "0-1", False, note)
    if rows == count and 6 <= columns < rows:
        classes = _classes(columns - 5, names)
        decoded = _follows_cells(module, size, pixels=255.0) > FOLLOWS
        kind = DecodedYoloxBoxes if decoded else YoloxBoxes
        note = f"read as a YOLOX detector, boxes {'decoded' if decoded else 'raw'}: {columns - 5} classes, pixels BGR"
        return Detector(kind(size), _head(classes), "0-255", True, note)
    return None


def _head(classes: tuple[str, ...], decoder: str = "nms_boxes") -> Head:
    return Head("boxes", "boxes", decoder, classes, units=UNITS)


def _selected_classes(names: dict[int, str] | None) -> tuple[str, ...]:
    return _classes(len(names) if names else len(COCO_NAMES), names)


def _are_selected(module: nn.Module, size: tuple[int, int]) -> bool:
    """Whether boxes come with falling scores and whole classes, as they do where the best are chosen."""
    rows = _output(module, size, 1.0)[0].double()
    score, label = rows[:, 4], rows[:, 5]
    falling = bool((score.diff() <= 0).all() and (score >= 0).all() and (score <= 1).all())
    return falling and bool((label == label.round()).all() and (label >= 0).all())


def _classes(count: int, names: dict[int, str] | None) -> tuple[str, ...]:
    if names and sorted(names) == list(range(count)):
        return tuple(names[index] for index in range(count))
    return COCO_NAMES if count == len(COCO_NAMES) else tuple(f"class{index}" for index in range(count))


def _output(module: nn.Module, size: tuple[int, int], pixels: float) -> Tensor:
    """Return the output for an image of noise."""
    image = pixels * torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        outputs = module(image)
    return outputs if isinstance(outputs, Tensor) else next(iter(outputs.values()))


def _follows_cells(module: nn.Module, size: tuple[int, int], pixels: float) -> float:
    """Return how far the first two numbers of a box follow the cells, as its centre in pixels does; of -1 to 1."""
    tensor = _output(module, size, pixels)
    centres = cells(size, STRIDES)[0]
    given = tensor[0, :2] if tensor.shape[2] == centres.shape[1] else tensor[0, :, :2].T
    pair = torch.stack([given.flatten(), centres.flatten()]).double()
    return float(torch.corrcoef(pair)[0, 1].nan_to_num())
