"""The one entry: a network from elsewhere by its source, whatever it is."""

from __future__ import annotations

from collections.abc import Callable

import torch

from edgemtl_export.errors import UnsupportedError
from edgemtl_export.inputs import example_inputs
from edgemtl_models.ultralytics_checkpoint import CheckpointError

from ..errors import EdgemtlError, brief
from . import library, onnx_network, program, python_file, ultralytics
from .chosen_classes import with_classes
from .network import ExternalNetwork
from .options import OpenOptions
from .source import NetworkSource, check

OPENERS: dict[str, Callable[[NetworkSource, OpenOptions], ExternalNetwork]] = {
    ".pt": ultralytics.open_network,
    ".pth": ultralytics.open_network,
    ".pt2": program.open_network,
    ".onnx": onnx_network.open_network,
    ".py": python_file.open_network,
    "timm": library.open_timm,
    "torchvision": library.open_torchvision,
}
STRIDE = 32
DEFAULTS = OpenOptions()


def open_network(source: NetworkSource, options: OpenOptions = DEFAULTS) -> ExternalNetwork:
    """Open a network from elsewhere, and run it once; raises `EdgemtlError` with what was wrong and what to do."""
    check(source)
    for side in options.input_size or ():
        if side < STRIDE or side > 16384:
            raise EdgemtlError(f"--input-size {' '.join(map(str, options.input_size or ()))}: sides are 32 to 16384")
    try:
        network = OPENERS[source.kind](source, options)
    except CheckpointError as error:
        text = str(error)
        raise EdgemtlError(text if text.startswith(str(source.path)) else f"{source}: {text}") from error
    except UnsupportedError as error:
        raise EdgemtlError(f"{source}: {error}") from error
    if options.classes:
        network = with_classes(network, options.classes)
    _run_once(source, network)
    return network


def _run_once(source: NetworkSource, network: ExternalNetwork) -> None:
    """Run a network on one image: what does not fit its size, and what is no number, is known before any work."""
    height, width = network.size
    try:
        with torch.no_grad():
            outputs = network.adapter(**example_inputs(network.inputs, network.batch or 1))
    except Exception as error:  # a network may fail in any way
        raise EdgemtlError(
            f"{source}: cannot be run on an image of {height}x{width} ({brief(error)}); give another --input-size"
        ) from error
    for name, tensor in outputs.items():
        if not bool(torch.isfinite(tensor).all()):
            raise EdgemtlError(f"{source}: its output {name} is not finite on an image; its weights are damaged")
