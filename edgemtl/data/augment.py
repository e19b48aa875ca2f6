"""Augmentation of pairs: geometry acts on both views and the labels together, light on each view by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from edgemtl_runtime.bundle import Input
from edgemtl_runtime.fit import Fit, to_uint8

from ..config import Augment
from .sample import IGNORE, Sample

MIN_SIDE_PX = 3.0
"""Boxes with a shorter side, in network pixels, are dropped after a crop."""
MIN_LEFT = 0.3
"""A box of which a crop leaves a smaller share is dropped."""

Item = dict[str, Any]
"""Images and, under "boxes", "classes" and "semantic", the labels of one picture, as torchvision's tv_tensors."""


def to_item(sample: Sample, inputs: dict[str, Input]) -> Item:
    """Fit a sample to the network's size, by the runtime's own functions, and wrap it for torchvision."""
    item: Item = {}
    first = next(iter(inputs.values()))
    size = (first.height, first.width)
    fit = Fit.plan(sample.size, size)  # all inputs of a network, and all views of a sample, have one size
    for name, spec in inputs.items():
        image = fit.image(to_uint8(sample.images[spec.modality], spec.thermal_range), spec.channels, spec.blank)
        item[name] = tv_tensors.Image(torch.from_numpy(image).permute(2, 0, 1).contiguous())
    # Unclamped, so that how much of a box a transform leaves inside the picture can be told.
    xyxy = torch.from_numpy(sample.xyxy * np.float32(fit.scale))
    item["boxes"] = tv_tensors.BoundingBoxes(xyxy, format="XYXY", canvas_size=size, clamping_mode=None)
    item["classes"] = torch.from_numpy(sample.classes)
    if sample.semantic is not None:
        labels = torch.full(size, IGNORE, dtype=torch.uint8)
        scaled = torch.from_numpy(fit_labels(sample.semantic, fit))
        labels[: scaled.shape[0], : scaled.shape[1]] = scaled
        item["semantic"] = tv_tensors.Mask(labels)
    return item


def fit_labels(labels: Any, fit: Fit) -> Any:
    """Scale a label map to the network's pixels, nearest neighbour."""
    if labels.shape == (fit.scaled_height, fit.scaled_width):
        return labels
    return Fit(fit.scaled_height, fit.scaled_width, *labels.shape, 1.0, *labels.shape).map_to_camera(labels)


class Augmenter:
    """Random geometry and light for training items."""

    def __init__(self, settings: Augment, inputs: dict[str, Input]) -> None:
        self.settings = settings
        self.inputs = inputs
        spec = next(iter(inputs.values()))
        self.size = (spec.height, spec.width)
        fill = {tv_tensors.Image: spec.blank, tv_tensors.Mask: IGNORE}
        s = settings
        self.flip = v2.RandomHorizontalFlip(0.5 if s.flip else 0.0)
        self.affine = v2.RandomAffine(s.rotate_deg, (s.translate, s.translate), (1 - s.scale, 1 + s.scale), fill=fill)
        self.light = {
            name: v2.ColorJitter(s.brightness, s.contrast, s.saturation, s.hue)
            if spec.channels == 3
            else v2.ColorJitter(s.brightness, s.contrast)
            for name, spec in inputs.items()
        }

    def __call__(self, item: Item, others: list[Item]) -> Item:
        """Augment one item; with three ``others`` it becomes a mosaic of the four."""
        if others:
            item = self.window(mosaic([item, *others], self.size))
        else:
            item = _sanitise(self.affine(item))
        item = self.flip(item)
        for name, transform in self.light.items():
            item[name] = transform(item[name])
        return item

    def window(self, item: Item) -> Item:
        """Cut a random window out of a mosaic, one to two pictures wide, and scale it to the network's size."""
        h, w = self.size
        zoom = 1.0 + self.settings.mosaic_zoom * float(torch.rand(()))
        ch, cw = int(h * zoom), int(w * zoom)
        top, left = int(torch.randint(0, 2 * h - ch + 1, ())), int(torch.randint(0, 2 * w - cw + 1, ()))
        cut = v2.functional.resized_crop
        return _sanitise(
            {
                key: value if key == "classes" else cut(value, top, left, ch, cw, [h, w], antialias=True)
                for key, value in item.items()
            }
        )


def mosaic(items: list[Item], size: tuple[int, int]) -> Item:
    """Put four items in a square of twice the size; a picture without segmentation labels leaves its part ignored."""
    h, w = size
    places = [(0, 0), (0, w), (h, 0), (h, w)]
    out: Item = {}
    boxes = [
        item["boxes"].as_subclass(Tensor) + torch.tensor([x, y, x, y])
        for item, (y, x) in zip(items, places, strict=True)
    ]
    out["boxes"] = tv_tensors.wrap(torch.cat(boxes), like=items[0]["boxes"], canvas_size=(2 * h, 2 * w))
    out["classes"] = torch.cat([item["classes"] for item in items])
    for key in items[0]:
        if key in out:
            continue
        rows = [torch.cat([items[a][key], items[b][key]], -1) for a, b in ((0, 1), (2, 3))]
        out[key] = tv_tensors.wrap(torch.cat(rows, -2), like=items[0][key])
    return out


def _sanitise(item: Item) -> Item:
    """Clip boxes to the picture and drop those of which too little is left."""
    whole = item["boxes"].as_subclass(Tensor)
    h, w = item["boxes"].canvas_size
    boxes = whole.clamp(min=0).minimum(torch.tensor([w, h, w, h], dtype=whole.dtype))
    sides, full = boxes[:, 2:] - boxes[:, :2], whole[:, 2:] - whole[:, :2]
    kept = (sides.amin(1) >= MIN_SIDE_PX) & (sides.prod(1) >= MIN_LEFT * full.prod(1))
    return item | {"boxes": tv_tensors.wrap(boxes[kept], like=item["boxes"]), "classes": item["classes"][kept]}
