"""Two full streams, fused at the inputs of the heads, whose upper layers can be pulled together and shared.

The thesis' feature alignment (R. Upadhyay, chapter on RGB-IR detection): each camera has a backbone and a neck of one
architecture and one start, the lower layers its own, the higher ones tied where the data allow it (`alignment` trains
them so). A convolution whose cameras have come to the same weights is stored once, and each camera's stream goes
through it; normalisation stays each camera's own, so a processor can still fold it into the weights of each. The gates
give no weight to a camera that shows one colour all over, as an absent one's blank frame does: what is left is the
other stream, which the heads can learn to read by itself (`solo`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .fusion import Pyramid
from .registration import Registration, moved_back
from .staging import stages

STAGES = ("stage2", "stage3", "stage4", "neck")
"""The parts of streams that can be alike, in order: stage k ends at stride 2^k, and the neck is the rest."""
LEVELS = ("p2", "p3", "p4", "p5")
"""The features of the neck, at strides 4 to 32."""
BLANK = -1e4
"""What is added to the logarithm of a blank camera's weight; within float16."""
STEEP = 1e3
"""One grey level, after any usual normalisation, is far more than one by this: 1/255 and more."""
Fine = tuple[Tensor, Tensor]
"""A backbone's features at strides 4 and 8."""


class Stream(nn.Module):
    """One camera's backbone, by its stages, and its neck."""

    def __init__(self, parts: dict[int, nn.Sequential], neck: Pyramid) -> None:
        super().__init__()
        self.stage1, self.stage2, self.stage3, self.stage4 = (parts[number] for number in (1, 2, 3, 4))
        self.neck = neck

    def fine(self, image: Tensor) -> Fine:
        """Return the backbone's features at strides 4 and 8 for (B, C, H, W)."""
        p2 = self.stage2(self.stage1(image))
        return p2, self.stage3(p2)

    def forward(self, p2: Tensor, p3: Tensor) -> dict[str, Tensor]:
        """Return the features of `LEVELS` for what `fine` gave."""
        return dict(zip(LEVELS, self.neck.mixed([p2, p3, self.stage4(p3)]), strict=True))


class Shared(nn.Module):
    """In place of a convolution that is another stream's too: it is that one's, and no part of this one."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.of = (conv,)  # in a tuple, or it would be a part

    def forward(self, features: Tensor) -> Tensor:
        """Return what the other stream's convolution makes of this one's features."""
        out: Tensor = self.of[0](features)
        return out


class Gate(nn.Module):
    """A sum of the cameras' features by weights of each place, which add up to 1; a blank camera's is 0."""

    def __init__(self, width: int, cameras: int) -> None:
        super().__init__()
        self.weigh = nn.Conv2d(width * cameras, cameras, 1)
        nn.init.zeros_(self.weigh.weight)  # a plain mean, to begin with
        nn.init.zeros_(self.weigh.bias)

    def forward(self, features: list[Tensor], blank: Tensor) -> Tensor:
        """Return (B, C, H, W) from each camera's features and what `blank` tells of the pictures."""
        weights = (self.weigh(torch.cat(features, 1)) + blank).softmax(1).split(1, 1)
        fused = features[0] * weights[0]
        for own, weight in zip(features[1:], weights[1:], strict=True):
            fused = fused + own * weight
        return fused


class AlignedTrunk(nn.Module):
    """A backbone and a neck a camera, and a gated sum at each of the levels ``fuse_at``.

    ``align`` names the first and the last of the stages whose convolutions are to come together; those at the paths
    ``shared`` have done so and are stored once. With ``registration_radius``, cameras are registered to the first one
    by their features at stride 8, over that many cells (`Registration`). Raises `ValueError` where the streams
    are not of one architecture, or a name is not known.
    """

    def __init__(
        self,
        backbones: dict[str, nn.Module],
        channels: dict[str, int],
        widths: list[int],
        fuse_at: Sequence[str] = LEVELS,
        align: Sequence[str] = ("stage3", "neck"),
        shared: Sequence[str] = (),
        registration_radius: int = 0,
        bottom_up: bool = True,
    ) -> None:
        super().__init__()
        for name, known in [*((level, LEVELS) for level in fuse_at), *((stage, STAGES) for stage in align)]:
            if name not in known:
                raise ValueError(f"fusion: '{name}' is not one of {', '.join(known)}")
        if STAGES.index(align[0]) > STAGES.index(align[1]):
            raise ValueError(f"fusion: alignment from {align[0]} on cannot end before, at {align[1]}")
        self.fuse_at, self.align, self.shared = tuple(fuse_at), tuple(align), tuple(shared)
        self.streams = nn.ModuleDict()
        for camera, backbone in backbones.items():
            neck = Pyramid(list(backbone.widths), widths, bottom_up)  # type: ignore[arg-type]
            self.streams[camera] = Stream(stages(backbone, channels[camera]), neck)
        first, *others = self.streams.values()
        for other in others:
            begin_as(other, first)
        self.registration = Registration(registration_radius) if registration_radius else None
        places = [LEVELS.index(level) for level in self.fuse_at]
        self.strides = tuple(Pyramid.strides[place] for place in places)
        self.widths = [widths[place] for place in places]
        self.gates = nn.ModuleDict(
            {level: Gate(width, len(backbones)) for level, width in zip(fuse_at, self.widths, strict=True)}
        )
        for path in shared:
            self.share(path)

    def forward(self, images: dict[str, Tensor]) -> list[Tensor]:
        """Return the fused features at ``strides`` for one image a camera, (B, C, H, W) each."""
        dark = blank(images, list(self.streams))
        return [self.gates[level](own, dark) for level, own in self.levels(images, dark).items()]

    def solo(self, images: dict[str, Tensor], absent: Tensor | None = None) -> list[Tensor]:
        """Return the fused features, then each camera's own, one behind the other: (B·(1 + S), C, H, W) each.

        ``absent`` (B,) numbers the camera of a picture that shows something else, -1 where none does; the fused
        features stand for its own.
        """
        dark = blank(images, list(self.streams))
        out = []
        for level, own in self.levels(images, dark).items():
            fused = self.gates[level](own, dark)
            if absent is not None:
                away = [(absent == camera).view(-1, 1, 1, 1) for camera in range(len(own))]
                own = [torch.where(gone, fused, f) for gone, f in zip(away, own, strict=True)]
            out.append(torch.cat([fused, *own]))
        return out

    def levels(self, images: dict[str, Tensor], dark: Tensor | None = None) -> dict[str, list[Tensor]]:
        """Return each camera's features at each of the levels that are fused.

        Given which pictures are `blank`, cameras are brought into line where the trunk does so.
        """
        fine = [stream.fine(images[camera]) for camera, stream in self.streams.items()]
        if self.registration and dark is not None:
            fine = [fine[0], *(self.registered(fine[0], other, dark) for other in fine[1:])]
        streams = [stream(*features) for stream, features in zip(self.streams.values(), fine, strict=True)]
        return {level: [features[level] for features in streams] for level in self.fuse_at}

    def registered(self, first: Fine, other: Fine, dark: Tensor) -> Fine:
        """Return another camera's features in line with the first one's, or as they are where a camera is `blank`."""
        assert self.registration
        seen = (1 - dark.sum((1, 2, 3)) / BLANK).clamp(min=0)[:, None]
        shift = seen * self.registration(first[1], other[1])
        p2, p3 = other
        return moved_back(p2, 2 * shift), moved_back(p3, shift)

    def alike(self) -> dict[str, list[nn.Module]]:
        """Return the modules that each stream has its own of, by path, from stage 2 on."""
        first, *others = self.streams.values()
        theirs = {path: [other.get_submodule(path) for other in others] for path, _ in first.named_modules()}
        return {
            path: [module, *theirs[path]]
            for path, module in first.named_modules()
            if path.startswith(STAGES) and not isinstance(theirs[path][0], Shared)
        }

    def twins(self) -> list[list[str]]:
        """Return the names of the parameters that are each other's counterparts in the streams."""
        return [
            [f"streams.{camera}.{path}.{name}" for camera in self.streams]
            for path, modules in self.alike().items()
            for name, _ in modules[0].named_parameters(recurse=False)
        ]

    def aligned(self) -> dict[str, list[nn.Conv2d]]:
        """Return the convolutions that are to come together, a camera's each, but for those that are shared already."""
        first, last = (STAGES.index(name) for name in self.align)
        found = {path: [m for m in each if isinstance(m, nn.Conv2d)] for path, each in self.alike().items()}
        return {path: convs for path, convs in found.items() if convs and path.startswith(STAGES[first : last + 1])}

    def share(self, path: str) -> None:
        """Store the convolution at ``path`` once, the first stream's, for all of them."""
        first, *others = self.streams.values()
        parent, _, name = path.rpartition(".")
        conv = first.get_submodule(path)
        assert isinstance(conv, nn.Conv2d)
        for other in others:
            setattr(other.get_submodule(parent), name, Shared(conv))


def blank(images: dict[str, Tensor], cameras: list[str]) -> Tensor:
    """Return (B, S, 1, 1): `BLANK` for a camera whose picture is of one colour all over, 0 for any other."""
    spread = [(images[c].amax((2, 3)) - images[c].amin((2, 3))).amax(1) for c in cameras]
    return BLANK * (1 - STEEP * torch.stack(spread, 1)[:, :, None, None]).clamp(min=0)


@torch.no_grad()
def begin_as(stream: nn.Module, first: nn.Module) -> None:
    """Give a stream the first one's start, but for what reads its own number of channels.

    Raises `ValueError` where they are not of one architecture.
    """
    own, start = stream.state_dict(), first.state_dict()
    for name in own.keys() | start.keys():
        if name in own and name in start and own[name].shape == start[name].shape:
            own[name].copy_(start[name])
        elif name not in own or name not in start or name.startswith(STAGES):
            raise ValueError("the cameras' streams are of different shapes")
