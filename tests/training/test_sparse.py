"""Channel sparsity: the proximal step in either metric, the groups, the schedule to a target, and exact zeros."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_device import simulated_device
from torch import Tensor, nn

from edgemtl.config_file import load
from edgemtl.ema import EMA
from edgemtl.methods.channel_sparsity import ChannelSparsity
from edgemtl.synthetic.streets import Streets
from edgemtl.train import begin
from edgemtl_export import channel_groups, shrink
from edgemtl_export.groups import coupled_channels
from edgemtl_export.inputs import example_inputs
from edgemtl_export.sparsity import Settings, Sparsifier
from edgemtl_export.sparsity.blocks import ChannelBlocks
from edgemtl_export.sparsity.costs import cost_metric
from edgemtl_export.sparsity.group_rows import GroupRows
from edgemtl_export.sparsity.partition import GroupForm, Partition, penalised_groups
from edgemtl_export.sparsity.proximal import prox, prox_in_metric

__all__ = ["simulated_device"]

X = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """SimpleTask convolutions, a depthwise one among them, and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        for a, b, groups in ((3, 24, 1), (24, 24, 24), (24, 32, 1), (32, 24, 1)):
            layers += [nn.Conv2d(a, b, 3, padding=1, bias=False, groups=groups), nn.BatchNorm2d(b), nn.SiLU()]
        self.trunk = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Conv2d(24, 16, 1), nn.ReLU(), nn.Conv2d(16, 5, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x))


def rows(counts: list[int], total: int) -> Partition:
    """Return a partition of a vector: so many of its elements in each group, shuffled, and a rest in none."""
    of = torch.full((total,), -1)
    of[: sum(counts)] = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    holder = nn.Module()
    holder.weight = nn.Parameter(torch.zeros(total))
    return Partition(holder, {"weight": of[torch.randperm(total)]}, len(counts))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=8),
    st.sampled_from([torch.float32, torch.float64]),
    st.floats(0, 4),
    st.integers(0, 10**6),
)
def test_the_steps_are_proximal_maps(counts: list[int], dtype: torch.dtype, decades: float, seed: int) -> None:
    """x = prox(w) iff D (w - x) = τ x / ‖x‖ in active groups, and ‖D w‖ ≤ τ in those that are zero (KKT)."""
    generator = torch.Generator().manual_seed(seed)
    partition = rows(counts, sum(counts) + 3)
    w = torch.randn(sum(counts), generator=generator).to(dtype)
    diagonal = 10 ** (decades * torch.rand(len(w), generator=generator).to(dtype) - 4)
    for metric in (torch.ones_like(w), diagonal):
        threshold = partition.sums((metric * w).square()).sqrt()
        tau = threshold * 1.5 * torch.rand(len(counts), generator=generator).to(dtype)
        x, zero = prox_in_metric(metric, w, tau, partition)
        assert torch.equal(zero, threshold <= tau)
        pruned = partition.expand(zero)
        assert not x[pruned].any()
        force = partition.expand(tau / partition.sums(x.square()).sqrt().clamp(min=1e-30)) * x
        close = 2e-5 if dtype == torch.float32 else 1e-12
        assert bool(((metric * (w - x) - force).abs() <= close * partition.expand(threshold))[~pruned].all())
    plain, zero = prox(w, tau, partition)
    weighed, same = prox_in_metric(torch.ones_like(w), w, tau, partition)
    torch.testing.assert_close(plain, weighed, rtol=1e-4, atol=1e-6)
    assert torch.equal(zero, same)


def test_the_steps_have_the_gradients_of_finite_differences() -> None:
    partition = rows([3, 5, 2], 12)
    w = torch.randn(10, dtype=torch.float64, requires_grad=True)
    metric = 10 ** (2 * torch.rand(10, dtype=torch.float64) - 1)
    metric[partition.expand(torch.tensor([0, 0, 1])) == 1] = 0.1
    tau = torch.tensor([0.1, 0.2, 9.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w, tau: prox(w, tau, partition)[0], (w, tau))
    assert torch.autograd.gradcheck(lambda w, tau: prox_in_metric(metric, w, tau, partition)[0], (w, tau))
    nothing = torch.zeros(10, dtype=torch.float64, requires_grad=True)
    slopes = torch.autograd.grad(prox_in_metric(metric, nothing, tau, partition)[0].sum(), (nothing, tau))
    assert all(bool(slope.isfinite().all()) for slope in slopes)


@pytest.mark.parametrize("scope", ["", "trunk", "head"])
@pytest.mark.parametrize("form", ["coupled", "output", "input"])
def test_groups_have_their_form_and_a_channel_is_pruned_when_all_its_groups_are_zero(
    form: GroupForm, scope: str
) -> None:
    net = Net().eval()
    groups = channel_groups(net, (X,))
    penalised = penalised_groups(net, groups, form, scope)
    assert all(name.startswith(scope) for name in penalised.partition.names)
    inputs = {"": 3 + 24 + 24 + 32 + 24 + 16, "trunk": 3 + 24 + 24 + 32, "head": 24 + 16}
    outputs = {"": 24 + 24 + 32 + 24 + 16 + 5, "trunk": 24 + 24 + 32 + 24, "head": 16 + 5}
    coupled = {"": 24 + 32 + 24 + 16, "trunk": 24 + 32 + 24, "head": 16}
    assert penalised.partition.count == {"coupled": coupled, "input": inputs, "output": outputs}[form][scope]
    assert int(penalised.partition.sizes.min()) > 0
    rng = np.random.default_rng(0)
    for share in (0.2, 0.9):
        zero = rng.random(penalised.partition.count) < share
        weights = {name: p.detach().clone() for name, p in net.named_parameters()}
        by_rows = GroupRows(net, penalised.partition)
        by_rows.zero(penalised.partition.parameters(net), torch.from_numpy(zero))
        report = shrink(net, (X,)).report
        assert report.parameters_after <= groups.parameters(penalised.pruned_channels(zero))
        if form == "coupled":
            assert report.parameters_after == groups.parameters(penalised.pruned_channels(zero))
        net.load_state_dict(weights, strict=False)


@pytest.mark.parametrize("metric", ["parameters", "flops"])
def test_a_cost_falls_with_pruned_channels(metric: Literal["parameters", "flops"]) -> None:
    net = Net().eval()
    coupled = coupled_channels(net, (X[:1],))
    groups, cost = coupled.groups(), cost_metric(metric, coupled)
    pruned = np.zeros(groups.count, bool)
    whole = cost()
    assert whole == pytest.approx(cost(pruned))
    pruned[::2] = True
    half = cost(pruned)
    assert 0.05 * whole < half < 0.8 * whole
    if metric == "parameters":
        assert whole == sum(p.numel() for p in net.parameters()) and half == groups.parameters(pruned)
    if metric == "flops":
        report = shrink(net, (X[:1],)).report
        assert whole == report.flops_before


def train(sparsity: Settings, steps: int = 60) -> tuple[nn.Module, Sparsifier, EMA, list[float], Any]:
    net = Net().train()
    sparse = Sparsifier(net, (), {"x": X}, steps=steps, settings=sparsity)
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0)
    ema = EMA(net, 0.99)
    shares = []
    for _ in range(steps):
        optimizer.zero_grad()
        (net(X) - X.mean(1, keepdim=True)).square().mean().backward()
        sparse.before_step()
        optimizer.step()
        sparse.after_step(optimizer)
        ema.update([sparse])
        shares.append(sparse.pruned_share)
    return net, sparse, ema, shares, optimizer


@pytest.mark.parametrize(
    "sparsity",
    [
        Settings(target=0.5, channel_multiple=1),
        Settings(target=0.7, reg_ratio=0.0, channel_multiple=1),
        Settings(target=0.5, groups="output"),
        Settings(target=0.4, groups="input", min_keep_ratio=0.1),
        Settings(target=0.6, metric="flops", scope="trunk", channel_multiple=1),
        pytest.param(Settings(target=0.4, metric="latency", channel_multiple=1), marks=pytest.mark.slow),
        Settings(max_cost=6000.0, channel_multiple=1),
    ],
    ids=str,
)
def test_a_target_is_met_on_schedule_and_the_channels_can_be_removed(
    sparsity: Settings, simulated_device: None
) -> None:
    net, sparse, ema, shares, _ = train(sparsity)
    assert sparse.frozen and sparse.target <= sparse.pruned_share < sparse.target + 0.1
    most = 0.25 if sparsity.metric == "latency" else 0.15  # time falls when the last of 16 channels goes
    assert max(np.diff(shares)) < most
    for one in (net, ema.network):
        report = shrink(one, (X,)).report
        if sparsity.metric == "parameters":
            assert 1 - report.parameters_after / report.parameters_before >= sparse.target
        if sparsity.max_cost:
            assert report.parameters_after <= sparsity.max_cost


@pytest.mark.parametrize("multiple", [2, 3, 8])
@pytest.mark.parametrize("reg_ratio", [0.0, 0.3])
def test_every_layer_keeps_a_multiple(multiple: int, reg_ratio: float) -> None:
    net, sparse, *_ = train(Settings(target=0.4, channel_multiple=multiple, reg_ratio=reg_ratio))
    assert sparse.frozen and sparse.pruned_share >= 0.4
    kept = set()
    for members in sparse.penalised.layers:
        active = int((~sparse.pruned)[torch.from_numpy(members)].sum())
        assert active == len(members) or active % multiple == 0
        kept.add(active / len(members))
    assert min(kept) < 1
    program = shrink(net, (X,)).program
    assert all(p.shape[0] % multiple == 0 or p.shape[0] in (24, 32, 16, 5) for p in program.parameters() if p.ndim == 4)


@pytest.mark.parametrize("fusion", [pytest.param("concat", marks=pytest.mark.slow), "aligned"])
def test_what_is_split_or_joined_keeps_a_multiple_of_each_part(fusion: str) -> None:
    """Whatever a convolution of the shrunk network makes or reads: the heads' outputs and the images aside."""
    words = [
        f"fusion.kind={fusion}",
        "input_size=[64,64]",
        "tasks=[boxes]",
        "batch_size=2",
        "steps=20",
        "precision=fp32",
    ]
    config = load(None, [*words, "sparsity.target=0.5", "sparsity.scope=trunk", "augment.mosaic=0", "num_threads=1"])
    trainer, batches = begin(config, {"train": Streets(4, config.input_size, 0, config.tasks)})
    for step in range(12):
        trainer.train_step(batches[step % 2])
    sparsity = trainer.regularizers["sparsity"]
    assert isinstance(sparsity, ChannelSparsity) and sparsity.sparsifier.frozen
    program = shrink(trainer.network.eval(), (), example_inputs(trainer.interface.inputs)).program
    sizes = {n for name, p in program.named_parameters() if p.ndim == 4 and "trunk" in name for n in p.shape[:2]}
    assert all(n % 8 == 0 or n in (1, 2, 3) for n in sizes)  # depthwise, gates and images


def test_blocks_of_overlapping_layers_are_of_groups_in_the_same_layers() -> None:
    blocks = ChannelBlocks([np.arange(8), np.arange(4, 8), np.arange(6, 10)], 11, 2)
    parts = [np.flatnonzero(blocks.layer == k).tolist() for k in np.unique(blocks.layer)]
    assert sorted(parts) == [[0, 1, 2, 3], [4, 5], [6, 7], [8, 9], [10]]


def test_blocks_are_pruned_by_their_joint_importance() -> None:
    blocks = ChannelBlocks([np.arange(5), np.arange(5, 9)], 10, 2)
    importance = np.array([5.0, 1, 9, 8, 7, 2, 2, 6, 7, 3])
    order, ends = blocks.order(importance, np.ones(10))
    assert [sorted(order[a:b].tolist()) for a, b in pairwise(ends)] == [[1], [5, 6], [9], [0, 4], [7, 8], [2, 3]]
    importance[[2, 9]] = np.inf
    order, ends = blocks.order(importance, np.ones(10))
    assert [sorted(order[a:b].tolist()) for a, b in pairwise(ends)] == [[1], [5, 6], [0, 4], [7, 8]]


def test_a_stronger_penalty_prunes_more() -> None:
    shares = [train(Settings(strength=strength, min_keep_ratio=0.1))[3][-1] for strength in (0.0, 3e-4, 3e-3)]
    assert shares[0] == 0 and shares[0] < shares[1] < shares[2]


def test_zero_groups_become_active_without_the_mask_and_not_with_it() -> None:
    net, sparse, ema, _, optimizer = train(Settings(target=0.5))
    pruned = sparse.pruned
    assert not sparse.partition.norms(net)[pruned].any() and not sparse.partition.norms(ema.network)[pruned].any()
    (net(X) - X.mean(1, keepdim=True)).square().mean().backward()
    optimizer.step()
    assert sparse.partition.norms(net)[pruned].any()  # why the mask is applied after every step
    sparse.after_step(optimizer)
    assert not sparse.partition.norms(net)[pruned].any()


def test_every_layer_keeps_its_share() -> None:
    _, sparse, *_ = train(Settings(target=0.6, min_keep_ratio=0.3))
    for members in sparse.penalised.layers:
        assert int((~sparse.pruned)[torch.from_numpy(members)].sum()) >= int(np.ceil(0.3 * len(members)))
