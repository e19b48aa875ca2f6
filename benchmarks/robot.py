"""What a robot's graph adds: cameras by topic next to the same by RTSP, and messages by the hundred thousand.

    make bench-robot
    python benchmarks/robot.py --case topics --seconds 20
    python benchmarks/robot.py --case messages --count 100000

topics: two publishers of a process each on loopback, whose pictures have the time of their drawing in them; the second
publishes later after drawing. ``true_skew_ms_p50`` is between the pictures of a pair, ``latency_ms_p50`` from the
drawing of the later one to the pair. messages: one publisher at 250 a second, read by a camera; ``lost`` are numbers
that are missing, ``growth_mb`` is the reader's memory between the first tenth and the end. processor: the share of a
core that two cameras of 640x512 at 30 a second take, on one thread, and what of it is inference. exchange: a link to a
bundle is changed while it runs; ``lost`` pairs, ``gap_ms`` the longest time between two results around an exchange,
``gap_ms_else`` at any other time, ``answer_ms_max`` from the link to the exchange or to the warning. Rows go to
results/robot.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path += [str(ROOT / "tests" / "runtime"), str(ROOT / "tests"), "/usr/lib/python3/dist-packages"]

import robot_page  # noqa: E402
import robot_run  # noqa: E402
from common import save_row  # noqa: E402
from timed import TimedRtsp, watch  # noqa: E402
from topics import publishing  # noqa: E402

from edgemtl.console import print_message, progress_bar  # noqa: E402
from edgemtl_runtime.camera import open_camera  # noqa: E402
from edgemtl_runtime.camera.wrappers import complete  # noqa: E402
from edgemtl_runtime.engine.cpu import cpu_name  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "robot.json"
IDENTITY = ("case", "transport", "delay_ms", "read")
TOLERANCE_MS = 30.0
RATE = 20
DELAYS_MS = (0, 60)
"""Of the second publisher, from drawing to publishing."""


def topics(seconds: float) -> Iterator[dict[str, Any]]:
    """Yield a row for pairs by topic at each delay, and one for the same two cameras by RTSP."""
    for delay_ms in DELAYS_MS:
        with ExitStack() as stack:
            one = stack.enter_context(publishing({"topic": "rgb/image", "fps": RATE}))
            other = stack.enter_context(publishing({"topic": "ir/image", "fps": RATE, "delay_s": delay_ms / 1e3}))
            yield pairs("zenoh", delay_ms, {"rgb": one.uri("rgb/image"), "ir": other.uri("ir/image")}, seconds)
    server = TimedRtsp(rgb={"fps": RATE}, ir={"fps": RATE})
    try:
        yield pairs("rtsp", 0, {name: server.url(name) for name in ("rgb", "ir")}, seconds)
    finally:
        server.kill()


def pairs(transport: str, delay_ms: int, uris: dict[str, str], seconds: float) -> dict[str, Any]:
    """Pair two cameras for some seconds, and return the row."""
    cameras = {name: open_camera(uri, name) for name, uri in uris.items()}
    watched = watch(cameras, seconds, TOLERANCE_MS).row(TOLERANCE_MS)
    kept = ("pairs", "beyond_tolerance", "true_skew_ms_p50", "stamp_error_ms_p50", "latency_ms_p50", "stamp_source")
    return {"case": "topics", "transport": transport, "delay_ms": delay_ms, **{key: watched[key] for key in kept}}


def messages(count: int) -> Iterator[dict[str, Any]]:
    """Yield the row of so many messages through one camera."""
    with publishing({"topic": "cam", "fps": 250, "encoding": "mono8", "numbered": count}) as publisher:
        camera = complete(open_camera(publisher.uri("cam"), "ir"))
        first = last = count_read = 0
        begun_s, first_mb = time.monotonic(), 0.0
        with progress_bar("messages", count) as bar:
            for frame in camera.frames():
                last = int.from_bytes(frame.image[-1, :4].tobytes(), "little")
                first, count_read = first or last, count_read + 1
                if count_read % 1000 == 0:
                    bar(last, {})
                if last >= count // 10 and not first_mb:
                    first_mb = memory_mb()
                if last >= count:
                    break
        seconds, growth_mb = time.monotonic() - begun_s, memory_mb() - first_mb
        camera.close()
    yield {
        "case": "messages",
        "transport": "zenoh",
        "delay_ms": 0,
        "count": count_read,
        "lost": last - first + 1 - count_read,
        "growth_mb": round(growth_mb, 1),
        "rate": round(count_read / seconds),
    }


def memory_mb() -> float:
    """Return the memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def main() -> None:
    """Write the rows that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", choices=("topics", "messages", "processor", "exchange"))
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--count", type=int, default=100_000)
    args = parser.parse_args()
    cases = {
        "topics": lambda: topics(args.seconds),
        "messages": lambda: messages(args.count),
        "processor": lambda: robot_run.processor(args.seconds),
        "exchange": robot_run.exchange,
    }
    for case in [args.case] if args.case else cases:
        for row in cases[case]():
            print_message(str(row))
            save_row(RESULTS, "runs", row | {"machine": cpu_name()}, *IDENTITY)
            robot_page.write(json.loads(RESULTS.read_text())["runs"])


if __name__ == "__main__":
    main()
