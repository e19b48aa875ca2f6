"""The rig: intrinsics and extrinsics of two cameras, checked, resized and renamed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..atomic import AtomicFile
from ..errors import CameraError, EdgemtlError, flag, nearest_hint
from ..limits import reason
from ..messages.cameras import checked_frame_id
from .camera_model import CameraModel
from .homography import plane_homography, resized_pixels
from .matrices import Size, freeze_array, to_yaml
from .rig_file import VERSION, claimed, read_rig_file, write_mappings

MAX_VALUES = {"offset_ms": 60_000.0, "rms_px": 1e4}
MAX_VIEWS = 100_000
MAX_DISTANCE_M, MAX_BASELINE_M = 1e5, 100.0


@dataclass(frozen=True, eq=False)
class Rig:
    """Two cameras, the reference and the other one, here named rgb and ir, and the mapping between their pixels.

    ``cameras`` are the reference and one other, by name. Calibrated, ``rotation_rgb_to_ir`` (3, 3) and
    ``translation_rgb_to_ir_m`` (3,) are known, and ``homography_rgb_to_ir`` (3, 3) is that of the plane ``distance_m``
    in front of the reference camera, between pixels without distortion. From matched points only the homography is
    known, between the images as they are, and ``distance_m`` is None. ``rms_px`` is each camera's reprojection
    error, ``stereo_rms_px`` that of both together, over ``views`` views; ``offset_ms`` is each camera's clock
    offset: exposure minus stamp; ``frame_ids`` are the cameras' coordinate frames in ROS, where they are
    not the cameras' names.
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
            if values.keys() != self.cameras.keys() or not all(abs(v) <= MAX_VALUES[key] for v in values.values()):
                listed = ", ".join(f"{name} {value:g}" for name, value in [*values.items()][:4])
                raise EdgemtlError(
                    f"{key} is {listed[:200]}; give one finite number a camera, up to {MAX_VALUES[key]:g}"
                )
            object.__setattr__(self, key, values)
        for name, frame in self.frame_ids.items():
            if name not in self.cameras:
                raise EdgemtlError(f"frame_ids: there is no camera {name}{nearest_hint(name, [*self.cameras])}")
            checked_frame_id(frame, f"frame_ids.{name} {frame}")
        if not (0 <= self.stereo_rms_px < np.inf) or not 0 <= self.views <= MAX_VIEWS:
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
        homography = freeze_array(self, "homography_rgb_to_ir", (3, 3))
        middle = homography @ [(self.rgb.width - 1) / 2, (self.rgb.height - 1) / 2, 1]
        if not np.linalg.cond(homography) <= 1e12 or abs(middle[2]) < 1e-9 * np.abs(homography).max():
            raise EdgemtlError("homography is singular or has its horizon in the middle of the image")

    def _check_calibrated(self) -> None:
        rotation = freeze_array(self, "rotation_rgb_to_ir", (3, 3))
        if self.translation_rgb_to_ir_m is None or self.distance_m is None:
            raise EdgemtlError("a rotation goes with translation_m and distance_m; give all three")
        freeze_array(self, "translation_rgb_to_ir_m", (3,))
        given = self.homography_rgb_to_ir
        if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-5 or np.linalg.det(rotation) < 0:
            raise EdgemtlError("rotation is none: R times its transpose is not the identity, or it mirrors")
        if not 0 < self.distance_m <= MAX_DISTANCE_M:
            raise EdgemtlError(f"distance_m is {self.distance_m}; give metres above 0, up to {MAX_DISTANCE_M:g}")
        if np.abs(self.translation_rgb_to_ir_m).max() > MAX_BASELINE_M:
            raise EdgemtlError(f"translation_m is more than {MAX_BASELINE_M:g} m; a rig's cameras are close together")
        if not (self.rgb.calibrated and self.ir.calibrated):
            raise EdgemtlError("a rotation goes with camera matrices, and one is zero")
        matrices = self.rgb.camera_matrix, self.ir.camera_matrix
        plane = plane_homography(*matrices, rotation, self.translation_rgb_to_ir_m, self.distance_m)
        object.__setattr__(self, "homography_rgb_to_ir", plane if given is None else given)
        homography = freeze_array(self, "homography_rgb_to_ir", (3, 3))
        if not np.linalg.cond(homography) <= 1e12:
            raise EdgemtlError("homography is singular: distance_m and translation_m put the plane through a camera")
        if np.abs(homography - plane).max() > 1e-6 * np.abs(plane).max():
            raise EdgemtlError("homography is not that of distance_m; omit it, and it follows from distance_m")

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
        """Raise `EdgemtlError` where cameras of these names are not the rig's, and would not be registered."""
        known = self.cameras.keys()
        if not (known <= set(names) or known >= set(names)):
            raise EdgemtlError(
                f"the rig is of the cameras {' and '.join(known)}, not of {' and '.join(names)}; calibrate with "
                f"{' and '.join(flag(name) for name in names)}, or change the names in the rig's file"
            )

    def resized(self, rgb_size: Size, ir_size: Size) -> Rig:
        """Return the rig for frames (height, width) that are resized ones of those it was calibrated with.

        Raises `CameraError` where a frame is not, because then it was cropped, by an unknown amount.
        """
        for camera, (height, width) in ((self.rgb, rgb_size), (self.ir, ir_size)):
            if not camera.has_shape((height, width)):
                raise CameraError(
                    f"{flag(camera.name)} has {width}x{height} images, the rig was calibrated with {camera.width}x"
                    f"{camera.height}, which is another shape; calibrate again with the images in use"
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
        """Return the mapping of the rig file."""
        pose: dict[str, Any] = {"homography": to_yaml(self.homography_rgb_to_ir)}
        if self.rotation_rgb_to_ir is not None and self.translation_rgb_to_ir_m is not None:
            pose |= {
                "rotation": to_yaml(self.rotation_rgb_to_ir),
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
        file = read_rig_file(Path(path))
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
        """Write the rig file, and next to ``rig.yaml`` each camera's ``rig.rgb.yaml`` in the format of ROS.

        Raises `EdgemtlError` where one of them exists, unless ``overwrite``.
        """
        with claimed(path, list(self.cameras), overwrite) as files:
            self.write(files)

    def write(self, files: Sequence[AtomicFile]) -> None:
        """Write the files that `claimed` returned for this rig's cameras; the rig file comes last."""
        write_mappings(files, [self.to_dict(), *(camera.to_dict() for camera in self.cameras.values())])
