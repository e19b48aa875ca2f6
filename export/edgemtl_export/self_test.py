"""The self-test that travels in a bundle, written from the image on which its network is surest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgemtl_runtime.bundle import MODEL, MODELS, Head
from edgemtl_runtime.engine import Arrays
from edgemtl_runtime.engine.onnxruntime import OrtEngine
from edgemtl_runtime.postprocess import BOXES
from edgemtl_runtime.self_test import SELF_TEST, write_self_test

TOP = 10
"""Boxes of an image whose scores count."""


def add_self_test(folder: Path, heads: Sequence[Head], frames: Sequence[Arrays]) -> None:
    """Write the self-test of a bundle that is being written: an image of ``frames``, and each precision's outputs."""
    with OrtEngine(folder / MODEL) as engine:
        frame = max(frames, key=lambda frame: _confidence(engine.run(frame), heads))
    outputs = {}
    for precision, name in MODELS.items():
        if (folder / name).is_file():
            with OrtEngine(folder / name) as engine:
                outputs[precision] = engine.run(frame)
    write_self_test(folder / SELF_TEST, frame, outputs, heads)


def _confidence(outputs: Arrays, heads: Sequence[Head]) -> float:
    """Return the sum of the best boxes' scores: where all are near 0, another network's would look alike."""
    boxes = [outputs[head.name] for head in heads if head.decoder in BOXES]
    return sum(float(rows[0, :TOP, 4].sum()) for rows in boxes)
