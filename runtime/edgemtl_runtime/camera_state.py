"""Camera state: live, stale or lost, with events on change, and its status for programs and JSON."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any, Literal

import msgspec

from .frame import UNKNOWN_NS, Frame, StampSource

State = Literal["starting", "live", "stale", "lost", "absent", "ended"]
"""Of a camera: no frame yet; delivering; repeating one image; not delivering; not given; at its end."""
RECENT = 30
"""Arrivals that the frame rate is estimated from."""
TRUSTED_NS = 15_000_000
"""Largest uncertainty of stamps that are trusted."""
LASTING_NS = 1_000_000_000
"""A change of trust in the clock is reported once it has lasted so long."""


@dataclass(frozen=True)
class Event:
    """A camera's change of state; or, without a ``camera``, a warning or a change of bundle of the whole."""

    camera: str
    state: State | Literal["warning", "bundle"]
    detail: str
    stamp_ns: int

    def __str__(self) -> str:
        """Return it in one line."""
        return f"{self.camera}: {self.state}{self.detail and ': '}{self.detail}" if self.camera else self.detail


class CameraStatus(msgspec.Struct, frozen=True):
    """A camera's state for programs and JSON: rate in frames a second, ages in milliseconds."""

    state: State = "starting"
    detail: str = ""
    fps: float = 0.0
    age_ms: float | None = None
    stamp_source: StampSource | None = None
    clock: Literal["trusted", "uncertain"] = "trusted"
    stamp_uncertainty_ms: float = 0.0
    frames: int = 0
    reconnects: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return one object for JSON."""
        return msgspec.structs.asdict(self)


class CameraState:
    """State machine of one camera, with its rate and age; `set` passes changes to ``on_event``."""

    def __init__(
        self, camera: str, on_event: Callable[[Event], None], clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self.camera, self.on_event, self.clock = camera, on_event, clock
        self.state: State = "starting"
        self.detail = ""
        self.causes: set[str] = set()
        self.reconnects = 0
        self.frames = 0
        self.stamp_source: StampSource | None = None
        self.arrivals: deque[int] = deque(maxlen=RECENT)
        self._interval_ns: int | None = None
        self.uncertainty_ns = 0
        self.clock_trusted = True
        self.changed_ns: int | None = None

    def frame(self, frame: Frame) -> None:
        """Observe a new frame: the camera is live."""
        self.frames += 1
        self.stamp_source = frame.stamp_source
        self.arrivals.append(self.clock())
        self._interval_ns = None
        self.set("live")
        self._check_clock(frame.uncertainty_ns)

    def _check_clock(self, uncertainty_ns: int) -> None:
        """Track the uncertainty of the stamps, and report a change of trust that lasts."""
        self.uncertainty_ns = uncertainty_ns
        if (uncertainty_ns <= TRUSTED_NS) is self.clock_trusted:
            self.changed_ns = None
            return
        now_ns = self.clock()
        self.changed_ns = now_ns if self.changed_ns is None else self.changed_ns
        if now_ns - self.changed_ns >= LASTING_NS:
            self.clock_trusted, self.changed_ns = not self.clock_trusted, None
            error = (
                f"may be off by {uncertainty_ns / 1e6:.0f} ms" if uncertainty_ns < UNKNOWN_NS else "are not known yet"
            )
            text = (
                "its clock is trusted again"
                if self.clock_trusted
                else f"its clock is not to be trusted: stamps {error}"
            )
            self.on_event(Event(self.camera, "warning", text, now_ns))

    def set(self, state: State, detail: str = "") -> None:
        """Change the state or its reason, and report each reason once as long as the state lasts."""
        if state == self.state and (not detail or detail in self.causes):
            return
        self.causes = {detail} if state != self.state else self.causes | {detail}
        if state == "live" and self.state == "lost" and self.frames > 1:
            self.reconnects += 1
        self.state, self.detail = state, detail
        self.on_event(Event(self.camera, state, detail, self.clock()))

    @property
    def interval_ns(self) -> int:
        """Median interval of the recent frames, 0 where there are too few."""
        if self._interval_ns is None:
            arrivals = list(self.arrivals)
            self._interval_ns = int(median(b - a for a, b in pairwise(arrivals))) if len(arrivals) > 2 else 0
        return self._interval_ns

    @property
    def silent_ns(self) -> int:
        """Time since the last frame; infinite where there was none."""
        return self.clock() - self.arrivals[-1] if self.arrivals else 1 << 62

    def status(self) -> CameraStatus:
        """Return the status of the camera as it is now."""
        arrivals = list(self.arrivals)
        span = arrivals[-1] - arrivals[0] if len(arrivals) > 1 else 0
        delivering = self.state in ("live", "stale")
        return CameraStatus(
            state=self.state,
            detail=self.detail,
            fps=round((len(arrivals) - 1) / span * 1e9, 2) if span and delivering else 0.0,
            age_ms=round(self.silent_ns / 1e6, 1) if arrivals else None,
            stamp_source=self.stamp_source,
            clock="trusted" if self.uncertainty_ns <= TRUSTED_NS else "uncertain",
            stamp_uncertainty_ms=round(self.uncertainty_ns / 1e6, 2),
            frames=self.frames,
            reconnects=self.reconnects,
        )
