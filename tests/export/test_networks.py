"""Exact removal on networks of other libraries: a quick part of what `make bench-shrink` measures on all of them."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from nets import make
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional
from torch.utils import _pytree as pytree

from edgemtl_export import channel_groups, shrink, verify
from edgemtl_export.analysis import interpret
from edgemtl_models import build as build_multi_task

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from networks import build, random_images
from zeros import MODES, zero

QUICK = ["resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5", "yolo11n"]


@pytest.mark.parametrize("name", [*QUICK[:3], pytest.param(QUICK[3], marks=pytest.mark.slow)])
def test_all_that_position_allows_is_removed_in_each_mode_of_zeros(name: str) -> None:
    if name.startswith("yolo"):
        pytest.importorskip("edgemtl_models.yolo", reason="ultralytics is not installed")
    net, inputs = build(name)
    clean = {k: v.clone() for k, v in net.state_dict().items()}
    exported, groups = torch.export.export(net, inputs), channel_groups(net, inputs)
    for mode in MODES:
        for key, value in net.state_dict().items():
            value.copy_(clean[key])
        zero(net, exported, groups, mode)
        report = shrink(exported, inputs).report
        assert report.parameters_after <= report.parameters_bound < 0.8 * report.parameters_before, mode
        assert report.proof["float64"] <= 1e-9 and report.proof["noise"] <= 1e-9 < report.proof["control"], mode
    assert any(layer.constant for layer in report.layers)  # the last mode leaves constants


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "shufflenet_v2_x0_5"])
def test_onnx_of_a_shrunk_program_gives_the_same(name: str) -> None:
    net, inputs = build(name)
    zero(net, torch.export.export(net, inputs), channel_groups(net, inputs), "constant")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported_onnx = torch.onnx.export(shrink(net, inputs).program, dynamo=True, opset_version=20, verbose=False)
    session = onnxruntime.InferenceSession(
        exported_onnx.model_proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    fresh = [random_images(*inputs[0].shape) for _ in range(2)]
    with torch.no_grad():
        truth = [net(x) for x in fresh]
    signal = float((truth[0] - truth[1]).abs().max())
    for x, expected in zip(fresh, truth, strict=True):
        (actual,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        assert np.abs(actual - expected.numpy()).max() <= 1e-4 * signal


@pytest.mark.parametrize("name", ["Residual", "Split", "Pyramid", "Shuffle", "SqueezeExcite", "Attention"])
def test_dynamic_sizes_stay_dynamic(name: str) -> None:
    net, x = make(name)
    groups = channel_groups(net, (x,))
    pruned = np.arange(groups.count) % 3 == 0
    for parameter, rows in groups.rows.items():
        if "bias" not in parameter:  # so that constants are left
            weight = dict(net.named_parameters())[parameter].data
            weight[torch.from_numpy(np.isin(rows, np.flatnonzero(pruned)))] = 0
    size = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    result = shrink(net, (torch.cat([x, x]),), dynamic_shapes=(size,))
    assert result.report.parameters_after < result.report.parameters_before
    other = torch.randn(3, 3, 24, 32)
    with torch.no_grad():
        pairs = zip(pytree.tree_leaves(net(other)), pytree.tree_leaves(result.module()(other)), strict=True)
        assert all(verify.difference(a, b, float(a.abs().max())) < 1e-5 for a, b in pairs)


def test_the_batch_of_a_network_of_two_cameras_stays_dynamic() -> None:
    """Also where a sum's operands differ in their shapes: to compare them must not fix the batch."""
    net = build_multi_task("rgbir-n", {"boxes": 3, "depth": 1}, (64, 96), pretrained=False).eval()
    batch = Dim("batch", max=64)
    inputs = {"rgb": torch.rand(2, 3, 64, 96), "ir": torch.rand(2, 1, 64, 96)}
    small = shrink(net, (), inputs, dynamic_shapes={name: {0: batch} for name in inputs}).module()
    for count in (1, 5):
        images = {"rgb": torch.rand(count, 3, 64, 96), "ir": torch.rand(count, 1, 64, 96)}
        with torch.no_grad():
            expected, actual = pytree.tree_leaves(net(**images)), pytree.tree_leaves(small(**images))
        assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(expected, actual, strict=True))


class SizeReaders(nn.Module):
    """Channels that are constants, and what becomes of them where a dynamic size decides it."""

    def __init__(self, middle: Callable[[nn.Conv2d, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 4, 1)
        self.a.weight.data[:4] = 0  # whose biases stay
        self.b.weight.data[:4, 4:] = 0  # whose outputs read constants alone
        self.middle = middle

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.middle(self.b, self.a(x)))


def pad_to_eights(x: Tensor) -> Tensor:
    """Pad by what is lacking to multiples of eight: nothing at the example's size."""
    return functional.pad(x, (0, -x.shape[3] % 8, 0, -x.shape[2] % 8))


@pytest.mark.parametrize(
    "middle",
    [
        lambda b, y: y.sum((2, 3), keepdim=True) * 0.01,
        lambda b, y: y.sum(0, keepdim=True),
        lambda b, y: y / y.shape[3],
        lambda b, y: y / (y.shape[2] * y.shape[3]) ** 0.5,
        lambda b, y: y + 0.1 * y.shape[2],
        lambda b, y: y.flatten(2).softmax(2).reshape(y.shape),
        lambda b, y: b(y).mean((2, 3), keepdim=True),
        lambda b, y: functional.adaptive_avg_pool2d(b(y).relu(), 1),
        lambda b, y: functional.pad(y, (1, 1, 1, 1)).mean((2, 3), keepdim=True),
        lambda b, y: functional.avg_pool2d(y, 3, 1, 1).mean((2, 3), keepdim=True),
        lambda b, y: pad_to_eights(y),
    ],
)
def test_what_is_constant_at_the_example_size_alone_stays(middle: Callable[[nn.Conv2d, Tensor], Tensor]) -> None:
    net = SizeReaders(middle).eval()
    sizes = ({0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC},)
    small = shrink(net, (torch.randn(2, 3, 16, 16),), dynamic_shapes=sizes).module()
    for shape in ((2, 3, 16, 16), (3, 3, 9, 40), (4, 3, 34, 20)):
        x = torch.randn(shape)
        with torch.no_grad():
            torch.testing.assert_close(small(x), net(x), atol=1e-4, rtol=1e-4)


class Picks(nn.Module):
    """Channels that are picked by fixed numbers."""

    def __init__(self, pick: Callable[[Tensor, Tensor], Tensor], count: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.pick, self.a, self.b = pick, nn.Conv2d(3, 8, 1), nn.Conv2d(count, 4, 1)
        self.a.weight.data[::2], self.a.bias.data[::2] = 0, 0  # type: ignore[index]
        self.register_buffer("order", torch.tensor([7, 3, 5, 1, 0, 2, 6, 4]))

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.pick(self.a(x).relu(), self.order))


@pytest.mark.parametrize(
    ("pick", "count", "kept"),
    [
        (lambda y, order: y[:, [0, 3, 5, -1]], 4, 3),
        (lambda y, order: y[:, order], 8, 4),
        (lambda y, order: y.index_select(1, order), 8, 4),
        (lambda y, order: y[:, torch.tensor([1, 1, 2, 2])], 4, 1),
        (lambda y, order: y[:, :, [1, 0]][:, order[:4]], 4, 8),  # numbers that are computed: no rule
    ],
)
def test_channels_are_pruned_where_fixed_numbers_pick_them(
    pick: Callable[[Tensor, Tensor], Tensor], count: int, kept: int
) -> None:
    net, x = Picks(pick, count).eval(), torch.randn(1, 3, 8, 8)
    result = shrink(net, (x,))
    assert result.keep["a.weight"][0].size == kept
    with torch.no_grad():
        torch.testing.assert_close(result.module()(x), net(x), atol=1e-5, rtol=1e-5)


def test_the_proof_is_of_other_sizes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """An analysis that is right at the example's sizes alone does not pass."""
    net = SizeReaders(lambda b, y: b(y).mean((2, 3), keepdim=True)).eval()
    args, sizes = (torch.randn(2, 3, 16, 16),), ({0: Dim.DYNAMIC, 2: Dim("h", min=8, max=24), 3: Dim.DYNAMIC},)
    errors = shrink(net, args, dynamic_shapes=sizes).report.proof
    assert errors.keys() >= {"size 1", "size 2"} and max(errors["size 1"], errors["size 2"]) < 1e-9
    monkeypatch.setattr(interpret, "constant_at_any_size", lambda result, recorded: result)
    with pytest.raises(verify.NotEqualError, match="float64, at another size"):
        shrink(net, args, dynamic_shapes=sizes)


def test_sizes_that_the_given_network_does_not_take_prove_nothing() -> None:
    """A network that is made for sizes that two divides, as many with a shortcut over a stride are."""

    class Even(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.up = nn.Conv2d(3, 8, 2, stride=2), nn.ConvTranspose2d(8, 3, 2, stride=2)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.up(self.a(x).relu())

    net = Even().eval()
    net.a.weight.data[::2], net.a.bias.data[::2] = 0, 0  # type: ignore[index]
    half = Dim("half", min=2, max=64)
    report = shrink(net, (torch.randn(1, 3, 16, 16),), dynamic_shapes=({2: 2 * half, 3: 2 * half},)).report
    assert report.parameters_after < report.parameters_before and "size 2" in report.proof


def test_constants_are_exact_at_the_border_with_and_without_a_carrier() -> None:
    """Zero padding cuts what constants give: by a channel of ones, or by a constant channel that stays."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.SiLU(), nn.Conv2d(8, 4, 3, padding=1)).eval()
    net[0].weight.data[:5] = 0  # five channels are silu(bias) everywhere
    x = torch.randn(1, 3, 12, 12)
    alone, carried = shrink(net, (x,)), shrink(net, (x,), align=4)
    assert [layer.after for layer in alone.report.layers] == [3, 4]
    assert any("border" in name for name, _ in alone.module().named_buffers())
    assert [layer.after for layer in carried.report.layers] == [4, 4]
    assert not any("border" in name for name, _ in carried.module().named_buffers())
