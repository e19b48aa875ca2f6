"""Camera setup for ROS 2: the frame that each camera looks from, and its calibration as a message."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..errors import EdgemtlError, nearest_hint
from ..text import printable

if TYPE_CHECKING:
    from ..frame import Frame, Size
    from ..rig import Rig
    from ..rig.camera_model import CameraModel
    from .store import CameraInfo, Header

FRAME_ID = r"[A-Za-z0-9_][A-Za-z0-9_/.-]{0,199}"
"""A frame's name in ROS 2, which has no slash in front."""


@dataclass(frozen=True, eq=False)
class Setup:
    """How the cameras are mounted: ``frame_ids`` by camera and the ``rig``.

    Where these do not have a camera's frame or calibration, those count that its frames state, as topics do.
    """

    rig: Rig | None = None
    frame_ids: Mapping[str, str] = field(default_factory=dict)
    sizes: dict[str, Size] = field(default_factory=dict, init=False)
    """Of each camera's latest image; `note` keeps it."""
    stated: dict[str, tuple[str, CameraModel | None]] = field(default_factory=dict, init=False)
    """The coordinate frame and the calibration that each camera's latest frame states."""
    resized_rigs: dict[tuple[Size, Size], Rig | None] = field(default_factory=dict, init=False)

    @classmethod
    def of(cls, rig: Rig | None, arguments: Sequence[str], cameras: Sequence[str]) -> Setup:
        """Return the setup of a rig, with ``CAMERA=FRAME`` of a command line before the rig's frames."""
        return cls(rig, (dict(rig.frame_ids) if rig else {}) | parse_frame_ids(arguments, cameras))

    def frame_id(self, camera: str) -> str:
        """Return the frame that a camera looks from."""
        return self.frame_ids.get(camera) or self.stated.get(camera, ("", None))[0] or camera

    def note(self, frame: Frame) -> None:
        """Keep the size of a camera's image, and what its frame states."""
        self.sizes[frame.camera] = frame.size
        frame_id = frame.frame_id.lstrip("/")
        self.stated[frame.camera] = frame_id if re.fullmatch(FRAME_ID, frame_id) else "", frame.lens

    def camera_info(self, camera: str, size: Size, header: Header) -> CameraInfo | None:
        """Return a camera's calibration for images of ``size``, as they come, distorted; None where it is not known.

        Images of another shape than the rig's were cropped at an unknown offset: they have none.
        """
        from .store import CameraInfo, RegionOfInterest

        model = self.rig.cameras.get(camera) if self.rig else None
        if model is None or not model.calibrated:
            model = self.stated.get(camera, ("", None))[1]
        if model is None or not model.has_shape(size):
            return None
        model = model.resized(size)
        k = model.camera_matrix
        d, k_row, r, p = (
            np.ravel(np.asarray(values, np.float64))
            for values in (model.distortion, k, np.eye(3), np.hstack([k, np.zeros((3, 1))]))
        )
        whole_image, binning = RegionOfInterest(0, 0, 0, 0, False), (0, 0)
        return CameraInfo(header, model.height, model.width, "plumb_bob", d, k_row, r, p, *binning, whole_image)

    def rig_between(self, camera: str) -> Rig | None:
        """Return the rig for the image sizes of its reference and of ``camera``, the other; None without one."""
        rig = self.rig
        if rig is None or camera != rig.ir.name or not {camera, rig.reference} <= self.sizes.keys():
            return None
        sizes = self.sizes[rig.reference], self.sizes[camera]
        if sizes not in self.resized_rigs:
            has_shapes = rig.rgb.has_shape(sizes[0]) and rig.ir.has_shape(sizes[1])
            self.resized_rigs[sizes] = rig.resized(*sizes) if has_shapes else None
        return self.resized_rigs[sizes]


def lens_of(info: CameraInfo, name: str) -> CameraModel | None:
    """Return the calibration that a message holds, None of a camera without one; raises `EdgemtlError`."""
    from ..rig.camera_model import CameraModel

    if not info.k[0]:
        return None
    distortion = np.asarray(info.d, np.float64)
    if info.distortion_model not in ("plumb_bob", "") or len(distortion) > 5:
        model = printable(info.distortion_model)[:40]
        raise EdgemtlError(f"its camera_info is of the lens model '{model}', only plumb_bob is known")
    if info.binning_x > 1 or info.binning_y > 1 or info.roi.width or info.roi.height:
        raise EdgemtlError("its camera_info is of binned or cropped images")
    if not (np.isfinite(distortion).all() and np.isfinite(info.k).all()):
        raise EdgemtlError("its camera_info holds numbers that are not finite")
    distortion = np.pad(distortion, (0, 5 - len(distortion)))
    return CameraModel(name, info.width, info.height, np.reshape(np.asarray(info.k, np.float64), (3, 3)), distortion)


def parse_frame_ids(arguments: Sequence[str], cameras: Sequence[str]) -> dict[str, str]:
    """Return frames by camera from ``CAMERA=FRAME`` arguments of a command line."""
    frame_ids = {}
    for argument in arguments:
        camera, _, frame = argument.partition("=")
        if camera not in cameras:
            raise EdgemtlError(f"--frame-id {argument}: give CAMERA=FRAME{nearest_hint(camera, list(cameras))}")
        frame_ids[camera] = checked_frame_id(frame, f"--frame-id {argument}")
    return frame_ids


def checked_frame_id(frame: str, label: str) -> str:
    """Return a frame's name; raises `EdgemtlError` that begins with ``label`` where ROS 2 does not allow it."""
    if not re.fullmatch(FRAME_ID, frame):
        raise EdgemtlError(
            f"{label}: a frame is named by letters, digits, '_', '-', '.' and '/', none of these in front"
        )
    return frame
