"""The suite's own means: what is made once a session, and the order of what several workers share."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import FOLDERS, pytest_collection_modifyitems, pytest_xdist_make_scheduler, shared_folder


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What pytest gives a worker for its temporary folders: one within the session's."""
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    return SimpleNamespace(getbasetemp=lambda: tmp_path / "popen-gw0")


def test_what_is_shared_is_made_by_one_while_the_others_wait(factory: Any, tmp_path: Path) -> None:
    calls: list[Path] = []
    contents: list[str] = []

    def make(folder: Path) -> None:
        calls.append(folder)
        time.sleep(0.1)
        (folder / "run").write_text("whole")

    def ask() -> None:
        contents.append((shared_folder(factory, "x", make) / "run").read_text())

    threads = [threading.Thread(target=ask) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert contents == ["whole"] * 5 and calls == [tmp_path / "shared-x"]


def test_what_could_not_be_made_is_made_again(factory: Any) -> None:
    def broken(folder: Path) -> None:
        (folder / "half").touch()
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        shared_folder(factory, "x", broken)
    folder = shared_folder(factory, "x", lambda out: (out / "run").touch())
    assert [file.name for file in folder.iterdir()] == ["run"]


def test_files_stay_together_and_what_watches_the_clock_follows_one_another(tmp_path: Path, factory: Any) -> None:
    xdist = pytest.importorskip("xdist.remote")
    for folder, name, text in (
        ("runtime", "test_a.py", ""),
        ("runtime", "test_time.py", "pytestmark = pytest.mark.realtime\n"),
        ("training", "test_b.py", ""),
        ("training", "test_c.py", "pytestmark = pytest.mark.realtime\n"),
    ):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).write_text(text)
    items: list[Any] = [SimpleNamespace(path=file, get_closest_marker=lambda _: None) for file in tmp_path.glob("*/*")]
    items.sort(key=lambda item: item.path)
    pytest_collection_modifyitems(items)
    assert [item.path.name for item in items] == ["test_c.py", "test_time.py", "test_b.py", "test_a.py"]
    options = SimpleNamespace(maxfail=0, tx=["2*popen"], loadscopereorder=False)
    config: Any = SimpleNamespace(
        rootpath=tmp_path, option=options, getvalue=vars(options).__getitem__, getoption=vars(options).get
    )
    scheduling = pytest_xdist_make_scheduler(config, xdist.Producer("test", enabled=False))
    scopes = [scheduling._split_scope(f"{item.path.relative_to(tmp_path)}::test_x[a::b]") for item in items]
    assert scopes == ["realtime", "realtime", "training/test_b.py", "runtime/test_a.py"]


def test_every_folder_has_its_place_in_the_order() -> None:
    folders = {path.parent.name for path in Path(__file__).parent.glob("*/test_*.py")}
    assert folders == set(FOLDERS)
