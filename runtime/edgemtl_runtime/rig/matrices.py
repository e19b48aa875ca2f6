"""Matrices in rig files and camera_info files, and checks of arrays in frozen dataclasses."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..errors import EdgemtlError
from ..limits import reason

T = TypeVar("T")
Array = NDArray[np.float64]
Size = tuple[int, int]
"""Height and width, pixels."""


class Matrix(msgspec.Struct, forbid_unknown_fields=True):
    """A matrix as in ROS camera_info YAML: row-major."""

    rows: int
    cols: int
    data: list[float]

    def array(self, label: str, shape: Size) -> Array:
        """Return the matrix; raises `EdgemtlError` where its shape is not ``shape``."""
        if (self.rows, self.cols) != shape or len(self.data) != self.rows * self.cols:
            actual = f"{self.rows}x{self.cols} of {len(self.data)} numbers"
            raise EdgemtlError(f"{label} is {actual}; give {shape[0]}x{shape[1]}")
        return np.array(self.data, np.float64).reshape(shape)


def convert(value: object, type_: type[T], label: str) -> T:
    """Return decoded YAML as a struct; raises `EdgemtlError` that names ``label`` and the field."""
    try:  # not strict: YAML 1.1 reads 1e-05, which other writers write, as text
        return msgspec.convert(value, type_, strict=False)
    except (msgspec.ValidationError, RecursionError, OverflowError) as error:
        raise EdgemtlError(f"{label}: {reason(error)}") from None


def to_yaml(values: Array | None) -> dict[str, Any]:
    """Return a matrix as a mapping of ROS camera_info YAML."""
    assert values is not None
    return {"rows": len(values), "cols": values.shape[1], "data": values.ravel().tolist()}


def freeze_array(owner: object, key: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Replace a field of a frozen dataclass by a read-only float64 array; raises `EdgemtlError` where it is none."""
    values = np.array(getattr(owner, key), np.float64)
    if values.shape != shape or not np.isfinite(values).all():
        raise EdgemtlError(f"{key} is {values.shape} or not finite; give {shape} finite numbers")
    values.setflags(write=False)
    object.__setattr__(owner, key, values)
    return values
