"""Rig files: YAML with cameras, extrinsics and errors, and a ROS camera_info file for each camera."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import msgspec

from ..atomic import AtomicFile
from ..errors import EdgemtlError, missing
from ..limits import read_yaml
from .matrices import Matrix, convert

VERSION = 1


class Extrinsics(msgspec.Struct, forbid_unknown_fields=True):
    """The pose of the other camera, and the plane of the homography."""

    rotation: Matrix | None = None
    translation_m: list[float] | None = None
    distance_m: float | None = None
    homography: Matrix | None = None


class Errors(msgspec.Struct, forbid_unknown_fields=True):
    """Reprojection errors of a calibration, root mean square in pixels, and its number of views."""

    rms_px: dict[str, float] = {}
    stereo_rms_px: float = 0.0
    views: int = 0


class RigFile(msgspec.Struct, forbid_unknown_fields=True):
    """The contents of a rig file; each of ``cameras`` is the mapping of a camera_info file."""

    edgemtl_rig: int
    cameras: dict[str, Any]
    reference_to_other: Extrinsics
    reference: str = "rgb"
    errors: Errors = msgspec.field(default_factory=Errors)
    offset_ms: dict[str, float] = {}
    frame_ids: dict[str, str] = {}


def read_rig_file(path: Path) -> RigFile:
    """Return the contents of a rig file; raises `EdgemtlError` that names the file and the field."""
    mapping = read_yaml(path)
    if isinstance(mapping, dict) and mapping.get("edgemtl_rig") != VERSION:
        version = ascii(mapping["edgemtl_rig"])[:40] if "edgemtl_rig" in mapping else "missing"
        raise EdgemtlError(
            f"{path}: edgemtl_rig is {version}, not {VERSION}; is it a rig file, as `edgemtl-runtime calibrate` writes?"
        )
    return convert(mapping, RigFile, str(path))


def write_mappings(files: Sequence[AtomicFile], mappings: Sequence[dict[str, Any]]) -> None:
    """Write mappings as YAML; the first one last, so that it is there when all others are."""
    for file, mapping in reversed(list(zip(files, mappings, strict=True))):
        text = _yaml().safe_dump(mapping, sort_keys=False, default_flow_style=None, width=120)
        try:
            file.write(text.encode())
        except OSError as error:
            raise EdgemtlError(f"{file.given}: cannot be written ({error.strerror})") from error


@contextmanager
def claimed(path: str | PathLike[str], cameras: list[str], overwrite: bool = False) -> Iterator[list[AtomicFile]]:
    """Claim the rig file and each camera's file, for `Rig.write`; raises `EdgemtlError` as `AtomicFile` does."""
    path = Path(path)
    files = [path, *(path.with_name(f"{path.stem}.{name}.yaml") for name in cameras)]
    with ExitStack() as stack:
        yield [stack.enter_context(AtomicFile(file, overwrite)) for file in files]


def _yaml() -> Any:
    try:
        import yaml
    except ImportError as error:
        hint = "rig files need PyYAML: pip install 'edgemtl-runtime[rig]'"
        raise EdgemtlError(missing(error, "yaml", hint)) from error
    return yaml
