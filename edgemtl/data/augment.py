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
from .geometry import Affine, HorizontalFlip, ResizedCrop
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
        item = replace(item, images={name: self.colour_jitter(item.images[name], generator) for name in self.inputs})
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
        return item.transform(affine, self.blank).clip()

    def random_crop(self, item: Item, generator: torch.Generator) -> Item:
        """Cut a window out of a mosaic, one to two images wide, and scale it to the network's input size."""
        h, w = self.size
        extent = 1.0 + self.settings.mosaic_zoom * float(torch.rand((), generator=generator))
        crop_h, crop_w = int(h * extent), int(w * extent)
        top = int(torch.randint(0, 2 * h - crop_h + 1, (), generator=generator))
        left = int(torch.randint(0, 2 * w - crop_w + 1, (), generator=generator))
        return item.transform(ResizedCrop(top, left, (crop_h, crop_w), self.size), self.blank).clip()
