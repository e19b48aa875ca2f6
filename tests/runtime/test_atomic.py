"""Atomic outputs: existing files are never lost, whatever exists at the path and wherever the process dies."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgemtl_runtime import atomic
from edgemtl_runtime.atomic import (
    INVENTORY,
    AtomicFile,
    AtomicFolder,
    BusyError,
    disk,
    next_free,
    recovery,
    unfinished,
    write_file,
)
from edgemtl_runtime.atomic import lock as locks
from edgemtl_runtime.errors import EdgemtlError

Tree = dict[str, bytes | str | None]
OLD, NEW = {"a.txt": b"old", "in/b.txt": b"old too"}, {"a.txt": b"new", "c.txt": b"new too"}


def tree(root: Path) -> Tree:
    """Return all that a folder holds: contents of files, targets of links, None for folders."""
    contents: Tree = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            contents[name] = f"-> {path.readlink()}"
        else:
            contents[name] = path.read_bytes() if path.is_file() else None
    return contents


def names(folder: Path) -> list[str]:
    """Return what lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


def write(path: Path, content: dict[str, bytes], kind: str = "run", overwrite: bool = False) -> None:
    with AtomicFolder(path, kind, overwrite) as output:
        for name, data in content.items():
            file = output.folder / name
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(data)
        output.commit()


def held(path: Path) -> dict[str, bytes]:
    """Return the files of an artefact, without its inventory."""
    files = {str(f.relative_to(path)): f.read_bytes() for f in path.rglob("*") if f.is_file()}
    return {name: data for name, data in files.items() if name != INVENTORY}


def nothing(path: Path) -> None:
    """Create nothing."""


def empty(path: Path) -> None:
    path.mkdir()


def finished(path: Path) -> None:
    write(path, OLD)


def other_kind(path: Path) -> None:
    write(path, OLD, "bundle")


def with_a_foreign_file(path: Path) -> None:
    write(path, OLD)
    (path / "in" / "mine.txt").write_text("mine")


def with_a_foreign_folder(path: Path) -> None:
    write(path, OLD)
    (path / "mine").mkdir()


def with_a_foreign_link(path: Path) -> None:
    write(path, OLD)
    (path / "mine").symlink_to("/etc/passwd")


def with_a_changed_file(path: Path) -> None:
    write(path, OLD)
    (path / "a.txt").write_text("edited")


def with_a_fifo(path: Path) -> None:
    write(path, OLD)
    (path / "a.txt").unlink()
    os.mkfifo(path / "a.txt")


def without_a_file(path: Path) -> None:
    write(path, OLD)
    (path / "a.txt").unlink()


def foreign(path: Path) -> None:
    path.mkdir()
    (path / "config.yaml").write_text("mine")
    (path / "manifest.json").write_text("{}")
    (path / "results.jsonl").write_text("")


def foreign_hidden(path: Path) -> None:
    path.mkdir()
    (path / ".keep").write_text("")


def a_forged_inventory(path: Path) -> None:
    path.mkdir()
    (path / "photo.jpg").write_bytes(b"x")
    (path / INVENTORY).write_text('{"edgemtl": "run", "finished": true, "files": {"../../keep.txt": ""}}')


def a_damaged_inventory(path: Path) -> None:
    write(path, OLD)
    (path / INVENTORY).write_text('{"edgemtl": ["run"]')


def a_linked_inventory(path: Path) -> None:
    finished(path.with_name("real"))
    path.mkdir()
    (path / INVENTORY).symlink_to("../real/" + INVENTORY)


def a_file(path: Path) -> None:
    path.write_text("mine")


def a_link_to_a_folder(path: Path) -> None:
    finished(path.with_name("real"))
    path.symlink_to("real")


def a_link_to_nothing(path: Path) -> None:
    path.symlink_to("nowhere")


CASES: list[tuple[Callable[[Path], None], str, str]] = [
    (nothing, "", ""),
    (empty, "", ""),
    (finished, "a finished run stands here; --overwrite replaces it", ""),
    (without_a_file, "a finished run stands here; --overwrite replaces it", ""),
    (other_kind, "holds something else", "holds something else (bundle, not run)"),
    (with_a_foreign_file, "--overwrite", "holds in/mine.txt"),
    (with_a_foreign_folder, "--overwrite", "holds mine/"),
    (with_a_foreign_link, "--overwrite", "holds mine"),
    (with_a_changed_file, "--overwrite", "holds a.txt (changed since)"),
    (with_a_fifo, "--overwrite", "holds a.txt"),
    (foreign, "holds something else", "holds something else"),
    (foreign_hidden, "holds something else", "holds something else"),
    (a_forged_inventory, "--overwrite", "holds photo.jpg"),
    (a_damaged_inventory, "holds something else", "holds something else"),
    (a_linked_inventory, "holds something else", "holds something else"),
    (a_file, "is a file", "is a file"),
    (a_link_to_a_folder, "is a link", "is a link"),
    (a_link_to_nothing, "is a link", "is a link"),
]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(("prepare", "plain", "overwriting"), CASES, ids=[prepare.__name__ for prepare, _, _ in CASES])
def test_what_stands_there_decides(
    prepare: Callable[[Path], None], plain: str, overwriting: str, overwrite: bool, tmp_path: Path
) -> None:
    (tmp_path / "keep.txt").write_text("keep")
    out = tmp_path / "deep" / "out"
    out.parent.mkdir()
    prepare(out)
    before, expected = tree(tmp_path), overwriting if overwrite else plain
    if not expected:
        write(out, NEW, overwrite=overwrite)
        assert held(out) == NEW and names(out.parent) == ["out"]
        assert tree(tmp_path)["keep.txt"] == b"keep"
        return
    with pytest.raises(EdgemtlError) as error, AtomicFolder(out, "run", overwrite):
        pytest.fail("was let in")
    assert expected in str(error.value) and "\n" not in str(error.value)
    assert tree(tmp_path) == before


def test_the_working_folder_its_parents_home_root_and_mounts_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = tmp_path / "work" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "home" / "me").mkdir(parents=True)
    monkeypatch.chdir(inner)
    monkeypatch.setenv("HOME", str(tmp_path / "home" / "me"))
    (tmp_path / "link").symlink_to(tmp_path)
    paths = [
        ".",
        "..",
        "../..",
        str(inner),
        f"{tmp_path}/link/work",
        "/",
        "/proc",
        f"{tmp_path}/home",
        "~",
        "./../inner",
    ]
    for given_path in paths:
        path = Path(given_path).expanduser()
        for overwrite in (False, True):
            with pytest.raises(EdgemtlError, match="is never replaced"), AtomicFolder(path, "run", overwrite):
                pytest.fail("was let in")
    assert inner.is_dir() and not names(inner)


@pytest.mark.parametrize("inside", ["x", "in/x", "in/new/x"])
def test_nothing_is_written_into_a_finished_artefact(inside: str, tmp_path: Path) -> None:
    finished(tmp_path / "run")
    before = tree(tmp_path)
    for kind in (AtomicFolder(tmp_path / "run" / inside, "run"), AtomicFile(tmp_path / "run" / inside, True)):
        with pytest.raises(EdgemtlError, match="a finished run; choose a path next to it"), kind:
            pytest.fail("was let in")
    assert tree(tmp_path) == before


def test_a_folder_may_be_made_of_others(tmp_path: Path) -> None:
    with AtomicFolder(tmp_path / "demo", "demo") as output:
        write(output.folder / "run", OLD)
        write(output.folder / "run", NEW, overwrite=True)
        output.commit()
    assert held(tmp_path / "demo" / "run") == NEW
    with AtomicFolder(tmp_path / "demo", "demo", overwrite=True) as output:
        output.commit()
    assert names(tmp_path / "demo") == [INVENTORY]


def test_modes_are_the_users_and_private_until_placed(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with AtomicFolder(tmp_path / "out", "run") as output:
            assert stat.S_IMODE(output.folder.stat().st_mode) == 0o700
            output.commit()
        write_file(tmp_path / "plain", b"")
        write_file(tmp_path / "private", b"", 0o600)
    finally:
        os.umask(before)
    modes = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("out", "plain", "private")}
    assert modes == {"out": 0o750, "plain": 0o640, "private": 0o600}


def test_folders_that_were_made_for_nothing_go_again(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), AtomicFolder(tmp_path / "a" / "b" / "out", "run"):
        raise ZeroDivisionError
    assert not names(tmp_path)


def test_default_names_count_up(tmp_path: Path) -> None:
    run, sheet = tmp_path / "net-0.5", tmp_path / "sheet.png"
    assert next_free(run) == run and next_free(sheet, file=True) == sheet
    finished(run)
    sheet.symlink_to("nowhere")
    unfinished(tmp_path / "net-0.5-2").write_text("")
    assert next_free(run) == tmp_path / "net-0.5-3" and next_free(sheet, file=True) == tmp_path / "sheet-2.png"


@pytest.mark.parametrize("long", ["n" * 250, "ü" * 120])
def test_long_names_work(long: str, tmp_path: Path) -> None:
    write(tmp_path / long, OLD)
    write(tmp_path / long, NEW, overwrite=True)
    assert held(tmp_path / long) == NEW and names(tmp_path) == [long]


def test_a_file_that_is_there_is_replaced_only_when_asked(tmp_path: Path) -> None:
    file = tmp_path / "sheet.png"
    file.write_bytes(b"mine")
    with pytest.raises(EdgemtlError, match=r"--overwrite replaces it, sheet-2\.png is free"), AtomicFile(file):
        pytest.fail("was let in")
    assert file.read_bytes() == b"mine"
    with AtomicFile(file, overwrite=True) as output:
        output.write(b"new")
    assert file.read_bytes() == b"new" and names(tmp_path) == ["sheet.png"]


def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "sheet.png"
    with pytest.raises(EdgemtlError), AtomicFile(file) as output:
        file.write_bytes(b"mine")
        output.write(b"new")
    with pytest.raises(FileExistsError):
        write_file(file, b"new", replace=False)
    assert tree(tmp_path) == {"sheet.png": b"mine"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_links_folders_and_devices_are_no_files_to_write(overwrite: bool, tmp_path: Path) -> None:
    (tmp_path / "theirs").write_bytes(b"theirs")
    (tmp_path / "link").symlink_to("theirs")
    (tmp_path / "dangling").symlink_to("made")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    before = names(tmp_path)
    for name in ("link", "dangling", "folder", "fifo"):
        with pytest.raises(EdgemtlError), AtomicFile(tmp_path / name, overwrite):
            pytest.fail("was let in")
    with pytest.raises(EdgemtlError), AtomicFile("/dev/null", overwrite):
        pytest.fail("was let in")
    assert names(tmp_path) == before and (tmp_path / "theirs").read_bytes() == b"theirs"


def test_a_cache_replaces_a_link_itself(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_bytes(b"theirs")
    (tmp_path / "plan").symlink_to("theirs")
    write_file(tmp_path / "plan", b"ours")
    assert tree(tmp_path) == {"theirs": b"theirs", "plan": b"ours"}


def test_planted_names_do_not_help(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who could foretell a temporary name, or knows the lock's, gets nothing written through it."""
    (tmp_path / "theirs").write_bytes(b"theirs")
    planted = [".out.0000000000000000.part", ".out.0000000000000000.old", ".out.lock", ".out.unfinished"]
    for name in planted:
        (tmp_path / name).symlink_to("theirs")
        with monkeypatch.context() as patch:
            patch.setattr(disk, "token", lambda: "0" * 16)
            with suppress(EdgemtlError, OSError), AtomicFolder(tmp_path / "out", "run", keep=True) as output:
                (output.folder / "x").write_bytes(b"x")
                output.commit()
        assert (tmp_path / "theirs").read_bytes() == b"theirs" and (tmp_path / name).is_symlink()
        (tmp_path / name).unlink()
        assert [other for other in names(tmp_path) if other != "out"] == ["theirs"], name
        shutil.rmtree(tmp_path / "out", ignore_errors=True)


@pytest.mark.parametrize("make", [lambda path: AtomicFolder(path, "run"), AtomicFile])
def test_the_second_process_reports_the_first_ones_id(
    make: Callable[[Path], AtomicFolder | AtomicFile], tmp_path: Path
) -> None:
    claim = "AtomicFile(sys.argv[1])" if make is AtomicFile else "AtomicFolder(sys.argv[1], 'run')"
    code = (
        f"import sys, time\nfrom edgemtl_runtime.atomic import *\nwith {claim}: print('in', flush=True); time.sleep(60)"
    )
    out = tmp_path / "out"
    with subprocess.Popen([sys.executable, "-c", code, str(out)], stdout=subprocess.PIPE) as first:
        assert first.stdout and first.stdout.readline() == b"in\n"
        started = time.monotonic()
        with pytest.raises(BusyError, match=f"process {first.pid} is writing there"), make(out):
            pytest.fail("was let in")
        assert time.monotonic() - started < 30  # the first would stay for 60
        first.kill()
    with make(out):
        pass
    assert not names(tmp_path)


def test_a_forked_child_does_not_hold_the_lock_on(tmp_path: Path) -> None:
    """Loaders' workers outlive a parent that was killed for a while."""
    with AtomicFolder(tmp_path / "out", "run") as output:
        child = os.fork()
        if not child:
            time.sleep(30)
            os._exit(0)
        output._lock.release()  # type: ignore[union-attr]
        try:
            with AtomicFolder(tmp_path / "out", "run"):
                pass
        finally:
            os.kill(child, 9)
            os.waitpid(child, 0)


@pytest.mark.parametrize("content", ["", "my own lock\n", '{"edgemtl": "lock"}'])
def test_a_lock_that_is_not_ours_is_left_alone(content: str, tmp_path: Path) -> None:
    (tmp_path / ".out.lock").write_text(content)
    with pytest.raises(EdgemtlError, match="is no lock of ours"), AtomicFolder(tmp_path / "out", "run"):
        pytest.fail("was let in")
    assert tree(tmp_path) == {".out.lock": content.encode()}


def test_many_at_once_write_one_after_the_other(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom edgemtl_runtime.atomic import *\nwon = 0\n"
        "for _ in range(40):\n"
        "    try:\n"
        "        with AtomicFolder(sys.argv[1], 'run', True) as output:\n"
        "            for name in 'xy': (output.folder / name).write_text(sys.argv[2])\n"
        "            output.commit(); won += 1\n"
        "    except BusyError: pass\n"
        "print(won)"
    )
    out = tmp_path / "out"
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(out), str(n)], stdout=subprocess.PIPE) for n in range(3)
    ]
    counts = [process.communicate(timeout=60)[0] for process in running]
    assert all(process.returncode == 0 for process in running) and sum(map(int, counts)) > 0
    assert (out / "x").read_text() == (out / "y").read_text() and names(tmp_path) == ["out"]


def test_a_lock_in_the_making_that_its_maker_clears_away_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = tmp_path / f".out.{'0' * 16}.part"
    part.write_bytes(b'{"edgemtl": "lock", "pid": "0000000001"}\n')

    def locked_as_it_goes(descriptor: int) -> bool:
        part.unlink()
        return locks.flock(descriptor)

    monkeypatch.setattr(recovery, "flock", locked_as_it_goes)
    before = len(list(Path("/proc/self/fd").iterdir()))
    recovery.recover(tmp_path / "out")
    assert names(tmp_path) == [] and len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_lock_in_the_making_that_another_clears_away_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([False])
    true = locks.flock
    monkeypatch.setattr(locks, "flock", lambda descriptor: next(answers, None) is None and true(descriptor))
    with AtomicFolder(tmp_path / "out", "run") as output:
        assert {path.name for path in tmp_path.iterdir()} == {".out.lock", output.folder.name}
        output.commit()
    assert names(tmp_path) == ["out"]


def test_work_that_was_stopped_is_kept_and_taken_up(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt), AtomicFolder(out, "single", keep=True, settings={"lr": 1}) as output:
        (output.folder / "first").write_bytes(b"1")
        raise KeyboardInterrupt
    assert not out.exists() and names(tmp_path) == [".out.unfinished"]
    with pytest.raises(EdgemtlError, match=r"--resume goes on with it, --overwrite starts again"):
        AtomicFolder(out, "single", keep=True).__enter__()
    with AtomicFolder(out, "single", keep=True, resume=True) as output:
        assert (output.folder / "first").read_bytes() == b"1"
        output.commit()
    assert held(out) == {"first": b"1"} and names(tmp_path) == ["out"]
    with AtomicFolder(out, "single", overwrite=True, keep=True):
        pass
    assert held(out) == {"first": b"1"} and names(tmp_path) == ["out"]


NAMES = st.sampled_from(
    [
        "out",
        "a",
        INVENTORY,
        "config.yaml",
        ".out.lock",
        ".out.unfinished",
        f".out.{'0' * 16}.part",
        f".out.{'f' * 16}.old",
    ]
)
TREES = st.recursive(
    st.binary(max_size=20) | st.sampled_from(["link", b'{"edgemtl": "run", "finished": true, "files": {}}', b""]),
    lambda inner: st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


def plant(root: Path, content: object) -> None:
    if isinstance(content, dict):
        root.mkdir(exist_ok=True)
        for name, inner in content.items():
            plant(root / name, inner)
    elif content == "link":
        root.symlink_to("../keep")
    else:
        root.write_bytes(content)  # type: ignore[arg-type]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(NAMES, TREES, max_size=4), st.booleans(), st.booleans(), st.booleans())
def test_no_call_changes_a_file_that_others_wrote(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, object], overwrite: bool, keep: bool, resume: bool
) -> None:
    """Whatever lies around: files keep their content, links their target, folders with something in them stay."""
    root = tmp_path_factory.mktemp("tree")
    plant(root / "in", content)
    (root / "keep").write_bytes(b"keep")
    before = tree(root)
    try:
        with AtomicFolder(root / "in" / "out", "run", overwrite, keep=keep, resume=resume) as output:
            (output.folder / "ours").write_bytes(b"ours")
            output.commit()
        with AtomicFile(root / "in" / "a", False) as file:
            file.write(b"ours")
    except (EdgemtlError, OSError):
        pass
    after = tree(root)
    for name, data in before.items():
        inventory = name.endswith(INVENTORY)
        if data not in (None, b"") and not inventory:
            assert after.get(name) == data, (name, data)


def test_all_public_names_exist() -> None:
    assert all(hasattr(atomic, name) for name in atomic.__all__)
