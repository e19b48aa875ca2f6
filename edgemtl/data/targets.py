"""Ground truth as typed values: of one sample, which a geometric transform acts on, and of a batch.

Each value knows what it is, as torchvision's tv_tensors do: label maps move with the pixels and keep a mask of what is
valid, vectors hold for the image as a whole. Boxes are in `data.box_targets`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from edgemtl_runtime.letterbox import Letterbox

from .geometry import Geometry
from .sample import IGNORE, Label


@dataclass(frozen=True, eq=False)
class TensorRecord:
    """A frozen dataclass of which some fields are tensors."""

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by field."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Return the record with a function applied to every tensor."""
        return replace(self, **{name: function(tensor) for name, tensor in self.tensors().items()})


class Target(TensorRecord, ABC):
    """Ground truth of one task for a batch of B images."""

    @abstractmethod
    def slice(self, start: int, stop: int) -> Self | None:
        """Return that of the images from ``start`` up to, not with, ``stop``; None when none of them is labelled."""

    @abstractmethod
    def repeat(self, times: int) -> Self:
        """Return that of a batch in which all images stand ``times`` times, one copy of the batch after the other."""


class SampleTarget(TensorRecord, ABC):
    """Ground truth of one task for one sample, at the network's input size."""

    @classmethod
    @abstractmethod
    def from_label(cls, label: Label, letterbox: Letterbox) -> Self:
        """Bring a sample's label to the network's input size."""

    @abstractmethod
    def transform(self, geometry: Geometry) -> Self:
        """Return that of the transformed image."""

    def clip(self) -> Self:
        """Drop what lies outside the image."""
        return self

    @classmethod
    def mosaic(cls, parts: Sequence[Self | None], size: tuple[int, int]) -> Self | None:
        """Return that of four images of ``size`` in a square, None where it is not defined; missing parts are None."""
        return None

    @classmethod
    @abstractmethod
    def collate(cls, targets: Sequence[Self | None]) -> Target | None:
        """Return that of a batch, None where no sample is labelled."""


def grid(tiles: Sequence[Tensor]) -> Tensor:
    """Return four (…, H, W) as (…, 2H, 2W), row by row."""
    top_left, top_right, bottom_left, bottom_right = tiles
    return torch.cat([torch.cat([top_left, top_right], -1), torch.cat([bottom_left, bottom_right], -1)], -2)


@dataclass(frozen=True, eq=False)
class DenseTarget(SampleTarget, Target):
    """A label map: ``values`` (H, W) or (C, H, W), with B before them in a batch; ``ignore_value`` where not valid."""

    values: Tensor
    ignore_value: ClassVar[float] = 0.0

    @property
    def valid(self) -> Tensor:
        """The mask of the pixels that have a label: (H, W) or (B, H, W) bool."""
        return self.values != self.ignore_value

    @classmethod
    def from_label(cls, label: Label, letterbox: Letterbox) -> Self:
        """Scale a map to the network's pixels, nearest neighbour; the padding is not valid."""
        assert isinstance(label, np.ndarray)
        height, width = label.shape[:2]
        scaled_height, scaled_width = letterbox.scaled_height, letterbox.scaled_width
        if (height, width) != (scaled_height, scaled_width):
            label = Letterbox(scaled_height, scaled_width, height, width, 1.0, height, width).map_to_camera(label)
        scaled = torch.from_numpy(np.ascontiguousarray(np.moveaxis(label, -1, 0) if label.ndim == 3 else label))
        padded_size = (*scaled.shape[:-2], letterbox.height, letterbox.width)
        values = torch.full(padded_size, cls.ignore_value, dtype=scaled.dtype)
        values[..., :scaled_height, :scaled_width] = scaled
        return cls(values)

    def transform(self, geometry: Geometry) -> Self:
        """Move the labels with their pixels, and change those that depend on the view."""
        moved = geometry.resample(self.values, self.ignore_value, interpolate=False)
        return replace(self, values=self.adjust_values(moved, geometry))

    def adjust_values(self, values: Tensor, geometry: Geometry) -> Tensor:
        """Return moved labels as they are in the transformed view."""
        return values

    @classmethod
    def mosaic(cls, parts: Sequence[Self | None], size: tuple[int, int]) -> Self | None:
        """Put four maps in a square; what is missing is not valid."""
        return cls(grid(cls._filled(parts)))

    @classmethod
    def collate(cls, targets: Sequence[Self | None]) -> Self | None:
        """Stack maps; those that are missing are not valid anywhere."""
        return cls(torch.stack(cls._filled(targets))) if any(targets) else None

    @classmethod
    def _filled(cls, targets: Sequence[Self | None]) -> list[Tensor]:
        like = next(target.values for target in targets if target is not None)
        blank = torch.full_like(like, cls.ignore_value)
        return [blank if target is None else target.values for target in targets]

    def slice(self, start: int, stop: int) -> Self:
        """Return some images' maps."""
        return replace(self, values=self.values[start:stop])

    def repeat(self, times: int) -> Self:
        """Return the maps ``times`` times."""
        return replace(self, values=torch.cat([self.values] * times))


@dataclass(frozen=True, eq=False)
class ClassMapTarget(DenseTarget):
    """Class ids, uint8; `IGNORE` where not valid."""

    ignore_value = IGNORE


@dataclass(frozen=True, eq=False)
class DepthTarget(DenseTarget):
    """Depths in metres, float32; 0 where not valid. What is enlarged twofold is half as far away."""

    @property
    def valid(self) -> Tensor:
        """Where the depth is positive."""
        return self.values > 0

    def adjust_values(self, values: Tensor, geometry: Geometry) -> Tensor:
        """Return the depths over the zoom."""
        return values / geometry.zoom


@dataclass(frozen=True, eq=False)
class ScalarMapTarget(DenseTarget):
    """A number a pixel that does not depend on the view, such as a temperature, float32; NaN where not valid."""

    ignore_value = math.nan

    @property
    def valid(self) -> Tensor:
        """Where the number is finite."""
        return self.values.isfinite()


@dataclass(frozen=True, eq=False)
class NormalTarget(DenseTarget):
    """Unit vectors, (3, H, W) float32: x right, y down, z forward; zero where not valid."""

    @property
    def valid(self) -> Tensor:
        """Where the vector has a length."""
        return self.values.square().sum(-3) > 0.5

    def adjust_values(self, values: Tensor, geometry: Geometry) -> Tensor:
        """Return the vectors turned about the optical axis, and x negated in a mirrored view."""
        x, y, z = values
        angle = math.radians(geometry.rotation_deg)
        c, s = math.cos(angle), math.sin(angle)
        turned = torch.stack([c * x - s * y, s * x + c * y, z])
        return turned * torch.tensor([-1.0, 1.0, 1.0]).view(3, 1, 1) if geometry.is_mirrored else turned


@dataclass(frozen=True, eq=False)
class VectorTarget(SampleTarget, Target):
    """Numbers that hold for the image as a whole: ``values`` (N,) or (B, N), NaN where not known."""

    values: Tensor

    @property
    def valid(self) -> Tensor:
        """The mask of the numbers that are known."""
        return self.values.isfinite()

    @classmethod
    def from_label(cls, label: Label, letterbox: Letterbox) -> Self:
        """Return the numbers as they are."""
        assert isinstance(label, np.ndarray)
        return cls(torch.from_numpy(label))

    def transform(self, geometry: Geometry) -> Self:
        """Return the numbers as they are."""
        return self

    @classmethod
    def collate(cls, targets: Sequence[Self | None]) -> Self | None:
        """Stack vectors; those that are missing are not known."""
        like = next((target.values for target in targets if target is not None), None)
        if like is None:
            return None
        unknown = torch.full_like(like, torch.nan)
        return cls(torch.stack([unknown if target is None else target.values for target in targets]))

    def slice(self, start: int, stop: int) -> Self:
        """Return some images' vectors."""
        return replace(self, values=self.values[start:stop])

    def repeat(self, times: int) -> Self:
        """Return the vectors ``times`` times."""
        return replace(self, values=torch.cat([self.values] * times))
