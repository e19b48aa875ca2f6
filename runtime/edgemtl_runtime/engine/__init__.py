"""Engines: what runs a bundle's network on this machine's hardware."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from ..bundle import Manifest
from ..errors import BundleError


class Engine(Protocol):
    """Runs the network once: named uint8 (1, H, W, C) inputs to named outputs, batch axis kept."""

    name: str

    def run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the network once; blocks until the outputs are there."""
        ...


def check_interface(
    manifest: Manifest, shapes: Mapping[str, Sequence[Any]], other_types: Collection[str], outputs: Collection[str]
) -> None:
    """Raise `BundleError` where what a network takes and gives is not what the manifest says.

    ``shapes`` are of its inputs, ``other_types`` those of them that are not uint8. A batch may be open.
    """
    expected = {spec.name: [1, spec.height, spec.width, spec.channels] for spec in manifest.inputs}
    found = {name: list(shape) for name, shape in shapes.items()}
    fits = {
        name: [1 if not isinstance(shape[0], int) or shape[0] < 0 else shape[0], *shape[1:]]
        for name, shape in found.items()
        if shape
    }
    if expected != fits or other_types:
        raise BundleError(f"the network takes {found}, the manifest says {expected}; export the bundle again")
    missing = [head.name for head in manifest.heads if head.name not in outputs]
    if missing:
        raise BundleError(f"the network has no output '{missing[0]}' that the manifest names; export the bundle again")
