"""Export of a bundle to a Triton Inference Server model repository: configuration, ONNX, versions.

    REPO/NAME/config.pbtxt
    REPO/NAME/1/model.onnx

The configuration is that of Triton's `ModelConfig` (model_config.proto), in protobuf's text form.
"""

from __future__ import annotations

import os
import re
import shutil
from contextlib import ExitStack
from pathlib import Path

import onnx
from onnx import TensorProto

from edgemtl_runtime.atomic import AtomicFile, AtomicFolder
from edgemtl_runtime.bundle import Bundle
from edgemtl_runtime.errors import EdgemtlError

DATA_TYPES = {
    TensorProto.UINT8: "TYPE_UINT8",
    TensorProto.FLOAT: "TYPE_FP32",
    TensorProto.FLOAT16: "TYPE_FP16",
    TensorProto.INT64: "TYPE_INT64",
    TensorProto.INT32: "TYPE_INT32",
}
PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


def write_triton(bundle: Bundle, repository: str | os.PathLike[str], name: str, precision: str = "fp32") -> Path:
    """Add a bundle's network to a repository as the next version of the model ``name``; return the version's folder.

    A server that watches the repository sees the version whole or not at all, and no version is ever replaced. Raises
    `EdgemtlError` on a name that is not plain, and where the model is there with other inputs or outputs.
    """
    if not PLAIN_NAME.fullmatch(name):
        raise EdgemtlError(f"'{name[:100]}' is no name for a Triton model: letters, digits and ._- alone")
    source = bundle.model_in(precision)
    text = config(onnx.load(str(source)), name)
    model = Path(repository) / name
    settings = model / "config.pbtxt"
    if model.is_symlink() or settings.is_symlink():
        raise EdgemtlError(f"{model}: is a link, or its config.pbtxt is; links are not followed, choose another name")
    if settings.is_file() and settings.read_text() != text:
        raise EdgemtlError(
            f"{settings}: is of a model with other inputs or outputs, or was edited; choose another name"
        )
    with ExitStack() as stack:
        if not settings.is_file():
            configuration = stack.enter_context(AtomicFile(settings))
        versions = [int(path.name) for path in model.glob("*") if path.name.isdecimal()]
        version = model / str(max(versions, default=0) + 1)
        output = stack.enter_context(AtomicFolder(version, "version of a Triton model"))
        shutil.copyfile(source, output.folder / "model.onnx")
        if not settings.is_file():
            configuration.write(text.encode())
        return output.commit()


def config(model: onnx.ModelProto, name: str) -> str:
    """Return the configuration of an ONNX model; a dynamic batch size becomes Triton's dynamic batching."""
    tensors = {"input": list(model.graph.input), "output": list(model.graph.output)}
    is_dynamic = all(_dims(tensor)[0] < 0 for side in tensors.values() for tensor in side)
    lines = [f'name: "{name}"', 'platform: "onnxruntime_onnx"', f"max_batch_size: {64 if is_dynamic else 0}"]
    for direction, side in tensors.items():
        for tensor in side:
            dims = _dims(tensor)[1:] if is_dynamic else _dims(tensor)
            lines += [
                f"{direction} {{",
                f'  name: "{tensor.name}"',
                f"  data_type: {DATA_TYPES[tensor.type.tensor_type.elem_type]}",
                f"  dims: [ {', '.join(map(str, dims))} ]",
                "}",
            ]
    if is_dynamic:
        lines.append("dynamic_batching { }")
    return "\n".join([*lines, ""])


def _dims(tensor: onnx.ValueInfoProto) -> list[int]:
    """Return a tensor's sizes, -1 for a dynamic one."""
    return [d.dim_value if d.HasField("dim_value") else -1 for d in tensor.type.tensor_type.shape.dim]
