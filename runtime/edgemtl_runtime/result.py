"""Results, one type a task, in the pixels of one camera."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from .errors import EdgemtlError, missing
from .frame import StampSource
from .generic_result import GenericResult
from .generic_result import Points as Points
from .generic_result import ScalarMap as ScalarMap
from .generic_result import Scalars as Scalars
from .generic_result import Tensor as Tensor
from .generic_result import VectorMap as VectorMap
from .network_map import MapResult, NetworkMap, percentiles
from .renamed_names import renamed_fields
from .result_record import (
    AttributesRecord,
    BoxesRecord,
    BoxRecord,
    DepthMapRecord,
    DepthRecord,
    EdgeMapRecord,
    LabelMapRecord,
    NormalMapRecord,
    Recorded,
    ResultRecord,
)
from .result_record import schema as schema
from .wall import utc

if TYPE_CHECKING:
    import supervision

NO_TRACK = -1
"""The track of a box without a track."""


@dataclass(frozen=True, eq=False)
class Boxes(Recorded):
    """Detected objects, best first: ``xyxy`` (N, 4) float32 pixels, ``scores`` (N,) in [0, 1], ``classes`` (N,) ids.

    ``tracks`` (N,) int64, where objects are tracked: a number from 1 on that stays with an object from frame to
    frame, -1 (`NO_TRACK`) for a box without a track. No two boxes of a frame have the same track.
    """

    xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    classes: NDArray[np.int64]
    names: tuple[str, ...]
    tracks: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        n = len(self.xyxy)
        if self.xyxy.shape != (n, 4) or self.scores.shape != (n,) or self.classes.shape != (n,):
            raise ValueError(f"boxes disagree: {self.xyxy.shape}, {self.scores.shape}, {self.classes.shape}")
        if n and not 0 <= self.classes.min() <= self.classes.max() < len(self.names):
            raise ValueError(f"a class id outside 0..{len(self.names) - 1}")
        if self.tracks is not None:
            _check_tracks(self.tracks, n)

    def __len__(self) -> int:
        return len(self.xyxy)

    def pick(self, rows: NDArray[Any]) -> Boxes:
        """Return the boxes at ``rows``: indices, or a mask (N,) bool."""
        tracks = None if self.tracks is None else self.tracks[rows]
        return Boxes(self.xyxy[rows], self.scores[rows], self.classes[rows], self.names, tracks)

    def record(self) -> BoxesRecord:
        """Return the boxes for JSON; a tracked one with its ``track``."""
        tracks = [NO_TRACK] * len(self) if self.tracks is None else self.tracks.tolist()
        rows = zip(self.xyxy.tolist(), self.scores.tolist(), self.classes.tolist(), tracks, strict=True)
        return BoxesRecord(
            [
                BoxRecord(
                    [round(edge, 2) for edge in box],
                    round(score, 4),
                    self.names[index],
                    msgspec.UNSET if track == NO_TRACK else track,
                )
                for box, score, index, track in rows
            ]
        )

    def to_supervision(self) -> supervision.Detections:
        """Return a ``supervision.Detections``: class names as its data ``class_name``, tracks as ``tracker_id``.

        A box without a track has the tracker id -1. Raises `EdgemtlError` where supervision is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise EdgemtlError(
                missing(
                    error, "supervision", "supervision is missing, which holds the detections: pip install supervision"
                )
            ) from error
        return supervision.Detections(
            xyxy=self.xyxy,
            confidence=self.scores,
            class_id=self.classes,
            tracker_id=self.tracks,
            data={"class_name": np.array(self.names, dtype=np.str_)[self.classes]},
        )


@dataclass(frozen=True, eq=False)
class LabelMap(MapResult):
    """Semantic segmentation: ``labels`` (H, W) uint8, one class id a pixel."""

    MAP: ClassVar[str] = "labels"
    labels: NDArray[np.uint8]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        labels = self._keep_map()
        if labels.ndim != 2 or labels.dtype != np.uint8:
            raise ValueError(f"a label map is (H, W) uint8, not {labels.dtype} {labels.shape}")

    def record(self) -> LabelMapRecord:
        """Return the share of the image that each class covers, for JSON."""
        labels, counts = self._counted()
        weights = None if counts is None else counts.ravel()
        pixels = np.bincount(labels.ravel(), weights, len(self.names))[: len(self.names)]
        shares = pixels / (labels.size if counts is None else counts.sum())
        return LabelMapRecord({n: round(share, 4) for n, share in zip(self.names, shares.tolist(), strict=True)})


@dataclass(frozen=True, eq=False)
class DepthMap(MapResult):
    """Depth along the optical axis: ``depth_m`` (H, W) float32, metres; if ``relative``, up to a factor an image."""

    MAP: ClassVar[str] = "depth_m"
    depth_m: NDArray[np.float32]
    relative: bool = False

    def __post_init__(self) -> None:
        _check_map("a depth map", self._keep_map(), 2)

    def record(self) -> DepthMapRecord:
        """Return the image's 5th, 50th and 95th percentile, for JSON."""
        depth_m, counts = self._counted()
        low, middle, high = percentiles(depth_m.ravel(), None if counts is None else counts.ravel(), (5, 50, 95))
        return DepthMapRecord(DepthRecord(round(low, 3), round(middle, 3), round(high, 3)))


@dataclass(frozen=True, eq=False)
class NormalMap(MapResult):
    """Surface normals: ``normals`` (H, W, 3) float32 unit vectors, x right, y down, z forward."""

    MAP: ClassVar[str] = "normals"
    normals: NDArray[np.float32]

    def __post_init__(self) -> None:
        _check_map("a normal map", self._keep_map(), 3)

    def record(self) -> NormalMapRecord:
        """Return the mean direction, for JSON."""
        normals, counts = self._counted()
        mean = normals.mean((0, 1), np.float64)
        if counts is not None:
            mean = np.tensordot(counts, normals.astype(np.float64)) / counts.sum()
        return NormalMapRecord([round(component, 4) for component in mean.tolist()])


@dataclass(frozen=True, eq=False)
class EdgeMap(MapResult):
    """Edge probabilities: ``scores`` (H, W) float32 in [0, 1]; an edge from ``threshold`` on."""

    MAP: ClassVar[str] = "scores"
    scores: NDArray[np.float32]
    threshold: float

    def __post_init__(self) -> None:
        _check_map("an edge map", self._keep_map(), 2)

    def record(self) -> EdgeMapRecord:
        """Return the share of the image that is edge, for JSON."""
        scores, counts = self._counted()
        edges = scores >= self.threshold
        share = edges.mean() if counts is None else counts[edges].sum() / counts.sum()
        return EdgeMapRecord(round(float(share), 4))


@dataclass(frozen=True, eq=False)
class Attributes(Recorded):
    """Attributes of the whole image: ``scores`` (N,) float32 in [0, 1], one a name; holds from ``threshold`` on.

    ``thresholds`` (N,) float32, one a name, takes precedence over ``threshold``; see `holds`.
    """

    scores: NDArray[np.float32]
    names: tuple[str, ...]
    threshold: float
    thresholds: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if self.scores.shape != (len(self.names),):
            raise ValueError(f"{len(self.names)} attributes, but scores are {self.scores.shape}")
        if self.thresholds is not None and self.thresholds.shape != self.scores.shape:
            raise ValueError(f"{len(self.names)} attributes, but thresholds are {self.thresholds.shape}")

    @property
    def holds(self) -> NDArray[np.bool_]:
        """Whether each attribute holds, (N,) bool."""
        least = self.threshold if self.thresholds is None else self.thresholds
        return np.asarray(self.scores >= least)

    def record(self) -> AttributesRecord:
        """Return the scores by name, for JSON."""
        return AttributesRecord({n: round(float(s), 4) for n, s in zip(self.names, self.scores, strict=True)})


def _check_tracks(tracks: NDArray[Any], count: int) -> None:
    if tracks.shape != (count,) or tracks.dtype != np.int64:
        raise ValueError(f"tracks of {count} boxes are ({count},) int64, not {tracks.dtype} {tracks.shape}")
    numbers = tracks[tracks != NO_TRACK]
    if (numbers < 1).any() or len(np.unique(numbers)) != len(numbers):
        raise ValueError(f"tracks are numbers from 1 on, each once a frame, or {NO_TRACK}: {tracks.tolist()}"[:200])


def _check_map(what: str, values: NDArray[Any] | NetworkMap, ndim: int) -> None:
    if values.ndim != ndim or values.dtype != np.float32 or (ndim == 3 and values.shape[2] != 3):
        raise ValueError(f"{what} is (H, W{', 3' if ndim == 3 else ''}) float32, not {values.dtype} {values.shape}")


HeadResult = Boxes | LabelMap | DepthMap | NormalMap | EdgeMap | Attributes | GenericResult


@renamed_fields(absent="missing", stamps="stamp_sources")
@dataclass(frozen=True, eq=False)
class Result(Recorded):
    """Result of one pair of frames: ``heads`` by name, in the pixels of camera ``camera``.

    ``missing`` names the cameras in whose place the network was given a blank frame. ``stamp_sources`` holds each
    camera's `Frame.stamp_source`. ``trusted``: the skew is within the tolerance for any error of the stamps within
    ``uncertainty_ns``, by camera. ``unix_ns`` is ``stamp_ns`` as Unix time, by the wall clock at that time.
    """

    heads: dict[str, HeadResult]
    camera: str
    stamp_ns: int
    skew_ns: int
    index: int
    name: str = ""
    missing: tuple[str, ...] = ()
    stamp_sources: dict[str, StampSource] = field(default_factory=dict)
    trusted: bool = True
    uncertainty_ns: dict[str, int] = field(default_factory=dict)
    unix_ns: int = 0

    def record(self) -> ResultRecord:
        """Return the result for JSON: stamps in nanoseconds, boxes in pixels."""
        return ResultRecord(
            index=self.index,
            name=self.name,
            camera=self.camera,
            stamp_ns=self.stamp_ns,
            unix_ns=self.unix_ns,
            utc=utc(self.unix_ns),
            skew_ns=self.skew_ns,
            pairing="trusted" if self.trusted else "uncertain",
            missing=list(self.missing),
            missing_old_key=list(self.missing),
            stamp_source=dict(self.stamp_sources),
            stamp_uncertainty_ns=dict(self.uncertainty_ns),
            heads={name: head.record() for name, head in self.heads.items()},
        )
