"""Pairing of three cameras and more: each is paired with the first one, and what a frame of that one has is a group."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from .frame import Frame, FramePair
from .pairing import Pairing

MOST_CAMERAS = 8
NO_PARTNER = "no partner"


def pairing_of(
    cameras: list[str],
    tolerance_ns: int,
    optional: Collection[str] = (),
    drop: Callable[[str, str], None] = lambda camera, cause: None,
) -> Pairing | GroupPairing:
    """Return the pairing of one camera or more."""
    if len(cameras) <= 2:
        return Pairing(cameras, tolerance_ns, optional=optional, drop=drop)
    return GroupPairing(cameras, tolerance_ns, optional, drop)


@dataclass(eq=False)
class Group:
    """A frame of the first camera, and what the others have for it: None of a silent one that may be missing."""

    frame: Frame
    partners: dict[str, Frame | None] = field(default_factory=dict)
    is_dropped: bool = False


class _FirstPairing(Pairing):
    """The pairing of the first camera with another, whose drops of the first are decisions about a group."""

    def __init__(self, cameras: list[str], tolerance_ns: int, groups: GroupPairing) -> None:
        super().__init__(cameras, tolerance_ns, optional=groups.optional, drop=groups.drop)
        self.groups = groups

    def report_drop(self, frame: Frame, cause: str) -> None:
        """Report a frame that has no match."""
        if frame.camera == self.groups.first:
            self.groups.decide(frame, self.cameras[1], None, cause)
        else:
            super().report_drop(frame, cause)


class GroupPairing:
    """Matching of the frames of three cameras and more, as `Pairing` does it for two.

    Each other camera is paired with the first. A frame of the first is emitted when all others are decided and no two
    frames of the group are further apart than the tolerance; otherwise it is dropped, with what was matched to it.
    While the first is silent, and may be missing, the others are paired among themselves.
    """

    def __init__(
        self, cameras: list[str], tolerance_ns: int, optional: Collection[str], drop: Callable[[str, str], None]
    ) -> None:
        if not 3 <= len(cameras) <= MOST_CAMERAS:
            raise ValueError(f"groups are of 3 to {MOST_CAMERAS} cameras, not {len(cameras)}")
        self.cameras, self.tolerance_ns, self.drop = cameras, tolerance_ns, drop
        self.first, *self.others = cameras
        self._optional = frozenset(optional)
        self.pairings = {other: _FirstPairing([self.first, other], tolerance_ns, self) for other in self.others}
        self.rest = pairing_of(self.others, tolerance_ns, optional, drop)
        self.groups: dict[int, Group] = {}
        """Groups that are not decided, by the identity of the first camera's frame, the oldest first."""

    @property
    def optional(self) -> frozenset[str]:
        """The cameras that may be missing."""
        return self._optional

    @optional.setter
    def optional(self, names: Collection[str]) -> None:
        self._optional = frozenset(names)
        for pairing in (*self.pairings.values(), self.rest):
            pairing.optional = self._optional

    @property
    def hold_ns(self) -> int:
        """For so long a frame waits for a late match."""
        return self.rest.hold_ns

    @hold_ns.setter
    def hold_ns(self, hold_ns: int) -> None:
        for pairing in (*self.pairings.values(), self.rest):
            pairing.hold_ns = hold_ns

    @property
    def depth(self) -> int:
        """How many frames of a camera wait at the most."""
        return self.rest.depth

    @property
    def silent(self) -> set[str]:
        """The cameras that are known to be silent."""
        return set().union(*(pairing.silent for pairing in self.pairings.values()))

    @property
    def waiting(self) -> dict[str, deque[Frame]]:
        """The frames that wait, by camera."""
        waiting = {self.first: deque(group.frame for group in self.groups.values() if not group.is_dropped)}
        for other, pairing in self.pairings.items():
            matched = (partner for group in self.groups.values() if (partner := group.partners.get(other)) is not None)
            waiting[other] = deque([*matched, *self.rest.waiting[other], *pairing.waiting[other]])
        return waiting

    def push(self, frame: Frame) -> list[FramePair]:
        """Add a frame and return the groups that are now certain; its camera is silent no more."""
        if frame.camera != self.first:
            return self._settle(frame.camera, self.pairings[frame.camera].push(frame))
        emitted = self._clear_rest()
        self.groups[id(frame)] = Group(frame)
        for other, pairing in self.pairings.items():
            emitted += self._settle(other, pairing.push(frame))
        return emitted + self._emit()

    def end(self, name: str) -> list[FramePair]:
        """Mark a camera as ended and return the groups that are now certain."""
        return self._for(name, lambda pairing: pairing.end(name))

    def leave(self, name: str) -> list[FramePair]:
        """Mark a camera as silent, until its next frame, and return the groups that need not wait for it."""
        return self._for(name, lambda pairing: pairing.leave(name))

    def warning(self) -> str:
        """Return, once for each time that nothing matches, what is wrong and what to do; empty otherwise."""
        return next((text for pairing in self.pairings.values() if (text := pairing.warning())), "")

    def _for(self, name: str, change: Callable[[Pairing | GroupPairing], list[FramePair]]) -> list[FramePair]:
        emitted = []
        for other, pairing in self.pairings.items():
            if name in (self.first, other):
                emitted += self._settle(other, change(pairing))
        if name != self.first:
            emitted += change(self.rest)
        return emitted

    def _settle(self, other: str, pairs: list[FramePair]) -> list[FramePair]:
        """Note what a pairing has decided, and return the groups that are certain by it."""
        emitted = []
        for pair in pairs:
            if self.first not in pair.frames:  # the first camera is silent
                emitted += self.rest.push(pair.frames[other])
                continue
            self.decide(pair.frames[self.first], other, pair.frames.get(other))
        return emitted + self._emit()

    def decide(self, frame: Frame, other: str, partner: Frame | None, drop_cause: str = "") -> None:
        """Note what another camera has for a frame of the first: a partner, none as it is silent, or none at all."""
        group = self.groups[id(frame)]
        group.partners[other] = partner
        if drop_cause and not group.is_dropped:
            group.is_dropped = True
            self.drop(self.first, drop_cause)

    def _emit(self) -> list[FramePair]:
        """Return the groups that all cameras have decided on, in the order of the first camera."""
        emitted: list[FramePair] = []
        for key, group in list(self.groups.items()):
            if len(group.partners) < len(self.others):
                break
            del self.groups[key]
            frames = {self.first: group.frame}
            frames |= {name: part for name in self.others if (part := group.partners[name]) is not None}
            pair = FramePair(frames)
            same_sample = bool(group.frame.sample_id) and len({frame.sample_id for frame in frames.values()}) == 1
            if group.is_dropped or (pair.skew_ns > self.tolerance_ns and not same_sample):
                for name in frames.keys() - ({self.first} if group.is_dropped else set()):
                    self.drop(name, NO_PARTNER)
                continue
            emitted.append(FramePair(frames, same_sample or _error_ns(frames) <= self.tolerance_ns))
        return emitted

    def _clear_rest(self) -> list[FramePair]:
        """Return what the others have among themselves when the first camera is back, and drop the rest."""
        emitted = []
        for other in self.others:
            if self.rest.waiting[other]:
                for name in self.others:
                    emitted += self.rest.leave(name)
                break
        return emitted


def _error_ns(frames: dict[str, Frame]) -> int:
    """Return the largest time between two frames, for any error of their stamps within their uncertainty."""
    if len(frames) == 1:
        return next(iter(frames.values())).uncertainty_ns
    latest = max(frame.stamp_ns + frame.uncertainty_ns for frame in frames.values())
    return latest - min(frame.stamp_ns - frame.uncertainty_ns for frame in frames.values())
