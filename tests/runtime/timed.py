"""Servers on loopback whose pictures tell when they were drawn, and a relay that can hold a stream up."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from clockface import Painter
from clockface import jpeg as timed_jpeg
from servers import Mjpeg, free_port

HERE = Path(__file__).parent
Kind = dict[str, Any]
"""Of a stream: fps, codec, b_frames, key (pictures from key frame to key frame), crf, still, noise, phase_ms."""


class TimedRtsp:
    """GStreamer's RTSP server in a process of its own; skips where it is not installed."""

    def __init__(self, **kinds: Kind) -> None:
        self.port = free_port()
        self.kinds = {name: {"codec": "h264", "fps": 30} | kind for name, kind in kinds.items()}
        self.python = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
        needed = {"h264": "x264enc", "h265": "x265enc", "mjpeg": "jpegenc"}
        names = [needed[kind["codec"]] for kind in self.kinds.values()]
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
            [self.python, str(HERE / "timed_rtsp.py"), str(self.port), json.dumps(self.kinds)],
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
        for each in (one, other):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def hold(self, seconds: float) -> None:
        """Keep back what comes for a while; all of it comes then."""
        self.open.clear()
        time.sleep(seconds)
        self.open.set()

    def kill(self) -> None:
        self.closed = True
        self.open.set()
        self.server.close()


def timed_mjpeg(fps: float, lengths: bool = True, stamps: bool = False) -> Mjpeg:
    """Return a camera that sends JPEGs over HTTP, each drawn when it is sent."""
    painter = Painter()
    return Mjpeg(lambda index: timed_jpeg(time.monotonic_ns(), painter), fps)


__all__ = ["Relay", "TimedRtsp", "shutil", "timed_mjpeg"]
