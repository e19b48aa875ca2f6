"""Labels are held against the image size that they were made for, and turned images against both of their sizes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgemtl.data import annotations
from edgemtl.data.annotations import Entry, constant_label
from edgemtl.data.problems import Problems
from edgemtl.data.sample import BoxLabels, Label
from edgemtl_runtime.pixels import StoredImage, turned

STORED = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
"""Two rows of three pixels."""
NO_BOXES = BoxLabels(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
VECTOR = np.zeros(3, np.float32)


def read(
    monkeypatch: pytest.MonkeyPatch,
    orientation: int,
    size: tuple[int, int] | None,
    label: Label = NO_BOXES,
    exif: str = "",
) -> np.ndarray | str:
    """Return the image as an entry reads it, or the problem."""
    monkeypatch.setattr(annotations, "read_stored", lambda *_: StoredImage(STORED, orientation))
    problems = Problems()
    labels = {"boxes": partial(constant_label, label)}
    sample = Entry("a", {"rgb": Path("a.jpg")}, labels, stated_size=size, exif=exif).read(problems)
    if sample is None:
        (problem,) = problems
        return str(problem)
    return sample.images["rgb"]


@pytest.mark.fault("D1")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_stored_pixels_are_turned_as_opencv_turns_them(orientation: int, tmp_path: Path) -> None:
    """OpenCV turns the same stored rows by the orientation of their EXIF block."""
    image = (np.arange(24 * 16) % 251).astype(np.uint8).reshape(16, 24)
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0" + bytes([orientation]) + b"\0\0\0\0\0\0"
    block = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    data = data[:2] + block + data[2:]
    buffer = np.frombuffer(data, np.uint8)
    stored = cv2.imdecode(buffer, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)
    assert np.array_equal(turned(stored, orientation), cv2.imdecode(buffer, cv2.IMREAD_GRAYSCALE))


@pytest.mark.fault("D1")
def test_the_stated_size_tells_which_image_the_labels_are_of(monkeypatch: pytest.MonkeyPatch) -> None:
    assert np.array_equal(read(monkeypatch, 6, (3, 2)), turned(STORED, 6))
    assert np.array_equal(read(monkeypatch, 6, (2, 3)), STORED)
    assert np.array_equal(read(monkeypatch, 1, (2, 3)), STORED)
    assert read(monkeypatch, 1, (3, 2)) == "a.jpg: is 3x2, its labels were made for 2x3"
    assert "is 3x2, by its EXIF orientation 6 2x3, its labels were made for 7x9" in read(monkeypatch, 6, (9, 7))


@pytest.mark.fault("D1")
def test_a_label_map_tells_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    assert np.array_equal(read(monkeypatch, 8, None, np.zeros((3, 2))), turned(STORED, 8))
    assert np.array_equal(read(monkeypatch, 8, None, np.zeros((2, 3))), STORED)


@pytest.mark.fault("D1")
def test_where_nothing_tells_a_turned_image_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    for problem in (read(monkeypatch, 6, None), read(monkeypatch, 3, (2, 3))):
        assert (
            isinstance(problem, str) and problem.startswith("a.jpg: has the EXIF orientation") and "mogrify" in problem
        )
    assert np.array_equal(read(monkeypatch, 6, None, exif="upright"), turned(STORED, 6))
    assert np.array_equal(read(monkeypatch, 3, (2, 3), exif="stored"), STORED)
    assert np.array_equal(read(monkeypatch, 6, None, VECTOR), turned(STORED, 6)), "attributes are of the whole image"


@pytest.mark.fault("D9")
def test_what_is_skipped_is_counted_by_reason_with_its_first_place() -> None:
    one, other = Problems(), Problems()
    one.skip("boxes without area", Path("a.txt"), 3)
    other.skip("boxes without area", Path("b.txt"), 1, count=4)
    other.skip("files that are no images", Path("Thumbs.db"), detail="of Windows")
    one.extend(other)
    assert list(map(str, one.skipped)) == [
        "skipped 5 boxes without area; the first: a.txt:3",
        "skipped 1 files that are no images; the first: Thumbs.db: of Windows",
    ]
    assert not len(one)
