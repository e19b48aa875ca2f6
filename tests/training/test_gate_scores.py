"""What an export's accuracy gate is given: a score for each head that has labels, and how many these are."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgemtl.data.sample import BoxLabels, Sample
from edgemtl.gate_scores import CountedDataset, count_objects, scorer
from edgemtl_runtime.bundle import Head, Input

INPUTS = (Input("rgb", 32, 32, 3, (0.5,) * 3, (0.25,) * 3),)
HEADS = (
    Head("boxes", "boxes", "topk_boxes", ("car",)),
    Head("semantic", "semantic", "label_map", ("road", "sky")),
)


class Samples:
    """Images with ``count`` objects each; every second one has a label map too."""

    modalities = ("rgb",)

    def __init__(self, count: int, **classes: tuple[str, ...]) -> None:
        self.count, self.classes = count, classes

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Sample:
        xyxy = np.array([[2, 2, 20, 20]] * self.count, np.float32).reshape(-1, 4)
        labels: Any = {"boxes": BoxLabels(xyxy, np.zeros(self.count, np.int64))}
        if index % 2:
            labels["semantic"] = np.zeros((32, 32), np.uint8)
        wanted = {task: label for task, label in labels.items() if task in self.classes}
        return Sample({"rgb": np.zeros((32, 32, 3), np.uint8)}, wanted)

    def is_day(self, index: int) -> bool | None:
        return None


def network(frame: dict[str, Any]) -> dict[str, Any]:
    boxes = np.array([[[2, 2, 20, 20, 0.9, 0]]], np.float32)
    return {"boxes": boxes, "semantic": np.zeros((1, 32, 32), np.uint8)}


CLASSES = {head.name: head.classes for head in HEADS}


@pytest.mark.fault("L10")
@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (Samples(1, **CLASSES), {"boxes": (4, 4), "semantic": (2, None)}),
        (Samples(3, boxes=("car",)), {"boxes": (4, 12)}),
        (Samples(0, **CLASSES), {"semantic": (2, None)}),
        (Samples(1), {}),
    ],
)
def test_each_head_with_labels_has_a_score_and_their_number(samples: Samples, expected: dict[str, Any]) -> None:
    """Also where a split labels nothing, or has no object: such a head has no score, and nothing fails."""
    run: Any = SimpleNamespace(interface=SimpleNamespace(inputs=INPUTS))
    score = scorer(run.interface.inputs, HEADS, samples)
    for _ in range(2):  # a sample that is read twice counts once
        assert {name: (one.images, one.objects) for name, one in score(network).items()} == expected


def test_labels_are_counted_by_their_kind() -> None:
    assert count_objects(np.array([1, 0, np.nan], np.float32)) == 2
    assert count_objects(np.zeros((2, 2))) is None
    counted = CountedDataset(Samples(2, **CLASSES))
    assert counted[1].labels.keys() == CLASSES.keys() and counted.labels_of("boxes") == (1, 2)
