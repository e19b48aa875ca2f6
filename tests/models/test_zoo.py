"""Every network of the zoo, and what a wrong description is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import nn

import edgemtl_models
from edgemtl_models.backbone import MobileNetV2Backbone
from edgemtl_models.yolo import BoxHead

SIZE = (64, 96)
HEADS = {"boxes": 3, "semantic": 5, "depth": 1, "normals": 3, "edges": 1, "attributes": 4}


def images(batch: int = 2) -> dict[str, torch.Tensor]:
    return {"rgb": torch.rand(batch, 3, *SIZE), "ir": torch.rand(batch, 1, *SIZE)}


@pytest.mark.parametrize("name", edgemtl_models.zoo())
def test_named_images_to_named_heads(name: str) -> None:
    network = edgemtl_models.build(name, HEADS, SIZE, pretrained=False)
    assert set(network.inputs) == {"rgb", "ir"}
    with torch.no_grad():
        out = network.eval()(**images())
    cells = sum(SIZE[0] * SIZE[1] // stride**2 for stride in (8, 16, 32))
    assert out["boxes"].shape == (2, cells, 7) and out["semantic"].shape == (2, 5, SIZE[0] // 4, SIZE[1] // 4)
    for dense, channels in (("depth", 1), ("normals", 3), ("edges", 1)):
        assert out[dense].shape == (2, channels, SIZE[0] // 4, SIZE[1] // 4)
    assert out["attributes"].shape == (2, 4)
    assert ((out["boxes"][..., 4:] >= 0) & (out["boxes"][..., 4:] <= 1)).all()


@pytest.mark.parametrize("name", edgemtl_models.zoo())
def test_every_parameter_of_trunk_and_heads_learns(name: str) -> None:
    network = edgemtl_models.build(name, HEADS, SIZE, pretrained=False).train()
    out = network(**images(4))
    total = torch.stack([out[name].square().mean() for name in HEADS if name != "boxes"]).sum()
    total = total + sum(b[k].square().mean() for b in out["boxes"].values() for k in ("boxes", "scores"))
    total.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_decoding_is_ultralytics_own() -> None:
    torch.manual_seed(0)
    head = BoxHead([16, 32], [8, 16], 3, reg_max=4).eval()
    features = [torch.randn(1, 16, 8, 12), torch.randn(1, 32, 4, 6)]
    with torch.no_grad():
        ours = head(features)
        theirs = head.detect._inference(head.detect.forward_head(features, **head.detect.one2one)).transpose(1, 2)
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_each_stream_sees_its_own_camera() -> None:
    network = edgemtl_models.build("rgbir-n", {"boxes": 3}, SIZE).train()
    both = images(4)
    with torch.no_grad():
        for _ in range(10):  # batch statistics, so that signal reaches the outputs
            network(**both)
        network.eval()
        base = network(**both)["boxes"]
        for name in both:
            changed = network(**{**both, name: 1 - both[name]})["boxes"]
            assert not torch.allclose(base, changed)


def test_pretrained_filters_for_one_channel_are_summed_over_colour() -> None:
    weights = Path(os.environ.get("EDGEMTL_WEIGHTS", "")) / "mobilenet_v2_imagenet_features_torchvision.pth"
    if not weights.is_file():
        pytest.skip("EDGEMTL_WEIGHTS is not set or does not hold MobileNetV2")
    colour, grey = (MobileNetV2Backbone(channels, str(weights)).eval() for channels in (3, 1))
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        left, right = colour(image.repeat(1, 3, 1, 1)), grey(image)
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize(
    ("name", "classes", "size", "expected"),
    [
        ("rgbir-x", HEADS, SIZE, "no network 'rgbir-x'; the zoo has"),
        ("rgbir-n", {"pose": 1}, SIZE, "no head 'pose'"),
        ("rgbir-n", HEADS, (60, 96), "does not divide by 32"),
    ],
)
def test_an_impossible_network_is_refused(
    name: str, classes: dict[str, int], size: tuple[int, int], expected: str
) -> None:
    with pytest.raises(ValueError, match=expected):
        edgemtl_models.build(name, classes, size)


def test_weights_that_do_not_fit_are_told(tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="does not hold MobileNetV2's features"):
        MobileNetV2Backbone(3, str(tmp_path / "w.pth"))
    with pytest.raises(FileNotFoundError, match="EDGEMTL_WEIGHTS"):
        MobileNetV2Backbone(3, "nowhere.pth")


def test_importing_ultralytics_leaves_torch_as_it_was() -> None:
    assert torch.save.__module__ == "torch.serialization"
    assert isinstance(nn.Module(), nn.Module) and os.environ["YOLO_OFFLINE"] == "1"
