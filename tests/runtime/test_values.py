"""Value types are checked when they are made."""

from __future__ import annotations

import numpy as np
import pytest

from edgemtl_runtime.frame import Frame
from edgemtl_runtime.result import Boxes, LabelMap


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.float32),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.uint16),
        np.zeros((0, 4), np.uint8),
        np.zeros(4, np.uint8),
    ],
)
def test_a_frame_is_bytes_of_a_known_form(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="a frame is"):
        Frame(image, 0, "rgb", 0)


def test_a_stamp_may_lie_before_the_machine_s_start() -> None:
    """A recording is older than the monotonic clock that it is played on."""
    assert Frame(np.zeros((4, 4), np.uint8), -1, "rgb", 0).stamp_ns == -1


@pytest.mark.parametrize("stamp", [1.5, np.float64(2e9), "3", None])
def test_a_stamp_is_in_whole_nanoseconds(stamp: object) -> None:
    image = np.zeros((4, 4), np.uint8)
    assert Frame(image, np.int64(5), "rgb", 0).stamp_ns == 5
    with pytest.raises(ValueError, match="stamp_ns is whole nanoseconds, not"):
        Frame(image, stamp, "rgb", 0)  # type: ignore[arg-type]


def test_boxes_agree_with_each_other() -> None:
    one = np.ones(1, np.float32)
    with pytest.raises(ValueError, match="disagree"):
        Boxes(np.zeros((2, 4), np.float32), one, np.zeros(1, np.int64), ("a",))
    with pytest.raises(ValueError, match="class id"):
        Boxes(np.zeros((1, 4), np.float32), one, np.ones(1, np.int64), ("a",))


def test_a_label_map_is_bytes() -> None:
    with pytest.raises(ValueError, match="label map"):
        LabelMap(np.zeros((2, 2), np.int64), ("a",))
    shares = LabelMap(np.array([[0, 1], [1, 1]], np.uint8), ("a", "b")).to_dict()
    assert shares == {"share": {"a": 0.25, "b": 0.75}}
