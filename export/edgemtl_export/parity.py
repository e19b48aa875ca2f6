"""Parity of a shrunk network and its bundle with the trained network, head by head on the same frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from edgemtl_runtime.bundle import Head

MAX_RAW_DIFFERENCE = 1e-3
"""Largest absolute difference of a raw head in float32, shrunk against trained."""
ROUNDING = 1e-5
"""Or so much of the head's largest value, where that is more: a network's outputs may be of any size."""
MIN_PIXEL_AGREEMENT = 0.999
"""Share of a map's pixels that must agree."""
EXACT_DECODERS = ("topk_boxes", "points", "attributes", "scalars")
"""Decoders of which every single value must agree."""


class ParityError(RuntimeError):
    """The shipped network's outputs differ from the trained one's by more than the limits."""


def raw_difference(
    trained: nn.Module, small: nn.Module, frames: Sequence[dict[str, Tensor]]
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the largest absolute difference of every raw head over normalised frames, and the head's largest value.

    A difference is NaN where anything is NaN.
    """
    largest: dict[str, float] = {}
    sizes: dict[str, float] = {}
    with torch.inference_mode():
        for frame in frames:
            expected, actual = trained(**frame), small(**frame)
            for name in actual:
                difference = float((expected[name] - actual[name]).abs().max())
                largest[name] = float(np.maximum(largest.get(name, 0.0), difference))  # keeps NaN
                sizes[name] = max(sizes.get(name, 0.0), float(expected[name].abs().max()))
    return largest, sizes


def check(
    raw: dict[str, float], agreement: dict[str, float], heads: Sequence[Head], sizes: Mapping[str, float] | None = None
) -> None:
    """Raise `ParityError` with the figures of a head that is beyond its limit; ``sizes`` are its largest values."""
    for head in heads:
        allowed = max(MAX_RAW_DIFFERENCE, ROUNDING * (sizes or {}).get(head.name, 0.0))
        if head.name in raw and not raw[head.name] <= allowed:  # also when NaN
            raise ParityError(
                f"{head.name}: the shrunk network's raw head is off by {raw[head.name]:.2e} ({allowed:.2g} allowed)"
            )
        required = 1.0 if head.decoder in EXACT_DECODERS else MIN_PIXEL_AGREEMENT
        if not agreement[head.name] >= required:
            raise ParityError(
                f"{head.name}: only {agreement[head.name]:.3%} of the bundle's output agrees with the run "
                f"({required:.1%} required)"
            )
