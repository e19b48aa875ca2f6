"""Base of atomic outputs: the path is checked and locked before the work begins."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import EdgemtlError
from . import disk
from .lock import Lock
from .paths import resolve_parent
from .recovery import recover


class AtomicOutput:
    """Base of `AtomicFile` and `AtomicFolder`, both context managers.

    ``given`` is the path as the user gave it, ``path`` the same with its parent resolved.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.given = Path(path)
        self.path = resolve_parent(path)
        self.committed = False
        self._lock: Lock | None = None
        self._created_parents: list[Path] = []
        self._pid = os.getpid()

    def check(self, locked: bool) -> None:
        """Raise `EdgemtlError` when the path may not be written; ``locked`` once no other process writes there."""
        raise NotImplementedError

    def acquire(self) -> None:
        """Lock the path and recover what a killed process left; raises `EdgemtlError` when either is impossible."""
        self.check(locked=False)
        with self._released_on_error():
            self._create_parents()
            self._lock = Lock(self.path)
            self._lock.acquire()
            recover(self.path)
            self.check(locked=True)

    def release(self) -> None:
        """Unlock the path, and remove the parent folders that were created for it and are still empty."""
        if self._lock is not None:
            self._lock.release()
        if not self.committed:
            for folder in reversed(self._created_parents):
                with suppress(OSError):
                    folder.rmdir()

    @contextmanager
    def _released_on_error(self) -> Iterator[None]:
        """Release on any error inside; an `OSError` becomes an `EdgemtlError` that names the path."""
        try:
            yield
        except OSError as error:
            self.release()
            raise EdgemtlError(f"{self.given}: cannot be written ({error.strerror})") from error
        except BaseException:
            self.release()
            raise

    def _create_parents(self) -> None:
        missing = [parent for parent in self.path.parents if not parent.exists()]
        for parent in reversed(missing):
            with suppress(FileExistsError):
                parent.mkdir()
                self._created_parents.append(parent)
                disk.sync(parent.parent)
