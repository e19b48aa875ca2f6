"""Engines built with TensorRT 10 and 11 and TensorRT-RTX, by the functions that all of them have.

Networks are strongly typed: every precision is in the ONNX. Whatever TensorRT answers with None or False becomes an
`EngineError` with its own last messages.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from ..errors import EngineError

BACKENDS = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
"""The module of each backend."""
INSTALL = {
    "tensorrt": "with an NVIDIA GPU `pip install tensorrt`; on a Jetson use JetPack's",
    "tensorrt-rtx": "pip install 'edgemtl-runtime[rtx]'",
}
TYPES = {"fp16": "HALF", "int8": "INT8"}
"""The data type of which a network of a precision has some tensors."""
LAST = 6
"""How many of TensorRT's messages an error shows."""
Progress = Callable[[str, int, int], bool]
"""Called with a phase, its step and the number of steps; False ends the build."""


@dataclass(frozen=True)
class Settings:
    """Builder settings: ``workspace_mb`` 0 leaves the limit to TensorRT, ``capability`` builds ahead of time (RTX).

    ``batch`` is the smallest, the usual and the largest batch of a network whose batch is dynamic.
    """

    workspace_mb: int = 0
    level: int = 3
    batch: tuple[int, int, int] = (1, 1, 1)
    capability: str = ""


class Timings(Protocol):
    """Storage of TensorRT's timing cache, so that the next build need not time kernels again."""

    def read(self) -> bytes:
        """Return the timings; empty where there are none."""

    def add(self, join: Callable[[bytes], bytes]) -> None:
        """Replace the timings by what ``join`` makes of the present ones."""


def load(backend: str) -> Any:
    """Import a backend's module; raises `EngineError` with what to install."""
    try:
        return importlib.import_module(BACKENDS[backend])
    except ImportError as error:
        raise EngineError(f"no {backend} here ({error}); {INSTALL[backend]}") from error


def build(
    backend: str,
    model: bytes,
    settings: Settings = Settings(),
    progress: Progress | None = None,
    precision: str = "",
    timings: Timings | None = None,
) -> bytes:
    """Return the plan of an ONNX model, plain bytes as `trtexec` reads them; raises `EngineError`.

    With a ``precision``, the network as TensorRT has read it must have tensors of its type. ``timings`` stores those
    of earlier builds.
    """
    trt = load(backend)
    log = log_of(trt)
    log.clear()
    builder = trt.Builder(log.logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log.logger)
    if not model:
        raise EngineError("the network's file is empty; export the bundle again")
    if not parser.parse(model):
        raise EngineError(f"{backend} cannot read the network: {_parser_errors(parser)}; export the bundle again")
    if not network.num_outputs:  # some versions call nonsense read without an error
        raise EngineError(f"{backend} finds no output in the network; export the bundle again")
    _check_precision(trt, network, backend, precision)
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # or fp32 would have 10 binary digits
    if settings.workspace_mb:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_mb << 20)
    config.builder_optimization_level = settings.level
    if settings.capability:
        _set_capability(trt, config, settings.capability)
    _set_dynamic_batch(trt, builder, network, config, settings)
    monitor = _monitor(trt, progress) if progress else None
    if monitor:
        config.progress_monitor = monitor
    known = _set_timing_cache(config, timings)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        if monitor and monitor.ended:
            raise EngineError("the build was stopped")
        raise EngineError(f"{backend} {trt.__version__} cannot build this network: {log.last()}")
    if timings and known:
        timings.add(lambda stored: _joined(config, known, stored))
    return bytes(plan)


def _check_precision(trt: Any, network: Any, backend: str, precision: str) -> None:
    """Raise `EngineError` where a network has no tensor of its precision's data type."""
    if precision not in TYPES:
        return
    dtype = getattr(trt.DataType, TYPES[precision])
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if any(layer.get_output(number).dtype == dtype for number in range(layer.num_outputs)):
            return
    raise EngineError(f"{backend} has read the {precision} network without any {precision}; export the bundle again")


def _set_timing_cache(config: Any, timings: Timings | None) -> Any:
    """Give a build the timing cache of earlier ones and return it; the build adds to it."""
    if timings is None:
        return None
    known = config.create_timing_cache(timings.read())
    if known is None or not config.set_timing_cache(known, False):  # of another version or device: start empty
        known = config.create_timing_cache(b"")
        config.set_timing_cache(known, False)
    return known


def _joined(config: Any, known: Any, stored: bytes) -> bytes:
    """Return a timing cache combined with what another process has stored meanwhile."""
    if stored and (other := config.create_timing_cache(stored)) is not None:
        known.combine(other, False)
    return bytes(known.serialize())


def _set_capability(trt: Any, config: Any, capability: str) -> None:
    """Set the compute capability of another GPU than this machine's, which only RTX builds for."""
    known = getattr(trt, "ComputeCapability", None)
    if known is None:
        raise EngineError("only tensorrt-rtx builds for another GPU than this machine's: build on the robot")
    name = f"SM{capability.replace('.', '')}"
    if name not in known.__members__:
        names = [f"{n[2:-1]}.{n[-1]}" for n in known.__members__ if n.startswith("SM")]
        raise EngineError(
            f"tensorrt-rtx does not build for compute capability {capability}; it knows {', '.join(names)}"
        )
    config.num_compute_capabilities = 1
    config.set_compute_capability(known.__members__[name], 0)


def _set_dynamic_batch(trt: Any, builder: Any, network: Any, config: Any, settings: Settings) -> None:
    """Give a network whose batch is dynamic an optimization profile with its sizes."""
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    if not any(-1 in tuple(tensor.shape) for tensor in inputs):
        return
    profile = builder.create_optimization_profile()
    for tensor in inputs:
        rest = tuple(tensor.shape)[1:]
        if -1 in rest:
            raise EngineError(f"input '{tensor.name}' leaves its height, width or channels open; only a batch may be")
        if profile.set_shape(tensor.name, *((size, *rest) for size in settings.batch)) is False:
            raise EngineError(f"input '{tensor.name}' does not take batches of {settings.batch}")
    if config.add_optimization_profile(profile) < 0:
        raise EngineError(f"batches of {settings.batch} make no profile: {log_of(trt).last()}")


def _parser_errors(parser: Any) -> str:
    errors = [parser.get_error(number) for number in range(parser.num_errors)]
    lines = [f"{e.node_name() or 'network'} ({e.node_operator() or 'no operator'}): {e.desc()}" for e in errors]
    return "; ".join(lines[:LAST]) or "no reason given"


class _Log:
    """Log of TensorRT's messages; one a module and process, since the first logger stays registered."""

    def __init__(self, trt: Any) -> None:
        lines: list[tuple[Any, str]] = []

        class Logger(trt.ILogger):  # type: ignore[misc]  # imported at run time: Any to mypy
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity <= trt.ILogger.WARNING:
                    lines.append((severity, message.strip()))

        self.lines, self.logger = lines, Logger()
        self.error = trt.ILogger.ERROR

    def clear(self) -> None:
        """Drop the messages."""
        self.lines.clear()

    def last(self) -> str:
        """Return the last messages, errors where there are any, in one line."""
        errors = [text for severity, text in self.lines if severity <= self.error]
        texts = errors or [text for _, text in self.lines]
        return " | ".join(" ".join(text.split()) for text in texts[-LAST:]) or "TensorRT gave no reason"


_LOGS: dict[str, _Log] = {}


def log_of(trt: Any) -> _Log:
    """Return the log of a backend's module."""
    if trt.__name__ not in _LOGS:
        _LOGS[trt.__name__] = _Log(trt)
    return _LOGS[trt.__name__]


def _monitor(trt: Any, progress: Progress) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # imported at run time: Any to mypy
        """Reports outer phases; TensorRT calls it from its threads."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.ended = False
            self.steps: dict[str, int] = {}

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            if not parent:
                self.steps[phase] = steps

        def step_complete(self, phase: str, step: int) -> bool:
            if phase in self.steps and not progress(phase, step, self.steps[phase]):
                self.ended = True
            return not self.ended

        def phase_finish(self, phase: str) -> None:
            self.steps.pop(phase, None)

    return Monitor()
