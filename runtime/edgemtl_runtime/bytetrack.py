"""Boxes followed from frame to frame, so that an object keeps its number.

This is ByteTrack (Zhang et al., ECCV 2022, arXiv:2110.06864) with time in seconds in place of frames, because a
robot's frames come at 9 or 30 a second and with gaps. The ready packages do not fit a robot without torch: supervision
and those built on it pull in scipy, matplotlib, PyAV and Pillow, some 200 MB, for what numpy does here.
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
"""Standard deviation of a detected edge's place, in box sizes; the box's size is the root of its area."""
WANDERS = 1.5
"""Root of the spectral density of the acceleration, in box sizes per second to the power of 1.5."""
STARTS = 2.5
"""Standard deviation of the speed of an object that was seen once, in box sizes per second."""


@dataclass(frozen=True, eq=False)
class Motion:
    """Kalman filters of N boxes that move at a nearly constant speed, all at once.

    ``place`` (N, 4) is centre x, centre y, width, height in pixels; ``speed`` (N, 4) their change per second.
    ``spread`` (3, N, 4) holds the variances of place, of both together, and of speed: the four coordinates do not
    depend on each other, so that no matrix is inverted. ``size`` (N, 1) pixels is what the noise is measured by, taken
    when the box was last seen. The noise is a white acceleration (Bar-Shalom, Li and Kirubarajan 2001, 6.2.2), so that
    two short steps are the same as a long one.
    """

    place: Floats
    speed: Floats
    spread: Floats
    size: Floats

    @classmethod
    def start(cls, place: Floats) -> Motion:
        """Return filters of boxes (N, 4) that were seen for the first time: at rest, as far as is known."""
        size = _size(place)
        variances = (MEASURED * size) ** 2, 0.0 * size, (STARTS * size) ** 2
        spread = np.stack([np.broadcast_to(variance, place.shape) for variance in variances])
        return cls(place, np.zeros_like(place), spread, size)

    def after(self, seconds: float) -> Motion:
        """Return the filters some time on."""
        place, both, speed = self.spread
        noise = (WANDERS * self.size) ** 2
        spread = np.stack(
            [
                place + 2 * seconds * both + seconds**2 * speed + noise * seconds**3 / 3,
                both + seconds * speed + noise * seconds**2 / 2,
                speed + noise * seconds,
            ]
        )
        return replace(self, place=self.place + seconds * self.speed, spread=spread)

    def seen(self, place: Floats) -> Motion:
        """Return the filters after every box was seen at ``place`` (N, 4)."""
        error = (MEASURED * _size(place)) ** 2
        gain, speed_gain = self.spread[:2] / (self.spread[0] + error)
        off = place - self.place
        spread = np.stack(
            [
                (1 - gain) * self.spread[0],
                (1 - gain) * self.spread[1],
                self.spread[2] - speed_gain * self.spread[1],
            ]
        )
        return Motion(self.place + gain * off, self.speed + speed_gain * off, spread, _size(place))

    def pick(self, rows: NDArray[Any]) -> Motion:
        """Return the filters at ``rows``: indices or a mask."""
        return Motion(self.place[rows], self.speed[rows], self.spread[:, rows], self.size[rows])

    def joined(self, other: Motion) -> Motion:
        """Return these filters and then the other ones."""
        spread = np.concatenate([self.spread, other.spread], 1)
        first, second = (self.place, self.speed, self.size), (other.place, other.speed, other.size)
        place, speed, size = (np.concatenate(pair) for pair in zip(first, second, strict=True))
        return Motion(place, speed, spread, size)


class Tracker:
    """Gives every object a number that stays with it from frame to frame.

    Feed it boxes that were decoded with the threshold ``low``. ``high`` is the score of a confident box and
    ``new_score`` (default ``high`` + 0.1, at most 1) the least score that begins a track; both a number or (classes,),
    one a class. Confident boxes are matched first, by overlap (IoU above ``min_iou``) with where the tracks must be by
    now. Boxes from ``low`` up to ``high`` are then matched with the tracks that are left (above ``min_iou_weak``), so
    that an object keeps its number while its score is low: half covered, or seen by one camera because the other
    dropped out. Only a track that was matched before takes a weak box; one that was not is dropped when it is missed.
    A track is kept until it was not seen for ``keep_s`` seconds, which must be longer than the time between frames.
    With ``within_class`` a track matches boxes of its own class alone. The paper's code wants overlaps of 0.2 and 0.5;
    at 3 and 9 frames a second these lose people who walk and turn, so the defaults are 0.1 and 0.35.

    Numbers rise from 1 and are not used again, not even after `reset`. Raises `EdgemtlError` for a score or overlap
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
        self._given = 0
        self.reset()

    def reset(self) -> None:
        """Forget every track."""
        self._stamp_ns = 0
        self._tracks = np.zeros(0, np.int64)
        self._classes = np.zeros(0, np.int64)
        self._seen_ns = np.zeros(0, np.int64)
        self._twice = np.zeros(0, np.bool_)
        self._motion = Motion.start(np.zeros((0, 4)))

    def update(self, boxes: Boxes, stamp_ns: int, weak: Boxes | None = None) -> Boxes:
        """Take the boxes of the next frame, best first, and return those that count, with their ``tracks``.

        Returned are, as they were detected and in their order, the boxes with a score from ``high`` on, and weaker
        ones that a track took. A box below ``new_score`` that no track took has the track -1. ``weak`` are further
        boxes, where they were decoded apart. A stamp before the last one begins anew: a recording was rewound. Raises
        ValueError where ``high`` or ``new_score`` is one a class and the boxes have other classes.
        """
        if weak is not None:
            boxes = _joined(boxes, weak)
        if stamp_ns < self._stamp_ns:
            self.reset()
        self._advance(stamp_ns)
        strong = boxes.scores >= _by_class(self.high, boxes)
        place = _centres(boxes.xyxy)
        found = self._match(boxes, place, strong)
        hit = found >= 0
        tracks = np.full(len(boxes), NO_TRACK, np.int64)
        tracks[found[hit]] = self._tracks[hit]
        self._follow(hit, place[found[hit]], stamp_ns)
        fresh = np.flatnonzero(strong & (tracks == NO_TRACK) & (boxes.scores >= _by_class(self.new_score, boxes)))
        tracks[fresh] = self._begin(place[fresh], boxes.classes[fresh], stamp_ns)
        return replace(boxes, tracks=tracks).pick(strong | (tracks != NO_TRACK))

    def _advance(self, stamp_ns: int) -> None:
        """Drop what was not seen for too long, and move the rest to where it must be by now."""
        self._pick(stamp_ns - self._seen_ns <= self.keep_ns)
        self._motion = self._motion.after((stamp_ns - self._stamp_ns) / 1e9)
        self._stamp_ns = stamp_ns

    def _match(self, boxes: Boxes, place: Floats, strong: NDArray[np.bool_]) -> NDArray[np.intp]:
        """Return the box of each track, or -1."""
        found = np.full(len(self._tracks), -1, np.intp)
        iou = _overlap(self._motion.place, place)
        if self.within_class:
            iou *= self._classes[:, None] == boxes.classes
        weak = ~strong & (boxes.scores >= self.low)
        everyone = np.ones(len(found), np.bool_)
        for takers, taken, least in ((everyone, strong, self.min_iou), (self._twice, weak, self.min_iou_weak)):
            rows, columns = np.flatnonzero(takers & (found < 0)), np.flatnonzero(taken)
            chosen = assign(iou[np.ix_(rows, columns)] - least)
            found[rows[chosen >= 0]] = columns[chosen[chosen >= 0]]
        return found

    def _follow(self, hit: NDArray[np.bool_], place: Floats, stamp_ns: int) -> None:
        """Note where the tracks that were hit are; the others stop growing, and go if they were seen but once."""
        rest = self._motion.pick(~hit)
        rest.speed[:, 2:] = 0
        order = np.argsort(np.concatenate([np.flatnonzero(hit), np.flatnonzero(~hit)]))
        self._motion = self._motion.pick(hit).seen(place).joined(rest).pick(order)
        self._seen_ns[hit] = stamp_ns
        self._twice |= hit
        self._pick(self._twice)

    def _begin(self, place: Floats, classes: NDArray[np.int64], stamp_ns: int) -> NDArray[np.int64]:
        """Begin a track for every box and return their numbers."""
        count = len(place)
        tracks = np.arange(self._given + 1, self._given + count + 1, dtype=np.int64)
        self._given += count
        self._tracks = np.concatenate([self._tracks, tracks])
        self._classes = np.concatenate([self._classes, classes])
        self._seen_ns = np.concatenate([self._seen_ns, np.full(count, stamp_ns, np.int64)])
        self._twice = np.concatenate([self._twice, np.zeros(count, np.bool_)])
        self._motion = self._motion.joined(Motion.start(place))
        return tracks

    def _pick(self, rows: NDArray[np.bool_]) -> None:
        self._tracks, self._classes = self._tracks[rows], self._classes[rows]
        self._seen_ns, self._twice = self._seen_ns[rows], self._twice[rows]
        self._motion = self._motion.pick(rows)


def assign(gain: Floats) -> NDArray[np.intp]:
    """Return the column of each row, or -1, so that each column is used once and the sum of the gains is the greatest.

    ``gain`` is (N, M); a pair without a gain above 0 is not made. Pairs that no other pair touches are made at once;
    the rest is the Hungarian method by shortest augmenting paths (Jonker and Volgenant 1987), exact, O(N² M).
    """
    chosen = np.full(gain.shape[0], -1, np.intp)
    wanted = gain > 0
    per_row, per_column = wanted.sum(1), wanted.sum(0)
    rows, columns = np.nonzero(wanted & (per_row == 1)[:, None] & (per_column == 1))
    chosen[rows] = columns
    rows = np.flatnonzero((per_row > 0) & (chosen < 0))
    columns = np.flatnonzero(wanted[rows].any(0))
    if len(rows):
        rest = np.maximum(gain[np.ix_(rows, columns)], 0)
        if len(rows) <= len(columns):
            pairs = np.arange(len(rows)), _hungarian(rest.max() - rest)
        else:
            pairs = _hungarian(rest.max() - rest.T), np.arange(len(columns))
        made = rest[pairs] > 0
        chosen[rows[pairs[0][made]]] = columns[pairs[1][made]]
    return chosen


def _hungarian(cost: Floats) -> NDArray[np.intp]:
    """Return the column of each row, all different, with the least sum of costs; no more rows than columns."""
    count, width = cost.shape
    of_row, owner = np.full(count, -1, np.intp), np.full(width, -1, np.intp)
    row_price, column_price = np.zeros(count), np.zeros(width)
    for first in range(count):
        nearest, before = np.full(width, np.inf), np.full(width, first, np.intp)
        open_ = np.ones(width, np.bool_)
        row, reach = first, 0.0
        while True:  # Dijkstra over the columns, by reduced costs, to the first that nobody owns
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


def _overlap(first: Floats, second: Floats) -> Floats:
    """Return the IoU of every first box (N, 4) with every second (M, 4), both by centre and size, as (N, M)."""
    half_first, half_second = np.maximum(first[:, None, 2:], 1) / 2, np.maximum(second[None, :, 2:], 1) / 2
    far = np.abs(first[:, None, :2] - second[None, :, :2])
    sides = np.minimum(half_first + half_second - far, 2 * np.minimum(half_first, half_second)).clip(0)
    shared = sides.prod(2)
    union = 4 * (half_first.prod(2) + half_second.prod(2)) - shared
    return np.asarray(np.nan_to_num(shared / union, nan=0.0))


def _size(place: Floats) -> Floats:
    return np.asarray(np.sqrt(np.maximum(place[:, 2:], 1).prod(1, keepdims=True)))


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
