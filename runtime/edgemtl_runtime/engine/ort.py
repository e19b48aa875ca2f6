"""ONNX Runtime on the CPU."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..bundle import Bundle, Manifest
from ..errors import BundleError, EdgemtlError, EngineError


def default_threads() -> int:
    """Threads for inference: all cores this process may use but one, which captures, decodes and writes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores - 1)


def open_engine(bundle: Bundle, threads: int = 0, precision: str = "fp32") -> OrtEngine:
    """Load a bundle's network in a precision and check that it is the one its manifest describes."""
    engine = OrtEngine(bundle.model_in(precision), threads)
    engine.check(bundle.manifest)
    return engine


class OrtEngine:
    """The network in ONNX Runtime's CPU provider; ``threads`` 0 takes `default_threads`."""

    name = "onnxruntime-cpu"

    def __init__(self, model: Path, threads: int = 0) -> None:
        try:
            import onnxruntime as ort
        except ImportError as error:
            raise EdgemtlError("no ONNX Runtime here: pip install 'edgemtl-runtime[onnxruntime]'") from error
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or default_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self.session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises bare classes of its own, told apart only by their text
            reason = str(error).splitlines()[0][:200]
            raise BundleError(f"{model}: ONNX Runtime cannot load it ({reason}); export the bundle again") from error
        self.outputs = [output.name for output in self.session.get_outputs()]

    def check(self, manifest: Manifest) -> None:
        """Raise `BundleError` where the network's inputs and outputs are not what the manifest says."""
        expected = {spec.name: [1, spec.height, spec.width, spec.channels] for spec in manifest.inputs}
        found = {spec.name: list(spec.shape) for spec in self.session.get_inputs()}
        if expected != found or any(spec.type != "tensor(uint8)" for spec in self.session.get_inputs()):
            raise BundleError(f"the network takes {found}, the manifest says {expected}; export the bundle again")
        missing = [head.name for head in manifest.heads if head.name not in self.outputs]
        if missing:
            raise BundleError(
                f"the network has no output '{missing[0]}' that the manifest names; export the bundle again"
            )

    def run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the network once on named uint8 (1, H, W, C) inputs."""
        try:
            found = self.session.run(self.outputs, inputs)
        except Exception as error:  # as above
            raise EngineError(f"ONNX Runtime fails in the network ({str(error).splitlines()[0][:200]})") from error
        return dict(zip(self.outputs, found, strict=True))
