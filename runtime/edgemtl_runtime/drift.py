"""Drift: how far what a network sees and gives now is from the held-out images of its export.

Of every few pairs the brightness and contrast of each input are measured, and the best score and number of objects of
each head that has scores. Their means over the latest pairs are compared with the reference that travels in the bundle,
in standard deviations of the reference's images.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from .bundle import Bundle, Head, Input
from .engine import Arrays
from .errors import BundleError
from .limits import decode_json, read_bounded
from .postprocess import BOXES

REFERENCE = "drift.json"
EVERY = 10
"""Of so many pairs one is measured."""
WINDOW = 60
"""Measured pairs that a mean is over."""
FEWEST = 10
"""Measured pairs from which on there is a mean."""
SAMPLED = 4
"""Every fourth row and column is looked at."""
SCORE_COLUMN = {**dict.fromkeys(BOXES, 4), "points": 2}


class Spread(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Mean and standard deviation of a quantity over images."""

    mean: float
    std: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and math.isfinite(self.std) and self.std >= 0):
            raise ValueError(f"a mean of {self.mean} with a deviation of {self.std}")


class Reference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What each quantity was on the held-out images of an export; names as "rgb.brightness" and "boxes.score"."""

    num_images: int
    quantities: dict[str, Spread]


class DriftValue(msgspec.Struct, frozen=True):
    """A quantity now and in the reference; ``drift`` is their difference in the reference's standard deviations."""

    value: float
    reference: float
    drift: float


def measure(inputs: Sequence[Input], heads: Sequence[Head], images: Arrays, outputs: Arrays) -> dict[str, float]:
    """Return the quantities of one image of each input, (1, H, W, C) uint8, and of the outputs of a network for it."""
    quantities = {}
    for spec in inputs:
        image = _without_padding(images[spec.name][0], spec.blank) if spec.name in images else None
        if image is not None and image.size:
            quantities[f"{spec.name}.brightness"] = float(image.mean())
            quantities[f"{spec.name}.contrast"] = float(image.std())
    for head in heads:
        column = SCORE_COLUMN.get(head.decoder)
        if column is not None:
            scores = outputs[head.name][0][:, column]
            quantities[f"{head.name}.score"] = float(np.nanmax(scores, initial=0.0))
            quantities[f"{head.name}.count"] = float((scores >= head.threshold).sum())
        elif head.decoder == "attributes":
            scores = outputs[head.name][0]
            quantities[f"{head.name}.score"] = float(np.maximum(scores, 1 - scores).mean())
    return quantities


def _without_padding(image: NDArray[np.uint8], blank: int) -> NDArray[np.uint8]:
    """Return a sample of a letterboxed image without the padding at its end."""
    sample = image[::SAMPLED, ::SAMPLED]
    inside = (sample != blank).any(2)
    rows, columns = inside.any(1).nonzero()[0], inside.any(0).nonzero()[0]
    return sample[: rows[-1] + 1, : columns[-1] + 1] if len(rows) else sample[:0]


def reference_of(measured: Iterable[dict[str, float]]) -> Reference:
    """Return the reference of the quantities of some images."""
    rows = list(measured)
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row[name] for row in rows if name in row] for name in names}
    return Reference(len(rows), {n: Spread(float(np.mean(v)), float(np.std(v))) for n, v in columns.items()})


def write_reference(folder: Path, reference: Reference) -> None:
    """Write a reference into the folder of a bundle."""
    (folder / REFERENCE).write_bytes(msgspec.json.format(msgspec.json.encode(reference), indent=2) + b"\n")


def read_reference(bundle: Bundle) -> Reference | None:
    """Return the reference of a bundle, None where it has none; raises `BundleError`."""
    if REFERENCE not in bundle.manifest.files:
        return None
    file = bundle.path / REFERENCE
    try:
        return decode_json(read_bounded(file, error=BundleError), Reference)
    except ValueError as error:
        raise BundleError(f"{file}: is no reference of drift ({error}); export the bundle again") from error


class Drift:
    """Drift of a bundle in use: the thread that runs pairs feeds it, any thread reads `values` and `missing`."""

    def __init__(self, bundle: Bundle) -> None:
        self.inputs, self.heads = bundle.manifest.inputs, bundle.manifest.heads
        self.reference = read_reference(bundle)
        self._measured: deque[dict[str, float]] = deque(maxlen=WINDOW)
        self._missing: deque[frozenset[str]] = deque(maxlen=WINDOW * EVERY)
        self._num_fed = 0

    def feed(self, images: Arrays, outputs: Arrays) -> None:
        """Take a pair: images by input as the network was given them, without those of missing cameras."""
        self._missing.append(frozenset(spec.name for spec in self.inputs if spec.name not in images))
        if self._num_fed % EVERY == 0:
            self._measured.append(measure(self.inputs, self.heads, images, outputs))
        self._num_fed += 1

    def values(self) -> dict[str, DriftValue]:
        """Return the quantities that are known of enough of the latest pairs, and are in the reference."""
        return dict(self._values(list(self._measured)))

    def _values(self, rows: list[dict[str, float]]) -> Iterator[tuple[str, DriftValue]]:
        for name, spread in self.reference.quantities.items() if self.reference else ():
            known = [row[name] for row in rows if name in row]
            if len(known) >= FEWEST:
                value = sum(known) / len(known)
                least = 1e-3 * max(abs(spread.mean), 1.0)  # where all images of the reference were alike
                drift = (value - spread.mean) / max(spread.std, least)
                yield name, DriftValue(round(value, 4), round(spread.mean, 4), round(drift, 3))

    def missing(self) -> dict[str, float]:
        """Return by input the share of the latest pairs in which its camera was missing."""
        rows = list(self._missing)
        return {s.name: round(sum(s.name in row for row in rows) / len(rows), 4) for s in self.inputs} if rows else {}
