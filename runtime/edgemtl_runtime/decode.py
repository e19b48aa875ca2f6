"""Raw outputs to typed results: one decoder a kind of head, registered by the manifest's name for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bundle import Head
from .fit import Fit
from .result import Attributes, Boxes, DepthMap, EdgeMap, HeadResult, LabelMap, NormalMap

Decoder = Callable[[NDArray[Any], Head, Fit], HeadResult]
DECODERS: dict[str, Decoder] = {}


def decoder(name: str) -> Callable[[Decoder], Decoder]:
    """Register a decoder under the name that manifests use."""

    def register(function: Decoder) -> Decoder:
        DECODERS[name] = function
        return function

    return register


@decoder("topk_boxes")
def topk_boxes(output: NDArray[Any], head: Head, fit: Fit) -> Boxes:
    """Read (K, 6) rows of x1 y1 x2 y2 score class, best first, in network pixels."""
    kept = output[output[:, 4] >= head.threshold]
    return Boxes(
        fit.boxes_to_camera(kept[:, :4].astype(np.float32)),
        kept[:, 4].astype(np.float32),
        kept[:, 5].astype(np.int64),
        head.classes,
    )


@decoder("label_map")
def label_map(output: NDArray[Any], head: Head, fit: Fit) -> LabelMap:
    """Read a (height, width) uint8 map of class ids."""
    return LabelMap(fit.map_to_camera(output), head.classes)


@decoder("depth_map")
def depth_map(output: NDArray[Any], head: Head, fit: Fit) -> DepthMap:
    """Read a (height, width) map of depths in metres."""
    return DepthMap(fit.map_to_camera(output))


@decoder("normal_map")
def normal_map(output: NDArray[Any], head: Head, fit: Fit) -> NormalMap:
    """Read a (height, width, 3) map of unit vectors."""
    return NormalMap(fit.map_to_camera(output))


@decoder("edge_map")
def edge_map(output: NDArray[Any], head: Head, fit: Fit) -> EdgeMap:
    """Read a (height, width) map of edge scores."""
    return EdgeMap(fit.map_to_camera(output), head.threshold)


@decoder("attributes")
def attributes(output: NDArray[Any], head: Head, fit: Fit) -> Attributes:
    """Read a score for each attribute."""
    return Attributes(output, head.classes, head.threshold)


def decode(outputs: dict[str, NDArray[Any]], heads: tuple[Head, ...], fit: Fit) -> dict[str, HeadResult]:
    """Decode one picture's outputs (without the batch axis), by head name, into camera pixels."""
    return {head.name: DECODERS[head.decoder](outputs[head.name], head, fit) for head in heads}
