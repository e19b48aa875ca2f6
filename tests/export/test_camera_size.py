"""Resizing in the graph: the same results, in the camera's pixels, as where images are resized before it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from edgemtl_export.camera_size import GraphLetterbox, at_camera_size
from edgemtl_export.to_bundle import export_bundle
from edgemtl_runtime.bundle import Bundle, Head, Input
from edgemtl_runtime.decode import decode
from edgemtl_runtime.engine.onnxruntime import open_ort_engine
from edgemtl_runtime.frame import Frame, FramePair
from edgemtl_runtime.letterbox import Letterbox
from edgemtl_runtime.preprocess import Preprocessor
from edgemtl_runtime.result import HeadResult

SIZE = (64, 96)
INPUTS = (
    Input("rgb", *SIZE, 3, (0.4, 0.4, 0.4), (0.2, 0.2, 0.2), "rgb", may_be_missing=True),
    Input("ir", *SIZE, 1, (0.5,), (0.25,), "ir", blank=90, may_be_missing=True),
)
HEADS = (
    Head("boxes", "boxes", "topk_boxes", ("person", "car"), threshold=0),
    Head("several", "boxes", "nms_boxes", ("person", "car"), threshold=0.3),
    Head("semantic", "semantic", "label_map", ("dark", "bright", "red")),
    Head("depth", "depth", "depth_map", ("metric",), "m"),
    Head("normals", "normals", "normal_map", ()),
    Head("edges", "edges", "edge_map", ()),
    Head("attributes", "attributes", "attributes", ("day", "wet")),
    Head("temperature", "temperature", "scalar_map", (), "°C"),
    Head("flow", "flow", "vector_map", ("right", "down"), "px"),
    Head("feet", "feet", "points", ("left", "right"), threshold=0),
    Head("speed", "speed", "scalars", ("forward", "sideways"), "m/s"),
    Head("embedding", "embedding", "tensor", ()),
)
CHANNELS = {"semantic": 3, "depth": 1, "normals": 3, "edges": 1, "temperature": 1, "flow": 2, "feet": 2}
CAMERAS = [(128, 192), (64, 96), (100, 96), (100, 130), (480, 640), (192, 288), (90, 200)]
"""Twice as large, the same, as wide, any, any, three times, and wider."""


class EveryHead(nn.Module):
    """Two convolutions and a head of every kind, with random weights."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(4, 8, 3, 2, 1)
        self.maps = nn.ModuleDict({name: nn.Conv2d(8, count, 3, 2, 1) for name, count in CHANNELS.items()})
        self.boxes = nn.Conv2d(8, 6, 3, 4, 1)
        self.pooled = nn.Linear(8, 2)

    def forward(self, rgb: Tensor, ir: Tensor) -> dict[str, Tensor]:
        features = self.stem(torch.cat([rgb, ir], 1)).relu()
        raw = {name: layer(features) for name, layer in self.maps.items()}
        rows = self.boxes(features).flatten(2).transpose(1, 2)
        corner = rows[..., :2].sigmoid() * 90
        boxes = torch.cat([corner, corner + 1 + rows[..., 2:4].sigmoid() * 60, rows[..., 4:].sigmoid()], -1)
        pooled = self.pooled(features.mean((2, 3)))
        return raw | {"boxes": boxes, "several": boxes, "attributes": pooled, "speed": pooled, "embedding": features}


def images(size: tuple[int, int], seed: int = 0) -> dict[str, NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    return {"rgb": rng.integers(0, 256, (*size, 3), np.uint8), "ir": rng.integers(0, 256, (*size, 1), np.uint8)}


def written(out: Path, camera_size: tuple[int, int] | None, **words: Any) -> Bundle:
    taken = at_camera_size(INPUTS, camera_size)
    frames = [{name: image[None] for name, image in images((taken[0].height, taken[0].width), 9).items()}]
    return export_bundle(
        EveryHead(), INPUTS, HEADS, frames, out, "every", "CC0-1.0", align=1, camera_size=camera_size, **words
    )[0]


def results(bundle: Bundle, given: Mapping[str, NDArray[np.uint8]]) -> dict[str, HeadResult]:
    """Return what a robot gets of images, as the pipeline makes it."""
    specs, preprocessor = bundle.manifest.inputs, Preprocessor(bundle.manifest.inputs)
    frames = {name: Frame(image.squeeze(), 1, name, 0) for name, image in given.items()}
    taken = {
        spec.name: preprocessor.network_input(frames[spec.name])[None]
        if spec.name in frames
        else np.full((1, spec.height, spec.width, spec.channels), spec.blank, np.uint8)
        for spec in specs
    }
    with open_ort_engine(bundle, 1) as engine:
        outputs = {name: output[0] for name, output in engine.run(taken).items()}
    return decode(outputs, bundle.manifest.heads, preprocessor.reference(FramePair(frames))[1])


def arrays(result: HeadResult) -> dict[str, NDArray[Any]]:
    """Return the arrays of a result by name."""
    fields = {name: getattr(result, name) for name in result.__dataclass_fields__}  # type: ignore[attr-defined]
    return {name: value for name, value in fields.items() if isinstance(value, np.ndarray)}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return written(tmp_path_factory.mktemp("plain") / "bundle", None)


@pytest.mark.parametrize("size", CAMERAS)
def test_results_are_those_of_images_that_are_resized_before(
    plain: Bundle, tmp_path: Path, size: tuple[int, int]
) -> None:
    bundle = written(tmp_path / "bundle", size)
    assert {(spec.height, spec.width) for spec in bundle.manifest.inputs} == {size}
    whole = images(size)
    for given_images in (whole, {"rgb": whole["rgb"]}, {"ir": whole["ir"]}):
        expected, actual = results(plain, given_images), results(bundle, given_images)
        for head in HEADS:
            left, right = (arrays(result[head.name]) for result in (expected, actual))
            for name, value in left.items():
                assert value.shape == right[name].shape, (head.name, name)
                if value.dtype == np.uint8:
                    assert (value != right[name]).mean() < 1e-3, head.name
                else:
                    assert np.allclose(value, right[name], rtol=1e-4, atol=1e-4), (head.name, name)


SIDE = st.integers(1, 150)


@settings(max_examples=60, deadline=None)
@given(st.tuples(SIDE, SIDE), st.tuples(st.integers(8, 80), st.integers(8, 80)), st.integers(0, 99))
def test_images_and_maps_are_those_of_the_runtime(camera: tuple[int, int], network: tuple[int, int], seed: int) -> None:
    plan, graph = Letterbox.plan(camera, network), GraphLetterbox(camera, network)
    image = images(camera, seed)["rgb"]
    pixels = graph.to_network(torch.from_numpy(image)[None].float().permute(0, 3, 1, 2), 114)
    difference = pixels[0].permute(1, 2, 0).numpy() - plan.image(image, 3, 114)
    # OpenCV enlarges in fixed point, so that it may round another way; what it makes smaller is equal.
    assert np.abs(difference).max() <= (0 if plan.scaled_height < camera[0] else 1)
    labels = torch.from_numpy(np.random.default_rng(seed).integers(0, 255, (1, *network)))
    assert np.array_equal(graph.to_camera(labels, "label_map")[0].numpy(), plan.map_to_camera(labels[0].numpy()))


def test_a_batch_of_any_size(plain: Bundle, tmp_path: Path) -> None:
    bundle = written(tmp_path / "bundle", (128, 192), dynamic_batch=True)
    both = [images((128, 192), seed) for seed in (1, 2)]
    with open_ort_engine(bundle, 1) as engine:
        outputs = engine.run({name: np.stack([image[name] for image in both]) for name in ("rgb", "ir")})
        alone = engine.run({name: both[1][name][None] for name in ("rgb", "ir")})
    assert np.allclose(outputs["depth"][1], alone["depth"][0], atol=1e-4)


def test_the_card_says_what_images_are_resized_to(tmp_path: Path) -> None:
    card = (written(tmp_path / "bundle", (128, 192)).path / "card.md").read_text()
    assert "`rgb`: 128×192×3 bytes" in card and "resized to 64×96 in the graph" in card
