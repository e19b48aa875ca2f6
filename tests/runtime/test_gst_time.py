"""What GStreamer stamps pictures with that come in a container over a network is no time of capture."""

from __future__ import annotations

import contextlib
import itertools
import socket
import sys
import threading
import time
from fractions import Fraction

import av
import numpy as np
import pytest
from clockface import HEIGHT, WIDTH, Painter, read_face

from edgemtl_runtime.camera import open_camera

pytestmark = pytest.mark.realtime

if (path := "/usr/lib/python3/dist-packages") not in sys.path:
    sys.path.append(path)  # Debian's, which an environment of pip does not see
pytest.importorskip("gi", reason="python3-gi is not installed for this Python")


class Sent:
    """A client's connection as a file to write to."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client

    def write(self, data: bytes) -> int:
        self.client.sendall(data)
        return len(data)


def transport_stream(server: socket.socket, fps: int, b_frames: int) -> None:
    """Send pictures that tell when they were drawn as H.264 in MPEG-TS."""
    with contextlib.suppress(OSError, av.error.FFmpegError):
        client, _ = server.accept()
        container = av.open(Sent(client), "w", format="mpegts")
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = {"preset": "ultrafast", "tune": "zerolatency", "bf": str(b_frames), "b-adapt": "0"}
        stream.codec_context.time_base, stream.codec_context.gop_size = Fraction(1, 90_000), fps
        painter, begun_ns = Painter(), time.monotonic_ns()
        for index in range(20 * fps):
            time.sleep(max(begun_ns / 1e9 + index / fps - time.monotonic(), 0))
            now_ns = time.monotonic_ns()
            planes = np.frombuffer(painter.draw(now_ns), np.uint8).reshape(HEIGHT * 3 // 2, WIDTH)
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts, frame.time_base = (now_ns - begun_ns) * 9 // 100_000, Fraction(1, 90_000)
            container.mux(stream.encode(frame))


@pytest.mark.parametrize("decoder", ["tsdemux ! h264parse ! avdec_h264", "decodebin"])
@pytest.mark.parametrize("b_frames", [0, 2])
def test_a_container_s_pictures_are_stamped_by_when_they_came(decoder: str, b_frames: int) -> None:
    Gst = pytest.importorskip("gi.repository.Gst")
    Gst.init(None)
    if "avdec_h264" in decoder and Gst.ElementFactory.find("avdec_h264") is None:
        pytest.skip("gstreamer1.0-libav is not installed")
    server = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=transport_stream, args=(server, 25, b_frames), daemon=True).start()
    uri = f"gst:tcpclientsrc host=127.0.0.1 port={server.getsockname()[1]} ! {decoder}"
    camera = open_camera(uri, "rgb")
    frames = camera.frames()
    taken = list(itertools.islice(frames, 60))[30:]
    camera.close()
    frames.close()  # type: ignore[attr-defined]
    server.close()
    errors = [(f.stamp_ns - truth) / 1e6 for f in taken if (truth := read_face(f.image)) is not None]
    assert len(errors) > 25 and taken[-1].stamp_source == "stream"
    assert abs(float(np.median(errors))) < 6, errors
