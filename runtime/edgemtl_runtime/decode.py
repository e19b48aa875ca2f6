"""Raw outputs to typed results: one decoder a kind of head, registered by the manifest's name for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bundle import Head
from .errors import EngineError
from .fit import Fit
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
        found[head.name] = DECODERS[head.decoder](outputs[head.name], head, fit, least)
    return found
