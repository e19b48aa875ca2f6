"""The newest result, shared between the pipeline's thread, which replaces it, and the requests that wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TypeVar, cast

from ...frame import FramePair
from ...result import Result

MAX_CACHED = 32
"""Images and JSON texts that are kept of one result."""
Value = TypeVar("Value")


@dataclass(frozen=True, eq=False)
class Latest:
    """The newest result, the time of its coming (``since_ns``, monotonic), and a cache of what was rendered of it."""

    pair: FramePair
    result: Result
    since_ns: int
    cache: dict[Hashable, object] = field(default_factory=dict)
    head_selections: set[frozenset[str]] = field(default_factory=set)
    """The selections of heads that are rendered of it."""

    def __post_init__(self) -> None:
        if self.since_ns < 0:
            raise ValueError(f"a time is not negative: {self.since_ns}")

    def cached(self, key: Hashable, render: Callable[[], Value]) -> Value:
        """Return the cached value of a key, rendered at its first use; the oldest of too many is dropped."""
        if key not in self.cache:
            value = render()
            while len(self.cache) >= MAX_CACHED:
                del self.cache[next(iter(self.cache))]
            self.cache[key] = value
        return cast(Value, self.cache[key])

    @property
    def latency_ms(self) -> float | None:
        """Time from the arrival of the pair's later frame to that of its result at the page's server."""
        arrived_ns = self.pair.arrived_ns
        return round((self.since_ns - arrived_ns) / 1e6, 3) if 0 < arrived_ns <= self.since_ns else None


class Feed:
    """Holds the newest result, and wakes the requests that wait for it.

    ``latest`` and ``closed`` are set in any thread; whoever sets them has `wake` called in the event loop's.
    """

    def __init__(self) -> None:
        self.latest: Latest | None = None
        self.closed = False
        self.changed = asyncio.Event()

    def is_newer(self, after: int) -> bool:
        """Whether the newest result has an index above ``after``."""
        return self.latest is not None and self.latest.result.index > after

    def wake(self) -> None:
        """Wake those who wait; called in the event loop's thread."""
        self.changed.set()
        self.changed = asyncio.Event()

    async def wait_newer(self, after: int, timeout_s: float) -> None:
        """Wait for a result with an index above ``after``, for the end, or for ``timeout_s``, whichever is first."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + timeout_s
        while not self.closed and not self.is_newer(after):
            try:
                await asyncio.wait_for(self.changed.wait(), end_s - loop.time())
            except asyncio.TimeoutError:
                return
