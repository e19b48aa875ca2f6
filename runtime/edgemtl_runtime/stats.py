"""Statistics of a run: latencies by stage, drops by cause, skew of the pairs."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any, Protocol, runtime_checkable

import msgspec
import numpy as np

from .frame import FramePair
from .renamed_names import renamed_fields, with_old_keys

RECENT = 20_000
"""Percentiles are over this many of the latest values, so that days of running take no more memory than minutes."""
CACHE_S = 1.0
STAGES = ("preprocess", "wait", "infer", "decode", "total")
"""Preprocessing of a frame on arrival; of each pair: waiting, inference, decoding, and from arrival to result."""


class RecordingReport(Protocol):
    """Report of a sink that writes files; as text it is one line."""

    sink: str

    def to_dict(self) -> dict[str, Any]:
        """Return one object for JSON."""
        ...


@runtime_checkable
class WritesFiles(Protocol):
    """A sink that writes files, with a report of them."""

    tally: RecordingReport


class Percentiles(msgspec.Struct, frozen=True):
    """Percentiles of the latest times, milliseconds; 0 where there is none."""

    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    max: float = 0.0


class StatsReport(msgspec.Struct, frozen=True):
    """`Stats` at one time, for JSON; latencies and skew in milliseconds, ``unpaired`` frames of one camera by name."""

    frames: dict[str, int]
    pairs: int
    uncertain: int
    unpaired: dict[str, int]
    drops: dict[str, int]
    seconds: float
    pairs_per_second: float
    skew_ms: Percentiles
    latency_ms: dict[str, Percentiles]
    recordings: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """Return one object for JSON, renamed keys by their earlier names as well."""
        report = with_old_keys(msgspec.to_builtins(self), alone="unpaired")
        report["latency_ms"] = with_old_keys(report["latency_ms"], fit="preprocess")
        return report

    def table(self, recordings: list[RecordingReport]) -> str:
        """Return the report as a table of text."""
        frames = ", ".join(f"{count} {name}" for name, count in self.frames.items())
        unpaired = ", ".join(f"{count} of {name} alone" for name, count in self.unpaired.items())
        lines = [
            f"frames   {frames}",
            f"pairs    {self.pairs} in {self.seconds} s, {self.pairs_per_second} a second"
            + (f"; {unpaired}" if unpaired else "")
            + (f"; {self.uncertain} uncertain" if self.uncertain else ""),
            "drops    " + (", ".join(f"{count} ({cause})" for cause, count in self.drops.items()) or "none"),
            f"{'ms':10} {'p50':>8} {'p90':>8} {'p99':>8} {'max':>8}",
        ]
        for name, row in [*self.latency_ms.items(), ("skew", self.skew_ms)]:
            lines.append(f"{name:10} {row.p50:8.2f} {row.p90:8.2f} {row.p99:8.2f} {row.max:8.2f}")
        return "\n".join([*lines, *(f"{report.sink:8} {report}" for report in recordings)])


class Recent:
    """Ring buffer of the latest `RECENT` times, nanoseconds; one thread appends, any may read."""

    def __init__(self) -> None:
        self.values = np.full(RECENT, 0, np.int64)
        self.count = 0
        self._cached: Percentiles | None = None
        self._cached_s = -np.inf

    def append(self, value_ns: int) -> None:
        """Write a value over the oldest."""
        self.values[self.count % RECENT] = value_ns
        self.count += 1

    def recent_ms(self) -> Percentiles:
        """Return what `percentiles_ms` returned at most `CACHE_S` ago: the same to all who watch a run."""
        if self._cached is None or time.monotonic() - self._cached_s > CACHE_S:
            self._cached_s = time.monotonic()
            self._cached = self.percentiles_ms()
        return self._cached

    def percentiles_ms(self) -> Percentiles:
        """Return the percentiles in milliseconds, 0 where there is no value."""
        values = self.values[: min(self.count, RECENT)]
        if not len(values):
            return Percentiles()
        return Percentiles(*(np.percentile(values, (50, 90, 99, 100)) / 1e6).round(3).tolist())


@renamed_fields(alone="unpaired")
class Stats:
    """Statistics of a run: filled by the pipeline, read by any thread; times are nanoseconds of the monotonic clock.

    Every frame that a camera captured is in the end either delivered with a result or dropped for a cause:
    ``frames[camera] == delivered[camera] + lost[camera]``. ``drops`` counts the causes, of frames and of whole pairs;
    ``unpaired`` counts frames delivered without the other camera's; ``recordings`` are the reports of the sinks that
    write files.
    """

    def __init__(self) -> None:
        self.frames: Counter[str] = Counter()
        self.delivered: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.drops: Counter[str] = Counter()
        self.pairs = 0
        self.uncertain = 0
        """Pairs whose skew may exceed the tolerance, by the uncertainty of their stamps."""
        self.unpaired: Counter[str] = Counter()
        self.stages = {name: Recent() for name in STAGES}
        self.skew = Recent()
        self.recordings: list[RecordingReport] = []
        self.first_ns = 0
        self.last_ns = 0
        self.lock = threading.Lock()

    def drop(self, camera: str, cause: str, count: int = 1) -> None:
        """Count dropped frames of a camera."""
        with self.lock:
            self.drops[f"{camera}: {cause}"] += count
            self.lost[camera] += count

    def drop_pair(self, pair: FramePair, cause: str) -> None:
        """Count a dropped pair."""
        with self.lock:
            self.drops[f"pair: {cause}"] += 1
            self.lost.update(pair.frames.keys())

    def drop_result(self, sink: str, cause: str) -> None:
        """Count a result that a sink did not take; its frames count as delivered."""
        with self.lock:
            self.drops[f"sink {sink}: {cause}"] += 1

    def pair(self, pair: FramePair, marks: tuple[int, int, int], cameras: int) -> None:
        """Count a delivered pair; ``marks`` are the begin of inference, its end, and the end of decoding."""
        begun, inferred, decoded = marks
        arrived = pair.arrived_ns
        spans = (begun - arrived, inferred - begun, decoded - inferred, decoded - arrived)
        for name, span in zip(STAGES[1:], spans, strict=True):
            self.stages[name].append(span)
        self.uncertain += not pair.trusted
        if len(pair.frames) == cameras:
            self.skew.append(pair.skew_ns)
        else:
            self.unpaired.update(pair.frames.keys())
        self.delivered.update(pair.frames.keys())
        self.first_ns = self.first_ns or begun
        self.last_ns = decoded
        self.pairs += 1

    def report(self, *, recent: bool = False) -> StatsReport:
        """Return the statistics at this time; with ``recent`` percentiles may be up to `CACHE_S` old."""
        percentiles = Recent.recent_ms if recent else Recent.percentiles_ms
        seconds = (self.last_ns - self.first_ns) / 1e9
        with self.lock:
            drops = dict(sorted(self.drops.items()))
        return StatsReport(
            frames=dict(self.frames),
            pairs=self.pairs,
            uncertain=self.uncertain,
            unpaired=dict(self.unpaired),
            drops=drops,
            seconds=round(seconds, 3),
            pairs_per_second=round(self.pairs / seconds, 2) if seconds > 0 else 0.0,
            skew_ms=percentiles(self.skew),
            latency_ms={name: percentiles(values) for name, values in self.stages.items()},
            recordings=[report.to_dict() for report in self.recordings],
        )

    def to_dict(self, *, recent: bool = False) -> dict[str, Any]:
        """Return `report` as one object for JSON."""
        return self.report(recent=recent).to_dict()

    def table(self) -> str:
        """Return `report` as a table of text."""
        return self.report().table(self.recordings)
