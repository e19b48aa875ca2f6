"""What a run of the pipeline was like: latencies a stage, drops by cause, skew of the pairs."""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

import numpy as np

RECENT = 20_000
"""Percentiles look at this many of the latest values, so that days of running take no more memory than minutes."""
STAGES = ("wait", "fit", "infer", "decode", "total")


class Stats:
    """Filled by the pipeline; times are nanoseconds of the monotonic clock."""

    def __init__(self) -> None:
        self.frames: Counter[str] = Counter()
        self.drops: Counter[str] = Counter()
        self.pairs = 0
        self.stages: dict[str, deque[int]] = {name: deque(maxlen=RECENT) for name in STAGES}
        self.skew: deque[int] = deque(maxlen=RECENT)
        self.first_ns = 0
        self.last_ns = 0

    def pair(self, arrived_ns: int, marks: tuple[int, int, int, int], skew_ns: int) -> None:
        """Note one pair: when it was complete, and when fitting began, inference began, it ended, decoding ended."""
        begun, fitted, inferred, decoded = marks
        spans = (begun - arrived_ns, fitted - begun, inferred - fitted, decoded - inferred, decoded - arrived_ns)
        for name, span in zip(STAGES, spans, strict=True):
            self.stages[name].append(span)
        self.skew.append(skew_ns)
        self.first_ns = self.first_ns or begun
        self.last_ns = decoded
        self.pairs += 1

    def to_dict(self) -> dict[str, Any]:
        """Return one object for JSON; latencies and skew in milliseconds."""
        seconds = (self.last_ns - self.first_ns) / 1e9
        return {
            "frames": dict(self.frames),
            "pairs": self.pairs,
            "drops": dict(sorted(self.drops.copy().items())),
            "seconds": round(seconds, 3),
            "pairs_per_second": round(self.pairs / seconds, 2) if seconds > 0 else 0.0,
            "skew_ms": _percentiles(self.skew),
            "latency_ms": {name: _percentiles(values) for name, values in self.stages.items()},
        }

    def table(self) -> str:
        """Return the same for a person."""
        told = self.to_dict()
        frames = ", ".join(f"{count} {name}" for name, count in told["frames"].items())
        lines = [
            f"frames   {frames}",
            f"pairs    {self.pairs} in {told['seconds']} s, {told['pairs_per_second']} a second",
            "drops    " + (", ".join(f"{count} ({cause})" for cause, count in told["drops"].items()) or "none"),
            f"{'ms':8} {'p50':>8} {'p90':>8} {'p99':>8} {'max':>8}",
        ]
        for name, values in [*told["latency_ms"].items(), ("skew", told["skew_ms"])]:
            lines.append(f"{name:8} " + " ".join(f"{values[key]:8.2f}" for key in ("p50", "p90", "p99", "max")))
        return "\n".join(lines)


def _percentiles(values: deque[int]) -> dict[str, float]:
    if not values:
        return dict.fromkeys(("p50", "p90", "p99", "max"), 0.0)
    p50, p90, p99, top = np.percentile(np.array(values), (50, 90, 99, 100)) / 1e6
    return {"p50": round(p50, 3), "p90": round(p90, 3), "p99": round(p99, 3), "max": round(top, 3)}
