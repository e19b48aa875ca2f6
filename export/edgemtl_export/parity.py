"""Two artefacts on the same frames: how far apart are they, a figure a head?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from edgemtl_runtime.bundle import Head

RAW_LIMIT = 1e-3
"""Largest absolute difference of a raw head, shrunk against given, in float32."""
SAME_PIXELS = 0.999
"""Share of a map's pixels that must agree."""
ALL_AGREE = ("topk_boxes", "attributes")
"""Decoders of which every single value must agree."""


class ParityError(RuntimeError):
    """The shipped network does not answer as the trained one does."""


def raw_difference(given: nn.Module, small: nn.Module, frames: Sequence[dict[str, Tensor]]) -> dict[str, float]:
    """Return the largest absolute difference of every raw head over the frames; NaN when anything is."""
    worst: dict[str, float] = {}
    with torch.inference_mode():
        for frame in frames:
            expected, found = given(**frame), small(**frame)
            for name in found:
                difference = float((expected[name] - found[name]).abs().max())
                worst[name] = float(np.maximum(worst.get(name, 0.0), difference))  # keeps NaN
    return worst


def check(raw: dict[str, float], agreed: dict[str, float], heads: Sequence[Head]) -> None:
    """Raise `ParityError` with the figures when a head is past its limit."""
    for head in heads:
        if head.name in raw and not raw[head.name] <= RAW_LIMIT:  # also when NaN
            raise ParityError(
                f"{head.name}: the shrunk network's raw head is off by {raw[head.name]:.2e} ({RAW_LIMIT} allowed)"
            )
        required = 1.0 if head.decoder in ALL_AGREE else SAME_PIXELS
        if not agreed[head.name] >= required:
            raise ParityError(
                f"{head.name}: only {agreed[head.name]:.3%} of the bundle's output agrees with the run "
                f"({required:.1%} required)"
            )
