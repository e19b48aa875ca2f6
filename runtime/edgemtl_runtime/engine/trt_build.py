"""Building engines with TensorRT 10 and 11 and TensorRT-RTX, by the functions that all of them have.

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
"""The module of each back end."""
INSTALL = {
    "tensorrt": "with an NVIDIA GPU `pip install tensorrt`; on a Jetson use JetPack's",
    "tensorrt-rtx": "pip install 'edgemtl-runtime[rtx]'",
}
TYPES = {"fp16": "HALF", "int8": "INT8"}
"""What a network of a precision has some tensors of."""
LAST = 6
"""How many of TensorRT's messages an error tells."""
Progress = Callable[[str, int, int], bool]
"""Told of a phase, its step and how many there are; False ends the build."""


@dataclass(frozen=True)
class Settings:
    """How to build: ``workspace_mb`` 0 leaves the limit to TensorRT; ``capability`` is of RTX, to build ahead of time.

    ``batch`` is the least, the usual and the largest batch of a network whose batch is open.
    """

    workspace_mb: int = 0
    level: int = 3
    batch: tuple[int, int, int] = (1, 1, 1)
    capability: str = ""


class Timings(Protocol):
    """Where TensorRT's timings of kernels are kept, so that the next build need not take them again."""

    def read(self) -> bytes: ...

    def add(self, join: Callable[[bytes], bytes]) -> None:
        """Write what ``join`` makes of what is there by then."""


def load(backend: str) -> Any:
    """Import a back end; raises `EngineError` with what to install."""
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

    Of a ``precision`` that is named, the network that TensorRT has read must hold some. ``timings`` is where those of
    earlier builds are kept.
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
        _aim(trt, config, settings.capability)
    _open_batch(trt, builder, network, config, settings)
    monitor = _monitor(trt, progress) if progress else None
    if monitor:
        config.progress_monitor = monitor
    known = _begin(config, timings)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        if monitor and monitor.ended:
            raise EngineError("the build was stopped")
        raise EngineError(f"{backend} {trt.__version__} cannot build this network: {log.last()}")
    if timings and known:
        timings.add(lambda theirs: _joined(config, known, theirs))
    return bytes(plan)


def _check_precision(trt: Any, network: Any, backend: str, precision: str) -> None:
    """Raise `EngineError` where a network has no tensor of the type that its precision is made of."""
    if precision not in TYPES:
        return
    wanted = getattr(trt.DataType, TYPES[precision])
    for place in range(network.num_layers):
        layer = network.get_layer(place)
        if any(layer.get_output(number).dtype == wanted for number in range(layer.num_outputs)):
            return
    raise EngineError(f"{backend} has read the {precision} network without any {precision}; export the bundle again")


def _begin(config: Any, timings: Timings | None) -> Any:
    """Give a build the timings of earlier ones; return what it will write its own into."""
    if timings is None:
        return None
    known = config.create_timing_cache(timings.read())
    if known is None or not config.set_timing_cache(known, False):  # of another version or device: begin anew
        known = config.create_timing_cache(b"")
        config.set_timing_cache(known, False)
    return known


def _joined(config: Any, known: Any, theirs: bytes) -> bytes:
    """Return timings with those that another process has kept meanwhile."""
    if theirs and (other := config.create_timing_cache(theirs)) is not None:
        known.combine(other, False)
    return bytes(known.serialize())


def _aim(trt: Any, config: Any, capability: str) -> None:
    """Build for another GPU than this machine's, which RTX can."""
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


def _open_batch(trt: Any, builder: Any, network: Any, config: Any, settings: Settings) -> None:
    """Give a network whose batch is open a profile of the sizes it may have."""
    inputs = [network.get_input(place) for place in range(network.num_inputs)]
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
    found = [parser.get_error(number) for number in range(parser.num_errors)]
    told = [f"{e.node_name() or 'network'} ({e.node_operator() or 'no operator'}): {e.desc()}" for e in found]
    return "; ".join(told[:LAST]) or "no reason given"


class _Log:
    """TensorRT's messages; one logger a module and process, since the first one stays registered."""

    def __init__(self, trt: Any) -> None:
        lines: list[tuple[Any, str]] = []

        class Logger(trt.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity <= trt.ILogger.WARNING:
                    lines.append((severity, message.strip()))

        self.lines, self.logger = lines, Logger()
        self.error = trt.ILogger.ERROR

    def clear(self) -> None:
        """Forget what was said."""
        self.lines.clear()

    def last(self) -> str:
        """Return the last messages, errors where there are any, in one line."""
        errors = [text for severity, text in self.lines if severity <= self.error]
        texts = errors or [text for _, text in self.lines]
        return " | ".join(" ".join(text.split()) for text in texts[-LAST:]) or "TensorRT gave no reason"


_LOGS: dict[str, _Log] = {}


def log_of(trt: Any) -> _Log:
    """Return the log of a back end's module."""
    if trt.__name__ not in _LOGS:
        _LOGS[trt.__name__] = _Log(trt)
    return _LOGS[trt.__name__]


def _monitor(trt: Any, progress: Progress) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Tells of outer phases; TensorRT calls it from threads of its own."""

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
