"""What a run of the pipeline was like: latencies a stage, drops by cause, skew of the pairs."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any, Protocol

import numpy as np

from .frame import FramePair

RECENT = 20_000
"""Percentiles look at this many of the latest values, so that days of running take no more memory than minutes."""
OLD_S = 1.0
# of each frame on arrival; of each pair: waiting for the network, in it, behind it, and from arrival to result
STAGES = ("fit", "wait", "infer", "decode", "total")


class Tally(Protocol):
    """What a sink that writes files tells of them; its text is one line."""

    sink: str

    def to_dict(self) -> dict[str, Any]:
        """Return one object for JSON."""
        ...


class Recent:
    """The latest `RECENT` times, nanoseconds, in memory that never grows; one thread appends, any may look."""

    def __init__(self) -> None:
        self.values = np.full(RECENT, 0, np.int64)
        self.count = 0
        self.told: dict[str, float] = {}
        self.told_s = -np.inf

    def append(self, value_ns: int) -> None:
        """Keep a value in the place of the oldest."""
        self.values[self.count % RECENT] = value_ns
        self.count += 1

    def recent_ms(self) -> dict[str, float]:
        """Return what `percentiles_ms` did, at most `OLD_S` ago: to all who look at a run alike."""
        if time.monotonic() - self.told_s > OLD_S:
            self.told_s = time.monotonic()
            self.told = self.percentiles_ms()
        return self.told or self.percentiles_ms()

    def percentiles_ms(self) -> dict[str, float]:
        """Return percentiles in milliseconds, 0 where there is no value."""
        known = self.values[: min(self.count, RECENT)]
        found = (np.percentile(known, (50, 90, 99, 100)) / 1e6).round(3).tolist() if len(known) else [0.0] * 4
        return dict(zip(("p50", "p90", "p99", "max"), found, strict=True))


class Stats:
    """Filled by the pipeline, `to_dict` and `table` by any thread; times are nanoseconds of the monotonic clock.

    Every frame that a camera captured is in the end either delivered with a result or dropped for a cause:
    ``frames[camera] == delivered[camera] + lost[camera]``. ``drops`` tells the causes, of frames and of whole pairs,
    ``recordings`` what the sinks that write files have written.
    """

    def __init__(self) -> None:
        self.frames: Counter[str] = Counter()
        self.delivered: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.drops: Counter[str] = Counter()
        self.pairs = 0
        self.uncertain = 0
        """Pairs whose stamps may be off so far that they lie beyond the tolerance."""
        self.alone: Counter[str] = Counter()
        self.stages = {name: Recent() for name in STAGES}
        self.skew = Recent()
        self.recordings: list[Tally] = []
        self.first_ns = 0
        self.last_ns = 0
        self.lock = threading.Lock()

    def drop(self, camera: str, cause: str, count: int = 1) -> None:
        """Count frames of a camera that are lost."""
        with self.lock:
            self.drops[f"{camera}: {cause}"] += count
            self.lost[camera] += count

    def drop_pair(self, pair: FramePair, cause: str) -> None:
        """Count a pair that is lost."""
        with self.lock:
            self.drops[f"pair: {cause}"] += 1
            self.lost.update(pair.frames.keys())

    def drop_result(self, sink: str, cause: str) -> None:
        """Count a result that a sink did not take; its frames count as delivered."""
        with self.lock:
            self.drops[f"sink {sink}: {cause}"] += 1

    def pair(self, pair: FramePair, marks: tuple[int, int, int], cameras: int) -> None:
        """Note one pair: when inference began, when it ended, when decoding ended; of how many cameras it could be."""
        begun, inferred, decoded = marks
        arrived = pair.arrived_ns
        spans = (begun - arrived, inferred - begun, decoded - inferred, decoded - arrived)
        for name, span in zip(STAGES[1:], spans, strict=True):
            self.stages[name].append(span)
        self.uncertain += not pair.trusted
        if len(pair.frames) == cameras:
            self.skew.append(pair.skew_ns)
        else:
            self.alone.update(pair.frames.keys())
        self.delivered.update(pair.frames.keys())
        self.first_ns = self.first_ns or begun
        self.last_ns = decoded
        self.pairs += 1

    def to_dict(self, *, recent: bool = False) -> dict[str, Any]:
        """Return one object for JSON; latencies and skew in milliseconds, those of up to a second ago if ``recent``."""
        told = Recent.recent_ms if recent else Recent.percentiles_ms
        seconds = (self.last_ns - self.first_ns) / 1e9
        with self.lock:
            drops = dict(sorted(self.drops.items()))
        return {
            "frames": dict(self.frames),
            "pairs": self.pairs,
            "uncertain": self.uncertain,
            "alone": dict(self.alone),
            "drops": drops,
            "seconds": round(seconds, 3),
            "pairs_per_second": round(self.pairs / seconds, 2) if seconds > 0 else 0.0,
            "skew_ms": told(self.skew),
            "latency_ms": {name: told(values) for name, values in self.stages.items()},
            "recordings": [tally.to_dict() for tally in self.recordings],
        }

    def table(self) -> str:
        """Return the same for a person."""
        told = self.to_dict()
        frames = ", ".join(f"{count} {name}" for name, count in told["frames"].items())
        alone = ", ".join(f"{count} of {name} alone" for name, count in told["alone"].items())
        lines = [
            f"frames   {frames}",
            f"pairs    {self.pairs} in {told['seconds']} s, {told['pairs_per_second']} a second"
            + (f"; {alone}" if alone else "")
            + (f"; {self.uncertain} uncertain" if self.uncertain else ""),
            "drops    " + (", ".join(f"{count} ({cause})" for cause, count in told["drops"].items()) or "none"),
            f"{'ms':8} {'p50':>8} {'p90':>8} {'p99':>8} {'max':>8}",
        ]
        for name, values in [*told["latency_ms"].items(), ("skew", told["skew_ms"])]:
            lines.append(f"{name:8} " + " ".join(f"{values[key]:8.2f}" for key in ("p50", "p90", "p99", "max")))
        lines += [f"{tally.sink:8} {tally}" for tally in self.recordings]
        return "\n".join(lines)
