"""ByteTrack (Zhang et al., ECCV 2022, arXiv:2110.06864): multi-object tracking by association of boxes.

Time is in seconds in place of frames, because a robot's frames come at 9 or 30 a second and with gaps. The published
packages do not fit a robot without torch: supervision and those built on it pull in scipy, matplotlib, PyAV and Pillow,
some 200 MB, for what numpy does here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import EdgemtlError
from .result import NO_TRACK, Boxes

Floats = NDArray[np.float64]
MEASURED = 0.06
"""Standard deviation of a detected edge, in box sizes; the box's size is the root of its area."""
ACCELERATION = 1.5
"""Root of the spectral density of the acceleration, in box sizes per second to the power of 1.5."""
INITIAL_SPEED = 2.5
"""Standard deviation of the speed of an object that was detected once, in box sizes per second."""


@dataclass(frozen=True, eq=False)
class KalmanFilters:
    """Kalman filters of N boxes with a nearly constant velocity, vectorised.

    ``position`` (N, 4) is centre x, centre y, width, height in pixels; ``speed`` (N, 4) their change per second.
    ``covariance`` (3, N, 4) holds the variance of the position, the covariance of both, and the variance of the speed:
    the four coordinates are independent, so that no matrix is inverted. ``size`` (N, 1) pixels scales the noise, by
    the last detection. The process noise is a white acceleration (Bar-Shalom, Li and Kirubarajan 2001, 6.2.2), so
    that two short steps equal a long one.
    """

    position: Floats
    speed: Floats
    covariance: Floats
    size: Floats

    @classmethod
    def start(cls, position: Floats) -> KalmanFilters:
        """Return filters initialised by the first detection of boxes (N, 4), with an expected speed of 0."""
        size = _size(position)
        variances = (MEASURED * size) ** 2, 0.0 * size, (INITIAL_SPEED * size) ** 2
        covariance = np.stack([np.broadcast_to(variance, position.shape) for variance in variances])
        return cls(position, np.zeros_like(position), covariance, size)

    def predict(self, seconds: float) -> KalmanFilters:
        """Return the filters predicted some seconds ahead."""
        position, both, speed = self.covariance
        noise = (ACCELERATION * self.size) ** 2
        covariance = np.stack(
            [
                position + 2 * seconds * both + seconds**2 * speed + noise * seconds**3 / 3,
                both + seconds * speed + noise * seconds**2 / 2,
                speed + noise * seconds,
            ]
        )
        return replace(self, position=self.position + seconds * self.speed, covariance=covariance)

    def correct(self, position: Floats) -> KalmanFilters:
        """Return the filters corrected by a detection of every box at ``position`` (N, 4)."""
        error = (MEASURED * _size(position)) ** 2
        gain, speed_gain = self.covariance[:2] / (self.covariance[0] + error)
        innovation = position - self.position
        covariance = np.stack(
            [
                (1 - gain) * self.covariance[0],
                (1 - gain) * self.covariance[1],
                self.covariance[2] - speed_gain * self.covariance[1],
            ]
        )
        return KalmanFilters(
            self.position + gain * innovation, self.speed + speed_gain * innovation, covariance, _size(position)
        )

    def pick(self, rows: NDArray[Any]) -> KalmanFilters:
        """Return the filters at ``rows``: indices or a mask."""
        return KalmanFilters(self.position[rows], self.speed[rows], self.covariance[:, rows], self.size[rows])

    def joined(self, other: KalmanFilters) -> KalmanFilters:
        """Return the concatenation of these filters and others."""
        covariance = np.concatenate([self.covariance, other.covariance], 1)
        ours, others = (self.position, self.speed, self.size), (other.position, other.speed, other.size)
        position, speed, size = (np.concatenate(pair) for pair in zip(ours, others, strict=True))
        return KalmanFilters(position, speed, covariance, size)


class Tracker:
    """ByteTrack's tracker: gives every object a number that stays with it from frame to frame.

    Its input are boxes decoded with the threshold ``low``. ``high`` is the score of a confident box and ``new_score``
    (default ``high`` + 0.1, at most 1) the least score that starts a track; both a number or (classes,), one a class.
    Confident boxes are associated first, by IoU above ``min_iou`` with the predicted tracks. Boxes from ``low`` up to
    ``high`` are then associated with the remaining tracks (above ``min_iou_weak``), so that an object keeps its number
    while its score is low: half occluded, or seen by one camera because the other dropped out. Only a confirmed track,
    matched before, takes a weak box; a tentative one is removed at its first miss. A track is removed ``keep_s``
    seconds after its last match, which must be longer than the time between frames. With ``within_class`` a track
    matches only boxes of its class. The paper's code uses IoUs of 0.2 and 0.5; at 3 and 9 frames a second these lose
    people who walk and turn, so the defaults are 0.1 and 0.35.

    Numbers rise from 1 and are never reused, not even after `reset`. Raises `EdgemtlError` for a score or overlap
    outside [0, 1] or a time below 0.
    """

    def __init__(
        self,
        high: ArrayLike = 0.5,
        low: float = 0.1,
        new_score: ArrayLike | None = None,
        keep_s: float = 1.0,
        min_iou: float = 0.1,
        min_iou_weak: float = 0.35,
        within_class: bool = True,
    ) -> None:
        self.high = np.asarray(high, np.float32)
        self.new_score = np.asarray(np.minimum(self.high + 0.1, 1) if new_score is None else new_score, np.float32)
        shares = {"high": self.high, "low": low, "new_score": self.new_score}
        for name, value in {**shares, "min_iou": min_iou, "min_iou_weak": min_iou_weak}.items():
            if not (np.all(np.asarray(value) >= 0) and np.all(np.asarray(value) <= 1)):
                raise EdgemtlError(f"tracking: {name} is {value}; give a value from 0 to 1")
        if not 0 <= keep_s < float("inf"):
            raise EdgemtlError(f"tracking: keep_s is {keep_s}; give seconds from 0 on")
        self.low, self.keep_ns, self.within_class = np.float32(low), round(keep_s * 1e9), within_class
        self.min_iou, self.min_iou_weak = min_iou, min_iou_weak
        self._issued = 0
        self.reset()

    def reset(self) -> None:
        """Remove every track."""
        self._stamp_ns = 0
        self._tracks = np.zeros(0, np.int64)
        self._classes = np.zeros(0, np.int64)
        self._matched_ns = np.zeros(0, np.int64)
        self._confirmed = np.zeros(0, np.bool_)
        self._filters = KalmanFilters.start(np.zeros((0, 4)))

    def update(self, boxes: Boxes, stamp_ns: int, weak: Boxes | None = None) -> Boxes:
        """Update the tracks by the next frame's boxes, best first, and return boxes with their ``tracks``.

        Returned are, unchanged and in order, the boxes with a score from ``high`` on, and weaker ones that a track
        matched. A box below ``new_score`` without a track has the track -1. ``weak`` are further boxes, where they were
        decoded separately. A stamp before the last one resets: a recording was rewound. Raises ValueError where
        ``high`` or ``new_score`` is one a class and the boxes have other classes.
        """
        if weak is not None:
            boxes = _joined(boxes, weak)
        if stamp_ns < self._stamp_ns:
            self.reset()
        self._advance(stamp_ns)
        strong = boxes.scores >= _by_class(self.high, boxes)
        positions = _centres(boxes.xyxy)
        matches = self._associate(boxes, positions, strong)
        hit = matches >= 0
        tracks = np.full(len(boxes), NO_TRACK, np.int64)
        tracks[matches[hit]] = self._tracks[hit]
        self._correct(hit, positions[matches[hit]], stamp_ns)
        fresh = np.flatnonzero(strong & (tracks == NO_TRACK) & (boxes.scores >= _by_class(self.new_score, boxes)))
        tracks[fresh] = self._start(positions[fresh], boxes.classes[fresh], stamp_ns)
        return replace(boxes, tracks=tracks).pick(strong | (tracks != NO_TRACK))

    def _advance(self, stamp_ns: int) -> None:
        """Remove tracks without a match for too long, and predict the others to the present."""
        self._pick(stamp_ns - self._matched_ns <= self.keep_ns)
        self._filters = self._filters.predict((stamp_ns - self._stamp_ns) / 1e9)
        self._stamp_ns = stamp_ns

    def _associate(self, boxes: Boxes, positions: Floats, strong: NDArray[np.bool_]) -> NDArray[np.intp]:
        """Return the matching box of each track, or -1: confident boxes first, then weak ones."""
        matches = np.full(len(self._tracks), -1, np.intp)
        iou = _iou(self._filters.position, positions)
        if self.within_class:
            iou *= self._classes[:, None] == boxes.classes
        weak = ~strong & (boxes.scores >= self.low)
        all_tracks = np.ones(len(matches), np.bool_)
        stages = (all_tracks, strong, self.min_iou), (self._confirmed, weak, self.min_iou_weak)
        for candidates, detections, least in stages:
            rows, columns = np.flatnonzero(candidates & (matches < 0)), np.flatnonzero(detections)
            assigned = assign(iou[np.ix_(rows, columns)] - least)
            matches[rows[assigned >= 0]] = columns[assigned[assigned >= 0]]
        return matches

    def _correct(self, hit: NDArray[np.bool_], positions: Floats, stamp_ns: int) -> None:
        """Correct the matched tracks; the others stop growing, and tentative ones are removed."""
        rest = self._filters.pick(~hit)
        rest.speed[:, 2:] = 0
        order = np.argsort(np.concatenate([np.flatnonzero(hit), np.flatnonzero(~hit)]))
        self._filters = self._filters.pick(hit).correct(positions).joined(rest).pick(order)
        self._matched_ns[hit] = stamp_ns
        self._confirmed |= hit
        self._pick(self._confirmed)

    def _start(self, positions: Floats, classes: NDArray[np.int64], stamp_ns: int) -> NDArray[np.int64]:
        """Start a track for every box and return their numbers."""
        count = len(positions)
        tracks = np.arange(self._issued + 1, self._issued + count + 1, dtype=np.int64)
        self._issued += count
        self._tracks = np.concatenate([self._tracks, tracks])
        self._classes = np.concatenate([self._classes, classes])
        self._matched_ns = np.concatenate([self._matched_ns, np.full(count, stamp_ns, np.int64)])
        self._confirmed = np.concatenate([self._confirmed, np.zeros(count, np.bool_)])
        self._filters = self._filters.joined(KalmanFilters.start(positions))
        return tracks

    def _pick(self, rows: NDArray[np.bool_]) -> None:
        self._tracks, self._classes = self._tracks[rows], self._classes[rows]
        self._matched_ns, self._confirmed = self._matched_ns[rows], self._confirmed[rows]
        self._filters = self._filters.pick(rows)


def assign(gain: Floats) -> NDArray[np.intp]:
    """Return the column of each row, or -1: the linear assignment of the greatest sum of gains.

    ``gain`` is (N, M); pairs without a gain above 0 are not assigned. Pairs without a rival are assigned at once; the
    rest by the Hungarian algorithm with shortest augmenting paths (Jonker and Volgenant 1987), exact, O(N² M).
    """
    assigned = np.full(gain.shape[0], -1, np.intp)
    positive = gain > 0
    per_row, per_column = positive.sum(1), positive.sum(0)
    rows, columns = np.nonzero(positive & (per_row == 1)[:, None] & (per_column == 1))
    assigned[rows] = columns
    rows = np.flatnonzero((per_row > 0) & (assigned < 0))
    columns = np.flatnonzero(positive[rows].any(0))
    if len(rows):
        rest = np.maximum(gain[np.ix_(rows, columns)], 0)
        if len(rows) <= len(columns):
            pairs = np.arange(len(rows)), _hungarian(rest.max() - rest)
        else:
            pairs = _hungarian(rest.max() - rest.T), np.arange(len(columns))
        kept = rest[pairs] > 0
        assigned[rows[pairs[0][kept]]] = columns[pairs[1][kept]]
    return assigned


def _hungarian(cost: Floats) -> NDArray[np.intp]:
    """Return the column of each row, all different, of the least total cost; no more rows than columns."""
    count, width = cost.shape
    of_row, owner = np.full(count, -1, np.intp), np.full(width, -1, np.intp)
    row_price, column_price = np.zeros(count), np.zeros(width)
    for first in range(count):
        nearest, before = np.full(width, np.inf), np.full(width, first, np.intp)
        open_ = np.ones(width, np.bool_)
        row, reach = first, 0.0
        while True:  # Dijkstra over the columns, by reduced costs, to the first without an owner
            path = reach + cost[row] - row_price[row] - column_price
            better = open_ & (path < nearest)
            nearest[better], before[better] = path[better], row
            column = int(np.where(open_, nearest, np.inf).argmin())
            reach = float(nearest[column])
            if owner[column] < 0:
                break
            open_[column] = False
            row = int(owner[column])
        closed = np.flatnonzero(~open_)
        row_price[first] += reach
        row_price[owner[closed]] += reach - nearest[closed]
        column_price[closed] -= reach - nearest[closed]
        while True:  # every row on the path moves one column on
            row = int(before[column])
            owner[column] = row
            column, of_row[row] = int(of_row[row]), column
            if row == first:
                break
    return of_row


def _iou(first: Floats, second: Floats) -> Floats:
    """Return the IoU of every first box (N, 4) with every second (M, 4), both by centre and size, as (N, M)."""
    half_first, half_second = np.maximum(first[:, None, 2:], 1) / 2, np.maximum(second[None, :, 2:], 1) / 2
    far = np.abs(first[:, None, :2] - second[None, :, :2])
    sides = np.minimum(half_first + half_second - far, 2 * np.minimum(half_first, half_second)).clip(0)
    shared = sides.prod(2)
    union = 4 * (half_first.prod(2) + half_second.prod(2)) - shared
    return np.asarray(np.nan_to_num(shared / union, nan=0.0))


def _size(position: Floats) -> Floats:
    return np.asarray(np.sqrt(np.maximum(position[:, 2:], 1).prod(1, keepdims=True)))


def _centres(xyxy: NDArray[np.float32]) -> Floats:
    low, high = xyxy[:, :2].astype(np.float64), xyxy[:, 2:].astype(np.float64)
    return np.concatenate([(low + high) / 2, high - low], 1)


def _by_class(scores: NDArray[np.float32], boxes: Boxes) -> NDArray[np.float32]:
    if scores.ndim and len(scores) != len(boxes.names):
        raise ValueError(f"tracking has scores for {len(scores)} classes, but the boxes have {len(boxes.names)}")
    return scores[boxes.classes] if scores.ndim else scores


def _joined(first: Boxes, second: Boxes) -> Boxes:
    if first.names != second.names:
        raise ValueError("strong and weak boxes have different classes")
    xyxy, scores = np.concatenate([first.xyxy, second.xyxy]), np.concatenate([first.scores, second.scores])
    classes = np.concatenate([first.classes, second.classes])
    return Boxes(xyxy, scores, classes, first.names).pick(np.argsort(-scores, kind="stable"))
