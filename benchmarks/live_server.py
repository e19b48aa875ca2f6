"""A simulated IP camera whose images carry the time of sending: MJPEG over HTTP on loopback, 640x480.

    python benchmarks/live_server.py FOLDER --port 8090 --fps 30

The time of sending (monotonic clock, tenths of a millisecond) is drawn into the top row as 40 blocks, dark or light,
that survive JPEG; a checksum distinguishes them from a black image. An image is encoded before its time, then sent.
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
NUM_IMAGES = 30


def draw(image: NDArray[Any], time_ns: int) -> None:
    """Draw a time into an image's top row."""
    code = (time_ns // TICK_NS % (1 << 32)).to_bytes(4, "big")
    bits = np.unpackbits(np.frombuffer(code + bytes([_check(code)]), np.uint8))
    row = np.repeat(np.where(bits, 235, 20).astype(np.uint8), BLOCK)
    image[:BLOCK, : len(row)] = row[None, :, None]


def read(image: NDArray[Any]) -> int | None:
    """Return the time that is drawn into an image, in ticks; None where there is none."""
    if image.shape[:2] != (HEIGHT, WIDTH):
        return None
    green = image[4 : BLOCK - 4, : 8 * BYTES * BLOCK, 1].reshape(BLOCK - 8, 8 * BYTES, BLOCK)
    code = np.packbits(green[:, :, 4:-4].mean((0, 2)) > 128).tobytes()
    return int.from_bytes(code[:4], "big") if code[4] == _check(code[:4]) else None


def age_ms(ticks: int, now_ns: int) -> float:
    """Return how long ago a drawn time was; negative of one to come."""
    elapsed = (now_ns // TICK_NS - ticks) % (1 << 32)
    return (elapsed - (1 << 32) * (elapsed >> 31)) * TICK_NS / 1e6


def _check(code: bytes) -> int:
    checksum = 0xA5
    for byte in code:
        checksum = (checksum * 31 + byte) % 256
    return checksum


def load_images(folder: Path) -> list[NDArray[Any]]:
    """Return some of a folder's images at the camera's size."""
    files = sorted(folder.iterdir())[:NUM_IMAGES]
    return [resized(read_image(file), (WIDTH, HEIGHT)) for file in files]


def read_image(file: Path, flags: int = cv2.IMREAD_COLOR) -> NDArray[np.uint8]:
    """Return an image file's pixels, (H, W, 3) BGR or by ``flags``; raises ValueError where it is none."""
    image = cv2.imread(str(file), flags)
    if image is None:
        raise ValueError(f"{file}: no image")
    return np.asarray(image, np.uint8)


def resized(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return an image at a size (width, height), by bicubic interpolation."""
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), np.uint8)


def serve(folder: Path, port: int, fps: float) -> None:
    """Serve until killed."""
    images = load_images(folder)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            due_ns, index = time.monotonic_ns(), 0
            while True:
                due_ns, index = due_ns + round(1e9 / fps), index + 1
                image = images[index % len(images)].copy()
                draw(image, due_ns)
                data = bytes(cv2.imencode(".jpg", image)[1])
                time.sleep(max(0, due_ns - time.monotonic_ns()) / 1e9)
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                try:
                    self.wfile.write(head.encode() + data + b"\r\n")
                except OSError:
                    return

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    print("ready", flush=True)
    server.serve_forever()


def main() -> None:
    """Serve what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="images to send")
    parser.add_argument("--port", type=int, default=8090)
    parser.add_argument("--fps", type=float, default=30.0)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    serve(given.folder, given.port, given.fps)


if __name__ == "__main__":
    main()
