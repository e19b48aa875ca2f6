"""Shrinking of a run's network or an exported program: channels are removed, the outputs are proved to be the same."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

import edgemtl_export
from edgemtl_export import NotEqualError, Shrunk
from edgemtl_export.errors import UnsupportedError, first_sentence
from edgemtl_export.inputs import example_inputs
from edgemtl_export.outputs import UnknownOutputError
from edgemtl_export.pt2 import NoProgramError, UntrustedError, load_program
from edgemtl_runtime.atomic import AtomicFile

from .errors import EdgemtlError
from .run import Run

Model = tuple[nn.Module | ExportedProgram, tuple[Any, ...], dict[str, Any]]
"""A network with example inputs, by position and by name; a program has its own."""


def shrink(path: Path, model: Model, out: AtomicFile, outputs: Sequence[str] | None, **options: Any) -> Shrunk:
    """Shrink the network of ``path``, write it to ``out`` as a program, and return it with its report.

    ``outputs`` and ``options`` are as for `edgemtl_export.shrink`. Raises `EdgemtlError`, and then nothing is written.
    """
    network, args, kwargs = model
    try:
        shrunk = edgemtl_export.shrink(network, args, kwargs, outputs=outputs, **options)
    except UnknownOutputError as error:
        raise EdgemtlError(f"{path}: {error}") from error
    except (NotEqualError, UnsupportedError) as error:
        raise EdgemtlError(f"{path}: nothing written: {error}") from error
    except Exception as error:
        if "auto" not in options.values() or not type(error).__module__.startswith(("onnxruntime", "torch.onnx")):
            raise
        reason = f"auto measures on ONNX Runtime, which does not take this program ({first_sentence(error)})"
        raise EdgemtlError(f"{path}: {reason}; choose --align and --branches yourself") from error
    buffer = io.BytesIO()
    torch.export.save(shrunk.program, buffer)
    out.write(buffer.getvalue())
    return shrunk


def open_model(path: Path, trust: bool = False) -> Model:
    """Return a run's network and example inputs of it, or a program, which has some.

    With ``trust`` a program may run custom code while it is loaded.
    """
    if path.is_dir():
        run = Run.open(path)
        return run.network, (), example_inputs(run.interface.inputs)
    if not path.is_file():
        raise EdgemtlError(f"{path}: no such run or file; give a run's folder or what torch.export.save wrote")
    program = read_program(path, trust)
    if program.example_inputs is None:
        raise EdgemtlError(f"{path}: holds no example inputs to prove anything on; export it again with torch.export")
    return program, (), {}


def read_program(file: Path, trust: bool = False) -> ExportedProgram:
    """Read a program; raises `EdgemtlError` with the first error that torch logs about the file.

    Unless ``trust``, one that could run custom code is not loaded (`edgemtl_export.pt2`).
    """
    logged: list[object] = []

    def keep(record: logging.LogRecord) -> bool:
        logged.append(record.exc_info[1] if record.exc_info else record.getMessage())
        return False

    log = logging.getLogger("torch.export")  # torch logs the cause, with a traceback; its exception lacks it
    log.addFilter(keep)
    try:
        program = load_program(file, trust)
        if program.example_inputs is not None:
            program.module()  # raises now where its parts do not fit together, not in the middle of the work
        return program
    except NoProgramError as error:
        raise EdgemtlError(f"{file}: {error}; give what torch.export.save wrote") from error
    except UntrustedError as error:
        raise EdgemtlError(f"{file}: {error}; not opened, give --trust if you know who made it") from error
    except Exception as error:  # a file may be wrong in any way
        reason = first_sentence(next(iter(logged), error))
        raise EdgemtlError(f"{file}: torch cannot read it ({reason}); give what torch.export.save wrote") from error
    finally:
        log.removeFilter(keep)
