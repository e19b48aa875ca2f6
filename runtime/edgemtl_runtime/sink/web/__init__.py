"""Results as a web page: both cameras with overlays, charts, the cameras' states, and the same for monitoring."""

from __future__ import annotations

import base64
import secrets
import threading
import time
from collections.abc import Callable, Set
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import numpy as np

from ...errors import EdgemtlError, missing
from ...frame import FramePair
from ...result import Boxes, LabelMap, Result
from .metrics import KIND, exposition
from .server import Reply, Route, Server, is_loopback_host, parse_address

WAIT_S = 2.0
"""A request for the latest result is answered after so long at most."""
READY_AGE_MS = 2000.0
WORKING = ("live", "stale", "absent")
"""States of a camera with which the run is as it should be; absent is what was left out on purpose."""
LEAST_PX, MOST_PX = 640, 960
"""Width of a panel: smaller pictures are enlarged so that writing reads, larger ones cost more than they show."""
TEXT_A_PX = 0.0009
"""Height of writing, in OpenCV's units, a pixel of the panel's width: a panel is shown at about half its size."""
JPEG_QUALITY = 82
MOST_CHOICES, MOST_DRAWN = 8, 32
"""Choices of heads that are drawn of one result, later ones are shown all heads; and pictures that are kept of it."""


@dataclass(frozen=True, eq=False)
class Latest:
    """The newest result, when it came (``since_ns``, monotonic), and what was already drawn of it."""

    pair: FramePair
    result: Result
    since_ns: int
    drawn: dict[Any, Any] = field(default_factory=dict)
    choices: set[Set[str]] = field(default_factory=set)
    """The choices of heads that are drawn of it."""

    def __post_init__(self) -> None:
        if self.since_ns < 0:
            raise ValueError(f"a time is not negative: {self.since_ns}")

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """Return what ``make`` gives, made once for all who look at the same."""
        if key not in self.drawn:
            made = make()
            while len(self.drawn) >= MOST_DRAWN:
                del self.drawn[next(iter(self.drawn))]
            self.drawn[key] = made
        return self.drawn[key]

    @property
    def latency_ms(self) -> float | None:
        """Time from the pair's later frame reaching us to its result reaching the page's server."""
        arrived_ns = self.pair.arrived_ns
        return round((self.since_ns - arrived_ns) / 1e6, 3) if 0 < arrived_ns <= self.since_ns else None


class Web:
    """Serves the page and its data at ``url``; keeps only the latest result, and draws only while someone watches.

    ``address`` is "HOST:PORT", or ":PORT" or "PORT" on 127.0.0.1; port 0 takes a free one. Where ``token`` is not
    empty it is asked of everyone; other hosts than loopback need one. ``status`` tells the run's state for every
    answer: "running", "cameras", "stats" (`Stats.to_dict`), "last_result_age_ms" and "warnings"; ``running`` tells that
    alone, where it is quicker.
    """

    name = "web"
    on_main_thread = False

    def __init__(
        self,
        address: str,
        token: str,
        status: Callable[[], dict[str, Any]],
        running: Callable[[], bool] | None = None,
    ) -> None:
        try:
            import cv2  # noqa: F401
        except ImportError as error:
            raise EdgemtlError(
                missing(error, "cv2", "--serve draws with OpenCV: pip install 'edgemtl-runtime[opencv]'")
            ) from error
        self.status = status
        self.running = running or (lambda: bool(status()["running"]))
        self.latest: Latest | None = None
        self.closed = False
        self.condition = threading.Condition()
        self.page = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
        routes: dict[str, Route] = {
            "/": self._page,
            "/latest": self._latest,
            "/status": self._status,
            "/metrics": self._metrics,
            "/healthz": self._healthz,
            "/readyz": self._readyz,
        }
        self.painter = ThreadPoolExecutor(1, "painter")
        self.server = Server(address, token, routes, watched=("/latest",))
        self.url = self.server.url
        self.link = f"{self.url}?token={quote(token, safe='')}" if token else self.url

    def write(self, pair: FramePair, result: Result) -> None:
        """Keep one result and wake those who wait for it."""
        with self.condition:
            self.latest = Latest(pair, result, time.monotonic_ns())
            self.condition.notify_all()

    def close(self) -> None:
        """Stop serving; who waits is answered at once."""
        with self.condition:
            if self.closed:
                return
            self.closed = True
            self.condition.notify_all()
        self.server.stop()
        self.painter.shutdown(wait=False, cancel_futures=True)

    def newer(self, after: int, wait_s: float = WAIT_S) -> Latest | None:
        """Wait for a result with an index above ``after``; None where there was none in time."""

        def there() -> bool:
            return self.closed or (self.latest is not None and self.latest.result.index > after)

        with self.condition:
            self.condition.wait_for(there, wait_s)
            return self.latest if self.latest is not None and self.latest.result.index > after else None

    def _page(self, query: dict[str, str]) -> Reply:
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src 'self' data:; "
            "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        body = self.page.replace("{{nonce}}", nonce).encode()
        return Reply(200, body, "text/html; charset=utf-8", {"Content-Security-Policy": policy})

    def _latest(self, query: dict[str, str]) -> Reply:
        try:
            after = int(query.get("after", "-1"))
        except ValueError:
            return Reply.line(400, f"after is the index of a result, not '{query['after'][:40]}'")
        panels, heads = (_names(query.get(key)) for key in ("panels", "heads"))
        self.newer(after)
        try:
            body = self.painter.submit(self._told, after, panels, heads).result()
        except (CancelledError, RuntimeError):
            return Reply.line(503, "the page is closed")
        return Reply(200, body, "application/json", tail=b',"status":' + _plain_json(self.status()) + b"}")

    def _told(self, after: int, panels: Set[str] | None, heads: Set[str] | None) -> bytes:
        """Return the newest result as JSON up to the end of the object, with its pictures where it is after ``after``.

        Called in the painter's thread alone: however many look, pictures take the memory and the processor of one.
        """
        seen = self.latest
        if seen is None:
            return _plain_json({"index": -1, "panels": {}, "result": None, "latency_ms": None, "views": None})[:-1]
        is_new = seen.result.index > after
        panels, heads = known(seen, panels, heads)
        if is_new and heads is not None and heads not in seen.choices:
            if len(seen.choices) >= MOST_CHOICES:
                heads = None
            else:
                seen.choices.add(heads)
        key = ("body", panels, heads) if is_new else "body"
        body: bytes = seen.once(key, lambda: _body(seen, panels, heads, is_new))
        return body

    def _status(self, query: dict[str, str]) -> Reply:
        return _json(self.status())

    def _metrics(self, query: dict[str, str]) -> Reply:
        try:
            return Reply(200, exposition(self.status()), KIND)
        except EdgemtlError as error:
            return Reply.line(503, str(error))

    def _healthz(self, query: dict[str, str]) -> Reply:
        return Reply.line(200, "running") if self.running() else Reply.line(503, "the run is not going")

    def _readyz(self, query: dict[str, str]) -> Reply:
        status = self.status()
        age_ms = status["last_result_age_ms"]
        reasons = [] if status["running"] else ["the run is not going"]
        if age_ms is None:
            reasons.append("no result yet")
        elif age_ms > READY_AGE_MS:
            reasons.append(f"the last result is {age_ms / 1e3:.1f} s old")
        for name, camera in status["cameras"].items():
            if camera["state"] not in WORKING:
                reasons.append(f"{name}: {camera['state']}{camera['detail'] and ': '}{camera['detail']}")
        return Reply.line(503, "\n".join(reasons)) if reasons else Reply.line(200, "ready")


def is_loopback(address: str) -> bool:
    """Whether an address as `Web` takes it is for this machine alone; raises `EdgemtlError` where it is none."""
    return is_loopback_host(parse_address(address)[0])


def draw_panels(latest: Latest, panels: Set[str] | None, heads: Set[str] | None) -> dict[str, str]:
    """Return the asked panels (all unless told) with the overlays of ``heads``, as data URLs of JPEG pictures.

    Names that this run does not have are left out.
    """
    from ...draw import camera_panel, cameras, canvas, map_panel

    pair, result = latest.pair, latest.result
    panels, heads = known(latest, panels, heads)
    size = canvas(pair, result, LEAST_PX, MOST_PX)
    size = replace(size, text=size.width * TEXT_A_PX)
    chosen = panels if panels is not None else heads if heads is not None else result.heads.keys()

    def camera(name: str) -> str:
        return _jpeg(camera_panel(pair, result, name, heads, size))

    def a_map(name: str) -> str:
        return _jpeg(map_panel(result.heads[name], size))

    drawn: dict[str, str] = {}
    for name in cameras(pair, result):
        if panels is None or name in panels:
            drawn[name] = latest.once(("camera", name, heads), partial(camera, name))
    for name in result.heads:
        if name in chosen and name not in drawn and (picture := latest.once(("map", name), partial(a_map, name))):
            drawn[name] = picture
    return drawn


def known(
    latest: Latest, panels: Set[str] | None, heads: Set[str] | None
) -> tuple[frozenset[str] | None, frozenset[str] | None]:
    """Return what was asked for, of what there is: all words of a client that mean the same become the same."""
    from ...draw import cameras

    result = latest.result
    there = {*result.heads, *cameras(latest.pair, result)}
    asked = None if panels is None else frozenset(panels) & there
    shown = None if heads is None else frozenset(heads) & frozenset(result.heads)
    return asked, None if shown == result.heads.keys() else shown


def _body(latest: Latest, panels: Set[str] | None, heads: Set[str] | None, is_new: bool) -> bytes:
    """Return a result as JSON, with its pictures where it ``is_new``, up to the end of the object."""
    told = {
        "index": latest.result.index,
        "panels": draw_panels(latest, panels, heads) if is_new else {},
        "result": latest.once("result", latest.result.to_dict),
        "latency_ms": latest.latency_ms,
        "views": latest.once("views", lambda: views(latest.pair, latest.result)),
    }
    return _plain_json(told)[:-1]


def views(pair: FramePair, result: Result) -> dict[str, Any]:
    """Return what there is to see: "cameras", which of them are "absent", and "heads" with "kind" and "colours".

    The kind is "overlay" for what is drawn on cameras, "map" for a panel of its own. Colours are "#rrggbb".
    """
    from ...draw import cameras, label_palette
    from ...palette import PALETTE

    boxes = next((head for head in result.heads.values() if isinstance(head, Boxes)), None)
    heads: dict[str, Any] = {}
    for name, head in result.heads.items():
        colours: Any = ()
        if isinstance(head, Boxes):
            colours = [PALETTE[index % len(PALETTE)] for index in range(len(head.names))]
        elif isinstance(head, LabelMap):
            colours = label_palette(head, boxes)
        classes = getattr(head, "names", None)
        tones = {n: "#{:02x}{:02x}{:02x}".format(*rgb) for n, rgb in zip(classes or (), colours, strict=False)}
        heads[name] = {"kind": "map" if classes is None else "overlay", "colours": tones}
    names = cameras(pair, result)
    absent = [name for name in names if name not in pair.frames or name in result.missing]
    return {"cameras": names, "absent": absent, "heads": heads}


def _json(told: dict[str, Any]) -> Reply:
    return Reply(200, _plain_json(told), "application/json")


def _plain_json(told: dict[str, Any]) -> bytes:
    """Return an object as JSON, in which what is not finite is null; numbers of NumPy are numbers."""

    def plain(value: Any) -> Any:
        if isinstance(value, np.generic):
            return value.item()
        raise NotImplementedError(f"{type(value).__name__} has no form in JSON")

    return msgspec.json.encode(told, enc_hook=plain)


def _names(text: str | None) -> frozenset[str] | None:
    return None if text is None else frozenset(text.split(",")) - {""}


def _jpeg(panel: Any) -> str:
    """Return an RGB picture as a data URL; of nothing, nothing."""
    if panel is None:
        return ""
    import cv2

    _, data = cv2.imencode(".jpg", cv2.cvtColor(panel, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")
