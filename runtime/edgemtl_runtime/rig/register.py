"""The thermal picture in the place of the colour picture: lens, registration and letterbox in one look-up."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..atomic import AtomicFile
from ..bundle import ThermalRange
from ..errors import flag
from ..letterbox import Fit, to_uint8, with_channels
from . import Rig, Size
from .calibration_board import opencv
from .geometry import rgb_pixels_to_ir

ALIASING = 1.5
"""More ir pixels than this to an output pixel, along a side, are averaged first."""
LOW_COVERAGE = 0.5
TILE_PX = 32
"""The side of the tiles of `picture`."""
OUTSIDE = -8.0
"""Where the map points for what the ir camera does not see."""


@dataclass(frozen=True, eq=False)
class Lookup:
    """Where each output pixel is looked up: ``xy`` (H, W, 2) int16 with ``part`` (H, W) uint16, in 1/32 of a pixel.

    They are fixed-point maps of OpenCV into the ir picture, which is first resized to ``source`` (height, width).
    ``seen`` (H, W) says which output pixels the ir camera sees.
    """

    ir_size: Size
    source: Size
    xy: NDArray[np.int16]
    part: NDArray[np.uint16]
    seen: NDArray[np.bool_]

    @classmethod
    def plan(cls, ir_xy: NDArray[np.float64], ir_size: Size) -> Lookup:
        """Plan from the ir pixel of every output pixel, ``ir_xy`` (H, W, 2), NaN where there is none."""
        height, width = ir_size
        limit = np.array([width, height], np.float64)
        seen: NDArray[np.bool_] = np.all((ir_xy >= -0.5) & (ir_xy < limit - 0.5), axis=2)
        shrink = max(1.0, ir_pixels_per_pixel(ir_xy, seen))
        source = (height, width)
        if shrink > ALIASING:
            source = max(1, round(height / shrink)), max(1, round(width / shrink))
        scaled = (ir_xy + 0.5) * (source[1] / width, source[0] / height) - 0.5
        # the half pixel around the outermost centres is theirs, not mixed with the blank beyond
        inside = np.clip(scaled, 0, (source[1] - 1, source[0] - 1))
        return cls(ir_size, source, *_fixed(np.where(seen[:, :, None], inside, OUTSIDE).astype(np.float32)), seen)

    def apply(self, image: NDArray[Any], blank: int = 0) -> NDArray[Any]:
        """Return ``image`` (H, W[, C]) uint8 or uint16 looked up, ``blank`` where the ir camera does not see."""
        if image.shape[:2] != self.ir_size:
            raise ValueError(f"planned for {self.ir_size}, got {image.shape[:2]}")
        cv2 = opencv()
        image = np.ascontiguousarray(image)
        if self.source != self.ir_size:
            image = cv2.resize(image, self.source[::-1], interpolation=cv2.INTER_AREA)
        out: NDArray[Any] = cv2.remap(
            image, self.xy, self.part, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(blank,) * 4
        )
        return out


class Registration:
    """Brings every ir frame into the rgb camera's picture; planned once for a rig and the sizes of the frames.

    ``fit`` is how the rgb frames are letterboxed for the network: `image` then gives the network's picture of the ir
    camera, aligned pixel by pixel with the rgb camera's. Without it the network's picture is the rgb camera's size.
    """

    def __init__(
        self, rig: Rig, rgb_size: Size, ir_size: Size, fit: Fit | None = None, distance_m: float | None = None
    ) -> None:
        self.fit = fit or Fit.plan(rgb_size, rgb_size)
        if (self.fit.camera_height, self.fit.camera_width) != rgb_size:
            raise ValueError(f"the letterbox is of {self.fit.camera_height}x{self.fit.camera_width}, not {rgb_size}")
        self.rig = (rig if distance_m is None else rig.at(distance_m)).resized(rgb_size, ir_size)
        inner = self.fit.scaled_height, self.fit.scaled_width
        ir_xy = np.full((self.fit.height, self.fit.width, 2), np.nan)
        ir_xy[: inner[0], : inner[1]] = ir_pixels(self.rig, inner)
        self.lookup = Lookup.plan(ir_xy, ir_size)
        self.coverage = float(self.lookup.seen[: inner[0], : inner[1]].mean())

    @property
    def seen(self) -> NDArray[np.bool_]:
        """Which pixels of `image` the ir camera sees, (height, width)."""
        return self.lookup.seen

    def image(self, ir_image: NDArray[Any], channels: int | None = None, blank: int = 0) -> NDArray[np.uint8]:
        """Return an ir frame's picture (H, W[, 3]) uint8 as the network's (height, width, channels) uint8.

        ``channels`` are the picture's own if None; ``blank`` fills what the ir camera does not see.
        """
        if ir_image.dtype != np.uint8:
            raise ValueError(f"bring the picture to 8 bits first, it is {ir_image.dtype}")
        wanted = channels or (1 if ir_image.ndim == 2 else ir_image.shape[2])
        out = self.lookup.apply(with_channels(ir_image, wanted), blank)
        return np.asarray(out, np.uint8).reshape(self.fit.height, self.fit.width, wanted)

    def registered(self, ir_image: NDArray[Any], blank: int = 0) -> NDArray[Any]:
        """Return an ir frame's picture (H, W[, 3]), uint8 or uint16, in the pixels of the rgb camera."""
        return self._display.apply(ir_image, blank)

    @cached_property
    def _display(self) -> Lookup:
        return Lookup.plan(ir_pixels(self.rig, self.rig.rgb.size), self.rig.ir.size)

    def warning(self) -> str | None:
        """Return a line where the ir camera sees less than half of the rgb picture, None otherwise."""
        if self.coverage >= LOW_COVERAGE:
            return None
        rig = self.rig
        return (
            f"{flag(rig.ir.name)} sees {100 * self.coverage:.0f} % of what {flag(rig.rgb.name)} sees; "
            "check the rig file, or turn the cameras to the same scene and calibrate again"
        )


def ir_pixels(rig: Rig, size: Size) -> NDArray[np.float64]:
    """Return the ir pixel of every pixel of the rgb picture resized to ``size``: (height, width, 2), NaN for none."""
    (height, width), camera = size, rig.rgb
    x = (np.arange(width) + 0.5) * camera.width / width - 0.5
    y = (np.arange(height) + 0.5) * camera.height / height - 0.5
    xy = np.stack(np.meshgrid(x, y), 2).reshape(-1, 2)
    return rgb_pixels_to_ir(rig, xy).reshape(height, width, 2)


def ir_pixels_per_pixel(ir_xy: NDArray[np.float64], seen: NDArray[np.bool_]) -> float:
    """Return how many ir pixels, along a side, go to an output pixel: the median over what is ``seen``, 0 if none."""
    right, down = ir_xy[:-1, 1:] - ir_xy[:-1, :-1], ir_xy[1:, :-1] - ir_xy[:-1, :-1]
    areas = np.abs(right[:, :, 0] * down[:, :, 1] - right[:, :, 1] * down[:, :, 0])
    areas = areas[seen[:-1, :-1] & np.isfinite(areas)]
    return float(np.sqrt(np.median(areas))) if areas.size else 0.0


def picture(rig: Rig, rgb: NDArray[Any], ir: NDArray[Any], file: Path | None = None) -> NDArray[np.uint8]:
    """Return a picture to judge a rig by, (H, 2 W, 3) uint8 RGB, and write it as a new PNG file where one is given.

    Left, tiles of the rgb picture and of the registered ir picture by turns: contours should run on from one to the
    next. Right, the rgb picture's edges in green on the registered ir picture: they should lie on its contours.
    Nearer or farther than the rig's distance they do not: of a board held near, look at ``rig.at(its distance)``.
    """
    cv2 = opencv()
    plan = Registration(rig, rgb.shape[:2], ir.shape[:2])
    warm = to_uint8(ir, ThermalRange())
    warm = np.repeat((warm if warm.ndim == 3 else warm[:, :, None])[:, :, :1], 3, 2)
    warm, colour = plan.registered(warm), with_channels(rgb, 3)
    rows, columns = (np.arange(side) // TILE_PX for side in colour.shape[:2])
    tiles = np.where(((rows[:, None] + columns) % 2)[:, :, None] == 1, warm, colour)
    edges = cv2.Canny(cv2.GaussianBlur(colour, (0, 0), 1.0), 40, 100)
    over = np.where(edges[:, :, None] > 0, np.array([60, 255, 60], np.uint8), warm)
    both: NDArray[np.uint8] = np.ascontiguousarray(np.concatenate([tiles, over], 1))
    if file is not None:
        with AtomicFile(file) as output:
            output.write(as_png(both))
    return both


def as_png(picture: NDArray[np.uint8]) -> bytes:
    """Return an RGB picture as a PNG file."""
    _, data = opencv().imencode(".png", picture[:, :, ::-1])
    return bytes(data.tobytes())


def _fixed(xy: NDArray[np.float32]) -> tuple[NDArray[np.int16], NDArray[np.uint16]]:
    cv2 = opencv()
    whole, part = cv2.convertMaps(xy, None, cv2.CV_16SC2)
    return np.asarray(whole), np.asarray(part)
