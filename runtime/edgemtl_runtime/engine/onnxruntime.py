"""ONNX Runtime as an engine: its execution providers for the CPU, CUDA and TensorRT."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ..bundle import Bundle, Manifest
from ..errors import BundleError, EdgemtlError, EngineError, missing
from ..text import shortened
from . import Arrays, ThreadSafeEngine, check_interface

PROVIDERS = {
    "onnxruntime-cpu": "CPUExecutionProvider",
    "onnxruntime-cuda": "CUDAExecutionProvider",
    "onnxruntime-tensorrt": "TensorrtExecutionProvider",
}
"""The execution provider of each backend."""
MOST_THREADS = 256


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def default_threads() -> int:
    """Return the inference threads: all usable cores but one, which captures, decodes and writes."""
    return max(1, cores() - 1)


def open_ort_engine(bundle: Bundle, threads: int = 0, precision: str = "fp32") -> OrtEngine:
    """Load a bundle's network in a precision on the CPU and check that it is the one its manifest describes."""
    engine = OrtEngine(bundle.model_in(precision), threads)
    engine.check(bundle.manifest)
    return engine


class OrtEngine(ThreadSafeEngine):
    """A network in ONNX Runtime with a backend of `PROVIDERS`; ``threads`` 0 takes `default_threads`.

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
        provider = PROVIDERS[backend]
        try:
            self.session = ort.InferenceSession(str(model), options, providers=[provider, *_fallbacks(backend)])
        except Exception as error:  # ONNX Runtime raises bare classes that only their text tells apart
            raise BundleError(
                f"{model}: ONNX Runtime {ort.__version__} cannot load it ({_reason(error)}); "
                "update onnxruntime, or export the bundle again"
            ) from error
        if self.session.get_providers()[:1] != [provider]:  # it falls back to the CPU silently
            raise EngineError(f"{provider} does not start here; `edgemtl-runtime doctor` tells what is missing")
        self.input_names = [spec.name for spec in self.session.get_inputs()]
        self.outputs = [output.name for output in self.session.get_outputs()]
        self.binding = self.session.io_binding()

    def check(self, manifest: Manifest) -> None:
        """Raise `BundleError` where the network's inputs and outputs are not the manifest's."""
        if self._closed:
            raise EngineError(f"this {self.name} engine is closed; open it again")
        inputs = self.session.get_inputs()
        others = [spec.name for spec in inputs if spec.type != "tensor(uint8)"]
        outputs = {spec.name: spec.shape for spec in self.session.get_outputs()}
        check_interface(manifest, {spec.name: spec.shape for spec in inputs}, others, outputs)

    def _run(self, inputs: Arrays) -> Arrays:
        try:
            for name, image in inputs.items():
                self.binding.bind_cpu_input(name, np.ascontiguousarray(image))
            for name in self.outputs:
                self.binding.bind_output(name)
            self.session.run_with_iobinding(self.binding)
            outputs = self.binding.copy_outputs_to_cpu()
        except Exception as error:  # as above
            raise EngineError(f"ONNX Runtime fails in the network ({_reason(error)})") from error
        return dict(zip(self.outputs, outputs, strict=True))

    def _free(self) -> None:
        del self.binding, self.session


def _reason(error: Exception) -> str:
    """Return ONNX Runtime's reason without its status, the file and the function of its own source in front of it."""
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", " ".join(str(error).split()))
    text = re.sub(r"^Load model from .*? failed: ?", "", text)
    return shortened(re.sub(r"/\S+\.(?:cc|h):\d+ .*?\([^()]*(?:\([^()]*\)[^()]*)*\) (?=[A-Z])", "", text), 250)


def load() -> Any:
    """Import ONNX Runtime; raises `EdgemtlError` with what to install, or why it does not load."""
    try:
        import onnxruntime
    except ImportError as error:
        hint = "no ONNX Runtime here: pip install 'edgemtl-runtime[onnxruntime]'"
        raise EdgemtlError(missing(error, "onnxruntime", hint)) from error
    return onnxruntime


def _fallbacks(backend: str) -> list[str]:
    """Return the providers for operators that the first one does not support."""
    names = list(PROVIDERS)
    return [PROVIDERS[name] for name in reversed(names[: names.index(backend)])]
