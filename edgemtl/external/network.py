"""A network from elsewhere with the inputs and heads of ours, around a core that keeps its own."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from edgemtl_export.deployed import Deployed
from edgemtl_export.inputs import example_inputs
from edgemtl_export.teacher import Kind
from edgemtl_models.yolo_detector import YoloDetector
from edgemtl_runtime.bundle import Head, Input


class OutputFormat(nn.Module):
    """What the outputs of a core mean: raw values that a teacher can compare, and the raw heads of a bundle."""

    kinds: Mapping[str, Kind] = MappingProxyType({})
    """Of the raw values, by path (`edgemtl_export.teacher`)."""
    is_selected = False
    """Whether the core has chosen its best outputs already, so that they cannot be compared one by one."""

    def raw(self, outputs: Any) -> dict[str, Tensor]:
        """Return a core's outputs as they are compared with a teacher's."""
        raise NotImplementedError

    def of_classes(self, outputs: Any, index: Tensor) -> Any:
        """Return a core's outputs with those of some classes alone."""
        raise NotImplementedError

    def heads(self, outputs: Any) -> dict[str, Tensor]:
        """Return a core's outputs as the decoder of every head reads them (`edgemtl_export.decoding`)."""
        raise NotImplementedError


class ProgramCore(nn.Module):
    """A program of torch.export as a core: it computes the same in training and in evaluation."""

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program

    def train(self, mode: bool = True) -> ProgramCore:
        """Leave the program as it is, which has no modes."""
        self.training = mode
        return self

    def forward(self, *inputs: Tensor) -> Any:
        """Return the program's outputs."""
        return self.program(*inputs)


class Adapter(nn.Module):
    """Named, normalised images to the raw output of every head, by way of a core that takes images in an order."""

    def __init__(self, core: nn.Module, names: Sequence[str], output_format: OutputFormat, bgr: bool = False) -> None:
        super().__init__()
        self.core, self.names, self.format, self.bgr = core, tuple(names), output_format, bgr

    def core_inputs(self, images: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Return what the core is given."""
        ordered = tuple(images[name] for name in self.names)
        return tuple(torch.cat(x.split(1, 1)[::-1], 1) for x in ordered) if self.bgr else ordered

    def raw(self, images: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the outputs as a teacher compares them."""
        return self.format.raw(self.core(*self.core_inputs(images)))

    def forward(self, **images: Tensor) -> dict[str, Tensor]:
        """Return the raw output of every head."""
        return self.format.heads(self.core(*self.core_inputs(images)))

    def around(self, core: nn.Module) -> Adapter:
        """Return an adapter of another core with the same inputs and outputs, in evaluation mode."""
        return Adapter(core, self.names, copy.deepcopy(self.format), self.bgr).eval()


@dataclass(frozen=True, eq=False)
class ExternalNetwork:
    """A network from elsewhere, in evaluation mode, and what it takes and gives."""

    name: str
    adapter: Adapter
    inputs: tuple[Input, ...]
    heads: tuple[Head, ...]
    licence: str
    input_names: tuple[str, ...] = ("images",)
    """Of the core, in an ONNX file of it."""
    output_names: tuple[str, ...] = ()
    batch: int = 0
    """How many images the core takes at once; 0: any number."""
    notes: tuple[str, ...] = ()
    """What a user should know of how it was read, a sentence each."""
    checkpoint: Any = field(default=None, repr=False)
    """The ultralytics checkpoint that it is of, None of another one."""

    @property
    def trains_with_labels(self) -> bool:
        """Whether it is a detector of ultralytics, which its own training takes."""
        return isinstance(self.adapter.core, YoloDetector)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of its inputs."""
        return self.inputs[0].height, self.inputs[0].width

    @property
    def args(self) -> tuple[Tensor, ...]:
        """Example inputs of the core."""
        return self.adapter.core_inputs(example_inputs(self.inputs, self.batch or 1))

    def deployed(self, adapter: Adapter | None = None) -> Deployed:
        """Return it, or the same around another core, with the inputs and outputs of a bundle."""
        return Deployed(self.adapter if adapter is None else adapter, self.inputs, self.heads)
