"""A shrunk network gives the same outputs, loses all that the groups promise, and reports what was pinned."""

from __future__ import annotations

import copy
import sys

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nets import NETS, make
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from edgemtl_export import NotEqualError, channel_groups, shrink, verify
from edgemtl_export.liveness import Liveness
from edgemtl_export.view_rewrite import ViewPlanner

UNSUPPORTED = {
    "TwoReadings": "a.weight (also read as a whole)",
    "Oddities": "aten.topk",
    "Norms": "aten.group_norm",
    "Heads": "aten.layer_norm",
}
"""Networks in which something must be pinned, and the reason that the report must name."""


def zero_groups(net: nn.Module, groups, pruned: np.ndarray) -> None:  # type: ignore[no-untyped-def]
    """Zero the rows of the pruned groups."""
    parameters = dict(net.named_parameters())
    for name, rows in groups.rows.items():
        hit = np.isin(rows, np.flatnonzero(pruned))
        parameters[name].data.movedim(groups.axis(name), 0)[torch.from_numpy(hit)] = 0


def outputs(net: nn.Module, x: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return pytree.tree_leaves(net(x))


def assert_same(net: nn.Module, small: nn.Module, x: Tensor) -> None:
    for scale in (0.1, 1.0, 10.0):
        for left, right in zip(outputs(net, x * scale), outputs(small, x * scale), strict=True):
            if left is not None:
                assert verify.difference(left, right, float(left.float().abs().max()) or 1.0) < 2e-5


@pytest.mark.parametrize("name", NETS)
def test_zero_groups_are_removed_and_nothing_changes(name: str) -> None:
    net, x = make(name)
    groups = channel_groups(net, (x,))
    pruned = np.random.default_rng(1).random(groups.count) < 0.4
    zero_groups(net, groups, pruned)
    before = outputs(net, x)
    result = shrink(net, (x,))
    assert_same(net, result.module(), x)
    if groups.count:
        assert result.report.parameters_after <= groups.parameters(pruned) < result.report.parameters_before
        assert result.report.parameters_after <= result.report.parameters_bound
    else:
        assert name == "TwoReadings"
    # the given network is left as it was
    assert all(torch.equal(a, b) for a, b in zip(before, outputs(net, x), strict=True) if a is not None)


@pytest.mark.parametrize("name", [name for name in NETS if name not in UNSUPPORTED])
def test_what_is_removed_is_exactly_what_the_groups_count(name: str) -> None:
    net, x = make(name)
    groups = channel_groups(net, (x,))
    pruned = np.zeros(groups.count, bool)
    pruned[:: 3 if name != "Shared" else 5] = True
    zero_groups(net, groups, pruned)
    after = shrink(net, (x,)).report.parameters_after
    assert after == groups.parameters(pruned) if name != "Gates" else after < groups.parameters(pruned)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(list(NETS)), st.integers(0, 10**6))
def test_any_zeros_at_all_leave_the_outputs_alone(name: str, seed: int) -> None:
    """Independent zeros: filters, columns, scales and shifts, each at random, as no method would place them."""
    net, x = make(name)
    rng = np.random.default_rng(seed)
    for parameter in net.parameters():
        for dim in range(min(parameter.ndim, 2)):
            hit = torch.from_numpy(rng.random(parameter.shape[dim]) < rng.choice([0.0, 0.3, 0.7]))
            parameter.data.movedim(dim, 0)[hit] = 0
    assert_same(net, shrink(net, (x,)).module(), x)


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_an_operator_without_a_rule_is_named(name: str) -> None:
    net, x = make(name)
    report = shrink(net, (x,)).report
    assert UNSUPPORTED[name] in report.pinned and f"pinned by {UNSUPPORTED[name]}" in str(report)


def test_an_unused_channel_is_removed() -> None:
    net, x = make("Residual")
    net.out.weight.data[:, 3] = 0
    for module in net.body[0][:1]:
        module.weight.data[:, 3] = 0  # its only other reader
    report = shrink(net, (x,)).report
    assert sum(layer.unread for layer in report.layers) == 2  # one row each of the stem and of the branch next to it


def test_the_last_channel_of_a_tensor_stays() -> None:
    net, x = make("Residual")
    groups = channel_groups(net, (x,))
    zero_groups(net, groups, np.ones(groups.count, bool))
    result = shrink(net, (x,))
    assert all(layer.after >= 1 for layer in result.report.layers)
    assert_same(net, result.module(), x)


@pytest.mark.parametrize("align", [4, 8])
@pytest.mark.parametrize("name", ["Residual", "Split", "Depthwise", "Pyramid"])
def test_aligned_layers_have_round_numbers_and_the_same_outputs(name: str, align: int) -> None:
    net, x = make(name)
    groups = channel_groups(net, (x,))
    zero_groups(net, groups, np.random.default_rng(2).random(groups.count) < 0.6)
    result, tight = shrink(net, (x,), align=align), shrink(net, (x,))
    assert_same(net, result.module(), x)
    for layer in result.report.layers:
        assert layer.after % align == 0 or layer.after == layer.before
    assert tight.report.parameters_after <= result.report.parameters_after


def test_keep_rebuilds_the_parameters() -> None:
    net, x = make("Split")
    groups = channel_groups(net, (x,))
    zero_groups(net, groups, np.arange(groups.count) % 2 == 0)
    result = shrink(net, (x,))
    small = dict(result.module().named_parameters())
    for name, parameter in net.named_parameters():
        for dim, kept in result.keep.get(name, {}).items():
            parameter = parameter.index_select(dim, torch.from_numpy(kept))
        assert torch.equal(parameter, small[name]), name


def test_verification_fails_on_a_wrong_removal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: prune an active channel, and the call must raise."""
    net, x = make("Split")
    module = sys.modules["edgemtl_export.shrink"]
    honest = module.make_plan

    def careless(channels, align):  # type: ignore[no-untyped-def]
        live = Liveness(channels)
        live.active = honest(channels, align).active.copy()
        live.active[channels.roots[channels.dims["m.0.weight"][0][0]]] = False
        return live.freeze(ViewPlanner(channels).plan(live))

    monkeypatch.setattr(module, "make_plan", careless)
    with pytest.raises(NotEqualError, match="differs by"):
        shrink(net, (x,))
    assert shrink(net, (x,), verify=False).report.parameters_after


def test_nan_is_a_difference() -> None:
    nan = torch.tensor([float("nan")])
    for pair in ((torch.ones(1), nan), (nan, torch.ones(1))):
        assert not verify.difference(*pair, 1.0) <= verify.TOLERANCE


def test_the_result_trains_on_and_exports_again() -> None:
    net, x = make("Pyramid")
    groups = channel_groups(net, (x,))
    zero_groups(net, groups, np.arange(groups.count) % 2 == 0)
    module = copy.deepcopy(shrink(net, (x,)).module())
    sum(out.square().mean() for out in pytree.tree_leaves(module(x))).backward()
    assert all(p.grad is not None for p in module.parameters())
