"""What is deployed, and how long work is reported: without onnx, which a training by a formula does not load."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn

from edgemtl_runtime.engine.config import EngineConfig

Progress = Callable[[str, int, int], None]
"""Called with what is done, how much of it, and how much there is."""


class Deployment(NamedTuple):
    """A network as it runs on the device, with the trained one in it, and example inputs."""

    network: nn.Module
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}  # noqa: RUF012  # never written to


def engine_config(text: str) -> EngineConfig:
    """Return the engine of BACKEND/PRECISION/THREADS, of which the last two may be left out; raises ValueError."""
    backend, _, rest = text.partition("/")
    precision, _, threads = rest.partition("/")
    known = f"engine={text}: is no BACKEND/PRECISION/THREADS, like onnxruntime-cpu/fp32/2 or tensorrt/fp16"
    if not (threads or "0").isdecimal() or precision == "int8":  # a probe is in fp32 or fp16
        raise ValueError(known)
    try:
        return EngineConfig(backend, precision or "fp32", int(threads or (backend == EngineConfig().backend)))
    except ValueError as error:
        raise ValueError(known) from error
