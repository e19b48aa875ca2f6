"""Real servers on loopback that can be killed, stopped and made to misbehave, and cameras that follow a script."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgemtl_runtime.bundle import Bundle
from edgemtl_runtime.engine.onnxruntime import OrtEngine
from edgemtl_runtime.frame import Frame
from edgemtl_runtime.pipeline import Pipeline
from edgemtl_runtime.result import Result

Paint = Callable[[int], bytes | None]
"""What a server sends as its n-th picture: a JPEG's bytes; None says nothing for a while."""


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def jpeg(index: int, size: tuple[int, int] = (64, 96)) -> bytes:
    """Return a picture that is never the one before."""
    image = np.full((*size, 3), 60, np.uint8)
    image[: size[0] // 2, : 4 + index % (size[1] - 4)] = 40 + index % 200
    return bytes(cv2.imencode(".jpg", image)[1])


class Mjpeg:
    """An IP camera that sends JPEGs over HTTP; ``paint`` may be changed while it runs, and it may be killed."""

    def __init__(self, paint: Paint = jpeg, fps: float = 30.0, lengths: bool = True, eager: bool = False) -> None:
        """``lengths``: each head tells its picture's; ``eager``: the next boundary is sent behind a picture at once."""
        self.paint, self.fps, self.port, self.lengths, self.eager = paint, fps, free_port(), lengths, eager
        self.more: Callable[[], str] = lambda: ""
        self.server: ThreadingHTTPServer | None = None
        self.sent = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://me:secret@127.0.0.1:{self.port}/stream"

    def start(self) -> None:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                running = owner.server
                if owner.eager:
                    self.wfile.write(b"--frame\r\n")
                while owner.server is running:
                    data = owner.paint(owner.sent)
                    owner.sent += 1
                    if data is not None:
                        length = f"Content-Length: {len(data)}\r\n" if owner.lengths else ""
                        head = f"Content-Type: image/jpeg\r\n{length}{owner.more()}\r\n".encode()
                        mark, end = (b"", b"\r\n--frame\r\n") if owner.eager else (b"--frame\r\n", b"\r\n")
                        try:
                            self.wfile.write(mark + head + data + end)
                        except OSError:
                            return
                    time.sleep(1 / owner.fps)

            def log_message(self, *_: object) -> None:
                """Be quiet."""

        ThreadingHTTPServer.allow_reuse_address = True
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def kill(self) -> None:
        server, self.server = self.server, None
        if server is not None:
            server.shutdown()
            server.server_close()


RTSP = """
import sys, gi
gi.require_version("Gst", "1.0"); gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gst, GstRtspServer, GLib
Gst.init(None)
server = GstRtspServer.RTSPServer(address="127.0.0.1", service=sys.argv[1])
for name, kind in (("rgb", "smpte"), ("ir", "ball")):
    factory = GstRtspServer.RTSPMediaFactory(shared=True)
    factory.set_launch(f"( videotestsrc is-live=true pattern={kind} ! video/x-raw,width=96,height=64,framerate=30/1 "
                       "! x264enc tune=zerolatency key-int-max=15 speed-preset=ultrafast "
                       "! rtph264pay name=pay0 pt=96 )")
    server.get_mount_points().add_factory("/" + name, factory)
server.attach(None)
print("ready", flush=True)
GLib.MainLoop().run()
"""


class Rtsp:
    """GStreamer's RTSP server in a process of its own, with /rgb and /ir; skips where it is not installed."""

    def __init__(self) -> None:
        self.port = free_port()
        self.process: subprocess.Popen[str] | None = None
        self.python = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
        probe = "import gi; gi.require_version('GstRtspServer', '1.0')"
        if subprocess.run([self.python, "-c", probe], capture_output=True).returncode:
            pytest.skip("GStreamer's RTSP server is not installed (gir1.2-gst-rtsp-server-1.0)")
        if (
            shutil.which("gst-inspect-1.0")
            and subprocess.run(["gst-inspect-1.0", "x264enc"], capture_output=True).returncode
        ):
            pytest.skip("x264enc is not installed (gstreamer1.0-plugins-ugly)")
        self.start()

    def url(self, name: str) -> str:
        return f"rtsp://127.0.0.1:{self.port}/{name}"

    def start(self) -> None:
        self.process = subprocess.Popen(
            [self.python, "-c", RTSP, str(self.port)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout is not None and self.process.stdout.readline().strip() == "ready"

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()


class Scripted:
    """A camera whose frames a generator makes: (seconds to wait, picture, stamp or None for now)."""

    live = True
    drops_repeats = True

    def __init__(self, name: str, script: Iterator[tuple[float, np.ndarray, int | None]]) -> None:
        self.name, self.script, self.closed = name, script, False

    def frames(self) -> Iterator[Frame]:
        due = time.monotonic()
        for index, (wait_s, image, stamp_ns) in enumerate(self.script):
            due += wait_s
            while (left := due - time.monotonic()) > 0:
                if self.closed:
                    return
                time.sleep(min(left, 0.05))
            if self.closed:
                return
            now_ns = time.monotonic_ns()
            yield Frame(image, now_ns if stamp_ns is None else stamp_ns, self.name, index, "driver", "", now_ns)

    def close(self) -> None:
        self.closed = True


def noise(index: int, size: tuple[int, ...] = (64, 96)) -> np.ndarray:
    """Return a picture as a sensor gives it: no two alike."""
    return np.random.default_rng(index).integers(0, 256, size, np.uint8)


def steady(count: int, fps: float = 30.0, first: int = 0) -> Iterator[tuple[float, np.ndarray, None]]:
    """Yield a script of new pictures at a rate."""
    for index in range(count):
        yield 1 / fps, noise(first + index), None


def allow_absence(bundle: Path) -> Path:
    """Let a bundle do without either camera, as one whose network was trained so."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    for spec in manifest["inputs"]:
        spec["may_be_missing"] = True
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    return bundle


class Watched:
    """A pipeline that runs in a thread, and what came of it so far."""

    def __init__(
        self, bundle: Path, cameras: dict, engine: object = None, sinks: tuple = (), **options: object
    ) -> None:
        opened = Bundle.open(bundle)
        self.pipeline = Pipeline(opened, engine or OrtEngine(opened.model, 1), cameras, **options)  # type: ignore[arg-type]
        self.results: list[tuple[float, Result]] = []
        self.error: BaseException | None = None
        self.sinks = (*sinks, self)
        self.name, self.on_main_thread = "watched", False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.pipeline.run(self.sinks)
        except BaseException as error:
            self.error = error

    def write(self, pair: object, result: Result) -> None:
        self.results.append((time.monotonic(), result))

    def close(self) -> None:
        """Nothing to finish."""

    def until(self, what: Callable[[], object], seconds: float = 60.0) -> float:
        """Wait until something holds and return how long that took."""
        begun = time.monotonic()
        while not what():
            assert self.thread.is_alive() or what(), f"the run has ended: {self.error!r}"
            assert time.monotonic() - begun < seconds, (self.pipeline.status(), self.pipeline.events)
            time.sleep(0.01)
        return time.monotonic() - begun

    def state(self, camera: str) -> str:
        return str(self.pipeline.status()["cameras"][camera]["state"])

    def states(self, camera: str) -> list[str]:
        return [event.state for event in self.pipeline.events if event.camera == camera]

    def last(self) -> Result | None:
        return self.results[-1][1] if self.results else None

    def both(self) -> bool:
        """Whether the latest result is of both cameras."""
        last = self.last()
        return last is not None and not last.missing

    def stop(self) -> None:
        """End the run, and check that every frame was accounted for."""
        self.pipeline.stop()
        self.thread.join(10)
        assert not self.thread.is_alive()
        accounted(self.pipeline)


def accounted(pipeline: Pipeline) -> None:
    """Check that every captured frame was delivered or dropped for a cause."""
    stats = pipeline.stats
    for name, count in stats.frames.items():
        assert count == stats.delivered[name] + stats.lost[name], (name, stats.to_dict())


def descriptors() -> int:
    """Return how many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))
