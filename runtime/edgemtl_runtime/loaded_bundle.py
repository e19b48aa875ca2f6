"""A bundle with its engine: turns pairs of frames into results, and is exchanged for another while cameras are read."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from concurrent.futures import Future, InvalidStateError
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .bundle import Bundle
from .decode import decode
from .drift import Drift
from .engine import Arrays, Engine, OwnsOutputs
from .errors import EdgemtlError
from .frame import Frame, FramePair, PreparedFrame
from .postprocess import HeadTrackers
from .preprocess import Preprocessor
from .result import Result

if TYPE_CHECKING:
    from .rig import Rig

PROBATION = 100
"""Pairs after which a bundle is proven, and the one before it is closed."""


class LoadedBundle:
    """A bundle's inputs and heads, the engine that runs it, and the preprocessing and tracking that belong to it.

    Of ``replaces``, the bundle that it will stand for, what fits is used on where the inputs are the same: plans of
    images, and the tracks of the same heads.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        rig: Rig | None = None,
        thresholds: Mapping[str, NDArray[np.float32]] | None = None,
        track: bool = False,
        replaces: LoadedBundle | None = None,
    ) -> None:
        self.bundle, self.engine = bundle, engine
        self.inputs, self.heads = bundle.manifest.inputs, bundle.manifest.heads
        if rig is not None:
            _check_rig(rig, [spec.name for spec in self.inputs])
        self.thresholds = dict(thresholds or {})
        self.owned_outputs = isinstance(engine, OwnsOutputs) and engine.owned_outputs
        self.blanks = {s.name: np.full((1, s.height, s.width, s.channels), s.blank, np.uint8) for s in self.inputs}
        self.trackers = HeadTrackers(self.heads, self.thresholds) if track else None
        self.preprocessor = self._preprocessor(rig, replaces)
        self.drift = Drift(bundle)
        if replaces and replaces.trackers and self.trackers and self._has_heads_of(replaces):
            self.trackers.trackers = replaces.trackers.trackers

    def _preprocessor(self, rig: Rig | None, replaces: LoadedBundle | None) -> Preprocessor:
        if replaces and replaces.inputs == self.inputs and replaces.preprocessor.rig is rig:
            return replaces.preprocessor
        return Preprocessor(self.inputs, rig)

    def _has_heads_of(self, other: LoadedBundle) -> bool:
        # objects are tracked in the network's pixels
        same = self.inputs == other.inputs and self.thresholds.keys() == other.thresholds.keys()
        same = same and all(np.array_equal(other.thresholds[name], least) for name, least in self.thresholds.items())
        return same and self.heads == other.heads

    def takes(self, pair: FramePair) -> bool:
        """Whether a pair has a frame of every camera that the network cannot do without."""
        return all(spec.may_be_missing or spec.name in pair.frames for spec in self.inputs)

    def run(self, images: Arrays) -> Arrays:
        """Return the network's outputs of `images`, as arrays that stay; a missing camera's is the blank frame."""
        outputs = self.engine.run(self.blanks | images)
        if not self.owned_outputs:  # results are shown while the next pair is run
            outputs = {name: np.array(output) for name, output in outputs.items()}
        return outputs

    def images(self, pair: FramePair) -> Arrays:
        """Return the network's inputs of the cameras that have a frame."""
        images: Arrays = {}
        for name in self.blanks:
            frame = pair.frames.get(name)
            if frame is not None and getattr(frame, "preprocessor", None) is not self.preprocessor:
                frame = self.preprocessor.prepare(frame)  # it was prepared for the bundle before
            if isinstance(frame, PreparedFrame):
                images[name] = frame.network_input[None]
        return images

    def result(self, pair: FramePair, outputs: Arrays, index: int) -> Result:
        """Decode a pair's outputs, and track the objects where that is asked."""
        camera, letterbox = self.preprocessor.reference(pair)
        thresholds = self.trackers.thresholds if self.trackers else self.thresholds
        heads = decode({name: output[0] for name, output in outputs.items()}, self.heads, letterbox, thresholds)
        if self.trackers:
            heads = self.trackers.update(heads, letterbox, pair.stamp_ns)
        return Result(
            heads,
            camera,
            pair.stamp_ns,
            pair.skew_ns,
            index,
            name=next(iter(pair.frames.values())).name,
            missing=tuple(spec.name for spec in self.inputs if spec.name not in pair.frames),
            stamp_sources={name: frame.stamp_source for name, frame in pair.frames.items()},
            trusted=pair.trusted,
            uncertainty_ns={name: frame.uncertainty_ns for name, frame in pair.frames.items()},
            unix_ns=pair.unix_ns,
        )


def _check_rig(rig: Rig, names: list[str]) -> None:
    rig.check_names(names)
    if rig.reference not in names:
        raise EdgemtlError(f"the rig's reference is {rig.reference}, which the bundle does not take; leave it out")


class Exchange:
    """The loaded bundle in use, the proven one before it, and the next one.

    Any thread may `put` a bundle and `prepare` frames; the thread that runs pairs moves on and back. The engine of a
    bundle that is not used any more is closed.
    """

    def __init__(self, current: LoadedBundle) -> None:
        self.current = current
        self.previous: LoadedBundle | None = None
        self.num_pairs = 0
        """Pairs that the bundle in use was given since it was put into use."""
        self._next: LoadedBundle | None = None
        self._next_outcome, self._outcome = Future[None](), Future[None]()
        self._lock = threading.Lock()

    def prepare(self, frame: Frame) -> PreparedFrame:
        """Return a frame prepared for the bundle in use."""
        return self.current.preprocessor.prepare(frame)

    def put(self, loaded: LoadedBundle) -> Future[None]:
        """Take a bundle from the next pair on; see `Pipeline.exchange` for what is returned."""
        outcome = Future[None]()
        with self._lock:
            waiting, cancelled = self._next, self._next_outcome
            self._next, self._next_outcome = loaded, outcome
        if waiting:
            waiting.engine.close()
            cancelled.cancel()
        return outcome

    def move_on(self) -> bool:
        """Put the next bundle into use, if there is one, and close the one before a proven one; True if exchanged."""
        with self._lock:
            waiting, self._next, outcome = self._next, None, self._next_outcome
        if waiting:
            if self.previous:  # the one in use is not proven: the one before it is what can be gone back to
                self.current.engine.close()
                self._outcome.cancel()
            else:
                self.previous = self.current
            self.current, self.num_pairs, self._outcome = waiting, 0, outcome
        elif self.previous and self.num_pairs >= PROBATION:
            self.previous.engine.close()
            self.previous = None
            with contextlib.suppress(InvalidStateError):  # the program has cancelled it
                self._outcome.set_result(None)
        self.num_pairs += 1
        return waiting is not None

    def go_back(self, error: BaseException) -> bool:
        """Put the bundle before an unproven one into use again; False where there is none."""
        if self.previous is None:
            return False
        failed, self.current, self.previous = self.current, self.previous, None
        failed.engine.close()
        with contextlib.suppress(InvalidStateError):
            self._outcome.set_exception(error)
        return True

    def close_others(self) -> LoadedBundle:
        """Close the engines of all bundles but the one in use, and return that; cancel outcomes that are open."""
        for loaded in (self._next, self.previous):
            if loaded:
                loaded.engine.close()
        self._next = self.previous = None
        self._outcome.cancel()
        self._next_outcome.cancel()
        return self.current
