"""The suite's own means: what is made once a session, and the order of what several workers share."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import FOLDERS, pytest_collection_modifyitems, shared_folder


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


class Item:
    """As much of a test as its order is made of."""

    def __init__(self, path: str, *marks: str) -> None:
        self.path, self.marks, self.group = Path(path), marks, ""

    def get_closest_marker(self, name: str) -> str | None:
        return name if name in self.marks else None

    def add_marker(self, mark: Any) -> None:
        self.group = mark.mark.args[0]


def test_files_stay_together_and_what_watches_the_clock_follows_one_another(factory: Any) -> None:
    items = [
        Item("tests/runtime/test_a.py"),
        Item("tests/runtime/test_time.py", "realtime"),
        Item("tests/training/test_b.py"),
        Item("tests/training/test_b.py", "realtime"),
        Item("tests/training/test_b.py"),
    ]
    pytest_collection_modifyitems(items)  # type: ignore[arg-type]
    assert [item.group for item in items] == ["realtime", "realtime", "test_b", "test_b", "test_a"]


def test_every_folder_has_its_place_in_the_order() -> None:
    folders = {path.parent.name for path in Path(__file__).parent.glob("*/test_*.py")}
    assert folders == set(FOLDERS)
