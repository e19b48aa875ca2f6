"""ONNX Runtime: on the CPU, and with its CUDA and TensorRT providers on a GPU."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle import Bundle, Manifest
from ..errors import BundleError, EdgemtlError, EngineError, missing
from . import OneAtATime, check_interface

PROVIDERS = {
    "onnxruntime-cpu": "CPUExecutionProvider",
    "onnxruntime-cuda": "CUDAExecutionProvider",
    "onnxruntime-tensorrt": "TensorrtExecutionProvider",
}
"""The provider of each back end."""


MOST_THREADS = 256


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_threads() -> int:
    """Threads for inference: all cores this process may use but one, which captures, decodes and writes."""
    return max(1, cores() - 1)


def open_engine(bundle: Bundle, threads: int = 0, precision: str = "fp32") -> OrtEngine:
    """Load a bundle's network in a precision on the CPU and check that it is the one its manifest describes."""
    engine = OrtEngine(bundle.model_in(precision), threads)
    engine.check(bundle.manifest)
    return engine


class OrtEngine(OneAtATime):
    """The network in ONNX Runtime, by a back end of `PROVIDERS`; ``threads`` 0 takes `default_threads`.

    Without ``arena``, memory on the CPU is given back after every run. Raises `BundleError` where it cannot be loaded,
    and `EngineError` where the provider does not start. Any thread may run and close it; one does at a time.
    """

    def __init__(self, model: Path, threads: int = 0, backend: str = "onnxruntime-cpu", arena: bool = True) -> None:
        super().__init__()
        ort = load()
        if not 0 <= threads <= MOST_THREADS:
            raise EngineError(f"{threads} threads; give 1 to {MOST_THREADS}, or 0 for all cores but one")
        self.name = backend
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or default_threads()
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = arena
        options.log_severity_level = 3
        wanted = [PROVIDERS[backend]]
        try:
            self.session = ort.InferenceSession(str(model), options, providers=[*wanted, *_beside(backend)])
        except Exception as error:  # ONNX Runtime raises bare classes of its own, told apart only by their text
            reason = str(error).splitlines()[0][:200]
            raise BundleError(f"{model}: ONNX Runtime cannot load it ({reason}); export the bundle again") from error
        if self.session.get_providers()[:1] != wanted:  # it falls back to the CPU without a word
            raise EngineError(f"{wanted[0]} does not start here; `edgemtl-runtime doctor` tells what is missing")
        self.outputs = [output.name for output in self.session.get_outputs()]
        self.binding = self.session.io_binding()

    def check(self, manifest: Manifest) -> None:
        """Raise `BundleError` where the network's inputs and outputs are not what the manifest says."""
        if self._closed:
            raise EngineError(f"this {self.name} engine is closed; open it again")
        taken = self.session.get_inputs()
        others = [spec.name for spec in taken if spec.type != "tensor(uint8)"]
        given = {spec.name: spec.shape for spec in self.session.get_outputs()}
        check_interface(manifest, {spec.name: spec.shape for spec in taken}, others, given)

    def _run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        try:
            for name, image in inputs.items():
                self.binding.bind_cpu_input(name, np.ascontiguousarray(image))
            for name in self.outputs:
                self.binding.bind_output(name)
            self.session.run_with_iobinding(self.binding)
            found = self.binding.copy_outputs_to_cpu()
        except Exception as error:  # as above
            raise EngineError(f"ONNX Runtime fails in the network ({str(error).splitlines()[0][:200]})") from error
        return dict(zip(self.outputs, found, strict=True))

    def _free(self) -> None:
        del self.binding, self.session


def load() -> Any:
    """Import ONNX Runtime; raises `EdgemtlError` with what to install, or why it does not load."""
    try:
        import onnxruntime
    except ImportError as error:
        hint = "no ONNX Runtime here: pip install 'edgemtl-runtime[onnxruntime]'"
        raise EdgemtlError(missing(error, "onnxruntime", hint)) from error
    return onnxruntime


def _beside(backend: str) -> list[str]:
    """Return the providers for what the first one does not take."""
    names = list(PROVIDERS)
    return [PROVIDERS[name] for name in reversed(names[: names.index(backend)])]
