"""Engines: what runs a bundle's network on this machine's hardware."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from numpy.typing import NDArray

from ..bundle import Head, Manifest
from ..decode import DECODERS
from ..errors import BundleError, EngineError


class Engine(Protocol):
    """Runs the network once: named uint8 (1, H, W, C) inputs to named outputs, batch axis kept.

    The engines here may be run and closed by any thread; one of your own is run by the thread that reads the pipeline.
    Who opens an engine closes it: `close`, or ``with``. Results are shown while the next pictures are run: an engine
    whose outputs have memory of their own says so by ``owned_outputs = True``, those of others are copied.
    """

    name: str

    def run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the network once; blocks until the outputs are there."""
        ...

    def close(self) -> None:
        """Give back what the engine holds; may be called twice, and from another thread."""
        ...

    def __enter__(self) -> Engine:
        """Return the engine."""
        ...

    def __exit__(self, *_: object) -> None:
        """Close the engine."""
        ...


E = TypeVar("E", bound="OneAtATime")


class OneAtATime(ABC):
    """What the engines here have in common: any thread may run and close them, and one does at a time.

    A run waits for the one in work in another thread, and so does `close`; after that a run raises `EngineError`.
    """

    name: str
    owned_outputs = True

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal's handler may come in the middle of a run, in the same thread
        self._running = self._closed = False

    def run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the network once on named uint8 (1, H, W, C) inputs; raises `EngineError` where it cannot."""
        with self._lock:
            if self._closed or self._running:
                why = (
                    "is closed; open it again" if self._closed else "runs already; do not run it in a signal's handler"
                )
                raise EngineError(f"this {self.name} engine {why}")
            self._running = True
            try:
                return self._run(inputs)
            finally:
                self._running = False
                if self._closed:
                    self._free()

    def close(self) -> None:
        """Give back what the engine holds, behind the run in work; may be called twice."""
        with self._lock:
            if not self._closed:
                self._closed = True
                if not self._running:
                    self._free()

    def __enter__(self: E) -> E:
        """Return the engine."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the engine."""
        self.close()

    @abstractmethod
    def _run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the network once."""

    @abstractmethod
    def _free(self) -> None:
        """Give back what is held; called once."""


Shape = Sequence[Any]
"""Sizes by axis; one that is open is no number, or below 0."""
MOST_BOXES = 10_000


def check_interface(
    manifest: Manifest, shapes: Mapping[str, Shape], other_types: Collection[str], outputs: Mapping[str, Shape]
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
    for head in manifest.heads:
        if head.name not in outputs:
            raise BundleError(
                f"the network has no output '{head.name}' that the manifest names; export the bundle again"
            )
        _check_output(manifest, head, list(outputs[head.name]))


def _check_output(manifest: Manifest, head: Head, shape: list[Any]) -> None:
    """Raise `BundleError` where a head's decoder is not known, or is for outputs of another shape."""
    size = (manifest.inputs[0].height, manifest.inputs[0].width)
    shapes: dict[str, tuple[Any, ...]] = {
        "topk_boxes": (range(MOST_BOXES + 1), 6),
        "normal_map": (*size, 3),
        "attributes": (len(head.classes),),
        **dict.fromkeys(("label_map", "depth_map", "edge_map"), size),
    }
    if head.decoder not in DECODERS:
        raise BundleError(f"{head.name}: no decoder '{head.decoder}' here; update edgemtl-runtime")
    wanted = shapes.get(head.decoder)
    if wanted is None or not shape:  # an output may leave its shape open: then what it gives is looked at
        return
    told = shape[1:]
    if len(told) != len(wanted) or not all(map(_fits, told, wanted)):
        raise BundleError(
            f"{head.name} is {shape}, the manifest's decoder {head.decoder} reads {[1, *map(_told, wanted)]}; "
            "export the bundle again"
        )


def _fits(size: Any, wanted: Any) -> bool:
    if not isinstance(size, int) or size < 0:
        return True
    return size in wanted if isinstance(wanted, range) else size == wanted


def _told(wanted: Any) -> Any:
    return f"up to {wanted.stop - 1}" if isinstance(wanted, range) else wanted
