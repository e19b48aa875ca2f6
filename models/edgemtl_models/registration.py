"""Cameras that are out of line: how far another camera's features lie from the first one's, and bringing them back.

A rig's cameras never look quite the same way, and less so with every knock. The features of two streams that began as
one still answer to the same edges, so that their normalised cross-correlation over a few cells around no shift at all
has its peak where the other picture lies (template matching as by Lewis 1995, "Fast normalized cross-correlation", on
features instead of grey levels); a soft arg max makes of it a shift in parts of a cell that can be learned through
(Kendall et al. 2017, arXiv:1703.04309). One shift is found for the whole picture: it mends a knocked or drifted rig,
not a turn, and no parallax. All is slices, products and sums, which every inference engine has.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

EPSILON = 1e-6


class Registration(nn.Module):
    """Finds by how many cells, across and down, a camera's features are shifted from the first one's: (B, 2).

    ``reach`` is the most it looks for, in cells; pictures have four times as many at least. Where the two have nothing
    in common, as when one shows noise, no shift is likelier than the others, and what is found is none.
    """

    def __init__(self, reach: int = 2) -> None:
        super().__init__()
        self.reach = reach
        self.sharpness = nn.Parameter(torch.tensor(math.log(60.0)))
        steps = torch.arange(-reach, reach + 1.0)
        across, down = torch.meshgrid(steps, steps, indexing="xy")
        self.register_buffer("shifts", torch.stack([across.flatten(), down.flatten()], 1), persistent=False)

    def forward(self, first: Tensor, other: Tensor) -> Tensor:
        """Return the shift of ``other`` from ``first``, (B, C, H, W) each, in cells."""
        reach, (height, width) = self.reach, first.shape[-2:]
        first, other = (f.float() - f.float().mean((2, 3), keepdim=True) for f in (first, other))
        rows, columns = height - 2 * reach, width - 2 * reach
        middle = first[:, :, reach : reach + rows, reach : reach + columns]
        places = [(y, x) for y in range(2 * reach + 1) for x in range(2 * reach + 1)]
        products = [(middle * other[:, :, y : y + rows, x : x + columns]).mean((1, 2, 3)) for y, x in places]
        sizes = [(f.square().mean((1, 2, 3)) + EPSILON).sqrt() for f in (middle, other)]
        alike = torch.stack(products, 1) / (sizes[0] * sizes[1])[:, None]
        likely = (self.sharpness.exp() * alike).softmax(1)
        return likely @ self.shifts  # type: ignore[operator]


def moved_back(features: Tensor, shift: Tensor) -> Tensor:
    """Return features (B, C, H, W) moved against a ``shift`` (B, 2) in their cells; the edges are repeated outwards."""
    height, width = features.shape[-2:]
    down, across = hats(height, shift[:, 1]), hats(width, shift[:, 0])
    return down @ features.to(down.dtype) @ across.transpose(-1, -2)


def hats(count: int, shift: Tensor) -> Tensor:
    """Return (B, 1, count, count): row i weighs the cells around i + shift, linearly, inside the picture."""
    cells = torch.arange(count, device=shift.device, dtype=shift.dtype)
    at = (cells[None, :, None] + shift[:, None, None]).clamp(0, count - 1)
    return (1 - (at - cells).abs()).clamp(min=0)[:, None]
