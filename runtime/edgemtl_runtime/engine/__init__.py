"""Engines: backends that run a bundle's network on this machine's hardware."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

from numpy.typing import NDArray

from ..bundle import Head, Manifest
from ..decode import DECODERS
from ..errors import BundleError, EngineError

Arrays = dict[str, NDArray[Any]]
"""Inputs or outputs of a network by name."""


class Engine(Protocol):
    """Inference engine: named uint8 (1, H, W, C) inputs to named outputs, batch axis kept.

    The package's engines may be run and closed by any thread; a custom one is run by the thread that reads the
    pipeline. Who opens an engine closes it: `close`, or ``with``. An engine that is an `OwnsOutputs` as well allocates
    its outputs anew for every run; those of others are copied, since results are shown while the next images are run.
    """

    name: str

    def run(self, inputs: Arrays) -> Arrays:
        """Run the network once; blocks until the outputs are there."""
        ...

    def close(self) -> None:
        """Free the engine's resources; may be called twice, and from another thread."""
        ...

    def __enter__(self) -> Engine:
        """Return the engine."""
        ...

    def __exit__(self, *_: object) -> None:
        """Close the engine."""
        ...


@runtime_checkable
class OwnsOutputs(Protocol):
    """An engine that states whether it allocates its outputs for every run, so that they need no copy."""

    owned_outputs: bool


E = TypeVar("E", bound="ThreadSafeEngine")


class ThreadSafeEngine(ABC):
    """Base class of thread-safe engines: any thread may run and close them, one at a time.

    A run waits for that of another thread, and so does `close`; after that a run raises `EngineError`.
    """

    name: str
    owned_outputs = True
    input_names: Sequence[str] = ()

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal's handler may come in the middle of a run, in the same thread
        self._running = self._closed = False

    def run(self, inputs: Arrays) -> Arrays:
        """Run the network once on named uint8 (1, H, W, C) inputs; raises `EngineError` where it cannot."""
        with self._lock:
            if self._closed or self._running:
                reason = (
                    "is closed; open it again" if self._closed else "runs already; do not run it in a signal's handler"
                )
                raise EngineError(f"this {self.name} engine {reason}")
            missing = [name for name in self.input_names if name not in inputs]
            if missing:  # a back end would take what it was last given
                taken = ", ".join(self.input_names)
                raise EngineError(f"this {self.name} engine is run without {', '.join(missing)}; it takes {taken}")
            self._running = True
            try:
                return self._run(inputs)
            finally:
                self._running = False
                if self._closed:
                    self._free()

    def close(self) -> None:
        """Free the engine's resources after the run in work; may be called twice."""
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
    def _run(self, inputs: Arrays) -> Arrays:
        """Run the network once."""

    @abstractmethod
    def _free(self) -> None:
        """Free the resources; called once."""


Shape = Sequence[object]
"""Sizes by axis; a dynamic one is no number, or below 0."""
MOST_BOXES = 10_000


def check_interface(
    manifest: Manifest, shapes: Mapping[str, Shape], other_types: Collection[str], outputs: Mapping[str, Shape]
) -> None:
    """Raise `BundleError` where a network's inputs and outputs are not the manifest's.

    ``shapes`` are of its inputs, ``other_types`` those of them that are not uint8. A batch may be dynamic.
    """
    expected = {spec.name: [1, spec.height, spec.width, spec.channels] for spec in manifest.inputs}
    actual = {name: list(shape) for name, shape in shapes.items()}
    single = {name: [1 if _is_dynamic(shape[0]) else shape[0], *shape[1:]] for name, shape in actual.items() if shape}
    if expected != single or other_types:
        raise BundleError(f"the network takes {actual}, the manifest says {expected}; export the bundle again")
    for head in manifest.heads:
        if head.name not in outputs:
            raise BundleError(
                f"the network has no output '{head.name}' that the manifest names; export the bundle again"
            )
        _check_output(manifest, head, list(outputs[head.name]))


def _check_output(manifest: Manifest, head: Head, shape: list[object]) -> None:
    """Raise `BundleError` where a head's decoder is unknown, or is for outputs of another shape."""
    size = (manifest.inputs[0].height, manifest.inputs[0].width)
    shapes: dict[str, tuple[int | range, ...]] = {
        **dict.fromkeys(("topk_boxes", "nms_boxes"), (range(MOST_BOXES + 1), 6)),
        "normal_map": (*size, 3),
        "vector_map": (*size, len(head.classes)),
        "points": (range(MOST_BOXES + 1), 4),
        **dict.fromkeys(("attributes", "scalars"), (len(head.classes),)),
        **dict.fromkeys(("label_map", "depth_map", "edge_map", "scalar_map"), size),
    }
    if head.decoder not in DECODERS:
        raise BundleError(f"{head.name}: no decoder '{head.decoder}' here; update edgemtl-runtime")
    expected = shapes.get(head.decoder)
    if expected is None or not shape:  # an output without a shape is checked when it is decoded
        return
    sizes = shape[1:]
    if len(sizes) != len(expected) or not all(map(_fits, sizes, expected)):
        raise BundleError(
            f"{head.name} is {shape}, the manifest's decoder {head.decoder} reads {[1, *map(_label, expected)]}; "
            "export the bundle again"
        )


def _is_dynamic(size: object) -> bool:
    return not isinstance(size, int) or size < 0


def _fits(size: object, expected: int | range) -> bool:
    return _is_dynamic(size) or (size in expected if isinstance(expected, range) else size == expected)


def _label(expected: int | range) -> int | str:
    return f"up to {expected.stop - 1}" if isinstance(expected, range) else expected
