"""A trained detector that nobody prepared, YOLOX-nano of COCO: images without labels for it, and its AP50.

The network is `EDGEMTL_WEIGHTS/yolox_nano.onnx`; images to train on are the colour train images of rgbir, CamVid and
the kitchen, none of them with labels; its AP50 is of the boxes that are seen in rgbir's colour val images, day and
night apart. All of them are in `EDGEMTL_DATA`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.ops import batched_nms

from edgemtl.data.sample import BoxLabels
from edgemtl.tasks.matches import Matches
from edgemtl_export.cost_model.deployment import Deployment
from edgemtl_export.from_onnx import read_onnx
from edgemtl_export.teacher import Kind
from edgemtl_runtime.result import Boxes

SIZE = 320
GREY = 114
STRIDES = (8, 16, 32)
CLASS_OF = {0: 0, 1: 1, 2: 2, 5: 2, 7: 2}
"""Of COCO's person, bicycle, car, bus and truck: rgbir's person, bicycle and car."""
NAMES = ("person", "bicycle", "car")
KINDS: dict[str, Kind] = {"scores": "scores", "objectness": "scores", "boxes": "boxes"}
TINY = 1e-7
MOST_BOXES = 300


def folder(variable: str) -> Path:
    """Return the folder that a variable names."""
    return Path(os.environ[variable])


class Yolox(nn.Module):
    """Images of 0 to 255 in BGR, (B, 3, H, W), to boxes, objectness and scores, (B, 4 | 1 | 80, places)."""

    def __init__(self, size: int = SIZE) -> None:
        super().__init__()
        file = Path(os.environ["EDGEMTL_WEIGHTS"]) / "yolox_nano.onnx"
        self.network = read_onnx(file, {"images": (1, 3, size, size)})

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        answer = self.network(images)
        assert isinstance(answer, Tensor)
        boxes, objectness, classes = answer.transpose(1, 2).split([4, 1, 80], 1)
        return {"boxes": boxes, "objectness": _logit(objectness), "scores": _logit(objectness * classes)}

    @property
    def deployment(self) -> Deployment:
        """What runs on a device: the file's own network."""
        return Deployment(self.network, self.network.example_inputs)


def _logit(probability: Tensor) -> Tensor:
    return probability.clamp(TINY, 1 - TINY).logit()


def without_labels(seed: int, batch: int, steps: int, images: Sequence[NDArray[np.uint8]]) -> Iterator[Tensor]:
    """Yield batches of random crops, mirrored and of other brightness, (batch, 3, SIZE, SIZE)."""
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        chosen = [images[i] for i in rng.choice(len(images), batch, replace=False)]
        yield torch.from_numpy(np.stack([_augmented(image, rng) for image in chosen])).float()


def training_images() -> list[NDArray[np.uint8]]:
    """Return the training images, (H, W, 3) in BGR."""
    data = Path(os.environ["EDGEMTL_DATA"])
    folders = [data / "rgbir/rgb/train", data / "dense/camvid/train/rgb", data / "dense/rgbd/train/rgb"]
    return [cv2.imread(str(file)) for folder in folders for file in sorted(folder.iterdir())]  # type: ignore[misc]


def _augmented(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a crop in a square of `SIZE`, top left on grey, (3, SIZE, SIZE)."""
    height, width = image.shape[:2]
    scale = np.exp(rng.uniform(np.log(0.4), 0.0))
    h, w = max(64, int(scale * height)), max(64, int(scale * width))
    top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
    crop = image[top : top + h, left : left + w, ::1][:, :: -1 if rng.random() < 0.5 else 1]
    bright = np.clip(crop * rng.uniform(0.5, 1.4) + rng.uniform(-15, 15), 0, 255).astype(np.uint8)
    return letterboxed(bright)[0]


def letterboxed(image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float]:
    """Return an image in a square of `SIZE`, top left on grey, (3, SIZE, SIZE), and how much it is enlarged."""
    height, width = image.shape[:2]
    ratio = SIZE / max(height, width)
    resized = cv2.resize(image, (round(width * ratio), round(height * ratio)), interpolation=cv2.INTER_LINEAR)
    square = np.full((SIZE, SIZE, 3), GREY, np.uint8)
    square[: resized.shape[0], : resized.shape[1]] = resized
    return square.transpose(2, 0, 1), ratio


@torch.no_grad()
def ap50(network: nn.Module, split: str = "val") -> dict[str, float]:
    """Return the mean AP50 of the three classes on rgbir's colour images, by ``day`` and by ``night``."""
    data = Path(os.environ["EDGEMTL_DATA"]) / "rgbir"
    training = network.training
    network.eval()
    out = {}
    for suffix, name in (("D", "day"), ("N", "night")):
        matches = Matches(len(NAMES))
        for file in sorted((data / "rgb" / split).glob(f"*{suffix}.jpg")):
            image = cv2.imread(str(file))
            assert image is not None
            square, ratio = letterboxed(image)  # type: ignore[arg-type]
            labels = _labels(data / "labels_rgb" / split / f"{file.stem}.txt", image.shape[1], image.shape[0])
            matches.update(_decoded(network(torch.from_numpy(square)[None].float()), ratio), labels)
        times = np.ones(len(matches.objects), np.int64)
        out[name] = float(np.nanmean([of_class.ap50(times) for of_class in matches.by_class()]))
    network.train(training)
    return out


def _labels(file: Path, width: int, height: int) -> BoxLabels:
    rows = np.array([line.split() for line in file.read_text().splitlines()], np.float64).reshape(-1, 5)
    centre, size = rows[:, 1:3] * [width, height], rows[:, 3:] * [width, height]
    xyxy = np.hstack([centre - size / 2, centre + size / 2]).astype(np.float32)
    return BoxLabels(xyxy, rows[:, 0].astype(np.int64))


def _decoded(outputs: dict[str, Tensor], ratio: float) -> Boxes:
    """Return the boxes of one image by class, overlapping ones suppressed."""
    sides = [SIZE // stride for stride in STRIDES]
    grid = torch.cat(
        [torch.stack(torch.meshgrid(*[torch.arange(n)] * 2, indexing="xy"), -1).reshape(-1, 2) for n in sides]
    )
    stride = torch.cat([torch.full((n * n, 1), float(s)) for n, s in zip(sides, STRIDES, strict=True)])
    numbers, scores = outputs["boxes"][0].T, outputs["scores"][0].sigmoid()
    centre, size = (numbers[:, :2] + grid) * stride, numbers[:, 2:].exp() * stride
    xyxy = torch.cat([centre - size / 2, centre + size / 2], 1) / ratio
    best, coco = scores.max(0)
    keep = torch.tensor([int(c) in CLASS_OF for c in coco]) & (best > 1e-3)
    xyxy, best = xyxy[keep], best[keep]
    classes = torch.tensor([CLASS_OF[int(c)] for c in coco[keep]], dtype=torch.int64)
    chosen = batched_nms(xyxy, best, classes, 0.6)[:MOST_BOXES]
    return Boxes(xyxy[chosen].numpy(), best[chosen].numpy(), classes[chosen].numpy(), NAMES)
