"""Augmentation of pairs: geometry acts on both views and the labels together, light on each view by itself."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from edgemtl_runtime.bundle import Input
from edgemtl_runtime.letterbox import Letterbox, to_uint8

from ..config import Augment
from ..corruptions import Faults
from .image_ops import Matrix, affine, relit, warped
from .sample import Sample
from .targets import Item, Label, LabelMap

MIN_SIDE_PX = 3.0
"""Boxes with a shorter side, in network pixels, are dropped after a crop."""
MIN_LEFT = 0.3
"""A box of which a crop leaves a smaller share is dropped."""


def to_item(sample: Sample, inputs: dict[str, Input], labels: dict[str, Label]) -> Item:
    """Letterbox a sample and its labels of these tasks to the network's size, by the runtime's own functions."""
    item: Item = {}
    first = next(iter(inputs.values()))
    fit = Letterbox.plan(
        sample.size, (first.height, first.width)
    )  # all inputs, and all views of a sample, have one size
    for name, spec in inputs.items():
        image = fit.image(to_uint8(sample.images[spec.modality], spec.thermal_range), spec.channels, spec.blank)
        item[name] = tv_tensors.Image(torch.from_numpy(image).permute(2, 0, 1).contiguous())
    for task, label in labels.items():
        if task in sample.labels:
            item |= label.entries(task, sample.labels[task], fit)
    return item


class Augmenter:
    """Random geometry, light and faults for training items."""

    def __init__(self, settings: Augment, inputs: dict[str, Input]) -> None:
        self.settings = settings
        self.inputs = inputs
        spec = next(iter(inputs.values()))
        self.size = (spec.height, spec.width)
        self.blank = float(spec.blank)
        self.faults = Faults(settings, inputs)

    def __call__(self, item: Item, others: list[Item], another: Callable[[], Item] = dict) -> Item:
        """Augment an item; with three ``others`` it becomes a mosaic of the four; a frozen camera shows ``another``."""
        item = self.window(mosaic([item, *others], self.size)) if others else self.move(item)
        if self.settings.flip and float(torch.rand(())) < 0.5:
            item = mirrored(item)
        for name in self.inputs:
            item[name] = self.light(item[name])
        return self.faults(item, another)

    def light(self, image: Tensor) -> Tensor:
        """Change the light of one view."""
        s = self.settings
        b, c, a, h = (2 * torch.rand(4, dtype=torch.float64) - 1).tolist()
        colour = (1 + a * s.saturation, h * s.hue) if len(image) == 3 else ()
        return tv_tensors.wrap(relit(image, 1 + b * s.brightness, 1 + c * s.contrast, *colour), like=image)

    def move(self, item: Item) -> Item:
        """Turn, shift and scale a picture with its labels."""
        s, (h, w) = self.settings, self.size
        turn, across, down, zoom = (2 * torch.rand(4, dtype=torch.float64) - 1).tolist()
        degrees, scale = turn * s.rotate_deg, 1 + zoom * s.scale
        matrix = affine(self.size, degrees, (round(across * s.translate * w), round(down * s.translate * h)), scale)
        out = dict(item)
        for key, value in item.items():
            if isinstance(value, tv_tensors.BoundingBoxes):
                out[key] = tv_tensors.wrap(_hulls(value.as_subclass(Tensor), matrix), like=value)
            elif isinstance(value, LabelMap):
                out[key] = tv_tensors.wrap(warped(value, matrix, value.unknown, smooth=False), like=value)
                out[key] = _changed(_changed(out[key], "turned", degrees), "zoomed", scale)
            elif isinstance(value, tv_tensors.Image):
                out[key] = tv_tensors.wrap(warped(value, matrix, self.blank, smooth=True), like=value)
        return _sanitise(out)

    def window(self, item: Item) -> Item:
        """Cut a random window out of a mosaic, one to two pictures wide, and scale it to the network's size."""
        h, w = self.size
        zoom = 1.0 + self.settings.mosaic_zoom * float(torch.rand(()))
        ch, cw = int(h * zoom), int(w * zoom)
        top, left = int(torch.randint(0, 2 * h - ch + 1, ())), int(torch.randint(0, 2 * w - cw + 1, ()))
        out = dict(item)
        for key, value in item.items():
            if isinstance(value, tv_tensors.TVTensor):
                out[key] = v2.functional.resized_crop(value, top, left, ch, cw, [h, w], antialias=True)
            if isinstance(value, LabelMap):
                out[key] = _changed(out[key], "zoomed", h / ch)
        return _sanitise(out)


def _hulls(xyxy: Tensor, matrix: Matrix) -> Tensor:
    """Return the upright boxes around moved ones; a box's sides lie between pixels, half of one from their middles."""
    x0, y0, x1, y1 = (xyxy.double() - 0.5).unbind(1)
    corners = torch.stack([torch.stack([x, y, torch.ones_like(x)]) for x in (x0, x1) for y in (y0, y1)])
    places = torch.from_numpy(matrix) @ corners + 0.5
    return torch.cat([places.amin(0), places.amax(0)]).T.to(xyxy.dtype)


def mirrored(item: Item) -> Item:
    """Mirror a picture left to right, with its labels."""
    out = dict(item)
    for key, value in item.items():
        if isinstance(value, tv_tensors.TVTensor):
            out[key] = v2.functional.horizontal_flip(value)
        if isinstance(value, LabelMap):
            out[key] = _changed(out[key], "mirrored")
    return out


def _changed(labels: LabelMap, how: str, *amount: float) -> LabelMap:
    """Return a map with its values changed as `LabelMap` says; v2 has moved their places already."""
    return tv_tensors.wrap(getattr(labels, how)(*amount), like=labels)  # type: ignore[return-value]


def mosaic(items: list[Item], size: tuple[int, int]) -> Item:
    """Put four items in a square of twice the size.

    Where one lacks a map, its part is unknown; boxes of four pictures are known only where those of each are; what
    holds of a picture as a whole holds of none of the four together.
    """
    h, w = size
    places = [(0, 0), (0, w), (h, 0), (h, w)]
    out: Item = {}
    if all("boxes" in item for item in items):
        boxes = [
            item["boxes"].as_subclass(Tensor) + torch.tensor([x, y, x, y])
            for item, (y, x) in zip(items, places, strict=True)
        ]
        out["boxes"] = tv_tensors.wrap(torch.cat(boxes), like=items[0]["boxes"], canvas_size=(2 * h, 2 * w))
        out["classes"] = torch.cat([item["classes"] for item in items])
    for key in dict.fromkeys(key for item in items for key in item):
        like = next(item[key] for item in items if key in item)
        if not isinstance(like, tv_tensors.Image | LabelMap):
            continue
        blank = torch.full_like(like.as_subclass(Tensor), getattr(like, "unknown", 0))
        parts = [item.get(key, blank) for item in items]
        rows = [torch.cat([parts[a], parts[b]], -1) for a, b in ((0, 1), (2, 3))]
        out[key] = tv_tensors.wrap(torch.cat(rows, -2), like=like)
    return out


def _sanitise(item: Item) -> Item:
    """Clip boxes to the picture and drop those of which too little is left."""
    if "boxes" not in item:
        return item
    whole = item["boxes"].as_subclass(Tensor)
    h, w = item["boxes"].canvas_size
    boxes = whole.clamp(min=0).minimum(torch.tensor([w, h, w, h], dtype=whole.dtype))
    sides, full = boxes[:, 2:] - boxes[:, :2], whole[:, 2:] - whole[:, :2]
    kept = (sides.amin(1) >= MIN_SIDE_PX) & (sides.prod(1) >= MIN_LEFT * full.prod(1))
    return item | {"boxes": tv_tensors.wrap(boxes[kept], like=item["boxes"]), "classes": item["classes"][kept]}
