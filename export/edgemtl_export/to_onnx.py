"""A network to ONNX: uint8 NHWC images in, decoded heads out, all arithmetic in the graph."""

from __future__ import annotations

import warnings
from pathlib import Path

import onnx
import torch

from .deployed import Deployed

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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            deployed,
            examples,
            dynamo=True,
            dynamic_shapes=shapes,
            opset_version=OPSET,
            input_names=[spec.name for spec in deployed.inputs],
            output_names=[head.name for head in deployed.heads],
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _strip(model)
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
