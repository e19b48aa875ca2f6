"""Agreement of outputs, and the parity check that writes no bundle where they differ."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgemtl_export import parity, to_bundle
from edgemtl_export.decoding import nms_boxes, topk_boxes
from edgemtl_export.deployed import Deployed
from edgemtl_export.parity import ParityError, RawDifference
from edgemtl_export.to_bundle import export_bundle
from edgemtl_runtime.bundle import Head, Input
from edgemtl_runtime.engine import agreement
from edgemtl_runtime.engine.onnxruntime import OrtEngine

BOX = [10.0, 10.0, 50.0, 50.0, 0.9, 0.0]


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ([BOX], 3),
        ([[10.05, 10, 50, 50, 0.9, 0]], 3),
        ([[12.0, 10, 50, 50, 0.9, 0]], 1),
        ([[10.0, 10, 50, 50, 0.9, 1]], 1),
        ([[10.0, 10, 50, 50, 0.8, 0]], 2),
        ([BOX, BOX], 2),
        ([], 0),
        ([[float("nan")] * 6], 0),
    ],
)
def test_boxes_match_one_to_one_and_best_scores_are_equal(other: list[list[float]], same: int) -> None:
    left, right = np.array([[BOX]]), np.array([other]).reshape(1, -1, 6)
    sure = sum(row[4] >= agreement.SCORE for row in other)
    assert agreement.same_boxes(left, right) == (same, 1 + 1 + sure)


@pytest.mark.parametrize("box", [[50.0, 10, 50, 40], [50.1, 10, 50, 40], [50.0, 10, 50.002, 10.001]])
def test_a_box_without_area_equals_itself_and_what_rounding_makes_of_it_but_no_other(box: list[float]) -> None:
    left = np.array([[[*box, 0.9, 0]]])
    rounded, moved = left + np.array([1e-3, 0, 0, -1e-3, 0, 0]), left + np.array([0.1, 0, 0.1, 0, 0, 0])
    assert agreement.same_boxes(left, left) == agreement.same_boxes(left, rounded) == (3, 3)
    assert agreement.same_boxes(left, moved) == (1, 3)


def test_garbage_does_not_pass_for_an_image_without_boxes() -> None:
    left, right = np.zeros((1, 5, 6)), np.full((1, 5, 6), np.nan)
    left[:, :, 4] = 0.01
    same, total = agreement.same_boxes(left, right)
    assert total and not same


def test_a_box_at_the_edge_of_the_score_is_not_lost() -> None:
    left, right = np.array([[[*BOX[:4], 0.05, 0]]]), np.array([[[*BOX[:4], 0.0499, 0]]])
    assert agreement.same_boxes(left, right) == (2, 2)


@pytest.mark.parametrize("noise", [1e-6, 0.01])
def test_the_best_of_many_equal_boxes_may_be_others(noise: float) -> None:
    """A network that knows little scores hundreds of boxes alike, and rounding decides which of them come out."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 50, (300, 2))
    scores = np.concatenate([np.linspace(0.9, 0.5, 40), np.full(260, 0.2)])
    boxes = np.column_stack([corners, corners + rng.uniform(5, 40, (300, 2)), scores, np.zeros(300)])

    def best(shift: float) -> np.ndarray:
        moved = boxes + np.array([shift, 0, shift, 0, 0, 0])
        moved[:, 4] += rng.uniform(-1e-6, 1e-6, 300)
        return moved[np.argsort(-moved[:, 4])][None, :100]

    same, total = agreement.same_boxes(best(0), best(noise))
    assert same == total == 10 + 2 * 40
    same, total = agreement.same_boxes(best(0), best(20))
    assert total == 10 + 2 * 40 and same < 30


HEADS = (Head("boxes", "boxes", "topk_boxes", ("a",)), Head("semantic", "semantic", "label_map", ("a", "b")))


@pytest.mark.parametrize(
    ("raw", "agreed", "expected"),
    [
        ({"boxes": 2e-3, "semantic": 0}, {"boxes": 1, "semantic": 1}, "boxes: the shrunk network's raw head is off"),
        ({"boxes": float("nan"), "semantic": 0}, {"boxes": 1, "semantic": 1}, "boxes"),
        ({"boxes": 0, "semantic": 0}, {"boxes": 0.99, "semantic": 1}, "only 99"),
        ({"boxes": 0, "semantic": 0}, {"boxes": 1, "semantic": 0.998}, "semantic"),
    ],
)
def test_every_limit_is_held(raw: dict[str, float], agreed: dict[str, float], expected: str) -> None:
    with pytest.raises(ParityError, match=expected):
        parity.check(RawDifference(raw, {}, {"boxes": 3e-4}), agreed, HEADS)
    parity.check(RawDifference({"boxes": 1e-4, "semantic": 0}, {}, {}), {"boxes": 1, "semantic": 0.9995}, HEADS)


class Cancels(nn.Module):
    """A network that adds and takes away large numbers, in another order if asked, or off by a number."""

    def __init__(self, reverse: bool = False, off: float = 0.0) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.linspace(-3e4, 3e4, 1000))
        self.reverse, self.off = reverse, off

    def forward(self, ir: torch.Tensor) -> dict[str, torch.Tensor]:
        order = self.weights.flip(0) if self.reverse else self.weights
        total = ir.new_zeros(ir.shape)
        for weight in order:
            total = total + ir * weight
        return {"boxes": total + self.off}


class Single(nn.Module):
    """A network of single precision alone."""

    def forward(self, ir: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"boxes": ir @ torch.ones(4, 4)}


def test_what_rounding_does_to_a_network_of_large_numbers_is_no_difference() -> None:
    frames = [{"ir": torch.rand(1, 4, generator=torch.Generator().manual_seed(0))}]
    agreed = {"boxes": 1.0}
    rounded = parity.raw_difference(Cancels(), Cancels(reverse=True), frames)
    assert rounded.largest["boxes"] > parity.MAX_RAW_DIFFERENCE
    parity.check(rounded, agreed, HEADS[:1])
    wrong = parity.raw_difference(Cancels(), Cancels(off=100 * rounded.largest["boxes"]), frames)
    with pytest.raises(ParityError):
        parity.check(wrong, agreed, HEADS[:1])
    assert not parity.raw_difference(Single(), Single(), frames).rounding


class Net(nn.Module):
    """A segmentation network of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(1, 6, 3, padding=1)
        self.out = nn.Conv2d(6, 2, 1)

    def forward(self, ir: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"semantic": self.out(torch.relu(self.body(ir)))}


INPUTS = (Input("ir", 32, 48, 1, (0.5,), (0.25,), "ir"),)


def export(out: Path) -> tuple[Net, object]:
    torch.manual_seed(0)
    net = Net()
    net.body.weight.data[:3], net.body.bias.data[:3] = 0, 0
    frames = [{"ir": np.random.default_rng(i).integers(0, 256, (1, 32, 48, 1), np.uint8)} for i in range(3)]
    return net, export_bundle(net, INPUTS, HEADS[1:], frames, out, "net", "CC0-1.0", align=1)


def test_any_network_of_named_images_becomes_a_bundle(tmp_path: Path) -> None:
    net, (bundle, shrunk) = export(tmp_path / "b")
    assert shrunk.report.parameters_after < shrunk.report.parameters_before
    frame = {"ir": np.full((1, 32, 48, 1), 200, np.uint8)}
    expected = Deployed(net, INPUTS, HEADS[1:]).run(frame)["semantic"]
    assert np.array_equal(OrtEngine(bundle.model).run(frame)["semantic"], expected)
    assert bundle.manifest.removed["parameters_after"] == shrunk.report.parameters_after


def test_a_bundle_that_fails_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = to_bundle.write_onnx

    def wrong(deployed: Deployed, file: Path, **more: bool) -> None:
        with torch.no_grad():
            next(deployed.network.parameters()).mul_(-1.5)
        honest(deployed, file, **more)

    monkeypatch.setattr(to_bundle, "write_onnx", wrong)
    with pytest.raises(ParityError):
        export(tmp_path / "b")
    assert not list(tmp_path.iterdir())


def test_the_file_contains_nothing_of_the_machine_that_wrote_it(tmp_path: Path) -> None:
    _, (bundle, _) = export(tmp_path / "b")
    assert b"stack_trace" not in bundle.model.read_bytes() and b".py" not in bundle.model.read_bytes()


def test_topk_takes_the_best_of_all_classes() -> None:
    raw = torch.tensor([[[0, 0, 1, 1, 0.2, 0.9], [2, 2, 3, 3, 0.5, 0.1]]])
    rows = topk_boxes(raw, (8, 8))[0]
    assert rows[0].tolist() == pytest.approx([0, 0, 1, 1, 0.9, 1]) and rows[1].tolist() == pytest.approx(
        [2, 2, 3, 3, 0.5, 0]
    )


@pytest.mark.parametrize(("classes", "anchors"), [(3, 400), (80, 400), (80, 60), (8, 2100)])
@pytest.mark.parametrize("decoder", [topk_boxes, nms_boxes])
def test_the_best_boxes_are_the_best_of_all_classes_of_all_rows(
    decoder: Callable[..., torch.Tensor], classes: int, anchors: int
) -> None:
    raw = torch.rand(2, anchors, 4 + classes, generator=torch.Generator().manual_seed(classes))
    rows = decoder(raw, (8, 8))
    for image, best in zip(raw, rows, strict=True):
        everything = [
            (float(image[a, 4 + c]), *image[a, :4].tolist(), c) for a in range(anchors) for c in range(classes)
        ]
        expected = torch.tensor(sorted(everything, reverse=True)[: len(best)])
        assert torch.equal(best[:, [4, 0, 1, 2, 3, 5]], expected)
