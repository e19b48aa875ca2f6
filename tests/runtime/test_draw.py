"""Drawing of results: camera panels, maps, and text at the border."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from web_page import sample

from edgemtl_runtime.draw import camera_panel, cameras, canvas, draw, map_panel, write
from edgemtl_runtime.result import Boxes, DepthMap


def test_a_drawing_is_its_panels_in_rows_with_a_footer_below_each() -> None:
    pair, result = sample()
    size = canvas(pair, result)
    panels = [camera_panel(pair, result, name) for name in ("rgb", "ir")]
    panels += [p for head in result.heads.values() if (p := map_panel(head, size)) is not None]
    whole = draw(pair, result)
    assert len(panels) == 5 and size.width >= 400
    row = whole.shape[0] // 2  # three panels and two
    assert whole.shape == (2 * row, 3 * size.width, 3) and 20 < row - size.height < 100
    for index, panel in enumerate(panels):
        top, left = row * (index // 3), size.width * (index % 3)
        assert np.array_equal(whole[top : top + size.height, left : left + size.width], panel)
    assert draw(pair, result, columns=1).shape == (5 * row, size.width, 3)


@pytest.mark.parametrize("missing", ["rgb", "ir"])
def test_a_missing_camera_keeps_its_position_in_a_drawing(missing: str) -> None:
    pair, result = sample(0, (missing,))
    assert draw(pair, result).shape == draw(*sample()).shape and cameras(pair, result) == ["rgb", "ir"]
    panel = camera_panel(pair, result, missing)
    assert (panel == 60).all(2).mean() > 0.9 and (panel == panel[:, :, :1]).all() and panel.max() > 150
    labelled = camera_panel(pair, result, "ir" if missing == "rgb" else "rgb", {"semantic"})
    plain = camera_panel(pair, result, "ir" if missing == "rgb" else "rgb", set())
    assert not np.array_equal(labelled, plain)  # the label map is laid over the camera that is left


def test_a_tracked_box_keeps_the_colour_of_its_class_and_shows_its_number() -> None:
    pair, result = sample()
    plain = camera_panel(pair, result, "ir", {"boxes"})
    boxes = result.heads["boxes"]
    assert isinstance(boxes, Boxes)
    for track, alike in ((7, False), (-1, True)):  # -1 is a box that no track follows
        result.heads["boxes"] = replace(boxes, tracks=np.array([track]))
        tracked = camera_panel(pair, result, "ir", {"boxes"})
        assert np.array_equal(plain, tracked) == alike
        lower = slice(60, None)  # the box itself, below its writing
        assert np.array_equal(plain[lower], tracked[lower])


def test_text_at_the_border_is_moved_inside() -> None:
    inside, edge = np.zeros((2, 60, 200, 3), np.uint8)
    write(inside, "person 0.91", (20, 30), 0.35, (255, 255, 255))
    write(edge, "person 0.91", (180, 30), 0.35, (255, 255, 255))
    assert inside.any() and inside.sum() == edge.sum()


@pytest.mark.parametrize("depth_m", [0.0, np.nan, np.inf])
def test_a_depth_without_meaning_is_drawn_without_a_warning(depth_m: float) -> None:
    depth = np.ones((48, 64), np.float32)
    depth[0] = depth_m
    panel = map_panel(DepthMap(depth), canvas(*sample()))
    assert panel is not None and np.array_equal(panel[0, 0], [0, 0, 0])
