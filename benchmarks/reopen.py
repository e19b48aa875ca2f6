"""Leaks of pipelines that are opened and ended again and again, closed or dropped; into results/reopen.json.

    make bench-reopen        # or: python benchmarks/reopen.py --times 400

Each time a bundle is opened, its engine in ONNX Runtime and two cameras, and some pairs are run. "close" ends them by
``with``; "drop" breaks out of the loop and lets go of everything, with Python's collector of cycles turned off, so that
a reference cycle would stay. Reported are the resident memory, medians of the first and the last fourth after the
warm-up, since the allocator's arenas come and go, and what is left of threads and descriptors.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import sys
import threading
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from edgemtl_runtime import Bundle, Pipeline, open_cameras
from edgemtl_runtime.engine.onnxruntime import open_ort_engine

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from conftest import write_toy_bundle

RESULTS = Path(__file__).parent / "results" / "reopen.json"
URI = "pattern:?fps=0&width=320&height=240"
WARM, PAIRS = 40, 6


def resident_kb() -> int:
    """Return the memory that this process holds now."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def descriptors() -> int:
    """Return how many files this process has open."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a Path would hold one more open while it counts


def by_close(folder: Path) -> None:
    """Open, run and close."""
    bundle = Bundle.open(folder)
    cameras = open_cameras({"rgb": URI, "ir": URI})
    with open_ort_engine(bundle, 1) as engine, Pipeline(bundle, engine, cameras) as pipeline:
        for _ in range(PAIRS):
            pipeline.read()


def by_drop(folder: Path) -> None:
    """Open, run and let go."""
    bundle = Bundle.open(folder)
    pipeline = Pipeline(
        bundle, open_ort_engine(bundle, 1), open_cameras({"rgb": URI, "ir": URI}), on_event=lambda event: None
    )
    for _, result in pipeline:
        if result.index == PAIRS:
            break


def measure(how: str, folder: Path, times: int) -> dict[str, object]:
    """Return the memory growth, threads and descriptors left after so many times."""
    once = {"close": by_close, "drop": by_drop}[how]
    for _ in range(WARM):
        once(folder)
    gc.collect()
    gc.disable()
    try:
        threads, files, begun, held = threading.active_count(), descriptors(), time.monotonic(), list[int]()
        for _ in range(times):
            once(folder)
            held.append(resident_kb())
        seconds = time.monotonic() - begun
    finally:
        gc.enable()
    fourth = max(1, times // 4)
    before_kb, after_kb = round(median(held[:fourth])), round(median(held[-fourth:]))
    return {
        "how": how,
        "times": times,
        "ms_each": round(1e3 * seconds / times, 1),
        "resident_kb": [before_kb, after_kb],
        "growth": round(after_kb / before_kb - 1, 4),
        "threads_left": threading.active_count() - threads,
        "descriptors_left": descriptors() - files,
    }


def main() -> None:
    """Measure both ends, write the figures, and fail where something leaks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=400)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    logging.getLogger("edgemtl_runtime").setLevel(logging.ERROR)
    with TemporaryDirectory() as folder:
        bundle = write_toy_bundle(Path(folder) / "toy", 240, 320)
        rows = [measure(how, bundle, given.times) for how in ("close", "drop")]
    given.out.write_text(json.dumps(rows, indent=2) + "\n")
    print("\n".join(json.dumps(row) for row in rows))
    bad = [row for row in rows if row["threads_left"] or row["descriptors_left"] or row["growth"] >= 0.03]  # type: ignore[operator]
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
