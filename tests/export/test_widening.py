"""The proof's float64 program: every factory, cast, assertion, autocast block and nested graph is widened."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils import checkpoint

from edgemtl_export import UnsupportedError, shrink

IMAGE = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
Forward = Callable[["Net", Tensor], Tensor]


class Net(nn.Module):
    """Two convolutions; half of the channels between them are constant. ``base`` runs both."""

    def __init__(self, run: Forward) -> None:
        super().__init__()
        self.c, self.d, self.run = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1), run
        self.register_buffer("narrow", torch.rand(4, 1, 1).half())
        with torch.no_grad():
            self.c.weight[::2] = 0

    def base(self, x: Tensor) -> Tensor:
        return self.d(self.c(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def autocast(enabled: bool) -> Forward:
    def run(net: Net, x: Tensor) -> Tensor:
        y = net.c(x)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            y = net.d(y.float()).relu()
        return y.float()

    return run


def grid(net: Net, x: Tensor) -> Tensor:
    axis = torch.linspace(-1, 1, 8)
    points = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1)[None]
    return functional.grid_sample(net.base(x), points, align_corners=False)


def without_gradient(net: Net, x: Tensor) -> Tensor:
    with torch.no_grad():
        y = net.c(x)
    return net.d(y)


def new_tensors(net: Net, x: Tensor) -> Tensor:
    y = net.base(x)
    return y @ y.new_ones(16, 3) + y.new_full((3,), 2.0) + y.new_tensor([1.0, 2.0, 3.0])


def filled(net: Net, x: Tensor) -> Tensor:
    y = net.base(x)
    zeros = torch.zeros_like(y)
    zeros[:, :2] = y[:, :2]
    return zeros + torch.empty_like(y).fill_(0.1)


def branches(net: Net, x: Tensor) -> Tensor:
    return torch.cond(x.sum() > 0, lambda x: net.base(x) @ torch.eye(16), lambda x: net.base(x).half().float(), (x,))


def loop(net: Net, x: Tensor) -> Tensor:
    from torch._higher_order_ops.while_loop import while_loop

    start = (torch.tensor(0), net.base(x))
    return while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y @ torch.eye(16)), start)[1]


def mapped(net: Net, x: Tensor) -> Tensor:
    from torch._higher_order_ops.map import map as map_

    return map_(lambda t: t @ torch.eye(16), net.base(x))


FORWARDS: dict[str, Forward] = {
    "linspace": grid,
    "ones": lambda net, x: functional.conv2d(net.base(x), torch.ones(4, 1, 3, 3), groups=4),
    "eye": lambda net, x: net.base(x) @ torch.eye(16),
    "zeros": lambda net, x: torch.cat([net.base(x), torch.zeros(1, 1, 16, 16)], 1),
    "full": lambda net, x: net.base(x) * torch.full((4, 1, 1), 0.5),
    "arange": lambda net, x: net.base(x) @ torch.diag(torch.arange(16.0)),
    "quotient of integers": lambda net, x: net.base(x) @ torch.diag(torch.arange(16) / 16),
    "tensor": lambda net, x: net.base(x) * torch.tensor([1.0, 2.0, 3.0, 4.0]).view(4, 1, 1),
    "scalar_tensor": lambda net, x: net.base(x) @ (torch.scalar_tensor(2.0) * torch.eye(16)),
    "new_": new_tensors,
    "empty, written": filled,
    "rand": lambda net, x: net.base(x) @ torch.rand(16, 16),
    "randn_like": lambda net, x: net.base(x) + torch.randn_like(net.base(x)),
    "half": lambda net, x: net.base(x).half().float(),
    "half buffer": lambda net, x: net.base(x) * net.narrow.to(x.dtype),
    "type_as": lambda net, x: net.base(x) @ torch.eye(16, dtype=torch.float64).type_as(x),
    "dtype of a sum": lambda net, x: net.base(x).sum(-1, dtype=torch.float32) @ torch.eye(16),
    "complex": lambda net, x: torch.fft.irfft2(torch.fft.rfft2(net.base(x)) * torch.ones(1, dtype=torch.complex64)),
    "autocast off": autocast(False),
    "autocast on": autocast(True),
    "no_grad": without_gradient,
    "checkpoint": lambda net, x: net.d(checkpoint.checkpoint(net.c, x, use_reentrant=False)),
    "while": loop,
    "map": mapped,
    "one_hot": lambda net, x: net.base(x) @ functional.one_hot(torch.arange(16), 16).float(),
    "numbers of a log": lambda net, x: net.base(x) + torch.log_softmax(torch.zeros(5), 0).sum(),
}


@pytest.mark.fault("S2")
@pytest.mark.parametrize("name", FORWARDS)
def test_what_forward_makes_is_widened_and_channels_leave(name: str) -> None:
    torch.manual_seed(0)
    net = Net(FORWARDS[name]).eval()
    report = shrink(net, (IMAGE,)).report
    (layer,) = [layer for layer in report.layers if layer.name == "c.weight"]
    assert layer.after == 4 and report.proof["float64"] <= 1e-9 and report.proof["noise"] <= 1e-9


@pytest.mark.fault("S2")
def test_branches_of_a_condition_are_widened() -> None:
    """What a branch reads is pinned, and the proof goes through it."""
    report = shrink(Net(branches).eval(), (IMAGE,)).report
    assert report.proof["float64"] <= 1e-9 and "cond" in report.pinned


@pytest.mark.fault("S2")
@pytest.mark.parametrize(
    ("run", "words"),
    [
        (lambda net, x: (net.base(x).view(torch.int32) & -65536).view(torch.float32), "the bits of one dtype"),
        (lambda net, x: torch.quantize_per_tensor(net.base(x), 0.1, 0, torch.quint8).dequantize(), "in float64"),
    ],
)
def test_what_has_no_float64_is_one_line(run: Forward, words: str) -> None:
    with pytest.raises(UnsupportedError, match=words) as raised:
        shrink(Net(run).eval(), (IMAGE,))
    assert "\n" not in str(raised.value)


@pytest.mark.fault("S2")
def test_random_numbers_are_no_constants() -> None:
    module = shrink(Net(lambda net, x: net.base(x) + torch.rand(16)).eval(), (IMAGE,)).module()
    assert not torch.equal(module(IMAGE), module(IMAGE))


class Folded(nn.Module):
    """An operator on channels that are all constant."""

    def __init__(self, run: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.c, self.d, self.run = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1), run
        with torch.no_grad():
            self.c.weight[:6] = 0

    def forward(self, x: Tensor) -> Tensor:
        return self.d(self.run(self.c(x)))


@pytest.mark.fault("S3")
@pytest.mark.parametrize(
    "run",
    [
        lambda y: y.log_softmax(2),
        lambda y: y.softmax(3),
        lambda y: torch.log_softmax(y, 3, torch.float32),
        lambda y: y.mean((2, 3), keepdim=True, dtype=torch.float32).log1p(),
        lambda y: y.exp().half().float(),
        lambda y: y.mul(3).to(torch.int32) / 3,
        lambda y: y * torch.linspace(0, 1, 8).view(8, 1, 1).exp(),
        lambda y: y + torch.log(torch.arange(1, 9)).view(8, 1, 1),
        lambda y: functional.glu(torch.cat([y, y + math.pi], 1), 1),
    ],
)
def test_constants_are_folded_in_float64(run: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    report = shrink(Folded(run).eval(), (IMAGE,)).report
    assert report.proof["float64"] <= 1e-9
    assert next(layer.after for layer in report.layers if layer.name == "c.weight") == 2
