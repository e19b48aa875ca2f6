"""Costs: the measured times of a probe's models on one device, and the file that holds them, ``costs.json``.

A probe is a folder of small ONNX models, written where a network is trained: its distinct blocks at several widths, and
the network itself at some. Measured on the robot, its times tell a training what each channel costs there.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TypeVar

import msgspec

from ..errors import EdgemtlError
from ..limits import decode_json

PROBE, MODELS = "probe.json", "models"
"""A probe's description and the folder of its models."""
VERSION = 1
MOST_BYTES = 16 << 20
MOST_MODELS = 20_000
T = TypeVar("T")


class ProbeDescription(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a probe's folder holds: the digest of the network's structure, a precision, and the models by name."""

    version: int
    fingerprint: str
    network: str
    precision: str
    models: list[str]

    def __post_init__(self) -> None:
        if self.version != VERSION:
            raise ValueError(f"its version is {self.version}, this release reads {VERSION}")
        if not 0 < len(self.models) <= MOST_MODELS:
            raise ValueError(f"it names {len(self.models)} models")
        for name in self.models:
            if not name.replace("-", "").isascii() or not name.replace("-", "").isalnum() or len(name) > 100:
                raise ValueError(f"{name[:60]!a} is no name of a model")


class Costs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Milliseconds of every model of a probe, and of which probe, where and how they were measured."""

    version: int
    fingerprint: str
    device: str
    backend: str
    precision: str
    threads: int
    times_ms: dict[str, float]

    def __post_init__(self) -> None:
        if self.version != VERSION:
            raise ValueError(f"its version is {self.version}, this release reads {VERSION}")
        bad = [name for name, time in self.times_ms.items() if not 0 < time < math.inf]
        if bad:
            raise ValueError(f"the time of {bad[0][:60]!a} is no time")

    def __str__(self) -> str:
        """Return where and how they were measured."""
        threads = f", {self.threads} thread{'' if self.threads == 1 else 's'}" if self.threads else ""
        return f"{self.backend} {self.precision} on {self.device}{threads}"


def read_probe(folder: Path) -> ProbeDescription:
    """Read a probe's description; raises `EdgemtlError` where there is none."""
    file = folder / PROBE
    if not file.is_file():
        raise EdgemtlError(f"{folder}: is no probe (it has no {PROBE}); write one with edgemtl export RUN --probe DIR")
    return _read(file, ProbeDescription, "write the probe again with edgemtl export RUN --probe DIR")


def read_costs(file: Path) -> Costs:
    """Read measured costs; raises `EdgemtlError` where a file holds none."""
    if not file.is_file():
        raise EdgemtlError(f"{file}: there is no such file; edgemtl-runtime profile PROBE --out {file.name} writes it")
    return _read(file, Costs, "measure again with edgemtl-runtime profile PROBE")


def _read(file: Path, kind: type[T], advice: str) -> T:
    if file.stat().st_size > MOST_BYTES:
        raise EdgemtlError(f"{file}: is larger than any such file; {advice}")
    try:
        return decode_json(file.read_bytes(), kind)
    except ValueError as error:
        raise EdgemtlError(f"{file}: cannot be read ({error}); {advice}") from error
