"""Channel alignment: the higher convolutions of several streams converge, channel by channel, to shared weights.

After the thesis of R. Upadhyay (RGB-IR detection by soft sharing of the higher layers). With w_s the weights that make
one output channel for stream s, n of them and their mean m, each step of AdamW is followed by the proximal step of

    Σ_t L_t  +  λ Σ √n R(w),        R = √2 ‖(w_s - m)_s‖                  "difference": ‖w_1 - w_2‖ of two streams
                                    R = ‖(w_s - m)_s‖² / √n               "squared": never ties exactly

which leaves m and makes the differences shorter: by the factor max(0, 1 - lr λ √(2n) / ‖(w_s - m)_s‖), or by
1 / (1 + 2 lr λ). So channels become exactly equal, one by one and in the end by whole convolutions, which are then
stored once for all streams. (The same channels active in every stream, the thesis' joint group lasso, is what
`edgemtl_export.sparsity` does with these networks: its groups span the streams.)

All streams start equal. AdamW moves a weight by about lr a step, so those of two streams by at most 2 lr apart: λ = 1
lets no channel separate, λ = 0 every one. With a target, all are tied by λ = 1 at first, and whole convolutions are
untied along a linear schedule until those that stay tied hold that share of the weights: first those whose streams'
steps disagree most. (The reverse, to untie all and to tie what stayed nearest, averages weights that have come to mean
different things.) Or each stage and the neck has its own strength, which `methods.meta_sparsity` trains on queries that
are held out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from edgemtl_models import MultiTask

from ..config import Alignment
from ..errors import ConfigError
from ..losses import Params
from ..regularizer import Regularizer

TINY = 1e-30
MEMORY = 20
"""Steps, a tenth of the training at most, over which disagreement is averaged, and before which nothing is untied."""


class ChannelAlignment(Regularizer):
    """The proximal step of the penalty above as a `Regularizer`."""

    def __init__(self, network: MultiTask, settings: Alignment, steps: int) -> None:
        if not network.supports("alignment"):
            raise ConfigError("alignment is of two full streams: give fusion.kind=aligned, and two modalities")
        self.settings, self.steps = settings, steps
        self.streams, self.convs = list(network.inputs), network.trunk.alignable()
        self.sizes = {path: stack_weights(convs).shape[1:].numel() for path, convs in self.convs.items()}
        self.levels = list(dict.fromkeys(level_of(path) for path in self.convs)) if settings.trainable else ["all"]
        self.log_strength = torch.full((len(self.levels),), math.log(max(settings.strength, 1e-30)))
        self.disagreement = dict.fromkeys(self.convs, 0.0)
        """How far apart recent steps of the streams went, of lr at most: a mean over the weights of a convolution."""
        self.memory = min(MEMORY, 1 + steps // 10)
        self.untied: list[str] = []
        """Convolutions that were untied on the way to a target."""
        self.relative = False

    def to(self, device: torch.device) -> None:
        """Move the strengths to the device of the network."""
        self.log_strength = self.log_strength.to(device)

    def no_weight_decay(self) -> set[str]:
        """Return no names: the step leaves the mean of the streams to weight decay."""
        return set()

    def observe(self, grads: Mapping[str, Tensor]) -> None:
        """Ignore the gradients."""

    @torch.no_grad()
    def after_step(self, step: int, lr: float, optimizer: torch.optim.AdamW) -> None:
        """Apply the proximal step that belongs to optimiser step ``step``."""
        settings = self.settings
        if settings.target:
            self._follow_schedule(step, lr)
        for path in (self.untied if settings.target else self.convs) if self.is_active(step) else []:
            convs = self.convs[path]
            write_weights(convs, align(stack_weights(convs), lr * self.strength_of(path), settings.kind))

    @torch.no_grad()
    def mask(self, network: nn.Module) -> None:
        """Make equal, in a copy of the network, the channels that are equal in the one in training."""
        assert isinstance(network, MultiTask)
        copies = network.trunk.alignable()
        for path, convs in self.convs.items():
            w = stack_weights(copies[path])
            write_weights(copies[path], torch.where(tied(convs)[:, None], w.mean(0), w))

    def project(self, params: Params) -> Params:
        """Return the parameters unchanged: episodes see alignment in the proximal step alone."""
        return params

    def proximal(self) -> ChannelAlignment | None:
        """Return this object where its strengths are trained."""
        return self if self.settings.trainable else None

    def metrics(self) -> dict[str, float]:
        """Return the shares of tied channels, and of weights in convolutions that are tied whole."""
        channels = {path: tied(convs) for path, convs in self.convs.items()}
        count = sum(len(channel) for channel in channels.values())
        whole = sum(self.sizes[path] for path, channel in channels.items() if bool(channel.all()))
        strengths = self.log_strength.exp().tolist() if self.settings.trainable else []
        return {
            "tied": sum(int(channel.sum()) for channel in channels.values()) / count,
            "shared": whole / sum(self.sizes.values()),
        } | {f"alignment_strength/{name}": value for name, value in zip(self.levels, strengths, strict=False)}

    def state_dict(self) -> dict[str, Any]:
        """Return what is untied, and the disagreements."""
        return {"untied": self.untied, "disagreement": self.disagreement}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore them."""
        self.untied, self.disagreement = state["untied"], state["disagreement"]

    def warnings(self) -> list[str]:
        """Return nothing: the schedule always reaches the target."""
        return []

    def finish(self, network: MultiTask) -> dict[str, Any]:
        """Store once what is tied whole in a masked network; return its fusion with the paths in the streams."""
        trunk = network.trunk
        whole = [path for path, convs in trunk.alignable().items() if bool(tied(convs).all())]
        for path in whole:
            trunk.share(path)
        return {"fusion": network.description["fusion"] | {"shared": whole}} if whole else {}

    def is_active(self, step: int) -> bool:
        """Whether a proximal step follows optimiser step ``step``, from 0."""
        return (step + 1) / self.steps >= self.settings.begin

    def strength_of(self, path: str) -> Tensor:
        """Return the strength of a convolution (scalar), differentiable by ``log_strength``."""
        return self.log_strength[self.levels.index(level_of(path)) if self.settings.trainable else 0].exp()

    def proximal_step(self, params: Params, rate: float, metric: Params | None = None) -> Params:
        """Return parameters after a proximal step of ``rate``, differentiable by them and by ``log_strength``.

        The step is that of `after_step`, Euclidean in any ``metric``.
        """
        aligned: Params = {}
        for path, convs in self.convs.items():
            names = [
                [f"trunk.streams.{stream}.{path}.{name}" for name, _ in conv.named_parameters()]
                for stream, conv in zip(self.streams, convs, strict=True)
            ]
            parts = [[params[name] for name in of_stream] for of_stream in names]
            w = torch.stack([flatten_channels(part) for part in parts])
            w = align(w, rate * self.strength_of(path), self.settings.kind)
            for flat, of_stream, like in zip(w, names, parts, strict=True):
                aligned |= dict(zip(of_stream, unflatten_channels(flat, like), strict=True))
        return params | aligned

    def remaining_cost(self, before: Params, after: Params) -> Tensor:
        """Not defined: the strengths are absolute."""
        raise NotImplementedError("alignment has no cost")

    def _follow_schedule(self, step: int, lr: float) -> None:
        """Keep tied what has not been untied, and untie what is due."""
        held = {path: convs for path, convs in self.convs.items() if path not in self.untied}
        for path, convs in held.items():
            w = stack_weights(convs)
            distance = float((w - w.mean(0)).square().mean().sqrt()) / lr
            self.disagreement[path] += (distance - self.disagreement[path]) / min(step + 1, self.memory)
            write_weights(convs, align(w, torch.inf, "difference"))
        settings = self.settings
        progress = ((step + 1) / self.steps - settings.begin) / max(settings.end - settings.begin, 1e-9)
        if step < self.memory or progress <= 0:
            return
        share = 1 - (1 - settings.target) * min(progress, 1.0)
        remaining = sum(self.sizes[path] for path in held)
        for path in sorted(held, key=lambda path: -self.disagreement[path]):
            remaining -= self.sizes[path]
            if remaining < share * sum(self.sizes.values()):
                return
            self.untied.append(path)


def align(w: Tensor, kappa: Tensor | float, penalty: str) -> Tensor:
    """Return the weights of the streams by output channel, (S, C, n), after a proximal step of ``kappa`` = lr λ."""
    mean = w.mean(0)
    difference = w - mean
    if penalty == "squared" and kappa != torch.inf:
        return mean + difference / (1 + 2 * kappa)
    norm = difference.square().sum((0, 2)).clamp(min=TINY).sqrt()
    factor: Tensor = (1 - kappa * (2 * w.shape[2]) ** 0.5 / norm).clamp(min=0)
    return mean + factor[:, None] * difference


def flatten_channels(parts: list[Tensor]) -> Tensor:
    """Return the weight, and the bias if any, of a convolution by output channel, (C, n)."""
    return torch.cat([part.flatten(1) if part.ndim > 1 else part[:, None] for part in parts], 1)


def unflatten_channels(w: Tensor, like: list[Tensor]) -> list[Tensor]:
    """Return the tensors that `flatten_channels` took, from (C, n)."""
    sizes = [part[0].numel() for part in like]
    return [flat.view_as(part) for flat, part in zip(w.split(sizes, 1), like, strict=True)]


def stack_weights(convs: list[nn.Conv2d]) -> Tensor:
    """Return the weights and biases of each stream's convolution by output channel, (S, C, n)."""
    return torch.stack([flatten_channels([p.detach() for p in conv.parameters()]) for conv in convs])


@torch.no_grad()
def write_weights(convs: list[nn.Conv2d], w: Tensor) -> None:
    """Write back what `stack_weights` returned."""
    for conv, flat in zip(convs, w, strict=True):
        parameters: list[Tensor] = list(conv.parameters())
        for parameter, value in zip(parameters, unflatten_channels(flat, parameters), strict=True):
            parameter.copy_(value)


def level_of(path: str) -> str:
    """Return the level whose strength a convolution has: its stage, or the neck."""
    return path.split(".")[0]


def tied(convs: list[nn.Conv2d]) -> Tensor:
    """Return which channels are exactly equal in all streams, (C,) bool."""
    w = stack_weights(convs)
    return (w == w[:1]).all(0).all(1)
