"""Inference with a plan of TensorRT or TensorRT-RTX that this machine built.

Inputs and outputs lie in pinned memory (mapped into the GPU's on an integrated one), all work is queued on one stream,
and from the second run on as one CUDA graph, since every shape is fixed.
"""

from __future__ import annotations

import contextlib
import weakref
from typing import Any

import numpy as np

from ..bundle import Manifest
from ..errors import EngineError
from . import Arrays, ThreadSafeEngine, check_interface, trt_build
from .cuda import Buffer, Cuda
from .gpu import Gpu, find_gpu


class Resources:
    """The resources of a plan, freed in the order of their dependencies."""

    def __init__(self, cuda: Cuda) -> None:
        self.cuda = cuda
        self.runtime: Any = None
        self.engine: Any = None
        self.context: Any = None
        self.buffers: list[Buffer] = []
        self.graph: Any = None

    def free(self) -> None:
        """Free all of it, once the work queued on the stream is done."""
        with contextlib.suppress(EngineError):  # of work that failed: its run has raised already
            self.cuda.wait()
        if self.graph is not None:
            self.cuda.free_graph(self.graph)
        self.graph = None
        # TensorRT frees each with its last reference
        self.context = None
        self.engine = None
        self.runtime = None
        while self.buffers:
            self.buffers.pop().free()
        self.cuda.close()


class TrtEngine(ThreadSafeEngine):
    """TensorRT engine from a plan's bytes, of a backend of `trt_build.BACKENDS`; raises `EngineError`.

    Give no plan that another machine or user may have written: it is a program. Any thread may run and close it; one
    does at a time. One that is dropped frees the GPU's memory as `close` does.
    """

    def __init__(self, backend: str, plan: bytes, manifest: Manifest | None) -> None:
        """Without a ``manifest``, inputs and outputs may be any."""
        super().__init__()
        gpu = find_gpu()
        if not isinstance(gpu, Gpu):  # without a driver, some versions of TensorRT end the process
            raise EngineError(f"{backend} needs a GPU to run: {gpu}")
        self.name = backend
        module = trt_build.load(backend)
        self.log = trt_build.log_of(module)
        self.cuda = Cuda()
        self.resources = Resources(self.cuda)
        self._free_once = weakref.finalize(self, self.resources.free)
        try:
            self._load(module, plan)
            self.inputs, self.outputs = self._buffers(module, manifest)
            self.input_names = list(self.inputs)
        except BaseException:
            self._free_once()
            raise
        self.first_run = True

    def _load(self, module: Any, plan: bytes) -> None:
        resources = self.resources
        resources.runtime = module.Runtime(self.log.logger)
        resources.engine = resources.runtime.deserialize_cuda_engine(plan)
        if resources.engine is None:
            raise EngineError(f"{self.name} cannot load the engine: {self.log.last()}; build it again")
        resources.context = resources.engine.create_execution_context()
        if resources.context is None:
            raise EngineError(f"{self.name} cannot start the engine: {self.log.last()}")

    def _buffers(self, module: Any, manifest: Manifest | None) -> tuple[dict[str, Buffer], dict[str, Buffer]]:
        """Allocate a buffer for each input and output, and set their addresses in the context."""
        engine, context = self.resources.engine, self.resources.context
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        inputs = [name for name in names if engine.get_tensor_mode(name) == module.TensorIOMode.INPUT]
        types = {name: np.dtype(module.nptype(engine.get_tensor_dtype(name))) for name in names}
        shapes = {name: tuple(engine.get_tensor_shape(name)) for name in inputs}
        if manifest is not None:
            others = [name for name in inputs if types[name] != np.uint8]
            outputs = {name: tuple(engine.get_tensor_shape(name)) for name in names if name not in inputs}
            check_interface(manifest, shapes, others, outputs)
        for name, shape in shapes.items():
            if shape[0] < 0 and not context.set_input_shape(name, (1, *shape[1:])):
                raise EngineError(f"the engine takes no batch of one of '{name}'; build it with another profile")
        buffers = {}
        for name in names:
            shape = (1, *shapes[name][1:]) if name in inputs else tuple(context.get_tensor_shape(name))
            buffers[name] = Buffer(self.cuda, shape, types[name])
            self.resources.buffers.append(buffers[name])
            if not context.set_tensor_address(name, buffers[name].device):
                raise EngineError(f"the engine does not take its memory for '{name}'")
        return {n: b for n, b in buffers.items() if n in inputs}, {n: b for n, b in buffers.items() if n not in inputs}

    def _run(self, inputs: Arrays) -> Arrays:
        for name, buffer in self.inputs.items():
            if inputs[name].shape != buffer.host.shape:
                raise EngineError(f"'{name}' is {inputs[name].shape}, the engine takes {buffer.host.shape}")
            np.copyto(buffer.host, inputs[name])
        if self.resources.graph is not None:
            self.cuda.launch(self.resources.graph)
        else:
            self._enqueue()
        self.cuda.wait()
        outputs = {name: buffer.host.copy() for name, buffer in self.outputs.items()}
        if self.first_run:  # the first run may still set things up, which no graph can hold
            self.first_run = False
            self._capture()
        return outputs

    def _enqueue(self) -> None:
        """Queue a run on the stream: copies to the GPU, inference, copies back."""
        for buffer in self.inputs.values():
            buffer.send()
        if not self.resources.context.execute_async_v3(int(self.cuda.stream)):
            raise EngineError(f"{self.name} does not run the engine: {self.log.last()}")
        for buffer in self.outputs.values():
            buffer.fetch()

    def _capture(self) -> None:
        """Capture a run as a CUDA graph; networks that cannot be captured run without."""
        with contextlib.suppress(EngineError):
            self.resources.graph = self.cuda.graph(self._enqueue)

    def _free(self) -> None:
        self.inputs, self.outputs = {}, {}
        self._free_once()
