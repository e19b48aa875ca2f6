"""A bundle is used only when every byte of it is what was written."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgemtl_runtime.atomic import AtomicFolder
from edgemtl_runtime.bundle import BUNDLE, MANIFEST, MODEL, Bundle, ThermalRange
from edgemtl_runtime.engine.onnxruntime import OrtEngine
from edgemtl_runtime.errors import BundleError, EdgemtlError

VERSION_0_1 = Path(__file__).parents[1] / "fixtures" / "version-0.1" / "bundle"


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
def test_damage_is_an_error_of_one_line(toy_bundle: Path, case: str) -> None:
    damage, expected = DAMAGE[case]
    damage(toy_bundle)
    with pytest.raises(BundleError, match=expected) as caught:
        Bundle.open(toy_bundle)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there_is_named_so(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"stret: no bundle here \(there is no such folder\)"):
        Bundle.open(tmp_path / "stret")


@pytest.mark.parametrize(
    ("field", "expected"),
    [("ir_version", r"\(Unsupported model IR version: 99, .*"), ("opset", r"\(.*Opset 99 is under development.*")],
)
def test_a_network_newer_than_onnx_runtime_is_told_by_its_reason(toy_bundle: Path, field: str, expected: str) -> None:
    model = onnx.load(str(toy_bundle / MODEL))
    if field == "opset":
        model.opset_import[0].version = 99
    else:
        model.ir_version = 99
    onnx.save(model, str(toy_bundle / MODEL))
    with pytest.raises(BundleError, match=expected + "update onnxruntime, or export") as caught:
        OrtEngine(toy_bundle / MODEL, 1)
    assert "\n" not in str(caught.value) and "/onnxruntime_src" not in str(caught.value)


def test_a_sound_bundle_opens(toy_bundle: Path) -> None:
    bundle = Bundle.open(toy_bundle)
    assert [spec.name for spec in bundle.manifest.inputs] == ["rgb", "ir"]
    assert bundle.manifest.head("semantic").classes == ("dark", "bright")


def test_nothing_is_left_of_a_folder_that_failed(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), AtomicFolder(tmp_path / "b", MANIFEST) as output:
        (output.folder / "half").write_text("half")
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_only_its_own_kind_is_replaced(tmp_path: Path, toy_bundle: Path) -> None:
    other = tmp_path / "photos"
    other.mkdir()
    (other / "me.jpg").write_text("x")
    with pytest.raises(EdgemtlError, match="holds something else"), AtomicFolder(other, BUNDLE, True):
        pass
    with pytest.raises(EdgemtlError, match="--overwrite"), AtomicFolder(toy_bundle, BUNDLE):
        pass
    with AtomicFolder(toy_bundle, BUNDLE, overwrite=True) as output:
        (output.folder / "new").write_text("new")
        output.commit()
    assert sorted(file.name for file in toy_bundle.iterdir()) == [".edgemtl.json", "new"]


@pytest.mark.parametrize("bad", [{"kind": "hot"}, {"low": 5, "high": 5}, {"high": 120}])
def test_thermal_range_is_checked_when_made(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        ThermalRange(**bad)  # type: ignore[arg-type]


@pytest.fixture()
def older_bundle(tmp_path: Path) -> Path:
    """A bundle as version 0.1 wrote it (schema version 2), with a precision that did not pass."""
    folder = tmp_path / "older"
    shutil.copytree(VERSION_0_1, folder)
    edit(refused={"int8": "depth: rmse 0.31 where the run has 0.20, 55.0% worse (1.0% allowed)"})(folder)
    return folder


def test_a_bundle_of_version_0_1_opens_and_runs_without_a_warning(older_bundle: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bundle = Bundle.open(older_bundle)
        assert bundle.manifest.schema_version == 2 and bundle.manifest.rejected["int8"].startswith("depth: rmse")
        assert [spec.may_be_missing for spec in bundle.manifest.inputs] == [True, True]
        with pytest.raises(BundleError, match=r"holds no int8 network: depth: .*worse.*; it has fp32"):
            bundle.model_in("int8")
        images = {s.name: np.zeros((1, s.height, s.width, s.channels), np.uint8) for s in bundle.manifest.inputs}
        outputs = OrtEngine(bundle.model, 1).run(images)
    assert set(outputs) == {head.name for head in bundle.manifest.heads} == {"boxes", "semantic", "depth"}


def test_old_names_of_fields_work_with_one_line_that_names_the_new(older_bundle: Path) -> None:
    manifest = Bundle.open(older_bundle).manifest
    with pytest.warns(DeprecationWarning, match=r"^Manifest\.refused is rejected now; "):
        assert manifest.refused == manifest.rejected  # type: ignore[attr-defined]
    with pytest.warns(DeprecationWarning, match=r"^Input\.may_be_absent is may_be_missing now; "):
        assert manifest.inputs[0].may_be_absent is True  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        manifest.absent  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("version", [1, 2])
def test_old_keys_are_those_of_old_manifests_alone(older_bundle: Path, version: int) -> None:
    edit(schema_version=version)(older_bundle)
    assert Bundle.open(older_bundle).manifest.rejected
    edit(schema_version=3)(older_bundle)
    with pytest.raises(BundleError, match="unknown field"):
        Bundle.open(older_bundle)
    edit(schema_version=version, rejected={})(older_bundle)
    with pytest.raises(BundleError, match="unknown field `refused`"):
        Bundle.open(older_bundle)
