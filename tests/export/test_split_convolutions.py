"""Splits of what a convolution made: a convolution a part gives the same numbers; whatever else is split stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import edgemtl_models
from edgemtl_export.split_convolutions import split_convolutions
from edgemtl_export.to_onnx import write_plain_onnx


class Net(nn.Module):
    """A convolution, what ``after`` does with it, and a layer for each of three parts of unequal size."""

    def __init__(
        self,
        after: Callable[[Tensor], Tensor],
        bias: bool = True,
        groups: int = 1,
        axis: int = 1,
        sizes: list[int] | None = None,
    ) -> None:
        super().__init__()
        self.sizes = sizes or ([8, 16, 12] if axis == 1 else [4, 12, 8])
        self.conv = nn.Conv2d(8, 36, 3, padding=1, bias=bias, groups=groups)
        self.norm, self.after, self.axis = nn.BatchNorm2d(36), after, axis
        self.outs = nn.ModuleList(nn.Conv2d(count if axis == 1 else 36, 4, 1) for count in self.sizes)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.after(self.norm(self.conv(x))).split(self.sizes, self.axis)
        return torch.cat([out(part).mean(self.axis) for out, part in zip(self.outs, parts, strict=True)], -1)


def exported(network: nn.Module, x: Tensor) -> onnx.ModelProto:
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    program = torch.onnx.export(network.eval(), (x,), dynamo=True, opset_version=20, verbose=False)
    assert program is not None
    return program.model_proto


def outputs(model: onnx.ModelProto, x: Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (out,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    return np.asarray(out)


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


AFTER = {
    "nothing": nn.Identity(),
    "relu": nn.ReLU(),
    "silu": nn.SiLU(),
    "relu6": nn.ReLU6(),
    "hardswish": lambda x: x * functional.relu6(x + 3) / 6,
    "leaky": nn.LeakyReLU(0.1),
    "a diamond": lambda x: torch.sigmoid(y := torch.relu(x)) * torch.tanh(y),
    "gelu": nn.GELU(),
}


@pytest.mark.parametrize(("name", "bias"), [*((name, True) for name in AFTER), ("silu", False)])
def test_parts_are_the_same_numbers(name: str, bias: bool) -> None:
    x = torch.rand(2, 8, 12, 12)
    model = exported(Net(AFTER[name], bias), x)
    assert "Split" in kinds(model)
    before = outputs(model, x)
    assert split_convolutions(model) == 1
    onnx.checker.check_model(model, full_check=True)
    assert "Split" not in kinds(model) and kinds(model).count("Conv") == 6
    np.testing.assert_allclose(outputs(model, x), before, rtol=0, atol=1e-6)
    assert split_convolutions(model) == 0


class ReadTwice(nn.Module):
    """What is split is read as a whole, too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(8, 16, 1), nn.Conv2d(8, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x).relu()
        a, b = y.split(8, 1)
        return y + self.out(a) + self.out(b)


class WithAConstant(nn.Module):
    """An output is a constant of the graph, which nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 16, 1)
        self.register_buffer("scale", torch.tensor([2.0, 3.0]))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a, b = self.conv(x).split(8, 1)
        return a * b, self.scale


def test_a_constant_that_is_an_output_stays() -> None:
    model = exported(WithAConstant(), torch.rand(1, 8, 4, 4))
    assert split_convolutions(model) == 1
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.run(None, {session.get_inputs()[0].name: np.zeros((1, 8, 4, 4), np.float32)})[1].tolist() == [2, 3]


class OfAnInput(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        a, b = x.split(4, 1)
        return a.square() + b.relu()


class OfTwoConvolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(8, 16, 1), nn.Conv2d(8, 16, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = (self.one(x) + self.two(x)).split(8, 1)
        return a * b


class OfComputedFilters(nn.Module):
    """Filters that the graph computes cannot be cut."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        filters = self.conv.weight * x.mean()
        a, b = functional.conv2d(x, filters).relu().split(8, 1)
        return a * b


@pytest.mark.parametrize(
    "network",
    [
        ReadTwice(),
        OfAnInput(),
        OfTwoConvolutions(),
        OfComputedFilters(),
        Net(nn.ReLU(), groups=2),
        Net(nn.ReLU(), axis=2),
        Net(nn.ReLU(), sizes=[4, 28, 4]),
    ],
    ids=["read twice", "input", "two convolutions", "computed filters", "grouped", "rows", "few channels"],
)
def test_what_is_no_split_of_one_convolution_stays(network: nn.Module) -> None:
    x = torch.rand(1, 8, 24, 24)
    model = exported(network, x)
    content = model.SerializeToString()
    assert split_convolutions(model) == 0
    assert model.SerializeToString() == content and "Split" in kinds(model)


class Shared(nn.Module):
    """One convolution on two images, split in each place: its filters are in the graph once."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 64, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        (a, b), (c, d) = (self.conv(image).relu().chunk(2, 1) for image in (x, x.flip(-1)))
        return a * b + c - d


def test_shared_filters_are_cut_for_each_reader() -> None:
    x = torch.rand(1, 8, 12, 12)
    model = exported(Shared(), x)
    before = outputs(model, x)
    assert split_convolutions(model) == 2
    np.testing.assert_allclose(outputs(model, x), before, rtol=0, atol=1e-6)
    unread = {t.name for t in model.graph.initializer} - {name for node in model.graph.node for name in node.input}
    assert not unread


@pytest.mark.parametrize("activation", ["relu"])
def test_the_zoo_splits_nothing_that_a_convolution_makes(activation: str, tmp_path: Path) -> None:
    network = edgemtl_models.build("rgbir-n", {"boxes": 3}, (64, 96), activation=activation).eval()
    images = {name: torch.rand(1, spec.channels, 64, 96) for name, spec in network.inputs.items()}

    class Positional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, *args: Tensor) -> Tensor:
            return self.network(**dict(zip(images, args, strict=True)))["boxes"]

    file = tmp_path / "model.onnx"
    write_plain_onnx(Positional(), tuple(images.values()), file, list(images), ["boxes"])
    model = onnx.load(file)
    assert kinds(model).count("Split") == 1  # of a box's distances
    assert ("Relu" in kinds(model)) == (activation == "relu")
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (out,) = session.run(None, {name: image.numpy() for name, image in images.items()})
    np.testing.assert_allclose(out, network(**images)["boxes"].detach().numpy(), atol=1e-4)
