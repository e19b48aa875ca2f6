"""Camera model: pinhole intrinsics and lens distortion of one camera, as in ROS camera_info."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..bundle import is_plain_name
from ..errors import EdgemtlError
from .homography import resized_pixels
from .matrices import Matrix, Size, convert, freeze_array, to_yaml

MAX_SIDE_PX, MAX_PIXELS = 32_000, 1 << 28
MAX_FOCAL_PX, MAX_DISTORTION = 1e7, 1e6


class _CameraInfo(msgspec.Struct, forbid_unknown_fields=True):
    image_width: int
    image_height: int
    camera_name: str
    camera_matrix: Matrix
    distortion_model: str
    distortion_coefficients: Matrix
    rectification_matrix: Matrix | None = None
    projection_matrix: Matrix | None = None


@dataclass(frozen=True, eq=False)
class CameraModel:
    """Intrinsics of a camera: ``camera_matrix`` (3, 3), ``distortion`` (5,) float64; 0 where only the size is known."""

    name: str
    width: int
    height: int
    camera_matrix: NDArray[np.float64] = field(default_factory=lambda: np.zeros((3, 3)))
    distortion: NDArray[np.float64] = field(default_factory=lambda: np.zeros(5))

    def __post_init__(self) -> None:
        if not is_plain_name(self.name):
            escaped = ascii(self.name[:70])[1:-1]
            raise EdgemtlError(f"camera_name '{escaped}': give a name that an input may have: letters, digits and ._-")
        if not (1 <= self.width <= MAX_SIDE_PX and 1 <= self.height <= MAX_SIDE_PX):
            raise EdgemtlError(f"camera {self.name}: image_width and image_height are {self.width} and {self.height}")
        if self.width * self.height > MAX_PIXELS:
            raise EdgemtlError(f"camera {self.name}: {self.width}x{self.height} are more pixels than a camera has")
        freeze_array(self, "camera_matrix", (3, 3))
        freeze_array(self, "distortion", (5,))
        k = self.camera_matrix
        plain = k[0, 0] > 0 and k[1, 1] > 0 and not k[1, 0] and not k[2, :2].any() and k[2, 2] == 1
        if np.abs(k).max() > MAX_FOCAL_PX or np.abs(self.distortion).max() > MAX_DISTORTION:
            raise EdgemtlError(f"camera {self.name}: camera_matrix or distortion_coefficients are beyond any lens's")
        if k.any() and not plain:
            raise EdgemtlError(f"camera {self.name}: camera_matrix is not [fx s cx; 0 fy cy; 0 0 1] with fx, fy > 0")

    @property
    def calibrated(self) -> bool:
        """Whether the camera matrix is known; as in ROS, its first element is not 0 then."""
        return bool(self.camera_matrix[0, 0])

    @property
    def size(self) -> Size:
        """Height and width in pixels."""
        return self.height, self.width

    def has_shape(self, size: Size) -> bool:
        """Whether images of ``size`` (height, width) have the camera's aspect ratio; otherwise they were cropped."""
        return abs(size[1] - self.width * size[0] / self.height) < 1

    def resized(self, size: Size) -> CameraModel:
        """Return the intrinsics for images resized to ``size`` (height, width)."""
        matrix = resized_pixels(self.size, size) @ self.camera_matrix
        return replace(self, height=size[0], width=size[1], camera_matrix=matrix)

    def to_dict(self) -> dict[str, Any]:
        """Return the mapping of a ROS camera_info file."""
        projection = np.hstack([self.camera_matrix, np.zeros((3, 1))])
        return {
            "image_width": self.width,
            "image_height": self.height,
            "camera_name": self.name,
            "camera_matrix": to_yaml(self.camera_matrix),
            "distortion_model": "plumb_bob",
            "distortion_coefficients": to_yaml(self.distortion[None]),
            "rectification_matrix": to_yaml(np.eye(3)),
            "projection_matrix": to_yaml(projection),
        }

    @classmethod
    def from_dict(cls, mapping: object, label: str) -> CameraModel:
        """Read the mapping of a ROS camera_info file; ``label`` names it in errors.

        Rectification and projection belong to rectified images, which are not used here; they are not kept.
        """
        info = convert(mapping, _CameraInfo, label)
        if info.distortion_model != "plumb_bob":
            raise EdgemtlError(f"{label}: distortion_model is '{info.distortion_model[:40]}', only plumb_bob is known")
        matrix = info.camera_matrix.array(f"{label}: camera_matrix", (3, 3))
        distortion = info.distortion_coefficients.array(f"{label}: distortion_coefficients", (1, 5))
        try:
            return cls(info.camera_name, info.image_width, info.image_height, matrix, distortion[0])
        except EdgemtlError as error:
            raise EdgemtlError(f"{label}: {error}") from None
