"""A network to ONNX: uint8 NHWC images in, decoded heads out, all arithmetic in the graph."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from .deployed import Deployed
from .softmax_axis import softmax_over_last_axis
from .split_convolutions import split_convolutions

OPSET = 20
MAX_BATCH = 64
"""The largest batch of a network that is exported with a dynamic batch size."""


def dynamic_batch_size() -> torch.export.Dim:
    """Return the dynamic batch size of torch.export."""
    return torch.export.Dim("batch", min=1, max=MAX_BATCH)


def write_onnx(deployed: Deployed, file: Path, *, dynamic_batch: bool = False) -> None:
    """Write a deployed network as ONNX with named uint8 NHWC inputs and named outputs, and check the file.

    With ``dynamic_batch`` the first dimension of every input and output is dynamic; the network must be traced so.
    Raises `ValueError` where an input and an output have one name: every value of an ONNX graph has a name of its own.
    """
    if shared := {spec.name for spec in deployed.inputs} & {head.name for head in deployed.heads}:
        name = min(shared)
        raise ValueError(f"an input and an output are both named '{name}'; name the input {name}_image")
    batch = 2 if dynamic_batch else 1  # a batch of one would be taken for a constant
    examples = deployed.blank_images(batch)
    size = dynamic_batch_size()
    shapes = {"images": tuple({0: size} for _ in examples)} if dynamic_batch else None
    names = [spec.name for spec in deployed.inputs], [head.name for head in deployed.heads]
    _write(_exported(deployed, examples, *names, shapes), file)


def write_plain_onnx(
    network: nn.Module,
    args: tuple[Tensor, ...],
    file: Path,
    input_names: Sequence[str],
    output_names: Sequence[str],
    metadata: Mapping[str, str] | None = None,
    optimize: bool = True,
) -> None:
    """Write a network as ONNX with its own inputs and outputs, at the sizes of ``args``, and check the file.

    ``metadata`` is what other programs read of it. Without ``optimize`` it is written sooner, as it was traced.
    """
    model = _exported(network, args, list(input_names), list(output_names), optimize=optimize)
    onnx.helper.set_model_props(model, dict(metadata or {}))
    _write(model, file)


def onnx_of(program: torch.export.ExportedProgram) -> onnx.ModelProto:
    """Return the graph that the files above have for a program."""
    return _exported(program)


def _exported(
    network: nn.Module | torch.export.ExportedProgram,
    args: tuple[Tensor, ...] = (),
    input_names: list[str] | None = None,
    output_names: list[str] | None = None,
    dynamic_shapes: Any = None,
    optimize: bool = True,
) -> onnx.ModelProto:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            args,
            dynamo=True,
            dynamic_shapes=dynamic_shapes,
            opset_version=OPSET,
            input_names=input_names,
            output_names=output_names,
            optimize=optimize,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _strip(model)
    if optimize:
        split_convolutions(model)
        softmax_over_last_axis(model)
    return model


def _write(model: onnx.ModelProto, file: Path) -> None:
    onnx.save(model, str(file))
    onnx.checker.check_model(str(file), full_check=True)


def _strip(model: onnx.ModelProto) -> None:
    """Remove what the exporter records of this machine: stack traces with paths, on every node and value."""
    graph = model.graph
    for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("doc_string")
        if "metadata_props" in part.DESCRIPTOR.fields_by_name:
            part.ClearField("metadata_props")
    graph.ClearField("value_info")
