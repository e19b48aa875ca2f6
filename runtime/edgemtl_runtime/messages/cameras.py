"""What is told of cameras beside their pictures: the frames they look from, and their calibration."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import numpy as np

from ..errors import EdgemtlError, nearest_hint
from .cdr import Bool, Message, Uint32
from .types import Header

if TYPE_CHECKING:
    from ..frame import Size
    from ..rig import Rig

FRAME_ID = r"[A-Za-z0-9_][A-Za-z0-9_/.-]{0,199}"
"""A frame's name in ROS 2, which has no slash in front."""


@dataclass(frozen=True)
class RegionOfInterest(Message, ros="sensor_msgs/msg/RegionOfInterest"):
    """The part of the sensor that was read; all zero for the whole of it."""

    x_offset: Uint32 = 0
    y_offset: Uint32 = 0
    height: Uint32 = 0
    width: Uint32 = 0
    do_rectify: Bool = False


@dataclass(frozen=True)
class CameraInfo(Message, ros="sensor_msgs/msg/CameraInfo"):
    """A camera's size, lens and projection, for pictures as they come, with the lens's distortion in them."""

    header: Header
    height: Uint32
    width: Uint32
    distortion_model: str
    d: Annotated[tuple[float, ...], "float64[]"]
    k: Annotated[tuple[float, ...], "float64[9]"]
    r: Annotated[tuple[float, ...], "float64[9]"]
    p: Annotated[tuple[float, ...], "float64[12]"]
    binning_x: Uint32 = 0
    binning_y: Uint32 = 0
    roi: RegionOfInterest = RegionOfInterest()


@dataclass(frozen=True, eq=False)
class Setup:
    """How the cameras are mounted: ``frame_ids`` by camera, its own name where none is given, and the ``rig``."""

    rig: Rig | None = None
    frame_ids: Mapping[str, str] = field(default_factory=dict)
    sizes: dict[str, Size] = field(default_factory=dict, init=False)
    """Of each camera's latest picture; `seen` notes it."""
    fitted: dict[tuple[Size, Size], Rig | None] = field(default_factory=dict, init=False)

    @classmethod
    def of(cls, rig: Rig | None, words: Sequence[str], cameras: Sequence[str]) -> Setup:
        """Return the setup of a rig, with ``CAMERA=FRAME`` of a command line before the rig's own frames."""
        return cls(rig, (dict(rig.frame_ids) if rig else {}) | parse_frame_ids(words, cameras))

    def frame_id(self, camera: str) -> str:
        """Return the frame that a camera looks from."""
        return self.frame_ids.get(camera, camera)

    def seen(self, camera: str, size: Size) -> None:
        """Note the size of a camera's picture."""
        self.sizes[camera] = size

    def info(self, camera: str, size: Size, head: Header) -> CameraInfo | None:
        """Return a camera's calibration for pictures of ``size``, None where it is not known.

        Pictures of another shape than the rig's were cut, nobody knows where: nothing is told of them.
        """
        model = self.rig.cameras.get(camera) if self.rig else None
        if model is None or not model.calibrated or not model.has_shape(size):
            return None
        model = model.resized(size)
        k = model.camera_matrix
        d, k_row, r, p = (
            tuple(map(float, np.ravel(values)))
            for values in (model.distortion, k, np.eye(3), np.hstack([k, np.zeros((3, 1))]))
        )
        return CameraInfo(head, model.height, model.width, "plumb_bob", d, k_row, r, p)

    def rig_between(self, camera: str) -> Rig | None:
        """Return the rig for the sizes seen of its reference and of ``camera``, the other; None where there is none."""
        rig = self.rig
        if rig is None or camera != rig.ir.name or not {camera, rig.reference} <= self.sizes.keys():
            return None
        sizes = self.sizes[rig.reference], self.sizes[camera]
        if sizes not in self.fitted:
            fits = rig.rgb.has_shape(sizes[0]) and rig.ir.has_shape(sizes[1])
            self.fitted[sizes] = rig.resized(*sizes) if fits else None
        return self.fitted[sizes]


def parse_frame_ids(words: Sequence[str], cameras: Sequence[str]) -> dict[str, str]:
    """Read ``CAMERA=FRAME`` words of a command line."""
    found = {}
    for word in words:
        camera, _, frame = word.partition("=")
        if camera not in cameras:
            raise EdgemtlError(f"--frame-id {word}: give CAMERA=FRAME{nearest_hint(camera, list(cameras))}")
        found[camera] = checked_frame_id(frame, f"--frame-id {word}")
    return found


def checked_frame_id(frame: str, where: str) -> str:
    """Return a frame's name; raises `EdgemtlError` that says ``where`` it is none."""
    if not re.fullmatch(FRAME_ID, frame):
        raise EdgemtlError(
            f"{where}: a frame is named by letters, digits, '_', '-', '.' and '/', none of these in front"
        )
    return frame
