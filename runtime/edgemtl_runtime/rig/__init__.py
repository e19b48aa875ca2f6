"""A calibrated rig: two cameras, how one sees what the other sees, and the YAML file that keeps it.

The cameras are pinholes with the `plumb_bob` distortion (k1, k2, p1, p2, k3) of Brown (1966), as in OpenCV and ROS;
pixel centres are whole numbers. A point of the reference camera is one of the other by X_ir = R X_rgb + t, metres.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..atomic import AtomicFile
from ..errors import CameraError, EdgemtlError, flag, missing, nearest_hint
from ..limits import read_yaml, reason
from ..messages.cameras import checked_frame_id
from .geometry import CameraModel, Numbers, Size, numbers, plane_homography, read_as, resized_pixels, settle

__all__ = ["CameraModel", "Rig", "Size", "claimed"]
VERSION = 1
MOST = {"offset_ms": 60_000.0, "rms_px": 1e4}
MOST_VIEWS = 100_000
FARTHEST_M, WIDEST_M = 1e5, 100.0
"""How far the plane may lie, and how far apart the cameras of one rig."""


class _Pose(msgspec.Struct, forbid_unknown_fields=True):
    rotation: Numbers | None = None
    translation_m: list[float] | None = None
    distance_m: float | None = None
    homography: Numbers | None = None


class _Errors(msgspec.Struct, forbid_unknown_fields=True):
    rms_px: dict[str, float] = {}
    stereo_rms_px: float = 0.0
    views: int = 0


class _File(msgspec.Struct, forbid_unknown_fields=True):
    edgemtl_rig: int
    cameras: dict[str, Any]
    reference_to_other: _Pose
    reference: str = "rgb"
    errors: _Errors = msgspec.field(default_factory=_Errors)
    offset_ms: dict[str, float] = {}
    frame_ids: dict[str, str] = {}


@dataclass(frozen=True, eq=False)
class Rig:
    """Two cameras and what brings a pixel of the reference to a pixel of the other, named here rgb and ir.

    ``cameras`` are the reference and one other, by name. Calibrated, ``rotation_rgb_to_ir`` (3, 3) and
    ``translation_rgb_to_ir_m`` (3,) are known, and ``homography_rgb_to_ir`` (3, 3) is that of the plane ``distance_m``
    in front of the reference camera, between pixels without distortion. From matched points only the homography is
    known, between the pictures as they are, and ``distance_m`` is None. ``rms_px`` is each camera's reprojection
    error, ``stereo_rms_px`` that of both together, over ``views`` views; ``offset_ms`` is how much later than its
    stamp says a camera exposes, ``frame_ids`` the names that ROS gives the frames the cameras look from, where they
    are not those of the cameras.
    """

    cameras: dict[str, CameraModel]
    rotation_rgb_to_ir: NDArray[np.float64] | None = None
    translation_rgb_to_ir_m: NDArray[np.float64] | None = None
    distance_m: float | None = None
    homography_rgb_to_ir: NDArray[np.float64] | None = None
    reference: str = "rgb"
    rms_px: dict[str, float] = field(default_factory=dict)
    stereo_rms_px: float = 0.0
    views: int = 0
    offset_ms: dict[str, float] = field(default_factory=dict)
    frame_ids: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.cameras) != 2 or self.reference not in self.cameras:
            raise EdgemtlError(
                f"cameras are {', '.join(self.cameras) or 'none'}; give '{self.reference}' and one other"
            )
        for name, camera in self.cameras.items():
            if name != camera.name:
                raise EdgemtlError(f"cameras.{name}: camera_name is '{camera.name}'")
        for key in ("rms_px", "offset_ms"):
            values = {name: 0.0 for name in self.cameras} | getattr(self, key)
            if values.keys() != self.cameras.keys() or not all(abs(v) <= MOST[key] for v in values.values()):
                told = ", ".join(f"{name} {value:g}" for name, value in [*values.items()][:4])
                raise EdgemtlError(f"{key} is {told[:200]}; give one finite number a camera, up to {MOST[key]:g}")
            object.__setattr__(self, key, values)
        for name, frame in self.frame_ids.items():
            if name not in self.cameras:
                raise EdgemtlError(f"frame_ids: there is no camera {name}{nearest_hint(name, [*self.cameras])}")
            checked_frame_id(frame, f"frame_ids.{name} {frame}")
        if not (0 <= self.stereo_rms_px < np.inf) or not 0 <= self.views <= MOST_VIEWS:
            raise EdgemtlError(f"errors: stereo_rms_px is {self.stereo_rms_px} and views {self.views}")
        if self.rotation_rgb_to_ir is None:
            self._check_points_only()
        else:
            self._check_calibrated()

    def _check_points_only(self) -> None:
        if self.homography_rgb_to_ir is None:
            raise EdgemtlError("neither rotation and translation nor a homography is given; calibrate the rig")
        if self.distance_m is not None or self.translation_rgb_to_ir_m is not None:
            raise EdgemtlError("distance_m and translation_m go with a rotation; calibrate with a board to have one")
        homography = settle(self, "homography_rgb_to_ir", (3, 3))
        middle = homography @ [(self.rgb.width - 1) / 2, (self.rgb.height - 1) / 2, 1]
        if not np.linalg.cond(homography) <= 1e12 or abs(middle[2]) < 1e-9 * np.abs(homography).max():
            raise EdgemtlError("homography is singular or has its horizon in the middle of the picture")

    def _check_calibrated(self) -> None:
        rotation = settle(self, "rotation_rgb_to_ir", (3, 3))
        if self.translation_rgb_to_ir_m is None or self.distance_m is None:
            raise EdgemtlError("a rotation goes with translation_m and distance_m; give all three")
        settle(self, "translation_rgb_to_ir_m", (3,))
        given = self.homography_rgb_to_ir
        if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-5 or np.linalg.det(rotation) < 0:
            raise EdgemtlError("rotation is none: R times its transpose is not the identity, or it mirrors")
        if not 0 < self.distance_m <= FARTHEST_M:
            raise EdgemtlError(f"distance_m is {self.distance_m}; give metres above 0, up to {FARTHEST_M:g}")
        if np.abs(self.translation_rgb_to_ir_m).max() > WIDEST_M:
            raise EdgemtlError(f"translation_m is more than {WIDEST_M:g} m; a rig's cameras stand together")
        if not (self.rgb.calibrated and self.ir.calibrated):
            raise EdgemtlError("a rotation goes with camera matrices, and one is zero")
        matrices = self.rgb.camera_matrix, self.ir.camera_matrix
        plane = plane_homography(*matrices, rotation, self.translation_rgb_to_ir_m, self.distance_m)
        object.__setattr__(self, "homography_rgb_to_ir", plane if given is None else given)
        homography = settle(self, "homography_rgb_to_ir", (3, 3))
        if not np.linalg.cond(homography) <= 1e12:
            raise EdgemtlError("homography is singular: distance_m and translation_m put the plane through a camera")
        if np.abs(homography - plane).max() > 1e-6 * np.abs(plane).max():
            raise EdgemtlError("homography is not that of distance_m; leave it out, and it follows from distance_m")

    @property
    def rgb(self) -> CameraModel:
        """The reference camera."""
        return self.cameras[self.reference]

    @property
    def ir(self) -> CameraModel:
        """The other camera."""
        return next(camera for name, camera in self.cameras.items() if name != self.reference)

    @property
    def calibrated(self) -> bool:
        """Whether lenses, rotation and translation are known; otherwise a homography is all there is."""
        return self.rotation_rgb_to_ir is not None

    def at(self, distance_m: float) -> Rig:
        """Return the rig for a plane at another distance; raises `EdgemtlError` where only points are known."""
        if not self.calibrated:
            raise EdgemtlError("the rig is known from matched points, at one distance; calibrate with a board first")
        return replace(self, distance_m=float(distance_m), homography_rgb_to_ir=None)

    def renamed(self, reference: str, other: str) -> Rig:
        """Return the rig with other names for its cameras, as a bundle calls its inputs."""
        names = {self.rgb.name: reference, self.ir.name: other}
        return replace(
            self,
            cameras={names[name]: replace(camera, name=names[name]) for name, camera in self.cameras.items()},
            reference=reference,
            rms_px={names[name]: value for name, value in self.rms_px.items()},
            offset_ms={names[name]: value for name, value in self.offset_ms.items()},
        )

    def check_names(self, names: Collection[str]) -> None:
        """Raise `EdgemtlError` where cameras of these names are others than the rig's, and would stay as they are."""
        mine = self.cameras.keys()
        if not (mine <= set(names) or mine >= set(names)):
            raise EdgemtlError(
                f"the rig is of the cameras {' and '.join(mine)}, not of {' and '.join(names)}; calibrate with "
                f"{' and '.join(flag(name) for name in names)}, or change the names in the rig's file"
            )

    def resized(self, rgb_size: Size, ir_size: Size) -> Rig:
        """Return the rig for frames (height, width) that are resized ones of those it was calibrated with.

        Raises `CameraError` where a frame is not, because then it was cut, and by how much nobody knows.
        """
        for camera, (height, width) in ((self.rgb, rgb_size), (self.ir, ir_size)):
            if not camera.has_shape((height, width)):
                raise CameraError(
                    f"{flag(camera.name)} has {width}x{height} pictures, the rig was calibrated with {camera.width}x"
                    f"{camera.height}, which is another shape; calibrate again with the pictures in use"
                )
        if (rgb_size, ir_size) == (self.rgb.size, self.ir.size):
            return self
        cameras = {self.rgb.name: self.rgb.resized(rgb_size), self.ir.name: self.ir.resized(ir_size)}
        if self.calibrated:
            return replace(self, cameras=cameras, homography_rgb_to_ir=None)
        assert self.homography_rgb_to_ir is not None
        from_rgb = np.linalg.inv(resized_pixels(self.rgb.size, rgb_size))
        to_ir = resized_pixels(self.ir.size, ir_size)
        return replace(self, cameras=cameras, homography_rgb_to_ir=to_ir @ self.homography_rgb_to_ir @ from_rgb)

    def to_dict(self) -> dict[str, Any]:
        """Return what the rig file holds."""
        pose: dict[str, Any] = {"homography": numbers(self.homography_rgb_to_ir)}
        if self.rotation_rgb_to_ir is not None and self.translation_rgb_to_ir_m is not None:
            pose |= {
                "rotation": numbers(self.rotation_rgb_to_ir),
                "translation_m": self.translation_rgb_to_ir_m.tolist(),
                "distance_m": self.distance_m,
            }
        return {
            "edgemtl_rig": VERSION,
            "reference": self.reference,
            "cameras": {name: camera.to_dict() for name, camera in self.cameras.items()},
            "reference_to_other": pose,
            "errors": {"rms_px": self.rms_px, "stereo_rms_px": self.stereo_rms_px, "views": self.views},
            "offset_ms": self.offset_ms,
            **({"frame_ids": self.frame_ids} if self.frame_ids else {}),
        }

    @classmethod
    def open(cls, path: str | PathLike[str]) -> Rig:
        """Read a rig file; raises `EdgemtlError` that names the file and the field."""
        told = read_yaml(Path(path))
        if isinstance(told, dict) and told.get("edgemtl_rig") != VERSION:
            version = ascii(told.get("edgemtl_rig"))[:40]
            raise EdgemtlError(f"{path}: edgemtl_rig is {version}, not {VERSION}; is it a rig file?")
        file = read_as(told, _File, str(path))
        pose, errors = file.reference_to_other, file.errors
        try:
            return cls(
                {name: CameraModel.from_dict(info, f"cameras.{name}") for name, info in file.cameras.items()},
                pose.rotation.array("rotation", (3, 3)) if pose.rotation else None,
                None if pose.translation_m is None else np.array(pose.translation_m),
                pose.distance_m,
                pose.homography.array("homography", (3, 3)) if pose.homography else None,
                file.reference,
                errors.rms_px,
                errors.stereo_rms_px,
                errors.views,
                file.offset_ms,
                file.frame_ids,
            )
        except EdgemtlError as error:
            raise EdgemtlError(f"{path}: {reason(error)}") from None

    def save(self, path: str | PathLike[str], overwrite: bool = False) -> None:
        """Write the rig file, and beside ``rig.yaml`` each camera's ``rig.rgb.yaml`` as ROS reads it.

        Raises `EdgemtlError` where one of them is there already, unless ``overwrite``.
        """
        with claimed(path, list(self.cameras), overwrite) as files:
            self.write(files)

    def write(self, files: list[AtomicFile]) -> None:
        """Write the files that `claimed` gave for this rig's cameras; the rig's own comes last."""
        contents = [self.to_dict(), *(camera.to_dict() for camera in self.cameras.values())]
        for file, content in reversed(list(zip(files, contents, strict=True))):
            text = _yaml().safe_dump(content, sort_keys=False, default_flow_style=None, width=120)
            try:
                file.write(text.encode())
            except OSError as error:
                raise EdgemtlError(f"{file.given}: cannot be written ({error.strerror})") from error


@contextmanager
def claimed(path: str | PathLike[str], cameras: list[str], overwrite: bool = False) -> Iterator[list[AtomicFile]]:
    """Claim the files of a rig, for `Rig.write`: its own, and each camera's; raises `EdgemtlError` as `AtomicFile`."""
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
