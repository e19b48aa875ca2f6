"""Settings of ultralytics lie where nobody else can put anything."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from edgemtl_models import private
from edgemtl_models.private import settings_folder


def test_the_users_cache_is_taken_and_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = settings_folder()
    assert folder == tmp_path / "cache" / "edgemtl" / "ultralytics" == settings_folder()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def linked(folder: Path) -> None:
    folder.parent.mkdir(parents=True)
    folder.symlink_to(folder.parents[2] / "theirs")


def open_to_others(folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o777)


def in_a_folder_open_to_others(folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.parent.chmod(0o777)


def a_file(folder: Path) -> None:
    folder.parent.mkdir(parents=True)
    folder.write_text("theirs")


def anothers(folder: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can make a folder of another user's")
    folder.mkdir(parents=True)
    os.chown(folder, 12345, 12345)


@pytest.mark.parametrize("plant", [linked, open_to_others, in_a_folder_open_to_others, a_file, anothers])
def test_a_folder_of_others_is_not_taken(plant: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    plant(tmp_path / "cache" / "edgemtl" / "ultralytics")  # type: ignore[operator]
    code = f"import runpy; print(runpy.run_path({private.__file__!r})['settings_folder']())"  # without torch: quick
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    folder = Path(done.stdout.strip())
    assert folder.parent == tmp_path and folder.name.startswith("edgemtl-ultralytics-")
    assert not folder.exists() and not list((tmp_path / "theirs").iterdir())  # it went with the process
