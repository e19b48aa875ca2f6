"""A pruning rule for an operator that has none, added by its caller; and an analysis that nothing writes to later."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
import torch
from torch import Tensor, fx, nn

from edgemtl_export import channel_groups, shrink
from edgemtl_export.analysis import RULES, ChannelBuilder, Value, analyse, mask_unknown
from edgemtl_export.functionalise import to_program
from edgemtl_export.liveness import make_plan

X = torch.linspace(-1, 1, 192).reshape(1, 3, 8, 8)


@torch.library.custom_op("edgemtl_test::signed_square", mutates_args=())
def signed_square(x: Tensor) -> Tensor:
    return x * x.abs()


@signed_square.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


def signed_square_rule(builder: ChannelBuilder, node: fx.Node, x: Value) -> Value | None:
    """Keep every channel separate; a constant gives a constant."""
    if x.ids is None:
        return None
    value, const = mask_unknown(x.value * x.value.abs(), x.const)
    return Value(x.shape, value, const, x.ids)


WITH_RULE = RULES | {"edgemtl_test.signed_square": signed_square_rule}


class Custom(nn.Module):
    """A custom operator between two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(signed_square(self.a(x)))


def test_an_operator_without_a_rule_pins_its_channels() -> None:
    net = Custom().eval()
    net.a.weight.data[:3] = 0
    assert channel_groups(net, (X,)).count == 0
    report = shrink(net, (X,)).report
    assert report.parameters_after == report.parameters_before
    assert report.pinned == {"edgemtl_test.signed_square": 8}


def test_a_rule_added_by_the_caller_prunes_across_it() -> None:
    net = Custom().eval()
    net.a.weight.data[:3] = 0  # their biases stay: three constants, to be folded
    assert channel_groups(net, (X,), rules=WITH_RULE).count == 8
    result = shrink(net, (X,), rules=WITH_RULE)
    (layer, _) = result.report.layers
    assert (layer.after, layer.constant) == (5, 3) and not result.report.pinned
    with torch.no_grad():
        torch.testing.assert_close(result.module()(X), net(X))


def test_the_rules_are_left_as_they_were() -> None:
    assert "edgemtl_test.signed_square" not in RULES


def test_nothing_writes_to_an_analysis_or_a_plan() -> None:
    program = to_program(Custom().eval(), (X,))
    channels = analyse(program, [X], WITH_RULE)
    plan = make_plan(channels)
    with pytest.raises(FrozenInstanceError):
        channels.roots = channels.roots  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        plan.active = plan.active  # type: ignore[misc]
    for array in (channels.roots, plan.active, plan.bound):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    for mapping in (channels.values, channels.dims, channels.dims["a.weight"], channels.pins, plan.views, plan.pins):
        with pytest.raises(TypeError):
            mapping["new"] = None  # type: ignore[index]
