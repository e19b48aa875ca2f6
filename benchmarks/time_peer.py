"""Two streams by roboflow's inference, as its documentation shows several sources, told as a row of time_pairs.py.

    python benchmarks/time_peer.py SECONDS URL URL

Its stamps are those of its frames (``frame_timestamp``, by the wall clock); a pair is what it gives together. Run by the
environment that has it; prints one JSON object.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

os.environ |= {"TELEMETRY_OPT_OUT": "True", "ONNXRUNTIME_EXECUTION_PROVIDERS": "[CPUExecutionProvider]"}
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "runtime"))
from clockface import read_face  # noqa: E402

TOLERANCE_MS = 30.0
SKIP_S = 1.5


def middle(values: list[float]) -> float | None:
    """Return the median."""
    return round(median(values), 2) if values else None


def main(seconds: float, urls: list[str]) -> None:
    """Watch the streams for a while and print what came of them."""
    from inference import InferencePipeline

    seen: list[tuple[int, list[int], list[int]]] = []

    def told(_: Any, frames: Any) -> None:
        now_ns = time.monotonic_ns()
        frames = frames if isinstance(frames, list) else [frames]
        if len([frame for frame in frames if frame is not None]) < len(urls):
            return
        frames = sorted(frames, key=lambda frame: frame.source_id or 0)
        offset_ns = time.time_ns() - time.monotonic_ns()
        stamps = [round(frame.frame_timestamp.timestamp() * 1e9) - offset_ns for frame in frames]
        truths = [read_face(frame.image, now_ns) for frame in frames]
        if None not in truths:
            seen.append((now_ns, stamps, [truth for truth in truths if truth is not None]))

    pipeline = InferencePipeline.init_with_custom_logic(
        video_reference=urls, on_video_frame=lambda frames: [None] * len(frames), on_prediction=told
    )
    pipeline.start()
    begun = time.monotonic()
    while not seen and time.monotonic() - begun < 60:
        time.sleep(0.05)
    time.sleep(seconds)
    threading.Thread(target=pipeline.terminate, daemon=True).start()
    time.sleep(1)
    rows = list(seen)
    steady = [row for row in rows if row[0] - rows[0][0] > SKIP_S * 1e9]
    spread = [(max(truths) - min(truths)) / 1e6 for _, _, truths in rows]
    beyond = sum(each > TOLERANCE_MS for each in spread)
    told_skew = [(max(stamps) - min(stamps)) / 1e6 for _, stamps, _ in steady]
    errors = [[abs(stamps[n] - truths[n]) / 1e6 for _, stamps, truths in steady] for n in range(len(urls))]
    print(
        json.dumps(
            {
                "pairs": len(rows),
                "beyond_tolerance": beyond,
                "unmarked_beyond": beyond,
                "uncertain": 0,
                "true_skew_ms_p50": middle([(max(t) - min(t)) / 1e6 for _, _, t in steady]),
                "reported_skew_ms_p50": middle(told_skew),
                "stamp_error_ms_p50": [middle(each) for each in errors],
                "stamp_uncertainty_ms": None,
                "stamp_source": ["arrival"] * len(urls),
                "recovery_s": None,
                "latency_ms_p50": middle([(at - max(truths)) / 1e6 for at, _, truths in steady]),
                "drops": {},
                "unread": 0,
            }
        ),
        flush=True,
    )
    os._exit(0)  # its threads may wait for the streams


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2:])
