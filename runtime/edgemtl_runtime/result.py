"""Results, one type a task, in the pixels of the camera they are told for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from .errors import EdgemtlError, missing
from .wall import utc

NO_TRACK = -1
"""The track of a box that no track follows."""


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of `Result.to_dict`, which is one line of the JSON-lines output."""
    from importlib.resources import files

    found: dict[str, Any] = msgspec.json.decode(files(__package__).joinpath("results.schema.json").read_bytes())
    return found


@dataclass(frozen=True, eq=False)
class Boxes:
    """Detected objects, best first: ``xyxy`` (N, 4) float32 pixels, ``scores`` (N,) in [0, 1], ``classes`` (N,) ids.

    ``tracks`` (N,) int64, where objects are followed: a number from 1 on that stays with an object from frame to
    frame, -1 (`NO_TRACK`) for a box that no track follows. No two boxes of a frame have the same track.
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

    def to_dict(self) -> dict[str, Any]:
        """Return a list of plain objects for JSON; a followed box tells its ``track``."""
        rows = zip(self.xyxy.tolist(), self.scores.tolist(), self.classes.tolist(), strict=True)
        told: list[dict[str, Any]] = [
            {"xyxy": [round(v, 2) for v in box], "score": round(score, 4), "class": self.names[c]}
            for box, score, c in rows
        ]
        if self.tracks is not None:
            for box, track in zip(told, self.tracks.tolist(), strict=True):
                if track != NO_TRACK:
                    box["track"] = track
        return {"boxes": told}

    def to_supervision(self) -> Any:
        """Return a ``supervision.Detections``: class names as its data ``class_name``, tracks as ``tracker_id``.

        A box that no track follows has the tracker id -1. Raises `EdgemtlError` where supervision is not installed.
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
class LabelMap:
    """One class id a pixel: ``labels`` (H, W) uint8."""

    labels: NDArray[np.uint8]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.labels.ndim != 2 or self.labels.dtype != np.uint8:
            raise ValueError(f"a label map is (H, W) uint8, not {self.labels.dtype} {self.labels.shape}")

    def to_dict(self) -> dict[str, Any]:
        """Return the share of the picture that each class covers, for JSON."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.names))[: len(self.names)]
        return {"share": {n: round(float(c) / self.labels.size, 4) for n, c in zip(self.names, counts, strict=True)}}


@dataclass(frozen=True, eq=False)
class DepthMap:
    """How far away every pixel is along the optical axis: ``depth_m`` (H, W) float32, metres."""

    depth_m: NDArray[np.float32]

    def __post_init__(self) -> None:
        _check_map("a depth map", self.depth_m, 2)

    def to_dict(self) -> dict[str, Any]:
        """Return the picture's 5th, 50th and 95th percentile, for JSON."""
        low, middle, high = np.percentile(self.depth_m, (5, 50, 95)).tolist()
        return {"depth_m": {"p5": round(low, 3), "median": round(middle, 3), "p95": round(high, 3)}}


@dataclass(frozen=True, eq=False)
class NormalMap:
    """Where every pixel's surface faces: ``normals`` (H, W, 3) float32 unit vectors, x right, y down, z forward."""

    normals: NDArray[np.float32]

    def __post_init__(self) -> None:
        _check_map("a normal map", self.normals, 3)

    def to_dict(self) -> dict[str, Any]:
        """Return the mean direction, for JSON."""
        return {"mean_normal": [round(v, 4) for v in self.normals.mean((0, 1)).tolist()]}


@dataclass(frozen=True, eq=False)
class EdgeMap:
    """How likely every pixel lies on an edge: ``scores`` (H, W) float32 in [0, 1]; an edge from ``threshold`` on."""

    scores: NDArray[np.float32]
    threshold: float

    def __post_init__(self) -> None:
        _check_map("an edge map", self.scores, 2)

    def to_dict(self) -> dict[str, Any]:
        """Return the share of the picture that is edge, for JSON."""
        return {"edge_share": round(float((self.scores >= self.threshold).mean()), 4)}


@dataclass(frozen=True, eq=False)
class Attributes:
    """What holds of the whole picture: ``scores`` (N,) float32 in [0, 1], one a name; holds from ``threshold`` on.

    ``thresholds`` (N,) float32 stands in for ``threshold`` where the names have thresholds of their own; ask `holds`.
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

    def to_dict(self) -> dict[str, Any]:
        """Return the scores by name, for JSON."""
        return {"attributes": {n: round(float(s), 4) for n, s in zip(self.names, self.scores, strict=True)}}


def _check_tracks(tracks: NDArray[Any], count: int) -> None:
    if tracks.shape != (count,) or tracks.dtype != np.int64:
        raise ValueError(f"tracks of {count} boxes are ({count},) int64, not {tracks.dtype} {tracks.shape}")
    followed = tracks[tracks != NO_TRACK]
    if (followed < 1).any() or len(np.unique(followed)) != len(followed):
        raise ValueError(f"tracks are numbers from 1 on, each once a frame, or {NO_TRACK}: {tracks.tolist()}"[:200])


def _check_map(what: str, values: NDArray[Any], ndim: int) -> None:
    if values.ndim != ndim or values.dtype != np.float32 or (ndim == 3 and values.shape[2] != 3):
        raise ValueError(f"{what} is (H, W{', 3' if ndim == 3 else ''}) float32, not {values.dtype} {values.shape}")


HeadResult = Boxes | LabelMap | DepthMap | NormalMap | EdgeMap | Attributes


@dataclass(frozen=True, eq=False)
class Result:
    """What was seen in one pair of frames: ``heads`` by name, in the pixels of camera ``camera``.

    ``absent`` names the cameras in whose place the network was given a blank frame. ``stamps`` tells of each camera in
    the pair how its stamp was had (`Frame.stamp_source`). ``trusted`` says that the frames lie within the tolerance
    even if their stamps are off by all that they may be (``uncertainty_ns`` by camera). ``unix_ns`` is ``stamp_ns`` as
    Unix time, by the wall clock as it stood then.
    """

    heads: dict[str, HeadResult]
    camera: str
    stamp_ns: int
    skew_ns: int
    index: int
    name: str = ""
    absent: tuple[str, ...] = ()
    stamps: dict[str, str] = field(default_factory=dict)
    trusted: bool = True
    uncertainty_ns: dict[str, int] = field(default_factory=dict)
    unix_ns: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return a plain object for JSON: stamps in nanoseconds, boxes in pixels."""
        return {
            "index": self.index,
            "name": self.name,
            "camera": self.camera,
            "stamp_ns": self.stamp_ns,
            "unix_ns": self.unix_ns,
            "utc": utc(self.unix_ns),
            "skew_ns": self.skew_ns,
            "pairing": "trusted" if self.trusted else "uncertain",
            "absent": list(self.absent),
            "stamp_source": dict(self.stamps),
            "stamp_uncertainty_ns": dict(self.uncertainty_ns),
            "heads": {name: head.to_dict() for name, head in self.heads.items()},
        }
