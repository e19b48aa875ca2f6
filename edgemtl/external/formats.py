"""Formats of outputs: the grids of YOLO detectors, label maps, and whatever else a network gives, as it is."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from edgemtl_export.teacher import Kind, named_outputs
from edgemtl_models.yolo_detector import cells
from edgemtl_runtime.bundle import Head, is_plain_name

from ..evaluate import UNLABELLED
from .network import OutputFormat

STRIDES = (8, 16, 32)
TINY = 1e-7
MOST_LOG_SIZE = 8.0
BOXES = "boxes"


class GridBoxes(OutputFormat):
    """Boxes of a grid of cells: ``boxes`` (B, 4, A) left, top, right, bottom in cells, ``scores`` (B, C, A) logits."""

    kinds: Mapping[str, Kind] = MappingProxyType({"boxes": "boxes", "scores": "scores"})
    centres: Tensor
    steps: Tensor

    def __init__(self, size: tuple[int, int], strides: Sequence[int] = STRIDES) -> None:
        super().__init__()
        centres, steps = cells(size, tuple(strides))
        self.register_buffer("centres", centres, persistent=False)
        self.register_buffer("steps", steps, persistent=False)

    def raw(self, outputs: Any) -> dict[str, Tensor]:
        """Return the boxes and scores."""
        return {"boxes": outputs["boxes"], "scores": outputs["scores"]}

    def of_classes(self, outputs: Any, index: Tensor) -> Any:
        """Return the outputs with some of the scores."""
        return {**outputs, "scores": outputs["scores"].index_select(1, index)}

    def boxes(self, outputs: Any) -> tuple[Tensor, Tensor]:
        """Return the corners (B, 4, A), x1 y1 x2 y2 in pixels of the input, and the scores (B, C, A) in [0, 1]."""
        left_top, right_bottom = outputs["boxes"].split(2, 1)
        corners = torch.cat([self.centres - left_top * self.steps, self.centres + right_bottom * self.steps], 1)
        return corners, outputs["scores"].sigmoid()

    def heads(self, outputs: Any) -> dict[str, Tensor]:
        """Return (B, A, 4 + C): corners and scores."""
        return {BOXES: torch.cat(self.boxes(outputs), 1).transpose(1, 2)}


class PixelGridBoxes(GridBoxes):
    """One output (B, 4 + C, A): centre and size in pixels, and scores in [0, 1]; ultralytics' own ONNX files."""

    def raw(self, outputs: Any) -> dict[str, Tensor]:
        """Return the sides' distances from their cells, in cells, and the logits of the scores."""
        corners, scores = self.boxes(outputs)
        low, high = corners.split(2, 1)
        near, far = (self.centres - low) / self.steps, (high - self.centres) / self.steps
        return {"boxes": torch.cat([near, far], 1), "scores": logit(scores)}

    def of_classes(self, outputs: Any, index: Tensor) -> Any:
        """Return the output with some of the scores."""
        return torch.cat([outputs[:, :4], outputs[:, 4:].index_select(1, index)], 1)

    def boxes(self, outputs: Any) -> tuple[Tensor, Tensor]:
        """Return the corners and scores."""
        centre, size, scores = outputs.split([2, 2, outputs.shape[1] - 4], 1)
        return torch.cat([centre - size / 2, centre + size / 2], 1), scores


class YoloxBoxes(GridBoxes):
    """One output (B, A, 5 + C): centre in cells off their corner and logarithm of the size, objectness, scores.

    YOLOX (Ge et al. 2021, arXiv 2107.08430) without the decoding of its boxes; objectness and scores are in [0, 1].
    """

    kinds: Mapping[str, Kind] = MappingProxyType({"boxes": "boxes", "scores": "scores", "objectness": "scores"})

    def raw(self, outputs: Any) -> dict[str, Tensor]:
        """Return boxes as they are, the logits of objectness, and those of objectness times class."""
        boxes, objectness, classes = self._parts(outputs)
        return {"boxes": boxes, "objectness": logit(objectness), "scores": logit(objectness * classes)}

    def of_classes(self, outputs: Any, index: Tensor) -> Any:
        """Return the output with some of the scores."""
        return torch.cat([outputs[:, :, :5], outputs[:, :, 5:].index_select(2, index)], 2)

    def boxes(self, outputs: Any) -> tuple[Tensor, Tensor]:
        """Return the corners and scores."""
        boxes, objectness, classes = self._parts(outputs)
        offset, log_size = boxes.split(2, 1)
        centre = self.centres + (offset - 0.5) * self.steps
        half = log_size.clamp(max=MOST_LOG_SIZE).exp() * self.steps / 2
        return torch.cat([centre - half, centre + half], 1), objectness * classes

    def _parts(self, outputs: Tensor) -> tuple[Tensor, ...]:
        parts: tuple[Tensor, ...] = outputs.transpose(1, 2).split([4, 1, outputs.shape[2] - 5], 1)
        return parts


class DecodedYoloxBoxes(YoloxBoxes):
    """The same with decoded boxes: centre and size in pixels."""

    def raw(self, outputs: Any) -> dict[str, Tensor]:
        """Return boxes as they were before they were decoded."""
        raw = super().raw(outputs)
        centre, size = raw["boxes"].split(2, 1)
        offset = (centre - self.centres) / self.steps + 0.5
        return raw | {"boxes": torch.cat([offset, (size / self.steps).clamp(min=TINY).log()], 1)}

    def boxes(self, outputs: Any) -> tuple[Tensor, Tensor]:
        """Return the corners and scores."""
        boxes, objectness, classes = self._parts(outputs)
        centre, size = boxes.split(2, 1)
        return torch.cat([centre - size / 2, centre + size / 2], 1), objectness * classes


class SelectedBoxes(OutputFormat):
    """One output (B, K, 6): corners in pixels, score and class of the best boxes; end-to-end files of ultralytics."""

    is_selected = True

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def raw(self, outputs: Any) -> dict[str, Tensor]:
        """Return the boxes."""
        return {BOXES: outputs}

    def heads(self, outputs: Any) -> dict[str, Tensor]:
        """Return (B, K, 4 + C): corners, and the score at its class."""
        corners, score, label = outputs.split([4, 1, 1], 2)
        of_class = label.round() == torch.arange(self.classes, dtype=label.dtype, device=label.device)
        return {BOXES: torch.cat([corners, score * of_class.to(score.dtype)], 2)}


class LabelMaps(OutputFormat):
    """One map of logits (B, C, h, w), by its path among the outputs."""

    kinds: Mapping[str, Kind] = MappingProxyType({"semantic": "logits"})

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def raw(self, outputs: Any) -> dict[str, Tensor]:
        """Return the map."""
        return {"semantic": named_outputs(outputs)[self.path]}

    def heads(self, outputs: Any) -> dict[str, Tensor]:
        """Return the map."""
        return self.raw(outputs)


class Tensors(OutputFormat):
    """Every output of numbers as it is, by name; ``kinds`` are of the names."""

    def __init__(self, paths: Mapping[str, str], kinds: Mapping[str, Kind] | None = None) -> None:
        """``paths`` are those of the outputs, by name."""
        super().__init__()
        self.paths, self.kinds = dict(paths), dict(kinds or {})

    def raw(self, outputs: Any) -> dict[str, Tensor]:
        """Return the outputs by name."""
        named = named_outputs(outputs)
        return {name: named[path] for name, path in self.paths.items()}

    def heads(self, outputs: Any) -> dict[str, Tensor]:
        """Return the outputs by name."""
        return self.raw(outputs)


def tensors_of(
    outputs: Any, names: Sequence[str] = (), classifier: bool = False, taken: Sequence[str] = ()
) -> tuple[Tensors, tuple[Head, ...], list[str]]:
    """Return the format of outputs that nobody described, a head for each, and those that are left out.

    ``names`` are given in their order; none is one of those ``taken``. Of a classifier one output is compared as
    logits. Raises ValueError where no output is of real numbers.
    """
    paths: dict[str, str] = {}
    left_out = []
    for number, (path, tensor) in enumerate(named_outputs(outputs).items()):
        given = names[number] if number < len(names) else path
        if not tensor.is_floating_point():
            left_out.append(given)
            continue
        plain = given if is_plain_name(given) else f"output{number}"
        names_of = itertools.chain([plain], (f"{plain}_{index}" for index in itertools.count(1)))
        name = next(free for free in names_of if free not in {*paths, *taken})
        paths[name] = path
    if not paths:
        raise ValueError("gives no tensor of real numbers")
    kinds: dict[str, Kind] = {name: "logits" for name in paths} if classifier and len(paths) == 1 else {}
    return Tensors(paths, kinds), tuple(Head(name, UNLABELLED, "tensor", ()) for name in paths), left_out


def logit(probability: Tensor) -> Tensor:
    """Return the logit of a probability, finite at 0 and 1."""
    return probability.clamp(TINY, 1 - TINY).logit()


class UltralyticsFile(nn.Module):
    """The core of an ultralytics detector with the output of ultralytics' own ONNX files.

    (B, 4 + C, A) centre and size in pixels and scores in [0, 1]; of one-to-one boxes (B, K, 6) corners, score and class
    of the best 300, or as many as there are cells.
    """

    MOST = 300

    def __init__(self, core: nn.Module, boxes: GridBoxes, is_one_to_one: bool) -> None:
        super().__init__()
        self.core, self.boxes, self.is_one_to_one = core, boxes, is_one_to_one

    def forward(self, images: Tensor) -> Tensor:
        """Return the boxes of images in RGB from 0 to 1."""
        corners, scores = self.boxes.boxes(self.core(images))
        if not self.is_one_to_one:
            low, high = corners.split(2, 1)
            return torch.cat([(low + high) / 2, high - low, scores], 1)
        classes = scores.shape[1]
        best, index = scores.transpose(1, 2).flatten(1).topk(min(self.MOST, scores.shape[2]))
        cell = torch.div(index, classes, rounding_mode="floor")
        chosen = corners.transpose(1, 2).gather(1, cell.unsqueeze(-1).expand(-1, -1, 4))
        label = (index - cell * classes).to(best.dtype)
        return torch.cat([chosen, best.unsqueeze(-1), label.unsqueeze(-1)], -1)
