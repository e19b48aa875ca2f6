"""The letterbox there and back, and 16-bit thermal images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgemtl_runtime.bundle import ThermalRange
from edgemtl_runtime.letterbox import Letterbox, to_uint8

SIDE = st.integers(16, 400)


@given(SIDE, SIDE, SIDE, SIDE)
def test_boxes_come_back_to_the_camera(h: int, w: int, height: int, width: int) -> None:
    fit = Letterbox.plan((h, w), (height, width))
    assert fit.scaled_height <= height and fit.scaled_width <= width
    whole = np.array([[0, 0, fit.scaled_width, fit.scaled_height]], np.float32)
    assert np.allclose(fit.boxes_to_camera(whole), [[0, 0, w, h]], atol=0.6 / fit.scale + 1e-3)
    assert fit.map_to_camera(np.zeros((height, width), np.uint8)).shape == (h, w)


@given(SIDE, SIDE)
def test_a_picture_of_the_networks_size_is_untouched(h: int, w: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (h, w, 3), np.uint8)
    fit = Letterbox.plan((h, w), (h, w))
    assert np.array_equal(fit.image(image, 3, 114), image)
    labels = image[:, :, 0]
    assert np.array_equal(fit.map_to_camera(labels), labels)


def test_padding_is_blank_and_the_picture_unscaled() -> None:
    image = np.full((240, 320, 3), 7, np.uint8)
    fitted = Letterbox.plan((240, 320), (256, 320)).image(image, 3, 114)
    assert (fitted[:240] == 7).all() and (fitted[240:] == 114).all()


def test_grey_and_colour_cameras_fit_either_input() -> None:
    grey = np.full((10, 12), 9, np.uint8)
    fit = Letterbox.plan((10, 12), (10, 12))
    assert (fit.image(grey, 3, 0) == 9).all()
    assert (fit.image(np.full((10, 12, 3), 9, np.uint8), 1, 0) == 9).all()


def test_a_frame_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="planned for"):
        Letterbox.plan((10, 12), (10, 12)).image(np.zeros((9, 12), np.uint8), 1, 0)


def test_radiometric_range_maps_its_limits_to_black_and_white() -> None:
    image = np.array([[1000, 2000, 3000, 4000]], np.uint16)
    out = to_uint8(image, ThermalRange("radiometric", 2000, 3000))
    assert out.tolist() == [[0, 0, 255, 255]]


def test_percentiles_use_all_eight_bits_of_a_narrow_scene() -> None:
    # A scene of 600 counts above 30,000: the top eight bits alone would see three grey values.
    image = (30_000 + np.arange(600, dtype=np.uint16)).reshape(20, 30)
    out = to_uint8(image, ThermalRange())
    assert len(np.unique(out)) > 240 and len(np.unique(image >> 8)) <= 3


def test_eight_bits_pass_as_they_are() -> None:
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert to_uint8(image, ThermalRange()) is image
