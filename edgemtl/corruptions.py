"""Corruptions of the cameras, in training and in evaluation: a missing modality, and misalignment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from edgemtl_runtime.bundle import Input

from .config import Augment
from .data.batch import Item
from .data.geometry import Affine
from .errors import EdgemtlError

SHIFTS_PX = (2, 4, 8, 12, 16)
"""Pixels of the labels."""
ROTATIONS_DEG = (1, 2, 4)
DIRECTIONS = ((1, 0), (0, 1), (-1, 0), (0, -1))
"""The images of a dataset are shifted in these by turns, and rotated either way, so that none is favoured."""


@dataclass(frozen=True)
class Corruption:
    """A state of the cameras: the input that is ``missing``, and the misalignment of the others with ``reference``.

    That is the first input where none is named. ``shift_px`` (right, down) is in pixels of the labels, ``rotation_deg``
    clockwise about the image's middle.
    """

    missing: str = ""
    shift_px: tuple[float, float] = (0.0, 0.0)
    rotation_deg: float = 0.0
    reference: str = ""

    def __call__(self, images: dict[str, Tensor], inputs: dict[str, Input], scale: float) -> dict[str, Tensor]:
        """Return corrupted images (C, H, W) by input; ``scale`` is network pixels a label's pixel."""
        out = dict(images)
        if any(self.shift_px) or self.rotation_deg:
            right, down = self.shift_px
            for name in inputs.keys() - {self.reference or next(iter(inputs))}:
                out[name] = misaligned(out[name], (right * scale, down * scale), self.rotation_deg, inputs[name].blank)
        if self.missing:
            out[self.missing] = torch.full_like(out[self.missing], inputs[self.missing].blank)
        return out


CLEAN = Corruption()
Suite = Mapping[str, Sequence[Corruption]]
"""Corruptions by name; of several under one name, the images of a dataset take one each by turns."""


def missing_modalities(inputs: Iterable[str]) -> Suite:
    """Return each input in turn as the missing one."""
    return {f"{name} absent": [Corruption(missing=name)] for name in _several(inputs)}


def misalignments(inputs: Iterable[str]) -> Suite:
    """Return shifts and rotations of every input but the first."""
    _several(inputs)
    shifts = {f"shift {px} px": [Corruption(shift_px=(px * x, px * y)) for x, y in DIRECTIONS] for px in SHIFTS_PX}
    rotations = {f"turn {deg}°": [Corruption(rotation_deg=deg), Corruption(rotation_deg=-deg)] for deg in ROTATIONS_DEG}
    return shifts | rotations


def _several(inputs: Iterable[str]) -> list[str]:
    names = list(inputs)
    if len(names) < 2:
        raise EdgemtlError(f"the network has one camera, {names[0]}: none can be missing or misaligned")
    return names


def misaligned(image: Tensor, shift_px: tuple[float, float], rotation_deg: float, blank: int) -> Tensor:
    """Return an image (C, H, W) rotated and shifted, ``blank`` where nothing of it is mapped to."""
    height, width = image.shape[-2:]
    return Affine((height, width), rotation_deg, shift_px).resample(image, blank, interpolate=True)


class RandomCorruptions:
    """Random misalignment and modality dropout; draws no random number that the settings do not need."""

    def __init__(self, settings: Augment, inputs: dict[str, Input]) -> None:
        self.settings, self.inputs = settings, inputs

    def __call__(self, item: Item, generator: torch.Generator, another: Callable[[], Item] | None) -> Item:
        """Corrupt an item; ``another`` gives one of another sample, for a camera that has frozen."""
        s, images, names = self.settings, dict(item.images), list(self.inputs)
        if len(names) < 2:
            return item
        if s.max_misalignment or s.max_misalignment_deg:
            for name in names[1:]:
                right, down, turn = (2 * torch.rand(3, dtype=torch.float64, generator=generator) - 1).tolist()
                reach = s.max_misalignment * images[name].shape[-1]
                shift_px, rotation_deg = (right * reach, down * reach), turn * s.max_misalignment_deg
                images[name] = misaligned(images[name], shift_px, rotation_deg, self.inputs[name].blank)
        missing = item.missing
        if s.modality_dropout and float(torch.rand((), generator=generator)) < s.modality_dropout:
            missing = int(torch.randint(len(names), (), generator=generator))
            fill = s.modality_dropout_fill[int(torch.randint(len(s.modality_dropout_fill), (), generator=generator))]
            images[names[missing]] = self._filled(images[names[missing]], fill, names[missing], generator, another)
        return replace(item, images=images, missing=missing)

    def _filled(
        self, image: Tensor, fill: str, name: str, generator: torch.Generator, another: Callable[[], Item] | None
    ) -> Tensor:
        """Return what stands for the image of a missing modality."""
        if fill == "frozen" and another:
            return another().images[name]
        if fill == "noise":
            return torch.randint(0, 256, image.shape, dtype=torch.uint8, generator=generator)
        return torch.full_like(image, self.inputs[name].blank)
