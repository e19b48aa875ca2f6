"""Cityscapes (Cordts et al. 2016): street scenes, 19 classes, 2048×1024.

leftImg8bit/{train,val}/CITY/STEM_leftImg8bit.png   gtFine/{train,val}/CITY/STEM_gtFine_labelIds.png
disparity/{train,val}/CITY/STEM_disparity.png and camera/{train,val}/CITY/STEM_camera.json: depth, optional

Depth is baseline · focal length / disparity; the disparity d of a pixel p > 0 is (p - 1) / 256, p = 0 is unknown.
"""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgemtl_runtime.image_file import ImageFileError
from edgemtl_runtime.limits import reason

from ..annotations import Entry, Index, LabelReader
from ..label_size import Size, has_size
from ..problems import Problem, Problems
from ..readers.label_image import read_label_channel
from ..sample import IGNORE

SEMANTIC = tuple(
    """
    road sidewalk building wall fence pole traffic-light traffic-sign vegetation terrain sky person rider car truck bus
    train motorcycle bicycle
    """.split()  # noqa: SIM905
)
IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""The label id of each class; every other one is ignored."""
TABLE = np.full(256, IGNORE, np.uint8)
TABLE[list(IDS)] = np.arange(len(IDS))
KNOWN = {*range(34), IGNORE}
"""The label ids that there are; 255 stands for -1, a number plate."""
MAX_DEPTH_M = 655.0
"""Farther is not known: a disparity that small is rounding."""


def matches(root: Path) -> bool:
    """Whether the folder has this format."""
    return (root / "leftImg8bit").is_dir() and (root / "gtFine").is_dir()


def index(root: Path, label_policy: str) -> Index:
    """Index the images; depth where disparity exists, which needs its camera."""
    result = Index(root, {"semantic": SEMANTIC})
    for split in ("train", "val"):
        result.splits[split] = []
        for image in sorted((root / "leftImg8bit" / split).glob("*/*_leftImg8bit.png")):
            stem, city = image.name.removesuffix("_leftImg8bit.png"), image.parent.name
            ids = root / "gtFine" / split / city / f"{stem}_gtFine_labelIds.png"
            disparity = root / "disparity" / split / city / f"{stem}_disparity.png"
            camera = root / "camera" / split / city / f"{stem}_camera.json"
            if not result.require([ids]):
                continue
            read: dict[str, LabelReader] = {"semantic": partial(_semantic, ids)}
            if disparity.is_file() and result.require([camera]):
                read["depth"] = partial(_depth, disparity, camera)
                result.classes["depth"] = ()
            result.splits[split].append(Entry(stem, {"rgb": image}, read))
    return result


def _read_map(file: Path, size: Size | None, problems: Problems) -> NDArray[Any] | None:
    try:
        values = read_label_channel(file)
    except ImageFileError as error:
        problems.append(Problem(file, 0, str(error)))
        return None
    return values if has_size(file, (values.shape[0], values.shape[1]), size, problems) else None


def _semantic(file: Path, size: Size | None, problems: Problems) -> NDArray[np.uint8] | None:
    ids = _read_map(file, size, problems)
    if ids is None:
        return None
    unknown = sorted(set(np.unique(ids).tolist()) - KNOWN)
    if unknown:
        problems.append(Problem(file, 0, f"has the label ids {unknown[:5]}; labelIds are 0 to 33, and 255"))
        return None
    classes: NDArray[np.uint8] = TABLE[ids]
    return classes


def _depth(file: Path, camera: Path, size: Size | None, problems: Problems) -> NDArray[np.float32] | None:
    raw = _read_map(file, size, problems)
    try:
        calibration = json.loads(camera.read_text(encoding="utf-8-sig"))
        product = float(calibration["extrinsic"]["baseline"]) * float(calibration["intrinsic"]["fx"])
        if not 0 < product < math.inf:
            raise ValueError(f"baseline times fx is {product:g}")
    except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else reason(error)
        wanted = "extrinsic.baseline, in metres, and intrinsic.fx, in pixels, are wanted"
        problems.append(Problem(camera, 0, f"cannot be read as a camera calibration: {what}; {wanted}"))
        return None
    if raw is None:
        return None
    disparity = (raw.astype(np.float32) - 1) / 256
    depth_m = product / np.maximum(disparity, 1e-6)
    return np.where((raw > 0) & (depth_m <= MAX_DEPTH_M), depth_m, 0).astype(np.float32)
