"""Lens distortion: the `plumb_bob` model (k1, k2, p1, p2, k3) of Brown (1966), as in OpenCV and ROS, and its inverse.

Everything is float64; a point without a solution is NaN. The inverse is by Newton's method: OpenCV's fixed-point
iteration stops up to 1e-7 px away, does not converge for strong lenses, and reports neither.

(Brown, "Decentering distortion of lenses", 1966.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .matrices import Array

STEPS = 20
CONVERGED = 1e-10
"""Undistortion has converged when it distorts back to within this much, in units of the focal length."""


def distort(rays: NDArray[Any], distortion: NDArray[Any]) -> Array:
    """Return the distorted points (N, 2) of ideal ``rays`` (N, 2), x/z and y/z; NaN beyond `fold_radius`."""
    rays = np.asarray(rays, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # far outside of any lens
        out, _ = _distort(rays, np.asarray(distortion, np.float64))
        out[(rays**2).sum(1) >= fold_radius(distortion) ** 2] = np.nan
    return out


def _distort(rays: Array, distortion: Array) -> tuple[Array, Array]:
    """Return distorted rays (N, 2) and their Jacobians (N, 3): dx/dx, dx/dy = dy/dx, dy/dy."""
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

    Only rays nearer than `fold_radius` are solutions: beyond it the model is not injective, and a point has two rays.
    """
    points, distortion = np.asarray(points, np.float64), np.asarray(distortion, np.float64)
    rays = points.copy()
    if not distortion.any():
        return rays
    with np.errstate(all="ignore"):
        for _ in range(STEPS):
            distorted, jacobian = _distort(rays, distortion)
            residual = distorted - points
            if not (np.abs(residual) > CONVERGED).any():
                break
            xx, xy, yy = jacobian.T
            inverse = 1 / (xx * yy - xy * xy)
            rays[:, 0] -= inverse * (yy * residual[:, 0] - xy * residual[:, 1])
            rays[:, 1] -= inverse * (xx * residual[:, 1] - xy * residual[:, 0])
        distorted, _ = _distort(rays, distortion)
        converged = (np.abs(distorted - points) <= 10 * CONVERGED).all(1) & (
            (rays**2).sum(1) < fold_radius(distortion) ** 2
        )
    rays[~converged] = np.nan
    return rays


def fold_radius(distortion: NDArray[Any]) -> float:
    """Return the distance from the axis, in focal lengths, up to which the radial distortion rises; inf if always."""
    k1, k2, _, _, k3 = (float(v) if abs(v) > 1e-12 else 0.0 for v in distortion)
    roots = np.roots([7 * k3, 5 * k2, 3 * k1, 1.0])
    squares = [root.real for root in roots if abs(root.imag) < 1e-9 * max(1.0, abs(root)) and root.real > 0]
    return float(np.sqrt(min(squares))) if squares else float("inf")
