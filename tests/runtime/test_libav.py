"""FFmpeg's threads never wait for Python: a decoder that is left while its threads log ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import av
import numpy as np

LEAVE = """
import sys
from edgemtl_runtime.camera.libav import open_container, to_image

for turn in range(150):
    container = open_container("rgb", sys.argv[1])
    stream = container.streams.video[0]
    stream.thread_type = "FRAME"
    stream.codec_context.thread_count = 4
    for index, frame in enumerate(container.decode(stream)):
        if index == turn % 4:
            break
    del frame, stream, container
print("left")
"""


def damaged_video(path: Path) -> Path:
    """Return an H.264 video whose slices are damaged, so that every decoder thread has something to log."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", format="h264") as output:
        stream = output.add_stream("libx264", 30)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.options = {"preset": "ultrafast", "g": "4"}
        for _ in range(40):
            picture = rng.integers(0, 256, (240, 320, 3), np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        output.mux(stream.encode(None))
    data = bytearray(path.read_bytes())
    for place in rng.integers(2000, len(data), len(data) // 3000):
        data[place] ^= 0x55
    path.write_bytes(data)
    return path


def test_a_decoder_may_be_left_while_its_threads_log(tmp_path: Path) -> None:
    """A log line that goes to Python waits for the interpreter, which waits for the thread that logs."""
    words = [sys.executable, "-c", LEAVE, str(damaged_video(tmp_path / "v.h264"))]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("left\n", "")
