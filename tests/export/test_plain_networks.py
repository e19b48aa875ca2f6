"""Removal from networks as their libraries build them: nobody prepared them, no forward pass went before."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune

from edgemtl_export import UnsupportedError, channel_groups, shrink

IMAGE = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Two convolutions; half of the channels between them are zero."""

    def __init__(self) -> None:
        super().__init__()
        self.c, self.d = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 2, 1)
        with torch.no_grad():
            self.c.weight[::2] = 0
            self.c.bias[::2] = 0
        self.prepare()

    def prepare(self) -> None:
        pass

    def forward(self, x: Tensor) -> Any:
        return self.d(self.c(x))


class GridOfFirstForward(Net):
    """As YOLO's anchors: made at the first forward pass, by ``type_as``."""

    grid = torch.empty(0)

    def forward(self, x: Tensor) -> Tensor:
        y = self.c(x)
        if self.grid.shape[-1] != y.shape[-1]:
            self.grid = torch.arange(y.shape[-1]).type_as(y) + torch.full((1,), 0.5).to(y)
        return self.d(y) * self.grid


class BufferOfFirstForward(Net):
    def forward(self, x: Tensor) -> Tensor:
        y = self.c(x)
        if not hasattr(self, "position"):
            self.register_buffer("position", torch.ones(1, 8, 1, 1))
        return self.d(y * self.position)


class Cache(Net):
    def prepare(self) -> None:
        self.cache: dict[Any, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        y = self.d(self.c(x))
        self.cache.setdefault(y.shape, torch.linspace(0, 1, y.shape[-1]))
        return y * self.cache[y.shape]


class Counter(Net):
    """A buffer that is written at every call."""

    def prepare(self) -> None:
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.d(self.c(x)) * self.calls


class WithoutGradient(Net):
    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return self.d(self.c(x))


class GradientBuffer(Net):
    def prepare(self) -> None:
        self.register_buffer("gain", torch.ones(1, 8, 1, 1).requires_grad_())

    def forward(self, x: Tensor) -> Tensor:
        return self.d(self.c(x) * self.gain)


class KeptActivation(Net):
    """A tensor with a history as an attribute, which `copy.deepcopy` refuses."""

    def prepare(self) -> None:
        self.scale = (self.c.weight * 2).sum()

    def forward(self, x: Tensor) -> Tensor:
        return self.d(self.c(x)) * self.scale


class Lock(Net):
    def prepare(self) -> None:
        self.lock = threading.Lock()


class Hooks(Net):
    def prepare(self) -> None:
        self.c.register_forward_hook(lambda module, args, out: out * 2)


class TrainingMode(Net):
    def forward(self, x: Tensor) -> Any:
        y = self.c(x)
        return {"out": self.d(y), "aux": y} if self.training else self.d(y)


class NestedOutputs(Net):
    def forward(self, x: Tensor) -> Any:
        y = self.d(self.c(x))
        return [y, (y.mean(), {"best": y.argmax(1), "none": None, "number": 3})]


class InPlaceOnInput(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.d(self.c(x.mul_(0.5)))


class OwnPruning(Net):
    """torch.nn.utils.prune leaves a mask, a hook and a computed weight."""

    def prepare(self) -> None:
        prune.ln_structured(self.c, "weight", 0.5, n=2, dim=0)


class WeightNorm(Net):
    def prepare(self) -> None:
        torch.manual_seed(0)
        self.c.weight.data.normal_()
        self.c = parametrizations.weight_norm(self.c)
        with torch.no_grad():
            self.c.parametrizations.weight.original0[::2] = 0


class OldWeightNorm(Net):
    def prepare(self) -> None:
        self.c.weight.data.normal_()
        self.c = torch.nn.utils.weight_norm(self.c)
        with torch.no_grad():
            self.c.weight_g[::2] = 0


NETS: list[type[Net]] = Net.__subclasses__()
COMPUTED_WEIGHTS = (OwnPruning, WeightNorm, OldWeightNorm)


@pytest.mark.fault("S1")
@pytest.mark.parametrize("kind", NETS)
def test_half_of_the_channels_leave_and_the_network_is_as_before(kind: type[Net]) -> None:
    net = kind().train()
    attributes, state = set(vars(net)), {k: v.clone() for k, v in net.state_dict().items()}
    result = shrink(net, (IMAGE.clone(),))
    (layer,) = [layer for layer in result.report.layers if layer.name == "c.weight"]
    assert (layer.before, layer.after) == (8, 4)
    assert set(vars(net)) == attributes and all(torch.equal(v, net.state_dict()[k]) for k, v in state.items())
    assert net.training
    expected, actual = net.eval()(IMAGE.clone()), result.module()(IMAGE.clone())
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.fault("S1")
@pytest.mark.parametrize("kind", [kind for kind in NETS if kind not in COMPUTED_WEIGHTS])
def test_channels_are_grouped(kind: type[Net]) -> None:
    assert channel_groups(kind().eval(), (IMAGE.clone(),)).count == 8


@pytest.mark.fault("S1")
def test_a_written_buffer_goes_on_counting() -> None:
    net = Counter().eval()
    module = shrink(net, (IMAGE,)).module()
    torch.testing.assert_close([module(IMAGE) for _ in range(3)], [net(IMAGE) for _ in range(3)])


@pytest.mark.fault("S1")
@pytest.mark.parametrize("call", [shrink, channel_groups])
def test_what_cannot_be_traced_is_one_line(call: Callable[..., Any]) -> None:
    class Branch(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.d(self.c(x)) if bool(x.sum() > 0) else x

    for net, words in ((Branch(), "cannot trace Branch"), (nn.Sequential(nn.LazyConv2d(4, 1)), "run the network once")):
        with pytest.raises(UnsupportedError, match=words) as raised:
            call(net.eval(), (IMAGE,))
        assert "\n" not in str(raised.value)


@pytest.mark.fault("S1")
@pytest.mark.parametrize("name", ["yolo11n", pytest.param("yolo26n", marks=pytest.mark.slow)])
def test_yolo_as_its_library_builds_it(name: str) -> None:
    pytest.importorskip("edgemtl_models.yolo", reason="ultralytics is not installed")
    from ultralytics import YOLO

    torch.manual_seed(0)
    net = YOLO(f"{name}.yaml").model.eval().float()
    with torch.no_grad():
        net.model[0].bn.weight[::2] = 0
        net.model[0].bn.bias[::2] = 0
    result = shrink(net, (torch.rand(1, 3, 64, 64),))
    first = next(layer for layer in result.report.layers if layer.name == "model.0.conv.weight")
    assert first.after == first.before // 2 and result.report.proof["float64"] <= 1e-9


class Vectors(Net):
    """Channels as a vector without a batch: it is compared with a buffer, written to it, and read by a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros(8))
        self.linear = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        means = self.c(x).mean((0, 2, 3))
        self.means.mul_(0.9).add_(means * 0.1)
        return self.d(self.c(x) - self.means[:, None, None]), self.linear(means.relu())


@pytest.mark.fault("S1")
def test_channels_may_be_a_vector() -> None:
    net = Vectors().eval()
    result = shrink(net, (IMAGE,))
    torch.testing.assert_close(result.module()(IMAGE), net(IMAGE))
    assert result.report.pinned["means (written)"] == 8


class Mixing(nn.Module):
    """Attention by head over ``values`` that have no channels of their own."""

    def __init__(self, values: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.query, self.key, self.values = nn.Linear(12, 16), nn.Linear(12, 16), values
        self.query.weight.data[::2], self.query.bias.data[::2] = 0, 0

    def forward(self, x: Tensor) -> Tensor:
        query, key = (layer(x).view(2, 5, 4, 4).transpose(1, 2) for layer in (self.query, self.key))
        values = self.values(x.view(2, 5, 4, 3).transpose(1, 2))
        return (
            functional.scaled_dot_product_attention(query, key, values)
            + (query @ key.transpose(2, 3)).softmax(-1) @ values
        )


@pytest.mark.fault("S1")
@pytest.mark.parametrize("values", [lambda x: x, lambda x: x.cumsum(1), lambda x: x[:, :1].expand(-1, 4, -1, -1)])
def test_heads_mix_what_has_no_heads_of_its_own(values: Callable[[Tensor], Tensor]) -> None:
    net, x = Mixing(values).eval(), torch.randn(2, 5, 12)
    result = shrink(net, (x,))
    assert result.report.parameters_after == result.report.parameters_before // 2
    torch.testing.assert_close(result.module()(x), net(x))


class Between(Net):
    """An operator between the two convolutions."""

    def __init__(self, operator: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.operator = operator

    def forward(self, x: Tensor) -> Tensor:
        y = self.operator(self.c(x))
        return self.d(y) if y.ndim == 4 else y


SECOND_NAMES: dict[str, Callable[[Tensor], Tensor]] = {
    "concat": lambda y: torch.concat([y, y], 2),
    "multiply": lambda y: torch.multiply(y, 2.0),
    "divide": lambda y: torch.divide(y, y * y + 1),
    "subtract": lambda y: torch.subtract(y, y * 2),
    "absolute": torch.absolute,
    "negative": torch.negative,
    "expit": lambda y: y * torch.special.expit(y),
    "greater": lambda y: y * torch.greater(y, 0.1),
    "swapdims": lambda y: y.swapdims(2, 3),
    "moveaxis": lambda y: y.moveaxis(1, -1).moveaxis(-1, 1),
    "mT": lambda y: y.mT,
    "where": lambda y: torch.where(y > 0, y, -1.0),
}


@pytest.mark.fault("S1")
@pytest.mark.parametrize("name", SECOND_NAMES)
def test_operators_are_known_by_their_second_names(name: str) -> None:
    net = Between(SECOND_NAMES[name]).eval()
    result = shrink(net, (IMAGE,))
    assert result.report.layers[0].after == 4 and not result.report.pinned
    torch.testing.assert_close(result.module()(IMAGE), net(IMAGE))


@pytest.mark.fault("S1")
@pytest.mark.parametrize(
    "operator",
    [
        lambda y: y[y > 0.1],
        torch.nonzero,
        lambda y: y.masked_select(y > 0),
        lambda y: y.repeat_interleave((y[0, 0, 0] > 0).long(), 3).mean(),
    ],
)
def test_a_size_that_depends_on_values_is_one_line(operator: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(UnsupportedError, match="size depends on values") as raised:
        shrink(Between(operator).eval(), (IMAGE,))
    assert "\n" not in str(raised.value)


@pytest.mark.fault("S1")
def test_a_decoder_whose_columns_are_zero_is_viewed_as_it_lies_in_memory() -> None:
    torch.manual_seed(2)
    net, x = nn.TransformerDecoderLayer(16, 4, 24, batch_first=True).eval(), torch.randn(2, 16, 16)
    for layer in net.modules():
        if isinstance(layer, nn.Linear):
            layer.weight.data[:, torch.rand(layer.in_features) < 0.4] = 0
    result = shrink(net, (x[:, :5], x))
    torch.testing.assert_close(result.module()(x[:, :5], x), net(x[:, :5], x))
