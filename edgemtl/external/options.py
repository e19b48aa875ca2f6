"""Options of opening a network from elsewhere: what its file does not hold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgemtl_runtime.bundle import Input

Pixels = Literal["0-1", "0-255", "imagenet"]
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RANGES: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "0-1": ((0.0,) * 3, (1.0,) * 3),
    "0-255": ((0.0,) * 3, (1 / 255,) * 3),
    "imagenet": IMAGENET,
}
"""Mean and standard deviation by the name of a range; pixels are (x / 255 - mean) / std."""


@dataclass(frozen=True)
class OpenOptions:
    """How a network is to be opened; what is not given its file decides."""

    input_size: tuple[int, int] | None = None
    """Height and width."""
    weights: Path | None = None
    """Of a library's network or a function's: a file of tensors by name."""
    random: bool = False
    """Take a library's network without weights, to try what can be done with it."""
    pixels: Pixels | None = None
    bgr: bool = False
    raw_outputs: bool = False
    """Take the outputs as they are, also where they look like a detector's."""
    trust: bool = False
    """Load files that may run code of theirs."""
    classes: tuple[str, ...] = ()
    """Of a detector, those that are wanted; (): all."""


def image_input(
    name: str,
    size: tuple[int, int],
    channels: int = 3,
    mean: tuple[float, ...] = (0.0,) * 3,
    std: tuple[float, ...] = (1.0,) * 3,
) -> Input:
    """Return the input of an image; a grey one has the mean of the colours' statistics."""
    if channels == 1:
        mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
    modality = name if name in ("rgb", "ir", "depth") else "ir" if channels == 1 else "rgb"
    return Input(name, *size, channels, mean, std, modality)
