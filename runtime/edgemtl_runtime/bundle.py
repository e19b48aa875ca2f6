"""The bundle: a directory with a manifest and the network, every byte verified before it is used."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from .atomic import INVENTORY, AtomicFolder
from .errors import BundleError
from .limits import check_number, check_text, decode_json, read_bounded, reason
from .manifest_schema import (
    RENAMED_IN_3,
    RENAMED_IN_3_OF_INPUTS,
    SCHEMA_VERSION,
    ParityFigures,
    PrecisionFigures,
    PruningFigures,
    with_new_keys,
)
from .onnx_file import check_onnx
from .path_kinds import MANIFEST, instead_of_bundle
from .renamed_names import renamed_attribute
from .signature import check_signature

TYPE_CHECKING = False
BUNDLE = "bundle"
"""The content type under which `edgemtl_runtime.atomic` lists such a folder."""
MODEL = "model.onnx"
MODELS = {"fp32": MODEL, "fp16": "model.fp16.onnx", "int8": "model.int8.onnx"}
"""The file of each precision that a bundle may hold; inputs and outputs are the same in all."""
MOST_SIDE, MOST_PIXELS, MOST_PARTS, MOST_CLASSES = 16384, 1 << 26, 64, 10_000
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


class ThermalRange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Mapping of 16-bit thermal counts to the network's 8 bits.

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
    """One input of the network: uint8 (1, height, width, channels), normalised in the graph as (x / 255 - mean) / std.

    ``modality`` is the modality of the camera that feeds it.
    """

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
    """The value of pixels without data: padding, and the frame of a missing modality."""
    thermal_range: ThermalRange = ThermalRange()
    may_be_missing: bool = False
    """Whether the network was trained with modality dropout: for a blank frame in place of this camera's."""

    def __post_init__(self) -> None:
        _check_name("input", self.name)
        if self.dtype != "uint8" or self.layout != "NHWC":
            raise ValueError(f"input '{self.name}' is {self.dtype} {self.layout}; this runtime feeds uint8 NHWC")
        if self.channels not in (1, 3) or not (0 < self.height <= MOST_SIDE and 0 < self.width <= MOST_SIDE):
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

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            return renamed_attribute(self, name, RENAMED_IN_3_OF_INPUTS)


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One output of the network: its task, the decoder that reads it, its classes and its score threshold."""

    name: str
    task: str
    decoder: str
    classes: tuple[str, ...]
    units: str = ""
    threshold: float = 0.25
    value_range: tuple[float, float] | None = None
    """Values of a map at the ends of its colour scale; None: each image's 2nd and 98th percentile (since version 3)."""
    nms_iou: float = 0.7
    """Of `decode.nms_boxes`: a box goes where a better one of its class covers it by more (since version 4)."""

    def __post_init__(self) -> None:
        _check_name("head", self.name)
        if self.value_range is not None:
            for value in self.value_range:
                check_number(f"value_range of head '{self.name}'", value, -1e9, 1e9)
            if not self.value_range[0] < self.value_range[1]:
                raise ValueError(f"value_range of head '{self.name}' needs low < high, not {self.value_range}")
        check_number(f"threshold of head '{self.name}'", self.threshold, 0, 1)
        check_number(f"nms_iou of head '{self.name}'", self.nms_iou, 0, 1)
        if len(self.classes) > MOST_CLASSES:
            raise ValueError(f"head '{self.name}' has {len(self.classes)} classes, more than {MOST_CLASSES}")
        for what, text in (("task", self.task), ("decoder", self.decoder), ("units", self.units)):
            check_text(what, text)
        for name in self.classes:
            check_text("class", name)


def is_plain_name(name: str) -> bool:
    """Whether a name is one that inputs and heads may have: letters, digits and ._-."""
    return _PLAIN_NAME.fullmatch(name) is not None


def _check_name(what: str, name: str) -> None:
    if not is_plain_name(name):
        raise ValueError(f"the name {name[:100]!a} of the {what} has other characters than letters, digits and ._-")


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Description of a bundle: inputs, heads, files with their hashes, and figures of its export."""

    name: str
    inputs: tuple[Input, ...]
    heads: tuple[Head, ...]
    files: dict[str, str]
    """SHA-256 of each file next to the manifest."""
    licence: str
    schema_version: int = SCHEMA_VERSION
    producer: str = ""
    removed: PruningFigures = {}
    parity: ParityFigures = {}
    precisions: dict[str, PrecisionFigures] = {}
    """Figures of each precision that is shipped (since version 2)."""
    rejected: dict[str, str] = {}
    """Precisions that did not pass the accuracy gate, and why (since version 2)."""

    def __post_init__(self) -> None:
        for what, parts in (("input", self.inputs), ("head", self.heads)):
            names = [part.name for part in parts]
            if len(set(names)) < len(names) or len(names) > MOST_PARTS:
                raise ValueError(f"two {what}s have one name, or there are more than {MOST_PARTS}")
        if shared := {spec.name for spec in self.inputs} & {head.name for head in self.heads}:
            raise ValueError(f"an input and a head are both named {min(shared)[:100]!a}")
        if len(self.files) > MOST_PARTS:
            raise ValueError(f"lists {len(self.files)} files, more than {MOST_PARTS}")
        for text in (self.name, self.producer, self.licence, *self.rejected, *self.rejected.values()):
            check_text("name, producer, licence or reason of a rejection", text, longest=4000)
        for name in self.parity.get("agreement", {}):
            check_text("parity", name)
        for figures in self.precisions.values():
            for name, metrics in figures.get("scores", {}).items():
                for text in (name, *metrics):
                    check_text("precisions", text)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            return renamed_attribute(self, name, RENAMED_IN_3)

    def head(self, name: str) -> Head:
        """Return the head of that name."""
        return next(head for head in self.heads if head.name == name)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as stream:
        if sys.version_info >= (3, 11):
            return hashlib.file_digest(stream, "sha256").hexdigest()
        digest = hashlib.sha256()  # Python 3.10 (JetPack 6)
        while block := stream.read(1 << 20):
            digest.update(block)
        return digest.hexdigest()


class Bundle:
    """An opened and verified bundle: its ``manifest`` and the folder ``path``. Threads may share it.

    ``signed_by`` is the public key that it was signed with, where that was asked.
    """

    def __init__(self, path: Path, manifest: Manifest, signed_by: Path | None = None) -> None:
        self.path = path
        self.manifest = manifest
        self.signed_by = signed_by

    @property
    def model(self) -> Path:
        """Path of the network in ONNX, in single precision."""
        return self.path / MODEL

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions that the bundle holds, fp32 always among them."""
        return tuple(name for name, file in MODELS.items() if file in self.manifest.files)

    def model_in(self, precision: str) -> Path:
        """Path of the network in a precision; raises `BundleError` with those that there are."""
        if precision not in self.precisions:
            rejected = self.manifest.rejected
            why = f": {rejected[precision]}" if precision in rejected else ""
            raise BundleError(f"{self.path}: holds no {precision} network{why}; it has {', '.join(self.precisions)}")
        return self.path / MODELS[precision]

    @classmethod
    def open(cls, path: str | os.PathLike[str], signed_by: Sequence[Path] = ()) -> Bundle:
        """Open a bundle and verify its schema version and every file's SHA-256; raises `BundleError`.

        With public keys in ``signed_by`` it must be signed with one of them (`signature`).
        """
        folder = Path(path)
        file = folder / MANIFEST
        if not folder.is_dir() or not file.is_file():
            raise BundleError(f"{folder}: no bundle here {instead_of_bundle(folder)}")
        content = read_bounded(file, error=BundleError)
        key = check_signature(file, content, signed_by) if signed_by else None
        manifest = _manifest_of(file, content)
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
        return cls(folder, manifest, key)


def _manifest_of(file: Path, content: bytes) -> Manifest:
    try:
        raw = decode_json(content)
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
        manifest = msgspec.convert(with_new_keys(raw, version), Manifest)
    except (msgspec.ValidationError, RecursionError, OverflowError) as error:
        raise BundleError(f"{file}: {reason(error)}; export the bundle again") from error
    if not manifest.inputs or not manifest.heads:
        raise BundleError(f"{file}: names no inputs or no heads; export the bundle again")
    return manifest


def write_bundle(output: AtomicFolder, manifest: Manifest) -> Bundle:
    """Hash the files in a folder aside, write the manifest next to them, and put the bundle in place."""
    files = {part.name: sha256(part) for part in sorted(output.folder.iterdir()) if part.name != INVENTORY}
    manifest = msgspec.structs.replace(manifest, files=files)
    (output.folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
    Bundle.open(output.folder)
    return Bundle(output.commit(), manifest)
