"""The self-test of a bundle: one image of each input, and what each precision put out for it where it was exported."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bundle import Bundle, Head
from .engine import Arrays, Engine
from .engine.agreement import AGREEMENTS, MIN_AGREEMENT, SAME, SIMILAR
from .errors import BundleError
from .limits import reason

SELF_TEST = "self_test.npz"
GRID = 64
"""Maps are compared at about so many rows and columns."""
MOST_BYTES = 64 << 20
"""Of one array in the file."""
LISTS = ("topk_boxes", "nms_boxes", "points")
"""Decoders of lists of objects."""
WHOLE = (*LISTS, "attributes", "scalars")
"""Decoders of outputs that are kept as they are: they are no maps."""


def write_self_test(file: Path, frame: Arrays, outputs: Mapping[str, Arrays], heads: Sequence[Head]) -> None:
    """Write a self-test: ``frame`` as an engine takes it, ``outputs`` of it by precision."""
    arrays = {f"input.{name}": image for name, image in frame.items()}
    for precision, tensors in outputs.items():
        arrays |= {f"{precision}.{head.name}": thinned(tensors[head.name], head) for head in heads}
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    np.savez_compressed(file, **contiguous)  # type: ignore[arg-type]


def thinned(output: NDArray[Any], head: Head) -> NDArray[Any]:
    """Return the values of an output that are compared: of a map every so many rows and columns."""
    if head.decoder in WHOLE or output.ndim < 3:
        return output
    rows, columns = (max(1, size // GRID) for size in output.shape[1:3])
    return output[:, ::rows, ::columns]


def check_self_test(bundle: Bundle, engine: Engine, precision: str) -> dict[str, float]:
    """Return the agreement of an engine with the export by head, nothing where the bundle has no self-test.

    Raises `BundleError` where a head's is below `MIN_AGREEMENT`, or the file is damaged.
    """
    if SELF_TEST not in bundle.manifest.files:
        return {}
    file, heads = bundle.path / SELF_TEST, bundle.manifest.heads
    frame = {spec.name: _read(file, f"input.{spec.name}") for spec in bundle.manifest.inputs}
    for spec in bundle.manifest.inputs:
        image = frame[spec.name]
        if image.dtype != np.uint8 or image.shape != (1, spec.height, spec.width, spec.channels):
            raise BundleError(f"{file}: its {spec.name} is {image.dtype} {image.shape}; export the bundle again")
    expected = {head.name: _read(file, f"{precision}.{head.name}") for head in heads}
    outputs = engine.run(frame)
    tolerance = SAME if precision == "fp32" else SIMILAR
    shares = {}
    for head in heads:
        left, right = expected[head.name], thinned(outputs[head.name], head)
        if not _is_alike(left, right, head):
            known = f"{left.dtype} {left.shape}, the network's {right.dtype} {right.shape}"
            raise BundleError(f"{file}: its {head.name} is {known}; export the bundle again")
        same, total = AGREEMENTS[head.decoder](left, right, tolerance)
        shares[head.name] = same / total if total else 1.0
        if not shares[head.name] >= MIN_AGREEMENT:
            raise BundleError(
                f"{bundle.path}: fails its self-test on {engine.name}: {shares[head.name]:.1%} of {head.name} is as at "
                f"the export, {MIN_AGREEMENT:.0%} is needed; take another bundle, or export it again"
            )
    return shares


def _is_alike(left: NDArray[Any], right: NDArray[Any], head: Head) -> bool:
    """Whether two outputs can be compared; lists of objects may be of different lengths."""
    shapes = [list(array.shape) for array in (left, right)]
    if head.decoder in LISTS and all(len(shape) == 3 for shape in shapes):
        shapes = [[shape[0], shape[2]] for shape in shapes]
    return shapes[0] == shapes[1] and left.dtype.kind == right.dtype.kind and left.dtype.kind in "fiu"


def _read(file: Path, name: str) -> NDArray[Any]:
    """Return an array of an NPZ file, which is bounded and without pickled objects; raises `BundleError`."""
    try:
        with zipfile.ZipFile(file) as archive:
            info = archive.getinfo(f"{name}.npy")
            if info.file_size > MOST_BYTES:
                raise ValueError(f"{name} is of {info.file_size / 1e6:.0f} MB")
            with archive.open(info) as stream:
                data = io.BytesIO(stream.read(MOST_BYTES))
        if np.lib.format.read_magic(data) != (1, 0):
            raise ValueError(f"{name} is of another version of NPY")
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(data)
        if is_fortran or dtype.hasobject:
            raise ValueError(f"{name} is in another order, or holds objects")
        return np.frombuffer(data.read(), dtype).reshape(shape)
    except Exception as error:  # damaged bytes make the libraries raise nearly everything
        raise BundleError(
            f"{file}: is no self-test of this bundle ({reason(error)}); export the bundle again"
        ) from error
