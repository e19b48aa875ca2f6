"""An hour of a robot: 100,000 pairs with an injected clock, a 1 ms engine and corrupt frames; into results/soak.json.

    make bench-soak          # or: python benchmarks/soak.py --pairs 1000000

Two live cameras of 33 ms deliver in step, as fast as the pipeline takes their pairs; they and the engine, which "takes"
a millisecond, move the clock. On the way frames are lost, repeated, corrupt and stamped backwards, and a camera is
silent for a second. Reported are the resident memory after the first 1,000 pairs and at the end, threads and
descriptors that are left, and the balance of every frame.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from edgemtl_runtime.bundle import MODEL, Bundle, Head, Input, Manifest
from edgemtl_runtime.camera.base import NO_EVENTS, CameraBase, CameraEvents
from edgemtl_runtime.engine import Arrays
from edgemtl_runtime.frame import Frame
from edgemtl_runtime.pipeline import Pipeline

RESULTS = Path(__file__).parent / "results" / "soak.json"
SIZE = (48, 64)
PERIOD_NS = 33_333_333
AHEAD = 3
"""Frames that a camera may be ahead of the other."""
SILENCE = range(4000, 4030)
"""Of every 5,000 frames those that the thermal camera does not give."""


class Clock:
    """A clock in nanoseconds that several threads advance, and each camera's frame index."""

    def __init__(self) -> None:
        self.now_ns, self.lock = 10**12, threading.Condition()
        self.indices: dict[str, int] = {}

    def step(self, name: str, index: int, closed: Callable[[], bool]) -> bool:
        """Advance a camera to a frame once the others are at most ``AHEAD`` frames late; return whether to go on."""
        with self.lock:
            self.indices[name] = index
            self.lock.notify_all()
            while not closed() and index > min(self.indices.values()) + AHEAD:
                self.lock.wait(0.1)
        return not closed()

    def __call__(self) -> int:
        return self.now_ns

    def to(self, now_ns: int) -> None:
        """Advance to a time, never back."""
        with self.lock:
            self.now_ns = max(self.now_ns, now_ns)


class UnreliableCamera(CameraBase):
    """A live camera with lost, repeated, corrupt and wrongly stamped frames and a second of silence at times."""

    live, drops_repeats = True, True

    def __init__(self, name: str, clock: Clock, count: int, offset_ns: int) -> None:
        self.name, self.clock, self.count, self.offset_ns = name, clock, count, offset_ns
        clock.indices[name] = 0
        self.taken: Callable[[], object] = lambda: None
        self.closed = False

    def frames(self, events: CameraEvents = NO_EVENTS) -> Iterator[Frame]:
        """Yield the frames, no more than ``AHEAD`` before the results."""
        rng = np.random.default_rng(len(self.name))
        images = rng.integers(0, 256, (64, *SIZE, 3)[: 4 if self.name == "rgb" else 3], np.uint8)
        begun_ns = self.clock()
        for index in range(self.count):
            if not self.clock.step(self.name, index, lambda: self.closed):
                return
            self.taken()
            corruption = int(rng.integers(0, 1000))
            stamp_ns = begun_ns + index * PERIOD_NS + self.offset_ns
            self.clock.to(stamp_ns)
            if corruption < 5 or (self.name == "ir" and index % 5000 in SILENCE):
                continue  # never came
            if corruption < 8:
                events.frame_dropped("corrupt frame")
                continue
            image = images[(index - (8 <= corruption < 12)) % 64]  # some repeat the one before
            stamp_ns -= 50_000_000 * (12 <= corruption < 14)
            yield Frame(image, stamp_ns, self.name, index, "driver", "", self.clock())

    def close(self) -> None:
        """End the frames."""
        self.closed = True
        with self.clock.lock:
            self.clock.lock.notify_all()


class ConstantEngine:
    """An engine of constant outputs that advances the clock by a millisecond a run."""

    name = "injected"

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.boxes = np.zeros((1, 100, 6), np.float32)
        self.boxes[0, :5] = [[5, 5, 20, 30, 0.9, 0], [20, 5, 40, 30, 0.8, 1], *[[1, 1, 9, 9, 0.3, 0]] * 3]

    def run(self, inputs: Arrays) -> Arrays:
        """Return the same boxes always."""
        self.clock.to(self.clock() + 1_000_000)
        return {"boxes": self.boxes}

    def close(self) -> None:
        """Nothing is to be freed."""

    def __enter__(self) -> ConstantEngine:
        """Return the engine."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the engine."""


def bundle(folder: Path) -> Bundle:
    """Return a bundle without a network, for an engine that needs none."""
    inputs = [Input(n, *SIZE, c, (0.0,) * c, (1.0,) * c, n, may_be_missing=True) for n, c in (("rgb", 3), ("ir", 1))]
    head = Head("boxes", "boxes", "topk_boxes", ("person", "car"))
    return Bundle(folder / MODEL, Manifest("soak", tuple(inputs), (head,), {}, "none"))


def resident_kb() -> int:
    """Return the memory that this process holds now."""
    gc.collect()
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def wait_for(condition: threading.Condition, what: Callable[[], bool]) -> None:
    """Wait until something holds, up to a second."""
    with condition:
        condition.wait_for(what, 1.0)


def soak(pairs: int, folder: Path, tick: Callable[[int], None] = lambda pair: None) -> dict[str, object]:
    """Run so many pairs and return the memory growth, leaks and the balance of frames."""
    clock, threads, files = Clock(), threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
    count = round(1.05 * pairs) + AHEAD  # some are lost
    cameras = {n: UnreliableCamera(n, clock, count, late) for n, late in (("rgb", 0), ("ir", 4_000_000))}
    pipeline = Pipeline(bundle(folder), ConstantEngine(clock), cameras, track=True, clock=clock)
    for camera in cameras.values():  # which 33 ms would leave time for: the pair before is taken
        camera.taken = lambda: wait_for(pipeline.capture.condition, lambda: not pipeline.capture.pairs)
    first = last = 0
    frames = pipeline.stats.frames
    begun = time.monotonic()
    logging.getLogger("edgemtl_runtime").setLevel(logging.ERROR)
    for _ in pipeline:
        if pipeline.stats.pairs == 1000:
            first = resident_kb()
        if pipeline.stats.pairs % 1000 == 0:
            tick(pipeline.stats.pairs)
        if pipeline.stats.pairs >= pairs:
            last = resident_kb()
            pipeline.stop()
    stats = pipeline.stats
    return {
        "pairs": stats.pairs,
        "seconds": round(time.monotonic() - begun, 1),
        "robot_hours": round((clock() - 10**12) / 3.6e12, 2),
        "resident_kb": [first, last],
        "growth": round(last / first - 1, 5) if first else None,
        "threads_left": threading.active_count() - threads,
        "descriptors_left": len(list(Path("/proc/self/fd").iterdir())) - files,
        "captured": dict(frames),
        "delivered": dict(stats.delivered),
        "dropped": dict(stats.lost),
        "causes": dict(stats.drops),
        "balanced": all(count == stats.delivered[name] + stats.lost[name] for name, count in frames.items()),
    }


def main() -> None:
    """Run, write the figures, and fail where something leaks or a frame is uncounted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        report = soak(given.pairs, Path(folder), lambda pair: print(f"\r{pair:,} pairs", end="", file=sys.stderr))
    print(file=sys.stderr)
    given.out.write_text(json.dumps(report, indent=2) + "\n")
    print("\n".join(f"{name:18} {value}" for name, value in report.items()))
    sys.exit(not report["balanced"] or bool(report["threads_left"]) or bool(report["descriptors_left"]))


if __name__ == "__main__":
    main()
