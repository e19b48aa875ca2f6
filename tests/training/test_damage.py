"""Images that are damaged inside: their decoder shows grey or noise, and `edgemtl data check` says so."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from edgemtl.data.check import check
from edgemtl_runtime.camera.libav import jpeg_is_damaged

NOISE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
WHOLE = bytes(cv2.imencode(".jpg", NOISE)[1])


@pytest.mark.fault("D6")
def test_damage_inside_a_jpeg_is_found(pairs: Path) -> None:
    image = sorted((pairs / "rgb" / "train").iterdir())[0]
    size = cv2.imread(str(image)).shape[1::-1]
    image.unlink()
    whole = bytes(cv2.imencode(".jpg", cv2.resize(NOISE, size))[1])
    file = image.with_suffix(".jpg")
    file.write_bytes(whole)
    assert not check(pairs)[0].problems
    file.write_bytes(whole[: len(whole) // 2] + b"\xff\xd9")
    (problem,) = check(pairs)[0].problems
    assert problem.file == file and "is a damaged JPEG file: a part of its image" in problem.message


@pytest.mark.fault("D6")
def test_no_whole_jpeg_is_called_damaged() -> None:
    assert jpeg_is_damaged(WHOLE[: len(WHOLE) // 2] + b"\xff\xd9")
    kinds = [
        ("RGB", {"progressive": True}),
        ("RGB", {"subsampling": 0}),
        ("L", {}),
        ("CMYK", {}),
        ("RGB", {"optimize": True}),
    ]
    for mode, options in kinds:
        stream = io.BytesIO()
        Image.fromarray(NOISE[:47, :61]).convert(mode).save(stream, "JPEG", **options)
        assert not jpeg_is_damaged(stream.getvalue()) and not jpeg_is_damaged(stream.getvalue() + b"\0" * 99), mode
