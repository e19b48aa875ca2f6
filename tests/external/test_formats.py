"""Formats of detectors' outputs: each gives the boxes that its own library gives."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import folder_of
from foreign_networks import best_boxes_onnx, checkpoint, grid_onnx, images
from torch import Tensor

from edgemtl.cli import main
from edgemtl.external.formats import DecodedYoloxBoxes, GridBoxes, PixelGridBoxes, YoloxBoxes
from edgemtl.external.opening import open_network
from edgemtl.external.options import OpenOptions
from edgemtl.external.source import parse
from edgemtl.external.ultralytics import file_network
from edgemtl_export.decoding import topk_boxes
from edgemtl_models.yolo_detector import cells

SIZE = (64, 96)
COUNT = cells(SIZE, (8, 16, 32))[0].shape[1]


def rows(classes: int = 3, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    box = torch.randn(2, COUNT, 4, generator=generator)
    return torch.cat([box, torch.rand(2, COUNT, 1 + classes, generator=generator)], 2)


def test_yolox_boxes_are_decoded_as_by_its_authors_formula() -> None:
    raw = rows()
    grids, strides = [], []
    for stride in (8, 16, 32):  # as YOLOX's demo does it: cells by rows, x first
        h, w = SIZE[0] // stride, SIZE[1] // stride
        xv, yv = np.meshgrid(np.arange(w), np.arange(h))
        grids.append(np.stack((xv, yv), 2).reshape(-1, 2))
        strides.append(np.full((h * w, 1), stride))
    grid, step = np.concatenate(grids), np.concatenate(strides)
    centre = (raw[0, :, :2].numpy() + grid) * step
    size = np.exp(raw[0, :, 2:4].numpy()) * step
    corners, scores = YoloxBoxes(SIZE).boxes(raw)
    np.testing.assert_allclose(corners[0].T.numpy(), np.hstack([centre - size / 2, centre + size / 2]), atol=2e-4)
    torch.testing.assert_close(scores, (raw[..., 4:5] * raw[..., 5:]).transpose(1, 2))
    decoded = torch.cat([torch.from_numpy(np.hstack([centre, size])).float()[None], raw[:1, :, 4:]], 2)
    again, _ = DecodedYoloxBoxes(SIZE).boxes(decoded)
    torch.testing.assert_close(again, corners[:1], atol=1e-3, rtol=1e-4)
    given, wanted = DecodedYoloxBoxes(SIZE).raw(decoded), YoloxBoxes(SIZE).raw(raw[:1])
    assert given.keys() == wanted.keys() == {"boxes", "objectness", "scores"}
    torch.testing.assert_close(given["boxes"], wanted["boxes"], atol=1e-3, rtol=1e-3)


def test_boxes_in_pixels_and_in_cells_are_the_same_boxes() -> None:
    grid = GridBoxes(SIZE)
    outputs = {"boxes": torch.rand(2, 4, COUNT) * 3, "scores": torch.randn(2, 5, COUNT)}
    corners, scores = grid.boxes(outputs)
    low, high = corners.split(2, 1)
    pixels = PixelGridBoxes(SIZE)
    in_pixels = torch.cat([(low + high) / 2, high - low, scores], 1)
    torch.testing.assert_close(pixels.boxes(in_pixels), (corners, scores))
    raw = pixels.raw(in_pixels)
    torch.testing.assert_close(raw["boxes"], outputs["boxes"], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(raw["scores"], outputs["scores"], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("rows_first", "numbers", "note", "pixels"),
    [(True, 8, "YOLOX detector, boxes raw: 3 classes", 1 / 255), (False, 7, "ONNX layout: 3 classes", 1.0)],
)
def test_a_detector_is_recognised_by_its_grid(
    tmp_path: Path, rows_first: bool, numbers: int, note: str, pixels: float
) -> None:
    plain = grid_onnx(tmp_path / "net.onnx", numbers, rows_first, SIZE)
    source = parse(str(tmp_path / "net.onnx"))
    assert source is not None
    network = open_network(source)
    assert note in network.notes[0] and network.heads[0].decoder == "nms_boxes"
    assert network.size == SIZE and network.inputs[0].std == (pixels,) * 3
    assert network.heads[0].classes == ("class0", "class1", "class2")
    image = torch.rand(1, 3, *SIZE)
    with torch.no_grad():
        given = network.adapter.core(image.flip(1))
        torch.testing.assert_close(given, plain(image.flip(1)), atol=1e-5, rtol=1e-4)
        boxes = network.adapter(rgb=image if rows_first else image.flip(1))["boxes"]
    expected = network.adapter.format.heads(given)["boxes"]
    torch.testing.assert_close(boxes, expected, atol=1e-4, rtol=1e-4)  # YOLOX reads blue, green, red


@pytest.mark.parametrize("most", [20, COUNT])
def test_a_file_that_chooses_its_best_boxes_is_deployed_and_not_pruned(
    tmp_path: Path, most: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where it chooses as many as a grid has cells, as YOLO26's file of a small image does."""
    plain = best_boxes_onnx(tmp_path / "net.onnx", 4, most, SIZE)
    source = parse(str(tmp_path / "net.onnx"))
    assert source is not None
    network = open_network(source)
    assert "end-to-end detector" in network.notes[0] and network.heads[0].decoder == "topk_boxes"
    assert network.heads[0].classes == ("name0", "name1", "name2", "name3") and network.inputs[0].std == (1.0,) * 3
    image = torch.rand(1, 3, *SIZE)
    with torch.no_grad():
        wanted = plain(image)[0]
        given = topk_boxes(network.adapter(rgb=image)["boxes"], SIZE)[0]
    count = min(len(given), most)
    torch.testing.assert_close(given[:count], wanted[:count], atol=1e-3, rtol=1e-4)
    words = [str(tmp_path / "net.onnx"), "--images", str(images(tmp_path / "images", 12)), "--out"]
    assert main(["export", *words, str(tmp_path / "bundle")]) == 0
    assert main(["prune", *words, str(tmp_path / "small")]) == 2
    assert "chooses its best boxes itself" in capsys.readouterr().err.splitlines()[-1]


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "name",
    ["yolo11n", "yolo26n", *(pytest.param(n, marks=SLOW) for n in ("yolov5n", "yolov8n", "yolov9t", "yolov10n"))],
)
def test_boxes_of_a_checkpoint_are_those_of_its_library(name: str, tmp_path: Path) -> None:
    source = parse(str(checkpoint(name, tmp_path / "net.pt")))
    assert source is not None
    network = open_network(source, OpenOptions(input_size=SIZE))
    whole: Any = torch.load(tmp_path / "net.pt", weights_only=False)["model"].float().eval()
    end_to_end = name in ("yolo26n", "yolov10n")
    with suppress(AttributeError):  # in older releases the branches decide it
        whole.end2end = end_to_end
    image = torch.rand(1, 3, *SIZE)
    with torch.no_grad():
        wanted = whole(image)[0]
        given = file_network(network, network.adapter.core)(image)
        boxes = network.adapter(rgb=image)["boxes"]
    assert network.heads[0].decoder == ("topk_boxes" if end_to_end else "nms_boxes")
    if end_to_end:
        torch.testing.assert_close(given[:, :, 4], wanted[:, :, 4], atol=1e-5, rtol=1e-4)
        nearest = (given[0, None] - wanted[0, :50, None]).abs().amax(2).amin(1)
        assert float(nearest.max()) < 1e-2  # of equal scores either comes first
    else:
        torch.testing.assert_close(given, wanted, atol=1e-3, rtol=1e-4)
        low, high = boxes.transpose(1, 2)[:, :4].split(2, 1)
        torch.testing.assert_close(torch.cat([(low + high) / 2, high - low], 1), wanted[:, :4], atol=1e-3, rtol=1e-4)
        torch.testing.assert_close(boxes.transpose(1, 2)[:, 4:], wanted[:, 4:], atol=1e-5, rtol=1e-4)


def test_a_trained_detector_finds_what_onnx_runtime_finds() -> None:
    import onnxruntime

    file = folder_of("EDGEMTL_WEIGHTS", "yolox_nano.onnx")
    source = parse(str(file))
    assert source is not None
    network = open_network(source)
    assert network.size == (416, 416) and network.heads[0].classes[2] == "car"
    image = 255 * torch.rand(1, 3, 416, 416)
    session = onnxruntime.InferenceSession(str(file))
    wanted = session.run(None, {session.get_inputs()[0].name: image.numpy()})[0]
    with torch.no_grad():
        given = network.adapter.core(image)
    np.testing.assert_allclose(given.numpy(), wanted, atol=2e-4)
    assert open_network(source, OpenOptions(input_size=(320, 320))).size == (320, 320)
