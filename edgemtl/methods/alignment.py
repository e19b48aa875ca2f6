"""Alignment: the cameras' higher convolutions are pulled together channel by channel, until they are the same.

After the thesis of R. Upadhyay (RGB-IR detection by soft sharing of the higher layers). With w_s the weights that make
one output channel for camera s, n of them and their mean m, each step of AdamW is followed by the proximal step of

    Σ_t L_t  +  λ Σ √n R(w),        R = √2 ‖(w_s - m)_s‖                  "difference": ‖w_1 - w_2‖ of two cameras
                                    R = ‖(w_s - m)_s‖² / √n               "squared": pulls, and never ties

which leaves m and makes the differences shorter: by the factor max(0, 1 - lr λ √(2n) / ‖(w_s - m)_s‖), or by
1 / (1 + 2 lr λ). So channels become exactly equal, by ones and in the end by whole convolutions, which are then stored
once for all cameras. (The same channels alive in every camera, the thesis' joint group lasso, is what
`sparsity.group_lasso` does with these networks: its groups take the cameras together.)

All begin equal. AdamW moves a weight by about lr a step, so two cameras' by at most 2 lr apart: λ = 1 lets nothing
leave, λ = 0 everything. With a target, all are held together by λ = 1 at first, and whole convolutions are let go along
a line until those that stay hold that share of the weights: first those whose cameras' steps disagree most. (The other
way, to let all go apart and tie what stayed nearest, averages weights that have come to mean different things.) Or each
stage and the neck has a strength of its own, which `methods.meta_sparsity` learns from queries that are held out.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from edgemtl_models.aligned import AlignedTrunk

from ..config import Alignment
from ..losses import Weights

TINY = 1e-30
MEMORY = 20
"""Steps, a tenth of the training at most, over which disagreement is averaged, and before which nothing is let go."""


class ChannelAlignment:
    """Call `step` after every optimiser step, `mask` on a copy of the network, and `finish` on what is kept."""

    def __init__(self, network: nn.Module, settings: Alignment, steps: int) -> None:
        assert isinstance(network.trunk, AlignedTrunk)
        self.settings, self.steps = settings, steps
        self.cameras, self.convs = list(network.trunk.streams), network.trunk.alignable()
        self.sizes = {path: rows(convs).shape[1:].numel() for path, convs in self.convs.items()}
        self.levels = list(dict.fromkeys(level_of(path) for path in self.convs)) if settings.trainable else ["all"]
        self.log_strength = torch.full((len(self.levels),), math.log(max(settings.strength, 1e-30)))
        self.disagreement = dict.fromkeys(self.convs, 0.0)
        """How far apart the cameras' steps lately went, of lr at most: a mean over the weights of a convolution."""
        self.memory = min(MEMORY, 1 + steps // 10)
        self.free: list[str] = []
        """Convolutions that have been let go on the way to a target."""

    def to(self, device: torch.device) -> ChannelAlignment:
        """Move what belongs to a network that has been moved."""
        self.log_strength = self.log_strength.to(device)
        return self

    def acts(self, step: int) -> bool:
        """Whether a proximal step follows optimiser step ``step``, from 0."""
        return (step + 1) / self.steps >= self.settings.begin

    @torch.no_grad()
    def step(self, step: int, lr: float) -> None:
        """Apply the proximal step that belongs to optimiser step ``step``."""
        settings = self.settings
        if settings.target:
            self._hold(step, lr)
        for path in (self.free if settings.target else self.convs) if self.acts(step) else []:
            convs = self.convs[path]
            put(convs, together(rows(convs), lr * self.strength_of(path), settings.kind))

    def strength_of(self, path: str) -> Tensor:
        """Return a convolution's strength, differentiable by ``log_strength``."""
        return self.log_strength[self.levels.index(level_of(path)) if self.settings.trainable else 0].exp()

    def settled(self, at: Weights, rate: float, metric: Weights | None = None) -> Weights:
        """Return weights by name after a proximal step, differentiable by them and by ``log_strength``.

        Its step is that of `step`, a plain one in any ``metric`` of the weights.
        """
        placed = {}
        for path, convs in self.convs.items():
            names = [
                [f"trunk.streams.{camera}.{path}.{name}" for name, _ in conv.named_parameters()]
                for camera, conv in zip(self.cameras, convs, strict=True)
            ]
            parts = [[at[name] for name in each] for each in names]
            w = torch.stack([joined(each) for each in parts])
            w = together(w, rate * self.strength_of(path), self.settings.kind)
            for own, theirs, like in zip(w, names, parts, strict=True):
                placed |= dict(zip(theirs, apart(own, like), strict=True))
        return at | placed

    def _hold(self, step: int, lr: float) -> None:
        """Hold together what has not been let go, and let go what is due."""
        held = {path: convs for path, convs in self.convs.items() if path not in self.free}
        for path, convs in held.items():
            w = rows(convs)
            apart_by = float((w - w.mean(0)).square().mean().sqrt()) / lr
            self.disagreement[path] += (apart_by - self.disagreement[path]) / min(step + 1, self.memory)
            put(convs, together(w, torch.inf, "difference"))
        settings = self.settings
        gone = ((step + 1) / self.steps - settings.begin) / max(settings.end - settings.begin, 1e-9)
        if step < self.memory or gone <= 0:
            return
        share = 1 - (1 - settings.target) * min(gone, 1.0)
        left = sum(self.sizes[path] for path in held)
        for path in sorted(held, key=lambda path: -self.disagreement[path]):
            left -= self.sizes[path]
            if left < share * sum(self.sizes.values()):
                return
            self.free.append(path)

    @torch.no_grad()
    def mask(self, network: nn.Module) -> None:
        """Make equal, in a network of the same layout, the channels that are equal in the one that learns."""
        theirs = network.trunk.alignable()  # type: ignore[union-attr,operator]
        for path, convs in self.convs.items():
            w = rows(theirs[path])
            put(theirs[path], torch.where(tied(convs)[:, None], w.mean(0), w))

    def figures(self) -> dict[str, float]:
        """Return the share of the channels that are tied, and of the weights in convolutions that are so whole."""
        channels = {path: tied(convs) for path, convs in self.convs.items()}
        count = sum(len(each) for each in channels.values())
        whole = sum(self.sizes[path] for path, each in channels.items() if bool(each.all()))
        strengths = self.log_strength.exp().tolist() if self.settings.trainable else []
        return {
            "tied": sum(int(each.sum()) for each in channels.values()) / count,
            "shared": whole / sum(self.sizes.values()),
        } | {f"alignment {name}": value for name, value in zip(self.levels, strengths, strict=False)}

    def finish(self, network: nn.Module) -> list[str]:
        """Store once what is tied whole in a masked network; return the paths in its streams."""
        trunk: AlignedTrunk = network.trunk  # type: ignore[assignment]
        whole = [path for path, convs in trunk.alignable().items() if bool(tied(convs).all())]
        for path in whole:
            trunk.share(path)
        return whole


def together(w: Tensor, kappa: Tensor | float, kind: str) -> Tensor:
    """Return each camera's weights by output channel, (cameras, channels, n), pulled together by ``kappa`` = lr λ."""
    mean = w.mean(0)
    off = w - mean
    if kind == "squared" and kappa != torch.inf:
        return mean + off / (1 + 2 * kappa)
    length = off.square().sum((0, 2)).clamp(min=TINY).sqrt()
    return mean + (1 - kappa * (2 * w.shape[2]) ** 0.5 / length).clamp(min=0)[:, None] * off


def joined(parts: list[Tensor]) -> Tensor:
    """Return the weight, and the bias if any, of a convolution by output channel, (channels, n)."""
    return torch.cat([part.flatten(1) if part.ndim > 1 else part[:, None] for part in parts], 1)


def apart(w: Tensor, like: list[Tensor]) -> list[Tensor]:
    """Return what `joined` took, from (channels, n)."""
    sizes = [part[0].numel() for part in like]
    return [flat.view_as(part) for flat, part in zip(w.split(sizes, 1), like, strict=True)]


def rows(convs: list[nn.Conv2d]) -> Tensor:
    """Return each camera's weights by output channel, (cameras, channels, n), a bias among them."""
    return torch.stack([joined([p.detach() for p in conv.parameters()]) for conv in convs])


@torch.no_grad()
def put(convs: list[nn.Conv2d], w: Tensor) -> None:
    """Write back what `rows` gave."""
    for conv, own in zip(convs, w, strict=True):
        parameters = list(conv.parameters())
        for parameter, value in zip(parameters, apart(own, parameters), strict=True):
            parameter.copy_(value)


def level_of(path: str) -> str:
    """Name what shares a learned strength: a stage, or the neck."""
    return path.split(".")[0]


def tied(convs: list[nn.Conv2d]) -> Tensor:
    """Return which channels are exactly equal in all cameras, (channels,) bool."""
    w = rows(convs)
    return (w == w[:1]).all(0).all(1)
