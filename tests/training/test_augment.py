"""Geometry moves both views and the targets together; colour jitter changes each view by itself."""

from __future__ import annotations

import multiprocessing
import threading
import time
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgemtl.config import Augment, Config, Data
from edgemtl.data.augment import Augmenter, to_item
from edgemtl.data.batch import Batch, Item, mosaic
from edgemtl.data.box_targets import BatchBoxTarget, BoxTarget
from edgemtl.data.datasets import THREADS
from edgemtl.data.geometry import Affine, Geometry, HorizontalFlip, ResizedCrop
from edgemtl.data.image_ops import adjust_colour
from edgemtl.data.loader import Batches, Loader, collate
from edgemtl.data.sample import IGNORE, BoxLabels, Sample
from edgemtl.data.targets import ClassMapTarget, DenseTarget, NormalTarget
from edgemtl.errors import ConfigError, DataError
from edgemtl.synthetic.streets import Streets
from edgemtl.tasks import TASKS
from edgemtl_runtime.bundle import Input

SIZE = (96, 128)
INPUTS = {
    "rgb": Input("rgb", *SIZE, 3, (0.0,) * 3, (1.0,) * 3, "rgb"),
    "ir": Input("ir", *SIZE, 1, (0.0,), (1.0,), "ir"),
}
TARGETS = {name: task(Streets.classes[name]).target_type for name, task in TASKS.items()}
STILL = Augment(mosaic=0, flip=False, translate=0, scale=0, brightness=0, contrast=0, saturation=0, hue=0)


def marked(x0: int = 40, y0: int = 30, x1: int = 72, y1: int = 62) -> Sample:
    """A white rectangle on black in both views, its box, and its class in the label map."""
    rgb, ir, semantic = np.zeros((*SIZE, 3), np.uint8), np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    for image in (rgb, ir):
        image[y0:y1, x0:x1] = 255
    semantic[y0:y1, x0:x1] = 1
    boxes = BoxLabels(np.array([[x0, y0, x1, y1]], np.float32), np.zeros(1, np.int64))
    return Sample({"rgb": rgb, "ir": ir}, {"boxes": boxes, "semantic": semantic})


def extent(mask: torch.Tensor) -> list[int]:
    ys, xs = torch.nonzero(mask, as_tuple=True)
    return [int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1]


def dense(item: Item, task: str) -> torch.Tensor:
    target = item.targets[task]
    assert isinstance(target, DenseTarget)
    return target.values


def semantic_of(item: Item) -> torch.Tensor:
    return dense(item, "semantic")


def boxes_of(item: Item) -> torch.Tensor:
    target = item.targets["boxes"]
    assert isinstance(target, BoxTarget)
    return target.xyxy


def tensors_of(batch: Batch) -> dict[str, torch.Tensor]:
    targets = {f"{task}.{k}": t for task, target in batch.targets.items() for k, t in target.tensors().items()}
    return {**batch.images, **targets}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def same(left: Batch, right: Batch) -> bool:
    one, other = tensors_of(left), tensors_of(right)
    equal = all(torch.equal(tensor.nan_to_num(-1), other[name].nan_to_num(-1)) for name, tensor in one.items())
    return one.keys() == other.keys() and equal


@pytest.mark.parametrize("seed", range(12))
def test_everything_moves_together(seed: int) -> None:
    moving = Augmenter(Augment(brightness=0, contrast=0, saturation=0, hue=0, scale=0.4, translate=0.2), INPUTS)
    item = to_item(marked(), INPUTS, TARGETS)
    out = moving(item, [to_item(marked(), INPUTS, TARGETS)] * 3 if seed % 2 else [], seeded(seed))
    boxes = boxes_of(out)
    rgb, ir, labels = out.images["rgb"][0] > 190, out.images["ir"][0] > 190, semantic_of(out) == 1
    assert torch.equal(rgb, ir)
    assert (rgb & labels).sum() >= 0.85 * (rgb | labels).sum()
    if not seed % 2 and len(boxes):
        assert np.allclose(extent(labels), boxes[0].tolist(), atol=2.5)
    for x0, y0, x1, y1 in boxes.tolist():
        assert 0 <= x0 < x1 <= SIZE[1] and 0 <= y0 < y1 <= SIZE[0]
        inside = labels[round(y0) : round(y1), round(x0) : round(x1)]
        assert inside.float().mean() > 0.8


def test_colour_jitter_changes_each_view_by_itself() -> None:
    item = to_item(Streets(1, SIZE, 3)[0], INPUTS, TARGETS)
    light = Augmenter(Augment(mosaic=0, flip=False, translate=0, scale=0), INPUTS)
    out = light(item, [], seeded(1))
    assert torch.equal(boxes_of(out), boxes_of(item)) and torch.equal(semantic_of(out), semantic_of(item))
    ratios = [out.images[name].float().mean() / item.images[name].float().mean() for name in INPUTS]
    assert abs(ratios[0] - ratios[1]) > 1e-3


def test_nothing_moves_when_nothing_is_asked_for() -> None:
    item = to_item(marked(), INPUTS, TARGETS)
    out = Augmenter(STILL, INPUTS)(item, [], seeded(0))
    assert all(torch.equal(out.images[name], image) for name, image in item.images.items())
    for task, target in item.targets.items():
        assert all(torch.equal(out.targets[task].tensors()[key], tensor) for key, tensor in target.tensors().items())


def test_a_box_that_is_almost_cut_off_is_dropped() -> None:
    far, generator = Augmenter(Augment(**{**_settings(STILL), "translate": 0.9}), INPUTS), seeded(0)
    for _ in range(40):
        out = far(to_item(marked(), INPUTS, TARGETS), [], generator)
        visible_px = int((semantic_of(out) == 1).sum())
        assert len(boxes_of(out)) == (visible_px >= 0.3 * 32 * 32) or abs(visible_px - 0.3 * 32 * 32) < 40


def test_a_mosaic_holds_four_images_and_their_boxes() -> None:
    items = [to_item(marked(x, 30, x + 20, 50), INPUTS, TARGETS) for x in (10, 30, 50, 70)]
    whole = mosaic(items, SIZE)
    assert whole.images["rgb"].shape == (3, 192, 256) and len(boxes_of(whole)) == 4
    assert boxes_of(whole).tolist()[3] == [70 + 128, 30 + 96, 90 + 128, 50 + 96]


def test_letterboxed_labels_have_ignored_padding() -> None:
    sample = marked()
    tall = {name: Input(name, 128, 128, spec.channels, spec.mean, spec.std, name) for name, spec in INPUTS.items()}
    item = to_item(sample, tall, TARGETS)
    assert (semantic_of(item)[96:] == IGNORE).all() and (item.images["rgb"][:, 96:] == 114).all()


def batches_of(samples: Streets, steps: int, batch: int = 3, **data: Any) -> Batches:
    return Batches(samples, Config(input_size=SIZE, batch_size=batch, data=Data(**data)), INPUTS, TARGETS, steps)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_depends_on_the_seed_and_the_step_alone(workers: int) -> None:
    """Whoever prepares it, whatever was drawn before, with or without memory for what was read."""
    torch.manual_seed(5)
    whole = list(Loader(batches_of(Streets(8, SIZE, 0), 4)))
    torch.manual_seed(6)
    rest = list(Loader(batches_of(Streets(8, SIZE, 0), 4, cache_mb=0), start=2, workers=workers))
    assert len(rest) == 2
    for left, right in zip(whole[2:], rest, strict=True):
        assert same(left, right)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_the_loader_reaches_the_training(workers: int) -> None:
    class Broken(Streets):
        def __getitem__(self, index: int) -> Sample:
            raise DataError("disk gone")

    with pytest.raises(DataError, match="disk gone") as kept:
        list(Loader(batches_of(Broken(4, SIZE, 0), 2), workers=workers))
    assert not multiprocessing.active_children() and kept  # whoever keeps the error


@pytest.mark.parametrize("workers", [0, 2])
def test_leaving_the_loader_early_ends_what_prepares(workers: int) -> None:
    batches = iter(Loader(batches_of(Streets(8, SIZE, 0), 1000, 2), workers=workers))
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 60
    while any(t.name == "loader" for t in threading.enumerate()) or multiprocessing.active_children():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_memory_for_what_was_read_is_bounded() -> None:
    item_bytes = to_item(Streets(8, SIZE, 0)[0], INPUTS, TARGETS).nbytes
    all_of_them, some = batches_of(Streets(8, SIZE, 0), 4), batches_of(Streets(8, SIZE, 0), 4)
    some.cache.budget = 3 * item_bytes + item_bytes // 2
    for batches in (all_of_them, some):
        batches.fill()
    assert len(all_of_them.cache.items) == 8 and 2 <= len(some.cache.items) <= 3


@pytest.mark.fault("D10")
def test_filling_stops_where_nothing_more_fits() -> None:
    """Of 400 samples 3 fit: what is decoded for nothing is what was being read then."""
    read: list[int] = []

    class Counted(Streets):
        def __getitem__(self, index: int) -> Sample:
            read.append(index)
            return super().__getitem__(0)

    batches = batches_of(Counted(400, SIZE, 0), 4)
    batches.cache.budget = 3 * to_item(Streets(1, SIZE, 0)[0], INPUTS, TARGETS).nbytes + 1
    batches.fill()
    assert set(batches.cache.items) == {0, 1, 2} and len(read) <= 4 + THREADS
    batches[0]
    assert set(batches.cache.items) == {0, 1, 2}  # it stays what it is: workers that are forked share it


def test_time_spent_waiting_is_measured() -> None:
    class Slow(Streets):
        def __getitem__(self, index: int) -> Sample:
            time.sleep(0.02)
            return super().__getitem__(index)

    loader = Loader(batches_of(Slow(40, SIZE, 0), 4, 10, cache_mb=0))
    batches = iter(loader)
    next(batches)  # its time is that of the threads' start, which is not counted
    begun = time.monotonic()
    list(batches)
    assert 0.5 * (time.monotonic() - begun) < loader.waited_s < time.monotonic() - begun


def test_targets_are_normalised_and_counted() -> None:
    empty = Sample(marked().images, {"boxes": BoxLabels(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))})
    batch = collate([to_item(sample, INPUTS, TARGETS) for sample in (marked(), empty)], INPUTS, TARGETS)
    boxes, semantic = batch.target("boxes", BatchBoxTarget), batch.target("semantic", ClassMapTarget)
    assert boxes is not None and semantic is not None
    assert boxes.cxcywh.tolist() == [[pytest.approx(v) for v in (56 / 128, 46 / 96, 32 / 128, 32 / 96)]]
    assert boxes.image_index.tolist() == [0.0] and batch.images["rgb"].shape == (2, 3, *SIZE)
    assert batch.images["rgb"].max() == 1 and (semantic.values[1] == IGNORE).all()
    assert boxes.labelled.all() and not {"depth", "normals", "edges", "attributes"} & set(batch.targets)


def test_an_image_without_box_labels_is_not_an_image_without_objects() -> None:
    unlabelled = Sample(marked().images, {})
    batch = collate([to_item(sample, INPUTS, TARGETS) for sample in (unlabelled, marked())], INPUTS, TARGETS)
    boxes = batch.target("boxes", BatchBoxTarget)
    assert boxes is not None and boxes.labelled.tolist() == [False, True] and boxes.image_index.tolist() == [1.0]
    assert "boxes" not in mosaic([to_item(s, INPUTS, TARGETS) for s in (unlabelled, *[marked()] * 3)], SIZE).targets


def test_geometry_changes_depths_and_normals() -> None:
    """Mirrored surfaces face the other side, rotated ones turn, and what is enlarged is nearer."""
    sample = Streets(1, SIZE, 3)[0]
    item = to_item(sample, INPUTS, TARGETS)
    other = item.transform(HorizontalFlip(SIZE), 0.0)
    flipped = dense(item, "normals").flip(-1) * torch.tensor([-1.0, 1, 1]).view(3, 1, 1)
    assert torch.equal(dense(other, "normals"), flipped)
    assert torch.equal(dense(other, "depth"), dense(item, "depth").flip(-1))
    large = Augmenter(Augment(**{**_settings(STILL), "scale": 0.5}), INPUTS)
    scale = 1 + 0.5 * float(2 * torch.rand(4, dtype=torch.float64, generator=seeded(0))[3] - 1)
    moved = large.random_affine(item, seeded(0))
    middle = (SIZE[0] // 2, SIZE[1] // 2)
    nearer = float(dense(item, "depth")[middle]) / scale
    assert scale != 1 and float(dense(moved, "depth")[middle]) == pytest.approx(nearer, rel=0.05)
    upright = torch.zeros(3, 4, 4)
    upright[0] = 1
    turned = NormalTarget(upright).transform(Affine((4, 4), 90))  # clockwise: what faced right faces down
    assert torch.allclose(turned.values[:, 0, 0], torch.tensor([0.0, 1.0, 0.0]), atol=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_a_turned_box_holds_what_it_held(seed: int) -> None:
    """Its hull is that of the turned rectangle, to a pixel; a quarter clockwise takes right to down."""
    turning = Augmenter(Augment(**{**_settings(STILL), "rotate_deg": 180.0, "scale": 0.2}), INPUTS)
    out = turning.random_affine(to_item(marked(50, 40, 74, 60), INPUTS, TARGETS), seeded(seed))
    assert np.allclose(extent(semantic_of(out) == 1), boxes_of(out)[0].tolist(), atol=1.5)
    shifted = Affine((5, 5), shift_px=(1, 0)).resample(torch.eye(5, dtype=torch.uint8), 0, True)
    assert torch.equal(shifted[0], torch.eye(5)[0].roll(1))
    row = torch.zeros(5, 5)
    row[2, 4] = 1
    assert Affine((5, 5), 90).resample(row, 0, interpolate=False)[4, 2] == 1


MAPS: dict[str, tuple[Geometry, float, float]] = {
    "shift": (Affine(SIZE, shift_px=(7, -5)), 0.5, 0.5),
    "zoom": (Affine(SIZE, zoom=1.37), 0.5, 0.5),
    "half a turn": (Affine(SIZE, rotation_deg=180), 0.5, 0.5),
    "quarter of a turn": (Affine(SIZE, rotation_deg=-90), 0.5, 0.5),
    "any turn": (
        Affine(SIZE, rotation_deg=23, shift_px=(3, 4), zoom=0.9),
        1.5,
        1.5,
    ),  # of a hull only corners are drawn
    "flip": (HorizontalFlip(SIZE), 0.5, 0.5),
    "crop": (ResizedCrop(10, 24, (72, 96), SIZE), 0.5, 1.0),  # torch's nearest pixel is the one left of and above it
    "enlarged crop": (ResizedCrop(25, 36, (48, 64), SIZE), 0.5, 0.5),
}


@pytest.mark.parametrize("name", MAPS)
def test_corners_of_a_box_and_its_mask_move_together_to_half_a_pixel(name: str) -> None:
    """One convention: boxes are positions in the plane, pixels are squares in it."""
    geometry, image_px, mask_px = MAPS[name]
    item = to_item(marked(40, 30, 72, 62), INPUTS, TARGETS).transform(geometry, 0.0)
    hull, mask = np.array(boxes_of(item)[0].tolist()), semantic_of(item) == 1
    assert np.abs(hull - extent(mask)).max() <= mask_px + 1e-4
    assert np.abs(hull - extent(item.images["rgb"][0] > 127)).max() <= image_px + 1e-4
    ys, xs = torch.nonzero(mask, as_tuple=True)
    centre = np.array([float(xs.double().mean()), float(ys.double().mean())]) + 0.5
    assert np.abs(centre - (hull[:2] + hull[2:]) / 2).max() <= 0.5 + 1e-4


@settings(max_examples=60, deadline=None)
@given(zoom=st.floats(0.6, 1.5), right=st.floats(-9, 9), down=st.floats(-9, 9), is_mirrored=st.booleans())
def test_upright_maps_keep_a_box_on_its_mask(zoom: float, right: float, down: float, is_mirrored: bool) -> None:
    """The law above for any zoom and shift, up to the fixed-point arithmetic of OpenCV."""
    item = to_item(marked(44, 36, 76, 60), INPUTS, TARGETS).transform(Affine(SIZE, 0, (right, down), zoom), 0.0)
    item = item.transform(HorizontalFlip(SIZE), 0.0) if is_mirrored else item
    hull = np.array(boxes_of(item)[0].tolist())
    assert np.abs(hull - extent(semantic_of(item) == 1)).max() <= 0.5 + 1 / 16


def test_colour_adjustment_is_one_affine_map() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(60, 180, (3, 8, 8), generator=generator, dtype=torch.uint8)
    wide = image.double()
    luma = (wide * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(0)
    assert torch.equal(adjust_colour(image, 1, 1), image)
    assert (adjust_colour(image, 1.2, 1).double() - 1.2 * wide).abs().max() <= 0.51
    assert (adjust_colour(image, 1, 0.5).double() - (0.5 * wide + 0.5 * luma.mean())).abs().max() <= 0.51
    assert (adjust_colour(image, 1, 1, 0).double() - luma).abs().max() <= 0.51
    turned = adjust_colour(image, 1, 1, 1, 0.05).double()
    assert (turned - wide).abs().max() > 2 and turned.mean((1, 2)) == pytest.approx(wide.mean((1, 2)), abs=20)
    grey = torch.full((3, 4, 4), 90, dtype=torch.uint8)
    assert torch.equal(adjust_colour(grey, 1, 0.3, 0.2, 0.4), grey)
    assert (adjust_colour(image[:1], 0.8, 1).double() - 0.8 * wide[:1]).abs().max() <= 0.51


def test_what_a_transform_uncovers_is_not_valid() -> None:
    item = to_item(Streets(1, SIZE, 3)[0], INPUTS, TARGETS)
    far = Augmenter(Augment(**{**_settings(STILL), "translate": 0.9}), INPUTS)(item, [], seeded(3))
    outside = semantic_of(far) == IGNORE
    assert outside.any() and (dense(far, "edges")[outside] == IGNORE).all()
    assert (dense(far, "depth")[outside] == 0).all() and (dense(far, "normals")[:, outside] == 0).all()
    for task in ("semantic", "edges", "depth", "normals"):
        target = far.targets[task]
        assert isinstance(target, DenseTarget) and not target.valid[outside].any()


def _settings(augment: Augment) -> dict[str, object]:
    return {name: getattr(augment, name) for name in augment.__struct_fields__}


class Lit(Streets):
    """Streets of which only every fourth is by day, and what is known of the last one is nothing."""

    def is_day(self, index: int) -> bool | None:
        return None if index == len(self) - 1 else index % 4 == 0


def test_day_and_night_take_equal_parts() -> None:
    config = Config(input_size=SIZE, tasks=("semantic",), batch_size=6, data=Data(balance_light=True))
    batches = Batches(Lit(21, SIZE, 0), config, INPUTS, {"semantic": TARGETS["semantic"]}, 40)
    taken: dict[bool, list[int]] = {True: [], False: []}
    for position in range(40 * 6):
        rank, members = batches._pool(position)
        assert set(members) == {i for i in range(21) if Lit(21, SIZE, 0).is_day(i) is not bool(position % 2)}
        taken[position % 2 == 0].append(members[rank % len(members)])
    assert len(taken[True]) == len(taken[False]) == 120
    assert set(taken[True]) == {0, 4, 8, 12, 16, 20} and len(set(taken[False])) == 16
    assert set(batches[3].images) == {"rgb", "ir"} and set(batches[3].targets) == {"semantic"}


def test_light_that_is_not_known_cannot_be_balanced() -> None:
    class Dark(Streets):
        def is_day(self, index: int) -> bool | None:
            return None

    config = Config(input_size=SIZE, tasks=("semantic",), data=Data(balance_light=True))
    with pytest.raises(ConfigError, match="by day, and by night"):
        Batches(Dark(4, SIZE, 0), config, INPUTS, {"semantic": TARGETS["semantic"]}, 4)
