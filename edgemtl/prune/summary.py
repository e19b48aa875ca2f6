"""What a pruning ends with, for people and for programs."""

from __future__ import annotations

import shlex
from typing import Any

import msgspec

from edgemtl_runtime.errors import flag

from ..tables import as_text
from .agreement import by_kind
from .pruning import BUNDLE_FOLDER, ONNX, PROGRAM, REPORT, Result


def summary(result: Result) -> str:
    """Return the figures, what was written, and the next command."""
    figures, path = result.figures, result.path
    manifest = result.bundle.manifest
    words = by_kind(figures.agreement, {head.name: head.decoder for head in manifest.heads})
    parts = [f"{path}: {figures.network}, {figures.steps:,} steps", as_text(figures.rows())]
    if words:
        parts.append("held-out images, as the dense network: " + "; ".join(f"{n} {text}" for n, text in words.items()))
    parts += [f"warning: {warning}" for warning in result.warnings]
    cameras = " ".join(flag(spec.name, "SRC") for spec in manifest.inputs)
    next_ = f"next: edgemtl run {shlex.quote(str(path / BUNDLE_FOLDER))} {cameras} --show"
    files = ", ".join(name for name in (PROGRAM, ONNX, f"{BUNDLE_FOLDER}/", REPORT) if (path / name).exists())
    return "\n\n".join([*parts, f"wrote {path}: {files}\n{next_}"])


def as_json(result: Result) -> dict[str, Any]:
    """Return the figures and paths for programs."""
    figures: dict[str, Any] = msgspec.to_builtins(result.figures)
    return figures | {
        "out": str(result.path),
        "bundle": str(result.path / BUNDLE_FOLDER),
        "latency_to_dense": round(result.figures.latency_to_dense, 4),
        "removed": result.shrunk.report.to_dict(),
        "warnings": result.warnings,
    }
