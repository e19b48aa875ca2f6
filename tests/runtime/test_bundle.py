"""A bundle is used only when every byte of it is what was written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from edgemtl_runtime.atomic import FolderAside
from edgemtl_runtime.bundle import BUNDLE, MANIFEST, MODEL, Bundle, ThermalRange
from edgemtl_runtime.errors import BundleError, EdgemtlError


def edit(**changes: object) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        manifest = json.loads((folder / MANIFEST).read_text())
        manifest.update(changes)
        (folder / MANIFEST).write_text(json.dumps(manifest))

    return apply


def flip_byte(folder: Path) -> None:
    data = bytearray((folder / MODEL).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / MODEL).write_bytes(data)


def link(folder: Path) -> None:
    (folder / MODEL).rename(folder.parent / "elsewhere.onnx")
    (folder / MODEL).symlink_to(folder.parent / "elsewhere.onnx")


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "flipped byte": (flip_byte, "damaged"),
    "missing network": (lambda f: (f / MODEL).unlink(), "missing"),
    "missing manifest": (lambda f: (f / MANIFEST).unlink(), "no bundle here"),
    "network behind a link": (link, "missing"),
    "newer schema": (edit(schema_version=99), "schema version 99.*update"),
    "no schema": (edit(schema_version=None), "no schema_version"),
    "name that climbs out": (edit(files={"../x": "0" * 64}), "not a plain file name"),
    "absolute name": (edit(files={"/etc/passwd": "0" * 64}), "not a plain file name"),
    "no network listed": (edit(files={}), "lists no model.onnx"),
    "unknown key": (edit(colour="red"), "unknown field `colour`"),
    "wrong type": (edit(inputs=3), "inputs"),
    "no inputs": (edit(inputs=[]), "no inputs"),
    "not JSON": (lambda f: (f / MANIFEST).write_text("{"), "not JSON"),
    "not text": (lambda f: (f / MANIFEST).write_bytes(b"\xff\xfe\x00"), "not JSON"),
    "a list": (lambda f: (f / MANIFEST).write_text("[]"), "no schema_version"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_told_in_one_line(toy_bundle: Path, case: str) -> None:
    damage, expected = DAMAGE[case]
    damage(toy_bundle)
    with pytest.raises(BundleError, match=expected) as caught:
        Bundle.open(toy_bundle)
    assert "\n" not in str(caught.value)


def test_a_sound_bundle_opens(toy_bundle: Path) -> None:
    bundle = Bundle.open(toy_bundle)
    assert [spec.name for spec in bundle.manifest.inputs] == ["rgb", "ir"]
    assert bundle.manifest.head("semantic").classes == ("dark", "bright")


def test_nothing_is_left_of_a_folder_that_failed(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), FolderAside(tmp_path / "b", MANIFEST) as aside:
        (aside.folder / "half").write_text("half")
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_only_its_own_kind_is_replaced(tmp_path: Path, toy_bundle: Path) -> None:
    other = tmp_path / "photos"
    other.mkdir()
    (other / "me.jpg").write_text("x")
    with pytest.raises(EdgemtlError, match="holds something else"), FolderAside(other, BUNDLE, True):
        pass
    with pytest.raises(EdgemtlError, match="--overwrite"), FolderAside(toy_bundle, BUNDLE):
        pass
    with FolderAside(toy_bundle, BUNDLE, overwrite=True) as aside:
        (aside.folder / "new").write_text("new")
        aside.place()
    assert sorted(file.name for file in toy_bundle.iterdir()) == [".edgemtl.json", "new"]


@pytest.mark.parametrize("bad", [{"kind": "hot"}, {"low": 5, "high": 5}, {"high": 120}])
def test_thermal_range_is_checked_when_made(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        ThermalRange(**bad)  # type: ignore[arg-type]
