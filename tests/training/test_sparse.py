"""The proximal step, the line to the target, and zeros that stay exact."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgemtl.config import Sparsity
from edgemtl.loop import Average
from edgemtl.methods.sparse import ChannelSparsity
from edgemtl.optim.proximal import GroupProximal
from edgemtl_export import channel_groups, shrink

X = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for a, b in ((3, 24), (24, 32), (32, 24)):
        layers += [nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.SiLU()]
    return nn.Sequential(*layers, nn.Conv2d(24, 5, 1))


def group_values(net: nn.Module, proximal: GroupProximal, group: int) -> torch.Tensor:
    parts = [p[proximal.rows[n] == group].flatten() for n, p in net.named_parameters() if n in proximal.rows]
    return torch.cat(parts)


def test_the_step_is_the_proximal_map_of_the_group_lasso() -> None:
    """x = prox(w) iff w - x = τ√n x/‖x‖ where x is not zero, and ‖w‖ ≤ τ√n where it is (KKT)."""
    net = network()
    groups = channel_groups(net, (X,))
    proximal = GroupProximal(groups, net)
    before = [group_values(net, proximal, g).detach().clone() for g in range(groups.count)]
    threshold = float(np.median([float(w.norm()) / len(w) ** 0.5 for w in before]))
    dead = proximal.shrink(net, threshold, torch.zeros(groups.count, dtype=torch.bool))
    assert 0 < int(dead.sum()) < groups.count
    for group, w in enumerate(before):
        x, force = group_values(net, proximal, group), threshold * len(w) ** 0.5
        if dead[group]:
            assert not x.any() and w.norm() <= force * (1 + 1e-5)
        else:
            assert torch.allclose(w - x, force * x / x.norm(), atol=1e-6)


def test_the_weakest_go_first_and_no_more_than_asked_for() -> None:
    net = network()
    groups = channel_groups(net, (X,))
    proximal = GroupProximal(groups, net)
    norms = proximal.norms(net)
    least = int(0.8 * groups.parameters())
    dead = proximal.weakest_to(norms, torch.zeros(groups.count, dtype=torch.bool), least)
    assert least * 0.93 < groups.parameters(dead) <= least
    relative = (norms / proximal.root_size[:-1]).numpy()
    assert relative[dead].max() <= relative[~dead].min()


def train(settings: Sparsity, steps: int = 60) -> tuple[nn.Module, ChannelSparsity, Average, list[float]]:
    net = network().train()
    sparsity = ChannelSparsity(channel_groups(net, (X,)), net, settings, steps)
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0)
    average = Average(net, 0.99)
    shares = []
    for step in range(steps):
        optimizer.zero_grad()
        (net(X) - X.mean(1, keepdim=True)).square().mean().backward()
        optimizer.step()
        sparsity.step(step, 2e-3)
        average.update(net, sparsity)
        shares.append(sparsity.share)
    return net, sparsity, average, shares


@pytest.mark.parametrize(("target", "strength"), [(0.5, 0.3), (0.7, 0.3), (0.5, 1e-4), (0.5, 30.0)])
def test_the_target_is_met_whatever_the_strength(target: float, strength: float) -> None:
    net, sparsity, average, shares = train(Sparsity(target=target, strength=strength))
    assert target <= sparsity.share
    if strength < 1:  # a strength that kills everything at once cannot be held to the line
        assert sparsity.share < target + 0.08 and max(np.diff(shares)) < 0.15
    for one in (net, average.network):
        report = shrink(one, (X,)).report
        assert report.parameters_after == sparsity.groups.parameters(sparsity.dead.numpy())
        assert 1 - report.parameters_after / report.parameters_before >= target


def test_zeroed_groups_revive_without_the_mask_and_do_not_with_it() -> None:
    net, sparsity, average, _ = train(Sparsity(target=0.5))
    assert sparsity.frozen
    dead = sparsity.dead
    assert not sparsity.proximal.norms(net)[dead].any() and not sparsity.proximal.norms(average.network)[dead].any()
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0)
    (net(X) - X.mean(1, keepdim=True)).square().mean().backward()
    optimizer.step()
    assert sparsity.proximal.norms(net)[dead].any()  # why the mask is applied after every step
    sparsity.step(59, 2e-3)
    assert not sparsity.proximal.norms(net)[dead].any()


def test_every_layer_keeps_its_share() -> None:
    _net, sparsity, _, _ = train(Sparsity(target=0.6, keep=0.3))
    live = ~sparsity.dead
    for name, rows in sparsity.groups.rows.items():
        members = torch.from_numpy(rows[rows >= 0])
        if len(members) and len(sparsity.groups.shapes[name]) > 1:
            assert int(live[members].sum()) >= int(np.ceil(0.3 * len(rows)))
