"""Overlap of boxes that are given pair by pair: IoU, and IoU less what else sets two boxes apart (CIoU)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

TINY = 1e-7


def paired_iou(left: Tensor, right: Tensor) -> Tensor:
    """Return the complete IoU (Zheng et al. 2020, arXiv 1911.08287) of xyxy boxes, (..., 4) each, broadcast.

    IoU, less the squared distance of the centres as a share of the squared diagonal of the box around both, less a
    weighted difference of their aspect ratios.
    """
    (l_low, l_high), (r_low, r_high) = left.split(2, -1), right.split(2, -1)
    l_size, r_size = l_high - l_low, r_high - r_low
    inside = (torch.minimum(l_high, r_high) - torch.maximum(l_low, r_low)).clamp(min=0).prod(-1)
    iou = inside / (l_size.prod(-1) + r_size.prod(-1) - inside + TINY)
    around = (torch.maximum(l_high, r_high) - torch.minimum(l_low, r_low)).square().sum(-1) + TINY
    apart = ((l_low + l_high - r_low - r_high) / 2).square().sum(-1)
    angles = [torch.atan(size[..., 0] / (size[..., 1] + TINY)) for size in (l_size, r_size)]
    aspect = (angles[0] - angles[1]).square() * (4 / math.pi**2)
    with torch.no_grad():
        weight = aspect / (1 - iou + aspect + TINY)
    out: Tensor = iou - apart / around - aspect * weight
    return out
