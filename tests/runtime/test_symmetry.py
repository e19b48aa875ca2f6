"""Cameras that mirror or turn their images, and rigs that do not fit: what is rejected, and what would fit."""

from __future__ import annotations

import re
from typing import Any

import cv2
import numpy as np
import pytest
from boards import Array, true_rig, views

from edgemtl_runtime.errors import EdgemtlError
from edgemtl_runtime.rig.calibrate import calibrate
from edgemtl_runtime.rig.calibration_board import Board
from edgemtl_runtime.rig.points import from_points
from edgemtl_runtime.rig.symmetry import SYMMETRIES, nearest_symmetry

CHECKERS = Board.parse("checkerboard:9x6:0.05")
Views = list[tuple[Array, Array]]


@pytest.fixture(scope="module")
def checker_views() -> Views:
    return views(true_rig(), CHECKERS, 8)


def rejected(shown: Views, expected: str) -> None:
    with pytest.raises(EdgemtlError, match=expected):
        calibrate(shown, CHECKERS, 3.0)


def flip(image: Array) -> Array:
    return np.ascontiguousarray(image[:, ::-1])


def matched() -> tuple[Array, Array]:
    """Return points of a rgb image of 640 x 480 and of an ir image of 320 x 240."""
    truth = np.array([[0.48, 0.02, 11.0], [-0.015, 0.5, -6.0], [2e-5, -1e-5, 1.0]])
    rgb_xy = np.random.default_rng(4).uniform((20, 20), (620, 460), (12, 2))
    out = np.c_[rgb_xy, np.ones(12)] @ truth.T
    return rgb_xy, out[:, :2] / out[:, 2:]


SIDES: dict[str, Any] = {
    "upright": lambda image: image,
    "turned by 90 degrees clockwise": lambda image: np.rot90(image, -1),
    "upside down": lambda image: np.rot90(image, 2),
    "turned by 90 degrees anticlockwise": np.rot90,
    "mirrored left to right": np.fliplr,
    "mirrored top to bottom": np.flipud,
    "mirrored and turned by a quarter, x and y exchanged": lambda image: image.swapaxes(0, 1),
    "mirrored and turned by a quarter, x and y exchanged and reversed": lambda i: np.rot90(i, 2).swapaxes(0, 1),
}


@pytest.mark.fault("L11")
def test_the_eight_symmetries_are_named_as_images_are_turned() -> None:
    """Followed by a bright pixel; ``?rotate=`` of a turned camera brings it back."""
    x, y = np.meshgrid(np.arange(9.0), np.arange(9.0))
    for symmetry in SYMMETRIES:
        there = {name: SIDES[symmetry.text](values) for name, values in (("x", x), ("y", y))}
        gradient = np.array([[np.gradient(there[name], axis=axis)[4, 4] for axis in (1, 0)] for name in ("x", "y")])
        assert np.array_equal(symmetry.matrix, gradient.T), symmetry.text  # from directions of the first image
        assert nearest_symmetry(gradient.T + 0.3 * np.random.default_rng(0).normal(size=(2, 2))) == symmetry
        if symmetry.rotate:
            assert np.array_equal(np.rot90(there["x"], -symmetry.rotate // 90), x)
    assert len({symmetry.matrix for symmetry in SYMMETRIES}) == len(SIDES)


@pytest.mark.fault("L11")
@pytest.mark.parametrize("text", [text for text in SIDES if "mirrored" in text])
def test_points_name_the_symmetry_that_fits(text: str) -> None:
    rgb_xy, ir_xy = matched()
    number = np.arange(240 * 320).reshape(240, 320)
    place = {int(n): (x, y) for (y, x), n in np.ndenumerate(SIDES[text](number))}
    moved = np.array([place[number[int(y), int(x)]] for x, y in ir_xy.round()], float)
    size = SIDES[text](number).shape
    with pytest.raises(EdgemtlError, match=f"one camera mirrors its images.*the ir image is {text} beside"):
        from_points(rgb_xy, moved, (480, 640), (size[0], size[1]))


@pytest.mark.fault("L11")
@pytest.mark.parametrize("how", ["ir", "rgb"])
def test_a_mirrored_camera_is_named_where_only_the_optimised_rig_tells(
    how: str, checker_views: Views, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgemtl_runtime.rig.facing.CLEAR", 0.0)
    shown = [(a, flip(b)) if how == "ir" else (flip(a), b) for a, b in checker_views]
    rejected(
        shown,
        r"the ir image is mirrored left to right beside the rgb image: .*agree to 0\.\d px, as they are to "
        r"\d+\.\d; look at both, turn mirroring off",
    )


@pytest.mark.fault("L11")
@pytest.mark.parametrize(
    ("turns", "text"), [(-1, "turned by 90 degrees clockwise.*rotate=270"), (2, "upside down.*rotate=180")]
)
def test_a_turned_camera_fits_and_is_named_with_its_option(turns: int, text: str, checker_views: Views) -> None:
    shown = [(a, np.ascontiguousarray(np.rot90(b, turns))) for a, b in checker_views]
    rig, report = calibrate(shown, CHECKERS, 3.0)
    assert report.stereo_rms_px < 0.3 and any(re.search(text, warning) for warning in report.warnings)
    assert rig.ir.size == shown[0][1].shape


@pytest.mark.fault("L11")
def test_no_rig_is_written_above_a_pixel_and_the_worst_views_are_named(checker_views: Views) -> None:
    """Each lens fits by itself: one camera moved between the views."""
    shift = np.random.default_rng(2).normal(0, 2.5, (len(checker_views), 2))
    shift[4] = (6, -6)
    shown = [
        (a, cv2.warpAffine(b, np.float32([[1, 0, x], [0, 1, y]]), b.shape[::-1], borderMode=cv2.BORDER_REPLICATE))
        for (a, b), (x, y) in zip(checker_views, shift, strict=True)
    ]
    rejected(shown, r"the cameras agree to \d\.\d px, .* above 1; worst are the views \d \(\d+\.\d px\), ")
