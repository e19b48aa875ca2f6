"""Task-aligned assignment of cells to objects (TOOD, Feng et al. 2021, arXiv 2108.07755)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .box_overlap import paired_iou

TINY = 1e-9


class Objects(NamedTuple):
    """The objects of a batch, padded to the most that an image has."""

    classes: Tensor
    """(B, N) whole numbers."""
    xyxy: Tensor
    """(B, N, 4) in pixels."""
    known: Tensor
    """(B, N), whether there is one."""


class Assignment(NamedTuple):
    """The target of each cell."""

    scores: Tensor
    """(B, A, classes): how well the cell's box is aligned, for its object's class."""
    xyxy: Tensor
    """(B, A, 4): its object's box in pixels; of no meaning where there is none."""
    assigned: Tensor
    """(B, A), whether it has an object."""


@dataclass(frozen=True)
class Assigner:
    """Gives each object the cells within it that are best aligned: by score^``alpha`` times IoU^``beta``.

    Of the ``candidates`` best cells each object keeps the ``most`` best that no other object overlaps more. An object
    narrower than ``least_side`` pixels may have the cells within that distance.
    """

    candidates: int
    most: int
    alpha: float = 0.5
    beta: float = 6.0
    least_side: float = 16.0

    @torch.no_grad()
    def __call__(self, scores: Tensor, xyxy: Tensor, centres: Tensor, objects: Objects) -> Assignment:
        """Assign cells by their scores (B, A, classes) in [0, 1], boxes (B, A, 4) and centres (A, 2), in pixels."""
        batch, cells, classes = scores.shape
        if not objects.classes.shape[1]:
            nothing = torch.zeros(batch, cells, dtype=torch.bool, device=scores.device)
            return Assignment(torch.zeros_like(scores), torch.zeros_like(xyxy), nothing)
        inside = self._inside(centres, objects.xyxy) & objects.known.unsqueeze(-1)
        overlap = paired_iou(objects.xyxy.unsqueeze(2), xyxy.unsqueeze(1)).clamp(min=0) * inside
        index = objects.classes.long().unsqueeze(-1).expand(-1, -1, cells)
        of_class = scores.transpose(1, 2).gather(1, index)
        alignment = of_class.pow(self.alpha) * overlap.pow(self.beta) * inside
        chosen = _best(alignment, self.candidates) & inside
        rival = chosen.sum(1) > 1  # cells that several objects want: the one that overlaps most has them
        nearest = torch.zeros_like(chosen).scatter(1, overlap.argmax(1, keepdim=True), True)
        chosen = torch.where(rival.unsqueeze(1), nearest & chosen.any(1, keepdim=True), chosen)
        if self.most < self.candidates:
            chosen &= _best(alignment * chosen, self.most)
        return self._targets(chosen, alignment, overlap, objects, classes)

    def _inside(self, centres: Tensor, xyxy: Tensor) -> Tensor:
        """Return which cells' centres (A, 2) lie in boxes (B, N, 4), (B, N, A)."""
        low, high = xyxy.unsqueeze(2).split(2, -1)
        middle, half = (low + high) / 2, ((high - low) / 2)
        half = torch.where(2 * half < self.least_side, self.least_side / 2, half)
        out: Tensor = ((centres - middle).abs() < half).all(-1)
        return out

    @staticmethod
    def _targets(chosen: Tensor, alignment: Tensor, overlap: Tensor, objects: Objects, classes: int) -> Assignment:
        alignment, overlap = alignment * chosen, overlap * chosen
        scale = overlap.amax(2, keepdim=True) / (alignment.amax(2, keepdim=True) + TINY)
        score, owner = (alignment * scale).amax(1), chosen.int().argmax(1)  # (B, A)
        assigned = chosen.any(1)
        xyxy = objects.xyxy.gather(1, owner.unsqueeze(-1).expand(-1, -1, 4))
        label = objects.classes.long().gather(1, owner).unsqueeze(-1)
        blank = torch.zeros(*owner.shape, classes, dtype=score.dtype, device=score.device)
        return Assignment(blank.scatter(2, label, (score * assigned).unsqueeze(-1)), xyxy, assigned)


def _best(alignment: Tensor, count: int) -> Tensor:
    """Return which cells are among the ``count`` best aligned of each object, (B, N, A)."""
    index = alignment.topk(min(count, alignment.shape[-1]), -1).indices
    return torch.zeros_like(alignment, dtype=torch.bool).scatter(-1, index, True)
