"""Parity of a shrunk network and its bundle with the trained network, head by head on the same frames."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from edgemtl_runtime.bundle import Head

MAX_RAW_DIFFERENCE = 1e-3
"""Largest absolute difference of a raw head in float32, shrunk against trained."""
ROUNDING = 1e-5
"""Or so much of the head's largest value, where that is more: a network's outputs may be of any size."""
MORE_ROUNDING = 5.0
"""Or so many times what the trained network loses by computing in float32: sums in another order lose as much."""
MIN_PIXEL_AGREEMENT = 0.999
"""Share of a map's pixels that must agree."""
EXACT_DECODERS = ("topk_boxes", "points", "attributes", "scalars")
"""Decoders of which every single value must agree."""


class ParityError(RuntimeError):
    """The shipped network's outputs differ from the trained one's by more than the limits."""


@dataclass(frozen=True)
class RawDifference:
    """How far raw heads are from the trained network's over some frames, by head."""

    largest: dict[str, float]
    """The largest absolute difference; NaN where anything is NaN."""
    sizes: dict[str, float]
    """The head's largest value."""
    rounding: dict[str, float]
    """How far the trained network in float32 is from itself in float64; nothing where it does not run in that."""


def raw_difference(trained: nn.Module, small: nn.Module, frames: Sequence[dict[str, Tensor]]) -> RawDifference:
    """Compare the raw heads of a trained and a shrunk network over normalised frames."""
    difference = RawDifference({}, {}, {})
    exact = _in_double(trained)
    with torch.inference_mode():
        for frame in frames:
            expected, actual = trained(**frame), small(**frame)
            truth = exact(frame)
            for name in actual:
                _keep_largest(difference.largest, name, expected[name], actual[name])
                _keep_largest(difference.sizes, name, expected[name], torch.zeros_like(expected[name]))
                if truth is not None:
                    _keep_largest(difference.rounding, name, truth[name], expected[name])
    return difference


def _keep_largest(largest: dict[str, float], name: str, left: Tensor, right: Tensor) -> None:
    difference = float((left - right).abs().max())
    largest[name] = float(np.maximum(largest.get(name, 0.0), difference))  # keeps NaN


def _in_double(network: nn.Module) -> Callable[[dict[str, Tensor]], dict[str, Tensor] | None]:
    """Return what runs a network in float64, or returns None where it cannot be run so."""
    exact = copy.deepcopy(network).double()

    def run(frame: dict[str, Tensor]) -> dict[str, Tensor] | None:
        try:
            outputs: dict[str, Tensor] = exact(**{name: image.double() for name, image in frame.items()})
        except Exception:  # a network of single precision fails in any way
            return None
        return outputs

    return run


def check(raw: RawDifference, agreement: dict[str, float], heads: Sequence[Head]) -> None:
    """Raise `ParityError` with the figures of a head that is beyond its limit."""
    for head in heads:
        name = head.name
        allowed = max(
            MAX_RAW_DIFFERENCE, ROUNDING * raw.sizes.get(name, 0.0), MORE_ROUNDING * raw.rounding.get(name, 0.0)
        )
        if name in raw.largest and not raw.largest[name] <= allowed:  # also when NaN
            raise ParityError(
                f"{name}: the shrunk network's raw head is off by {raw.largest[name]:.2e} ({allowed:.2g} allowed)"
            )
        required = 1.0 if head.decoder in EXACT_DECODERS else MIN_PIXEL_AGREEMENT
        if not agreement[head.name] >= required:
            raise ParityError(
                f"{head.name}: only {agreement[head.name]:.3%} of the bundle's output agrees with the run "
                f"({required:.1%} required)"
            )
