"""Untrusted zip archives: checked before anything is unpacked, read within bounds, and written again.

torch reads only an archive that was written here, so that its own zip reader cannot find in the untrusted one anything
other than what was checked.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO

from edgemtl_runtime.errors import EdgemtlError

MAX_FILES = 65_536
MAX_EXPANSION, FREE_BYTES = 8, 16 << 20
"""Unpacked, an archive may be so many times as large as packed, and so many bytes more."""
PLAIN_PATH = re.compile(r"[A-Za-z0-9_.$+-]{1,200}(?:/[A-Za-z0-9_.$+-]{1,200}){0,7}")
ROOT = re.compile(r"[^\x00-\x1f\x7f/\\\\:]{1,255}")
"""The top folder, which torch names after the file that was first written."""


class UntrustedError(EdgemtlError):
    """A file with content that a program of plain tensors and operators does not need, and that could do harm."""


class NoProgramError(EdgemtlError):
    """A file that torch.export.save did not write."""


class ArchiveFiles(Mapping[str, bytes]):
    """Files of an archive by their paths without the top folder; each is read on access."""

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        self.archive = archive
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        if len(entries) > MAX_FILES:
            raise UntrustedError(f"holds {len(entries)} files, more than {MAX_FILES}")
        if (total := sum(entry.file_size for entry in entries)) > MAX_EXPANSION * size + FREE_BYTES:
            raise UntrustedError(f"unpacks to {total / 1e6:.0f} MB from {size / 1e6:.1f} MB, like a bomb")
        names = [entry.filename for entry in entries]
        if len({name.casefold() for name in names}) < len(names):
            raise UntrustedError("holds two files of one name")
        roots = {name.partition("/")[0] for name in names}
        root = f"{roots.pop()}/" if len(roots) == 1 and all("/" in name for name in names) else ""
        self.entries = {entry.filename.removeprefix(root): entry for entry in entries}
        for name, entry in {root.rstrip("/") or "archive": None, **self.entries}.items():
            _check_entry(name, entry)

    def __getitem__(self, name: str) -> bytes:
        """Return a file's bytes; raises `UntrustedError` where they are damaged."""
        try:
            return self.archive.read(self.entries[name])
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise UntrustedError(f"{name} cannot be unpacked ({str(error)[:100]})") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


@contextmanager
def open_archive(stream: IO[bytes], size: int) -> Iterator[ArchiveFiles]:
    """Open an archive of ``size`` bytes; raises `UntrustedError` where it is no archive or exceeds the bounds."""
    try:
        archive = zipfile.ZipFile(stream)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, EOFError) as error:
        raise UntrustedError(f"is no zip archive ({error})") from None
    with archive:
        yield ArchiveFiles(archive, size)


def _check_entry(name: str, entry: zipfile.ZipInfo | None) -> None:
    is_odd = name != name.strip() or ".." in name.split("/") or "." in name.split("/")
    if (
        is_odd
        or not (PLAIN_PATH if entry else ROOT).fullmatch(name)
        or (entry and entry.filename != entry.orig_filename)
    ):
        raise UntrustedError(f"holds a file of the odd name {name[:80]!a}")
    if entry and (entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or entry.flag_bits & 0x1):
        raise UntrustedError(f"holds {name[:80]}, encrypted or packed as torch does not")


def new_archive(stream: IO[bytes]) -> zipfile.ZipFile:
    """Return an archive to write, uncompressed as torch requires."""
    return zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED)


def add_file(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    """Write a file under the top folder that torch's archives have."""
    archive.writestr(zipfile.ZipInfo(f"archive/{name}"), data)
