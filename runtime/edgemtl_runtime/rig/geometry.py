"""From a pixel of one camera to the pixel of the other: lens distortion, rays, and the plane that both look at.

Everything is float64; a point that cannot be had (behind a camera, or where the lens model folds over) is NaN. The
lens is `plumb_bob`, k1 k2 p1 p2 k3, of Brown, "Decentering distortion of lenses" (1966), as in OpenCV.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..bundle import is_plain_name
from ..errors import EdgemtlError
from ..limits import reason

if TYPE_CHECKING:
    from . import Rig

_T = TypeVar("_T")
Array = NDArray[np.float64]
Size = tuple[int, int]
"""Height and width, pixels."""
STEPS = 20
LARGEST_PX, MOST_PIXELS = 32_000, 1 << 28
MOST_FOCAL_PX, MOST_DISTORTION = 1e7, 1e6
SETTLED = 1e-10
"""Undistortion has converged when it distorts back to within this much, in units of the focal length."""


class Numbers(msgspec.Struct, forbid_unknown_fields=True):
    """A matrix as ROS writes it in YAML: row by row."""

    rows: int
    cols: int
    data: list[float]

    def array(self, where: str, shape: Size) -> Array:
        """Return the matrix; raises `EdgemtlError` where its shape is not ``shape``."""
        if (self.rows, self.cols) != shape or len(self.data) != self.rows * self.cols:
            found = f"{self.rows}x{self.cols} of {len(self.data)} numbers"
            raise EdgemtlError(f"{where} is {found}; give {shape[0]}x{shape[1]}")
        return np.array(self.data, np.float64).reshape(shape)


class _Info(msgspec.Struct, forbid_unknown_fields=True):
    image_width: int
    image_height: int
    camera_name: str
    camera_matrix: Numbers
    distortion_model: str
    distortion_coefficients: Numbers
    rectification_matrix: Numbers | None = None
    projection_matrix: Numbers | None = None


@dataclass(frozen=True, eq=False)
class CameraModel:
    """One camera: ``camera_matrix`` (3, 3) and ``distortion`` (5,) float64; zeros where only the size is known."""

    name: str
    width: int
    height: int
    camera_matrix: NDArray[np.float64] = field(default_factory=lambda: np.zeros((3, 3)))
    distortion: NDArray[np.float64] = field(default_factory=lambda: np.zeros(5))

    def __post_init__(self) -> None:
        if not is_plain_name(self.name):
            shown = ascii(self.name[:70])[1:-1]
            raise EdgemtlError(f"camera_name '{shown}': give a name that an input may have: letters, digits and ._-")
        if not (1 <= self.width <= LARGEST_PX and 1 <= self.height <= LARGEST_PX):
            raise EdgemtlError(f"camera {self.name}: image_width and image_height are {self.width} and {self.height}")
        if self.width * self.height > MOST_PIXELS:
            raise EdgemtlError(f"camera {self.name}: {self.width}x{self.height} are more pixels than a camera has")
        settle(self, "camera_matrix", (3, 3))
        settle(self, "distortion", (5,))
        k = self.camera_matrix
        plain = k[0, 0] > 0 and k[1, 1] > 0 and not k[1, 0] and not k[2, :2].any() and k[2, 2] == 1
        if np.abs(k).max() > MOST_FOCAL_PX or np.abs(self.distortion).max() > MOST_DISTORTION:
            raise EdgemtlError(f"camera {self.name}: camera_matrix or distortion_coefficients are beyond any lens's")
        if k.any() and not plain:
            raise EdgemtlError(f"camera {self.name}: camera_matrix is not [fx s cx; 0 fy cy; 0 0 1] with fx, fy > 0")

    @property
    def calibrated(self) -> bool:
        """Whether the camera matrix is known; ROS too says so by its first number."""
        return bool(self.camera_matrix[0, 0])

    @property
    def size(self) -> Size:
        """Height and width in pixels."""
        return self.height, self.width

    def has_shape(self, size: Size) -> bool:
        """Whether pictures of ``size`` (height, width) are resized ones of the camera's; else they were cut."""
        return abs(size[1] - self.width * size[0] / self.height) < 1

    def resized(self, size: Size) -> CameraModel:
        """Return the camera as if its pictures were resized to ``size`` (height, width)."""
        matrix = resized_pixels(self.size, size) @ self.camera_matrix
        return replace(self, height=size[0], width=size[1], camera_matrix=matrix)

    def to_dict(self) -> dict[str, Any]:
        """Return the mapping of a ROS camera_info file."""
        projection = np.hstack([self.camera_matrix, np.zeros((3, 1))])
        return {
            "image_width": self.width,
            "image_height": self.height,
            "camera_name": self.name,
            "camera_matrix": numbers(self.camera_matrix),
            "distortion_model": "plumb_bob",
            "distortion_coefficients": numbers(self.distortion[None]),
            "rectification_matrix": numbers(np.eye(3)),
            "projection_matrix": numbers(projection),
        }

    @classmethod
    def from_dict(cls, told: object, where: str) -> CameraModel:
        """Read the mapping of a ROS camera_info file; ``where`` names it in errors.

        Rectification and projection belong to rectified pictures, which we do not use; they are not kept.
        """
        info = read_as(told, _Info, where)
        if info.distortion_model != "plumb_bob":
            raise EdgemtlError(f"{where}: distortion_model is '{info.distortion_model[:40]}', only plumb_bob is known")
        matrix = info.camera_matrix.array(f"{where}: camera_matrix", (3, 3))
        distortion = info.distortion_coefficients.array(f"{where}: distortion_coefficients", (1, 5))
        try:
            return cls(info.camera_name, info.image_width, info.image_height, matrix, distortion[0])
        except EdgemtlError as error:
            raise EdgemtlError(f"{where}: {error}") from None


def distort(rays: NDArray[Any], distortion: NDArray[Any]) -> Array:
    """Return where the lens puts ideal ``rays`` (N, 2), x/z and y/z; NaN beyond the radius where its model folds."""
    rays = np.asarray(rays, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # far beyond any lens
        out, _ = _distort(rays, np.asarray(distortion, np.float64))
        out[(rays**2).sum(1) >= fold_radius(distortion) ** 2] = np.nan
    return out


def _distort(rays: Array, distortion: Array) -> tuple[Array, Array]:
    """Return distorted rays (N, 2) and the derivatives (N, 3): dx/dx, dx/dy = dy/dx, dy/dy."""
    k1, k2, p1, p2, k3 = distortion
    x, y = rays[:, 0], rays[:, 1]
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    slope = 2 * (k1 + r2 * (2 * k2 + 3 * r2 * k3))
    out = np.stack(
        [
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        ],
        1,
    )
    derivatives = [
        radial + x * x * slope + 2 * p1 * y + 6 * p2 * x,
        x * y * slope + 2 * p1 * x + 2 * p2 * y,
        radial + y * y * slope + 6 * p1 * y + 2 * p2 * x,
    ]
    return out, np.stack(derivatives, 1)


def undistort(points: NDArray[Any], distortion: NDArray[Any]) -> Array:
    """Return the ideal rays (N, 2) of distorted ``points`` (N, 2) by Newton's method; NaN where it does not converge.

    Only rays nearer than `fold_radius` count: beyond it the model is no lens, and a point has two rays.
    """
    wanted, distortion = np.asarray(points, np.float64), np.asarray(distortion, np.float64)
    rays = wanted.copy()
    if not distortion.any():
        return rays
    with np.errstate(all="ignore"):
        for _ in range(STEPS):
            there, derivatives = _distort(rays, distortion)
            miss = there - wanted
            if not (np.abs(miss) > SETTLED).any():
                break
            xx, xy, yy = derivatives.T
            share = 1 / (xx * yy - xy * xy)
            rays[:, 0] -= share * (yy * miss[:, 0] - xy * miss[:, 1])
            rays[:, 1] -= share * (xx * miss[:, 1] - xy * miss[:, 0])
        there, _ = _distort(rays, distortion)
        good = (np.abs(there - wanted) <= 10 * SETTLED).all(1) & ((rays**2).sum(1) < fold_radius(distortion) ** 2)
    rays[~good] = np.nan
    return rays


def fold_radius(distortion: NDArray[Any]) -> float:
    """Return the distance from the axis, in focal lengths, up to which the radial distortion rises; inf if always."""
    k1, k2, _, _, k3 = (float(v) if abs(v) > 1e-12 else 0.0 for v in distortion)
    roots = np.roots([7 * k3, 5 * k2, 3 * k1, 1.0])
    squares = [root.real for root in roots if abs(root.imag) < 1e-9 * max(1.0, abs(root)) and root.real > 0]
    return float(np.sqrt(min(squares))) if squares else float("inf")


def pixels_to_rays(camera: CameraModel, xy: NDArray[Any]) -> Array:
    """Return the ideal rays (N, 2), x/z and y/z, of pixels ``xy`` (N, 2) of a calibrated camera."""
    k = camera.camera_matrix
    y = (xy[:, 1] - k[1, 2]) / k[1, 1]
    x = (xy[:, 0] - k[0, 2] - k[0, 1] * y) / k[0, 0]
    return undistort(np.stack([x, y], 1), camera.distortion)


def project(camera: CameraModel, points_m: NDArray[Any]) -> Array:
    """Return the pixels (N, 2) of ``points_m`` (N, 3) in the camera's own axes; NaN for what it cannot see."""
    z = np.where(points_m[:, 2] > 0, points_m[:, 2], np.nan)
    rays = distort(points_m[:, :2] / z[:, None], camera.distortion)
    return np.asarray(rays @ camera.camera_matrix[:2, :2].T + camera.camera_matrix[:2, 2])


def plane_homography(
    rgb_matrix: NDArray[Any],
    ir_matrix: NDArray[Any],
    rotation: NDArray[Any],
    translation_m: NDArray[Any],
    distance_m: float,
) -> Array:
    """Return the (3, 3) homography from ideal rgb pixels to ideal ir pixels by the plane z = ``distance_m``.

    On the plane n'X = d with n = (0, 0, 1), 1 = n'X/d, so X_ir = R X + t = (R + t n'/d) X, and X ~ K_rgb^-1 x_rgb:
    x_ir ~ K_ir (R + t n'/d) K_rgb^-1 x_rgb (Hartley and Zisserman, "Multiple view geometry", 13.1, with our signs).
    """
    plane = rotation + np.outer(translation_m, (0.0, 0.0, 1.0)) / distance_m
    return np.asarray(ir_matrix @ plane @ np.linalg.inv(rgb_matrix), np.float64)


def apply_homography(homography: NDArray[Any], xy: NDArray[Any], inside_xy: tuple[float, float]) -> Array:
    """Return where a (3, 3) homography puts ``xy`` (N, 2); NaN on the side of its horizon ``inside_xy`` is not on."""
    sign = np.sign(homography[2] @ np.array([*inside_xy, 1.0]))
    out = xy @ homography[:, :2].T + homography[:, 2]
    w = np.where(out[:, 2] * sign > 0, out[:, 2], np.nan)
    return np.asarray(out[:, :2] / w[:, None])


def rgb_pixels_to_ir(rig: Rig, xy: NDArray[Any], distance_m: float | None = None) -> Array:
    """Return the ir pixels (N, 2) that show what rgb pixels ``xy`` (N, 2) show, lenses and all.

    What is seen lies on the plane ``distance_m`` before the rgb camera (the rig's own if None). Of a rig known from
    matched points only, it is the homography. Pixels that the ir camera cannot see may be NaN.
    """
    if distance_m is not None and distance_m != rig.distance_m:
        rig = rig.at(distance_m)
    xy = np.asarray(xy, np.float64)
    homography, rotation, translation_m = rig.homography_rgb_to_ir, rig.rotation_rgb_to_ir, rig.translation_rgb_to_ir_m
    if rotation is None or translation_m is None or rig.distance_m is None:
        assert homography is not None
        return apply_homography(homography, xy, ((rig.rgb.width - 1) / 2, (rig.rgb.height - 1) / 2))
    rays = pixels_to_rays(rig.rgb, xy)
    points_m = rig.distance_m * np.concatenate([rays, np.ones((len(rays), 1))], 1)
    return project(rig.ir, points_m @ rotation.T + translation_m)


def resized_pixels(size: tuple[int, int], to: tuple[int, int]) -> Array:
    """Return the (3, 3) map from pixels of a picture of ``size`` (height, width) to those of it resized to ``to``.

    Pixel centres are whole numbers, so the pictures' corners, not their first centres, lie on each other.
    """
    sy, sx = to[0] / size[0], to[1] / size[1]
    return np.array([[sx, 0, (sx - 1) / 2], [0, sy, (sy - 1) / 2], [0, 0, 1.0]])


def spread(xy: Array) -> float:
    """Return how far points are from letting a homography slip: 0 where all, or all but one, lie on a line.

    Of the equations that pin a homography to the identity on these points, it is the second smallest singular value
    over the largest (Hartley and Zisserman, "Multiple view geometry", 4.1).
    """
    away = xy - xy.mean(0)
    x, y = (away / max(float(np.sqrt((away**2).sum(1).mean() / 2)), 1e-9)).T
    one, nil = np.ones_like(x), np.zeros_like(x)
    across = np.stack([x, y, one, nil, nil, nil, -x * x, -x * y, -x], 1)
    down = np.stack([nil, nil, nil, x, y, one, -x * y, -y * y, -y], 1)
    values = np.linalg.svd(np.concatenate([across, down]), compute_uv=False)
    return float(values[7] / values[0])


def read_as(told: object, kind: type[_T], where: str) -> _T:
    """Return decoded YAML as a struct; raises `EdgemtlError` that says ``where`` and which field."""
    try:  # not strict: YAML 1.1 reads 1e-05, which other writers write, as text
        return msgspec.convert(told, kind, strict=False)
    except (msgspec.ValidationError, RecursionError, OverflowError) as error:
        raise EdgemtlError(f"{where}: {reason(error)}") from None


def numbers(values: NDArray[np.float64] | None) -> dict[str, Any]:
    """Return a matrix as ROS writes it in YAML."""
    assert values is not None
    return {"rows": len(values), "cols": values.shape[1], "data": values.ravel().tolist()}


def settle(owner: object, key: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Put a field's numbers in place as float64 that nobody changes."""
    values = np.array(getattr(owner, key), np.float64)
    if values.shape != shape or not np.isfinite(values).all():
        raise EdgemtlError(f"{key} is {values.shape} or not finite; give {shape} finite numbers")
    values.setflags(write=False)
    object.__setattr__(owner, key, values)
    return values
