"""Augmentation of training samples: geometry moves all images and targets together, colour changes each by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from edgemtl_runtime.bundle import Input
from edgemtl_runtime.letterbox import Letterbox, to_uint8

from ..config import Augment
from ..corruptions import RandomCorruptions
from .batch import Item, mosaic
from .geometry import Affine, Geometry, HorizontalFlip, ResizedCrop
from .image_ops import adjust_colour
from .sample import Sample
from .targets import SampleTarget


def to_item(sample: Sample, inputs: dict[str, Input], target_types: Mapping[str, type[SampleTarget]]) -> Item:
    """Fit a sample and its labels of these tasks to the network's input size, by the runtime's own letterbox."""
    first = next(iter(inputs.values()))
    letterbox = Letterbox.plan(
        sample.size, (first.height, first.width)
    )  # all inputs, and all images of a sample, are of a size
    images = {}
    for name, spec in inputs.items():
        image = to_uint8(sample.images[spec.modality], spec.thermal_range)
        fitted = letterbox.image(image, spec.channels, spec.blank)
        images[name] = torch.from_numpy(fitted).permute(2, 0, 1).contiguous()
    targets = {
        task: target_type.from_label(sample.label(task), letterbox)
        for task, target_type in target_types.items()
        if task in sample.labels
    }
    return Item(images, targets, source=sample.name)


DISTANCES = "depth"
"""The modality whose images are distances: their values are no brightness, and what is enlarged is nearer."""


def nearer(image: Tensor, spec: Input, zoom: float) -> Tensor:
    """Return an image of distances enlarged by ``zoom``, as the labels of depth are; 0 where they are not known.

    Where its range is of percentiles it holds no distances any more, and stays as it is.
    """
    if spec.modality != DISTANCES or spec.thermal_range.kind != "radiometric":
        return image
    low, high = spec.thermal_range.low, spec.thermal_range.high
    distances = low + torch.arange(256, dtype=torch.float64) / 255 * (high - low)
    table = ((distances / zoom - low) / (high - low) * 255).round().clamp(0, 255).to(torch.uint8)
    table[0] = 0
    return table[image.long()]


class Augmenter:
    """Random geometry, colour and corruptions for training items, by a given generator of random numbers."""

    def __init__(self, settings: Augment, inputs: dict[str, Input]) -> None:
        self.settings = settings
        self.inputs = inputs
        spec = next(iter(inputs.values()))
        self.size = (spec.height, spec.width)
        self.blank = float(spec.blank)
        self.corrupt = RandomCorruptions(settings, inputs)

    def __call__(
        self,
        item: Item,
        others: list[Item],
        generator: torch.Generator,
        another: Callable[[], Item] | None = None,
    ) -> Item:
        """Augment an item; with three ``others`` it becomes a mosaic; ``another`` gives what a frozen camera shows."""
        item = (
            self.random_crop(mosaic([item, *others], self.size), generator)
            if others
            else self.random_affine(item, generator)
        )
        if self.settings.flip and float(torch.rand((), generator=generator)) < 0.5:
            item = item.transform(HorizontalFlip(self.size), self.blank)
        images = {
            name: image if self.inputs[name].modality == DISTANCES else self.colour_jitter(image, generator)
            for name, image in item.images.items()
        }
        item = replace(item, images=images)
        return self.corrupt(item, generator, another)

    def colour_jitter(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Change brightness and contrast of an image, and of a colour image saturation and hue."""
        s = self.settings
        b, c, a, h = (2 * torch.rand(4, dtype=torch.float64, generator=generator) - 1).tolist()
        chrominance = (1 + a * s.saturation, h * s.hue) if len(image) == 3 else ()
        return adjust_colour(image, 1 + b * s.brightness, 1 + c * s.contrast, *chrominance)

    def random_affine(self, item: Item, generator: torch.Generator) -> Item:
        """Rotate, shift and scale an item."""
        s, (h, w) = self.settings, self.size
        turn, across, down, zoom = (2 * torch.rand(4, dtype=torch.float64, generator=generator) - 1).tolist()
        shift_px = (round(across * s.translate * w), round(down * s.translate * h))
        affine = Affine(self.size, turn * s.rotate_deg, shift_px, 1 + zoom * s.scale)
        return self._moved(item, affine)

    def random_crop(self, item: Item, generator: torch.Generator) -> Item:
        """Cut a window out of a mosaic, one to two images wide, and scale it to the network's input size."""
        h, w = self.size
        extent = 1.0 + self.settings.mosaic_zoom * float(torch.rand((), generator=generator))
        crop_h, crop_w = int(h * extent), int(w * extent)
        top = int(torch.randint(0, 2 * h - crop_h + 1, (), generator=generator))
        left = int(torch.randint(0, 2 * w - crop_w + 1, (), generator=generator))
        return self._moved(item, ResizedCrop(top, left, (crop_h, crop_w), self.size))

    def _moved(self, item: Item, geometry: Geometry) -> Item:
        moved = item.transform(geometry, self.blank).clip()
        images = {name: nearer(image, self.inputs[name], geometry.zoom) for name, image in moved.images.items()}
        return replace(moved, images=images)
