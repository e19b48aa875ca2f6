"""Camera setup for ROS 2: the frame that each camera looks from, and its calibration as a message."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..errors import EdgemtlError, nearest_hint

if TYPE_CHECKING:
    from ..frame import Size
    from ..rig import Rig
    from .store import CameraInfo, Header

FRAME_ID = r"[A-Za-z0-9_][A-Za-z0-9_/.-]{0,199}"
"""A frame's name in ROS 2, which has no slash in front."""


@dataclass(frozen=True, eq=False)
class Setup:
    """How the cameras are mounted: ``frame_ids`` by camera, its name where none is given, and the ``rig``."""

    rig: Rig | None = None
    frame_ids: Mapping[str, str] = field(default_factory=dict)
    sizes: dict[str, Size] = field(default_factory=dict, init=False)
    """Of each camera's latest image; `note_size` keeps it."""
    resized_rigs: dict[tuple[Size, Size], Rig | None] = field(default_factory=dict, init=False)

    @classmethod
    def of(cls, rig: Rig | None, arguments: Sequence[str], cameras: Sequence[str]) -> Setup:
        """Return the setup of a rig, with ``CAMERA=FRAME`` of a command line before the rig's frames."""
        return cls(rig, (dict(rig.frame_ids) if rig else {}) | parse_frame_ids(arguments, cameras))

    def frame_id(self, camera: str) -> str:
        """Return the frame that a camera looks from."""
        return self.frame_ids.get(camera, camera)

    def note_size(self, camera: str, size: Size) -> None:
        """Keep the size of a camera's image."""
        self.sizes[camera] = size

    def camera_info(self, camera: str, size: Size, header: Header) -> CameraInfo | None:
        """Return a camera's calibration for images of ``size``, as they come, distorted; None where it is not known.

        Images of another shape than the rig's were cropped at an unknown offset: they have none.
        """
        from .store import CameraInfo, RegionOfInterest

        model = self.rig.cameras.get(camera) if self.rig else None
        if model is None or not model.calibrated or not model.has_shape(size):
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
