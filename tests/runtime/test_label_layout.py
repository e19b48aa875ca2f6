"""Labels of boxes: none covers another, whatever the boxes are; those without room are counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from web_page import sample

from edgemtl_runtime.draw import camera_panel, canvas
from edgemtl_runtime.draw.label_layout import Rectangle, place_labels
from edgemtl_runtime.draw.overlays import box_label, draw_boxes
from edgemtl_runtime.draw.text import label_size, text_size
from edgemtl_runtime.result import Boxes

pytestmark = pytest.mark.fault("C4")
side = st.integers(-20, 420)
box = st.tuples(side, side, st.integers(0, 200), st.integers(0, 200)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
size = st.tuples(st.integers(1, 180), st.integers(1, 24))


def overlap(one: Rectangle, other: Rectangle) -> bool:
    """Whether two areas have a pixel in common."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


@settings(max_examples=60)
@given(
    st.lists(st.tuples(box, size), max_size=25), st.lists(box, max_size=4), st.integers(40, 400), st.integers(40, 400)
)
def test_no_label_covers_another(
    labels: list[tuple[Rectangle, tuple[int, int]]], reserved: list[Rectangle], height: int, width: int
) -> None:
    boxes, sizes = [b for b, _ in labels], [[s, (max(1, s[0] // 2), s[1])] for _, s in labels]
    placed = place_labels(boxes, sizes, (height, width), reserved)
    areas = [label.rectangle for label in placed]
    for index, (x0, y0, x1, y1) in enumerate(areas):
        assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
        assert not any(overlap(areas[index], other) for other in [*areas[:index], *reserved])
        label = placed[index]
        assert (x1 - x0, y1 - y0) == sizes[label.index][label.variant]
    assert placed == place_labels(boxes, sizes, (height, width), reserved)
    assert [label.index for label in placed] == sorted({label.index for label in placed})  # best first, each once


def crowd(count: int, names: tuple[str, ...] = ("person", "bicycle", "car"), seed: int = 0) -> Boxes:
    """Return boxes around the middle of an image of 640x480 pixels, where they overlap."""
    rng = np.random.default_rng(seed)
    centre, half = rng.normal((320, 240), (120, 40), (count, 2)), rng.uniform(8, 50, (count, 2))
    xyxy = np.hstack([centre - half, centre + half]).astype(np.float32)
    scores = np.linspace(0.99, 0.3, count, dtype=np.float32)
    return Boxes(xyxy, scores, rng.integers(0, len(names), count), names)


@pytest.mark.parametrize("shape", [(480, 640), (64, 64), (1080, 1920)])
@pytest.mark.parametrize(
    "names", [("person", "bicycle"), ("articulated lorry with a trailer", "行人")], ids=["short", "long"]
)
def test_twenty_objects_are_all_labelled(shape: tuple[int, int], names: tuple[str, ...]) -> None:
    pair, result = sample(size=shape)
    layout = canvas(pair, result)
    boxes = crowd(20, names)
    boxes = replace(boxes, xyxy=boxes.xyxy * np.float32(shape[1] / 640))
    areas = draw_boxes(np.zeros((layout.height, layout.width, 3), np.uint8), boxes, layout)
    assert len(areas) == 20
    assert not any(overlap(one, other) for i, one in enumerate(areas) for other in areas[:i])


def test_labels_without_room_are_counted_where_no_label_is() -> None:
    pair, result = sample(size=(240, 320))
    layout = canvas(pair, result)
    panel = np.zeros((layout.height, layout.width, 3), np.uint8)
    boxes = crowd(300)
    areas = draw_boxes(panel, replace(boxes, xyxy=boxes.xyxy / 2), layout)
    assert 30 < len(areas) < 300
    width, height = label_size(f"{300 - len(areas)} more without a label", layout.text)
    note = (layout.width - width, layout.height - height, layout.width, layout.height)
    assert not any(overlap(area, note) for area in areas)
    assert panel[note[1] :, note[0] :].max() == 255  # white, which no class is


def test_attributes_and_labels_of_boxes_do_not_cover_each_other() -> None:
    pair, result = sample(size=(480, 640))
    result.heads["boxes"] = replace(crowd(1), xyxy=np.array([[2, 2, 90, 90]], np.float32))
    with_both = camera_panel(pair, result, "rgb", {"boxes", "attributes"})
    alone = camera_panel(pair, result, "rgb", {"attributes"})
    width, height = label_size("day 0.90", canvas(pair, result).text)
    assert np.array_equal(with_both[5:height, 5:width], alone[5:height, 5:width])


def test_a_long_name_is_cut_off_and_its_score_is_kept() -> None:
    boxes = crowd(1, ("articulated lorry with a trailer and a crane",))
    text = box_label(boxes, 0, 0.4, 150)
    assert text.endswith("… 0.99") and text.startswith("articulated") and text_size(text, 0.4)[0] <= 150
    assert box_label(boxes, 0, 0.4, 1000, scores=False) == boxes.names[0]
