"""Decoders: the network's raw outputs to typed results, registered by their name in manifests.

Boxes are the top k that the network's last layers pick; those of heads that give an object several boxes (`nms_boxes`)
are suppressed by class here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from .bundle import Head
from .errors import EngineError
from .letterbox import Letterbox
from .network_map import later
from .nms import suppress
from .result import (
    Attributes,
    Boxes,
    DepthMap,
    EdgeMap,
    HeadResult,
    LabelMap,
    NormalMap,
    Points,
    ScalarMap,
    Scalars,
    Tensor,
    VectorMap,
)

Thresholds = NDArray[np.float32]
"""Score thresholds of a head: () for all classes, or (classes,), one a class."""
Decoder = Callable[[NDArray[Any], Head, Letterbox, Thresholds], HeadResult]
D = TypeVar("D", bound=Decoder)
DECODERS: dict[str, Decoder] = {}
MOST_KEPT = 300
"""Boxes of an image after suppression."""


def decoder(name: str) -> Callable[[D], D]:
    """Register a decoder by its name in manifests."""

    def register(function: D) -> D:
        DECODERS[name] = function
        return function

    return register


@decoder("topk_boxes")
def topk_boxes(output: NDArray[Any], head: Head, letterbox: Letterbox, least: Thresholds) -> Boxes:
    """Decode NMS-free top-k boxes: (K, 6) rows of x1 y1 x2 y2 score class, best first, network pixels; NaN is none."""
    output = output[np.isfinite(output).all(1)]
    _check_ids(output[:, 5], head)
    kept = output[output[:, 4] >= _by_class(least, output[:, 5])]
    return Boxes(
        letterbox.boxes_to_camera(kept[:, :4].astype(np.float32)),
        kept[:, 4].astype(np.float32),
        kept[:, 5].astype(np.int64),
        head.classes,
    )


@decoder("nms_boxes")
def nms_boxes(output: NDArray[Any], head: Head, letterbox: Letterbox, least: Thresholds) -> Boxes:
    """Decode rows as `topk_boxes` has them, of which several are of one object: the best of each stays (`nms`)."""
    boxes = topk_boxes(output, head, letterbox, least)
    return boxes.pick(suppress(boxes.xyxy, boxes.scores, boxes.classes, head.nms_iou, MOST_KEPT))


@decoder("label_map")
def label_map(output: NDArray[Any], head: Head, letterbox: Letterbox, least: Thresholds) -> LabelMap:
    """Decode a (height, width) uint8 map of class ids."""
    _check_ids(output, head)
    return LabelMap(later(output, letterbox), head.classes)


@decoder("depth_map")
def depth_map(output: NDArray[Any], head: Head, letterbox: Letterbox, least: Thresholds) -> DepthMap:
    """Decode a (height, width) map of depths, in metres unless the head's class is ``relative``."""
    return DepthMap(later(output, letterbox), relative="relative" in head.classes)


@decoder("normal_map")
def normal_map(output: NDArray[Any], head: Head, letterbox: Letterbox, least: Thresholds) -> NormalMap:
    """Decode a (height, width, 3) map of unit vectors."""
    return NormalMap(later(output, letterbox))


@decoder("edge_map")
def edge_map(output: NDArray[Any], head: Head, letterbox: Letterbox, least: Thresholds) -> EdgeMap:
    """Decode a (height, width) map of edge scores."""
    return EdgeMap(later(output, letterbox), float(least))


@decoder("attributes")
def attributes(output: NDArray[Any], head: Head, letterbox: Letterbox, least: Thresholds) -> Attributes:
    """Decode one score per attribute."""
    if output.shape != (len(head.classes),):
        raise EngineError(f"{head.name}: {output.size} scores for {len(head.classes)} names; export the bundle again")
    if least.size and (least == least.flat[0]).all():
        return Attributes(output, head.classes, float(least.flat[0]))
    return Attributes(output, head.classes, head.threshold, least)


@decoder("scalar_map")
def scalar_map(output: NDArray[Any], head: Head, letterbox: Letterbox, least: Thresholds) -> ScalarMap:
    """Decode a (height, width) map of numbers in the head's units."""
    return ScalarMap(later(output, letterbox), head.units, head.value_range)


@decoder("vector_map")
def vector_map(output: NDArray[Any], head: Head, letterbox: Letterbox, least: Thresholds) -> VectorMap:
    """Decode a (height, width, C) map of vectors, a component one of the head's classes."""
    if output.shape[2] != len(head.classes):
        raise EngineError(
            f"{head.name}: {output.shape[2]} components for {len(head.classes)} names; export the bundle again"
        )
    return VectorMap(later(output, letterbox), head.classes, head.units, head.value_range)


@decoder("points")
def points(output: NDArray[Any], head: Head, letterbox: Letterbox, least: Thresholds) -> Points:
    """Decode points: (K, 4) rows of x y score class, best first, network pixels; NaN is none."""
    output = output[np.isfinite(output).all(1)]
    _check_ids(output[:, 3], head)
    inside = (output[:, :2] <= (letterbox.scaled_width, letterbox.scaled_height)).all(1)  # none in the padding
    output = output[inside & (output[:, 2] >= _by_class(least, output[:, 3]))]
    return Points(
        letterbox.points_to_camera(output[:, :2].astype(np.float32)),
        output[:, 2].astype(np.float32),
        output[:, 3].astype(np.int64),
        head.classes,
    )


@decoder("scalars")
def scalars(output: NDArray[Any], head: Head, letterbox: Letterbox, least: Thresholds) -> Scalars:
    """Decode numbers of the whole image, one a class of the head."""
    if output.shape != (len(head.classes),):
        raise EngineError(f"{head.name}: {output.size} numbers for {len(head.classes)} names; export the bundle again")
    return Scalars(output.astype(np.float32), head.classes, head.units)


@decoder("tensor")
def tensor(output: NDArray[Any], head: Head, letterbox: Letterbox, least: Thresholds) -> Tensor:
    """Return an output as it is."""
    return Tensor(output, head.units)


FLOATS = ("float16", "float32", "float64")
EXPECTED: dict[str, tuple[tuple[str, ...], tuple[int | None, ...]]] = {
    "topk_boxes": (FLOATS, (None, 6)),
    "nms_boxes": (FLOATS, (None, 6)),
    "label_map": (("uint8",), (None, None)),
    "depth_map": (("float32",), (None, None)),
    "edge_map": (("float32",), (None, None)),
    "normal_map": (("float32",), (None, None, 3)),
    "attributes": (FLOATS, (None,)),
    "scalar_map": (("float32",), (None, None)),
    "vector_map": (("float32",), (None, None, None)),
    "points": (FLOATS, (None, 4)),
    "scalars": (FLOATS, (None,)),
}
"""Data types and shape that each decoder reads; a network's shapes may be known only when it runs."""


def _check_output(output: NDArray[Any], head: Head) -> None:
    """Raise `EngineError` where an output has another type or shape than its head's decoder reads."""
    if head.decoder not in EXPECTED:
        return
    dtypes, sizes = EXPECTED[head.decoder]
    fits = [expected in (None, size) for size, expected in zip(output.shape, sizes, strict=False)]
    if output.dtype.name not in dtypes or output.ndim != len(sizes) or not all(fits) or 0 in output.shape[1:]:
        raise EngineError(
            f"{head.name}: the network gives {output.dtype} {output.shape}, which {head.decoder} does not read; "
            "export the bundle again"
        )


def _by_class(least: Thresholds, ids: NDArray[Any]) -> Thresholds:
    """Return the threshold of each id, where classes have their own."""
    return least[ids.astype(np.int64)] if least.ndim else least


def _check_ids(ids: NDArray[Any], head: Head) -> None:
    """Raise `EngineError` where an output holds a class id that the manifest does not name."""
    if ids.size and not (ids.min() >= 0 and ids.max() < len(head.classes)):
        actual = f"a class {ids.max():g}" if ids.max() >= len(head.classes) else f"a class {ids.min():g}"
        raise EngineError(
            f"{head.name}: the network gives {actual}, the manifest names {len(head.classes)}; export the bundle again"
        )


def decode(
    outputs: dict[str, NDArray[Any]],
    heads: tuple[Head, ...],
    letterbox: Letterbox,
    thresholds: Mapping[str, Thresholds] = MappingProxyType({}),
) -> dict[str, HeadResult]:
    """Decode one image's outputs (without the batch axis), by head name, into camera pixels.

    ``thresholds`` by head name, as `postprocess.parse_thresholds` returns them, take precedence over
    `Head.threshold`.
    """
    results: dict[str, HeadResult] = {}
    for head in heads:
        least = thresholds.get(head.name, np.asarray(head.threshold, np.float32))
        output = outputs[head.name]
        _check_output(output, head)
        results[head.name] = DECODERS[head.decoder](output, head, letterbox, least)
    return results
