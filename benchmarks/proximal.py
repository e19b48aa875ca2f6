"""Time of a step of `ChannelSparsity` and of the optimiser: milliseconds, the median of 20 steps, on one core."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import timm
import torch
from torch import Tensor, nn

from edgemtl.config import Sparsity
from edgemtl.methods.channel_sparsity import ChannelSparsity
from edgemtl_models import build

WARM_UP, STEPS = 4, 20


class Classifier(nn.Module):
    """A ResNet-18 of timm, with named inputs and outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.net = timm.create_model("resnet18")

    def forward(self, rgb: Tensor) -> dict[str, Tensor]:
        return {"classes": self.net(rgb)}


def step_ms(network: nn.Module, images: dict[str, Tensor]) -> dict[str, float]:
    """Return the milliseconds of the optimiser's step, of SGD's in its place, and of what sparsity adds."""
    sparsity = ChannelSparsity(network, images, Sparsity(target=0.5, begin=0.0, end=1.0), WARM_UP + 2 * STEPS)
    adamw = torch.optim.AdamW(network.parameters(), 1e-3)
    sgd = torch.optim.SGD(network.parameters(), 0.0, momentum=0.9)
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter) * 1e-3
    gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    times: dict[str, list[float]] = {"adamw": [], "sgd": [], "observe": [], "proximal": []}
    for step in range(WARM_UP + STEPS):
        parts: dict[str, Callable[[], object]] = {
            "adamw": adamw.step,
            "sgd": sgd.step,
            "observe": partial(sparsity.observe, gradients),
            "proximal": partial(sparsity.after_step, step, 1e-3, adamw),
        }
        for name, part in parts.items():
            begin = time.perf_counter()
            part()
            times[name].append(time.perf_counter() - begin)
    return {name: 1000 * statistics.median(values[WARM_UP:]) for name, values in times.items()}


def main() -> None:
    """Print a line for a network of two cameras and one for a ResNet-18."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    heads = {"boxes": 3, "depth": 1, "semantic": 4}
    images = {"rgb": torch.rand(1, 3, 64, 96), "ir": torch.rand(1, 1, 64, 96)}
    networks = {
        "rgbir-n": (build("rgbir-n", heads, (64, 96), pretrained=False), images),
        "ResNet-18": (Classifier(), {"rgb": torch.rand(1, 3, 64, 64)}),
    }
    for name, (network, inputs) in networks.items():
        weights = sum(p.numel() for p in network.parameters())
        figures = ", ".join(f"{part} {ms:.1f} ms" for part, ms in step_ms(network, inputs).items())
        print(f"{name}, {weights / 1e6:.1f} M weights: {figures}")


if __name__ == "__main__":
    main()
