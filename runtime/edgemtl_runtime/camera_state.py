"""What state each camera is in, told when it changes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .frame import UNKNOWN_NS, Frame, StampSource

State = Literal["starting", "live", "stale", "lost", "absent", "ended"]
"""Of a camera: not seen yet; delivering; repeating one picture; not delivering; left out; at its end."""
RECENT = 30
"""Arrivals that a rate is told from."""
UNSURE_NS = 15_000_000
"""Stamps that may be off by more are not to be trusted."""
LASTING_NS = 1_000_000_000
"""A clock that is untrusted, or trusted again, for so long is told of."""


@dataclass(frozen=True)
class Event:
    """A camera's change of state, or a warning of the whole (``camera`` is empty then)."""

    camera: str
    state: State | Literal["warning"]
    detail: str
    stamp_ns: int

    def __str__(self) -> str:
        """Return it in one line."""
        return f"{self.camera}: {self.state}{self.detail and ': '}{self.detail}" if self.camera else self.detail


class Health:
    """One camera's state, rate and age; `set` tells of changes through ``told``."""

    def __init__(
        self, camera: str, told: Callable[[Event], None], clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self.camera, self.told, self.clock = camera, told, clock
        self.state: State = "starting"
        self.detail = ""
        self.causes: set[str] = set()
        self.reconnects = 0
        self.frames = 0
        self.stamp_source: StampSource | None = None
        self.arrivals: deque[int] = deque(maxlen=RECENT)
        self.uncertainty_ns = 0
        self.clock_trusted = True
        self.changed_ns: int | None = None

    def frame(self, frame: Frame) -> None:
        """Note a new frame: the camera is live."""
        self.frames += 1
        self.stamp_source = frame.stamp_source
        self.arrivals.append(self.clock())
        self.set("live")
        self._look_at_clock(frame.uncertainty_ns)

    def _look_at_clock(self, uncertainty_ns: int) -> None:
        """Note how far the stamps may be off, and tell where it lasts."""
        self.uncertainty_ns = uncertainty_ns
        if (uncertainty_ns <= UNSURE_NS) is self.clock_trusted:
            self.changed_ns = None
            return
        now_ns = self.clock()
        self.changed_ns = now_ns if self.changed_ns is None else self.changed_ns
        if now_ns - self.changed_ns >= LASTING_NS:
            self.clock_trusted, self.changed_ns = not self.clock_trusted, None
            far = f"may be off by {uncertainty_ns / 1e6:.0f} ms" if uncertainty_ns < UNKNOWN_NS else "are not known yet"
            text = (
                "its clock is trusted again" if self.clock_trusted else f"its clock is not to be trusted: stamps {far}"
            )
            self.told(Event(self.camera, "warning", text, now_ns))

    def set(self, state: State, detail: str = "") -> None:
        """Change the state or the reason for it, and tell of what was not told since the state is this one."""
        if state == self.state and (not detail or detail in self.causes):
            return
        self.causes = {detail} if state != self.state else self.causes | {detail}
        if state == "live" and self.state == "lost" and self.frames > 1:
            self.reconnects += 1
        self.state, self.detail = state, detail
        self.told(Event(self.camera, state, detail, self.clock()))

    @property
    def interval_ns(self) -> int:
        """The median time between its frames lately, 0 where there are too few."""
        return int(np.median(np.diff(np.array(self.arrivals)))) if len(self.arrivals) > 2 else 0

    @property
    def silent_ns(self) -> int:
        """Time since the last frame; since ever where there was none."""
        return self.clock() - self.arrivals[-1] if self.arrivals else 1 << 62

    def to_dict(self) -> dict[str, Any]:
        """Return one object for JSON; rates in frames a second, ages in milliseconds."""
        arrivals = list(self.arrivals)
        span = arrivals[-1] - arrivals[0] if len(arrivals) > 1 else 0
        going = self.state in ("live", "stale")
        return {
            "state": self.state,
            "detail": self.detail,
            "fps": round((len(arrivals) - 1) / span * 1e9, 2) if span and going else 0.0,
            "age_ms": round(self.silent_ns / 1e6, 1) if arrivals else None,
            "stamp_source": self.stamp_source,
            "clock": "trusted" if self.uncertainty_ns <= UNSURE_NS else "uncertain",
            "stamp_uncertainty_ms": round(self.uncertainty_ns / 1e6, 2),
            "frames": self.frames,
            "reconnects": self.reconnects,
        }
