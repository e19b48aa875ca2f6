"""Numbers and texts of files have bounds: a wrong one is one line, found when the file is opened."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgemtl_runtime.bundle import MANIFEST, MODEL, Bundle, Head, sha256
from edgemtl_runtime.cli import main
from edgemtl_runtime.decode import decode
from edgemtl_runtime.engine.cache import Cache
from edgemtl_runtime.engine.config import EngineConfig
from edgemtl_runtime.engine.onnxruntime import OrtEngine, cores, open_ort_engine
from edgemtl_runtime.engine.selection import Selection, device, selected_config
from edgemtl_runtime.errors import BundleError, EdgemtlError, EngineError
from edgemtl_runtime.letterbox import Letterbox
from edgemtl_runtime.limits import MAX_DEPTH, parse_yaml
from edgemtl_runtime.pipeline import Pipeline
from edgemtl_runtime.rig import Rig

Tree = Any


def put(*path: Any, value: Any) -> Callable[[Tree], None]:
    """Return what sets a value somewhere in a tree."""

    def change(tree: Tree) -> None:
        for key in path[:-1]:
            tree = tree[key]
        tree[path[-1]] = value

    return change


def twin(key: str) -> Callable[[Tree], None]:
    return lambda tree: tree[key].append(tree[key][0])


NUMBERS: dict[str, tuple[Callable[[Tree], None], str]] = {
    "blank below": (put("inputs", 0, "blank", value=-1), "blank of input 'rgb' is -1"),
    "blank above": (put("inputs", 0, "blank", value=999), "blank of input 'rgb' is 999"),
    "blank half": (put("inputs", 0, "blank", value=1.5), "blank"),
    "std 0": (put("inputs", 1, "std", value=[0.0]), "a std of input 'ir' is 0"),
    "std below": (put("inputs", 1, "std", value=[-1.0]), "a std of input 'ir' is -1"),
    "mean without end": (put("inputs", 1, "mean", value=[1e300]), "a mean of input 'ir' is 1e"),
    "sides": (put("inputs", 0, "height", value=99999), "impossible shape"),
    "pixels": (lambda t: t["inputs"][0].update(height=16000, width=16000), "16000x16000 pixels"),
    "threshold": (put("heads", 0, "threshold", value=1.5), "threshold of head 'boxes' is 1.5"),
    "threshold huge": (put("heads", 0, "threshold", value=10**400), "threshold|not JSON"),
    "two inputs of one name": (twin("inputs"), "two inputs have one name"),
    "two heads of one name": (twin("heads"), "two heads have one name"),
    "many heads": (lambda t: t["heads"].extend({**t["heads"][0], "name": f"h{n}"} for n in range(99)), "more than 64"),
    "many classes": (put("heads", 0, "classes", value=["a"] * 20_000), "20000 classes"),
    "a long class": (put("heads", 0, "classes", value=["a" * 300]), "class .* longer"),
    "a class that moves the cursor": (put("heads", 0, "classes", value=["\x1b[2J"]), "class .* do not print"),
    "a name that moves the cursor": (put("name", value="a\nb"), "do not print"),
    "thermal range": (put("inputs", 1, "thermal_range", value={"kind": "radiometric", "high": 1e300}), "thermal_range"),
    "version": (put("schema_version", value=True), "no schema_version"),
    "many files": (lambda t: t["files"].update({f"f{n}": "" for n in range(99)}), "lists 100 files"),
    "removed": (put("removed", value=[[]]), "removed"),
    "parameters": (put("removed", value={"parameters_before": "many", "parameters_after": 1}), "removed"),
    "agreement": (put("parity", value={"agreement": {"boxes": []}}), "parity"),
    "scores": (put("precisions", value={"fp32": {"scores": 3}}), "precisions"),
    "a score that moves the cursor": (put("precisions", value={"fp32": {"scores": {"\x1b[2J": {}}}}), "do not print"),
    "a refusal": (put("rejected", value={"int8": "\x1b]0;title\x07"}), "do not print"),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_a_manifest_has_bounds(toy_bundle: Path, case: str) -> None:
    change, why = NUMBERS[case]
    tree = json.loads((toy_bundle / MANIFEST).read_text())
    change(tree)
    (toy_bundle / MANIFEST).write_text(json.dumps(tree))
    with pytest.raises(BundleError, match=why) as told:
        Bundle.open(toy_bundle)
    assert "\n" not in str(told.value) and "\x1b" not in str(told.value)


@pytest.mark.parametrize(
    "text", ["[" * 200_000, '{"schema_version": ' + "9" * 100_000 + "}", '{"a":' * 50_000, "x" * (5 << 20)]
)
def test_a_manifest_is_read_within_bounds(toy_bundle: Path, text: str) -> None:
    (toy_bundle / MANIFEST).write_text(text)
    with pytest.raises(BundleError) as told:
        Bundle.open(toy_bundle)
    assert "\n" not in str(told.value) and len(str(told.value)) < 500


def changed(bundle: Path, change: Callable[[Tree], None], rows: Any = None) -> Bundle:
    """Return a bundle with another manifest and, where given, other rows of boxes in its network."""
    tree = json.loads((bundle / MANIFEST).read_text())
    change(tree)
    if rows is not None:
        model = onnx.load(str(bundle / MODEL))
        stored = next(tensor for tensor in model.graph.initializer if tensor.name == "rows")
        stored.CopyFrom(numpy_helper.from_array(np.asarray(rows, np.float32), "rows"))
        onnx.save(model, str(bundle / MODEL))
        tree["files"][MODEL] = sha256(bundle / MODEL)
    (bundle / MANIFEST).write_text(json.dumps(tree))
    return Bundle.open(bundle)


@pytest.mark.parametrize(
    "change, why",
    [
        (put("heads", 0, "decoder", value="label_map"), "boxes is .* decoder label_map reads"),
        (put("heads", 1, "decoder", value="topk_boxes"), "semantic is .* decoder topk_boxes reads"),
        (put("heads", 1, "decoder", value="attributes"), "semantic is .* decoder attributes reads"),
        (put("heads", 1, "decoder", value="magic"), "no decoder 'magic' here"),
    ],
)
def test_a_head_fits_the_networks_output_when_it_is_opened(
    toy_bundle: Path, change: Callable[[Tree], None], why: str
) -> None:
    with pytest.raises(BundleError, match=why):
        open_ort_engine(changed(toy_bundle, change))


def seen(bundle: Bundle) -> list[Any]:
    from edgemtl_runtime.camera import open_cameras

    cameras = open_cameras({name: "pattern:?frames=3&fps=0" for name in ("rgb", "ir")})
    return [result for _, result in Pipeline(bundle, open_ort_engine(bundle), cameras)]


ROW = [24.0, 16, 72, 48, 0.9, 0]


@pytest.mark.parametrize(
    "classes, rows, why",
    [
        (["person"], [[ROW, [0, 0, 9, 9, 0.9, 1]]], "boxes: the network gives a class 1, the manifest names 1"),
        (["person", "car"], [[ROW, [0, 0, 9, 9, 0.1, -3]]], "boxes: the network gives a class -3"),
        (["person", "car"], [[ROW, [0, 0, 9, 9, 0.9, 1e30]]], "boxes: the network gives a class 1e"),
    ],
)
def test_a_class_without_a_name_is_one_line(toy_bundle: Path, classes: list[str], rows: Any, why: str) -> None:
    with pytest.raises(EngineError, match=why):
        seen(changed(toy_bundle, put("heads", 0, "classes", value=classes), rows))


def test_labels_without_a_name_are_one_line(toy_bundle: Path) -> None:
    with pytest.raises(EngineError, match="semantic: the network gives a class 1, the manifest names 1"):
        seen(changed(toy_bundle, put("heads", 1, "classes", value=["dark"])))


@pytest.mark.parametrize(
    "decoder, output",
    [
        ("topk_boxes", np.zeros((2, 7), np.float32)),
        ("topk_boxes", np.zeros((2, 6, 1), np.float32)),
        ("topk_boxes", np.zeros((2, 6), np.int64)),
        ("label_map", np.zeros((4, 4, 1), np.uint8)),
        ("label_map", np.zeros((4, 0), np.uint8)),
        ("label_map", np.zeros((4, 4), np.float32)),
        ("depth_map", np.zeros(4, np.float32)),
        ("normal_map", np.zeros((4, 4, 2), np.float32)),
        ("edge_map", np.zeros((), np.float32)),
        ("attributes", np.zeros((1, 2), np.float32)),
    ],
)
def test_outputs_of_another_form_are_one_line(decoder: str, output: Any) -> None:
    head = Head("h", "h", decoder, ("a", "b"))
    with pytest.raises(EngineError, match=f"h: the network gives .*, which {decoder} does not read"):
        decode({"h": output}, (head,), Letterbox.plan((4, 4), (4, 4)))


def test_rows_that_are_no_numbers_are_no_boxes(toy_bundle: Path) -> None:
    odd = [[ROW, [np.nan, 0, 9, 9, 0.9, 1], [0, np.inf, 9, 9, 0.9, 1], [0, 0, 9, 9, 0.9, np.nan]]]
    bundle = changed(toy_bundle, put("heads", 0, "classes", value=["person", "car"]), odd)
    assert [len(result.heads["boxes"]) for result in seen(bundle)] == [1, 1, 1]


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def write_selection(cache: Cache, bundle: Bundle, **fields: Any) -> Path:
    """Write a selection as `build` does, with other fields in its configuration."""
    written = msgspec.to_builtins(Selection(bundle.manifest.files, device(), EngineConfig(), {}))
    written["way"] |= fields
    file = cache.selection(bundle.manifest.files)
    file.write_bytes(msgspec.json.encode(written))
    file.chmod(0o600)
    return file


@pytest.mark.parametrize(
    "fields",
    [
        {"threads": 100_000},
        {"threads": -1},
        {"threads": 4 * (os.cpu_count() or 1) + 1},
        {"backend": "sh"},
        {"precision": "fp4"},
        {"threads": "1"},
    ],
)
def test_a_selected_configuration_has_bounds(toy_bundle: Path, cache: Cache, fields: dict[str, Any]) -> None:
    bundle = Bundle.open(toy_bundle)
    assert write_selection(cache, bundle, threads=cores()) and selected_config(bundle, cache) == EngineConfig(
        threads=cores()
    )
    file = write_selection(cache, bundle, **fields)
    with pytest.raises(EngineError, match=r"no choice that can be read .*; delete it") as told:
        selected_config(bundle, cache)
    assert str(file) in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize("data", [b"[" * 100_000, b"{}", b"\xff", b" " * (2 << 20)])
def test_a_selection_that_cannot_be_read_is_an_error(toy_bundle: Path, cache: Cache, data: bytes) -> None:
    bundle = Bundle.open(toy_bundle)
    write_selection(cache, bundle).write_bytes(data)
    with pytest.raises(EngineError, match=r"delete it|larger than"):
        selected_config(bundle, cache)


def test_no_engine_takes_a_hundred_thousand_threads(toy_bundle: Path) -> None:
    with pytest.raises(EngineError, match="100000 threads"):
        OrtEngine(toy_bundle / MODEL, 100_000)


@pytest.fixture
def rig(tmp_path: Path) -> Path:
    from edgemtl_runtime.rig import CameraModel

    matrix = np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]])
    cameras = {name: CameraModel(name, 640, 480, matrix) for name in ("rgb", "ir")}
    Rig(cameras, np.eye(3), np.array([0.05, 0, 0]), 10.0).save(tmp_path / "rig.yaml")
    return tmp_path / "rig.yaml"


RIGS: dict[str, Callable[[Tree], None]] = {
    "focal length": put("cameras", "rgb", "camera_matrix", "data", 0, value=-500),
    "focal length without end": put("cameras", "rgb", "camera_matrix", "data", 0, value=1e300),
    "not a number": put("cameras", "rgb", "camera_matrix", "data", 0, value=float("nan")),
    "distortion": put("cameras", "rgb", "distortion_coefficients", "data", 0, value=1e200),
    "size": put("cameras", "rgb", "image_width", value=10**9),
    "pixels": lambda t: t["cameras"]["rgb"].update(image_width=32000, image_height=32000),
    "distance": put("reference_to_other", "distance_m", value=1e300),
    "behind": put("reference_to_other", "distance_m", value=-1),
    "translation": put("reference_to_other", "translation_m", value=[1e200, 0, 0]),
    "a short translation": put("reference_to_other", "translation_m", value=[1.0]),
    "rotation": put("reference_to_other", "rotation", "data", value=[0] * 9),
    "offset": put("offset_ms", "ir", value=1e300),
    "offset of another": put("offset_ms", "x" * 5000, value=1),
    "views": lambda t: t["errors"].update(views=-1),
    "rows": put("reference_to_other", "rotation", "rows", value=10**30),
    "name": put("cameras", "rgb", "camera_name", value="\x1b[2J"),
}


@pytest.mark.parametrize("case", RIGS)
def test_a_rig_has_bounds(rig: Path, case: str) -> None:
    import yaml

    Rig.open(rig)
    tree = yaml.safe_load(rig.read_text())
    tree["reference_to_other"].pop("homography")
    RIGS[case](tree)
    rig.write_text(yaml.safe_dump(tree))
    with pytest.raises(EdgemtlError) as told:
        Rig.open(rig)
    assert "\n" not in str(told.value) and "\x1b" not in str(told.value) and len(str(told.value)) < 600


def test_a_homography_that_cannot_be_turned_round_is_refused(rig: Path) -> None:
    from edgemtl_runtime.rig import CameraModel

    plain = {name: CameraModel(name, 640, 480) for name in ("rgb", "ir")}
    for matrix in (np.zeros((3, 3)), np.ones((3, 3)), np.diag([1, 1e-14, 1.0])):
        with pytest.raises(EdgemtlError, match="singular"):
            Rig(plain, homography_rgb_to_ir=matrix)


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
MERGED = "a0: &a0 {k: v}\n" + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 12))
YAMLS = {
    "laughs": LAUGHS,
    "merged laughs": MERGED,
    "itself": "a: &a [*a]",
    "depth": "[" * 3000,
    "deep keys": "{a: " * 3000,
    "python": "!!python/object/apply:os.system [touch made]",
    "number": "a: " + "9" * 10_000,
    "base 60": "a: 1" + ":59" * 3000 + "\nb: [",
    "date": "a: 2026-99-99",
    "list as key": "[1]: 2\n? [a]\n: {b}\n",
    "no text": "\x00",
    "size": "a" * (5 << 20),
}


@pytest.mark.parametrize("case", YAMLS)
def test_yaml_is_read_within_bounds(tmp_path: Path, case: str) -> None:
    file = tmp_path / "rig.yaml"
    file.write_text(YAMLS[case])
    start = time.process_time()
    with pytest.raises(EdgemtlError) as told:
        Rig.open(file)
    assert "\n" not in str(told.value) and str(file) in str(told.value) and len(str(told.value)) < 600
    assert time.process_time() - start < 5 and not Path("made").exists()


def test_anchors_that_stay_small_are_read() -> None:
    assert parse_yaml("a: &x {b: 1}\nc: *x\nd: {<<: *x, e: 2}") == {"a": {"b": 1}, "c": {"b": 1}, "d": {"b": 1, "e": 2}}
    assert parse_yaml("[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("names: [a, b]\nval: x\nnames: [c, d]\n", "line 3: 'names' stands in line 1 already"),
        ("names: {0: a, 0: b}\n", "line 1: '0' stands in line 1 already"),
        ("a: 1\nnames: [caf\u00e9]\n".encode("latin-1"), "line 2 is no text in UTF-8; if it is YAML, save it as that"),
        (b"PK\x03\x04\x14", "line 1 is no text in UTF-8"),
    ],
)
def test_keys_that_stand_twice_and_other_encodings_are_named(data: bytes | str, expected: str) -> None:
    with pytest.raises(ValueError, match=re.escape(expected)):
        parse_yaml(data)


def test_a_wrong_file_is_exit_code_2(toy_bundle: Path, rig: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rig.write_text(LAUGHS)
    words = ["run", str(toy_bundle), "--rgb", "pattern:?frames=3", "--ir", "pattern:?frames=3", "--rig", str(rig)]
    assert main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1
