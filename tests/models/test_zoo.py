"""Every network of the zoo, and what a wrong description is told."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import pytest
import torch
from torch import nn

import edgemtl_models
from edgemtl_models.backbone import TimmBackbone
from edgemtl_models.taps import blocks

SIZE = (64, 96)
HEADS = {"boxes": 3, "semantic": 5, "depth": 1, "normals": 3, "edges": 1, "attributes": 4}


def images(batch: int = 2) -> dict[str, torch.Tensor]:
    return {"rgb": torch.rand(batch, 3, *SIZE), "ir": torch.rand(batch, 1, *SIZE)}


MARKS = {
    "rgbir-yolo26n": [pytest.mark.slow, pytest.mark.long],
    "rgbir-yolo11s": [pytest.mark.slow, pytest.mark.long],
    "rgbir-yolo26s": [pytest.mark.slow, pytest.mark.long],
}
ZOO = [pytest.param(name, marks=MARKS.get(name, [])) for name in edgemtl_models.zoo()]


@pytest.mark.parametrize("name", ZOO)
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


@pytest.mark.parametrize("name", ZOO)
def test_every_parameter_of_trunk_and_heads_learns(name: str) -> None:
    network = edgemtl_models.build(name, HEADS, SIZE, pretrained=False).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # some start at zero and hide what is before them
            nn.init.uniform_(module.weight, 0.5, 1.5)
    out = network(**images(4))
    total = torch.stack([out[name].square().mean() for name in HEADS if name != "boxes"]).sum()
    total = total + sum(b[k].square().mean() for b in out["boxes"].values() for k in ("boxes", "scores"))
    total.backward()
    for path, p in network.named_parameters():
        assert not p.requires_grad or (p.grad is not None and p.grad.abs().sum() > 0), path


@pytest.mark.parametrize("cameras", [("rgb",), ("rgb", "ir")])
@pytest.mark.parametrize("name", ZOO)
def test_a_network_with_exits_is_cut_behind_the_last_and_all_of_it_learns(name: str, cameras: tuple[str, ...]) -> None:
    whole = edgemtl_models.build(name, HEADS, SIZE, pretrained=False, modalities=cameras)
    names: dict[int, list[str]] = {}
    for path, (stride, _) in blocks(whole.trunk.backbones["rgb"], 3).items():
        names.setdefault(stride, []).append(path)
    assert set(names) == {4, 8, 16}
    places = {"boxes": names[8][-1], "semantic": names[8][0], "depth": names[4][-1], "normals": names[8][-1]}
    exits = places | {"edges": names[4][0], "attributes": names[8][0]}
    network = edgemtl_models.build(name, HEADS, SIZE, pretrained=False, modalities=cameras, head_taps=exits)
    network = copy.deepcopy(network).train()  # as an average of weights is
    assert not any(path.startswith(f"trunk.backbones.rgb.{names[16][0]}") for path, _ in network.named_modules())
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
    given = {camera: image for camera, image in images(4).items() if camera in cameras}
    out = network(**given)
    total = torch.stack([out[task].square().mean() for task in HEADS if task != "boxes"]).sum()
    total = total + sum(b[k].square().mean() for b in out["boxes"].values() for k in ("boxes", "scores"))
    total.backward()
    for path, p in network.named_parameters():
        assert not p.requires_grad or (p.grad is not None and p.grad.abs().sum() > 0), path
    with torch.no_grad():
        shapes = {task: tuple(o.shape) for task, o in network.eval()(**given).items()}
    quarter = (SIZE[0] // 4, SIZE[1] // 4)
    assert shapes["semantic"] == (4, 5, *quarter) and shapes["edges"] == (4, 1, *quarter)
    assert shapes["boxes"] == (4, SIZE[0] * SIZE[1] // 64, 7)
    again = edgemtl_models.build(network.description, HEADS, SIZE, pretrained=False)
    again.load_state_dict(network.state_dict())


ALIGNED = {"kind": "aligned", "fuse_at": ["p2", "p3", "p4", "p5"], "align": ["stage3", "neck"]}


@pytest.mark.parametrize("name", ZOO)
def test_aligned_streams_begin_equal_learn_apart_and_share_what_is_equal(name: str) -> None:
    network = edgemtl_models.build(name, HEADS, SIZE, pretrained=False, fusion=ALIGNED)
    paths = network.trunk.alignable()
    assert any(path.startswith("stage3.") for path in paths) and any(path.startswith("neck.") for path in paths)
    assert not any(path.startswith(("stage1", "stage2")) for path in paths)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
    given = images(4)
    with torch.no_grad():
        network.train()(**given)
        before = network.eval()(**given)
        alone = [{k: v[i : i + 1] for k, v in given.items()} for i in range(4)]
        for head, whole in before.items():  # the cameras of one picture meet, and no two pictures
            each = torch.cat([network(**one)[head] for one in alone])
            torch.testing.assert_close(each, whole, rtol=1e-3, atol=1e-4)
    dense = sum(p.numel() for p in network.parameters())
    shared = copy.deepcopy(network)
    for path in paths:
        shared.trunk.share(path)
    assert not shared.trunk.alignable()
    shared = copy.deepcopy(shared)
    assert sum(p.numel() for p in shared.parameters()) < 0.75 * dense
    with torch.no_grad():
        after = shared(**given)
        for head, whole in before.items():
            torch.testing.assert_close(after[head], whole, rtol=1e-3, atol=1e-4)
    out = network.train()(**given)
    total = torch.stack([out[task].square().mean() for task in HEADS if task != "boxes"]).sum()
    total = total + sum(b[k].square().mean() for b in out["boxes"].values() for k in ("boxes", "scores"))
    total.backward()
    for path, p in network.named_parameters():
        assert not p.requires_grad or (p.grad is not None and p.grad.abs().sum() > 0), path
    rgb, ir = (conv.weight.grad for conv in network.trunk.alignable()[min(paths)])
    assert not torch.equal(rgb, ir)


FUSIONS = [{"kind": "early"}, *({"kind": "mid", "level": level} for level in ("p2", "p3", "p4"))]


@pytest.mark.parametrize("fusion", FUSIONS, ids=lambda f: "-".join(f.values()))
@pytest.mark.parametrize("name", ZOO)
def test_streams_meet_early_or_half_way_and_all_of_it_learns(name: str, fusion: dict[str, str]) -> None:
    """The sooner the streams are one, the smaller is the network."""
    later = FUSIONS[FUSIONS.index(fusion) + 1] if fusion != FUSIONS[-1] else ALIGNED
    sizes = []
    for one in (fusion, later):
        network = edgemtl_models.build(name, HEADS, SIZE, pretrained=False, fusion=one)
        sizes.append(sum(p.numel() for p in network.parameters()))
    assert sizes[0] < sizes[1]
    network = copy.deepcopy(edgemtl_models.build(name, HEADS, SIZE, pretrained=False, fusion=fusion)).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
    out = network(**images(4))
    total = torch.stack([out[task].square().mean() for task in HEADS if task != "boxes"]).sum()
    total = total + sum(b[k].square().mean() for b in out["boxes"].values() for k in ("boxes", "scores"))
    total.backward()
    for path, p in network.named_parameters():
        assert not p.requires_grad or (p.grad is not None and p.grad.abs().sum() > 0), path
    again = edgemtl_models.build(network.description, HEADS, SIZE, pretrained=False)
    again.load_state_dict(network.state_dict())
    alone = edgemtl_models.build(name, {"boxes": 3}, SIZE, pretrained=False, fusion=fusion, modalities=("ir",))
    with torch.no_grad():
        assert "boxes" in alone.eval()(ir=images()["ir"])


def test_a_backbone_for_four_channels_begins_as_the_one_for_three() -> None:
    """Seen through given weights, a fourth channel that shows the mean of the others changes nothing."""
    if "EDGEMTL_WEIGHTS" not in os.environ:
        pytest.skip("EDGEMTL_WEIGHTS is not set")
    file = next(Path(os.environ["EDGEMTL_WEIGHTS"]).glob("*mobilenet*"))
    three, four = (TimmBackbone(n, "mobilenetv2_100", str(file)).eval() for n in (3, 4))
    grey = torch.rand(1, 1, *SIZE).repeat(1, 4, 1, 1)
    with torch.no_grad():
        for a, b in zip(three(grey[:, :3]), four(grey), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("fusion", "heads", "message"),
    [
        ({"kind": "sum"}, {"boxes": 3}, "'sum' is not one of concat, early, mid, aligned"),
        ({"kind": "mid", "level": "p5"}, {"boxes": 3}, "'p5' is not one of p2, p3, p4"),
        (ALIGNED | {"fuse_at": ["p3", "p6"]}, {"boxes": 3}, "'p6' is not one of p2"),
        (ALIGNED | {"align": ["stage1", "neck"]}, {"boxes": 3}, "'stage1' is not one of stage2"),
        (ALIGNED | {"align": ["neck", "stage3"]}, {"boxes": 3}, "cannot end before"),
        (ALIGNED | {"fuse_at": ["p3", "p4"]}, {"depth": 1}, "fuse_at needs p2"),
    ],
)
def test_an_impossible_fusion_is_refused(fusion: dict[str, object], heads: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        edgemtl_models.build("rgbir-n", heads, SIZE, fusion=fusion)


@pytest.mark.parametrize(
    ("exits", "message"),
    [
        ({"depth": "stage9"}, "which is no block; there are stage4.0"),
        ({"boxes": "stage4.1"}, "its head tap cannot be at stride 4"),
    ],
)
def test_an_impossible_exit_is_refused(exits: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        edgemtl_models.build("rgbir-n", {head: 2 for head in exits}, SIZE, head_taps=exits)


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


def test_torchvisions_filters_are_taken_up_and_summed_over_colour_for_one_channel() -> None:
    weights = Path(os.environ.get("EDGEMTL_WEIGHTS", "")) / "mobilenet_v2_imagenet_features_torchvision.pth"
    if not weights.is_file():
        pytest.skip("EDGEMTL_WEIGHTS is not set or does not hold MobileNetV2")
    torchvision = pytest.importorskip("torchvision").models.mobilenet_v2().features.eval()
    state = torch.load(weights, weights_only=True)
    torchvision.load_state_dict({key.removeprefix("features."): tensor for key, tensor in state.items()})
    colour, grey = (TimmBackbone(channels, "mobilenetv2_100", str(weights)).eval() for channels in (3, 1))
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        left, right = colour(image.repeat(1, 3, 1, 1)), grey(image)
        theirs = [torchvision[:depth](image.repeat(1, 3, 1, 1)) for depth in (4, 7, 14)]
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(left, theirs, strict=True))
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
    with pytest.raises(ValueError, match=r"does not hold resnet18's state: nothing in it fits conv1\.weight"):
        TimmBackbone(3, "resnet18", str(tmp_path / "w.pth"))
    with pytest.raises(FileNotFoundError, match="not found as a path, nor in"):
        TimmBackbone(3, "resnet18", "nowhere.pth")


@pytest.mark.parametrize(
    ("model", "expected"),
    [("resnet19", "timm has no model 'resnet19'"), ("vit_tiny_patch16_224", "no features at strides 4, 8 and 16")],
)
def test_a_backbone_that_will_not_do_is_refused(model: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        TimmBackbone(3, model)


@pytest.mark.parametrize("model", ["mobilenetv2_100", "resnet18"])
def test_a_state_is_taken_up_by_its_own_names(model: str, tmp_path: Path) -> None:
    """A whole classifier's state as timm saves it, and the same under other names in the same order."""
    import timm

    whole = timm.create_model(model).eval()
    torch.save(whole.state_dict(), tmp_path / "own.pth")
    torch.save({f"x{i}": t for i, t in enumerate(whole.state_dict().values())}, tmp_path / "other.pth")
    image = torch.rand(1, 3, 64, 96)
    features = TimmBackbone(3, model, str(tmp_path / "own.pth")).eval()(image)
    again = TimmBackbone(3, model, str(tmp_path / "other.pth")).eval()(image)
    assert [f.shape[2] for f in features] == [16, 8, 4]
    assert all(torch.equal(a, b) for a, b in zip(features, again, strict=True))


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("camera", ["rgb", "ir"])
def test_one_camera_alone(name: str, camera: str) -> None:
    network = edgemtl_models.build(name, {"depth": 1}, SIZE, modalities=(camera,), pretrained=False).eval()
    assert set(network.inputs) == {camera} == set(network.description["streams"])
    assert network(**{camera: images()[camera]})["depth"].shape == (2, 1, 16, 24)
    with pytest.raises(ValueError, match="has no stream 'radar'"):
        edgemtl_models.build(name, {"depth": 1}, SIZE, modalities=("radar",))


def test_what_no_head_reads_is_not_built() -> None:
    """Dense heads read the finest features: the way back up is for boxes."""
    dense, boxes = (edgemtl_models.build("rgbir-n", heads, SIZE) for heads in ({"depth": 1}, {"depth": 1, "boxes": 3}))
    assert not dense.trunk.bottom_up and boxes.trunk.bottom_up
    assert sum(p.numel() for p in dense.trunk.parameters()) < sum(p.numel() for p in boxes.trunk.parameters())
