"""What is constantly zero couples nothing, and outputs that have become constant are named."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgemtl_export import shrink

IMAGE = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(0))
Join = Callable[["Two", Tensor, Tensor], Tensor]
JOINS: dict[str, Join] = {
    "a + conv(b)": lambda net, a, b: a + net.message(b),
    "a + gate(b) message(b)": lambda net, a, b: a + net.gate(b).sigmoid() * net.message(b),
    "a + message(b) gate(b)": lambda net, a, b: a + net.message(b) * net.gate(b).sigmoid(),
    "cross-stitch": lambda net, a, b: net.own * a + net.other * b,
    "scalar": lambda net, a, b: a + net.scalar * b,
    "difference": lambda net, a, b: a - net.other * b,
    "difference, the other way": lambda net, a, b: net.other * b - a,
    "depthwise": lambda net, a, b: a + net.depthwise(b),
    "modulation": lambda net, a, b: a * (1 + net.other * b),
    "in place": lambda net, a, b: a.clone().add_(net.scalar * b),
    "alpha": lambda net, a, b: torch.add(a, net.other * b, alpha=2),
    "addcmul": lambda net, a, b: torch.addcmul(a, net.other, b),
    "lerp": lambda net, a, b: torch.lerp(a, b, net.scalar),
    "twice": lambda net, a, b: a + net.message(net.other * b + net.depthwise(b)),
}


class Two(nn.Module):
    """Two branches, and a message from one to the other whose weights are zero."""

    def __init__(self, join: Join) -> None:
        super().__init__()
        self.a, self.b1, self.b = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3)
        self.gate, self.message = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1)
        self.depthwise = nn.Conv2d(16, 16, 1, groups=16, bias=False)
        self.own = nn.Parameter(torch.ones(1, 16, 1, 1))
        self.other, self.scalar = nn.Parameter(torch.zeros(1, 16, 1, 1)), nn.Parameter(torch.zeros(()))
        self.head_a, self.head_b, self.join = nn.Conv2d(16, 2, 1), nn.Conv2d(16, 2, 1), join
        for module in (self.message, self.depthwise):
            for parameter in module.parameters():
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        a, b = self.a(x)[..., 1:-1, 1:-1].relu(), self.b(self.b1(x).relu()).relu()
        return {"a": self.head_a(self.join(self, a, b)), "b": self.head_b(b)}


@pytest.mark.fault("S5")
@pytest.mark.parametrize("name", JOINS)
def test_a_message_of_weight_zero_frees_the_other_branch(name: str) -> None:
    net = Two(JOINS[name]).eval()
    result = shrink(net, (IMAGE,), outputs=["a"])
    left = {key for key, _ in result.module().named_parameters()}
    assert left <= {"a.weight", "a.bias", "head_a.weight", "head_a.bias", "own"}
    lost = {layer.name: layer.after for layer in result.report.layers}
    assert lost["b.weight"] == lost["b1.weight"] == 0
    torch.testing.assert_close(result.module()(IMAGE)["a"], net(IMAGE)["a"])


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.lists(st.booleans(), min_size=3, max_size=3), st.integers(0, 1000), st.sampled_from(list(JOINS)))
def test_law_branches_that_nothing_reads_leave_and_outputs_stay(alive: list[bool], seed: int, name: str) -> None:
    """A sum over branches keeps exactly those whose share is not zero."""

    class Shares(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(seed)
            self.experts = nn.ModuleList(nn.Conv2d(3, 6, 1) for _ in alive)
            self.two, self.shares = Two(JOINS[name]), nn.Parameter(torch.tensor(alive).float())
            self.out = nn.Conv2d(6, 2, 1)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            total = torch.zeros(1, 6, *x.shape[-2:])
            for share, expert in zip(self.shares.unbind(), self.experts, strict=True):
                total = total + share * expert(x)
            return {"sum": self.out(total), "a": self.two(x)["a"]}

    net = Shares().eval()
    result = shrink(net, (IMAGE,))
    left = dict(result.module().named_parameters())
    assert [f"experts.{i}.weight" in left for i in range(3)] == alive
    assert "two.b.weight" not in left
    torch.testing.assert_close(result.module()(IMAGE), net(IMAGE))


class Heads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rgb, self.ir = nn.Conv2d(3, 8, 3), nn.Conv2d(1, 8, 3)
        self.a, self.b = nn.Conv2d(8, 2, 1), nn.Conv2d(8, 3, 1)

    def forward(self, rgb: Tensor, ir: Tensor) -> dict[str, object]:
        return {"a": self.a(self.rgb(rgb).relu()), "deep": [self.b(self.ir(ir)).softmax(1)]}


@pytest.mark.fault("S4")
@pytest.mark.parametrize(
    ("zero", "constant"),
    [((), ()), (("rgb",), ("a",)), (("ir",), ("deep.0",)), (("rgb", "ir"), ("a", "deep.0")), (("dead",), ("a",))],
)
def test_outputs_that_have_become_constant_are_named(zero: tuple[str, ...], constant: tuple[str, ...]) -> None:
    """Also where no rule sees it: behind a softmax over channels, or a unit that no input reaches."""
    net = Heads().eval()
    with torch.no_grad():
        for name in zero:
            if name == "dead":
                net.rgb.bias.fill_(-100)
            else:
                net.get_submodule(name).weight.zero_()
    report = shrink(net, (IMAGE, IMAGE[:, :1])).report
    assert report.constant_outputs == constant
    text = str(report)
    assert ("warning" in text) == bool(constant) and all(name in text for name in constant)
    assert ("the network is constant" in text) == (len(constant) == 2)


@pytest.mark.fault("S4")
def test_an_input_that_nothing_reads_is_named() -> None:
    net = Heads().eval()
    report = shrink(net, (IMAGE, IMAGE[:, :1]), outputs=["a"]).report
    assert report.unread_inputs == ("ir",) and "input ir" in str(report)
