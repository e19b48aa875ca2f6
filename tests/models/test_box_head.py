"""The box head, its assignment and its loss: by hand-made cases, and next to ultralytics' where that is installed."""

from __future__ import annotations

import importlib
import importlib.metadata
import math
import os
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgemtl_models.assignment import Assigner, Objects
from edgemtl_models.blocks import SPPF, Conv, CSPBlock
from edgemtl_models.box_head import BoxHead
from edgemtl_models.box_loss import ASSIGNERS, BoxLoss, distribution_loss, padded
from edgemtl_models.box_overlap import paired_iou

STRIDES = [8, 16, 32]
WIDTHS = [64, 128, 128]
SIZE = (96, 128)


def head(reg_max: int = 1, seed: int = 0) -> BoxHead:
    torch.manual_seed(seed)
    network = BoxHead(WIDTHS, STRIDES, 3, reg_max)
    network.bias_init()
    return network


def features(batch: int = 4) -> list[Tensor]:
    return [torch.rand(batch, w, SIZE[0] // s, SIZE[1] // s) for w, s in zip(WIDTHS, STRIDES, strict=True)]


def target(count: int, batch: int = 4, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centre, side = (torch.rand(count, 2, generator=generator) for _ in range(2))
    return {
        "batch_idx": torch.randint(0, batch, (count,), generator=generator).sort().values.float(),
        "cls": torch.randint(0, 3, (count,), generator=generator).float(),
        "bboxes": torch.cat([0.2 + 0.6 * centre, 0.02 + 0.35 * side], 1),
    }


def ultralytics() -> SimpleNamespace:
    """What ultralytics has for these, or a skip."""
    pytest.importorskip("edgemtl_models.yolo", reason="ultralytics is not installed")  # it keeps it offline
    modules, cfg, loss = (
        importlib.import_module(f"ultralytics.{name}") for name in ("nn.modules", "cfg", "utils.loss")
    )
    return SimpleNamespace(cfg=cfg.get_cfg, loss=loss.E2ELoss, **{n: getattr(modules, n) for n in modules.__all__})


def same_weights(ours: nn.Module, others: nn.Module) -> None:
    state = ours.state_dict()
    assert list(state) == list(others.state_dict())  # so that old runs open
    others.load_state_dict(state)


@pytest.mark.parametrize("training", [True, False])
def test_blocks_are_those_of_the_yolo_family(training: bool) -> None:
    library = ultralytics()
    pairs = [
        (Conv(8, 16, 3, 2), library.Conv(8, 16, 3, 2)),
        (CSPBlock(24, 16), library.C3k2(24, 16)),
        (SPPF(32, 16), library.SPPF(32, 16)),
    ]
    for ours, others in pairs:
        same_weights(ours, others)
        x = torch.rand(2, _channels(ours), 12, 16)
        assert torch.equal(ours.train(training)(x), others.train(training)(x))


def _channels(block: nn.Module) -> int:
    return next(m for m in block.modules() if isinstance(m, nn.Conv2d)).in_channels


def detect(library: SimpleNamespace, ours: BoxHead) -> Any:
    other = library.Detect(3, reg_max=ours.reg_max, end2end=True, ch=WIDTHS)
    other.stride = torch.tensor(STRIDES, dtype=torch.float32)
    with suppress(AttributeError):  # in older releases the branches decide it
        other.end2end = True
    same_weights(ours.detect, other)
    return other


@pytest.mark.parametrize("reg_max", [1, 16])
def test_outputs_are_ultralytics_own(reg_max: int) -> None:
    ours = head(reg_max)
    other, maps = detect(ultralytics(), ours), features()
    raw, theirs = ours.train()(maps), other.train()(maps)
    for branch in raw:
        assert all(torch.equal(raw[branch][name], theirs[branch][name]) for name in ("boxes", "scores"))
    ours.eval(), other.eval()
    with torch.no_grad():
        decoded = other._inference(other.forward_head(maps, **other.one2one)).transpose(1, 2)
        assert torch.allclose(ours(maps), decoded, atol=1e-5)


@pytest.mark.parametrize("reg_max", [1, 16])
@pytest.mark.parametrize("seed", range(4))
def test_the_loss_is_ultralytics_own(reg_max: int, seed: int) -> None:
    library, ours = ultralytics(), head(reg_max, seed)
    if tuple(map(int, importlib.metadata.version("ultralytics").split("."))) < (8, 4, 190):
        pytest.skip("losses are compared with those of ultralytics 8.4.190")
    other = detect(library, ours)
    args = library.cfg(overrides={"box": 7.5, "cls": 0.5, "dfl": 1.5, "epochs": 10})
    loss = library.loss(SimpleNamespace(args=args, model=[other], parameters=other.parameters))
    raw, own, wanted = ours.train()(features()), BoxLoss(ours, 10), target(12, seed=seed)
    weights: dict[str, Tensor] = {}
    for name in ("one2many", "one2one"):
        assigner = getattr(loss, name).assigner
        assigner.register_forward_hook(lambda _m, _i, out, name=name: weights.update({name: out[2].sum()}))
    for _ in range(3):
        totals, sums = own(raw, wanted)
        for index, (name, share) in enumerate((("one2many", loss.o2m), ("one2one", loss.o2o))):
            mean = getattr(loss, name).loss(raw[name], wanted)[0].sum() / 4
            assert float(sums[index]) == pytest.approx(float(weights[name]), rel=5e-3)
            assert float(totals[index]) == pytest.approx(float(share * mean * weights[name].clamp(min=1)), rel=5e-3)
        own.advance()
        loss.update()


@pytest.mark.parametrize(
    ("left", "right", "iou"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 10), 1.0),
        ((0, 0, 10, 10), (10, 0, 20, 10), -100 / 500),
        ((0, 0, 10, 10), (5, 0, 15, 10), 1 / 3 - 25 / 325),
        ((0, 0, 20, 10), (5, -5, 15, 15), 100 / 300 - _a * _a / (1 - 1 / 3 + _a))
        if (_a := 4 / math.pi**2 * (math.atan(2) - math.atan(0.5)) ** 2)
        else (),
    ],
)
def test_overlap_less_distance_and_shape(left: tuple[float, ...], right: tuple[float, ...], iou: float) -> None:
    assignment = paired_iou(torch.tensor(left).float(), torch.tensor(right).float())
    assert float(assignment) == pytest.approx(iou, abs=1e-5)


def cells(side: int = 64, stride: int = 8) -> Tensor:
    middle = torch.arange(side // stride) * stride + stride / 2
    return torch.cartesian_prod(middle, middle)


def objects(*boxes: tuple[float, ...], classes: tuple[int, ...] = ()) -> Objects:
    xyxy = torch.tensor(boxes).view(1, -1, 4).float()
    labels = torch.tensor(classes or (0,) * len(boxes)).view(1, -1)
    return Objects(labels, xyxy, torch.ones_like(labels, dtype=torch.bool))


def test_the_best_aligned_cells_are_chosen() -> None:
    """Of 64 cells those within the box, and of them the two whose boxes overlap it most; the best of them is told 1."""
    centres, box = cells(), (8.0, 8.0, 40.0, 40.0)
    predicted = torch.tensor(box).repeat(64, 1)
    inside = ((centres > 8) & (centres < 40)).all(1).nonzero().flatten()
    predicted[:, 0] += 8  # every cell's box is off, but for two
    predicted[inside[3], 0], predicted[inside[5], 0] = 8.0, 9.0
    scores = torch.full((1, 64, 2), 0.25)
    assignment = Assigner(2, 2)(scores, predicted[None], centres, objects(box, classes=(1,)))
    assert assignment.assigned[0].nonzero().flatten().tolist() == [int(inside[3]), int(inside[5])]
    assert assignment.scores[0, :, 0].sum() == 0
    assert float(assignment.scores[0, inside[3], 1]) == pytest.approx(1, abs=1e-3)
    assert float(assignment.scores[0, inside[5], 1]) < 0.95


def test_a_cell_that_two_objects_want_is_of_the_one_that_its_box_overlaps_more() -> None:
    centres, boxes = cells(), ((0.0, 0.0, 64.0, 64.0), (16.0, 16.0, 48.0, 48.0))
    predicted = torch.where(((centres > 24) & (centres < 40)).all(1, keepdim=True), torch.tensor(boxes[1]), 0.0)
    predicted = torch.where(predicted.any(1, keepdim=True), predicted, torch.tensor(boxes[0]))
    assignment = Assigner(64, 64)(torch.full((1, 64, 1), 0.5), predicted[None], centres, objects(*boxes))
    middle = ((centres > 24) & (centres < 40)).all(1)
    assert assignment.assigned.all() and (assignment.xyxy[0, middle] == torch.tensor(boxes[1])).all()
    assert (assignment.xyxy[0, ~middle] == torch.tensor(boxes[0])).all()


def test_an_object_smaller_than_a_cell_has_one() -> None:
    box = (30.0, 30.0, 33.0, 33.0)
    predicted = torch.tensor(box).repeat(64, 1)
    assignment = Assigner(10, 10)(torch.full((1, 64, 1), 0.5), predicted[None], cells(), objects(box))
    assert assignment.assigned.any()


@given(st.integers(0, 12), st.integers(0, 50), st.sampled_from([1, 8]))
@settings(max_examples=8)
def test_one_to_one_is_one_to_one_and_gradients_are_finite(count: int, seed: int, reg_max: int) -> None:
    ours, wanted = head(reg_max, seed), target(count, seed=seed)
    raw = ours.train()(features())
    totals, weights = BoxLoss(ours, 5)(raw, wanted)
    totals.sum().backward()
    assert torch.isfinite(totals).all() and (weights >= 0).all()
    gradients = [p.grad for p in ours.parameters() if p.requires_grad]
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)
    assignment = padded(wanted, 4, torch.tensor([128.0, 96.0]))
    assert assignment.known.sum() == count
    for index in range(4):
        here = wanted["cls"][wanted["batch_idx"] == index]
        assert assignment.classes[index][assignment.known[index]].tolist() == here.tolist()
    scores = raw["one2one"]["scores"].transpose(1, 2).sigmoid().detach()
    assigner = ASSIGNERS["one2one"]
    centres = torch.cat([torch.rand(scores.shape[1], 2) * 96])
    boxes = torch.cat([centres - 20, centres + 20], 1).expand(4, -1, -1)
    assigned = assigner(scores, boxes, centres, assignment).assigned.sum(1)
    assert (assigned <= assignment.known.sum(1)).all()


@pytest.mark.parametrize("reg_max", [1, 16])
@pytest.mark.parametrize("count", [0, 12])
def test_a_loss_in_double_precision_stays_in_it(reg_max: int, count: int) -> None:
    single, double, wanted, maps = head(reg_max), head(reg_max).double(), target(count), features()
    low, weight = BoxLoss(single, 5)(single.train()(maps), wanted)
    high, weight_high = BoxLoss(double, 5)(double.train()([feature.double() for feature in maps]), wanted)
    assert high.dtype == weight_high.dtype == torch.float64 and low.dtype == weight.dtype == torch.float32
    assert torch.allclose(high.float(), low, rtol=1e-4) and torch.allclose(weight_high.float(), weight, rtol=1e-4)


def test_a_distribution_is_told_the_bins_around_a_distance() -> None:
    wanted = torch.tensor([[2.25, 0.0, 30.0, 6.0]])
    shares = torch.full((1, 4, 8), -20.0)
    for side, (below, share) in enumerate(((2, 0.75), (0, 1.0), (6, 0.01), (6, 1.0))):
        shares[0, side, below] = math.log(max(share, 1e-9))
        shares[0, side, below + 1] = math.log(max(1 - share, 1e-9))
    best = distribution_loss(shares, wanted)
    entropy = [-(s * math.log(s) + (1 - s) * math.log(1 - s)) if 0 < s < 1 else 0.0 for s in (0.75, 1.0, 0.01, 1.0)]
    assert best[0].tolist() == pytest.approx(entropy, abs=2e-2)


def test_the_weight_moves_to_the_branch_that_is_deployed() -> None:
    loss = BoxLoss(head(), 5)
    shares = []
    for _ in range(7):
        shares.append(loss.share_of_many)
        loss.advance()
    assert shares == pytest.approx([0.8, 0.625, 0.45, 0.275, 0.1, 0.1, 0.1])


def test_importing_ultralytics_leaves_torch_as_it_was() -> None:
    ultralytics()
    assert torch.save.__module__ == "torch.serialization"
    assert isinstance(nn.Module(), nn.Module) and os.environ["YOLO_OFFLINE"] == "1"
