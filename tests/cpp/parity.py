"""The same images through Python and through the C++ library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from native import Library, NativeResult
from numpy.typing import NDArray

from edgemtl_runtime.bundle import Bundle
from edgemtl_runtime.decode import decode
from edgemtl_runtime.engine.onnxruntime import open_ort_engine
from edgemtl_runtime.frame import Frame, FramePair
from edgemtl_runtime.postprocess import parse_thresholds
from edgemtl_runtime.preprocess import Preprocessor

Images = Mapping[str, NDArray[Any]]


def in_python(
    bundle: Bundle, images: Images, thresholds: tuple[str, ...] = (), precision: str = "fp32"
) -> dict[str, NDArray[Any]]:
    """Return Python's results of one moment: boxes and points as rows, anything else as its array."""
    manifest = bundle.manifest
    preprocessor = Preprocessor(manifest.inputs)
    frames = {spec.name: Frame(images[spec.name], 1, spec.name, 0) for spec in manifest.inputs if spec.name in images}
    inputs = {
        spec.name: (
            preprocessor.network_input(frames[spec.name])
            if spec.name in frames
            else np.full((spec.height, spec.width, spec.channels), spec.blank, np.uint8)
        )[None]
        for spec in manifest.inputs
    }
    with open_ort_engine(bundle, 1, precision) as engine:
        outputs = {name: output[0] for name, output in engine.run(inputs).items()}
    _, letterbox = preprocessor.reference(FramePair(frames))
    heads = decode(outputs, manifest.heads, letterbox, parse_thresholds(thresholds, manifest.heads))
    return {name: as_array(head) for name, head in heads.items()}


def as_array(head: Any) -> NDArray[Any]:
    for name in ("xyxy", "xy"):
        if hasattr(head, name):
            columns = (getattr(head, name), head.scores[:, None], head.classes[:, None])
            return np.concatenate([np.asarray(c, np.float64) for c in columns], 1)
    names = ("labels", "depth_m", "normals", "scores", "vectors", "values")
    return np.asarray(next(getattr(head, name) for name in names if hasattr(head, name)))


def in_cpp(
    library: Library,
    bundle: Bundle,
    images: Images,
    thresholds: Mapping[str, float] | None = None,
    precision: str = "fp32",
) -> NativeResult:
    network = library.open(bundle.path, precision)
    try:
        for name, value in (thresholds or {}).items():
            head, _, class_name = name.partition(".")
            network.set_threshold(head, value, class_name or None)
        return network.run(images, {head.name: 0 for head in bundle.manifest.heads})
    finally:
        network.close()
