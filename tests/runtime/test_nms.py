"""Suppression of overlapping boxes by class, against torchvision's."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torchvision.ops import batched_nms

from edgemtl_runtime.bundle import Head
from edgemtl_runtime.decode import decode
from edgemtl_runtime.letterbox import Letterbox
from edgemtl_runtime.nms import suppress
from edgemtl_runtime.result import Boxes


def boxes(seed: int, count: int, classes: int) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 60, (count, 2))
    xyxy = np.hstack([low, low + rng.uniform(0.0, 50, (count, 2))]).astype(np.float32)
    scores = rng.permutation(count).astype(np.float32) / max(count, 1)
    return xyxy, scores, rng.integers(0, classes, count)


@given(st.integers(0, 10_000), st.integers(0, 60), st.integers(1, 4), st.floats(0.05, 0.95))
def test_what_stays_is_what_torchvision_keeps(seed: int, count: int, classes: int, iou: float) -> None:
    xyxy, scores, ids = boxes(seed, count, classes)
    wanted = batched_nms(torch.from_numpy(xyxy), torch.from_numpy(scores), torch.from_numpy(ids), iou).tolist()
    assert suppress(xyxy, scores, ids, iou, 1000).tolist() == wanted
    assert suppress(xyxy, scores, ids, iou, 3).tolist() == wanted[:3]


def test_a_head_is_decoded_by_its_own_iou_and_threshold() -> None:
    rows = np.array(
        [[0, 0, 20, 20, 0.9, 0], [1, 0, 21, 20, 0.8, 0], [1, 0, 21, 20, 0.7, 1], [40, 40, 50, 50, 0.1, 0]], np.float32
    )
    letterbox = Letterbox.plan((128, 128), (64, 64))

    def decoded(**options: float) -> Boxes:
        head = Head("boxes", "boxes", "nms_boxes", ("a", "b"), **options)  # type: ignore[arg-type]
        result = decode({"boxes": rows}, (head,), letterbox)["boxes"]
        assert isinstance(result, Boxes)
        return result

    kept = decoded()
    assert kept.scores.tolist() == np.float32([0.9, 0.7]).tolist() and kept.classes.tolist() == [0, 1]
    assert kept.xyxy[0].tolist() == [0, 0, 40, 40]  # camera pixels
    assert len(decoded(nms_iou=0.95)) == 3
    assert len(decoded(threshold=0.0)) == 3
