"""Letterbox in the graph: images of the camera's size in, results in the camera's pixels out.

The same arithmetic as `edgemtl_runtime.letterbox`, in operators that every back end has: gathers, products and sums.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgemtl_runtime.bundle import Input
from edgemtl_runtime.letterbox import Letterbox

Size = tuple[int, int]
NEGLIGIBLE = 1e-3
"""Parts of a pixel that OpenCV leaves out."""
NO_SCORE = -1.0
"""Of a point in the padding: below every threshold."""
BOXES = ("topk_boxes", "nms_boxes")
"""Decoders whose rows begin with a box."""
MAPS = ("label_map", "depth_map", "normal_map", "edge_map", "scalar_map", "vector_map")
"""Decoders of maps, (B, H, W[, C])."""


def at_camera_size(inputs: tuple[Input, ...], size: Size | None) -> tuple[Input, ...]:
    """Return inputs that take images of ``size`` (height, width); as they are where it is None."""
    if size is None:
        return inputs
    return tuple(msgspec.structs.replace(spec, height=size[0], width=size[1]) for spec in inputs)


class GraphLetterbox(nn.Module):
    """Letterbox of images of one size to a network's, and of its decoded outputs back."""

    def __init__(self, camera_size: Size, network_size: Size) -> None:
        super().__init__()
        self.plan = plan = Letterbox.plan(camera_size, network_size)
        self.inside = plan.scaled_height, plan.scaled_width
        self.rows = nn.Buffer(nearest(self.inside[0], plan.camera_height), persistent=False)
        self.columns = nn.Buffer(nearest(self.inside[1], plan.camera_width), persistent=False)
        self.resize = None if self.inside == camera_size else Resize(camera_size, self.inside)

    def to_network(self, pixels: Tensor, blank: int) -> Tensor:
        """Return camera values (B, C, H, W) in [0, 255] at the network's size, padded with ``blank``."""
        plan = self.plan
        scaled = pixels if self.resize is None else self.resize(pixels)
        after = plan.width - plan.scaled_width, plan.height - plan.scaled_height
        return functional.pad(scaled, (0, after[0], 0, after[1]), value=float(blank)) if any(after) else scaled

    def to_camera(self, output: Tensor, decoder: str) -> Tensor:
        """Return a decoded output in camera pixels."""
        if decoder in BOXES:
            return torch.cat([output[..., :4] / self.plan.scale, output[..., 4:]], -1)
        if decoder == "points":
            xy, score, label = output[..., :2], output[..., 2:3], output[..., 3:]
            is_inside = (xy[..., :1] <= self.inside[1]) & (xy[..., 1:] <= self.inside[0])
            score = torch.where(is_inside, score, torch.full_like(score, NO_SCORE))
            return torch.cat([xy / self.plan.scale, score, label], -1)
        if decoder not in MAPS:
            return output
        if self.inside == (self.plan.camera_height, self.plan.camera_width):
            return output[:, : self.inside[0], : self.inside[1]]
        return output.index_select(1, self.rows).index_select(2, self.columns)


class Resize(nn.Module):
    """Resize by pixel areas where it gets smaller, else linearly, as OpenCV does; values stay whole numbers."""

    def __init__(self, size: Size, to: Size) -> None:
        super().__init__()
        by_area = to[0] < size[0]
        self.block = (size[0] // to[0], size[1] // to[1])
        self.in_blocks = by_area and size[0] % to[0] == 0 and size[1] % to[1] == 0
        if not self.in_blocks:
            taps = area_taps if by_area else linear_taps
            self.columns, self.rows = Taps(*taps(size[1], to[1])), Taps(*taps(size[0], to[0]))

    def forward(self, pixels: Tensor) -> Tensor:
        """Return (B, C, H, W) values at the other size."""
        if not self.in_blocks:
            resized: Tensor = self.rows(self.columns(pixels, 3), 2)
            return resized.round()
        mean = functional.avg_pool2d(pixels, self.block)
        # OpenCV rounds the mean of four pixels up where it is halfway, any other to the even number.
        return (mean + 0.5).floor() if self.block == (2, 2) else mean.round()


class Taps(nn.Module):
    """Each new value as a sum of a few of an axis, each with its share."""

    def __init__(self, indices: Tensor, shares: Tensor) -> None:
        super().__init__()
        self.indices, self.shares = nn.Buffer(indices, persistent=False), nn.Buffer(shares, persistent=False)

    def forward(self, values: Tensor, axis: int) -> Tensor:
        """Return values (B, C, H, W) resized along an axis."""
        shape = [-1 if dim == axis else 1 for dim in range(values.ndim)]
        parts = (
            values.index_select(axis, index) * share.view(shape)
            for index, share in zip(self.indices, self.shares, strict=True)
        )
        return sum(parts, start=torch.zeros((), device=values.device))


def area_taps(size: int, to: int) -> tuple[Tensor, Tensor]:
    """Return source pixels and shares, (taps, to) each, of pixels that cover several: OpenCV's INTER_AREA."""
    taps = [list(_covered(size, to, index)) for index in range(to)]
    return _as_tensors(taps)


def _covered(size: int, to: int, index: int) -> Iterator[tuple[int, float]]:
    """Yield the source pixels that a pixel covers, and the part of it that each is."""
    ratio = size / to
    begin = index * ratio
    end, cell = begin + ratio, min(ratio, size - begin)
    last = min(math.floor(end), size - 1)
    whole = min(math.ceil(begin), last)
    if whole - begin > NEGLIGIBLE:
        yield whole - 1, (whole - begin) / cell
    for pixel in range(whole, last):
        yield pixel, 1 / cell
    if end - last > NEGLIGIBLE:
        yield last, min(end - last, 1.0, cell) / cell


def linear_taps(size: int, to: int) -> tuple[Tensor, Tensor]:
    """Return two source pixels and their shares, (2, to) each: linear interpolation between pixel centres."""
    taps = []
    for index in range(to):
        centre = min(max((index + 0.5) * size / to - 0.5, 0.0), size - 1.0)
        first = min(int(centre), max(size - 2, 0))
        taps.append([(first, 1 - (centre - first)), (min(first + 1, size - 1), centre - first)])
    return _as_tensors(taps)


def _as_tensors(taps: list[list[tuple[int, float]]]) -> tuple[Tensor, Tensor]:
    """Return taps as (taps, to) indices and shares; where there are fewer, with shares of 0."""
    most = max(map(len, taps))
    padded = [row + [(row[-1][0], 0.0)] * (most - len(row)) for row in taps]
    indices = torch.tensor([[pixel for pixel, _ in row] for row in padded])
    return indices.T.contiguous(), torch.tensor([[share for _, share in row] for row in padded]).T.contiguous()


def nearest(size: int, to: int) -> Tensor:
    """Return the source pixel whose centre is nearest to that of each of ``to`` pixels."""
    return torch.tensor([min(int((index + 0.5) * size / to), size - 1) for index in range(to)])
