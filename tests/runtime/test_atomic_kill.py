"""Outputs whose writing ends at any call to the system: by a kill, or by a disk that is full."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from test_atomic import NEW, OLD, Tree, held, names, tree, write

from edgemtl_runtime.atomic import AtomicFile, AtomicFolder, disk
from edgemtl_runtime.errors import EdgemtlError

CALLS = ("mkdir", "rmdir", "rename", "replace", "unlink", "write", "pwrite", "fsync", "link", "chmod", "open")


UNREACHED = 8


class Counted:
    """Counts system calls; after the chosen one the process dies, or instead of it the disk is full."""

    def __init__(self, at: int, then: Callable[[], None], cannot_exchange: bool) -> None:
        self.at, self.after, self.then, self.count = at, then is die, then, 0
        for name in CALLS:
            setattr(os, name, self._wrapped(getattr(os, name)))
        if cannot_exchange:
            disk._renamed = lambda *_: False  # type: ignore[assignment]
        else:
            disk._renamed = self._wrapped(disk._renamed)  # type: ignore[assignment]

    def _wrapped(self, call: Callable[..., object]) -> Callable[..., object]:
        def counted(*args: object, **kwargs: object) -> object:
            self.count += 1
            if self.count == self.at and not self.after:
                self.then()
            result = call(*args, **kwargs)
            if self.count == self.at and self.after:
                self.then()
            return result

        return counted


def forked(work: Callable[[], None], at: int, then: Callable[[], None], cannot_exchange: bool) -> int:
    """Do work in a child that something happens to at a call; return its exit code, `UNREACHED` for fewer calls."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    counted = Counted(at, then, cannot_exchange)
    try:
        work()
    except EdgemtlError:
        os._exit(3)
    except OSError as error:
        os._exit(4 if error.errno == errno.ENOSPC else 5)
    except BaseException:
        traceback.print_exc()
        os._exit(6)
    os._exit(0 if counted.count >= at else UNREACHED)


def die() -> None:
    os._exit(9)


def full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def around(root: Path) -> Tree:
    return {name: data for name, data in tree(root).items() if "theirs" in name}


@pytest.mark.parametrize("cannot_exchange", [False, True])
@pytest.mark.parametrize("then", [die, full], ids=["killed", "disk full"])
@pytest.mark.parametrize("there", [False, True], ids=["placing", "replacing"])
def test_a_folder_is_whole_after_a_stop_at_any_call(
    there: bool, then: Callable[[], None], cannot_exchange: bool, tmp_path: Path
) -> None:
    for at in range(1, 1000):
        root = tmp_path / str(at)
        (root / ".out.theirs").mkdir(parents=True)
        (root / ".out.theirs" / "x").write_bytes(b"theirs")
        (root / ".out.theirs.part").write_bytes(b"theirs")
        out = root / "out"
        if there:
            write(out, OLD)
        before = around(root)
        code = forked(lambda out=out: write(out, NEW, overwrite=True), at, then, cannot_exchange)  # type: ignore[misc]
        assert code in ({0, 9, UNREACHED} if then is die else {0, 3, 4, 5, UNREACHED}), (at, code)
        lost = there and cannot_exchange and then is die and not out.exists()
        if out.exists():
            assert held(out) in (OLD, NEW), at
        else:
            assert not there or lost, at
        if then is full and code:  # the process lived: it has cleared away what it made, as far as it could
            assert sum(name.endswith((".part", ".old")) for name in names(root)) <= 2
        last = held(out) if out.exists() else None
        with pytest.raises(ZeroDivisionError), AtomicFolder(out, "run", overwrite=True):
            raise ZeroDivisionError  # the next start alone recovers
        assert not lost or held(out) == OLD, at
        assert last is None or held(out) == last
        write(out, NEW, overwrite=True)
        assert held(out) == NEW and around(root) == before
        assert names(root) == [".out.theirs", ".out.theirs.part", "out"], at
        if code == UNREACHED:
            break
    assert 40 < at < 999


@pytest.mark.parametrize("then", [die, full], ids=["killed", "disk full"])
def test_a_file_is_whole_after_a_stop_at_any_call(then: Callable[[], None], tmp_path: Path) -> None:
    def work(file: Path) -> None:
        with AtomicFile(file, overwrite=True) as output:
            output.write(b"new")

    for at in range(1, 1000):
        file = tmp_path / str(at) / "sheet.png"
        file.parent.mkdir()
        file.write_bytes(b"old")
        code = forked(lambda file=file: work(file), at, then, False)  # type: ignore[misc]
        assert file.read_bytes() in (b"old", b"new")
        work(file)
        assert tree(file.parent) == {"sheet.png": b"new"}, at
        if code == UNREACHED:
            break
    assert 20 < at < 999


def test_a_disk_that_is_full_in_truth_leaves_what_was_there(tmp_path: Path) -> None:
    """By a limit of the system, in a process of its own: nothing is stood in for."""
    write(tmp_path / "out", OLD)
    code = (
        "import resource, sys\nfrom edgemtl_runtime.atomic import *\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "try:\n"
        "    with AtomicFolder(sys.argv[1], 'run', True) as output:\n"
        "        for i in range(60): (output.folder / f'{i:060}').write_bytes(b'x' * 100)\n"
        "        output.commit()\n"
        "except OSError as error: sys.exit(error.errno)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")])
    assert done.returncode == errno.EFBIG and held(tmp_path / "out") == OLD and names(tmp_path) == ["out"]
