"""Registration of misaligned modalities by their features: the shift between two streams, and shifting one back.

A rig's cameras never look quite the same way, and less so with every knock. The features of two streams that began as
one still answer to the same edges, so that their normalised cross-correlation over a few cells around no shift at all
has its peak where the other image lies (template matching as by Lewis 1995, "Fast normalized cross-correlation", on
features instead of grey levels); a soft arg max makes of it a sub-cell shift that gradients go through (Kendall et al.
2017, arXiv:1703.04309). One shift is estimated for the whole image: it corrects a knocked or drifted rig, no rotation
and no parallax. All is slices, products and sums, which every inference engine has.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

EPSILON = 1e-6


class Registration(nn.Module):
    """Estimates by how many cells, across and down, a modality's features are shifted from the first's: (B, 2).

    ``radius`` is the largest shift, in cells; images have four times as many at least. Where the two have nothing in
    common, as when one shows noise, no shift is likelier than the others, and the estimate is none.
    """

    def __init__(self, radius: int = 2) -> None:
        super().__init__()
        self.radius = radius
        self.sharpness = nn.Parameter(torch.tensor(math.log(60.0)))
        steps = torch.arange(-radius, radius + 1.0)
        across, down = torch.meshgrid(steps, steps, indexing="xy")
        self.shifts: Tensor
        self.register_buffer("shifts", torch.stack([across.flatten(), down.flatten()], 1), persistent=False)

    def forward(self, first: Tensor, other: Tensor) -> Tensor:
        """Return the shift of ``other`` from ``first``, (B, C, H, W) each, in cells."""
        radius, (height, width) = self.radius, first.shape[-2:]
        first, other = (f.float() - f.float().mean((2, 3), keepdim=True) for f in (first, other))
        rows, columns = height - 2 * radius, width - 2 * radius
        centre = first[:, :, radius : radius + rows, radius : radius + columns]
        offsets = [(y, x) for y in range(2 * radius + 1) for x in range(2 * radius + 1)]
        products = [(centre * other[:, :, y : y + rows, x : x + columns]).mean((1, 2, 3)) for y, x in offsets]
        norms = [(f.square().mean((1, 2, 3)) + EPSILON).sqrt() for f in (centre, other)]
        correlation = torch.stack(products, 1) / (norms[0] * norms[1])[:, None]
        probability = (self.sharpness.exp() * correlation).softmax(1)
        return probability @ self.shifts


def shifted_back(features: Tensor, shift: Tensor) -> Tensor:
    """Return features (B, C, H, W) shifted by the negative of ``shift`` (B, 2), in cells; edges are repeated."""
    height, width = features.shape[-2:]
    down, across = interpolation_matrix(height, shift[:, 1]), interpolation_matrix(width, shift[:, 0])
    return down @ features.to(down.dtype) @ across.transpose(-1, -2)


def interpolation_matrix(count: int, shift: Tensor) -> Tensor:
    """Return (B, 1, count, count): row i interpolates linearly at cell i + shift, inside the image."""
    cells = torch.arange(count, device=shift.device, dtype=shift.dtype)
    position = (cells[None, :, None] + shift[:, None, None]).clamp(0, count - 1)
    return (1 - (position - cells).abs()).clamp(min=0)[:, None]
