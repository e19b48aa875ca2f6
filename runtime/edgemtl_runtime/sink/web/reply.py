"""HTTP responses of the page's server, and the routes that return them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import msgspec
import numpy as np

SAFE_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Sent with every response (RFC 9111, CSP level 3, Fetch); the page brings a policy of its own."""


@dataclass(frozen=True)
class Reply:
    """An HTTP response; ``code`` is its status, ``media_type`` that of ``body``."""

    code: int
    body: bytes
    media_type: str = "text/plain; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)
    tail: bytes = b""
    """What follows ``body``, which many responses may share."""

    def __post_init__(self) -> None:
        if not 200 <= self.code < 600:
            raise ValueError(f"no HTTP status: {self.code}")

    @classmethod
    def line(cls, code: int, text: str, **headers: str) -> Reply:
        """Return a response of text that ends in a newline; underscores in a header's name stand for hyphens."""
        return cls(code, f"{text}\n".encode(), headers={name.replace("_", "-"): v for name, v in headers.items()})

    @classmethod
    def json(cls, value: Mapping[str, object]) -> Reply:
        """Return a response of JSON."""
        return cls(200, encode_json(value), "application/json")

    def all_headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers to send, as ASGI has them."""
        headers = {"Content-Type": self.media_type, "Content-Length": str(len(self.body) + len(self.tail))}
        return [(n.lower().encode(), v.encode()) for n, v in (SAFE_HEADERS | headers | self.headers).items()]


Query = dict[str, str]
"""The parameters of a request's URL, the last value of each name."""
Route = Callable[[Query], Awaitable[Reply]]
"""Answers a GET request."""


def encode_json(value: Mapping[str, object]) -> bytes:
    """Encode an object as JSON; NumPy's scalars become numbers, those that are not finite null."""
    return msgspec.json.encode(value, enc_hook=_to_builtin)


def _to_builtin(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise NotImplementedError(f"{type(value).__name__} has no form in JSON")
