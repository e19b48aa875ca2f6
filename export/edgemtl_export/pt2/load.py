"""Opens programs of torch.export.save from anybody: looked at first, because loading one runs what it says.

An exported program is a zip archive of numbers, a JSON text and pickles. torch unpickles sample inputs and constants,
evaluates sizes and guards, and loads compiled code, all from the file. Here each part is read by a reader of our own,
held against what an ordinary program needs, and written into a fresh archive; only that one is given to torch.
"""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path

import torch
from torch.export import ExportedProgram

from .archive import NoProgramError, Parts, UntrustedError, opened, put, writer
from .pickles import rewritten
from .program_json import rewritten_payload, rewritten_program

__all__ = ["NoProgramError", "UntrustedError", "load_program"]
PROGRAM = "models/model.json"
PICKLES = ("data/sample_inputs/model.pt", "data/weights/model.pt", "data/constants/model.pt")
TABLES = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
NUMBERS = re.compile(r"(data/weights|data/constants)/((?:weight|tensor)_[0-9]{1,6})")
SMALL = ("archive_format", "archive_version", "version", "byteorder", ".data/version", ".data/serialization_id")
LARGEST_SMALL = 200
OLD_PROGRAM, OLD_VERSION = "serialized_exported_program.json", "version"
OLD_PICKLES = ("serialized_state_dict.pt", "serialized_constants.pt", "serialized_example_inputs.pt")
"""The layout of torch 2.7 and before."""
SPARE = re.compile(r"extra(_files)?/.*")
"""What its maker put beside the program; nothing reads it here."""


def load_program(file: Path, trust: bool = False) -> ExportedProgram:
    """Load what torch.export.save wrote; of another's file nothing is run that it says, unless ``trust``.

    Raises `NoProgramError` where it is none, `UntrustedError` where it holds more than an ordinary program needs, and
    what torch raises where it does not fit together.
    """
    with file.open("rb") as stream:
        if trust:
            return torch.export.load(stream)
        if not zipfile.is_zipfile(stream):
            raise NoProgramError("is no zip archive")
        with opened(stream, file.stat().st_size) as parts:
            fresh = _fresh(parts)
    return torch.export.load(fresh)


def _fresh(parts: Parts) -> io.BytesIO:
    """Return a new archive of the same program."""
    buffer = io.BytesIO()
    if OLD_PROGRAM in parts:
        with writer(buffer) as archive:
            for name in parts:
                if not SPARE.fullmatch(name):
                    archive.writestr(name, _old_part(parts, name))
    else:
        if PROGRAM not in parts:
            raise NoProgramError(f"holds no {PROGRAM}")
        pickled: dict[str, bool] = {}
        with writer(buffer) as archive:
            for table in (table for table in TABLES if table in parts):
                folder = f"{table.rpartition('/')[0]}/"
                lengths = {
                    n.removeprefix(folder): e.file_size for n, e in parts.entries.items() if n.startswith(folder)
                }
                data, files = rewritten_payload(parts[table], table, lengths)
                put(archive, table, data)
                pickled |= {f"{folder}{name}": is_pickle for name, is_pickle in files.items()}
            for name in parts:
                if name not in TABLES and not SPARE.fullmatch(name):
                    put(archive, name, _part(parts, name, pickled))
    buffer.seek(0)
    return buffer


def _part(parts: Parts, name: str, pickled: dict[str, bool]) -> bytes:
    """Return one file of an archive, as it may be given to torch."""
    if name == PROGRAM:
        return rewritten_program(parts[name])
    if name in PICKLES or (pickled.get(name) and NUMBERS.fullmatch(name)):
        return rewritten(parts[name], name)
    if NUMBERS.fullmatch(name):
        return parts[name]
    return _small(parts, name)


def _old_part(parts: Parts, name: str) -> bytes:
    if name == OLD_PROGRAM:
        return rewritten_program(parts[name])
    return rewritten(parts[name], name) if name in OLD_PICKLES else _small(parts, name)


def _small(parts: Parts, name: str) -> bytes:
    if name not in SMALL or len(parts[name]) > LARGEST_SMALL:
        raise UntrustedError(f"holds {name}, which an ordinary program has not")
    return parts[name]
