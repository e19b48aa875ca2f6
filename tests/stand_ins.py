"""Stand-ins for `tensorrt`: only the names that each version has, so that what was removed is an AttributeError.

The names are those that the real bindings of 10.3, 10.16 and 11.4 show (imported beside empty libraries).
"""

from __future__ import annotations

import ctypes
import enum
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgemtl_runtime.engine.gpu import Gpu

PLAN = b"plan of "
ORIN = Gpu("Orin", "8.7", "12.6")
VERSIONS = ("10.3.0", "10.16.1", "11.4.0")


class Flags(enum.IntEnum):
    """What every version knows of network creation."""

    STRONGLY_TYPED = 1


class OldFlags(enum.IntEnum):
    """Until version 11."""

    EXPLICIT_BATCH = 0
    STRONGLY_TYPED = 1


class Pools(enum.IntEnum):
    """Memory that can be limited."""

    WORKSPACE = 0


class ILogger:
    """Severities are numbers here, the worst 0."""

    INTERNAL_ERROR, ERROR, WARNING, INFO = range(4)

    def log(self, severity: int, message: str) -> None:
        """To be overridden."""


class IProgressMonitor:
    """To be overridden."""


class Tensor:
    """An input."""

    def __init__(self, name: str, shape: tuple[int, ...]) -> None:
        self.name, self.shape = name, shape


class BuilderFlag(enum.IntEnum):
    """What every version knows of building."""

    TF32 = 7


class DataType(enum.Enum):
    """Types of tensors, by numpy's names."""

    FLOAT, HALF, INT8, UINT8 = "float32", "float16", "int8", "uint8"


class TensorIOMode(enum.Enum):
    """Which way a tensor goes."""

    INPUT, OUTPUT = "in", "out"


class Cache:
    """Timings: lines of text."""

    def __init__(self, data: bytes) -> None:
        self.lines = set(data.splitlines())

    def combine(self, other: Cache, ignore_mismatch: bool) -> bool:
        self.lines |= other.lines
        return True

    def serialize(self) -> bytes:
        return b"\n".join(sorted(self.lines))


class Profile:
    """Sizes of inputs; refuses batches above 64."""

    def __init__(self) -> None:
        self.shapes: dict[str, tuple[Any, ...]] = {}

    def set_shape(self, name: str, *sizes: tuple[int, ...]) -> bool | None:
        """Return False where it does not take them, and nothing where it does."""
        self.shapes[name] = sizes
        return False if sizes[-1][0] > 64 else None


def stand_in(version: str, fault: str = "") -> ModuleType:
    """Return a module that answers as that version does; ``fault`` makes one step fail as the real one fails."""
    trt = ModuleType("tensorrt")
    calls: list[Any] = []
    log: list[Any] = []

    class Layer:
        num_outputs = 1

        def get_output(self, place: int) -> Any:
            return SimpleNamespace(dtype=DataType.FLOAT if fault == "fp32" else DataType.HALF)

    class Network:
        num_inputs, num_outputs, num_layers = 2, 0 if fault == "nothing" else 1, 2
        model = b""

        def get_layer(self, place: int) -> Layer:
            return Layer()

        def get_input(self, place: int) -> Tensor:
            return Tensor(("rgb", "ir")[place], (-1 if fault == "open" else 1, 8, 8, 3))

    class Config:
        builder_optimization_level = 3
        progress_monitor = None

        def clear_flag(self, flag: BuilderFlag) -> None:
            calls.append(("clear", flag.name))

        def create_timing_cache(self, data: bytes) -> Cache:
            return Cache(data)

        def set_timing_cache(self, cache: Cache, ignore_mismatch: bool) -> bool:
            self.timings = cache
            return True

        def set_memory_pool_limit(self, pool: Pools, size: int) -> None:
            calls.append(("limit", pool, size))

        def add_optimization_profile(self, profile: Profile) -> int:
            calls.append(("profile", profile.shapes))
            return 0

    class Error:
        def node_name(self) -> str:
            return "node_7"

        def node_operator(self) -> str:
            return "Det"

        def desc(self) -> str:
            return "no importer"

    class OnnxParser:
        num_errors = 1

        def __init__(self, network: Network, logger: ILogger) -> None:
            self.network = network

        def parse(self, data: bytes) -> bool:
            self.network.model = data
            return fault != "parse"

        def get_error(self, number: int) -> Error:
            return Error()

    class Builder:
        def __init__(self, logger: ILogger) -> None:
            log.append(logger)

        def create_network(self, flags: int) -> Network:
            calls.append(("network", flags))
            return Network()

        def create_builder_config(self) -> Config:
            return Config()

        def create_optimization_profile(self) -> Profile:
            return Profile()

        def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
            if config.progress_monitor:
                config.progress_monitor.phase_start("Building", None, 2)
                if not config.progress_monitor.step_complete("Building", 0):
                    return None
                config.progress_monitor.phase_finish("Building")
            if fault == "build":
                log[-1].log(ILogger.WARNING, "a warning")
                log[-1].log(ILogger.ERROR, "10: could not find\n  any implementation for node 7")
                return None
            config.timings.lines.add(b"a kernel") if hasattr(config, "timings") else None
            return PLAN + network.model

    class Context:
        def __init__(self, engine: Engine) -> None:
            self.engine, self.addresses = engine, dict[str, int]()

        def __del__(self) -> None:
            CUDA[0].told.append("context goes")

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return self.engine.get_tensor_shape(name)

        def set_tensor_address(self, name: str, address: int) -> bool:
            self.addresses[name] = address
            return True

        def execute_async_v3(self, stream: int) -> bool:
            calls.append(("execute", stream))
            if fault == "run":
                log[-1].log(ILogger.ERROR, "illegal memory access")
                return False
            CUDA[0].ask(self.compute)
            return True

        def compute(self) -> None:
            """Answer as ONNX Runtime does, from the addresses to the addresses."""
            inputs = {n: CUDA[0].at(self.addresses[n], s, "uint8").copy() for n, s in self.engine.shapes.items()}
            for name, value in self.engine.answers(inputs).items():
                wrong = 40 if fault == "wrong" and name == "boxes" else 0
                CUDA[0].at(self.addresses[name], value.shape, value.dtype)[:] = value + wrong

    class Engine:
        """A plan holds the ONNX here."""

        def __init__(self, plan: bytes) -> None:
            import onnxruntime

            self.session = onnxruntime.InferenceSession(plan.removeprefix(PLAN), providers=["CPUExecutionProvider"])
            self.shapes = {i.name: tuple(i.shape) for i in self.session.get_inputs()}
            self.outputs = {o.name: o for o in self.session.get_outputs()}
            self.names = [*self.shapes, *self.outputs]
            self.num_io_tensors = len(self.names)

        def __del__(self) -> None:
            CUDA[0].told.append("engine goes")

        def answers(self, inputs: dict[str, Any]) -> dict[str, Any]:
            return dict(zip(self.outputs, self.session.run(list(self.outputs), inputs), strict=True))

        def get_tensor_name(self, place: int) -> str:
            return self.names[place]

        def get_tensor_mode(self, name: str) -> TensorIOMode:
            return TensorIOMode.INPUT if name in self.shapes else TensorIOMode.OUTPUT

        def get_tensor_dtype(self, name: str) -> DataType:
            floats = name in self.outputs and "float" in self.outputs[name].type
            return DataType.FLOAT if floats or fault == "types" else DataType.UINT8

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return self.shapes.get(name) or tuple(self.outputs[name].shape)

        def create_execution_context(self) -> Context | None:
            return None if fault == "context" else Context(self)

    class Runtime:
        def __init__(self, logger: ILogger) -> None:
            log.append(logger)

        def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
            if fault == "load":
                log[-1].log(ILogger.ERROR, "magicTag does not match")
                return None
            return Engine(plan)

    trt.__version__ = version  # type: ignore[attr-defined]
    trt.calls = calls  # type: ignore[attr-defined]
    parts: dict[str, Any] = {
        "ILogger": ILogger,
        "IProgressMonitor": IProgressMonitor,
        "Builder": Builder,
        "OnnxParser": OnnxParser,
    }
    parts |= {"BuilderFlag": BuilderFlag, "DataType": DataType, "TensorIOMode": TensorIOMode, "Runtime": Runtime}
    trt.nptype = lambda dtype: dtype.value  # type: ignore[attr-defined]
    flags = OldFlags if version < "11" else Flags
    for name, part in (parts | {"MemoryPoolType": Pools, "NetworkDefinitionCreationFlag": flags}).items():
        setattr(trt, name, part)
    return trt


class StandInCuda:
    """The CUDA runtime on this machine's own memory: work is done as it is asked for, or recorded into a graph."""

    cudaHostAllocDefault, cudaHostAllocMapped, cudaStreamNonBlocking = 0, 2, 1

    class cudaError_t(enum.IntEnum):
        """Two of them."""

        cudaSuccess, cudaErrorMemoryAllocation = 0, 2

    class cudaMemcpyKind(enum.IntEnum):
        """The two that engines need."""

        cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost = 1, 2

    cudaDeviceAttr = SimpleNamespace(cudaDevAttrIntegrated=18)
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)

    def __init__(self, integrated: bool = False, memory: int = 1 << 30) -> None:
        self.integrated, self.memory = integrated, memory
        self.recording: list[Callable[[], None]] | None = None
        self.kept: dict[int, Any] = {}
        """What is allocated, by address; a stream is 7, a graph is what was recorded."""
        self.graphs: list[Any] = []
        self.streams = 0
        self.told: list[str] = []
        CUDA[:] = [self]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*words: Any) -> tuple[Any, ...]:
            self.told.append(name)
            found = getattr(self, f"_{name}")(*words)
            return (found,) if isinstance(found, self.cudaError_t) else (self.cudaError_t.cudaSuccess, found)

        if not name.startswith("cuda"):
            raise AttributeError(name)
        return call

    def at(self, address: int, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """Return what lies at an address."""
        count = int(np.prod(shape))
        raw = (ctypes.c_ubyte * (count * np.dtype(dtype).itemsize)).from_address(address)
        return np.frombuffer(raw, dtype, count).reshape(shape)

    def ask(self, work: Callable[[], None]) -> None:
        """Do it, or record it."""
        if self.recording is None:
            work()
        else:
            self.recording.append(work)

    def _memory(self, size: int) -> Any:
        self.memory -= size
        if self.memory < 0:
            return self.cudaError_t.cudaErrorMemoryAllocation
        memory = ctypes.create_string_buffer(size)
        self.kept[ctypes.addressof(memory)] = memory
        return ctypes.addressof(memory)

    def _cudaMalloc(self, size: int) -> Any:
        return self._memory(size)

    def _cudaHostAlloc(self, size: int, flags: int) -> Any:
        assert flags == (2 if self.integrated else 0)
        return self._memory(size)

    def _cudaFree(self, pointer: int) -> None:
        del self.kept[pointer]

    def _cudaFreeHost(self, pointer: int) -> None:
        del self.kept[pointer]

    def _cudaStreamDestroy(self, stream: int) -> None:
        self.streams -= 1

    def _cudaGraphExecDestroy(self, graph: Any) -> None:
        self.graphs.remove(graph)

    def _cudaHostGetDevicePointer(self, pointer: int, flags: int) -> int:
        return pointer

    def _cudaSetDevice(self, number: int) -> None:
        pass

    def _cudaDeviceGetAttribute(self, attribute: int, number: int) -> int:
        return int(self.integrated)

    def _cudaStreamCreateWithFlags(self, flags: int) -> int:
        self.streams += 1
        return 7

    def _cudaStreamSynchronize(self, stream: int) -> None:
        assert self.recording is None

    def _cudaMemcpyAsync(self, to: int, of: int, size: int, kind: int, stream: int) -> None:
        self.ask(lambda: ctypes.memmove(to, of, size) and None)

    def _cudaStreamBeginCapture(self, stream: int, mode: int) -> None:
        self.recording = []

    def _cudaStreamEndCapture(self, stream: int) -> Any:
        graph, self.recording = self.recording, None
        return graph

    def _cudaGraphInstantiate(self, graph: Any, flags: int) -> Any:
        self.graphs.append(tuple(graph))
        return self.graphs[-1]

    def _cudaGraphDestroy(self, graph: Any) -> None:
        pass

    def _cudaGraphLaunch(self, graph: Any, stream: int) -> None:
        for work in graph:
            work()


CUDA: list[StandInCuda] = []
"""The one in use."""


def install(patch: pytest.MonkeyPatch, version: str = "11.4.0", fault: str = "", **cuda: Any) -> StandInCuda:
    """Put an Orin, its CUDA and a version of TensorRT in their places, of all back ends that one and the CPU alone."""
    from edgemtl_runtime.engine import build, config, selection, trt_build, trt_run
    from edgemtl_runtime.engine import cuda as real

    runtime = StandInCuda(**cuda)
    patch.setitem(sys.modules, "tensorrt", stand_in(version, fault))
    patch.setattr(trt_build, "_LOGS", {})
    patch.setattr(real, "bindings", lambda: runtime)
    for part in (build, trt_run, config, selection):
        patch.setattr(part, "find_gpu", lambda: ORIN)
    patch.setattr(
        config, "unavailable_reason", lambda name: "" if name in ("tensorrt", "onnxruntime-cpu") else "absent"
    )
    return runtime
