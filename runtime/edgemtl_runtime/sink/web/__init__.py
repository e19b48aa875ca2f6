"""Web sink: a page with both cameras and their overlays, charts and camera states, and endpoints for monitoring."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from ...errors import EdgemtlError, missing
from ...frame import FramePair
from ...result import Result
from ...status import Status, as_dict
from .connections import Limits
from .latest import Feed, Latest
from .metrics import MEDIA_TYPE, exposition
from .panels import Selection, render_body
from .reply import Query, Reply, Route, encode_json

READY_AGE_MS = 2000.0
"""Age of the last result up to which a run is ready."""
WORKING = ("live", "stale", "absent")
"""States of a camera with which the run is as it should be; absent is what was skipped on purpose."""

Value = TypeVar("Value")
StatusReader = Callable[[], Status | Mapping[str, Any]]
"""Returns the pipeline's status, as the type or as its `Status.to_dict`."""


class Web:
    """Serves the page and its data at ``url``; keeps only the latest result, and draws only while someone watches.

    ``address`` is "HOST:PORT", or ":PORT" or "PORT" on 127.0.0.1; port 0 takes a free one. Where ``token`` is not
    empty, every request needs it; hosts other than loopback require one. ``status`` returns the state of the run for
    every response; ``running`` returns that part alone, at once. Raises `EdgemtlError`.
    """

    name = "web"
    on_main_thread = False

    def __init__(
        self,
        address: str,
        token: str,
        status: StatusReader,
        running: Callable[[], bool] | None = None,
        limits: Limits | None = None,
    ) -> None:
        try:
            import cv2  # noqa: F401
        except ImportError as error:
            raise EdgemtlError(
                missing(error, "cv2", "--serve draws with OpenCV: pip install 'edgemtl-runtime[opencv]'")
            ) from error
        try:
            from .server import Server
        except ImportError as error:
            raise EdgemtlError(
                missing(error, "uvicorn", "--serve needs uvicorn: pip install 'edgemtl-runtime[web]'")
            ) from error
        self.status = status
        self.running = running or (lambda: bool(as_dict(status())["running"]))
        self.limits = limits or Limits()
        self.feed = Feed()
        self.page = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
        routes: dict[str, Route] = {
            "/": self._page,
            "/latest": self._latest,
            "/status": self._status,
            "/metrics": self._metrics,
            "/healthz": self._healthz,
            "/readyz": self._readyz,
        }
        self.painter = ThreadPoolExecutor(1, "web-painter")
        self.status_reader = ThreadPoolExecutor(1, "web-status")
        self.server = Server(address, token, routes, ("/latest",), self.limits)
        self.url = self.server.url
        self.link = f"{self.url}?token={quote(token, safe='')}" if token else self.url

    def write(self, pair: FramePair, result: Result) -> None:
        """Keep one result and wake the requests that wait for it."""
        self.feed.latest = Latest(pair, result, time.monotonic_ns())
        self.server.call_soon(self.feed.wake)

    def close(self) -> None:
        """Stop serving; requests that wait are answered at once."""
        if self.feed.closed:
            return
        self.feed.closed = True
        self.server.call_soon(self.feed.wake)
        self.server.stop()
        for executor in (self.painter, self.status_reader):
            executor.shutdown(wait=False, cancel_futures=True)

    async def _page(self, query: Query) -> Reply:
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src 'self' data:; "
            "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        body = self.page.replace("{{nonce}}", nonce).encode()
        return Reply(200, body, "text/html; charset=utf-8", {"Content-Security-Policy": policy})

    async def _latest(self, query: Query) -> Reply:
        try:
            after = int(query.get("after", "-1"))
        except ValueError:
            return Reply.line(400, f"after is the index of a result, not '{query['after'][:40]}'")
        selection = Selection.parse(query)
        await self.feed.wait_newer(after, self.limits.poll_timeout_s)
        body = await _run_in(self.painter, lambda: render_body(self.feed.latest, after, selection))
        status = await _run_in(self.status_reader, self._read_status)
        return Reply(200, body, "application/json", tail=b',"status":' + encode_json(status) + b"}")

    def _read_status(self) -> Mapping[str, Any]:
        return as_dict(self.status())

    async def _status(self, query: Query) -> Reply:
        return Reply.json(await _run_in(self.status_reader, self._read_status))

    async def _metrics(self, query: Query) -> Reply:
        try:
            text = await _run_in(self.status_reader, lambda: exposition(self._read_status()))
            return Reply(200, text, MEDIA_TYPE)
        except EdgemtlError as error:
            return Reply.line(503, str(error))

    async def _healthz(self, query: Query) -> Reply:
        return Reply.line(200, "running") if self.running() else Reply.line(503, "the run is not going")

    async def _readyz(self, query: Query) -> Reply:
        reasons = _unready_reasons(await _run_in(self.status_reader, self._read_status))
        return Reply.line(503, "\n".join(reasons)) if reasons else Reply.line(200, "ready")


async def _run_in(executor: Executor, function: Callable[[], Value]) -> Value:
    """Return what a function returns in an executor's thread: nothing that takes long runs in the event loop's."""
    return await asyncio.get_running_loop().run_in_executor(executor, function)


def _unready_reasons(status: Mapping[str, Any]) -> list[str]:
    """Return why a run is not ready: not going, no recent result, or a camera that does not deliver."""
    age_ms = status["last_result_age_ms"]
    reasons = [] if status["running"] else ["the run is not going"]
    if age_ms is None:
        reasons.append("no result yet")
    elif age_ms > READY_AGE_MS:
        reasons.append(f"the last result is {age_ms / 1e3:.1f} s old")
    for name, camera in status["cameras"].items():
        if camera["state"] not in WORKING:
            reasons.append(f"{name}: {camera['state']}{camera['detail'] and ': '}{camera['detail']}")
    return reasons
