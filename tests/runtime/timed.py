"""Servers on loopback whose pictures tell when they were drawn, and a relay that can hold a stream up."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clockface import Painter, read_face
from clockface import jpeg as timed_jpeg
from servers import Mjpeg, free_port

from edgemtl_runtime.camera import Camera
from edgemtl_runtime.frame import FramePair
from edgemtl_runtime.recording import Recording

HERE = Path(__file__).parent
Stream = dict[str, Any]
"""Of a stream: fps, codec, b_frames, key (pictures from key frame to key frame), crf, still, noise, phase_ms."""


class TimedRtsp:
    """GStreamer's RTSP server in a process of its own; skips where it is not installed."""

    def __init__(self, user: str = "", **streams: Stream) -> None:
        self.port, self.user = free_port(), user
        self.streams = {name: {"codec": "h264", "fps": 30} | stream for name, stream in streams.items()}
        self.python = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
        needed = {"h264": "x264enc", "h265": "x265enc", "mjpeg": "jpegenc"}
        names = [needed[stream["codec"]] for stream in self.streams.values()]
        probe = (
            "import gi; gi.require_version('GstRtspServer', '1.0'); gi.require_version('Gst', '1.0');"
            "from gi.repository import Gst; Gst.init(None);"
            f"raise SystemExit(any(Gst.ElementFactory.find(n) is None for n in {names}))"
        )
        if subprocess.run([self.python, "-c", probe], capture_output=True).returncode:
            pytest.skip("GStreamer's RTSP server or an encoder is not installed (.ci/packages)")
        self.process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        self.process = subprocess.Popen(
            [
                self.python,
                str(HERE / "timed_rtsp.py"),
                str(self.port),
                json.dumps(self.streams),
                *([self.user] if self.user else []),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        assert self.process.stdout is not None and self.process.stdout.readline().strip() == "ready"

    def url(self, name: str, port: int = 0) -> str:
        return f"rtsp://127.0.0.1:{port or self.port}/{name}"

    def stand(self, seconds: float) -> None:
        """Let the whole process stand still."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            if self.process.stdout:
                self.process.stdout.close()


class Relay:
    """Passes TCP connections on; `hold` keeps back what the server sends, as a network that stands does."""

    def __init__(self, target: int) -> None:
        self.target, self.open = target, threading.Event()
        self.open.set()
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.server.getsockname()[1])
        self.closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while not self.closed:
            try:
                client, _ = self.server.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                return
            for one, other, held in ((client, server, False), (server, client, True)):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._pass, args=(one, other, held), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket, held: bool) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                if held:
                    self.open.wait()
                other.sendall(data)
        for connection in (one, other):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def hold(self, seconds: float) -> None:
        """Keep back what comes for a while; all of it comes then."""
        self.open.clear()
        time.sleep(seconds)
        self.open.set()

    def kill(self) -> None:
        self.closed = True
        self.open.set()
        self.server.close()


def timed_mjpeg(
    fps: float, lengths: bool = True, eager: bool = False, stamps: bool = False, delay_s: float = 0.0
) -> Mjpeg:
    """Return a camera that sends JPEGs over HTTP, each drawn ``delay_s`` before it is sent.

    With ``stamps`` each head tells the time of drawing by a clock of the camera's own (``X-Timestamp``).
    """
    painter, drawn = Painter(), [0]

    def paint(index: int) -> bytes:
        drawn[0] = time.monotonic_ns()
        data = timed_jpeg(drawn[0], painter)
        time.sleep(delay_s * (index % 4) / 3)  # an encoder that takes now longer, now less
        return data

    server = Mjpeg(paint, fps, lengths, eager)
    if stamps:
        server.more = lambda: f"X-Timestamp: {(drawn[0] + 987_654_321_000) / 1e9:.6f}\r\n"
    return server


@dataclass
class TimedPair:
    """One pair (or frame of one camera): what was told of it, and what its pictures tell."""

    at_ns: int
    truths: dict[str, int]
    stamps: dict[str, int]
    sources: dict[str, str]
    uncertainty_ns: dict[str, int]
    trusted: bool

    @property
    def true_skew_ms(self) -> float:
        return (max(self.truths.values()) - min(self.truths.values())) / 1e6

    @property
    def stamped_skew_ms(self) -> float:
        return (max(self.stamps.values()) - min(self.stamps.values())) / 1e6


@dataclass
class Watched:
    """What came of a run: its pairs, when the stall ended, and what was dropped."""

    pairs: list[TimedPair]
    stall_end_ns: int
    drops: dict[str, int]
    unread: int

    def row(self, tolerance_ms: float, skip_s: float = 1.5) -> dict[str, Any]:
        """Return the figures of a run: errors are of trusted pairs behind the start, the counts of all."""
        begun = self.pairs[0].at_ns if self.pairs else 0
        steady = [p for p in self.pairs if p.at_ns - begun > skip_s * 1e9 and p.trusted]
        names = list(self.pairs[0].truths) if self.pairs else []
        beyond = [p for p in self.pairs if p.true_skew_ms > tolerance_ms]
        known = [p for p in steady or self.pairs]
        return {
            "pairs": len(self.pairs),
            "beyond_tolerance": len(beyond),
            "unmarked_beyond": sum(p.trusted for p in beyond),
            "uncertain": sum(not p.trusted for p in self.pairs),
            "true_skew_ms_p50": p50([p.true_skew_ms for p in known]),
            "reported_skew_ms_p50": p50([p.stamped_skew_ms for p in known]),
            "stamp_error_ms_p50": [p50([abs(p.stamps[n] - p.truths[n]) / 1e6 for p in known]) for n in names],
            "stamp_uncertainty_ms": [p50([p.uncertainty_ns[n] / 1e6 for p in known]) for n in names],
            "stamp_source": [known[-1].sources[n] if known else "" for n in names],
            "recovery_s": self.recovery_s(tolerance_ms),
            "true_again_s": self.true_again_s(tolerance_ms),
            "latency_ms_p50": p50([(p.at_ns - max(p.truths.values())) / 1e6 for p in known]),
        }

    def true_again_s(self, tolerance_ms: float) -> float | None:
        """Return how long after the stall's end the last pair beyond the tolerance came, marked or not; 0: none did."""
        if not self.stall_end_ns:
            return None
        wrong = [p.at_ns for p in self.pairs if p.at_ns >= self.stall_end_ns and p.true_skew_ms > tolerance_ms]
        return round((max(wrong) - self.stall_end_ns) / 1e9, 2) if wrong else 0.0

    def recovery_s(self, tolerance_ms: float) -> float | None:
        """Return how long after the stall's end the last pair was that was not both trusted and true."""
        if not self.stall_end_ns:
            return None
        after = [p for p in self.pairs if p.at_ns >= self.stall_end_ns]
        wrong = [p.at_ns for p in after if not p.trusted or p.true_skew_ms > tolerance_ms]
        if not after or after[-1].at_ns in wrong[-1:]:
            return 99.0  # never
        first = next(p.at_ns for p in after if not wrong or p.at_ns > wrong[-1])
        return round((first - self.stall_end_ns) / 1e9, 2)


def p50(values: list[float]) -> float | None:
    return round(float(np.median(values)), 2) if values else None


def watch(
    cameras: dict[str, Camera],
    seconds: float,
    tolerance_ms: float = 30.0,
    stall: Callable[[], None] | None = None,
    stall_at_s: float = 3.0,
) -> Watched:
    """Pair cameras for a while, letting one of them stall on the way, and read the truth out of the pictures."""
    recording = Recording(cameras, tolerance_ms)
    ended = [0]

    def stand() -> None:
        assert stall is not None
        stall()
        ended[0] = time.monotonic_ns()

    timers = [threading.Timer(seconds, recording.stop)]
    if stall is not None:
        timers.append(threading.Timer(stall_at_s, stand))
    for timer in timers:
        timer.daemon = True
        timer.start()
    taken: list[tuple[int, FramePair]] = [(time.monotonic_ns(), pair) for pair in recording]
    pairs, unread = [], 0
    for at_ns, pair in taken:
        truths = {name: read_face(frame.image, at_ns) for name, frame in pair.frames.items()}
        if len(truths) < len(cameras) or None in truths.values():
            unread += None in truths.values()
            continue
        frames = pair.frames.items()
        pairs.append(
            TimedPair(
                at_ns,
                {n: t for n, t in truths.items() if t is not None},
                {n: f.stamp_ns for n, f in frames},
                {n: f.stamp_source for n, f in frames},
                {n: f.uncertainty_ns for n, f in frames},
                pair.trusted,
            )
        )
    return Watched(pairs, ended[0], dict(recording.stats.drops), unread)


__all__ = ["Relay", "TimedPair", "TimedRtsp", "Watched", "timed_mjpeg", "watch"]
