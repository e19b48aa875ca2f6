"""Loader of untrusted exported programs: validated before torch reads them, because loading one can run code.

An exported program is a zip archive of tensors, a JSON text and pickles. torch unpickles sample inputs and constants,
evaluates sizes and guards, and loads compiled code, all from the file. Here a parser that runs nothing reads each file,
checks that an ordinary program needs what it holds, and writes it into a new archive; torch is given only that one.
"""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path

import torch
from torch.export import ExportedProgram

from .archive import ArchiveFiles, NoProgramError, UntrustedError, add_file, new_archive, open_archive
from .pickles import validated_pickle
from .program_json import validated_payload, validated_program

PROGRAM = "models/model.json"
PICKLES = ("data/sample_inputs/model.pt", "data/weights/model.pt", "data/constants/model.pt")
TABLES = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
TENSOR_FILE = re.compile(r"(data/weights|data/constants)/((?:weight|tensor)_[0-9]{1,6})")
METADATA = ("archive_format", "archive_version", "version", "byteorder", ".data/version", ".data/serialization_id")
MAX_METADATA_BYTES = 200
LEGACY_PROGRAM = "serialized_exported_program.json"
LEGACY_PICKLES = ("serialized_state_dict.pt", "serialized_constants.pt", "serialized_example_inputs.pt")
"""The format of torch 2.7 and before."""
EXTRA_FILE = re.compile(r"extra(_files)?/.*")
"""Files that the user saved with the program; they are dropped."""


def load_program(file: Path, trust: bool = False) -> ExportedProgram:
    """Load a program that torch.export.save wrote, without running code that the file contains, unless ``trust``.

    Raises `NoProgramError` where it is no such file, `UntrustedError` where it holds more than an ordinary program
    needs, and torch's own errors where it is inconsistent.
    """
    with file.open("rb") as stream:
        if trust:
            return torch.export.load(stream)
        if not zipfile.is_zipfile(stream):
            raise NoProgramError("is no zip archive")
        with open_archive(stream, file.stat().st_size) as files:
            rewritten = _rewritten(files)
    return torch.export.load(rewritten)


def _rewritten(files: ArchiveFiles) -> io.BytesIO:
    """Return a new archive of the same program, of validated files alone."""
    buffer = io.BytesIO()
    if LEGACY_PROGRAM in files:
        with new_archive(buffer) as archive:
            for name in files:
                if not EXTRA_FILE.fullmatch(name):
                    archive.writestr(name, _legacy_file(files, name))
    else:
        if PROGRAM not in files:
            raise NoProgramError(f"holds no {PROGRAM}")
        pickled: dict[str, bool] = {}
        with new_archive(buffer) as archive:
            for table in (table for table in TABLES if table in files):
                folder = f"{table.rpartition('/')[0]}/"
                lengths = {
                    n.removeprefix(folder): e.file_size for n, e in files.entries.items() if n.startswith(folder)
                }
                data, is_pickle = validated_payload(files[table], table, lengths)
                add_file(archive, table, data)
                pickled |= {f"{folder}{name}": pickle for name, pickle in is_pickle.items()}
            for name in files:
                if name not in TABLES and not EXTRA_FILE.fullmatch(name):
                    add_file(archive, name, _file(files, name, pickled))
    buffer.seek(0)
    return buffer


def _file(files: ArchiveFiles, name: str, pickled: dict[str, bool]) -> bytes:
    """Return the content of one file, validated."""
    if name == PROGRAM:
        return validated_program(files[name])
    if name in PICKLES or (pickled.get(name) and TENSOR_FILE.fullmatch(name)):
        return validated_pickle(files[name], name)
    if TENSOR_FILE.fullmatch(name):
        return files[name]
    return _metadata(files, name)


def _legacy_file(files: ArchiveFiles, name: str) -> bytes:
    if name == LEGACY_PROGRAM:
        return validated_program(files[name])
    return validated_pickle(files[name], name) if name in LEGACY_PICKLES else _metadata(files, name)


def _metadata(files: ArchiveFiles, name: str) -> bytes:
    if name not in METADATA or len(files[name]) > MAX_METADATA_BYTES:
        raise UntrustedError(f"holds {name}, which an ordinary program does not have")
    return files[name]
