"""Metrics from matched boxes: COCO's AP50, bootstrap intervals, and the log-average miss rate."""

from __future__ import annotations

import numpy as np
import pytest

from edgemtl.data.sample import BoxLabels, Sample
from edgemtl.tasks.boxes import BoxMetric
from edgemtl.tasks.matches import ClassMatches, Matches, bootstrap_interval, match
from edgemtl_runtime.result import Boxes

NAMES = ("a", "b", "c")


def boxes_and_labels(rng: np.random.Generator, missing: int = -1, ties: bool = True) -> tuple[Boxes, BoxLabels]:
    """Objects, and boxes that match some of them more or less, twice, or as another class; and stray boxes."""
    count = int(rng.integers(0, 9))
    corner = rng.uniform(0, 80, (count, 2))
    objects = np.hstack([corner, corner + rng.uniform(6, 40, (count, 2))]).astype(np.float32)
    classes = rng.integers(0, 3, count)
    kept = classes != missing
    objects, classes = objects[kept], classes[kept]
    counts = rng.integers(0, 3, len(objects))
    near = np.repeat(objects, counts, 0)
    class_ids = np.where(rng.random(len(near)) < 0.8, np.repeat(classes, counts), rng.integers(0, 3, len(near)))
    near = near + rng.normal(0, 3, near.shape)
    near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
    stray = rng.uniform(0, 60, (int(rng.integers(0, 5)), 2))
    boxes = np.vstack([near.reshape(-1, 4), np.hstack([stray, stray + 20])]).astype(np.float32)
    class_ids = np.concatenate([class_ids, rng.integers(0, 3, len(stray))]).astype(np.int64)
    scores = rng.random(len(boxes)).astype(np.float32)
    scores = np.round(scores, 1) if ties else scores
    order = np.argsort(-scores, kind="stable")
    return Boxes(boxes[order], scores[order], class_ids[order], NAMES), BoxLabels(objects, classes.astype(np.int64))


@pytest.mark.parametrize("seed", range(12))
def test_matched_boxes_give_cocos_ap50(seed: int) -> None:
    rng = np.random.default_rng(seed)
    metric = BoxMetric(NAMES)
    blank = np.zeros((128, 128, 3), np.uint8)
    for _ in range(15):
        boxes, labels = boxes_and_labels(rng, missing=2 if seed % 3 == 0 else -1)
        metric.update(boxes, Sample({"rgb": blank}, {"boxes": labels}))
    figures = metric.compute()
    once = np.ones(15, np.int64)
    by_class = metric.matches.by_class()
    for name, one in zip(NAMES, by_class, strict=True):
        if one.objects.any():
            assert one.ap50(once) == pytest.approx(figures[f"ap50_{name}"], abs=1e-9)
        else:
            assert np.isnan(one.ap50(once)) and f"miss_rate_{name}" not in figures
    assert figures["ap50_low"] <= figures["ap50"] <= figures["ap50_high"]


def test_an_image_drawn_twice_counts_as_two() -> None:
    rng = np.random.default_rng(3)
    images = [boxes_and_labels(rng, ties=False) for _ in range(6)]
    times = np.array([0, 2, 1, 3, 0, 1])
    once, drawn = Matches(3), Matches(3)
    for (boxes, labels), count in zip(images, times, strict=True):
        once.update(boxes, labels)
        for _ in range(count):
            drawn.update(boxes, labels)
    for weighted, repeated in zip(once.by_class(), drawn.by_class(), strict=True):
        assert weighted.ap50(times) == pytest.approx(repeated.ap50(np.ones(times.sum(), np.int64)))


def test_a_box_is_right_once_and_takes_the_nearest_object_left() -> None:
    assert match(np.array([[0.9, 0.6], [0.8, 0.55], [0.7, 0.6]])).tolist() == [True, True, False]
    assert match(np.array([[0.49, 0.5]])).tolist() == [True]
    assert match(np.zeros((2, 0))).tolist() == [False, False]


def test_the_miss_rate_by_hand() -> None:
    """Ten images, four objects: matched are one at no false positive, another at 0.1 an image, a third at 0.5."""
    objects = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    right = np.array([1, 0, 1, 0, 0, 0, 0, 1], bool)
    matches = ClassMatches(right, np.zeros(8, np.int64), objects)
    rates = [0.75] * 4 + [0.5] * 3 + [0.25] * 2  # 0.01 to 0.056; 0.1 to 0.316; 0.562 and 1
    assert matches.miss_rate() == pytest.approx(np.exp(np.log(rates).mean()))
    assert ClassMatches(np.ones(4, bool), np.zeros(4, np.int64), objects).miss_rate() < 1e-9
    assert ClassMatches(np.zeros(0, bool), np.zeros(0, np.int64), objects).miss_rate() == 1


def test_an_interval_holds_its_share_of_the_metrics_of_other_images() -> None:
    """Of 200 samples of 40 images, the 90 % interval of each holds the AP50 of very many about nine times in ten."""
    rng = np.random.default_rng(0)

    def drawn(count: int) -> ClassMatches:
        sure = rng.random(count)
        right = rng.random(count) < sure
        order = np.argsort(-sure)
        return ClassMatches(right[order], np.arange(count)[order], np.ones(count, np.int64))

    truth = drawn(200_000).ap50(np.ones(200_000, np.int64))
    inside = [low <= truth <= high for low, high in (bootstrap_interval([drawn(40)], seed=s) for s in range(200))]
    assert 0.8 < np.mean(inside) < 0.97
