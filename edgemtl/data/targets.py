"""What becomes of labels on their way into a batch: fitted to the network's size, moved with the picture, stacked."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from edgemtl_runtime.letterbox import Letterbox

from .sample import IGNORE, BoxLabels

Item = dict[str, Any]
"""Images by input, and labels: "boxes" and "classes", maps by task, as torchvision's tv_tensors; vectors by task."""
Batch = dict[str, Any]
ABSENT = "absent"
"""Of an item and a batch, where any does: the number of the camera that shows something else, -1 where none does."""
LISTED = ("bboxes", "cls", "batch_idx")
"""What a batch lists of all its pictures, one behind the other."""


class Label(Protocol):
    """A kind of label."""

    def entries(self, task: str, value: Any, fit: Letterbox) -> Item:
        """Return what an item holds of a sample's label, at the network's size."""

    def stacked(self, task: str, items: list[Item], size: tuple[int, int]) -> Batch:
        """Return what a batch holds of its items' labels; nothing when none of them has any."""


class LabelMap(tv_tensors.Mask):
    """A label a pixel, (H, W) or (C, H, W), ``unknown`` where there is none."""

    unknown: ClassVar[float] = 0.0

    def zoomed(self, factor: float) -> Tensor:
        """Return the labels of the picture enlarged by ``factor``."""
        return self

    def mirrored(self) -> Tensor:
        """Return the labels of the picture mirrored left to right, once their places are."""
        return self

    def turned(self, degrees: float) -> Tensor:
        """Return the labels of the picture turned clockwise, once their places are."""
        return self


class IdMap(LabelMap):
    """Class ids."""

    unknown = IGNORE


class DepthLabels(LabelMap):
    """Depths in metres: what looks twice as large is half as far away."""

    def zoomed(self, factor: float) -> Tensor:
        """Return the depths over the factor."""
        return self.as_subclass(Tensor) / factor


class NormalLabels(LabelMap):
    """Unit vectors, (3, H, W): x right, y down, z forward."""

    def mirrored(self) -> Tensor:
        """Return the vectors with x negated."""
        return self.as_subclass(Tensor) * torch.tensor([-1.0, 1.0, 1.0]).view(3, 1, 1)

    def turned(self, degrees: float) -> Tensor:
        """Return the vectors turned about the optical axis."""
        x, y, z = self.as_subclass(Tensor)
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        return torch.stack([c * x - s * y, s * x + c * y, z])


class Map:
    """Labels a pixel, of one of the kinds above."""

    def __init__(self, kind: type[LabelMap]) -> None:
        self.kind = kind

    def entries(self, task: str, value: Any, fit: Letterbox) -> Item:
        """Scale a map to the network's pixels, nearest neighbour; padding is unknown."""
        if value.shape[:2] != (fit.scaled_height, fit.scaled_width):
            back = Letterbox(fit.scaled_height, fit.scaled_width, *value.shape[:2], 1.0, *value.shape[:2])
            value = back.map_to_camera(value)
        scaled = torch.from_numpy(np.ascontiguousarray(np.moveaxis(value, -1, 0) if value.ndim == 3 else value))
        labels = torch.full((*scaled.shape[:-2], fit.height, fit.width), self.kind.unknown, dtype=scaled.dtype)
        labels[..., : fit.scaled_height, : fit.scaled_width] = scaled
        return {task: self.kind(labels)}

    def stacked(self, task: str, items: list[Item], size: tuple[int, int]) -> Batch:
        """Stack the maps to (B, H, W) or (B, C, H, W)."""
        like = next((item[task].as_subclass(Tensor) for item in items if task in item), None)
        if like is None:
            return {}
        blank = torch.full_like(like, self.kind.unknown)
        return {task: torch.stack([item.get(task, blank).as_subclass(Tensor) for item in items])}


class Vector:
    """Numbers for the picture as a whole, NaN where unknown."""

    def entries(self, task: str, value: Any, fit: Letterbox) -> Item:
        """Return the numbers as they are."""
        return {task: torch.from_numpy(value)}

    def stacked(self, task: str, items: list[Item], size: tuple[int, int]) -> Batch:
        """Stack the vectors to (B, N)."""
        like = next((item[task] for item in items if task in item), None)
        if like is None:
            return {}
        return {task: torch.stack([item.get(task, torch.full_like(like, torch.nan)) for item in items])}


class BoxList:
    """Boxes and their classes."""

    def entries(self, task: str, value: BoxLabels, fit: Letterbox) -> Item:
        """Scale boxes to the network's pixels."""
        # Unclamped, so that how much of a box a transform leaves inside the picture can be told.
        xyxy = torch.from_numpy(value.xyxy * np.float32(fit.scale))
        size = (fit.height, fit.width)
        boxes = tv_tensors.BoundingBoxes(xyxy, format="XYXY", canvas_size=size, clamping_mode=None)
        return {"boxes": boxes, "classes": torch.from_numpy(value.classes)}

    def stacked(self, task: str, items: list[Item], size: tuple[int, int]) -> Batch:
        """Return normalised ``bboxes`` (centre, size), ``cls``, ``batch_idx`` and which pictures are labelled."""
        known = torch.tensor([task in item for item in items])
        if not known.any():
            return {}
        some = [item for item in items if task in item]
        h, w = size
        xyxy = torch.cat([item["boxes"].as_subclass(Tensor) for item in some]) / torch.tensor([w, h, w, h])
        counts = torch.tensor([len(item["classes"]) for item in some])
        return {
            "bboxes": v2.functional.convert_bounding_box_format(xyxy, "XYXY", "CXCYWH"),
            "cls": torch.cat([item["classes"] for item in some]).float(),
            "batch_idx": known.nonzero().flatten().repeat_interleave(counts).float(),
            "boxes_known": known,
        }


def pictures(batch: Batch, first: int, last: int) -> Batch:
    """Return the part of a batch that is of the pictures from ``first`` up to, not with, ``last``."""
    part = {key: value[first:last] for key, value in batch.items() if key not in LISTED}
    if "batch_idx" in batch and bool(part["boxes_known"].any()):
        inside = (batch["batch_idx"] >= first) & (batch["batch_idx"] < last)
        part |= {key: batch[key][inside] for key in LISTED}
        part["batch_idx"] = part["batch_idx"] - first
    elif "boxes_known" in part:
        del part["boxes_known"]
    return part


def repeated(labels: Batch, times: int) -> Batch:
    """Return the labels of the same pictures so many times, one behind the other."""
    out = {key: torch.cat([value] * times) for key, value in labels.items()}
    if "batch_idx" in labels:
        count, each = len(labels["boxes_known"]), len(labels["batch_idx"])
        out["batch_idx"] = out["batch_idx"] + count * torch.arange(
            times, device=out["batch_idx"].device
        ).repeat_interleave(each)
    return out
