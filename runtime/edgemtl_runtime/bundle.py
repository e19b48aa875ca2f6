"""The bundle: a directory with a manifest and the network, checked to the last byte before it is used."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

import msgspec

from .atomic import LISTING, FolderAside
from .errors import BundleError
from .limits import check_number, check_text, decode_json, read_bounded, reason
from .onnx_file import check_onnx

SCHEMA_VERSION = 2
BUNDLE = "bundle"
"""What `aside` calls such a folder."""
MANIFEST = "manifest.json"
MODEL = "model.onnx"
MODELS = {"fp32": MODEL, "fp16": "model.fp16.onnx", "int8": "model.int8.onnx"}
"""The file of each precision that a bundle may hold; inputs and outputs are the same in all."""
MOST_PIXELS, MOST_PARTS, MOST_CLASSES = 1 << 26, 64, 10_000
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


class ThermalRange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How 16-bit thermal counts become the network's 8 bits.

    ``kind`` "radiometric": ``low`` and ``high`` are counts. ``kind`` "percentile": they are percentiles of each frame.
    """

    kind: str = "percentile"
    low: float = 1.0
    high: float = 99.0

    def __post_init__(self) -> None:
        if self.kind not in ("radiometric", "percentile"):
            raise ValueError(f"thermal_range kind is 'radiometric' or 'percentile', not '{self.kind[:40]}'")
        for value in (self.low, self.high):
            check_number("thermal_range", value, -1e6, 1e6)
        if not self.low < self.high:
            raise ValueError(f"thermal_range needs low < high, not {self.low} and {self.high}")
        if self.kind == "percentile" and not (self.low >= 0 and self.high <= 100):
            raise ValueError(f"thermal_range percentiles lie in [0, 100], not {self.low} and {self.high}")


class Input(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One camera's input: uint8 (1, height, width, channels), normalised in the graph as (x / 255 - mean) / std."""

    name: str
    height: int
    width: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    modality: str = "rgb"
    dtype: str = "uint8"
    layout: str = "NHWC"
    blank: int = 114
    """The value of pixels that no camera saw: padding, and the frame of an absent camera."""
    thermal_range: ThermalRange = ThermalRange()
    may_be_absent: bool = False
    """Whether the network was trained for the blank frame in place of this camera."""

    def __post_init__(self) -> None:
        _check_name("input", self.name)
        if self.dtype != "uint8" or self.layout != "NHWC":
            raise ValueError(f"input '{self.name}' is {self.dtype} {self.layout}; this runtime feeds uint8 NHWC")
        if self.channels not in (1, 3) or not (0 < self.height <= 16384 and 0 < self.width <= 16384):
            raise ValueError(f"input '{self.name}' has the impossible shape {self.height}x{self.width}x{self.channels}")
        if self.height * self.width > MOST_PIXELS:
            raise ValueError(f"input '{self.name}' has {self.height}x{self.width} pixels, more than {MOST_PIXELS}")
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise ValueError(f"input '{self.name}' has {self.channels} channels but other counts of mean and std")
        for value in self.mean:
            check_number(f"a mean of input '{self.name}'", value, -1e6, 1e6)
        for value in self.std:
            check_number(f"a std of input '{self.name}'", value, 1e-6, 1e6)
        check_number(f"blank of input '{self.name}'", self.blank, 0, 255)
        check_text("modality", self.modality)


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One output: its task, the decoder that reads it, its classes and its threshold."""

    name: str
    task: str
    decoder: str
    classes: tuple[str, ...]
    units: str = ""
    threshold: float = 0.25

    def __post_init__(self) -> None:
        _check_name("head", self.name)
        check_number(f"threshold of head '{self.name}'", self.threshold, 0, 1)
        if len(self.classes) > MOST_CLASSES:
            raise ValueError(f"head '{self.name}' has {len(self.classes)} classes, more than {MOST_CLASSES}")
        for what, text in (("task", self.task), ("decoder", self.decoder), ("units", self.units)):
            check_text(what, text)
        for name in self.classes:
            check_text("class", name)


def is_plain_name(name: str) -> bool:
    """Whether a name is one that inputs and heads may have: letters, digits and ._-."""
    return _PLAIN_NAME.fullmatch(name) is not None


def _check_name(kind: str, name: str) -> None:
    if not is_plain_name(name):
        raise ValueError(f"the name {name[:100]!a} of the {kind} has other signs than letters, digits and ._-")


class _Removed(msgspec.Struct):
    parameters_before: int = 0
    parameters_after: int = 0


class _Parity(msgspec.Struct):
    agreement: dict[str, float | None] = {}
    frames: int = 0


class _Precision(msgspec.Struct):
    scores: dict[str, dict[str, float | None]] = {}


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a bundle holds and how to read it."""

    name: str
    inputs: tuple[Input, ...]
    heads: tuple[Head, ...]
    files: dict[str, str]
    """SHA-256 of each file beside the manifest."""
    licence: str
    schema_version: int = SCHEMA_VERSION
    producer: str = ""
    removed: dict[str, Any] = {}
    """What shrinking took away: parameters and FLOPs before and after."""
    parity: dict[str, Any] = {}
    """How far the shipped network is from the trained run, on real frames."""
    precisions: dict[str, dict[str, Any]] = {}
    """Of each precision that is here: its size and, where it was judged, each head's figure and error (version 2)."""
    refused: dict[str, str] = {}
    """Of each precision that did not pass the gate: why (version 2)."""

    def __post_init__(self) -> None:
        for what, parts in (("input", self.inputs), ("head", self.heads)):
            names = [part.name for part in parts]
            if len(set(names)) < len(names) or len(names) > MOST_PARTS:
                raise ValueError(f"two {what}s have one name, or there are more than {MOST_PARTS}")
        if len(self.files) > MOST_PARTS:
            raise ValueError(f"lists {len(self.files)} files, more than {MOST_PARTS}")
        for text in (self.name, self.producer, self.licence, *self.refused, *self.refused.values()):
            check_text("name, producer, licence or refusal", text, longest=4000)
        told = (("removed", self.removed, _Removed), ("parity", self.parity, _Parity))
        for what, values, kind in (*told, *(("precisions", each, _Precision) for each in self.precisions.values())):
            _check_told(what, values, kind)

    def head(self, name: str) -> Head:
        """Return the head of that name."""
        return next(head for head in self.heads if head.name == name)


def _check_told(what: str, values: dict[str, Any], kind: type) -> None:
    """Raise `ValueError` where what is told for people is not as the exporter tells it, or moves their cursor."""
    try:
        found: Any = msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise ValueError(f"{what}: {reason(error)}") from None
    shown: Any = getattr(found, "scores", None) or getattr(found, "agreement", {})
    for name, each in shown.items():
        for text in (name, *(each if isinstance(each, dict) else ())):
            check_text(what, text)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256") if hasattr(hashlib, "file_digest") else None
        if digest is None:  # Python 3.10 (JetPack 6)
            digest = hashlib.sha256()
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


class Bundle:
    """A bundle that was opened and verified: ``manifest`` and the folder ``path``. Threads may share it."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    @property
    def model(self) -> Path:
        """Path of the network in ONNX, in single precision."""
        return self.path / MODEL

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions that the bundle holds, fp32 always among them."""
        return tuple(name for name, file in MODELS.items() if file in self.manifest.files)

    def model_in(self, precision: str) -> Path:
        """Path of the network in a precision; raises `BundleError` with those that are here."""
        if precision not in self.precisions:
            why = f": {self.manifest.refused[precision]}" if precision in self.manifest.refused else ""
            here = ", ".join(self.precisions)
            raise BundleError(f"{self.path}: holds no {precision} network{why}; it has {here}")
        return self.path / MODELS[precision]

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Bundle:
        """Open a bundle and verify its schema version and every file's SHA-256; raises `BundleError`."""
        folder = Path(path)
        file = folder / MANIFEST
        if not folder.is_dir() or not file.is_file():
            raise BundleError(f"{folder}: no bundle here ({MANIFEST} is missing); make one with `edgemtl export`")
        manifest = _read_manifest(file)
        for name, expected in manifest.files.items():
            if not _PLAIN_NAME.fullmatch(name):
                raise BundleError(f"{file}: {name[:100]!a} is not a plain file name; do not use this bundle")
            part = folder / name
            if part.is_symlink() or not part.is_file():
                raise BundleError(f"{folder}: {name} is missing; copy the whole bundle again")
            if sha256(part) != expected:
                raise BundleError(f"{part}: damaged (its SHA-256 is not the manifest's); copy the bundle again")
        if MODEL not in manifest.files:
            raise BundleError(f"{file}: lists no {MODEL}; export the bundle again")
        for name in MODELS.values():
            if name in manifest.files:
                check_onnx(folder / name)
        return cls(folder, manifest)


def _read_manifest(file: Path) -> Manifest:
    try:
        raw = decode_json(read_bounded(file, error=BundleError))
    except ValueError as error:
        raise BundleError(f"{file}: not JSON ({error}); copy the bundle again") from error
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if type(version) is not int:
        raise BundleError(f"{file}: has no schema_version; this is not an edgemtl bundle")
    if not 1 <= version <= SCHEMA_VERSION:
        raise BundleError(
            f"{file}: schema version {version}, this runtime reads up to {SCHEMA_VERSION}; update edgemtl-runtime"
        )
    try:
        manifest = msgspec.convert(raw, Manifest)
    except (msgspec.ValidationError, RecursionError, OverflowError) as error:
        raise BundleError(f"{file}: {reason(error)}; export the bundle again") from error
    if not manifest.inputs or not manifest.heads:
        raise BundleError(f"{file}: names no inputs or no heads; export the bundle again")
    return manifest


def write_bundle(aside: FolderAside, manifest: Manifest) -> Bundle:
    """Hash the files in a folder aside, write the manifest beside them, and put the bundle in place."""
    files = {part.name: sha256(part) for part in sorted(aside.folder.iterdir()) if part.name != LISTING}
    manifest = msgspec.structs.replace(manifest, files=files)
    (aside.folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
    Bundle.open(aside.folder)
    return Bundle(aside.place(), manifest)
