"""A shrunk network gives the same outputs, loses all that the groups promise, and reports what was pinned."""

from __future__ import annotations

import copy
import sys
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nets import NETS, make
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from edgemtl_export import NotEqualError, UnsupportedError, channel_groups, shrink, verify
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


@pytest.mark.parametrize(
    "option",
    [
        *({"align": wrong} for wrong in (0, -8, 2.5, True, "Auto", "8", None)),
        *({"branches": wrong} for wrong in ("Cut", True, None)),
        *({"norms": wrong} for wrong in ("REWRITE", True)),
        *({"outputs": wrong} for wrong in ("boxes", [], ["height"], [7])),
    ],
)
def test_a_wrong_option_is_one_line_that_names_it(option: dict[str, Any]) -> None:
    net, x = make("Residual")
    (name,) = option
    with pytest.raises(ValueError, match=name.removesuffix("s")) as raised:
        shrink(net, (x,), **option)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("network", [None, "net.pt", {}, torch.relu])
def test_what_is_no_network_is_one_line(network: Any) -> None:
    for call in (shrink, channel_groups):
        with pytest.raises(UnsupportedError, match=r"give an nn\.Module or an ExportedProgram"):
            call(network, (torch.rand(1, 3, 8, 8),))


class Answer(NamedTuple):
    """Outputs that have names and are no dict."""

    boxes: Tensor
    depth: Tensor


class Answers(nn.Module):
    """Two heads in a named tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.boxes, self.depth = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 1, 1)

    def forward(self, x: Tensor) -> Answer:
        return Answer(self.boxes(x), self.depth(x))


def test_fields_of_a_named_tuple_are_outputs() -> None:
    net, x = Answers().eval(), torch.rand(1, 3, 8, 8)
    result = shrink(net, (x,), outputs=["depth"])
    assert result.report.parameters_after == 4
    torch.testing.assert_close(result.module()(x), {"depth": net(x).depth})


class Spectrum(nn.Module):
    """Complex outputs, and channels that leave before them."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 2, 1)
        self.a.weight.data[:4] = 0

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.rfft2(self.b(self.a(x)))


def test_complex_outputs_are_compared_as_numbers() -> None:
    net, x = Spectrum().eval(), torch.rand(1, 3, 8, 8)
    result = shrink(net, (x,))
    assert result.report.proof["float64"] < 1e-12
    torch.testing.assert_close(result.module()(x), net(x), atol=1e-4, rtol=1e-4)
    net.b.bias.data[0] = torch.inf
    with pytest.raises(NotEqualError, match="not finite"):
        shrink(net, (x,))


def test_empty_example_inputs_prove_nothing() -> None:
    net, x = make("Residual")
    with pytest.raises(UnsupportedError, match="every output is empty"):
        shrink(net, (x[:0],))


def test_whole_numbers_are_inputs_too() -> None:
    """They are never drawn, so that no output moves; the network is not constant for that."""
    net = nn.Sequential(nn.Embedding(20, 8), nn.Linear(8, 4)).eval()
    report = shrink(net, (torch.randint(0, 20, (2, 7)),)).report
    assert not report.constant_outputs and not report.warnings


def test_nothing_removed_of_nothing_is_no_removal() -> None:
    assert "(0.0% removed)" in str(shrink(nn.ReLU(), (torch.rand(1, 3),)).report)


def test_a_norm_without_epsilon_is_written_out_without_one() -> None:
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(12, 16), nn.LayerNorm(16, eps=0.0), nn.Linear(16, 3)).eval(), torch.rand(2, 12)
    net[0].weight.data *= 1e-3
    for tensor in (net[0].weight, net[0].bias, net[1].weight, net[1].bias):
        tensor.data[:6] = 0
    result = shrink(net, (x,), norms="rewrite")
    assert result.report.layers[0].after == 10
    torch.testing.assert_close(result.module()(x), net(x))
