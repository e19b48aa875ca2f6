"""Outputs whose writing ends at any call to the system: by a kill, or by a disk that is full."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from kills import UNREACHED, Forker, forker, write_file, write_folder
from test_atomic import NEW, OLD, Tree, held, names, tree, write

from edgemtl_runtime.atomic import AtomicFolder

KILLED = pytest.mark.parametrize("dies", [True, False], ids=["killed", "disk full"])


@pytest.fixture(scope="module")
def forked() -> Iterator[Forker]:
    """What forks."""
    with forker() as process:
        yield process


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: a disk takes minutes for so many synchronised writes."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


def around(root: Path) -> Tree:
    return {name: data for name, data in tree(root).items() if "theirs" in name}


@pytest.mark.parametrize("cannot_exchange", [False, True])
@KILLED
@pytest.mark.parametrize("there", [False, True], ids=["placing", "replacing"])
def test_a_folder_is_whole_after_a_stop_at_any_call(
    there: bool, dies: bool, cannot_exchange: bool, forked: Forker, tmp_path: Path
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
        code = forked.exit_code(at, dies, cannot_exchange, write_folder, str(out), NEW)
        assert code in ({0, 9, UNREACHED} if dies else {0, 3, 4, 5, UNREACHED}), (at, code)
        lost = there and cannot_exchange and dies and not out.exists()
        if out.exists():
            assert held(out) in (OLD, NEW), at
        else:
            assert not there or lost, at
        if not dies and code:  # the process lived: it has cleared away what it made, as far as it could
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


@KILLED
def test_a_file_is_whole_after_a_stop_at_any_call(dies: bool, forked: Forker, tmp_path: Path) -> None:
    for at in range(1, 1000):
        file = tmp_path / str(at) / "sheet.png"
        file.parent.mkdir()
        file.write_bytes(b"old")
        code = forked.exit_code(at, dies, False, write_file, str(file), b"new")
        assert file.read_bytes() in (b"old", b"new")
        write_file(str(file), b"new")
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
