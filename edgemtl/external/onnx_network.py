"""ONNX files as networks: read into torch, node by node, with what no image decides computed once."""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import Any

import onnx

from edgemtl_export.errors import UnsupportedError
from edgemtl_export.from_onnx import OnnxNetwork
from edgemtl_runtime.onnx_file import check_foreign_onnx
from edgemtl_runtime.text import shortened

from ..errors import EdgemtlError
from ..licence import DATA
from .custom import described
from .network import ExternalNetwork
from .options import OpenOptions
from .source import NetworkSource

DEFAULT_SIZE = (640, 640)


def open_network(source: NetworkSource, options: OpenOptions) -> ExternalNetwork:
    """Open an ONNX file; raises `EdgemtlError`, and `UnsupportedError` with the operator that cannot be read."""
    check_foreign_onnx(source.path)
    model = onnx.load(str(source.path), load_external_data=False)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    try:
        network = OnnxNetwork(model, _sizes(model, options, metadata))
    except UnsupportedError as error:
        if options.input_size is None:
            raise
        given = f"{options.input_size[0]} {options.input_size[1]}"
        raise EdgemtlError(f"--input-size {given}: {source} cannot be read at this size ({error})") from error
    opened = described(
        source,
        network,
        options,
        network.example_inputs,
        network.input_names,
        network.output_names,
        fixed=True,
        batch=0 if network.takes_batches else network.example_inputs[0].shape[0],
        class_names=_names(metadata),
    )
    return replace(opened, licence=_licence(metadata) or opened.licence)


def _sizes(model: onnx.ModelProto, options: OpenOptions, metadata: dict[str, str]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of inputs: of the size that the user gives, or the file, or its metadata.

    A file that is of one size is read at another where nothing in it but its input depends on the size.
    """
    initializers = {initializer.name for initializer in model.graph.initializer}
    sizes: dict[str, tuple[int, ...]] = {}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name in initializers or len(dims) != 4:
            continue
        fixed = [d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in dims]
        wanted = _literal(metadata.get("imgsz", "")) or DEFAULT_SIZE
        height, width = options.input_size or (fixed[2] or wanted[0], fixed[3] or wanted[1])
        sizes[value.name] = (fixed[0] or 1, fixed[1] or 3, height, width)
    return sizes


def _licence(metadata: dict[str, str]) -> str:
    """Return the licence that a file names, as ultralytics writes it into its files."""
    named = shortened(" ".join(metadata.get("license", "").split()), 200)
    return named and f"{named}, as the file says of itself; {DATA}"


def _names(metadata: dict[str, str]) -> dict[int, str] | None:
    """Return the classes in a file's metadata, as ultralytics writes them."""
    names = _literal(metadata.get("names", ""))
    if isinstance(names, dict) and all(isinstance(k, int) and isinstance(n, str) for k, n in names.items()):
        return names
    return None


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text) if text and len(text) < 1 << 20 else None
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
