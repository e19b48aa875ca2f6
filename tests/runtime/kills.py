"""Work in a process that dies, or whose disk is full, at its n-th call to the system.

Each is forked from a process without threads, this module run as a program: a child of the tests' own would inherit
locks that its libraries' threads hold, and may wait for them for ever.
"""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from edgemtl_runtime.atomic import AtomicFile, AtomicFolder, disk
from edgemtl_runtime.errors import EdgemtlError

CALLS = ("mkdir", "rmdir", "rename", "replace", "unlink", "write", "pwrite", "fsync", "link", "chmod", "open")
UNREACHED = 8
"""The exit code of a child with fewer calls."""


class Counted:
    """Counts system calls; after the chosen one the process dies, or instead of it the disk is full."""

    def __init__(self, at: int, dies: bool, cannot_exchange: bool) -> None:
        self.at, self.dies, self.count = at, dies, 0
        for name in CALLS:
            setattr(os, name, self._wrapped(getattr(os, name)))
        if cannot_exchange:
            disk._renamed = lambda *_: False  # type: ignore[assignment]
        else:
            disk._renamed = self._wrapped(disk._renamed)  # type: ignore[assignment]

    def _wrapped(self, call: Callable[..., object]) -> Callable[..., object]:
        def counted(*args: object, **kwargs: object) -> object:
            self.count += 1
            if self.count == self.at and not self.dies:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            result = call(*args, **kwargs)
            if self.count == self.at and self.dies:
                os._exit(9)
            return result

        return counted


def write_folder(path: str, content: dict[str, bytes]) -> None:
    """Replace a folder of ours."""
    with AtomicFolder(path, "run", True) as output:
        for name, data in content.items():
            file = output.folder / name
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(data)
        output.commit()


def write_file(path: str, data: bytes) -> None:
    """Replace a file of ours."""
    with AtomicFile(path, overwrite=True) as output:
        output.write(data)


class Forker:
    """Asks the process without threads to fork."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def exit_code(self, at: int, dies: bool, cannot_exchange: bool, write: Callable[..., None], *args: object) -> int:
        """Return how a child ended that wrote, and met that at a call."""
        assert self.process.stdin is not None and self.process.stdout is not None
        pickle.dump((at, dies, cannot_exchange, write.__name__, args), self.process.stdin)
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@contextmanager
def forker() -> Iterator[Forker]:
    """A process without threads to fork from."""
    with subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield Forker(process)
        finally:
            process.kill()


def _child(at: int, dies: bool, cannot_exchange: bool, write: str, args: tuple[Any, ...]) -> int:
    counted = Counted(at, dies, cannot_exchange)
    try:
        globals()[write](*args)
    except EdgemtlError:
        return 3
    except OSError as error:
        return 4 if error.errno == errno.ENOSPC else 5
    except BaseException:
        traceback.print_exc()
        return 6
    return 0 if counted.count >= at else UNREACHED


def main() -> None:
    """Fork for each request on standard input, and print how the child ended."""
    while True:
        request = pickle.load(sys.stdin.buffer)
        child = os.fork()
        if not child:
            os._exit(_child(*request))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
