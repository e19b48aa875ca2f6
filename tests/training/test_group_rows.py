"""The proximal step in place: the weights that its definition gives, at a part of a step's cost."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import edgemtl_export.sparsity.group_rows as group_rows
from edgemtl.config import Sparsity
from edgemtl.methods.channel_sparsity import ChannelSparsity
from edgemtl_export.sparsity.group_rows import GroupRows, ProximalStep
from edgemtl_export.sparsity.partition import Partition

pytestmark = pytest.mark.fault("L7")


class Net(nn.Module):
    """Weights by rows, by columns, in part in no group, in a group each, and one that is far larger than the others."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm = nn.Conv2d(3, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12)
        self.b, self.c = nn.Conv2d(12, 40, 3, padding=1), nn.ConvTranspose2d(40, 12, 2)
        self.out = nn.Conv2d(12, 4, 1)

    def forward(self, rgb: Tensor) -> dict[str, Tensor]:
        return {"out": self.out(self.c(self.b(self.norm(self.a(rgb)).relu()).relu()).relu())}


def trained(network: nn.Module, steps: int = 3) -> torch.optim.AdamW:
    """Return AdamW after some steps on noise, with two groups of settings and a weight that took no step."""
    generator = torch.Generator().manual_seed(1)
    named = dict(network.named_parameters())
    late = [named.pop("a.weight")]
    optimizer = torch.optim.AdamW([{"params": [*named.values()]}, {"params": late, "eps": 1e-4}], lr=1e-2)
    for _ in range(steps):
        for name, parameter in network.named_parameters():
            scale = 10 ** torch.empty(()).uniform_(-3, 0, generator=generator)
            noise = torch.randn(parameter.shape, generator=generator) * scale
            parameter.grad = None if name == "b.bias" else noise * noise
        optimizer.step()
    return optimizer


def definition(w: Tensor, metric: Tensor, tau: float) -> Tensor:
    """Return argmin ½ Σ D (x - w)² + τ ‖x‖ of one group, by bisection in float64."""
    w, metric = w.double(), metric.double()
    if (metric * w).norm() <= tau:
        return torch.zeros_like(w)
    low, high = 0.0, float(w.norm())
    for _ in range(200):
        theta = (low + high) / 2
        low, high = (theta, high) if (w / (theta + tau / metric)).norm() > 1 else (low, theta)
    return w * high / (high + tau / metric)


def metric_of(optimizer: torch.optim.AdamW, parameter: Tensor) -> Tensor:
    state = optimizer.state.get(parameter)
    if not state:
        return torch.ones_like(parameter)
    eps = next(g["eps"] for g in optimizer.param_groups if any(p is parameter for p in g["params"]))
    return (state["exp_avg_sq"].double() / (1 - 0.999 ** float(state["step"]))).sqrt() + eps


def partition_of(network: nn.Module) -> Partition:
    """Groups by rows with gaps, by columns, and of single elements."""
    rows = torch.arange(40)
    rows[::7] = -1
    members = {
        "a.weight": torch.arange(12).view(-1, 1, 1, 1) + 40,
        "norm.weight": torch.arange(12) + 40,
        "b.weight": rows.view(-1, 1, 1, 1),
        "b.bias": rows,
        "c.weight": (torch.arange(12) + 52).view(1, -1, 1, 1),
    }
    return Partition(network, members, 64)


@pytest.mark.parametrize(("large", "chunk"), [(1, 10**9), (1, 100), (2000, 500), (10**9, 1)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("strength", [0.0, 1e-3, 0.1, 1.0, 100.0])
def test_the_weights_are_those_of_the_definition(
    large: int, chunk: int, strength: float, memory_format: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_rows, "LARGE", large)
    monkeypatch.setattr(group_rows, "CHUNK", chunk)
    torch.manual_seed(0)
    network = Net()
    network.b.weight.data[3] = 0
    partition = partition_of(network)
    by_rows = GroupRows(network, partition)
    network.to(memory_format=memory_format)  # as a training does, behind the analysis
    optimizer, parameters = trained(network), partition.parameters(network)
    before = [p.detach().clone() for p in parameters]
    metric = [metric_of(optimizer, p) for p in parameters]
    step = ProximalStep(by_rows, optimizer, parameters)
    tau = strength * torch.rand(64, generator=torch.Generator().manual_seed(2))
    pruned = torch.zeros(64, dtype=torch.bool)
    pruned[[1, 45, 60]] = True
    step.write(tau, pruned)
    ids = [partition.members[n].expand(p.shape) for n, p in zip(partition.names, parameters, strict=True)]
    for group in range(-1, 64):
        w, d, x = (
            torch.cat([values.detach()[i == group].double() for values, i in zip(each, ids, strict=True)])
            for each in (before, metric, parameters)
        )
        if group < 0:
            assert torch.equal(x.detach(), w)
            continue
        expected = torch.zeros_like(w) if pruned[group] else definition(w, d, float(tau[group]))
        torch.testing.assert_close(x.detach(), expected, rtol=2e-5, atol=1e-7)
        torch.testing.assert_close(step.threshold[group].double(), (d * w).norm(), rtol=1e-5, atol=1e-7)
        if not w.any() or pruned[group]:
            assert not x.any()


@pytest.mark.parametrize("large", [1, 10**9])
def test_sums_and_zeros_are_those_of_the_partition(large: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_rows, "LARGE", large)
    network = Net()
    partition = partition_of(network)
    by_rows, parameters = GroupRows(network, partition), partition.parameters(network)
    others = [torch.randn_like(p) for p in parameters]
    expected = partition.sums(partition.gather([p * o for p, o in zip(parameters, others, strict=True)]))
    torch.testing.assert_close(by_rows.products(parameters, others), expected.detach())
    pruned = torch.arange(64) % 3 == 0
    rows = network.b.weight.detach().clone()
    by_rows.zero(parameters, pruned)
    norms = partition.norms(network)
    assert not norms[pruned].any() and torch.equal(network.b.weight[7], rows[7]) and not network.b.weight[9].any()


@pytest.mark.parametrize("settings", [{"target": 0.4}, {"strength": 0.05}, {"target": 0.3, "channel_multiple": 4}])
def test_a_training_is_the_same_however_large_a_tensor_counts_as(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    for large in (1, 10**9):
        monkeypatch.setattr(group_rows, "LARGE", large)
        torch.manual_seed(0)
        network = Net()
        sparsity = ChannelSparsity(network, {"rgb": torch.rand(1, 3, 8, 8)}, Sparsity(begin=0.0, **settings), 10)
        optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
        for step in range(10):
            optimizer.zero_grad()
            images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(step))
            network(images)["out"].square().mean().backward()
            optimizer.step()
            sparsity.observe({n: p.grad for n, p in network.named_parameters() if p.grad is not None})
            sparsity.after_step(step, 1e-2, optimizer)
        runs.append(SimpleNamespace(state=network.state_dict(), share=sparsity.sparsifier.pruned_share))
    torch.testing.assert_close(runs[0].state, runs[1].state, rtol=1e-3, atol=1e-5)
    assert runs[0].share == runs[1].share > 0
