"""The reference of drift that travels in a bundle: what its network sees and gives on held-out images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from edgemtl_runtime.bundle import MODEL, Head, Input
from edgemtl_runtime.drift import measure, reference_of, write_reference
from edgemtl_runtime.engine import Arrays
from edgemtl_runtime.engine.onnxruntime import OrtEngine


def add_drift_reference(folder: Path, inputs: Sequence[Input], heads: Sequence[Head], frames: Iterable[Arrays]) -> None:
    """Write the reference of a bundle that is being written, of images as an engine takes them."""
    with OrtEngine(folder / MODEL) as engine:
        write_reference(folder, reference_of(measure(inputs, heads, frame, engine.run(frame)) for frame in frames))
