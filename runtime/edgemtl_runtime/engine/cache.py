"""Cache of engines built on this machine: a private folder of plain plans, each with a sidecar that has its key.

An engine is a program, so none is ever read that someone else could have written: not from a bundle, not from an
address, and not from a file that is another user's, that others may write, or whose SHA-256 is not its sidecar's.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from ..atomic import recover, write_file
from ..errors import EngineError
from ..limits import decode_json, read_bounded

MODE, PRIVATE = 0o700, 0o600
OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Cache key of an engine: the network, the builder's version, the device, the precision and the settings."""

    onnx_sha256: str
    backend: str
    version: str
    gpu: str
    compute_capability: str
    driver: str
    precision: str
    profile: str = ""
    flags: str = ""

    @property
    def name(self) -> str:
        """The file name without its suffix: a hash of the key."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:32]

    def differs(self, other: Key) -> list[str]:
        """Return the names of the fields in which another key differs."""
        return [field for field in self.__struct_fields__ if getattr(self, field) != getattr(other, field)]


class Sidecar(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file next to a plan: its key, SHA-256 and size."""

    key: Key
    plan_sha256: str
    plan_bytes: int


def default_folder() -> Path:
    """Return ``$XDG_CACHE_HOME/edgemtl/engines``, of the user's home where that is not set."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "edgemtl" / "engines"


class Cache:
    """Folder of engines that only this user may read; created where it is missing."""

    def __init__(self, folder: Path | None = None) -> None:
        """Raises `EngineError` where the folder is another's or open to others."""
        self.folder = folder or default_folder()
        self.folder.mkdir(mode=MODE, parents=True, exist_ok=True)
        _check_private(self.folder)

    def find(self, key: Key) -> bytes | None:
        """Return the plan of a key, None where there is none; raises `EngineError` on one that is not to be trusted."""
        plan, sidecar_file = self.plan(key), self._sidecar(key)
        if not plan.exists() or not sidecar_file.exists():
            return None
        for file in (plan, sidecar_file):
            _check_private(file)
        sidecar = self._read(sidecar_file)
        data = plan.read_bytes()
        if sidecar.key != key or hashlib.sha256(data).hexdigest() != sidecar.plan_sha256:
            raise EngineError(f"{plan}: is not what was built here (its SHA-256 or its sidecar differs); delete it")
        return data

    def nearest(self, key: Key) -> list[str]:
        """Return the fields in which the nearest engine for the same network and precision differs from a key."""
        differences = []
        for file in sorted(self.folder.glob("*.json")):
            try:
                other = self._read(file).key
            except EngineError:
                continue
            same = (other.onnx_sha256, other.backend, other.precision)
            if same == (key.onnx_sha256, key.backend, key.precision) and other != key:
                differences.append([f"{f} {getattr(other, f)}, now {getattr(key, f)}" for f in other.differs(key)])
        return min(differences, key=len, default=[])

    def keep(self, key: Key, data: bytes) -> Path:
        """Write a plan and its sidecar, each atomically; return the plan's path."""
        sidecar = Sidecar(key, hashlib.sha256(data).hexdigest(), len(data))
        for file, content in ((self.plan(key), data), (self._sidecar(key), msgspec.json.encode(sidecar))):
            recover(file, older_s=86400)  # the remains of a build that was killed
            write_file(file, content, PRIVATE)
        return self.plan(key)

    def sidecars(self) -> list[Sidecar]:
        """Return the sidecar of every engine in the cache."""
        return [self._read(file) for file in sorted(self.folder.glob("*.json"))]

    def plan(self, key: Key) -> Path:
        """Return the path of a key's plan, whether it exists or not."""
        return self.folder / f"{key.name}.plan"

    def selection(self, files: dict[str, str]) -> Path:
        """Return the path of the selected configuration of a bundle of these files, whether it exists or not."""
        digest = hashlib.sha256(msgspec.json.encode(sorted(files.items()))).hexdigest()[:32]
        return self.folder / f"{digest}.choice"

    @staticmethod
    def read_private(file: Path, most: int = 1 << 30) -> bytes | None:
        """Return the content of a file of the cache, None where it is missing; raises `EngineError` as `find` does."""
        if not file.exists() and not file.is_symlink():
            return None
        _check_private(file)
        return read_bounded(file, most, EngineError)

    def timings(self, key: Key) -> TimingFile | None:
        """Return the timing cache of a key's backend and device; RTX has none."""
        if key.backend != "tensorrt":
            return None
        words = "-".join((key.backend, key.version, key.gpu, key.compute_capability))
        return TimingFile(self.folder / f"{re.sub('[^A-Za-z0-9.-]+', '_', words)}.timings")

    def _sidecar(self, key: Key) -> Path:
        return self.folder / f"{key.name}.json"

    @staticmethod
    def _read(file: Path) -> Sidecar:
        try:
            sidecar: Sidecar = decode_json(read_bounded(file, error=EngineError), Sidecar)
            return sidecar
        except ValueError as error:
            raise EngineError(f"{file}: cannot be read ({error}); delete it and its plan") from error


class TimingFile:
    """Timing cache in a file that several builds may add to: each holds an advisory lock while it does."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> bytes:
        """Return the timings; empty where there are none."""
        return Cache.read_private(self.path) or b""

    def add(self, join: Callable[[bytes], bytes]) -> None:
        """Replace the timings by what ``join`` makes of the present ones."""
        import fcntl

        lock = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, PRIVATE)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            write_file(self.path, join(self.read()), PRIVATE)
        finally:
            os.close(lock)


def _check_private(path: Path) -> None:
    """Raise `EngineError` where a file or folder is a link, another user's, or open to others."""
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        raise EngineError(f"{path}: is a link; engines are read from plain files alone; delete it")
    if sys.platform != "win32" and status.st_uid != os.getuid():
        raise EngineError(f"{path}: belongs to another user; engines are programs: delete it, or use XDG_CACHE_HOME")
    if status.st_mode & OTHERS:
        raise EngineError(f"{path}: other users may read or write it; engines are programs: chmod go-rwx it")
