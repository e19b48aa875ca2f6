"""Drift: what cameras show now next to the held-out images of the export."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import write_frames, write_toy_bundle
from servers import allow_absence

from edgemtl_runtime import Bundle, Pipeline
from edgemtl_runtime.bundle import Head, Input, sha256
from edgemtl_runtime.camera import open_cameras
from edgemtl_runtime.drift import REFERENCE, Drift, measure, reference_of, write_reference
from edgemtl_runtime.engine.onnxruntime import OrtEngine
from edgemtl_runtime.errors import BundleError
from edgemtl_runtime.sink.web.metrics import exposition


def with_reference(folder: Path, levels: tuple[float, ...]) -> Bundle:
    """Return a bundle whose reference are plain images of some grey levels."""
    rows = [{f"{name}.brightness": level, f"{name}.contrast": 0.0} for level in levels for name in ("rgb", "ir")]
    write_reference(folder, reference_of([a | b for a, b in zip(rows[::2], rows[1::2], strict=True)]))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][REFERENCE] = sha256(folder / REFERENCE)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return Bundle.open(folder)


def plain(folder: Path, level: int, count: int = 200, channels: int = 3) -> str:
    folder.mkdir()
    for index in range(count):
        image = np.full((48, 96, channels), level, np.uint8)
        image[index % 48, :8] = level + 1  # no two are equal
        cv2.imwrite(str(folder / f"{index:04d}.png"), image)
    return str(folder)


def test_a_camera_that_has_become_darker_has_drifted(tmp_path: Path) -> None:
    bundle = with_reference(write_toy_bundle(tmp_path / "toy"), (90, 110))  # 100 with a deviation of 10
    cameras = {"rgb": plain(tmp_path / "rgb", 60), "ir": plain(tmp_path / "ir", 100, channels=1)}
    with OrtEngine(bundle.model) as engine, Pipeline(bundle, engine, open_cameras(cameras)) as pipe:
        assert pipe.status().drift == {}
        pipe.run()
        status = pipe.status()
    assert status.drift["rgb.brightness"].drift == pytest.approx(-4, abs=0.01)  # the letterbox's padding is not seen
    assert status.drift["ir.brightness"].drift == pytest.approx(0, abs=0.01)
    assert status.missing == {"rgb": 0.0, "ir": 0.0} and status.bundle == "toy"
    text = exposition(status.to_dict()).decode()
    assert f'edgemtl_drift{{quantity="rgb.brightness"}} {status.drift["rgb.brightness"].drift}' in text
    assert 'edgemtl_drift_reference{quantity="ir.brightness"} 100.0' in text
    assert 'edgemtl_missing_share{camera="ir"} 0.0' in text and 'edgemtl_bundle_info{bundle="toy"} 1.0' in text


def test_a_camera_that_is_missing_is_a_share_and_no_dark_image(tmp_path: Path) -> None:
    bundle = with_reference(allow_absence(write_toy_bundle(tmp_path / "toy")), (90, 110))
    with OrtEngine(bundle.model) as engine:
        pipe = Pipeline(bundle, engine, open_cameras({"rgb": plain(tmp_path / "rgb", 100)}))
        pipe.run()
    status = pipe.status()
    assert status.missing == {"rgb": 0.0, "ir": 1.0} and set(status.drift) == {"rgb.brightness", "rgb.contrast"}


def test_quantities_are_those_of_the_image_and_the_scores() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 200, (1, 64, 96, 3), np.uint8)
    image[:, 48:] = 114
    rows = np.array([[[0, 0, 9, 9, 0.9, 0], [0, 0, 9, 9, 0.4, 0], [0, 0, 9, 9, 0.1, 0], [np.nan] * 6]], np.float32)
    inputs = [Input("rgb", 64, 96, 3, (0.0,) * 3, (1.0,) * 3)]
    heads = [Head("boxes", "boxes", "topk_boxes", ("a",)), Head("scene", "attributes", "attributes", ("x", "y"))]
    outputs = {"boxes": rows, "scene": np.array([[0.9, 0.2]], np.float32)}
    quantities = measure(inputs, heads, {"rgb": image}, outputs)
    sample = image[0, :48:4, ::4]
    expected = {"rgb.brightness": sample.mean(), "rgb.contrast": sample.std(), "boxes.score": 0.9, "boxes.count": 2}
    assert quantities == pytest.approx({**expected, "scene.score": 0.85})


@pytest.mark.parametrize(
    "content",
    [b"{", b'{"num_images": 1}', b'{"num_images": 1, "quantities": {"a": {"mean": 1, "std": -1}}}', b"[" * 9999],
)
def test_a_reference_that_is_none_is_one_line(content: bytes, tmp_path: Path) -> None:
    bundle = with_reference(write_toy_bundle(tmp_path / "toy"), (1.0,))
    (bundle.path / REFERENCE).write_bytes(content)
    with pytest.raises(BundleError, match="is no reference of drift") as error:
        Drift(bundle)
    assert "\n" not in str(error.value)


def test_a_bundle_without_a_reference_has_no_drift(toy_bundle: Path, tmp_path: Path) -> None:
    rgb, ir = write_frames(tmp_path / "rgb", 150), write_frames(tmp_path / "ir", 150, channels=1)
    bundle = Bundle.open(toy_bundle)
    with OrtEngine(bundle.model) as engine:
        pipe = Pipeline(bundle, engine, open_cameras({"rgb": str(rgb), "ir": str(ir)}))
        pipe.run()
    assert pipe.status().drift == {} and pipe.status().missing == {"rgb": 0.0, "ir": 0.0}


def test_an_exported_bundle_has_the_reference_of_its_held_out_images(tiny_bundle) -> None:  # type: ignore[no-untyped-def]
    bundle, _ = tiny_bundle
    reference = Drift(bundle).reference
    assert reference is not None and reference.num_images > 1
    assert {"rgb.brightness", "ir.contrast", "boxes.score"} <= reference.quantities.keys()
