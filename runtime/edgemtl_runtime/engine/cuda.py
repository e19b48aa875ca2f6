"""The CUDA runtime as far as engines need it: a stream, pinned buffers, and a graph of a whole run."""

from __future__ import annotations

import ctypes
import logging
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError

log = logging.getLogger("edgemtl_runtime")


def bindings() -> Any:
    """Import NVIDIA's bindings of the CUDA runtime; raises `EngineError` with what to install."""
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise EngineError(f"no CUDA bindings here ({error}); pip install 'edgemtl-runtime[cuda]'") from error
    return runtime


class Cuda:
    """One CUDA stream on the first GPU."""

    def __init__(self) -> None:
        self.runtime = bindings()
        self.call("cudaSetDevice", 0)
        attribute = self.runtime.cudaDeviceAttr.cudaDevAttrIntegrated
        self.integrated = bool(self.call("cudaDeviceGetAttribute", attribute, 0))
        """Whether the GPU shares the processor's memory, as a Jetson's does."""
        self.stream = self.call("cudaStreamCreateWithFlags", self.runtime.cudaStreamNonBlocking)

    def call(self, name: str, *words: Any) -> Any:
        """Call a function of the CUDA runtime; raises `EngineError` with the error's name."""
        code, *results = getattr(self.runtime, name)(*words)
        if code != self.runtime.cudaError_t.cudaSuccess:
            raise EngineError(f"{name} fails: {getattr(code, 'name', code)}")
        return results[0] if results else None

    def free(self, name: str, *words: Any) -> None:
        """Call a function that frees a resource; errors are logged, so that the rest is freed as well."""
        try:
            self.call(name, *words)
        except EngineError as error:
            log.warning("freeing the engine: %s", error)

    def wait(self) -> None:
        """Block until all work queued on the stream is done."""
        self.call("cudaStreamSynchronize", self.stream)

    def graph(self, work: Callable[[], None]) -> Any:
        """Return a CUDA graph of the work that a function queues on the stream, which is captured and not done."""
        mode = self.runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self.call("cudaStreamBeginCapture", self.stream, mode)
        try:
            work()
        except EngineError:
            self.runtime.cudaStreamEndCapture(self.stream)  # whatever it answers: the capture is over
            raise
        graph = self.call("cudaStreamEndCapture", self.stream)
        try:
            return self.call("cudaGraphInstantiate", graph, 0)
        finally:
            self.call("cudaGraphDestroy", graph)

    def launch(self, graph: Any) -> None:
        """Queue a graph's work on the stream."""
        self.call("cudaGraphLaunch", graph, self.stream)

    def free_graph(self, graph: Any) -> None:
        """Free a graph that `graph` returned."""
        self.free("cudaGraphExecDestroy", graph)

    def close(self) -> None:
        """Free the stream, after all that was created with it."""
        self.free("cudaStreamDestroy", self.stream)


class Buffer:
    """Pinned memory as the array ``host``, and the GPU's at the address ``device``: the same on an integrated GPU."""

    def __init__(self, cuda: Cuda, shape: tuple[int, ...], dtype: Any) -> None:
        self.cuda = cuda
        self.size = max(1, math.prod(shape) * np.dtype(dtype).itemsize)
        runtime = cuda.runtime
        flags = runtime.cudaHostAllocMapped if cuda.integrated else runtime.cudaHostAllocDefault
        self.pointer = int(cuda.call("cudaHostAlloc", self.size, flags))
        raw = (ctypes.c_ubyte * self.size).from_address(self.pointer)
        self.host: NDArray[Any] = np.frombuffer(raw, dtype, math.prod(shape)).reshape(shape)
        try:
            allocation = ("cudaHostGetDevicePointer", self.pointer, 0) if cuda.integrated else ("cudaMalloc", self.size)
            self.device = int(cuda.call(*allocation))
        except EngineError:
            cuda.free("cudaFreeHost", self.pointer)
            raise

    def free(self) -> None:
        """Free both; ``host`` is not to be touched afterwards."""
        if not self.cuda.integrated:
            self.cuda.free("cudaFree", self.device)
        self.cuda.free("cudaFreeHost", self.pointer)

    def send(self) -> None:
        """Queue a copy of ``host`` to the GPU."""
        self._copy(self.device, self.pointer, self.cuda.runtime.cudaMemcpyKind.cudaMemcpyHostToDevice)

    def fetch(self) -> None:
        """Queue a copy of the GPU's memory to ``host``."""
        self._copy(self.pointer, self.device, self.cuda.runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost)

    def _copy(self, destination: int, source: int, direction: Any) -> None:
        if not self.cuda.integrated:
            self.cuda.call("cudaMemcpyAsync", destination, source, self.size, direction, self.cuda.stream)
