"""A run to show on the web page, and a client of the page."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import time
from collections.abc import Callable
from email.message import Message
from typing import Any

import cv2
import numpy as np

from edgemtl_runtime.frame import Frame, FramePair
from edgemtl_runtime.result import Attributes, Boxes, DepthMap, EdgeMap, LabelMap, NormalMap, Result
from edgemtl_runtime.sink.web import Web

SIZE = (48, 64)


def sample(index: int = 0, missing: tuple[str, ...] = (), size: tuple[int, int] = SIZE) -> tuple[FramePair, Result]:
    """Return a pair and a result of every type of head; the images' brightness rises with the index."""
    grey = np.full(size, 100 + index % 100, np.uint8)
    images = {"rgb": np.dstack([grey, grey // 2, grey // 3]), "ir": grey}
    now = time.monotonic_ns()
    frames = {n: Frame(i, now, n, index, arrived_ns=now) for n, i in images.items() if n not in missing}
    heads = {
        "boxes": Boxes(
            np.array([[8, 8, 40, 40]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int64), ("person", "car")
        ),
        "semantic": LabelMap((np.arange(size[0])[:, None] * np.ones(size) > 20).astype(np.uint8), ("sky", "road")),
        "depth": DepthMap(np.linspace(1, 30, size[0] * size[1], dtype=np.float32).reshape(size)),
        "normals": NormalMap(np.full((*size, 3), 1 / np.sqrt(3), np.float32)),
        "edges": EdgeMap(np.eye(*size, dtype=np.float32), 0.5),
        "attributes": Attributes(np.array([0.9], np.float32), ("day",), 0.5),
    }
    return FramePair(frames), Result(heads, "rgb", now, 2_000_000, index, missing=missing)


class RunState:
    """The status of a run, to be changed by a test."""

    values: dict[str, Any]

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Set the status of a run that is as it should be."""
        camera = {"fps": 9.0, "age_ms": 12.0, "stamp_source": "driver", "frames": 40, "reconnects": 2}
        latency = {"p50": 20.0, "p90": 25.0, "p99": 40.0, "max": 50.0}
        self.values = {
            "running": True,
            "cameras": {name: {"state": "live", "detail": "", **camera} for name in ("rgb", "ir")},
            "stats": {
                "frames": {"rgb": 40, "ir": 41},
                "pairs": 39,
                "uncertain": 2,
                "drops": {"ir: no partner": 2, 'odd "cause"\\': 1},
                "seconds": 4.0,
                "pairs_per_second": 9.5,
                "skew_ms": {"p50": 3.0, "p90": 4.0, "p99": 5.0, "max": 6.0},
                "latency_ms": {"infer": dict.fromkeys(latency, 7.0), "total": latency},
            },
            "last_result_age_ms": 30.0,
            "warnings": [],
        }

    def __call__(self) -> dict[str, Any]:
        return json.loads(json.dumps(self.values))  # type: ignore[no-any-return]


def ask(web: Web, path: str, headers: dict[str, str] | None = None, method: str = "GET") -> tuple[int, Message, bytes]:
    """Return the status code, the headers and the body of one response; redirects are not followed."""
    connection = http.client.HTTPConnection("127.0.0.1", web.server.address[1], timeout=10)
    with contextlib.closing(connection):
        connection.request(method, path, headers=headers or {})
        reply = connection.getresponse()
        return reply.status, reply.headers, reply.read()


def latest(web: Web, query: str = "") -> dict[str, Any]:
    """Return the answer of /latest."""
    code, _, body = ask(web, f"/latest?{query}")
    assert code == 200, body
    return json.loads(body)  # type: ignore[no-any-return]


def decode_image(url: str) -> np.ndarray:
    """Return the RGB image (H, W, 3) of a data URL."""
    media_type, _, data = url.partition(",")
    assert media_type == "data:image/jpeg;base64"
    return cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]


def wait_until(condition: Callable[[], Any], seconds: float = 10) -> Any:
    """Wait until a condition holds, and return its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.02)
    return value
