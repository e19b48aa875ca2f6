"""Loss of a box head: each cell's class scores, its box's overlap with its object, and the distances to its sides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .assignment import Assigner, Assignment, Objects
from .box_head import BRANCHES, BoxHead, Branch, grid
from .box_overlap import paired_iou

ASSIGNERS: Mapping[Branch, Assigner] = {"one2many": Assigner(10, 10), "one2one": Assigner(7, 1)}
FIRST_SHARE, LAST_SHARE = 0.8, 0.1
"""The weight of the one-to-many branch at the beginning and at the end of a training; the other has the rest."""


class BoxLoss:
    """Box, class and distance losses of both branches, the weight moving from one-to-many to one-to-one.

    ``epochs`` is how often `advance` is called over a training. Classes by binary cross-entropy with the alignment as
    the target (TOOD), boxes by complete IoU, distances by their distribution (DFL) or, where a head has none, by L1 of
    shares of the image (DETR, Carion et al. 2020); ``box``, ``cls`` and ``dfl`` are their weights.
    """

    def __init__(self, head: BoxHead, epochs: int, box: float = 7.5, cls: float = 0.5, dfl: float = 1.5) -> None:
        self.head, self.epochs, self.advanced = head, epochs, 0
        self.weights = box, cls, dfl

    def __call__(self, raw: Mapping[str, Mapping[str, Any]], target: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return each branch's loss summed over what was assigned, (2,), and the weight of all that, (2,).

        For ``batch_idx`` (N,), ``cls`` (N,) and ``bboxes`` (N, 4): normalised centre x, centre y, width, height.
        ``raw`` is of single or double precision, and so is what comes out.
        """
        losses, weights = zip(*(self._branch(name, raw[name], target) for name in BRANCHES), strict=True)
        many = self.share_of_many
        return torch.stack([many * losses[0], (1 - many) * losses[1]]), torch.stack(weights)

    @property
    def share_of_many(self) -> float:
        """The present weight of the one-to-many branch."""
        left = max(0.0, 1 - self.advanced / max(self.epochs - 1, 1))
        return LAST_SHARE + (FIRST_SHARE - LAST_SHARE) * left

    def advance(self) -> None:
        """Move the weight one step from the one-to-many to the one-to-one branch."""
        self.advanced += 1

    def _branch(self, name: Branch, raw: Mapping[str, Any], target: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        centres, stride = grid(raw["feats"], self.head.strides)
        logits, boxes = raw["scores"].transpose(1, 2), raw["boxes"]
        distances = self.head.detect.dfl(boxes)
        low, high = distances.split(2, 1)
        xyxy = (torch.cat([centres - low, centres + high], 1) * stride).transpose(1, 2)
        size = self._size(raw)
        objects = padded(target, len(logits), size)
        positions = (centres * stride).T
        assignment = ASSIGNERS[name](logits.sigmoid(), xyxy.detach(), positions, objects)
        weight = assignment.scores.sum()
        box, cls, dfl = self.weights
        classes = functional.binary_cross_entropy_with_logits(logits, assignment.scores, reduction="sum")
        if not assignment.assigned.any():
            return cls * classes + 0.0 * boxes.sum(), weight
        of_cell = assignment.scores.sum(-1)[assignment.assigned]
        overlap = paired_iou(xyxy[assignment.assigned], assignment.xyxy[assignment.assigned])
        far = self._distance_loss(boxes, distances, positions, stride, assignment, size)
        return cls * classes + box * ((1 - overlap) * of_cell).sum() + dfl * (far * of_cell).sum(), weight

    def _size(self, raw: Mapping[str, Any]) -> Tensor:
        """Return the image's width and height in pixels, (2,)."""
        boxes: Tensor = raw["boxes"]
        height, width = raw["feats"][0].shape[-2:]
        return self.head.strides[0] * boxes.new_tensor([width, height])

    def _distance_loss(
        self, boxes: Tensor, distances: Tensor, positions: Tensor, stride: Tensor, assignment: Assignment, size: Tensor
    ) -> Tensor:
        """Return the loss of the distances of every cell that has an object."""
        image, cell = assignment.assigned.nonzero(as_tuple=True)
        position, step = positions[cell], stride[0, cell].unsqueeze(-1)
        wanted = torch.cat(
            [position - assignment.xyxy[image, cell, :2], assignment.xyxy[image, cell, 2:] - position], 1
        )
        if self.head.reg_max == 1:
            shares = (distances[image, :, cell] * step - wanted) / size.repeat(2)
            return shares.abs().mean(1)
        return distribution_loss(boxes[image, :, cell].view(-1, 4, self.head.reg_max), wanted / step).mean(1)


def distribution_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """Return the distribution focal loss of (N, 4, bins) logits for distances (N, 4) in cells, (N, 4)."""
    bins = logits.shape[-1]
    wanted = wanted.clamp(0, bins - 1 - 0.01)
    below = wanted.floor()
    upper = wanted - below
    log_shares = logits.log_softmax(-1)
    at_below, at_above = (log_shares.gather(-1, index.long().unsqueeze(-1)).squeeze(-1) for index in (below, below + 1))
    return -(at_below * (1 - upper) + at_above * upper)


def padded(target: dict[str, Tensor], batch: int, size: Tensor) -> Objects:
    """Return the objects of a batch by image, in pixels of an image of ``size`` (width, height), as ``size`` is."""
    image, boxes = target["batch_idx"].long(), target["bboxes"].to(size)
    device = boxes.device
    counts = torch.bincount(image, minlength=batch) if len(image) else torch.zeros(batch, dtype=torch.long)
    most = int(counts.max()) if batch else 0
    centre, sides = (boxes.view(-1, 4) * size.repeat(2)).split(2, 1)
    xyxy = boxes.new_zeros(batch, most, 4)
    classes = torch.zeros(batch, most, dtype=torch.long, device=device)
    known = torch.zeros(batch, most, dtype=torch.bool, device=device)
    order = image.argsort(stable=True)
    row = torch.arange(len(image), device=device) - (counts.cumsum(0) - counts)[image[order]]
    where = image[order], row
    xyxy[where] = torch.cat([centre - sides / 2, centre + sides / 2], 1)[order]
    classes[where] = target["cls"].long().view(-1)[order]
    known[where] = True
    return Objects(classes, xyxy, known)
