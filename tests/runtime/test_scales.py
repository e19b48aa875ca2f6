"""Scales of drawn panels: every colour has a meaning with its unit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from web_page import sample

from edgemtl_runtime.draw import camera_scale, canvas, draw, label_palette, map_image, scale_of
from edgemtl_runtime.draw import text as text_module
from edgemtl_runtime.draw.footers import MAX_KEY_LINES, footer, footer_lines
from edgemtl_runtime.draw.scales import ColourBar, ColourKey, depth_range
from edgemtl_runtime.draw.text import drawable
from edgemtl_runtime.frame import Frame, FramePair
from edgemtl_runtime.result import Boxes, DepthMap, EdgeMap, LabelMap, NormalMap, Result

pytestmark = pytest.mark.fault("C4")


def ramp(low: float, high: float, relative: bool = False) -> DepthMap:
    """Return depths that rise evenly on a logarithmic scale."""
    return DepthMap(np.geomspace(low, high, 64 * 48).reshape(48, 64).astype(np.float32), relative)


@given(st.floats(1e-3, 1e4), st.floats(1.0, 1e3))
def test_a_depth_scale_spans_the_depths_and_has_ticks_in_metres(low: float, ratio: float) -> None:
    head = ramp(low, low * ratio)
    ends = depth_range(head)
    near, far = np.percentile(head.depth_m, (2, 98))
    assert ends[0] < ends[1] and ends[0] <= near * 1.001 and far * 0.999 <= ends[1]
    bar = scale_of(head)
    assert isinstance(bar, ColourBar)
    assert all(text.endswith(" m") and 0 <= at <= 1 for at, text in bar.ticks)
    assert {0.0, 1.0} <= {at for at, _ in bar.ticks}


def test_a_tick_has_the_colour_of_its_depth() -> None:
    bar = scale_of(ramp(1, 60))
    assert isinstance(bar, ColourBar)
    for position, text in bar.ticks:
        image = map_image(DepthMap(np.full((2, 2), float(text.removesuffix(" m")), np.float32)), (1, 60))
        assert image is not None
        in_bar = np.array(bar.colours[round(position * (len(bar.colours) - 1))], int)
        assert np.abs(image[0, 0].astype(int) - in_bar).max() <= 12
    assert [text for _, text in bar.ticks if text == "10 m"]


def test_a_relative_depth_has_no_metres() -> None:
    for factor in (1, 1000):  # whatever its scale is
        bar = scale_of(ramp(0.5 * factor, 2 * factor, relative=True))
        assert isinstance(bar, ColourBar)
        assert all(text.endswith("× median") for _, text in bar.ticks) and bar.ticks[0][1] == "0.5 × median"


def test_normals_and_edges_have_their_keys() -> None:
    normals = NormalMap(np.tile(np.array([0, 0, -1], np.float32), (4, 4, 1)))
    key, image = scale_of(normals), map_image(normals)
    assert isinstance(key, ColourKey) and image is not None
    assert dict(key.entries)["to the camera"] == tuple(image[0, 0].tolist())
    edges = EdgeMap(np.zeros((4, 4), np.float32), 0.4)
    bar = scale_of(edges)
    assert isinstance(bar, ColourBar) and (0.4, "edge from 0.4") in bar.ticks
    labels = scale_of(edges, scores=False)
    assert isinstance(labels, ColourKey) and [name for name, _ in labels.entries] == ["edge", "unknown", "none"]


def test_a_thermal_image_has_its_counts() -> None:
    counts = np.linspace(20_000, 24_000, 480 * 640).reshape(480, 640).astype(np.uint16)
    for image, unit, ends in (
        (counts, "counts", (20_040, 23_960)),
        ((counts >> 8).astype(np.uint8), "grey level", (0, 255)),
    ):
        pair = FramePair({"ir": Frame(image, 0, "ir", 0)})
        bar = camera_scale(pair, Result({}, "ir", 0, 0, 0), "ir")
        assert isinstance(bar, ColourBar)
        low, high = float(bar.ticks[0][1]), float(bar.ticks[-1][1].removesuffix(f" {unit}"))
        assert (low, high) == pytest.approx(ends, abs=20) and bar.colours[0] == (0, 0, 0)


def test_a_class_has_its_colour_whether_boxes_were_detected_or_not() -> None:
    labels = LabelMap(np.zeros((4, 4), np.uint8), ("road", "person"))
    some = Boxes(np.ones((1, 4), np.float32), np.ones(1, np.float32), np.zeros(1, np.int64), ("person",))
    none = some.pick(np.array([], np.int64))
    assert np.array_equal(label_palette(labels, some), label_palette(labels, none))


def test_keys_of_many_classes_are_bounded() -> None:
    key = ColourKey(tuple((f"class number {i}", (i, i, i)) for i in range(40)))
    lines = footer_lines(["rgb"], [key], 440, 0.4)
    assert lines == MAX_KEY_LINES
    assert footer("rgb", key, 440, 0.4, lines).shape[1] == 440
    assert footer_lines(["rgb"], [None], 440, 0.4) == 2


@pytest.mark.parametrize("shape", [(64, 64), (240, 320), (399, 401), (1080, 1920)])
def test_panels_are_wide_enough_and_as_wide_as_each_other(shape: tuple[int, int]) -> None:
    pair, result = sample(size=shape)
    width = canvas(pair, result).width
    assert width >= 400 and draw(pair, result).shape[1] == 3 * width
    assert canvas(pair, result, 440, 440).width == 440


def test_an_older_opencv_is_given_what_it_can_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_module, "DRAWS_UNICODE", False)
    assert drawable("Fußgänger 0.5 × …") == "Fussganger 0.5 x ..." and drawable("行人 1").endswith(" 1")
    monkeypatch.setattr(text_module, "DRAWS_UNICODE", True)
    assert drawable("Fußgänger\n行人") == "Fußgänger 行人"
