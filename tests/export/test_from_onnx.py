"""ONNX files as modules: what ONNX Runtime answers, with layers that train, in a program that torch exports."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from conftest import folder_of
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from edgemtl_export import UnsupportedError, channel_groups, shrink
from edgemtl_export.from_onnx import OnnxNetwork, read_onnx
from edgemtl_export.latency import session
from edgemtl_runtime.errors import EdgemtlError


class Net(nn.Module):
    """What detectors, classifiers and segmenters are made of."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.SiLU())
        self.depthwise = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.Hardswish(), nn.LeakyReLU(0.1))
        self.pools = nn.ModuleList([nn.MaxPool2d(k, 1, k // 2) for k in (3, 5)] + [nn.AvgPool2d(3, 1, 1)])
        self.mix = nn.Conv2d(64, 24, 1)
        self.up = nn.ConvTranspose2d(24, 12, 2, 2)
        self.norm, self.linear = nn.LayerNorm(12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.depthwise(self.stem(functional.pad(x, (0, 1, 0, 1))))
        x = torch.cat([x, *(pool(x) for pool in self.pools)], 1)
        a, b = self.mix(x).chunk(2, 1)
        x = self.up(torch.cat([a * b.sigmoid(), functional.gelu(b)], 1))
        x = functional.interpolate(x, scale_factor=2, mode="nearest") + functional.interpolate(
            x[:, :, ::2, ::2], scale_factor=4, mode="bilinear"
        )
        best = x.flatten(2).amax(2).topk(3, 1).values.clamp(-1, 6)
        scores = self.linear(self.norm(x.mean((2, 3)))).softmax(-1)
        return torch.cat([best, x.std((2, 3), unbiased=False).sqrt()], 1), scores.unsqueeze(1).expand(-1, 2, -1)


def written(network: nn.Module, images: Tensor, file: Path, opset: int) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(network.eval(), (images,), dynamo=True, opset_version=opset, verbose=False)
    assert program is not None
    program.save(str(file))
    return file


def compare(file: Path, images: Tensor) -> OnnxNetwork:
    """Read a file, and compare it with ONNX Runtime on random images."""
    network = read_onnx(file)
    opened = session(file.read_bytes())
    wanted = opened.run(None, {opened.get_inputs()[0].name: images.numpy()})
    with torch.no_grad():
        answer = network(images)
    given = list(answer.values()) if isinstance(answer, dict) else [answer]
    for a, b in zip(given, wanted, strict=True):
        np.testing.assert_allclose(a.numpy(), b, rtol=1e-3, atol=1e-4 * max(1.0, float(np.abs(b).max())))
    return network


@pytest.mark.parametrize("opset", [18, 20])
def test_a_network_answers_as_onnx_runtime_does(opset: int, tmp_path: Path) -> None:
    images = torch.rand(1, 3, 31, 47)
    network = compare(written(Net(), images, tmp_path / "net.onnx", opset), images)
    kinds = [type(layer) for layer in network.layers.modules()]
    assert kinds.count(nn.Conv2d) == 3 and nn.ConvTranspose2d in kinds and nn.Linear in kinds
    groups = channel_groups(network, (images,))
    assert groups.count > 16
    report = shrink(network, (images,)).report
    assert report.parameters_after == report.parameters_before


def test_a_read_network_trains_and_what_is_zeroed_is_removed(tmp_path: Path) -> None:
    images = torch.rand(1, 3, 31, 47)
    network = read_onnx(written(Net(), images, tmp_path / "net.onnx", 20)).train()
    answer = network(images)
    assert isinstance(answer, dict)
    sum(t.square().sum() for t in answer.values()).backward()  # type: ignore[union-attr]
    assert all(p.grad is not None for layer in network.layers.values() for p in layer.parameters())
    groups = channel_groups(network, (images,))
    with torch.no_grad():
        for name, rows in groups.rows.items():
            network.get_parameter(name).movedim(groups.axis(name), 0)[torch.from_numpy(rows == 3)] = 0
    assert shrink(network, (images,)).report.parameters_after == groups.parameters(np.arange(groups.count) == 3)


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "shufflenet_v2_x0_5", "efficientnet_b0", "convnext_tiny"])
@pytest.mark.slow
def test_networks_of_torchvision_are_read(name: str, tmp_path: Path) -> None:
    import torchvision

    torch.manual_seed(0)
    images = torch.rand(1, 3, 64, 64)
    compare(written(torchvision.models.get_model(name), images, tmp_path / "net.onnx", 20), images)


def test_a_detector_that_others_have_exported_is_read() -> None:
    file = folder_of("EDGEMTL_WEIGHTS", "yolox_nano.onnx")
    network = compare(file, 255 * torch.rand(1, 3, 416, 416))
    assert sum(p.numel() for p in network.parameters()) == 904_463
    assert not [name for name, buffer in network.named_buffers() if buffer.numel() > 1000]
    assert channel_groups(network, network.example_inputs).count > 5000
    images = 255 * torch.rand(2, 3, 416, 416)
    with torch.no_grad():
        torch.testing.assert_close(network(images), torch.cat([network(images[:1]), network(images[1:])]))
    smaller = read_onnx(file, {"images": (1, 3, 320, 320)})
    assert smaller(images[:, :, :320, :320]).shape == (2, 2100, 85)


def model_of(
    *nodes: onnx.NodeProto, size: tuple[int | str, ...] = (1, 3, 8, 8), **weights: np.ndarray
) -> onnx.ModelProto:  # type: ignore[type-arg]
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(size))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def test_shapes_that_no_image_decides_are_constants() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "first"], ["batch"]),
        helper.make_node("Unsqueeze", ["batch", "zero"], ["batch1"]),
        helper.make_node("Concat", ["batch1", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["y"]),
    ]
    ints = {"first": np.array(0), "zero": np.array([0]), "rest": np.array([-1])}
    network = OnnxNetwork(model_of(*nodes, size=("batch", 3, 8, 8), **ints))
    assert [step.node.op_type for step in network.steps] == ["Reshape"]
    answer = network(torch.rand(1, 3, 8, 8))
    assert isinstance(answer, Tensor) and answer.shape == (1, 192)
    torch.export.export(network, network.example_inputs)


def test_a_file_of_one_image_takes_batches_only_where_each_image_is_answered_as_alone() -> None:
    images = torch.rand(3, 3, 8, 8)
    for target in ([1, 192], [1, -1], [1, 3, 64]):
        flat = helper.make_node("Reshape", ["x", "target"], ["y"])
        network = OnnxNetwork(model_of(flat, target=np.array(target)))
        torch.testing.assert_close(network(images), images.reshape(3, *target[1:]))
    moved = [  # images are mixed: a mean over the batch
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["y"]),
    ]
    squeezed = helper.make_node("Squeeze", ["x", "zero"], ["y"])
    flags = [helper.make_node("Greater", ["x", "half"], ["y"])]
    half = np.array(0.5, np.float32)
    assert OnnxNetwork(model_of(*flags, half=half)).takes_batches
    assert not OnnxNetwork(model_of(squeezed, zero=np.array([0]))).takes_batches
    whole = helper.make_node("Reshape", ["x", "target"], ["y"])
    for network in (OnnxNetwork(model_of(*moved)), OnnxNetwork(model_of(whole, target=np.array([3, 64])))):
        network(images[:1])
        with pytest.raises(ValueError, match=r"of shape \(3, 3, 8, 8\); the network was read for \(1, 3, 8, 8\)$"):
            network(images)
    with pytest.raises(ValueError, match="or more of these at once"):
        OnnxNetwork(model_of(helper.make_node("Relu", ["x"], ["y"])))(torch.rand(1, 3, 8, 9))


def test_a_file_whose_sizes_are_fixed_inside_is_not_read_for_others() -> None:
    flat = helper.make_node("Reshape", ["x", "target"], ["y"], name="flat")
    with pytest.raises(UnsupportedError, match=r"Reshape 'flat' cannot be run with x \(1, 3, 4, 8\)"):
        OnnxNetwork(model_of(flat, target=np.array([1, 192])), {"x": (1, 3, 4, 8)})


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    loop = helper.make_node("NonMaxSuppression", ["x", "x"], ["y"])
    with pytest.raises(UnsupportedError, match="operators that cannot be read: NonMaxSuppression"):
        OnnxNetwork(model_of(loop))
    shape = helper.make_node("Cast", ["x"], ["s"], to=TensorProto.INT64)
    with pytest.raises(UnsupportedError, match="input 1 depends on the images"):
        OnnxNetwork(model_of(shape, helper.make_node("Reshape", ["x", "s"], ["y"], name="r")))
    relu = helper.make_node("Relu", ["x"], ["y"])
    with pytest.raises(UnsupportedError, match="input 'x' leaves its size open"):
        OnnxNetwork(model_of(relu, size=(1, 3, "height", "width")))
    sized = OnnxNetwork(model_of(relu, size=(1, 3, "height", "width")), {"x": (1, 3, 4, 6)})
    assert sized.example_inputs[0].shape == (1, 3, 4, 6)
    with pytest.raises(EdgemtlError, match="there is no such file"):
        read_onnx(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(EdgemtlError, match=r"no ONNX model|holds no network"):
        read_onnx(tmp_path / "text.onnx")
