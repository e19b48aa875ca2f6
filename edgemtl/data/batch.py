"""What a training step is made from: augmented samples, and batches of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from .geometry import Geometry
from .targets import SampleTarget, Target, grid

PRESENT = -1
"""The index of the missing modality where none is missing."""
T = TypeVar("T", bound=Target)


@dataclass(frozen=True, eq=False)
class Item:
    """One sample at the network's input size, augmented or not.

    ``images`` (C, H, W) uint8 by input and ``targets`` by task. ``missing`` is the index of the input whose image shows
    something else (modality dropout), `PRESENT` where none does. ``source`` names the sample.
    """

    images: dict[str, Tensor]
    targets: dict[str, SampleTarget]
    missing: int = PRESENT
    source: str = ""

    @property
    def nbytes(self) -> int:
        """Its memory in bytes."""
        tensors = [*self.images.values(), *(t for target in self.targets.values() for t in target.tensors().values())]
        return sum(tensor.nbytes for tensor in tensors)

    def transform(self, geometry: Geometry, fill: float) -> Item:
        """Apply a geometric transform to all images and targets; ``fill`` is the value of pixels that no camera saw."""
        return replace(
            self,
            images={name: geometry.resample(image, fill, interpolate=True) for name, image in self.images.items()},
            targets={task: target.transform(geometry) for task, target in self.targets.items()},
        )

    def clip(self) -> Item:
        """Drop what lies outside the image from the targets."""
        return replace(self, targets={task: target.clip() for task, target in self.targets.items()})


def mosaic(items: list[Item], size: tuple[int, int]) -> Item:
    """Put four items of ``size`` (height, width) in a square of twice the size.

    Where one has no label map, its part is not valid; boxes of the four are known only where those of each are; what
    holds of an image as a whole holds of none of the four together.
    """
    targets: dict[str, SampleTarget] = {}
    for task in dict.fromkeys(task for item in items for task in item.targets):
        parts = [item.targets.get(task) for item in items]
        target_type = next(type(part) for part in parts if part is not None)
        if (target := target_type.mosaic(parts, size)) is not None:
            targets[task] = target
    images = {name: grid([item.images[name] for item in items]) for name in items[0].images}
    return Item(images, targets, source=items[0].source)


@dataclass(frozen=True, eq=False)
class Batch:
    """A batch of B samples: normalised ``images`` (B, C, H, W) by input, and ``targets`` of the tasks with labels.

    ``missing`` (B,) is as in `Item`, None where no image lacks a modality. ``source`` names the samples.
    """

    images: dict[str, Tensor]
    targets: dict[str, Target]
    missing: Tensor | None = None
    source: tuple[str, ...] = ()

    def target(self, task: str, target_type: type[T]) -> T | None:
        """Return a task's target, None where no image has a label of it."""
        target = self.targets.get(task)
        assert target is None or isinstance(target, target_type)
        return target

    def map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """Return the batch with a function applied to every tensor."""
        return Batch(
            {name: function(image) for name, image in self.images.items()},
            {task: target.map(function) for task, target in self.targets.items()},
            None if self.missing is None else function(self.missing),
            self.source,
        )

    def to(self, device: torch.device) -> Batch:
        """Copy to a device, without waiting for it."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """Copy to page-locked memory; the data loader of torch calls this."""
        return self.map(lambda tensor: tensor.pin_memory())

    def slice(self, start: int, stop: int) -> Batch:
        """Return the part of the images from ``start`` up to, not with, ``stop``."""
        targets = {task: target.slice(start, stop) for task, target in self.targets.items()}
        return Batch(
            {name: image[start:stop] for name, image in self.images.items()},
            {task: target for task, target in targets.items() if target is not None},
            None if self.missing is None else self.missing[start:stop],
            self.source[start:stop],
        )

    def repeat_targets(self, times: int) -> Batch:
        """Return the targets of all images ``times`` times, without images: of features that are stacked likewise."""
        targets = {task: target.repeat(times) for task, target in self.targets.items()}
        return Batch({}, targets, source=self.source * times)
