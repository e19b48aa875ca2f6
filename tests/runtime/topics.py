"""A process that publishes topics whose pictures tell their time (`topic_publisher`)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from servers import free_port

from edgemtl_runtime.camera import Camera
from edgemtl_runtime.camera.wrappers import complete
from edgemtl_runtime.frame import Frame

HERE = Path(__file__).parent


class Publisher:
    """The process; `kill` ends it at once."""

    def __init__(self, *topics: dict[str, Any], port: int = 0) -> None:
        self.port = port or free_port()
        self.endpoint = f"tcp/127.0.0.1:{self.port}"
        words = [sys.executable, HERE / "topic_publisher.py", self.endpoint, *map(json.dumps, topics)]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=HERE)
        assert self.process.stdout is not None and self.process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def uri(self, topic: str, more: str = "") -> str:
        return f"zenoh://{topic}?endpoint={self.endpoint}{more}"


@contextmanager
def publishing(*topics: dict[str, Any]) -> Iterator[Publisher]:
    """Publish topics for a while."""
    publisher = Publisher(*topics)
    try:
        yield publisher
    finally:
        publisher.kill()


def take(camera: Camera, count: int) -> list[Frame]:
    """Return the first frames of a camera, and close it."""
    frames: list[Frame] = []
    for frame in complete(camera).frames():
        frames.append(frame)
        if len(frames) == count:
            break
    camera.close()
    return frames
