"""A link to a bundle, watched while the bundle runs: where it points to another one, that takes over without a gap.

A bundle that cannot be opened, fails its self-test, or fails in its first pairs is given up: the one before it runs on,
and the link is pointed back to it. A second link next to it, of its name and ``.last-good``, keeps the last bundle
that was proven, so that a start finds one.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .bundle import Bundle
from .camera_state import Event
from .engine import Engine
from .errors import BundleError, EdgemtlError
from .loaded_bundle import PROBATION
from .pipeline import Pipeline

POLL_S = 0.2
"""How often the link is read."""
JOIN_S = 3.0
"""How long the end of a run waits for a bundle that is being opened."""
LAST_GOOD = ".last-good"


class Opened(NamedTuple):
    """A bundle that has passed its self-test, its engine, and thresholds by head."""

    bundle: Bundle
    engine: Engine
    thresholds: Mapping[str, NDArray[np.float32]]


Open = Callable[[Path], Opened]


def open_target(link: Path, open_bundle: Open, on_fallback: Callable[[str], None] | None) -> Opened:
    """Open a bundle; with ``on_fallback``, the one that a link points to.

    Where that one fails the last good one is opened, the link is pointed back to it, and ``on_fallback`` gets a line.
    """
    if on_fallback is None:
        return open_bundle(link)
    target, last_good = resolved(link), resolved(_last_good(link))
    if target is None:
        raise BundleError(f"{link}: points to itself; point it to a bundle")
    try:
        return open_bundle(target)
    except EdgemtlError as error:
        if not link.is_symlink() or last_good in (None, target) or not last_good.is_dir():
            raise
        try:
            opened = open_bundle(last_good)
        except EdgemtlError as other:
            raise BundleError(f"{error}; nor does {last_good.name}, the last good one, open ({other})") from error
        on_fallback(f"{error}; {last_good.name} is run in its place{_point_back(link, target, last_good)}")
        return opened


def resolved(path: Path) -> Path | None:
    """Return where a link points to, None of one that points to itself."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):
        return None


def is_link(path: Path) -> bool:
    """Whether a path leads through a link."""
    return resolved(path) != path.absolute()


class BundleLink:
    """Watches a link in a thread until `close`, and exchanges the bundle of a pipeline as it changes."""

    def __init__(self, link: Path, pipeline: Pipeline, open_bundle: Open) -> None:
        self.link, self.pipeline, self.open_bundle = link, pipeline, open_bundle
        self.target = self.good = pipeline.loaded.bundle.path
        self._pending: tuple[Path, Future[None]] | None = None
        self._is_marked = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="bundle-link", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the watching; engines stay as they are. A bundle that is being opened, as one that is built, is left."""
        self._ended.set()
        self._thread.join(JOIN_S)

    def close(self) -> None:
        """End the watching, and close the engines of bundles that were opened."""
        self.stop()
        self.pipeline.close_other_engines().engine.close()

    def _watch(self) -> None:
        while not self._ended.wait(POLL_S):
            try:
                self._follow()
            except Exception as error:  # of a file system, whatever it is: the link may be mended
                self._put("warning", f"{self.link}: cannot be followed now ({error})")

    def _follow(self) -> None:
        """Exchange the bundle where the link has changed; while it is replaced it points nowhere."""
        self._read_outcome()
        target = resolved(self.link)
        if target is not None and target != self.target and target.is_dir():
            self.target = target
            self._exchange(target)

    def _exchange(self, target: Path) -> None:
        begun_s = time.monotonic()
        try:
            opened = self.open_bundle(target)
            if self._ended.is_set():
                opened.engine.close()
                return
            self._read_outcome()
            try:
                self._pending = target, self.pipeline.exchange(*opened)
            except BaseException:
                opened.engine.close()
                raise
        except Exception as error:  # whatever is wrong with it, the bundle in use runs on
            self._read_outcome()
            self._give_up(target, error)
        else:
            self._put("bundle", f"{target.name} takes over, {1e3 * (time.monotonic() - begun_s):.0f} ms after the link")

    def _read_outcome(self) -> None:
        """Note that the bundle in use is proven, or that it was given up."""
        if self._pending is None:
            if not self._is_marked and self.pipeline.stats.pairs >= PROBATION:
                self._mark_good()
            return
        target, outcome = self._pending
        if not outcome.done():
            return
        self._pending = None
        if outcome.cancelled():
            return
        if (error := outcome.exception()) is not None:
            self._give_up(target, error)
        else:
            self.good = target
            self._mark_good()

    def _give_up(self, target: Path, error: BaseException) -> None:
        """Report a bundle that is not run, and point the link to the one that is."""
        used = self._pending[0] if self._pending else self.pipeline.loaded.bundle.path
        self._put("warning", f"{error}; {used.name} runs on{_point_back(self.link, target, used)}")
        if resolved(self.link) == used:
            self.target = used

    def _mark_good(self) -> None:
        self._is_marked = True
        if self.link.is_symlink() and (reason := _point(_last_good(self.link), self.good)):
            self._put("warning", f"{_last_good(self.link)}: cannot be written ({reason}); a start has no last good one")

    def _put(self, state: str, text: str) -> None:
        self.pipeline.put_event(Event("", "warning" if state == "warning" else "bundle", text, time.monotonic_ns()))


def _last_good(link: Path) -> Path:
    return link.with_name(link.name + LAST_GOOD)


def _point_back(link: Path, failed: Path, good: Path) -> str:
    """Point a link that still points to a failed bundle to a good one; returns what to add to a message."""
    if not link.is_symlink() or resolved(link) != failed:
        return ""
    if reason := _point(link, good):
        return f", and {link} cannot be pointed back to it ({reason})"
    return f", and {link} points to it again"


def _point(link: Path, target: Path) -> str:
    """Point a link to a bundle in one step, relative where they are neighbours; returns why that failed."""
    near = target.name if target.parent == link.parent.resolve() else str(target)
    partial = link.with_name(f".{link.name}.{os.getpid()}")
    try:
        partial.unlink(missing_ok=True)
        partial.symlink_to(near)
        partial.replace(link)
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""
