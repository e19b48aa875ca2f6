"""Program to ONNX: camera bytes in, decoded heads out, all arithmetic in the graph."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from edgemtl_runtime.bundle import Head, Input

OPSET = 20
MAX_BOXES = 100
"""Boxes a picture: what COCO's average precision looks at."""
MAX_BATCH = 64
"""Pictures that a batch which is left open may have."""
LOG_DEPTH = (-4.6, 6.9)
"""Depths lie between a centimetre and a kilometre."""


def normalise(image: Tensor, spec: Input) -> Tensor:
    """Return (B, C, H, W) camera values in [0, 255] as the network wants them: (x / 255 - mean) / std."""
    mean = torch.tensor(spec.mean, device=image.device).view(1, -1, 1, 1)
    std = torch.tensor(spec.std, device=image.device).view(1, -1, 1, 1)
    return (image.float() * (1 / 255) - mean) * (1 / std)


def topk_boxes(raw: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the best boxes, (B, K, 6) x1 y1 x2 y2 score class, of (B, A, 4 + classes) boxes and scores."""
    anchors, classes = raw.shape[1], raw.shape[2] - 4
    scores, index = raw[:, :, 4:].flatten(1).topk(min(MAX_BOXES, anchors * classes))
    anchor = torch.div(index, classes, rounding_mode="floor")
    boxes = raw[:, :, :4].gather(1, anchor.unsqueeze(-1).expand(-1, -1, 4))
    label = (index - anchor * classes).to(raw.dtype)
    return torch.cat([boxes, scores.unsqueeze(-1), label.unsqueeze(-1)], -1)


def label_map(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the likeliest class a pixel, (B, H, W) uint8, of logits at a coarser resolution."""
    full = functional.interpolate(logits, size, mode="bilinear", align_corners=False)
    return full.argmax(1).to(torch.uint8)


def depth_map(log_depth: Tensor, size: tuple[int, int]) -> Tensor:
    """Return depths, (B, H, W) metres, of their logarithms (B, 1, h, w) at a coarser resolution."""
    full = functional.interpolate(log_depth, size, mode="bilinear", align_corners=False)
    return full[:, 0].clamp(*LOG_DEPTH).exp()


def normal_map(raw: Tensor, size: tuple[int, int]) -> Tensor:
    """Return unit vectors, (B, H, W, 3), of directions (B, 3, h, w) at a coarser resolution."""
    full = functional.interpolate(raw, size, mode="bilinear", align_corners=False).permute(0, 2, 3, 1)
    return full / full.square().sum(-1, keepdim=True).clamp(min=1e-12).sqrt()


def edge_map(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Return edge scores, (B, H, W) in [0, 1], of logits (B, 1, h, w) at a coarser resolution."""
    return functional.interpolate(logits, size, mode="bilinear", align_corners=False)[:, 0].sigmoid()


def attributes(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a score for each attribute, (B, A) in [0, 1]."""
    return logits.sigmoid()


FINISHES: dict[str, Callable[[Tensor, tuple[int, int]], Tensor]] = {
    finish.__name__: finish for finish in (topk_boxes, label_map, depth_map, normal_map, edge_map, attributes)
}
"""What is done in the graph for each decoder of the runtime."""


class Deployed(nn.Module):
    """A network as it is shipped: uint8 (B, H, W, C) images in the order of ``inputs``, one tensor a head out."""

    def __init__(self, network: nn.Module, inputs: tuple[Input, ...], heads: tuple[Head, ...]) -> None:
        super().__init__()
        self.network = network
        self.inputs = inputs
        self.heads = heads
        self.size = (inputs[0].height, inputs[0].width)

    def forward(self, *images: Tensor) -> tuple[Tensor, ...]:
        """Return the heads' outputs in the order of ``heads``."""
        # The cast comes first: TensorRT takes no transposition of bytes.
        named = {
            spec.name: normalise(image.float().permute(0, 3, 1, 2), spec)
            for spec, image in zip(self.inputs, images, strict=True)
        }
        raw = self.network(**named)
        return tuple(FINISHES[head.decoder](raw[head.name], self.size) for head in self.heads)

    def run(self, images: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run on arrays, as an engine of the runtime does."""
        with torch.inference_mode():
            outputs = self(*(torch.from_numpy(images[spec.name]) for spec in self.inputs))
        return {head.name: out.numpy() for head, out in zip(self.heads, outputs, strict=True)}


def example_inputs(inputs: tuple[Input, ...], batch: int = 1) -> dict[str, Tensor]:
    """Return normalised example images by name, (batch, C, H, W), to trace a network with."""
    generator = torch.Generator().manual_seed(0)
    return {
        spec.name: normalise(
            torch.randint(0, 256, (batch, spec.channels, spec.height, spec.width), generator=generator), spec
        )
        for spec in inputs
    }


def open_batch() -> torch.export.Dim:
    """Return the size of a batch that is left open."""
    return torch.export.Dim("batch", min=1, max=MAX_BATCH)


def write_onnx(deployed: Deployed, file: Path, *, dynamic_batch: bool = False) -> None:
    """Write a deployed network as ONNX with named uint8 NHWC inputs and named outputs, and check the file.

    With ``dynamic_batch`` the first size of every input and output is open; the network must have been traced so.
    """
    batch = 2 if dynamic_batch else 1  # a batch of one would be taken for a constant
    examples = tuple(torch.zeros(batch, s.height, s.width, s.channels, dtype=torch.uint8) for s in deployed.inputs)
    size = open_batch()
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
    """Take out what the exporter noted of this machine: stack traces with paths, on every node and value."""
    graph = model.graph
    for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("doc_string")
        if "metadata_props" in part.DESCRIPTOR.fields_by_name:
            part.ClearField("metadata_props")
    graph.ClearField("value_info")
