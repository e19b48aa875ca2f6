"""Raw outputs to typed results: one decoder a kind of head, registered by the manifest's name for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bundle import Head
from .errors import EngineError
from .letterbox import Fit
from .result import Attributes, Boxes, DepthMap, EdgeMap, HeadResult, LabelMap, NormalMap

Thresholds = NDArray[np.float32]
"""From which score on a head's answers count: () for all classes, or (classes,), one a class."""
Decoder = Callable[[NDArray[Any], Head, Fit, Thresholds], HeadResult]
DECODERS: dict[str, Decoder] = {}


def decoder(name: str) -> Callable[[Decoder], Decoder]:
    """Register a decoder under the name that manifests use."""

    def register(function: Decoder) -> Decoder:
        DECODERS[name] = function
        return function

    return register


@decoder("topk_boxes")
def topk_boxes(output: NDArray[Any], head: Head, fit: Fit, least: Thresholds) -> Boxes:
    """Read (K, 6) rows of x1 y1 x2 y2 score class, best first, in network pixels; a row that is no number is none."""
    output = output[np.isfinite(output).all(1)]
    _check_ids(output[:, 5], head)
    if least.ndim:
        least = least[output[:, 5].astype(np.int64)]
    kept = output[output[:, 4] >= least]
    return Boxes(
        fit.boxes_to_camera(kept[:, :4].astype(np.float32)),
        kept[:, 4].astype(np.float32),
        kept[:, 5].astype(np.int64),
        head.classes,
    )


@decoder("label_map")
def label_map(output: NDArray[Any], head: Head, fit: Fit, least: Thresholds) -> LabelMap:
    """Read a (height, width) uint8 map of class ids."""
    _check_ids(output, head)
    return LabelMap(fit.map_to_camera(output), head.classes)


@decoder("depth_map")
def depth_map(output: NDArray[Any], head: Head, fit: Fit, least: Thresholds) -> DepthMap:
    """Read a (height, width) map of depths in metres."""
    return DepthMap(fit.map_to_camera(output))


@decoder("normal_map")
def normal_map(output: NDArray[Any], head: Head, fit: Fit, least: Thresholds) -> NormalMap:
    """Read a (height, width, 3) map of unit vectors."""
    return NormalMap(fit.map_to_camera(output))


@decoder("edge_map")
def edge_map(output: NDArray[Any], head: Head, fit: Fit, least: Thresholds) -> EdgeMap:
    """Read a (height, width) map of edge scores."""
    return EdgeMap(fit.map_to_camera(output), float(least))


@decoder("attributes")
def attributes(output: NDArray[Any], head: Head, fit: Fit, least: Thresholds) -> Attributes:
    """Read a score for each attribute."""
    if output.shape != (len(head.classes),):
        raise EngineError(f"{head.name}: {output.size} scores for {len(head.classes)} names; export the bundle again")
    if least.size and (least == least.flat[0]).all():
        return Attributes(output, head.classes, float(least.flat[0]))
    return Attributes(output, head.classes, head.threshold, least)


FLOATS = ("float16", "float32", "float64")
FORMS: dict[str, tuple[tuple[str, ...], tuple[int | None, ...]]] = {
    "topk_boxes": (FLOATS, (None, 6)),
    "label_map": (("uint8",), (None, None)),
    "depth_map": (("float32",), (None, None)),
    "edge_map": (("float32",), (None, None)),
    "normal_map": (("float32",), (None, None, 3)),
    "attributes": (FLOATS, (None,)),
}
"""What kind of numbers each decoder reads, and of how many axes; a network may tell its shapes only when it runs."""


def _check_form(output: NDArray[Any], head: Head) -> None:
    """Raise `EngineError` where a network gives what its head's decoder cannot read."""
    if head.decoder not in FORMS:
        return
    kinds, sizes = FORMS[head.decoder]
    fits = [wanted in (None, size) for size, wanted in zip(output.shape, sizes, strict=False)]
    if output.dtype.name not in kinds or output.ndim != len(sizes) or not all(fits) or 0 in output.shape[1:]:
        raise EngineError(
            f"{head.name}: the network gives {output.dtype} {output.shape}, which {head.decoder} does not read; "
            "export the bundle again"
        )


def _check_ids(ids: NDArray[Any], head: Head) -> None:
    """Raise `EngineError` where the network names a class that the manifest does not."""
    if ids.size and not (ids.min() >= 0 and ids.max() < len(head.classes)):
        told = f"a class {ids.max():g}" if ids.max() >= len(head.classes) else f"a class {ids.min():g}"
        raise EngineError(
            f"{head.name}: the network gives {told}, the manifest names {len(head.classes)}; export the bundle again"
        )


def decode(
    outputs: dict[str, NDArray[Any]],
    heads: tuple[Head, ...],
    fit: Fit,
    thresholds: Mapping[str, Thresholds] = MappingProxyType({}),
) -> dict[str, HeadResult]:
    """Decode one picture's outputs (without the batch axis), by head name, into camera pixels.

    ``thresholds`` by head name, as `thresholds.parse` makes them, stand in for `Head.threshold`.
    """
    found: dict[str, HeadResult] = {}
    for head in heads:
        least = thresholds.get(head.name, np.asarray(head.threshold, np.float32))
        output = outputs[head.name]
        _check_form(output, head)
        found[head.name] = DECODERS[head.decoder](output, head, fit, least)
    return found
