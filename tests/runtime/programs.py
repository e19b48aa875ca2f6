"""What tests of programs share: a pipeline of test patterns, a listener, a sink that is interrupted, a leak check."""

from __future__ import annotations

import gc
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import onnxruntime  # noqa: F401 - it opens files of its own, which count with what is open before
import pytest
from servers import descriptors

from edgemtl_runtime import Bundle, Event, FramePair, Pipeline, Result
from edgemtl_runtime.camera import open_cameras
from edgemtl_runtime.engine.onnxruntime import OrtEngine

LIVE = "pattern:?fps=100&width=96&height=64"


def pipeline(bundle: Path, uri: str = LIVE, **options: object) -> Pipeline:
    opened = Bundle.open(bundle)
    return Pipeline(opened, OrtEngine(opened.model, 1), open_cameras({"rgb": uri, "ir": uri}), **options)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Whatever a test does, no thread and no file of it is left when its objects are gone."""
    before, files = set(threading.enumerate()), descriptors()
    yield
    gc.collect()
    end = time.monotonic() + 30
    while (left := set(threading.enumerate()) - before) and time.monotonic() < end:
        time.sleep(0.01)
    assert not left and descriptors() <= files


class Listener:
    """A listener that takes its time, and may fail."""

    def __init__(self, seconds: float = 0.0, fails_at: str = "") -> None:
        self.seconds, self.fails_at, self.heard = seconds, fails_at, list[Event]()

    def __call__(self, event: Event) -> None:
        time.sleep(self.seconds)
        self.heard.append(event)
        if self.fails_at == event.state:
            raise KeyError(f"the program's own mistake at {event.state}")


class Interrupting:
    """A sink, a recorder and an engine in whose middle Ctrl-C is pressed; what it wrote is finished."""

    name, on_main_thread = "interrupting", True

    def __init__(self) -> None:
        self.written, self.closed = 0, 0

    def write(self, pair: FramePair, result: Result | None = None) -> None:
        self.written += 1
        if self.written == 3:
            signal.raise_signal(signal.SIGINT)

    def close(self) -> None:
        self.closed += 1
