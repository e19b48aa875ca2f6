"""Some of a detector's classes: what only the others need is read by nothing, so that removal takes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from edgemtl_runtime.errors import nearest_hint

from ..errors import EdgemtlError
from .network import Adapter, ExternalNetwork, OutputFormat


class ChosenClasses(nn.Module):
    """A detector's core with the outputs of some of its classes, in an order of one's choice."""

    index: Tensor

    def __init__(self, core: nn.Module, output_format: OutputFormat, index: Tensor) -> None:
        super().__init__()
        self.core, self.format = core, output_format
        self.register_buffer("index", index, persistent=False)

    def forward(self, *inputs: Tensor) -> Any:
        """Return the core's outputs with the chosen classes alone."""
        return self.format.of_classes(self.core(*inputs), self.index)


def with_classes(network: ExternalNetwork, names: Sequence[str]) -> ExternalNetwork:
    """Return a detector with some of its classes; raises `EdgemtlError` where it has none to choose from, or lacks one.

    It is no longer one that ultralytics' own training or file format knows.
    """
    head = next((head for head in network.heads if head.task == "boxes" and head.classes), None)
    if head is None:
        raise EdgemtlError(f"--classes: {network.name} is no detector of a known kind, so its classes are not known")
    unknown = [name for name in names if name not in head.classes]
    if unknown:
        raise EdgemtlError(
            f"--classes {unknown[0]}: {network.name} has none{nearest_hint(unknown[0], [*head.classes])}"
        )
    if len(set(names)) < len(names):
        raise EdgemtlError(f"--classes {','.join(names)}: names a class twice")
    index = torch.tensor([head.classes.index(name) for name in names])
    adapter = network.adapter
    if adapter.format.is_selected:
        raise EdgemtlError(
            f"--classes: {network.name} chooses its best boxes itself, of all classes; take the checkpoint, or a file "
            "that was exported with end2end=False"
        )
    core = ChosenClasses(adapter.core, adapter.format, index).eval()
    heads = [msgspec.structs.replace(h, classes=tuple(names)) if h is head else h for h in network.heads]
    note = f"{len(names)} of its {len(head.classes)} classes: {', '.join(names)}"
    return replace(
        network,
        adapter=Adapter(core, adapter.names, adapter.format, adapter.bgr).eval(),
        heads=tuple(heads),
        notes=(*network.notes, note),
    )
