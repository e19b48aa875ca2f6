"""capture → pair → fit → infer → decode → sinks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from .bundle import Bundle, Input
from .camera import Camera
from .decode import DECODERS, decode
from .engine import Engine
from .errors import BundleError, EdgemtlError
from .fit import Fit, to_uint8
from .frame import FramePair
from .intake import Intake
from .result import Result
from .sink import Sink, SinkThread
from .stats import Stats

DEFAULT_TOLERANCE_MS = 30.0


class Pipeline:
    """Runs a bundle on live or recorded cameras.

    ``cameras`` are by input name; one that the network was trained to do without may be left out, and its input is
    fed the blank frame. Iterate for (pair, result), or call `run` with sinks; `stop` ends either from another
    thread or a signal handler. Results are in the pixels of the first input that has a camera. ``stats`` tells how it
    went.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        cameras: dict[str, Camera],
        tolerance_ms: float = DEFAULT_TOLERANCE_MS,
    ) -> None:
        self.inputs = bundle.manifest.inputs
        self.heads = bundle.manifest.heads
        self.absent = tuple(spec.name for spec in self.inputs if spec.name not in cameras)
        missing = [spec.name for spec in self.inputs if spec.name in self.absent and not spec.may_be_absent]
        if missing or len(self.absent) == len(self.inputs):
            needed = " and ".join(f"--{name}" for name in missing or self.absent)
            raise EdgemtlError(f"the bundle needs {needed}{' as well' if cameras else ''}")
        extra = sorted(cameras.keys() - {spec.name for spec in self.inputs})
        if extra:
            raise EdgemtlError(f"the bundle has no input {', '.join(extra)}; leave out --{extra[0]}")
        unknown = [head.decoder for head in self.heads if head.decoder not in DECODERS]
        if unknown:
            raise BundleError(f"{bundle.path}: this runtime has no decoder '{unknown[0]}'; update edgemtl-runtime")
        self.engine = engine
        self.camera = next(spec.name for spec in self.inputs if spec.name in cameras)
        self.stats = Stats()
        ordered = {spec.name: cameras[spec.name] for spec in self.inputs if spec.name in cameras}
        self.intake = Intake(ordered, round(tolerance_ms * 1e6), self.stats.frames, self.stats.drops)
        self.fits: dict[str, Fit] = {}

    def __iter__(self) -> Iterator[tuple[FramePair, Result]]:
        """Yield each pair with its result until the cameras end."""
        try:
            for index, pair in enumerate(self.intake):
                begun = time.monotonic_ns()
                inputs = {spec.name: self._fit(pair, spec)[None] for spec in self.inputs}
                fitted = time.monotonic_ns()
                outputs = self.engine.run(inputs)
                inferred = time.monotonic_ns()
                first = {name: output[0] for name, output in outputs.items()}
                heads = decode(first, self.heads, self.fits[self.camera])
                name = pair.frames[self.camera].name
                result = Result(heads, self.camera, pair.stamp_ns, pair.skew_ns, index, name, self.absent)
                self.stats.pair(pair.arrived_ns, (begun, fitted, inferred, time.monotonic_ns()), pair.skew_ns)
                yield pair, result
        finally:
            self.intake.stop()

    def run(self, sinks: Sequence[Sink] = ()) -> Stats:
        """Feed every result to the sinks until the cameras end, `stop` is called or Ctrl-C is pressed.

        However it ends, every sink is finished. Returns the statistics; raises what a camera or a sink raised.
        """
        threads = [SinkThread(s, self.intake.live, self.stats.drops) for s in sinks if not s.on_main_thread]
        direct = [sink for sink in sinks if sink.on_main_thread]
        errors: list[BaseException] = []
        try:
            for pair, result in self:
                for thread in threads:
                    thread.put(pair, result)
                for sink in direct:
                    sink.write(pair, result)
        except KeyboardInterrupt:
            pass
        except Exception as error:
            errors.append(error)
        for close in [part.close for part in threads] + [part.close for part in direct]:
            try:
                close()
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return self.stats

    def stop(self) -> None:
        """End the run after the pair in work."""
        self.intake.stopped = True

    def _fit(self, pair: FramePair, spec: Input) -> NDArray[np.uint8]:
        if spec.name in self.absent:
            return np.full((spec.height, spec.width, spec.channels), spec.blank, np.uint8)
        frame = pair.frames[spec.name]
        fit = self.fits.get(spec.name)
        if fit is None:
            fit = self.fits[spec.name] = Fit.plan(frame.size, (spec.height, spec.width))
        return fit.image(to_uint8(frame.image, spec.thermal_range), spec.channels, spec.blank)
