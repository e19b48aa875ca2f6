"""Engines: what runs a bundle's network on this machine's hardware."""

from __future__ import annotations

from typing import Any, Protocol

from numpy.typing import NDArray


class Engine(Protocol):
    """Runs the network once: named uint8 (1, H, W, C) inputs to named outputs, batch axis kept."""

    name: str

    def run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the network once; blocks until the outputs are there."""
        ...
