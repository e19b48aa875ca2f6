"""A trunk that each head leaves where its task needs no more of it, cut behind the last one that any head needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .yolo import SPPF, Conv

PROBE = 128
"""Height and width of the picture that tells strides."""
DEEPEST = "stage32"
"""The stage behind the backbones; the only block that all cameras share."""


def blocks(backbone: nn.Module, channels: int) -> dict[str, tuple[int, int]]:
    """Return the blocks of a backbone from stride 4 on, in the order they run in: stride and channels of each.

    A block is what stands in a sequence of them, by its path: a residual block, or a convolution between such.
    """
    inside = [
        f"{path}.{name}"
        for path, sequence in backbone.named_modules()
        if isinstance(sequence, nn.Sequential)
        for name, member in sequence.named_children()
        if not isinstance(member, nn.Sequential)
    ]
    outermost = [path for path in inside if not any(path.startswith(f"{other}.") for other in inside)]
    ran: dict[str, tuple[int, int]] = {}

    def note(path: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _given: object, out: Tensor) -> None:
            ran[path] = (PROBE // out.shape[2], out.shape[1])

        return hook

    hooks = [backbone.get_submodule(path).register_forward_hook(note(path)) for path in outermost]
    training = {module: module.training for module in backbone.modules()}
    with torch.no_grad():
        backbone.eval()(torch.zeros(1, channels, PROBE, PROBE))
    for module, was in training.items():
        module.training = was
    for handle in hooks:
        handle.remove()
    return {path: place for path, place in ran.items() if place[0] in (4, 8, 16)}


def _keep(module: nn.Module, _given: object, out: Tensor) -> None:
    """Leave a block's output with the block, until the trunk takes it; a copy of the network so has its own."""
    module.__dict__["kept"] = out


def _cut_behind(backbone: nn.Module, path: str) -> None:
    """Delete what stands behind a block, in its sequence and those around it."""
    parts = path.split(".")
    for depth in range(len(parts) - 1, -1, -1):
        parent = backbone.get_submodule(".".join(parts[:depth]))
        names = [name for name, _ in parent.named_children()]
        for name in names[names.index(parts[depth]) + 1 :]:
            delattr(parent, name)


class ExitTrunk(nn.Module):
    """One backbone a camera, fused where a head leaves them and at the end of every stride before.

    ``exits`` gives each head's block, by a name that `blocks` lists for every camera, or "stage32". Gives the features
    of all heads in one list; ``reads[head]`` are the places of a head's own: strides 4 and on, up to its exit.
    """

    def __init__(
        self, backbones: dict[str, nn.Module], channels: dict[str, int], widths: Sequence[int], exits: dict[str, str]
    ) -> None:
        super().__init__()
        self.backbones = nn.ModuleDict(backbones)
        known = {camera: blocks(backbone, channels[camera]) for camera, backbone in backbones.items()}
        first = next(iter(known.values()))
        for camera, theirs in known.items():
            if {p: s for p, (s, _) in theirs.items()} != {p: s for p, (s, _) in first.items()}:
                raise ValueError(f"exits need backbones of one architecture; that of {camera} has other blocks")
        ends = {stride: path for path, (stride, _) in first.items()}  # the last block of each stride
        for head, path in exits.items():
            if path not in first and path != DEEPEST:
                raise ValueError(
                    f"{head} leaves at '{path}', which is no block; there are {', '.join(first)}, {DEEPEST}"
                )
        self.blocks = {path: stride for path, (stride, _) in first.items()}
        """The strides of all blocks there were, in order."""
        self.reads: dict[str, list[int]] = {}
        places: list[str] = []
        for head, path in exits.items():
            stride = 32 if path == DEEPEST else first[path][0]
            route = [end for s, end in ends.items() if s < stride] + [path]
            places += [p for p in route if p not in places]
            self.reads[head] = [places.index(p) for p in route]
        self.places = places
        self.strides = [32 if p == DEEPEST else first[p][0] for p in places]
        self.widths = [widths[(4, 8, 16, 32).index(stride)] for stride in self.strides]
        self.fuse = nn.ModuleDict()
        for path, width in zip(places, self.widths, strict=True):
            if path != DEEPEST:
                self.fuse[_key(path)] = Conv(sum(theirs[path][1] for theirs in known.values()), width, 1)
        if DEEPEST in places:
            self.stage32 = nn.Sequential(Conv(widths[2], widths[3], 3, 2), SPPF(widths[3], widths[3]))
            self.before32 = places.index(ends[16])
        order = list(first)
        deepest = max(order.index(path) for path in places if path != DEEPEST)
        for backbone in self.backbones.values():
            _cut_behind(backbone, order[deepest])
            for path in self.fuse_at:
                backbone.get_submodule(path).register_forward_hook(_keep)

    @property
    def fuse_at(self) -> list[str]:
        """The blocks of the backbones that features are taken from."""
        return [path for path in self.places if path != DEEPEST]

    def forward(self, images: dict[str, Tensor]) -> list[Tensor]:
        """Return the fused features of every exit, in the order of ``places``."""
        for camera, backbone in self.backbones.items():
            backbone(images[camera])
        features: list[Tensor] = []
        for path in self.places:
            if path == DEEPEST:
                features.append(self.stage32(features[self.before32]))
                continue
            kept = [backbone.get_submodule(path).__dict__.pop("kept") for backbone in self.backbones.values()]
            features.append(self.fuse[_key(path)](torch.cat(kept, 1)))
        return features


def _key(path: str) -> str:
    return path.replace(".", "_")
