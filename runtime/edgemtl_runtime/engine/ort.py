"""ONNX Runtime on the CPU."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..errors import BundleError, EdgemtlError


def default_threads() -> int:
    """Threads for inference: all cores this process may use but one, which captures, decodes and writes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores - 1)


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

    def run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the network once on named uint8 (1, H, W, C) inputs."""
        return dict(zip(self.outputs, self.session.run(self.outputs, inputs), strict=True))
