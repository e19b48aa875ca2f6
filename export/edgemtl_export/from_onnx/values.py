"""What an operator is given: its attributes, and inputs that are tensors or constants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import onnx
from numpy.typing import NDArray
from torch import Tensor

from ..errors import UnsupportedError


class Known(NamedTuple):
    """A value that no image decides: as an array, and as a tensor on the network's device."""

    array: NDArray[Any]
    tensor: Tensor


@dataclass(frozen=True, eq=False)
class Call:
    """One node as it runs: an input is computed, known, or None where it is left out."""

    node: onnx.NodeProto
    inputs: tuple[Tensor | Known | None, ...]

    @property
    def label(self) -> str:
        """The node's operator and name, for messages."""
        return f"{self.node.op_type} '{self.node.name or self.node.output[0]}'"

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute's value."""
        for attribute in self.node.attribute:
            if attribute.name == name:
                value = onnx.helper.get_attribute_value(attribute)
                return value.decode() if isinstance(value, bytes) else value
        return default

    def has(self, index: int) -> bool:
        """Whether there is an input of this number."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def tensor(self, index: int) -> Tensor:
        """Return an input as a tensor."""
        value = self.inputs[index]
        if value is None:
            raise UnsupportedError(f"{self.label}: input {index} is missing")
        return value.tensor if isinstance(value, Known) else value

    def is_known(self, index: int) -> bool:
        """Whether an input is known ahead."""
        return isinstance(self.inputs[index], Known)

    def numbers(self, index: int, attribute: str = "") -> list[int] | None:
        """Return whole numbers that are an input or, in older operator sets, an attribute; None without either."""
        if self.has(index):
            return [int(n) for n in self.constant(index).reshape(-1)]
        given = self.attribute(attribute) if attribute else None
        return None if given is None else [int(n) for n in (given if isinstance(given, list | tuple) else [given])]

    def constant(self, index: int) -> NDArray[Any]:
        """Return an input that has to be known ahead; raises `UnsupportedError` where it is computed."""
        value = self.inputs[index]
        if not isinstance(value, Known):
            raise UnsupportedError(f"{self.label}: input {index} depends on the images; it has to be constant")
        return value.array
