"""Two full streams, fused at the inputs of the heads, whose upper layers can be pulled together and shared.

The thesis' feature alignment (R. Upadhyay, chapter on RGB-IR detection): each camera has a backbone and a neck of one
architecture and one start, the lower layers its own, the higher ones tied where the data allow it (`alignment` trains
them so). From stage 2 on the cameras' modules are `twins`, so a convolution whose cameras have come to the same weights
is stored once and runs once. The gates give no weight to a camera that shows one colour all over, as an absent one's
blank frame does: what is left is the other stream, which the heads can learn to read by itself (`solo`).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .stages import stages
from .streams import Pyramid
from .twins import Own, beside, share, stacked, twin

STAGES = ("stage2", "stage3", "stage4", "neck")
"""What the cameras have twins of, in the order it runs in; stage k ends at stride 2^k, and the neck begins at 32."""
LEVELS = ("p2", "p3", "p4", "p5")
"""The features of the neck, at strides 4 to 32."""


BLANK = -1e4
"""What is added to the logarithm of a blank camera's weight; within float16."""
STEEP = 1e3
"""One grey level, after any usual normalisation, is far more than one by this: 1/255 and more."""


class Gate(nn.Module):
    """A sum of the cameras' features by weights of each place, which add up to 1; a blank camera's is 0."""

    def __init__(self, width: int, cameras: int) -> None:
        super().__init__()
        self.cameras = cameras
        self.weigh = nn.Conv2d(width * cameras, cameras, 1)
        nn.init.zeros_(self.weigh.weight)  # a plain mean, to begin with
        nn.init.zeros_(self.weigh.bias)

    def forward(self, features: Tensor, blank: Tensor) -> Tensor:
        """Return (B, C, H, W) from stacked features and what `blank` tells of the pictures."""
        weights = (self.weigh(beside(features, self.cameras)) + blank).softmax(1)
        return (features.unflatten(0, (-1, self.cameras)) * weights[:, :, None]).sum(1)


class AlignedTrunk(nn.Module):
    """A backbone and a neck a camera, and a gated sum at each of the levels ``fuse_at``.

    ``align`` names the first and the last of the stages whose convolutions are to come together; those at the paths
    ``shared`` have done so and are stored once. Raises `ValueError`
    where the streams are not of one architecture, or a name is not known.
    """

    def __init__(
        self,
        backbones: dict[str, nn.Module],
        channels: dict[str, int],
        widths: list[int],
        fuse_at: Sequence[str] = LEVELS,
        align: Sequence[str] = ("stage3", "neck"),
        shared: Sequence[str] = (),
        bottom_up: bool = True,
    ) -> None:
        super().__init__()
        for name, known in [*((level, LEVELS) for level in fuse_at), *((stage, STAGES) for stage in align)]:
            if name not in known:
                raise ValueError(f"fusion: '{name}' is not one of {', '.join(known)}")
        if STAGES.index(align[0]) > STAGES.index(align[1]):
            raise ValueError(f"fusion: alignment from {align[0]} on cannot end before, at {align[1]}")
        self.fuse_at, self.align, self.shared = tuple(fuse_at), tuple(align), tuple(shared)
        self.cameras = len(backbones)
        taken = {camera: stages(backbone, channels[camera]) for camera, backbone in backbones.items()}
        first = next(iter(taken.values()))
        for theirs in list(taken.values())[1:]:
            begin_as(theirs, first)
        self.stage1 = nn.ModuleDict({camera: theirs[1] for camera, theirs in taken.items()})
        self.stage2, self.stage3, self.stage4 = (
            twin([theirs[number] for theirs in taken.values()]) for number in (2, 3, 4)
        )
        neck = Pyramid(list(next(iter(backbones.values())).widths), widths, bottom_up)  # type: ignore[arg-type]
        self.neck = twin([copy.deepcopy(neck) for _ in backbones])
        places = [LEVELS.index(level) for level in self.fuse_at]
        self.strides = tuple(Pyramid.strides[place] for place in places)
        self.widths = [widths[place] for place in places]
        self.gates = nn.ModuleDict(
            {level: Gate(width, self.cameras) for level, width in zip(fuse_at, self.widths, strict=True)}
        )
        share(self, shared)

    def forward(self, images: dict[str, Tensor]) -> list[Tensor]:
        """Return the fused features at ``strides`` for one image a camera, (B, C, H, W) each."""
        dark = blank(images, list(self.stage1))
        return [self.gates[level](own, dark) for level, own in self._levels(images).items()]

    def solo(self, images: dict[str, Tensor], absent: Tensor | None = None) -> list[Tensor]:
        """Return the fused features, then each camera's own, one behind the other: (B·(1 + S), C, H, W) each.

        ``absent`` (B,) numbers the camera of a picture that shows something else, -1 where none does; the fused
        features stand for its own.
        """
        dark = blank(images, list(self.stage1))
        out = []
        for level, own in self._levels(images).items():
            fused = self.gates[level](own, dark)
            each = own.unflatten(0, (-1, self.cameras)).unbind(1)
            if absent is not None:
                away = [(absent == camera).view(-1, 1, 1, 1) for camera in range(self.cameras)]
                each = tuple(torch.where(gone, fused, f) for gone, f in zip(away, each, strict=True))
            out.append(torch.cat([fused, *each]))
        return out

    def _levels(self, images: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the cameras' stacked features at each of the levels that are fused."""
        features = [stacked([stage(images[camera]) for camera, stage in self.stage1.items()])]
        for stage in (self.stage2, self.stage3, self.stage4):
            features.append(stage(features[-1]))
        levels = dict(zip(LEVELS, self.neck.mixed(features[1:]), strict=True))  # type: ignore[operator]
        return {level: levels[level] for level in self.gates}

    def aligned(self) -> dict[str, Own]:
        """Return the convolutions that are to come together, by path, but for those that are shared already."""
        first, last = (STAGES.index(name) for name in self.align)
        return {
            f"{stage}.{path}": module
            for stage in STAGES[first : last + 1]
            for path, module in self.get_submodule(stage).named_modules()
            if isinstance(module, Own) and isinstance(module.all, nn.Conv2d)
        }


def blank(images: dict[str, Tensor], cameras: list[str]) -> Tensor:
    """Return (B, S, 1, 1): `BLANK` for a camera whose picture is of one colour all over, 0 for any other."""
    spread = [
        (images[c] - images[c][:, :, :1, :1]).abs().amax((2, 3), keepdim=True).amax(1, keepdim=True) for c in cameras
    ]
    return BLANK * (1 - STEEP * torch.cat(spread, 1)).clamp(min=0)


@torch.no_grad()
def begin_as(theirs: dict[int, nn.Sequential], first: dict[int, nn.Sequential]) -> None:
    """Give a stream the first one's start, but for what its own number of channels makes different."""
    for number, stage in theirs.items():
        start = first[number].state_dict()
        for name, tensor in stage.state_dict().items():
            if start.get(name) is not None and start[name].shape == tensor.shape:
                tensor.copy_(start[name])
