"""An anchor-free head for boxes with a one-to-many and a one-to-one branch, so that none is suppressed.

Dual assignments: YOLOv10 (Wang et al. 2024, arXiv 2405.14458). A cell's box is its centre's distances to the sides
(FCOS, Tian et al. 2019), in cells; with ``reg_max`` over 1 each is the mean of a distribution (Li et al. 2020, arXiv
2006.04388).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from .blocks import Conv

Branch = Literal["one2many", "one2one"]
BRANCHES: tuple[Branch, ...] = ("one2many", "one2one")
FIRST_DISTANCE = 2.0
"""How far sides are from a cell's centre at first, in cells."""
OBJECTS, SIDE = 5, 640
"""How many objects an image shows whose sides have so many pixels, at a guess (YOLOv5 has these)."""


class BoxHead(nn.Module):
    """Boxes and class scores of every cell of each stride, by two branches.

    Training gives the raw predictions of both branches: ``boxes`` (B, 4 * reg_max, A), ``scores`` (B, classes, A)
    logits, ``feats``. Evaluation gives (B, A, 4 + classes): xyxy in network pixels and class scores in [0, 1], from the
    one-to-one branch alone. ``score_width`` are the channels of the hidden layers of scores; 0: as the YOLO family has
    them, by the number of classes.
    """

    def __init__(
        self, channels: list[int], strides: list[int], classes: int, reg_max: int = 1, score_width: int = 0
    ) -> None:
        super().__init__()
        self.detect = _Branches(channels, classes, reg_max, score_width)
        self.strides, self.classes, self.reg_max = strides, classes, reg_max

    def bias_init(self) -> None:
        """Start the class scores at the chance of a few objects in a large image, whatever the image's size.

        A chance that fits a small image starts with a loss of the background that outweighs its few objects.
        """
        for branch in BRANCHES:
            boxes, scores = self.detect.layers(branch)
            for box, score, stride in zip(boxes, scores, self.strides, strict=True):
                first = math.log(OBJECTS / self.classes / (SIDE / stride) ** 2)
                for layers, value in ((box, FIRST_DISTANCE), (score, first)):
                    nn.init.constant_(layers.get_parameter("2.bias"), value)

    def forward(self, features: list[Tensor]) -> Tensor | dict[str, dict[str, Tensor | list[Tensor]]]:
        """Return both raw branches in training, decoded boxes (B, A, 4 + classes) in evaluation.

        ``features`` are the trunk's; the coarsest, one a stride, are read.
        """
        features = features[-len(self.strides) :]
        if self.training:
            detached = [feature.detach() for feature in features]  # the one-to-one branch learns from what is there
            return {"one2many": self.detect("one2many", features), "one2one": self.detect("one2one", detached)}
        boxes, scores, _ = self.detect("one2one", features).values()
        assert isinstance(boxes, Tensor) and isinstance(scores, Tensor)
        centres, stride = grid(features, self.strides)
        low, high = self.detect.dfl(boxes).split(2, 1)
        xyxy = torch.cat([centres - low, centres + high], 1) * stride
        return torch.cat([xyxy, scores.sigmoid()], 1).transpose(1, 2)


def grid(features: Sequence[Tensor], strides: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return cell centres (2, A) in cells and strides (1, A) in pixels, as constants of the features' shapes."""
    centres, steps = [], []
    for feature, stride in zip(features, strides, strict=True):
        h, w = feature.shape[2:]
        y, x = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
        centres.append(torch.stack([x.flatten(), y.flatten()]))
        steps.append(torch.full((1, h * w), float(stride)))
    like = features[0]
    return torch.cat(centres, 1).to(like), torch.cat(steps, 1).to(like)


class _Branches(nn.Module):
    """The layers of both branches; parameters have the names of the YOLO family's ``Detect``."""

    def __init__(self, channels: list[int], classes: int, reg_max: int, score_width: int) -> None:
        super().__init__()
        width = max(16, channels[0] // 4, 4 * reg_max)
        score_width = score_width or max(channels[0], min(classes, 100))
        self.cv2 = nn.ModuleList(_box_layers(count, width, 4 * reg_max) for count in channels)
        self.cv3 = nn.ModuleList(_score_layers(count, score_width, classes) for count in channels)
        self.dfl: nn.Module = MeanDistance(reg_max) if reg_max > 1 else nn.Identity()
        self.one2one_cv2, self.one2one_cv3 = copy.deepcopy(self.cv2), copy.deepcopy(self.cv3)

    def layers(self, branch: Branch) -> tuple[nn.ModuleList, nn.ModuleList]:
        """Return the layers of a branch, a stack a stride: those of boxes, and those of scores."""
        return (self.cv2, self.cv3) if branch == "one2many" else (self.one2one_cv2, self.one2one_cv3)

    def forward(self, branch: Branch, features: list[Tensor]) -> dict[str, Tensor | list[Tensor]]:
        boxes, scores = (
            torch.cat([layer(feature).flatten(2) for layer, feature in zip(layers, features, strict=True)], 2)
            for layers in self.layers(branch)
        )
        return {"boxes": boxes, "scores": scores, "feats": features}


def _box_layers(channels: int, width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(Conv(channels, width, 3), Conv(width, width, 3), nn.Conv2d(width, outputs, 1))


def _score_layers(channels: int, width: int, classes: int) -> nn.Sequential:
    """Return depthwise separable convolutions (YOLOv10's lightweight head) and an output layer."""
    first, second = (
        nn.Sequential(Conv(count, count, 3, groups=count), Conv(count, width)) for count in (channels, width)
    )
    return nn.Sequential(first, second, nn.Conv2d(width, classes, 1))


class MeanDistance(nn.Module):
    """The mean of the distributions of distances over 0 to ``bins`` - 1: (B, 4 * bins, A) logits to (B, 4, A)."""

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.bins = bins
        self.conv = nn.Conv2d(bins, 1, 1, bias=False).requires_grad_(False)
        self.conv.weight.data[:] = torch.arange(bins, dtype=torch.float32).view(1, bins, 1, 1)

    def forward(self, logits: Tensor) -> Tensor:
        """Return the means."""
        batch, _, count = logits.shape
        shares = logits.view(batch, 4, self.bins, count).transpose(1, 2).softmax(1)
        out: Tensor = self.conv(shares).view(batch, 4, count)
        return out
