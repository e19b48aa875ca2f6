"""Head taps: a trunk whose heads read the backbones at the block that their task needs, cut after the last one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .backbone import Backbone
from .blocks import SPPF, Conv
from .staging import PROBE, module_sequence
from .trunk import Slices, Trunk

DEEPEST = "stage32"
"""The stage after the backbones; the only block that all modalities share."""


def blocks(backbone: Backbone, channels: int) -> dict[str, tuple[int, int]]:
    """Return the blocks of a backbone from stride 4 on, in the order they run in: stride and channels of each.

    A block is a member of a sequence of modules, by its path: a residual block, or a convolution between such. Raises
    `ValueError` when the backbone is more than a sequence of modules.
    """
    outputs = module_sequence(backbone, channels)
    strides = {
        path: (PROBE // out.shape[2], out.shape[1]) for path, out in outputs.items() if _in_sequence(backbone, path)
    }
    return {path: block for path, block in strides.items() if block[0] in (4, 8, 16)}


def _in_sequence(backbone: Backbone, path: str) -> bool:
    return isinstance(backbone.get_submodule(path.rpartition(".")[0]), nn.Sequential)


def _cut_after(backbone: Backbone, path: str) -> None:
    """Delete what comes after a block, in its sequence and those around it."""
    parts = path.split(".")
    for depth in range(len(parts) - 1, -1, -1):
        parent = backbone.get_submodule(".".join(parts[:depth]))
        names = [name for name, _ in parent.named_children()]
        for name in names[names.index(parts[depth]) + 1 :]:
            delattr(parent, name)


class HeadTapTrunk(Trunk):
    """One backbone for each modality, fused at the block that a head reads and at the end of every stride before.

    ``head_taps`` gives each head's block, by a name that `blocks` lists for every modality, or "stage32". Returns the
    features of all heads in one list; ``reads[head]`` are the indices of a head's own: strides 4 and on, up to its tap.
    """

    def __init__(
        self,
        backbones: dict[str, Backbone],
        channels: dict[str, int],
        widths: Sequence[int],
        head_taps: dict[str, str],
    ) -> None:
        super().__init__()
        self.backbones = nn.ModuleDict(backbones)
        known = {modality: blocks(backbone, channels[modality]) for modality, backbone in backbones.items()}
        first = next(iter(known.values()))
        for modality, others in known.items():
            if {p: s for p, (s, _) in others.items()} != {p: s for p, (s, _) in first.items()}:
                raise ValueError(f"head_taps need backbones of one architecture; that of {modality} has other blocks")
        ends = {stride: path for path, (stride, _) in first.items()}  # the last block of each stride
        for head, path in head_taps.items():
            if path not in first and path != DEEPEST:
                raise ValueError(f"{head} reads '{path}', which is no block; there are {', '.join(first)}, {DEEPEST}")
        self.blocks = {path: stride for path, (stride, _) in first.items()}
        """The strides of all blocks there were, in order."""
        self._reads: dict[str, list[int]] = {}
        self.taps: list[str] = []
        """The blocks that features are taken from, one a feature."""
        for head, path in head_taps.items():
            stride = 32 if path == DEEPEST else first[path][0]
            route = [end for s, end in ends.items() if s < stride] + [path]
            self.taps += [p for p in route if p not in self.taps]
            self._reads[head] = [self.taps.index(p) for p in route]
        self.strides = [32 if p == DEEPEST else first[p][0] for p in self.taps]
        self.widths = [widths[(4, 8, 16, 32).index(stride)] for stride in self.strides]
        self._slices: Slices = {}
        self.fuse = nn.ModuleDict()
        for path, width in zip(self.taps, self.widths, strict=True):
            if path != DEEPEST:
                channels_at = {modality: blocks[path][1] for modality, blocks in known.items()}
                self._slices[f"fuse.{_key(path)}.conv.weight"] = {1: channels_at}
                self.fuse[_key(path)] = Conv(sum(channels_at.values()), width, 1)
        if DEEPEST in self.taps:
            self.stage32 = nn.Sequential(Conv(widths[2], widths[3], 3, 2), SPPF(widths[3], widths[3]))
            self.before32 = self.taps.index(ends[16])
        order = list(first)
        last = order[max(order.index(path) for path in self.taps if path != DEEPEST)]
        self.sequences: dict[str, list[str]] = {}
        """The modules of each modality's backbone that are run, in order."""
        for modality, backbone in backbones.items():
            paths = list(module_sequence(backbone, channels[modality]))
            self.sequences[modality] = paths[: paths.index(last) + 1]
            _cut_after(backbone, last)

    @property
    def reads(self) -> dict[str, list[int]]:
        """The indices of the features that each head reads."""
        return self._reads

    def modality_slices(self) -> Slices:
        """Return the columns of the fusing convolutions."""
        return self._slices

    @property
    def fuse_at(self) -> list[str]:
        """The blocks of the backbones that features are taken from."""
        return [path for path in self.taps if path != DEEPEST]

    def forward(self, images: dict[str, Tensor]) -> list[Tensor]:
        """Return the fused features of every tap, in the order of ``taps``."""
        tapped = [self._tapped(modality, images[modality]) for modality in self.sequences]
        features: list[Tensor] = []
        for path in self.taps:
            if path == DEEPEST:
                features.append(self.stage32(features[self.before32]))
            else:
                features.append(self.fuse[_key(path)](torch.cat([outputs[path] for outputs in tapped], 1)))
        return features

    def _tapped(self, modality: str, image: Tensor) -> dict[str, Tensor]:
        """Return the outputs of the blocks that features are taken from."""
        backbone, outputs = self.backbones[modality], {}
        for path in self.sequences[modality]:
            image = backbone.get_submodule(path)(image)
            if path in self.taps:
                outputs[path] = image
        return outputs


def _key(path: str) -> str:
    return path.replace(".", "_")
