"""An IP camera on loopback whose pictures tell when they were sent: MJPEG over HTTP, 640x480.

    python benchmarks/live_server.py FOLDER --port 8090 --fps 30

The time of sending (monotonic clock, tenths of a millisecond) is drawn into the top row as 40 blocks, dark or light,
that survive JPEG; a checksum tells them from a black picture. A picture is made ahead of its time and sent on it.
"""

from __future__ import annotations

import argparse
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 640, 480
BLOCK = 16
BYTES = 5
"""Four of the time, one of a checksum."""
TICK_NS = 100_000
PICTURES = 30


def draw(image: NDArray[Any], time_ns: int) -> None:
    """Draw a time into a picture's top row."""
    told = (time_ns // TICK_NS % (1 << 32)).to_bytes(4, "big")
    bits = np.unpackbits(np.frombuffer(told + bytes([_check(told)]), np.uint8))
    row = np.repeat(np.where(bits, 235, 20).astype(np.uint8), BLOCK)
    image[:BLOCK, : len(row)] = row[None, :, None]


def read(image: NDArray[Any]) -> int | None:
    """Return the time that is drawn in a picture, in ticks; None where there is none."""
    if image.shape[:2] != (HEIGHT, WIDTH):
        return None
    green = image[4 : BLOCK - 4, : 8 * BYTES * BLOCK, 1].reshape(BLOCK - 8, 8 * BYTES, BLOCK)
    told = np.packbits(green[:, :, 4:-4].mean((0, 2)) > 128).tobytes()
    return int.from_bytes(told[:4], "big") if told[4] == _check(told[:4]) else None


def age_ms(ticks: int, now_ns: int) -> float:
    """Return how long ago a drawn time was; negative of one to come."""
    gone = (now_ns // TICK_NS - ticks) % (1 << 32)
    return (gone - (1 << 32) * (gone >> 31)) * TICK_NS / 1e6


def _check(told: bytes) -> int:
    found = 0xA5
    for byte in told:
        found = (found * 31 + byte) % 256
    return found


def pictures(folder: Path) -> list[NDArray[Any]]:
    """Return some of a folder's pictures at the camera's size."""
    files = sorted(folder.iterdir())[:PICTURES]
    return [cv2.resize(cv2.imread(str(file)), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) for file in files]


def serve(folder: Path, port: int, fps: float) -> None:
    """Serve until killed."""
    held = pictures(folder)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            due_ns, index = time.monotonic_ns(), 0
            while True:
                due_ns, index = due_ns + round(1e9 / fps), index + 1
                image = held[index % len(held)].copy()
                draw(image, due_ns)
                data = bytes(cv2.imencode(".jpg", image)[1])
                time.sleep(max(0, due_ns - time.monotonic_ns()) / 1e9)
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                try:
                    self.wfile.write(head.encode() + data + b"\r\n")
                except OSError:
                    return

        def log_message(self, *_: object) -> None:
            """Be quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    print("ready", flush=True)
    server.serve_forever()


def main() -> None:
    """Serve what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="pictures to show behind the code")
    parser.add_argument("--port", type=int, default=8090)
    parser.add_argument("--fps", type=float, default=30.0)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    serve(given.folder, given.port, given.fps)


if __name__ == "__main__":
    main()
