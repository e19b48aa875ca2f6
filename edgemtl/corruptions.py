"""What goes wrong with cameras: one is absent, or they are out of line; to learn from, and to be judged by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision import tv_tensors

from edgemtl_runtime.bundle import Input

from .config import Augment
from .data.image_ops import affine, warped
from .data.targets import ABSENT, Item


@dataclass(frozen=True)
class Fault:
    """A state of the cameras: the input ``absent``, and how far the others are out of line with the input ``against``.

    That is the first where none is named. ``shift_px`` (across, down) is in pixels of the labels, ``turn_deg``
    clockwise about the picture's middle.
    """

    absent: str = ""
    shift_px: tuple[float, float] = (0.0, 0.0)
    turn_deg: float = 0.0
    against: str = ""

    def __call__(self, item: Item, inputs: dict[str, Input], scale: float) -> Item:
        """Return an item with this fault; ``scale`` is network pixels a label's pixel."""
        out = dict(item)
        if any(self.shift_px) or self.turn_deg:
            across, down = self.shift_px
            for name in inputs.keys() - {self.against or next(iter(inputs))}:
                out[name] = displaced(out[name], (across * scale, down * scale), self.turn_deg, inputs[name].blank)
        if self.absent:
            out[self.absent] = torch.full_like(out[self.absent], inputs[self.absent].blank)
        return out


NONE = Fault()


def displaced(image: Tensor, shift_px: tuple[float, float], turn_deg: float, blank: int) -> Tensor:
    """Return an image (C, H, W) turned and shifted, ``blank`` where nothing of it is seen."""
    height, width = image.shape[-2:]
    moved = warped(image, affine((height, width), turn_deg, shift_px, 1.0), blank, smooth=True)
    return tv_tensors.wrap(moved, like=image)


class Faults:
    """Random faults of training items; draws no random number that the settings do not need."""

    def __init__(self, settings: Augment, inputs: dict[str, Input]) -> None:
        self.settings, self.inputs = settings, inputs

    def __call__(self, item: Item, another: Callable[[], Item]) -> Item:
        """Return an item with faults; ``another`` gives one of another moment, for a camera that has frozen."""
        s, out, names = self.settings, dict(item), list(self.inputs)
        if len(names) < 2:
            return item
        if s.max_misalignment or s.max_misalignment_deg:
            for name in names[1:]:
                across, down, turn = (2 * torch.rand(3, dtype=torch.float64) - 1).tolist()
                reach = s.max_misalignment * out[name].shape[-1]
                shift = (across * reach, down * reach)
                out[name] = displaced(out[name], shift, turn * s.max_misalignment_deg, self.inputs[name].blank)
        if s.modality_dropout and float(torch.rand(())) < s.modality_dropout:
            name = names[int(torch.randint(len(names), ()))]
            how = s.modality_dropout_fill[int(torch.randint(len(s.modality_dropout_fill), ()))]
            out[name] = self._instead(out[name], how, self.inputs[name].blank, name, another)
            out[ABSENT] = torch.tensor(names.index(name))
        return out

    @staticmethod
    def _instead(image: Tensor, how: str, blank: int, name: str, another: Callable[[], Item]) -> Tensor:
        if how == "frozen":
            return another()[name]  # type: ignore[no-any-return]
        if how == "noise":
            return tv_tensors.wrap(torch.randint(0, 256, image.shape, dtype=torch.uint8), like=image)
        return torch.full_like(image, blank)
