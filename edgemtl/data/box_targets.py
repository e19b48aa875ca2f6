"""Ground truth boxes, of one sample and of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

from edgemtl_runtime.letterbox import Letterbox

from .geometry import Geometry
from .sample import BoxLabels, Label
from .targets import SampleTarget, Target

MIN_SIDE_PX = 3.0
"""Boxes with a shorter side, in network pixels, are dropped after a crop."""
MIN_VISIBLE = 0.3
"""A box of which a crop leaves a smaller share is dropped."""


@dataclass(frozen=True, eq=False)
class BoxTarget(SampleTarget):
    """Boxes of one sample: ``xyxy`` (N, 4) network pixels, ``classes`` (N,); the image is ``size`` (height, width).

    Boxes may reach out of the image until they are clipped, so that the share of one that a crop leaves is known.
    """

    xyxy: Tensor
    classes: Tensor
    size: tuple[int, int]

    @classmethod
    def from_label(cls, label: Label, letterbox: Letterbox) -> Self:
        """Scale boxes to the network's pixels."""
        assert isinstance(label, BoxLabels)
        xyxy = torch.from_numpy(label.xyxy * np.float32(letterbox.scale))
        return cls(xyxy, torch.from_numpy(label.classes), (letterbox.height, letterbox.width))

    def transform(self, geometry: Geometry) -> Self:
        """Return the upright boxes around the moved ones."""
        return replace(self, xyxy=geometry.boxes(self.xyxy), size=geometry.size)

    def clip(self) -> Self:
        """Clip boxes to the image and drop those of which too little is left."""
        h, w = self.size
        inside = self.xyxy.clamp(min=0).minimum(torch.tensor([w, h, w, h], dtype=self.xyxy.dtype))
        sides, full = inside[:, 2:] - inside[:, :2], self.xyxy[:, 2:] - self.xyxy[:, :2]
        kept = (sides.amin(1) >= MIN_SIDE_PX) & (sides.prod(1) >= MIN_VISIBLE * full.prod(1))
        return replace(self, xyxy=inside[kept], classes=self.classes[kept])

    @classmethod
    def mosaic(cls, parts: Sequence[Self | None], size: tuple[int, int]) -> Self | None:
        """Return the boxes of four images in a square; None unless all four are labelled."""
        h, w = size
        labelled = [part for part in parts if part is not None]
        if len(labelled) < len(parts):
            return None
        offsets = [(0, 0), (w, 0), (0, h), (w, h)]
        xyxy = [part.xyxy + torch.tensor([x, y, x, y]) for part, (x, y) in zip(labelled, offsets, strict=True)]
        return cls(torch.cat(xyxy), torch.cat([part.classes for part in labelled]), (2 * h, 2 * w))

    @classmethod
    def collate(cls, targets: Sequence[Self | None]) -> BatchBoxTarget | None:
        """List the boxes of all images."""
        labelled = [target for target in targets if target is not None]
        if not labelled:
            return None
        h, w = labelled[0].size
        xyxy = torch.cat([target.xyxy for target in labelled]) / torch.tensor([w, h, w, h])
        counts = torch.tensor([len(target.classes) for target in labelled])
        is_labelled = torch.tensor([target is not None for target in targets])
        return BatchBoxTarget(
            cxcywh=v2.functional.convert_bounding_box_format(xyxy, "XYXY", "CXCYWH"),
            classes=torch.cat([target.classes for target in labelled]).float(),
            image_index=is_labelled.nonzero().flatten().repeat_interleave(counts).float(),
            labelled=is_labelled,
        )


@dataclass(frozen=True, eq=False)
class BatchBoxTarget(Target):
    """Boxes of a batch, those of all images listed: ``cxcywh`` (N, 4) centres and sizes as shares of the image.

    ``classes`` (N,) and ``image_index`` (N,) are floats, as the loss takes them. ``labelled`` (B,) bool: an image that
    is not labelled is not one without objects.
    """

    cxcywh: Tensor
    classes: Tensor
    image_index: Tensor
    labelled: Tensor

    def slice(self, start: int, stop: int) -> Self | None:
        """Return some images' boxes."""
        labelled = self.labelled[start:stop]
        if not bool(labelled.any()):
            return None
        inside = (self.image_index >= start) & (self.image_index < stop)
        return type(self)(self.cxcywh[inside], self.classes[inside], self.image_index[inside] - start, labelled)

    def repeat(self, times: int) -> Self:
        """Return the boxes ``times`` times."""
        copies = torch.arange(times, device=self.image_index.device).repeat_interleave(len(self.image_index))
        return type(self)(
            torch.cat([self.cxcywh] * times),
            torch.cat([self.classes] * times),
            torch.cat([self.image_index] * times) + len(self.labelled) * copies,
            torch.cat([self.labelled] * times),
        )
