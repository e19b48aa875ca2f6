"""Two full streams, fused at the inputs of the heads, whose upper layers can be aligned until they are shared.

The thesis' feature alignment (R. Upadhyay, chapter on RGB-IR detection): each modality has a backbone and a neck of one
architecture and one initialisation, the lower layers untied, the higher ones tied where training finds that the data
allow it. A convolution whose weights are equal in all streams is stored once, and each stream goes through it;
normalisation stays untied, so that it can still be folded into the weights of each. The gates give no weight to an
image of one colour, as a missing modality's blank frame is: what is left is the other stream, which the heads can be
trained to read by itself (`unimodal_features`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .backbone import Backbone
from .fusion import Neck, Pyramid, plain_neck
from .registration import Registration, shifted_back
from .staging import stages
from .trunk import Feature, Slices, StreamFeatures, Trunk

STAGES = ("stage2", "stage3", "stage4", "neck")
"""The parts of streams that can be tied, in order: stage k ends at stride 2^k, and the neck is the rest."""
LEVELS = ("p2", "p3", "p4", "p5")
"""The features of the neck, at strides 4 to 32."""
BLANK = -1e4
"""Added to the logit of a blank modality's weight; within float16."""
STEEP = 1e3
"""Times this, one grey level is far more than 1 after any usual normalisation: 1/255 and more."""
Fine = tuple[Tensor, Tensor]
"""A backbone's features at strides 4 and 8."""


class Stream(nn.Module):
    """One modality's backbone, by its stages, and its neck."""

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
        return dict(zip(LEVELS, self.neck.features([p2, p3, self.stage4(p3)]), strict=True))


class SharedConv(nn.Module):
    """A reference to another stream's convolution, in the place of one that has the same weights."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.target = (conv,)  # in a tuple, or it would be a submodule here too

    def forward(self, features: Tensor) -> Tensor:
        """Return the other stream's convolution of this stream's features."""
        out: Tensor = self.target[0](features)
        return out


class Gate(nn.Module):
    """Gated fusion: a sum of the modalities' features by softmax weights a pixel; a blank modality's weight is 0."""

    def __init__(self, width: int, modalities: int) -> None:
        super().__init__()
        self.weigh = nn.Conv2d(width * modalities, modalities, 1)
        with torch.no_grad():  # a plain mean, to begin with
            for parameter in self.weigh.parameters():
                parameter.zero_()

    def forward(self, features: list[Tensor], blank: Tensor) -> Tensor:
        """Return (B, C, H, W) from each modality's features and the logits that `blank_logits` adds."""
        weights = (self.weigh(torch.cat(features, 1)) + blank).softmax(1).split(1, 1)
        fused: Tensor = features[0] * weights[0]
        for other, weight in zip(features[1:], weights[1:], strict=True):
            fused = fused + other * weight
        return fused


class AlignedTrunk(Trunk):
    """A backbone and a neck for each modality, and gated fusion at each of the levels ``fuse_at``.

    ``align`` names the first and the last of the stages whose convolutions may be tied; those at the paths ``shared``
    are, and are stored once. With ``registration_radius``, modalities are registered to the first one by their features
    at stride 8, over that many cells (`Registration`). Raises `ValueError` where the streams are not of one
    architecture, or a name is not known.
    """

    def __init__(
        self,
        backbones: dict[str, Backbone],
        channels: dict[str, int],
        widths: list[int],
        fuse_at: Sequence[str] = LEVELS,
        align: Sequence[str] = ("stage3", "neck"),
        shared: Sequence[str] = (),
        registration_radius: int = 0,
        bottom_up: bool = True,
        neck: Neck = plain_neck,
    ) -> None:
        super().__init__()
        for name, known in [*((level, LEVELS) for level in fuse_at), *((stage, STAGES) for stage in align)]:
            if name not in known:
                raise ValueError(f"fusion: '{name}' is not one of {', '.join(known)}")
        if STAGES.index(align[0]) > STAGES.index(align[1]):
            raise ValueError(f"fusion: alignment from {align[0]} on cannot end before, at {align[1]}")
        self.fuse_at, self.align, self.shared = tuple(fuse_at), tuple(align), tuple(shared)
        streams = {
            modality: Stream(stages(backbone, channels[modality]), Pyramid(backbone.widths, widths, bottom_up, neck))
            for modality, backbone in backbones.items()
        }
        self.modalities = list(streams)
        self.streams = nn.ModuleDict(streams)
        first, *others = streams.values()
        for other in others:
            initialise_as(other, first)
        self.registration = Registration(registration_radius) if registration_radius else None
        indices = [LEVELS.index(level) for level in self.fuse_at]
        self.strides = tuple(Pyramid.strides[index] for index in indices)
        self.widths = [widths[index] for index in indices]
        self.gates = nn.ModuleDict(
            {level: Gate(width, len(backbones)) for level, width in zip(fuse_at, self.widths, strict=True)}
        )
        for path in shared:
            self.share(path)

    def forward(self, images: dict[str, Tensor]) -> list[Tensor]:
        """Return the fused features at ``strides`` for one image a modality, (B, C, H, W) each."""
        return self.stream_features(images).fused

    def supports(self, _feature: Feature) -> bool:
        """All of them."""
        return True

    def stream_features(self, images: dict[str, Tensor]) -> StreamFeatures:
        """Return the fused features and each modality's own, registered where the trunk registers."""
        blank = blank_logits(images, self.modalities)
        streams = self._streams()
        fine = [streams[modality].fine(images[modality]) for modality in self.modalities]
        shifts: list[Tensor | None] = [None] * len(fine)
        if self.registration:
            for index in range(1, len(fine)):
                fine[index], shifts[index] = self._registered(fine[0], fine[index], blank)
        by_modality = [stream(*finest) for stream, finest in zip(streams.values(), fine, strict=True)]
        levels = [[levels[level] for levels in by_modality] for level in self.fuse_at]
        fused = [self.gates[level](features, blank) for level, features in zip(self.fuse_at, levels, strict=True)]
        return StreamFeatures(fused, levels, shifts)

    def _streams(self) -> dict[str, Stream]:
        return {name: stream for name, stream in self.streams.items() if isinstance(stream, Stream)}

    def _registered(self, reference: Fine, other: Fine, blank: Tensor) -> tuple[Fine, Tensor]:
        """Return features registered to the reference modality's, and the shift; no shift where a modality is blank."""
        assert self.registration
        visible = (1 - blank.sum((1, 2, 3)) / BLANK).clamp(min=0)[:, None]
        shift = visible * self.registration(reference[1], other[1])
        p2, p3 = other
        return (shifted_back(p2, 2 * shift), shifted_back(p3, shift)), shift

    def _untied(self) -> dict[str, list[nn.Module]]:
        """Return the modules from stage 2 on of which each stream has one, by path in a stream."""
        first, *others = self.streams.values()
        others_at = {path: [other.get_submodule(path) for other in others] for path, _ in first.named_modules()}
        return {
            path: [module, *others_at[path]]
            for path, module in first.named_modules()
            if path.startswith(STAGES) and not isinstance(others_at[path][0], SharedConv)
        }

    def twins(self) -> list[list[str]]:
        """Return groups of parameters, by name, that are each other's counterparts in the modalities' streams."""
        return [
            [f"streams.{modality}.{path}.{name}" for modality in self.modalities]
            for path, modules in self._untied().items()
            for name, _ in modules[0].named_parameters(recurse=False)
        ]

    def modality_slices(self) -> Slices:
        """Return both dimensions of the gates' convolutions: weights by modality, of features by modality."""
        rows = dict.fromkeys(self.modalities, 1)
        slices: Slices = {}
        for level, width in zip(self.fuse_at, self.widths, strict=True):
            slices[f"gates.{level}.weigh.weight"] = {0: rows, 1: dict.fromkeys(self.modalities, width)}
            slices[f"gates.{level}.weigh.bias"] = {0: rows}
        return slices

    def tied_parameters(self) -> dict[str, str]:
        """Return the parameters of the tied convolutions in the other streams, and the first stream's."""
        first, *others = self.modalities
        return {
            f"streams.{modality}.{path}.{name}": f"streams.{first}.{path}.{name}"
            for path in self.shared_paths()
            for name, _ in self.streams[first].get_submodule(path).named_parameters()
            for modality in others
        }

    def shared_paths(self) -> list[str]:
        """Return the paths of the convolutions that are stored once."""
        other = self.streams[self.modalities[-1]]
        return [path for path, module in other.named_modules() if isinstance(module, SharedConv)]

    def alignable(self) -> dict[str, list[nn.Conv2d]]:
        """Return the convolutions whose weights may be tied and are not yet, one of each modality, by path."""
        first, last = (STAGES.index(name) for name in self.align)
        untied = {path: [m for m in modules if isinstance(m, nn.Conv2d)] for path, modules in self._untied().items()}
        return {path: convs for path, convs in untied.items() if convs and path.startswith(STAGES[first : last + 1])}

    def share(self, path: str) -> None:
        """Store the convolution at ``path`` once, the first stream's, for all of them."""
        first, *others = self.streams.values()
        parent, _, name = path.rpartition(".")
        conv = first.get_submodule(path)
        assert isinstance(conv, nn.Conv2d)
        for other in others:
            setattr(other.get_submodule(parent), name, SharedConv(conv))


def blank_logits(images: dict[str, Tensor], modalities: list[str]) -> Tensor:
    """Return (B, modalities, 1, 1): `BLANK` where a modality's image is of one colour, 0 elsewhere."""
    ranges = [(images[m].amax((2, 3)) - images[m].amin((2, 3))).amax(1) for m in modalities]
    return BLANK * (1 - STEEP * torch.stack(ranges, 1)[:, :, None, None]).clamp(min=0)


@torch.no_grad()
def initialise_as(stream: nn.Module, first: nn.Module) -> None:
    """Copy the first stream's weights into another, but for what reads another number of input channels.

    Raises `ValueError` where they are not of one architecture.
    """
    state, source = stream.state_dict(), first.state_dict()
    for name in state.keys() | source.keys():
        if name in state and name in source and state[name].shape == source[name].shape:
            state[name].copy_(source[name])
        elif name not in state or name not in source or name.startswith(STAGES):
            raise ValueError("the modalities' streams are of different shapes")
