"""Running a plan of TensorRT or TensorRT-RTX that this machine built.

Inputs and outputs lie in pinned memory (mapped into the GPU's on an integrated one), all work is asked of one stream,
and from the second run on as one CUDA graph, since every shape is fixed.
"""

from __future__ import annotations

import contextlib
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle import Manifest
from ..errors import EngineError
from . import OneAtATime, check_interface, trt_build
from .cuda import Buffer, Cuda
from .gpu import Gpu, find_gpu


class Held:
    """What a plan needs in memory, freed in the order in which one thing stands on the other."""

    def __init__(self, cuda: Cuda) -> None:
        self.cuda = cuda
        self.runtime: Any = None
        self.engine: Any = None
        self.context: Any = None
        self.buffers: list[Buffer] = []
        self.graph: Any = None

    def free(self) -> None:
        """Free all of it, when what was asked of the stream is done."""
        with contextlib.suppress(EngineError):  # of work that failed: what it was for has been told
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


class PlanEngine(OneAtATime):
    """An engine from a plan's bytes, by a back end of `trt.BACKENDS`; raises `EngineError` with TensorRT's own words.

    Give no plan that another machine or user may have written: it is a program. Any thread may run and close it; one
    does at a time. One that is dropped frees the GPU's memory as `close` does.
    """

    def __init__(self, backend: str, plan: bytes, manifest: Manifest) -> None:
        super().__init__()
        gpu = find_gpu()
        if not isinstance(gpu, Gpu):  # without a driver, some versions of TensorRT end the process
            raise EngineError(f"{backend} needs a GPU to run: {gpu}")
        self.name = backend
        module = trt_build.load(backend)
        self.log = trt_build.log_of(module)
        self.cuda = Cuda()
        self.held = Held(self.cuda)
        self._free_once = weakref.finalize(self, self.held.free)
        try:
            self._load(module, plan)
            self.inputs, self.outputs = self._buffers(module, manifest)
        except BaseException:
            self._free_once()
            raise
        self.fresh = True

    def _load(self, module: Any, plan: bytes) -> None:
        held = self.held
        held.runtime = module.Runtime(self.log.logger)
        held.engine = held.runtime.deserialize_cuda_engine(plan)
        if held.engine is None:
            raise EngineError(f"{self.name} cannot load the engine: {self.log.last()}; build it again")
        held.context = held.engine.create_execution_context()
        if held.context is None:
            raise EngineError(f"{self.name} cannot start the engine: {self.log.last()}")

    def _buffers(self, module: Any, manifest: Manifest) -> tuple[dict[str, Buffer], dict[str, Buffer]]:
        """Make a buffer for each input and output, and tell the context where they are."""
        engine, context = self.held.engine, self.held.context
        names = [engine.get_tensor_name(place) for place in range(engine.num_io_tensors)]
        taken = [name for name in names if engine.get_tensor_mode(name) == module.TensorIOMode.INPUT]
        types = {name: np.dtype(module.nptype(engine.get_tensor_dtype(name))) for name in names}
        shapes = {name: tuple(engine.get_tensor_shape(name)) for name in taken}
        others = [name for name in taken if types[name] != np.uint8]
        given = {name: tuple(engine.get_tensor_shape(name)) for name in names if name not in taken}
        check_interface(manifest, shapes, others, given)
        for name, shape in shapes.items():
            if shape[0] < 0 and not context.set_input_shape(name, (1, *shape[1:])):
                raise EngineError(f"the engine takes no batch of one of '{name}'; build it with another profile")
        buffers = {}
        for name in names:
            shape = (1, *shapes[name][1:]) if name in taken else tuple(context.get_tensor_shape(name))
            buffers[name] = Buffer(self.cuda, shape, types[name])
            self.held.buffers.append(buffers[name])
            if not context.set_tensor_address(name, buffers[name].device):
                raise EngineError(f"the engine does not take its memory for '{name}'")
        return {n: b for n, b in buffers.items() if n in taken}, {n: b for n, b in buffers.items() if n not in taken}

    def _run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        for name, buffer in self.inputs.items():
            if inputs[name].shape != buffer.host.shape:
                raise EngineError(f"'{name}' is {inputs[name].shape}, the engine takes {buffer.host.shape}")
            np.copyto(buffer.host, inputs[name])
        if self.held.graph is not None:
            self.cuda.launch(self.held.graph)
        else:
            self._ask()
        self.cuda.wait()
        found = {name: buffer.host.copy() for name, buffer in self.outputs.items()}
        if self.fresh:  # the first run may still set things up, which no graph can hold
            self.fresh = False
            self._capture()
        return found

    def _ask(self) -> None:
        """Ask the stream for a run: there, through and back."""
        for buffer in self.inputs.values():
            buffer.send()
        if not self.held.context.execute_async_v3(int(self.cuda.stream)):
            raise EngineError(f"{self.name} does not run the engine: {self.log.last()}")
        for buffer in self.outputs.values():
            buffer.fetch()

    def _capture(self) -> None:
        """Make a graph of a run; networks that cannot be one run without."""
        with contextlib.suppress(EngineError):
            self.held.graph = self.cuda.graph(self._ask)

    def _free(self) -> None:
        self.inputs, self.outputs = {}, {}
        self._free_once()
