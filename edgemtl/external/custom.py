"""Any module as a network of images: its sizes, pixels and outputs are given by the user, or measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edgemtl_runtime.bundle import Head

from ..errors import EdgemtlError, brief
from .detectors import recognised
from .formats import tensors_of
from .network import Adapter, ExternalNetwork, OutputFormat
from .options import RANGES, OpenOptions, image_input
from .source import NetworkSource

OWN_LICENCE = "of whoever trained the network: it was made elsewhere, and its licence is not known here"
DEFAULT_SIZE = (224, 224)


def described(
    source: NetworkSource,
    module: nn.Module,
    options: OpenOptions,
    examples: Sequence[Tensor] = (),
    input_names: Sequence[str] = (),
    output_names: Sequence[str] = (),
    statistics: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
    default_size: tuple[int, int] = DEFAULT_SIZE,
    classifier: bool = False,
    fixed: bool = False,
    batch: int = 0,
    class_names: dict[int, str] | None = None,
) -> ExternalNetwork:
    """Return a module as an `ExternalNetwork`; raises `EdgemtlError` where it takes something else than images.

    ``examples`` are inputs that it takes; ``statistics`` are the mean and standard deviation of its pixels; ``fixed``
    sizes are those of the examples.
    """
    size = _size(source, options, examples, default_size, fixed)
    channels = [x.shape[1] for x in examples] or [_channels(source, module, size)]
    names = _input_names(channels, input_names)
    if batch > 1:
        raise EdgemtlError(f"{source}: takes {batch} images at once; export it for one, or for any number")
    shapes = [torch.zeros(1, c, *size) for c in channels]
    try:
        with torch.no_grad():
            outputs = module(*shapes)
    except Exception as error:  # a network may fail in any way
        raise EdgemtlError(
            f"{source}: cannot be run on an fp32 image of {size[0]}x{size[1]} ({brief(error)}); "
            "is it of another --input-size, or in half precision?"
        ) from error
    may_detect = len(names) == 1 and channels == [3] and not options.raw_outputs
    detector = recognised(outputs, module, size, class_names) if may_detect else None
    output_format: OutputFormat
    heads: tuple[Head, ...]
    if detector:
        output_format, heads, notes = detector.format, (detector.head,), [detector.note]
    else:
        try:
            output_format, heads, left_out = tensors_of(outputs, output_names, classifier, names)
        except ValueError as error:
            raise EdgemtlError(f"{source}: {error}") from error
        notes = [f"{source} is no detector of a known kind: its outputs are taken as they are, without a decoder"]
        if left_out:
            notes.append(f"outputs that are no real numbers are left out: {', '.join(left_out)}")
    pixels = options.pixels or (detector.pixels if detector else None)
    mean, std = RANGES[pixels] if pixels else statistics or RANGES["0-1"]
    if not pixels and not statistics:
        notes.append("pixels are taken to be RGB from 0 to 1; --pixels and --bgr give others")
    inputs = tuple(image_input(n, size, c, mean, std) for n, c in zip(names, channels, strict=True))
    bgr = (options.bgr or bool(detector and detector.bgr)) and channels == [3]
    return ExternalNetwork(
        source.stem,
        Adapter(module, names, output_format, bgr).eval(),
        inputs,
        heads,
        OWN_LICENCE,
        tuple(input_names) or tuple(names),
        tuple(output_names) or tuple(head.name for head in heads),
        batch,
        tuple(notes),
    )


def _size(
    source: NetworkSource, options: OpenOptions, examples: Sequence[Tensor], default: tuple[int, int], fixed: bool
) -> tuple[int, int]:
    for x in examples:
        if x.ndim != 4 or x.shape[1] not in (1, 3) or not x.is_floating_point():
            raise EdgemtlError(
                f"{source}: takes an input of shape {tuple(x.shape)}; images (1, 3 or 1, height, width) are wanted"
            )
    sizes = {tuple(x.shape[2:]) for x in examples}
    if len(sizes) > 1:
        raise EdgemtlError(f"{source}: takes images of several sizes at once, {' and '.join(map(str, sorted(sizes)))}")
    given = next(iter(sizes), None)
    if fixed and options.input_size and given and options.input_size != given:
        raise EdgemtlError(
            f"--input-size {options.input_size[0]} {options.input_size[1]}: {source} takes {given} alone"
        )
    if given and (fixed or not options.input_size):
        return given[0], given[1]
    return options.input_size or default


def _channels(source: NetworkSource, module: nn.Module, size: tuple[int, int]) -> int:
    """Return the channels that the first convolution reads, 3 where there is none."""
    first = next((m for m in module.modules() if isinstance(m, nn.Conv2d)), None)
    channels = first.in_channels if first is not None else 3
    if channels not in (1, 3):
        raise EdgemtlError(f"{source}: takes images of {channels} channels; grey or colour images are wanted")
    return channels


def _input_names(channels: Sequence[int], given: Sequence[str]) -> list[str]:
    """Return names of cameras: those of the network where they are some, else by the number of channels."""
    if len(channels) == 1:
        return ["rgb" if channels[0] == 3 else "ir"]
    known: Any = [name for name in given if name in ("rgb", "ir", "depth")]
    if len(known) == len(channels):
        return list(known)
    return ["rgb" if c == 3 else "ir" for c in channels] if sorted(channels) == [1, 3] else [*given]
