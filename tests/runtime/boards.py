"""Rigs of known truth, and what their cameras see of a board: rendered by rays, lens and all."""

from __future__ import annotations

from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgemtl_runtime.rig import CameraModel, Rig
from edgemtl_runtime.rig.calibration_board import Board, charuco
from edgemtl_runtime.rig.projection import rgb_pixels_to_ir

Array = NDArray[Any]
LENS_RGB = np.array([-0.21, 0.06, 0.001, -0.0008, 0.0])
LENS_IR = np.array([-0.32, 0.11, -0.0012, 0.0009, 0.0])


def matrix(fx: float, cx: float, cy: float) -> Array:
    return np.array([[fx, 0, cx], [0, fx * 1.01, cy], [0, 0, 1.0]])


def true_rig(ir_size: tuple[int, int] = (240, 320), distance_m: float = 3.0) -> Rig:
    """An rgb camera of 640x480 and an ir camera with a narrower view 6 cm beside it, turned a little."""
    height, width = ir_size
    rgb = CameraModel("rgb", 640, 480, matrix(520, 315.3, 244.1), LENS_RGB)
    ir = CameraModel("ir", width, height, matrix(1.0 * width, width / 2 + 2.3, height / 2 - 3.1), LENS_IR)
    turn = cv2.Rodrigues(np.array([0.012, -0.02, 0.015]))[0]
    return Rig({"rgb": rgb, "ir": ir}, turn, np.array([-0.06, 0.008, 0.004]), distance_m)


def true_rays(camera: CameraModel, xy: Array) -> Array:
    """Undistort by OpenCV; its own 5 steps are not enough at the corners."""
    until = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 100, 1e-12)
    points = xy.reshape(-1, 1, 2).astype(np.float64)
    known = camera.camera_matrix, camera.distortion
    if hasattr(cv2, "undistortPointsIter"):  # before 5
        return cv2.undistortPointsIter(points, *known, np.eye(3), np.eye(3), until).reshape(-1, 2)
    return cv2.undistortPoints(points, *known, criteria=until).reshape(-1, 2)


def true_ir_pixels(rig: Rig, xy: Array, distance_m: float) -> Array:
    """The same as `rgb_pixels_to_ir`, by OpenCV alone."""
    rays = true_rays(rig.rgb, xy)
    points = np.hstack([rays, np.ones((len(rays), 1))]) * distance_m
    points = points @ rig.rotation_rgb_to_ir.T + rig.translation_rgb_to_ir_m
    return cv2.projectPoints(points, np.zeros(3), np.zeros(3), rig.ir.camera_matrix, rig.ir.distortion)[0].reshape(
        -1, 2
    )


def grid(rig: Rig, step: int = 16) -> Array:
    x, y = np.meshgrid(np.arange(0.0, rig.rgb.width, step), np.arange(0.0, rig.rgb.height, step))
    return np.stack([x, y], 2).reshape(-1, 2)


def registration_error_px(estimated: Rig, truth: Rig, distance_m: float) -> float:
    """Mean distance, in rgb pixels, over what the ir camera sees."""
    xy = grid(truth)
    want, got = true_ir_pixels(truth, xy, distance_m), rgb_pixels_to_ir(estimated, xy)
    inside = ((want >= 0) & (want <= (truth.ir.width - 1, truth.ir.height - 1))).all(1)
    ratio = truth.rgb.camera_matrix[0, 0] / truth.ir.camera_matrix[0, 0]
    assert inside.mean() > 0.3
    return float(ratio * np.linalg.norm(got - want, axis=1)[inside].mean())


class Eye:
    """Renders what one camera sees of a board by its rays, with OpenCV's lens, blur and noise."""

    def __init__(self, camera: CameraModel, fine: int) -> None:
        self.fine = fine
        x, y = ((np.arange(side * fine) + 0.5) / fine - 0.5 for side in (camera.width, camera.height))
        xy = np.stack(np.meshgrid(x, y), 2)
        self.rays = np.dstack([true_rays(camera, xy).reshape(xy.shape), np.ones(xy.shape[:2])])

    def look(self, board: Board, turn: Array, move: Array, rng: np.random.Generator, heat: bool = False) -> Array:
        """Return the picture (H, W, 3) uint8, or a 16-bit one in which black is hot."""

        def shade(rays: Array) -> Array:
            depth = (turn[:, 2] @ move) / (rays @ turn[:, 2])
            return pattern(board, (rays * depth[..., None] - move) @ turn[:, :2] / board.spacing_m)

        step = self.fine
        shown = shade(self.rays[step // 2 :: step, step // 2 :: step])
        rows, columns = (np.flatnonzero((shown != GROUND).any(axis)) for axis in (1, 0))
        (y0, y1), (x0, x1) = ((max(int(v[0]) - 2, 0), int(v[-1]) + 3) for v in (rows, columns))
        near = shade(self.rays[y0 * step : y1 * step, x0 * step : x1 * step])  # only there it is worth being fine
        box = shown[y0:y1, x0:x1]
        box[:] = cv2.resize(near, box.shape[::-1], interpolation=cv2.INTER_AREA)
        shown = cv2.GaussianBlur(shown, (0, 0), 0.6) + rng.normal(0, 0.01, shown.shape)
        if heat:
            return (30_000 + 900 * (1 - shown)).clip(0, 65_535).astype(np.uint16)
        grey = (35 + 180 * shown).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, 2)


GROUND = 0.5


@cache
def eyes(ir_size: tuple[int, int]) -> tuple[Eye, Eye]:
    rig = true_rig(ir_size)
    return rgb_eye(), Eye(rig.ir, 3)


@cache
def rgb_eye() -> Eye:
    return Eye(true_rig().rgb, 2)


def pattern(board: Board, at: Array) -> Array:
    """Return the board's brightness at places ``at`` (..., 2), counted in spacings; 0.5 beyond it."""
    x, y = at[..., 0], at[..., 1]
    if board.pattern == "charuco":
        return charuco_pattern(board, x + 1, y + 1)
    wide, tall = board.points_m.max(0)[:2] / board.spacing_m
    if board.pattern == "checkerboard":
        edge, dark = 1.0, (np.floor(x) + np.floor(y)) % 2 == 0
    elif board.pattern == "circles":
        edge, dark = 1.0, (x - np.round(x)) ** 2 + (y - np.round(y)) ** 2 < 0.09
    else:
        row = np.round(y)
        column = 2 * np.round((x - row % 2) / 2) + row % 2
        edge, dark = 1.0, (x - column) ** 2 + (y - row) ** 2 < 0.2
        dark &= (row >= 0) & (row < board.rows) & (column >= 0) & (column < 2 * board.columns)
    if board.pattern != "acircles":
        side = 1.0 if board.pattern == "checkerboard" else 0.5
        dark &= (x > -side) & (x < wide + side) & (y > -side) & (y < tall + side)
    margin = (x > -edge - 0.7) & (x < wide + edge + 0.7) & (y > -edge - 0.7) & (y < tall + edge + 0.7)
    return np.where(dark, 0.0, np.where(margin, 1.0, GROUND)).astype(np.float32)


CELL = 64
"""Pixels a square of the drawn ChArUco board."""


@cache
def charuco_texture(board: Board, legacy: bool = False) -> Array:
    texture = charuco(board, legacy).generateImage((board.columns * CELL, board.rows * CELL), marginSize=0)
    return np.asarray(texture, np.float32) / 255


def charuco_pattern(board: Board, x: Array, y: Array) -> Array:
    """The same for places counted from the board's own corner, in squares."""
    column, row = np.floor(x * CELL), np.floor(y * CELL)
    inside = (x >= 0) & (x < board.columns) & (y >= 0) & (y < board.rows)
    margin = (x > -0.5) & (x < board.columns + 0.5) & (y > -0.5) & (y < board.rows + 0.5)
    texture = charuco_texture(board)
    rows, columns = (np.where(inside, v, 0).astype(int) for v in (row, column))
    return np.where(inside, texture[rows, columns], np.where(margin, 1.0, GROUND)).astype(np.float32)


def views(
    rig: Rig,
    board: Board,
    count: int,
    seed: int = 3,
    heat: bool = True,
    upside: bool = False,
    tilt: float = 0.55,
    spread: float = 1.0,
    near: float = 1.0,
) -> list[Any]:
    """Render a board in ``count`` places before both cameras; ``spread`` and ``near`` say how far out and how close."""
    rng = np.random.default_rng(seed)
    rgb_eye, ir_eye = eyes(rig.ir.size)
    middle = board.points_m.astype(np.float64).max(0) / 2
    out = []
    for index in range(count):
        spin = rng.uniform(-0.25, 0.25) + (np.pi if upside and index % 3 == 0 else 0)
        turn = (
            cv2.Rodrigues(np.array([*rng.uniform(-tilt, tilt, 2), 0.0]))[0] @ cv2.Rodrigues(np.array([0, 0, spin]))[0]
        )
        away = rng.uniform(3.0, 4.5) / near * float(np.hypot(*middle[:2]))
        position = np.array([*rng.uniform((-0.27, -0.2), (0.3, 0.2)) * spread * away, away])
        move = position - turn @ middle
        ir_turn = rig.rotation_rgb_to_ir @ turn
        ir_move = rig.rotation_rgb_to_ir @ move + rig.translation_rgb_to_ir_m
        out.append((rgb_eye.look(board, turn, move, rng), ir_eye.look(board, ir_turn, ir_move, rng, heat)))
    return out
