"""Accuracy of stamps and pairs of live cameras against times drawn into every image: `make bench-time`.

    python benchmarks/time_pairs.py [--only WORD ...] [--seconds 8]

Two streams on loopback, sent by GStreamer's RTSP server or over HTTP, each image with the time of its drawing in it;
on some runs one of them stalls, by a network that stands (all of it comes later) or a server that does (nothing is
drawn meanwhile). Compared with edgemtl-runtime: GStreamer alone (its own stamps, our pairing) and OpenCV as programs
use it (the time of `read`). Rows go to results/time.json as they come, the table to standard output.

An error is how far a stamp lies from the drawing, in milliseconds, of trusted pairs from 1.5 s after the first; a pair
is beyond the tolerance (30 ms) by its images, unmarked where it passed for a good one. `recovery_s` runs from the end
of a stall to the first pair after which all are true and trusted. Latency is from the drawing of the later image to
the pair.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path += [str(ROOT / "tests" / "runtime"), str(ROOT / "tests"), "/usr/lib/python3/dist-packages"]

import cv2  # noqa: E402
import live_page  # noqa: E402
from timed import Relay, TimedRtsp, timed_mjpeg, watch  # noqa: E402

from edgemtl_runtime.camera.base import CameraBase, LiveCamera  # noqa: E402
from edgemtl_runtime.camera.gstreamer import GStreamerCamera  # noqa: E402
from edgemtl_runtime.camera.opencv import StreamCamera  # noqa: E402
from edgemtl_runtime.camera.reconnect import Reconnecting  # noqa: E402
from edgemtl_runtime.camera.stream import AvStreamCamera, open_stream  # noqa: E402
from edgemtl_runtime.frame import Frame  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "time.json"
TOLERANCE_MS = 30.0
STREAMS: dict[str, dict[str, Any]] = {
    "h264/30": {"fps": 30},
    "h264/15": {"fps": 15},
    "h264/9": {"fps": 9},
    "h264+b/30": {"fps": 30, "b_frames": 2},
    "h264+b/9": {"fps": 9, "b_frames": 2},
    "h265/15": {"fps": 15, "codec": "h265"},
    "mjpeg/15": {"fps": 15, "codec": "mjpeg"},
    # in one slice: FFmpeg's own RTSP reader smears images of several
    "plain/30": {"fps": 30, "slices": 1},
    "plain/15": {"fps": 15, "slices": 1},
    "plain/9": {"fps": 9, "slices": 1},
    "plain+b/30": {"fps": 30, "b_frames": 2, "slices": 1},
}


class Bare(GStreamerCamera):
    """GStreamer by itself: its own stamps."""

    def _stamp(self, buffer: Any, now_ns: int) -> tuple[int, Any, int]:
        return min(int(buffer.pts + self.pipeline.get_base_time()), now_ns), "driver", 0


class Read(LiveCamera):
    """OpenCV as most programs use it: an image is stamped with the time at which `read` returns it."""

    owns_images = False

    def __init__(self, name: str, url: str) -> None:
        super().__init__(name, url)
        self.capture = cv2.VideoCapture(url)

    def _frames(self) -> Iterator[Frame]:
        index = 0
        while not self.closed:
            good, image = self.capture.read()
            now_ns = time.monotonic_ns()
            if not good:
                return
            yield Frame(image, now_ns, self.name, index, "arrival", "", now_ns)
            index += 1

    def _release(self) -> None:
        """The capture is left to the garbage collector."""


def launch(url: str) -> str:
    """Return GStreamer's pipeline of a stream of H.264."""
    return f"gst:rtspsrc location={url} latency=0 protocols=tcp ! rtph264depay ! avdec_h264"


READERS: dict[str, tuple[str, Callable[[str, str], CameraBase]]] = {
    "rtsp": ("edgemtl", lambda name, url: open_stream(name, url, {})),
    "http": ("edgemtl", lambda name, url: open_stream(name, url, {})),
    "gst": ("edgemtl", lambda name, url: GStreamerCamera(name, launch(url), {})),
    "ffmpeg": ("edgemtl", lambda name, url: AvStreamCamera(name, url, {})),
    "opencv": ("edgemtl", lambda name, url: StreamCamera(name, url, {})),
    "gstreamer alone": ("gstreamer", lambda name, url: Bare(name, launch(url), {})),
    "opencv alone": ("opencv", Read),
}


@dataclass(frozen=True)
class Case:
    """Two streams (or one) with the reader of each; the second one stalls."""

    readers: tuple[str, ...]
    streams: tuple[str, ...]
    stall_s: float = 0.0
    how: str = ""

    @property
    def key(self) -> dict[str, Any]:
        """The keys that identify a row."""
        encodings = [STREAMS.get(name, {"fps": 15, "codec": "mjpeg"}) for name in self.streams]
        return {
            "tool": READERS[self.readers[0]][0],
            "path": list(self.readers),
            "codec": [encoding.get("codec", "h264") for encoding in encodings],
            "fps": [encoding["fps"] for encoding in encodings],
            "b_frames": [encoding.get("b_frames", 0) for encoding in encodings],
            "stall_s": self.stall_s,
            "stall": self.how,
        }


def cases() -> Iterator[Case]:
    """Yield all that is measured."""
    stalls = [(0.0, ""), *((s, how) for how in ("network", "server") for s in (0.3, 1.0, 3.0))]
    for stall_s, how in stalls:
        yield Case(("rtsp", "rtsp"), ("h264/30", "h264/9"), stall_s, how)
    for stall_s, how in stalls[:4]:
        yield Case(("rtsp", "rtsp"), ("h264/30", "h264+b/30"), stall_s, how)
        yield Case(("rtsp", "http"), ("h264/30", "http"), stall_s, how)
        yield Case(("rtsp", "gst"), ("h264/9", "h264/30"), stall_s, how)
        yield Case(("opencv", "opencv"), ("plain/30", "plain/9"), stall_s, how)
        yield Case(("gstreamer alone", "gstreamer alone"), ("h264/30", "h264/9"), stall_s, how)
        yield Case(("opencv alone", "opencv alone"), ("plain/30", "plain/9"), stall_s, how)
    yield Case(("rtsp", "http"), ("h264/9", "http"))
    yield Case(("rtsp", "rtsp"), ("h264+b/9", "h264/30"))
    yield Case(("rtsp", "rtsp"), ("h265/15", "h264/9"))
    yield Case(("rtsp", "rtsp"), ("mjpeg/15", "h264/9"))
    yield Case(("rtsp", "gst"), ("h264/30", "h264+b/30"))
    yield Case(("rtsp", "gst"), ("h264/30", "h264/9"))
    yield Case(("ffmpeg", "ffmpeg"), ("plain/30", "plain+b/30"))
    yield Case(("opencv", "opencv"), ("plain+b/30", "plain/9"))
    yield Case(("gstreamer alone", "gstreamer alone"), ("h264+b/30", "h264/30"))
    yield Case(("opencv alone", "opencv alone"), ("plain+b/30", "plain/30"))
    for reader in ("rtsp", "gst", "ffmpeg", "opencv", "gstreamer alone", "opencv alone"):
        yield Case((reader,), ("plain/15",))


def measure(case: Case, seconds: float) -> dict[str, Any]:
    """Return a case's row."""
    encodings = {name.replace("/", "-"): STREAMS[name] for name in case.streams if name in STREAMS}
    server, mjpeg = TimedRtsp(**encodings), timed_mjpeg(15)
    relay = Relay(mjpeg.port if case.streams[-1] == "http" else server.port)
    try:
        cameras = {}
        for index, (reader, name) in enumerate(zip(case.readers, case.streams, strict=True)):
            port = relay.port if index == len(case.readers) - 1 and case.how == "network" else 0
            if name == "http":
                url = f"http://127.0.0.1:{port or mjpeg.port}/stream"
            else:
                url = server.url(name.replace("/", "-"), port)
            camera = ("rgb", "ir")[index]
            make = READERS[reader][1]  # each is opened again when it fails, as ours are
            cameras[camera] = Reconnecting(camera, partial(make, camera, url))
        stall = {
            "": None,
            "network": lambda: relay.hold(case.stall_s),
            "server": lambda: server.stand(case.stall_s),
        }[case.how]
        record = watch(cameras, seconds + case.stall_s, TOLERANCE_MS, stall)
        row: dict[str, Any] = case.key | record.row(TOLERANCE_MS)
        return row | {"drops": record.drops, "unread": record.unread}
    finally:
        server.kill()
        relay.kill()
        mjpeg.kill()


def save_row(row: dict[str, Any]) -> None:
    """Save a row; it replaces an older one of the same case."""
    rows = json.loads(RESULTS.read_text())["rows"] if RESULTS.is_file() else []
    known = ("tool", "path", "codec", "fps", "b_frames", "stall_s", "stall")
    rows = [old for old in rows if any(old.get(name) != row[name] for name in known)] + [row]
    RESULTS.write_text(json.dumps({"rows": rows}, indent=1) + "\n")


def line(row: dict[str, Any]) -> str:
    """Return a row for a person."""
    kinds = zip(row["path"], row["codec"], row["fps"], row["b_frames"], strict=True)
    streams = ", ".join(f"{path} {codec}{'+b' if b else ''} {fps}" for path, codec, fps, b in kinds)
    stall = f"{row['stall']} {row['stall_s']:g} s" if row["stall"] else ""
    errors = "/".join("-" if e is None else f"{e:.1f}" for e in row["stamp_error_ms_p50"])
    return (
        f"{row['tool']:20} {streams:44} {stall:14} {row['pairs']:5} {row['beyond_tolerance']:5} "
        f"{row['unmarked_beyond']:5} {row['true_skew_ms_p50']!s:>7} {row['reported_skew_ms_p50']!s:>7} {errors:>12} "
        f"{row['recovery_s']!s:>6} {row['latency_ms_p50']!s:>8}"
    )


HEAD = (
    f"{'tool':20} {'streams':44} {'stall':14} {'pairs':>5} {'>tol':>5} {'unm.':>5} {'skew':>7} {'rep.':>7} "
    f"{'errors ms':>12} {'rec s':>6} {'lat ms':>8}"
)


def main() -> None:
    """Measure and tabulate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="cases whose line holds all of these")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each run, without the stall (%(default)s)")
    args = parser.parse_args()
    print(HEAD)
    for case in cases():
        if all(word in json.dumps(case.key) for word in args.only):
            row = measure(case, args.seconds)
            save_row(row)
            print(line(row), flush=True)
    live_page.write()


if __name__ == "__main__":
    main()
