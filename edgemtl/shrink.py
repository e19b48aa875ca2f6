"""A run or anybody's exported program to a smaller program, proved to give the same outputs."""

from __future__ import annotations

import io
import logging
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

import edgemtl_export
from edgemtl_export import NotEqualError, Shrunk
from edgemtl_export.inputs import example_inputs
from edgemtl_export.outputs import UnknownOutputError
from edgemtl_export.pt2 import NoProgramError, UntrustedError, load_program
from edgemtl_export.report import Report
from edgemtl_runtime.atomic import AtomicFile, outermost_artefact

from .errors import EdgemtlError
from .run import Run

SUFFIX = ".pt2"
PROOF = {
    "noise": "with noise in all that goes, once its readers are cut: nothing else reads it",
    "control": "with the same noise and nothing cut: above 0, so noise would have been seen",
    "float64": "the smaller program, in float64",
    "float32": "the smaller program, in float32",
}
SILENT = "with the same noise and nothing cut: 0, so noise proves nothing here"
"""What each figure of the proof compares with the given program; the last one for a control of 0."""


def shrink(what: Path, out: AtomicFile, outputs: Sequence[str] | None, trust: bool = False, **how: Any) -> Shrunk:
    """Shrink a run's network or a program of torch.export.save, write it to ``out``, and return what went.

    ``outputs`` and ``how`` are as for `edgemtl_export.shrink`; with ``trust`` a program may run what it says while it
    is loaded. Raises `EdgemtlError`, and then nothing is written.
    """
    model, inputs = open_model(what, trust)
    try:
        shrunk = edgemtl_export.shrink(model, (), inputs, outputs=outputs, **how)
    except UnknownOutputError as error:
        raise EdgemtlError(f"{what}: {error}") from error
    except NotEqualError as error:
        raise EdgemtlError(f"{what}: nothing written: {error}") from error
    except Exception as error:
        if "auto" not in how.values() or not type(error).__module__.startswith(("onnxruntime", "torch.onnx")):
            raise
        reason = f"auto measures on ONNX Runtime, which does not take this program ({first_line(error)})"
        raise EdgemtlError(f"{what}: {reason}; choose --align and --branches yourself") from error
    buffer = io.BytesIO()
    torch.export.save(shrunk.program, buffer)
    out.write(buffer.getvalue())
    return shrunk


def first_line(error: object) -> str:
    """Return what went wrong without the advice and the traces that follow."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return re.split(r"(?<=\w)\. ", lines[0])[0][:200]


def beside(what: Path) -> Path:
    """Return the file that is written where none is named: beside a program, or beside a run, never in it."""
    place = what if what.name not in ("", "..") else what.resolve()
    if not what.is_dir():
        return place.with_name(f"{place.name.removesuffix(SUFFIX)}.shrunk{SUFFIX}")
    name = f"{place.name}-shrunk{SUFFIX}"
    outer = outermost_artefact(place)  # a run may be a part of something larger that is ours
    return (place if outer is None else outer).with_name(name)


def open_model(what: Path, trust: bool = False) -> tuple[nn.Module | ExportedProgram, dict[str, Any]]:
    """Return a run's network with example images, or a program, which brings its own."""
    if what.is_dir():
        run = Run.open(what)
        return run.network, example_inputs(run.interface.inputs)
    if not what.is_file():
        raise EdgemtlError(f"{what}: no such run or file; give a run's folder or what torch.export.save wrote")
    program = read_program(what, trust)
    if program.example_inputs is None:
        raise EdgemtlError(f"{what}: holds no example inputs to prove anything on; export it anew with torch.export")
    return program, {}


def read_program(file: Path, trust: bool = False) -> ExportedProgram:
    """Read a program; raises `EdgemtlError` with the first thing that torch has to say against the file.

    Unless ``trust``, one that could run code of its own is not loaded (`edgemtl_export.pt2`).
    """
    said: list[object] = []

    def keep(record: logging.LogRecord) -> bool:
        said.append(record.exc_info[1] if record.exc_info else record.getMessage())
        return False

    log = logging.getLogger("torch.export")  # there torch tells, with a traceback, what its error leaves out
    log.addFilter(keep)
    try:
        program = load_program(file, trust)
        if program.example_inputs is not None:
            program.module()  # what does not fit together shows here, not in the middle of the work
        return program
    except NoProgramError as error:
        raise EdgemtlError(f"{file}: {error}; give what torch.export.save wrote") from error
    except UntrustedError as error:
        raise EdgemtlError(f"{file}: {error}; not opened, give --trust if you know who made it") from error
    except Exception as error:  # a file may be wrong in any way
        why = first_line(next(iter(said), error))
        raise EdgemtlError(f"{file}: torch cannot read it ({why}); give what torch.export.save wrote") from error
    finally:
        log.removeFilter(keep)


def plain(report: Report) -> dict[str, Any]:
    """Return a report for JSON, which knows no infinity: such an error of the proof is null."""
    proof = {part: error if math.isfinite(error) else None for part, error in report.proof.items()}
    return {**report.to_dict(), "proof": proof}


def readable(report: Report) -> str:
    """Return a report for people: totals, layers that lost channels, what was pinned, the proof."""
    parts = [_totals(report), _layers(report), _pinned(report), _proof(report)]
    return "\n\n".join(part for part in parts if part)


def _totals(report: Report) -> str:
    pairs = {
        "parameters": (report.parameters_before, report.parameters_after),
        "buffers": (report.buffers_before, report.buffers_after),
        "FLOPs": (report.flops_before, report.flops_after),
    }
    rows = [["", "before", "after", "gone"]]
    for name, (before, after) in pairs.items():
        if before or after:
            gone = f"{1 - after / before:.1%}" if before >= after else ""
            rows.append([name, f"{before:,}", f"{after:,}", gone])
    least = f"\n{report.parameters_bound:,} parameters are the least that removal by position can leave"
    return aligned(rows, 3) + (least if report.parameters_bound < report.parameters_after else "")


def _layers(report: Report) -> str:
    lost = [layer for layer in report.layers if layer.after < layer.before]
    if not lost:
        return "no channel is zero, constant or unread where it could be removed"
    rows = [["channels of", "before", "after", "zero", "constant", "unread"]]
    for layer in lost:
        why = [str(count or "") for count in (layer.zero, layer.constant, layer.unread)]
        rows.append([layer.name, str(layer.before), str(layer.after), *why])
    return aligned(rows, 5)


def _pinned(report: Report) -> str:
    rows = [["pinned by", "channels"], *([why, f"{count:,}"] for why, count in sorted(report.pinned.items()))]
    return aligned(rows, 1) if report.pinned else ""


def _proof(report: Report) -> str:
    if not report.proof:
        return "not proved (--no-verify)"
    rows = [["proof", "error", "largest difference from the given program, relative to how much the output varies"]]
    for part, error in report.proof.items():
        rows.append([part, f"{error:.0e}", SILENT if part == "control" and error == 0 else PROOF.get(part, "")])
    return aligned(rows, 1)


def aligned(rows: Sequence[Sequence[str]], numbers: int) -> str:
    """Return rows in columns as wide as they need: names, then ``numbers`` columns to the right, then words."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def padded(row: Sequence[str]) -> str:
        cells = zip(row, widths, strict=True)
        return "  ".join(c.rjust(w) if 0 < i <= numbers else c.ljust(w) for i, (c, w) in enumerate(cells)).rstrip()

    return "\n".join(map(padded, rows))
