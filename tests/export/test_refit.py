"""Refitting: where what stays can say what has left, a layer says all that it said."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from edgemtl_export.refit import refit

X = torch.rand(8, 3, 14, 17, generator=torch.Generator().manual_seed(0))
READERS = {
    "plain": lambda: nn.Conv2d(16, 6, 3, stride=2, padding=1),
    "pointwise": lambda: nn.Conv2d(16, 6, 1, bias=False),
    "dilated": lambda: nn.Conv2d(16, 6, 3, dilation=2, padding="same"),
    "grouped": lambda: nn.Conv2d(16, 6, 3, padding=(0, 2), groups=2),
    "linear": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(2), Columns(), nn.Linear(16, 6)),
}


class Columns(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


class Twice(nn.Module):
    """Channels of which every second one is a mixture of those before it, and what reads them."""

    def __init__(self, reader: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.reader = reader
        with torch.no_grad():
            for first in (0, 8):
                mixture = torch.rand(4, 4)
                self.stem.weight[first + 4 : first + 8] = torch.einsum(
                    "ab,bcde->acde", mixture, self.stem.weight[first : first + 4]
                )
                self.stem.bias[first + 4 : first + 8] = mixture @ self.stem.bias[first : first + 4]

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.reader(self.norm(self.stem(x)))
        return y


def without(network: nn.Module, channels: list[int]) -> nn.Module:
    pruned = copy.deepcopy(network)
    with torch.no_grad():
        for tensor in (pruned.stem.weight, pruned.stem.bias, pruned.norm.weight, pruned.norm.bias):
            tensor[channels] = 0
    return pruned


@pytest.mark.parametrize("name", list(READERS))
def test_a_reader_takes_over_what_can_be_said_by_what_stays(name: str) -> None:
    torch.manual_seed(1)
    before = Twice(READERS[name]()).eval()
    pruned = without(before, [4, 5, 6, 7, 12, 13, 14, 15]).train()
    damage = float((pruned.eval()(X) - before(X)).square().mean())
    left = refit(pruned.train(), before, (X,), ridge=1e-9)
    assert pruned.training and pruned.norm.training
    healed = float((pruned.eval()(X) - before(X)).square().mean())
    assert damage > 1e-4 and healed < 1e-6 * damage
    assert all(share < 1e-6 for layer, share in left.items() if layer.startswith("reader"))
    assert not pruned.stem.weight[4:8].any() and not pruned.norm.weight[12:].any()


def test_a_depthwise_layer_and_those_after_it_are_fitted_in_their_order() -> None:
    torch.manual_seed(0)
    before = nn.Sequential(
        nn.Conv2d(3, 24, 3, padding=1),
        nn.SiLU(),
        nn.Conv2d(24, 24, 3, padding=1, groups=24),
        nn.SiLU(),
        nn.Conv2d(24, 8, 1),
    ).eval()
    pruned = copy.deepcopy(before)
    with torch.no_grad():
        for layer in (0, 2):
            pruned[layer].weight[:8], pruned[layer].bias[:8] = 0, 0
    damage = float((pruned(X) - before(X)).square().mean())
    refit(pruned, before, (X,))
    other = torch.rand(4, 3, 14, 17, generator=torch.Generator().manual_seed(9))
    assert float((pruned(other) - before(other)).square().mean()) < 0.3 * damage
    assert not pruned[2].weight[:8].any() and not pruned[0].bias[:8].any()


def test_an_equal_network_stays_as_it_is() -> None:
    torch.manual_seed(1)
    before = Twice(READERS["plain"]()).eval()
    same = copy.deepcopy(before)
    refit(same, before, (X,))
    for name, tensor in same.state_dict().items():
        torch.testing.assert_close(tensor, before.state_dict()[name], rtol=1e-4, atol=1e-5)


def test_a_layer_that_is_used_twice_or_frozen_or_shares_its_weights_is_not_fitted() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.twice = nn.Linear(8, 8), nn.Linear(8, 8)
            self.left, self.right, self.frozen = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
            self.right.weight = self.left.weight
            self.frozen.requires_grad_(False)

        def forward(self, x: Tensor) -> Tensor:
            x = self.twice(self.twice(self.first(x)).relu())
            answer: Tensor = self.frozen(self.left(x) + self.right(x.relu()))
            return answer

    dense, pruned = Twice(), Twice()
    with torch.no_grad():
        pruned.first.weight[:3], pruned.first.bias[:3] = 0, 0
    left = refit(pruned, dense, (torch.rand(64, 8),))
    assert set(left) == {"first"}


def test_a_fit_that_holds_for_its_own_images_alone_is_not_taken() -> None:
    torch.manual_seed(0)
    errors = []
    for _ in range(20):
        dense, pruned = nn.Linear(64, 8), nn.Linear(64, 8)
        pruned.load_state_dict(dense.state_dict())
        with torch.no_grad():
            pruned.weight[:, 32:] = 0
        few, many = torch.randn(40, 64), torch.randn(4000, 64)
        before = (pruned(many) - dense(many)).square().mean()
        refit(pruned, dense, (few,))
        errors.append(float((pruned(many) - dense(many)).square().mean() / before))
    assert max(errors) <= 1.01  # six times as much where all fits are taken


class PadsItself(nn.Conv2d):
    """As timm's Conv2dSame: as large an output as the input over the stride."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.functional.pad(x, (0, 1, 0, 1)))


class Standardised(nn.Conv2d):
    """As timm's ScaledStdConv2d: what it multiplies by is not its weight."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(input, weight / weight.std(), bias)


def parametrised(channels: int, filters: int, kernel: int, **options: int) -> nn.Module:
    return nn.utils.parametrizations.weight_norm(nn.Conv2d(channels, filters, kernel, **options))


@pytest.mark.parametrize("kind", [PadsItself, Standardised, parametrised])
def test_a_layer_that_computes_otherwise_stays_as_it_is(kind: Callable[..., nn.Module]) -> None:
    network = Twice(kind(16, 6, 3, stride=2, padding=1)).eval()
    pruned = without(network, [4, 5])
    before = copy.deepcopy(pruned.state_dict())
    assert "reader" not in refit(pruned, network, (X,))
    assert all(torch.equal(tensor, before[name]) for name, tensor in pruned.state_dict().items() if "reader" in name)
