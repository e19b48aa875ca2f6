"""The same frames in Python and in C++: equal to the bit, whatever size the images have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from every_head import HEADS, write_every_head
from native import Library, NativeError
from numpy.typing import NDArray
from parity import Images, in_cpp, in_python

from edgemtl_runtime.bundle import Bundle, ThermalRange


def check_equal(python: Mapping[str, NDArray[Any]], cpp: Mapping[str, NDArray[Any]]) -> None:
    for name, expected in python.items():
        actual = cpp[name].astype(np.float32) if expected.dtype == np.float16 else cpp[name]
        assert np.array_equal(actual, expected.astype(actual.dtype), equal_nan=actual.dtype.kind == "f"), name


def colour(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def counts(height: int, width: int, seed: int = 1) -> NDArray[np.uint16]:
    return np.random.default_rng(seed).integers(27_000, 32_000, (height, width), np.uint16)


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.open(write_every_head(tmp_path_factory.mktemp("every") / "bundle"))


SAME_SIZE: dict[str, Images] = {
    "both": {"rgb": colour(48, 64), "ir": colour(48, 64)[:, :, 0]},
    "thermal counts": {"rgb": colour(48, 64), "ir": counts(48, 64)},
    "colour missing": {"ir": counts(48, 64)},
    "thermal missing": {"rgb": colour(48, 64)},
    "a grey colour camera": {"rgb": colour(48, 64)[:, :, 1], "ir": colour(48, 64)[:, :, 2]},
    "thermal in three equal channels": {"ir": np.repeat(colour(48, 64)[:, :, :1], 3, 2)},
    "padded": {"rgb": colour(40, 64), "ir": counts(48, 50)},
    "one level": {"ir": np.full((48, 64), 29_000, np.uint16)},
}


@pytest.mark.parametrize("case", SAME_SIZE)
def test_results_are_equal_to_the_bit_where_nothing_is_resized(library: Library, every: Bundle, case: str) -> None:
    images = SAME_SIZE[case]
    result = in_cpp(library, every, images)
    check_equal(in_python(every, images), result.heads)
    assert result.camera == next(iter(images)) and result.thresholds["edges"] == [np.float32(0.4)]


@pytest.mark.parametrize("low_high", [("radiometric", 27_315.0, 31_315.0), ("percentile", 0.5, 99.9)])
def test_thermal_counts_are_mapped_alike(library: Library, tmp_path: Path, low_high: tuple[str, float, float]) -> None:
    bundle = Bundle.open(write_every_head(tmp_path / "b", ThermalRange(*low_high)))
    for seed in range(5):
        images = {"ir": counts(48, 64, seed)}
        check_equal(in_python(bundle, images), in_cpp(library, bundle, images).heads)


def test_thresholds_of_heads_and_classes(library: Library, every: Bundle) -> None:
    images = SAME_SIZE["both"]
    given = {"boxes": 0.1, "boxes.person": 0.9, "feet.left": 0.75, "attributes.day": 0.95, "edges": 0.5}
    words = tuple(f"{name}={value}" for name, value in given.items())
    result = in_cpp(library, every, images, given)
    check_equal(in_python(every, images, words), result.heads)
    assert result.thresholds["attributes"] == [np.float32(0.95), np.float32(0.25)]
    assert result.thresholds["edges"] == [0.5] and len(result.heads["boxes"]) == 4


SIZES = [
    (96, 128),
    (480, 640),
    (100, 90),
    (31, 77),
    (24, 32),
    (47, 63),
    (512, 640),
    (192, 256),
    (540, 960),
    (1, 1),
    (7, 900),
]
"""Half, a whole share, any share, larger, larger by a pixel, and shapes that no camera has."""


@pytest.mark.parametrize("size", SIZES)
def test_resized_images_are_equal_to_the_bit(library: Library, every: Bundle, size: tuple[int, int]) -> None:
    images = {"rgb": colour(*size), "ir": counts(*size)}
    check_equal(in_python(every, images), in_cpp(library, every, images).heads)


def test_images_of_any_size_are_resized_alike(library: Library, every: Bundle) -> None:
    rng = np.random.default_rng(5)
    for seed in range(60):
        images = {"rgb": colour(*rng.integers(2, 300, 2), seed), "ir": colour(*rng.integers(2, 300, 2), seed)[:, :, 0]}
        check_equal(in_python(every, images), in_cpp(library, every, images).heads)


def test_a_trained_bundle(library: Library, tiny_bundle: tuple[Bundle, object]) -> None:
    bundle = tiny_bundle[0]
    sizes = {spec.name: (spec.height, spec.width) for spec in bundle.manifest.inputs}
    images = {"rgb": colour(*sizes["rgb"]), "ir": counts(*sizes["ir"])}
    check_equal(in_python(bundle, images, ("boxes=0",)), in_cpp(library, bundle, images, {"boxes": 0}).heads)


def test_stamps_and_skew(library: Library, every: Bundle) -> None:
    network = library.open(every.path)
    stamps = {"rgb": 5_000_000_123, "ir": 5_000_000_100}
    result = network.run(SAME_SIZE["both"], {}, stamps)
    network.close()
    assert (result.stamp_ns, result.skew_ns) == (5_000_000_123, 23)


BAD: dict[str, tuple[Images, str]] = {
    "nothing": ({}, "the bundle needs --rgb and --ir; it takes rgb and ir"),
    "a camera that is not there": ({"left": colour(48, 64)}, "the bundle has no input left; it takes rgb and ir"),
    "counts for colour": ({"rgb": counts(48, 64)}, "colour has 8 bits: name thermal images ir"),
    "a palette": ({"ir": colour(48, 64)}, "colours of a palette are no temperatures"),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_images_are_told(library: Library, every: Bundle, case: str) -> None:
    images, expected = BAD[case]
    with pytest.raises(NativeError, match=expected) as caught:
        in_cpp(library, every, images)
    assert "\n" not in str(caught.value)


def test_a_camera_that_may_not_be_missing(library: Library, tmp_path: Path) -> None:
    bundle = Bundle.open(write_every_head(tmp_path / "b", missing=False))
    with pytest.raises(NativeError, match="the bundle needs --ir as well; it takes rgb and ir"):
        in_cpp(library, bundle, {"rgb": colour(48, 64)})


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("boxen", 0.5, "no head 'boxen'; known are: boxes, several"),
        ("boxes.cat", 0.5, "has no class 'cat'; known are: person, bicycle, car"),
        ("semantic", 0.5, "head semantic has no threshold"),
        ("boxes", 1.5, "a threshold of 1.5; it lies between 0 and 1"),
    ],
)
def test_a_wrong_threshold_is_told(library: Library, every: Bundle, name: str, value: float, expected: str) -> None:
    with pytest.raises(NativeError, match=expected):
        in_cpp(library, every, {"rgb": colour(48, 64)}, {name: value})


def test_heads_have_every_decoder() -> None:
    from edgemtl_runtime.decode import DECODERS

    assert {head.decoder for head in HEADS} == set(DECODERS)
