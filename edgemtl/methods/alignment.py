"""Alignment: the cameras' higher convolutions are pulled together channel by channel, until they are the same.

After the thesis of R. Upadhyay (RGB-IR detection by soft sharing of the higher layers). With w_s the weights that make
one output channel for camera s, n of them and their mean m, each step of AdamW is followed by the proximal step of

    Σ_t L_t  +  λ Σ √n R(w),        R = √2 ‖(w_s - m)_s‖                  "difference": ‖w_1 - w_2‖ of two cameras
                                    R = ‖(w_s - m)_s‖² / √n               "squared": pulls, and never ties

which leaves m and makes the differences shorter: by the factor max(0, 1 - lr λ √(2n) / ‖(w_s - m)_s‖), or by
1 / (1 + 2 lr λ). So channels become exactly equal, by ones and in the end by whole convolutions, which are then stored
once and run once for all cameras. (The same channels alive in every camera, the thesis' joint group lasso, is what
`methods.sparse` does with these networks: its groups take the cameras together.)

All begin equal. AdamW moves a weight by about lr a step, so two cameras' by at most 2 lr apart: λ = 1 lets nothing
leave, λ = 0 everything. With a target, convolutions whose channels differ least for their size are tied, whole, along a
line until they hold that share of the weights, and stay so.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgemtl_models.aligned import AlignedTrunk
from edgemtl_models.twins import Own, share

from ..config import Alignment


class ChannelAlignment:
    """Call `step` after every optimiser step, `mask` on a copy of the network, and `finish` on what is kept."""

    def __init__(self, network: nn.Module, settings: Alignment, steps: int) -> None:
        assert isinstance(network.trunk, AlignedTrunk)
        self.network, self.settings, self.steps = network, settings, steps
        self.convs = network.trunk.aligned()
        self.sizes = {path: rows(own).shape[1:].numel() for path, own in self.convs.items()}
        self.whole: list[str] = []
        """Convolutions that a target has tied."""

    @torch.no_grad()
    def step(self, step: int, lr: float) -> None:
        """Apply the proximal step that belongs to optimiser step ``step``, from 0."""
        settings = self.settings
        if (step + 1) / self.steps < settings.start:
            return
        if settings.target:
            span = max(settings.deadline - settings.start, 1e-9)
            self._tie(settings.target * min(1.0, ((step + 1) / self.steps - settings.start) / span))
        for path, own in self.convs.items():
            w = rows(own)
            mean = w.mean(0)
            apart = w - mean
            if path in self.whole:
                factor = torch.zeros_like(mean[:, :1])
            elif settings.kind == "squared":
                factor = torch.full_like(mean[:, :1], 1 / (1 + 2 * lr * settings.strength))
            else:
                length = apart.square().sum((0, 2)).sqrt()
                tau = lr * settings.strength * (2 * w.shape[2]) ** 0.5
                factor = (1 - tau / length.clamp(min=1e-30)).clamp(min=0)[:, None]
            put(own, mean + factor * apart)

    def _tie(self, wanted: float) -> None:
        """Tie whole convolutions until they hold a share ``wanted`` of the weights."""
        total = sum(self.sizes.values())
        open_ = {path: spread(own) for path, own in self.convs.items() if path not in self.whole}
        held = sum(self.sizes[path] for path in self.whole)
        for path in sorted(open_, key=open_.__getitem__):
            if held >= wanted * total:
                return
            self.whole.append(path)
            held += self.sizes[path]

    @torch.no_grad()
    def mask(self, network: nn.Module) -> None:
        """Make equal, in a network of the same layout, the channels that are equal in the one that learns."""
        trunk: AlignedTrunk = network.trunk  # type: ignore[assignment]
        for path, own in self.convs.items():
            other = trunk.get_submodule(path)
            assert isinstance(other, Own)
            w = rows(other)
            put(other, torch.where(tied(own)[:, None], w.mean(0), w))

    def figures(self) -> dict[str, float]:
        """Return the share of the channels that are tied, and of the weights in convolutions that are so whole."""
        channels = {path: tied(own) for path, own in self.convs.items()}
        count = sum(len(each) for each in channels.values())
        whole = sum(self.sizes[path] for path, each in channels.items() if bool(each.all()))
        return {
            "tied": sum(int(each.sum()) for each in channels.values()) / count,
            "shared": whole / sum(self.sizes.values()),
        }

    def finish(self, network: nn.Module) -> list[str]:
        """Store once what is tied whole in a masked network; return the paths in its trunk."""
        return share(network.trunk, list(self.convs))  # type: ignore[arg-type]


def rows(own: Own) -> Tensor:
    """Return each camera's weights by output channel, (cameras, channels, n), a bias among them."""
    conv = own.all
    assert isinstance(conv, nn.Conv2d)
    parts = [conv.weight.flatten(1)] + ([] if conv.bias is None else [conv.bias[:, None]])
    return torch.cat(parts, 1).unflatten(0, (own.cameras, -1)).detach()


def put(own: Own, w: Tensor) -> None:
    """Write back what `rows` gave."""
    conv = own.all
    assert isinstance(conv, nn.Conv2d)
    flat = w.flatten(0, 1)
    conv.weight.copy_(flat[:, : conv.weight[0].numel()].view_as(conv.weight))
    if conv.bias is not None:
        conv.bias.copy_(flat[:, -1])


def tied(own: Own) -> Tensor:
    """Return which channels are exactly equal in all cameras, (channels,) bool."""
    w = rows(own)
    return (w == w[:1]).all(0).all(1)


def spread(own: Own) -> float:
    """Return how far the cameras are apart in a convolution, for the size of its weights."""
    w = rows(own)
    return float((w - w.mean(0)).norm() / w.norm().clamp(min=1e-30))
