"""Damage inside JPEG files, which the decoder of training fills with grey or noise and does not report.

FFmpeg reports it. It is asked once a file, by `edgemtl data check`: it costs as much as decoding.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from edgemtl_runtime.camera.libav import jpeg_is_damaged

from .annotations import Entry
from .problems import Problem, Problems

JPEG = b"\xff\xd8"
THREADS = 2


def add_damage(entries: Iterable[Entry], problems: Problems) -> None:
    """Add a problem for every image whose JPEG data cannot be decoded whole, unless it has one already."""
    known = {problem.file for problem in problems}
    files = dict.fromkeys(file for entry in entries for file in entry.images.values() if file not in known)
    with ThreadPoolExecutor(THREADS) as pool:
        for file, is_damaged in zip(files, pool.map(_is_damaged, files), strict=True):
            if is_damaged:
                problems.append(Problem(file, 0, "is a damaged JPEG file: a part of its image cannot be decoded"))


def _is_damaged(file: Path) -> bool:
    try:
        data = file.read_bytes()
    except OSError:
        return False  # is reported by its reader
    return data.startswith(JPEG) and jpeg_is_damaged(data)
