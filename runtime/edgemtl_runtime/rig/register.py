"""Registration: warps the thermal image onto the colour image, with lens and letterbox in one look-up table."""

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
from ..letterbox import Letterbox, to_uint8, with_channels
from .calibration_board import opencv
from .matrices import Size
from .model import Rig
from .projection import rgb_pixels_to_ir

ALIASING = 1.5
"""Downscaling, in ir pixels per output pixel along a side, beyond which the ir image is averaged first."""
LOW_COVERAGE = 0.5
TILE_PX = 32
"""Side of the tiles of `preview`."""
CAPTIONS = ("rgb and registered ir in tiles: contours go on across them", "edges of rgb (green) on ir: on its contours")
OUTSIDE = -8.0
"""Map coordinate of output pixels outside of the ir camera's view."""


@dataclass(frozen=True, eq=False)
class Lookup:
    """Look-up table of `cv2.remap`: ``xy`` (H, W, 2) int16 with ``fraction`` (H, W) uint16, in 1/32 of a pixel.

    They are fixed-point maps into the ir image, which is first resized to ``source_size`` (height, width).
    ``valid_mask`` (H, W) is where the ir camera sees the output pixel.
    """

    ir_size: Size
    source_size: Size
    xy: NDArray[np.int16]
    fraction: NDArray[np.uint16]
    valid_mask: NDArray[np.bool_]

    @classmethod
    def plan(cls, ir_xy: NDArray[np.float64], ir_size: Size) -> Lookup:
        """Return the table for the ir pixel of every output pixel, ``ir_xy`` (H, W, 2), NaN where there is none."""
        height, width = ir_size
        limit = np.array([width, height], np.float64)
        valid_mask: NDArray[np.bool_] = np.all((ir_xy >= -0.5) & (ir_xy < limit - 0.5), axis=2)
        shrink = max(1.0, downscaling(ir_xy, valid_mask))
        source_size = (height, width)
        if shrink > ALIASING:
            source_size = max(1, round(height / shrink)), max(1, round(width / shrink))
        scaled = (ir_xy + 0.5) * (source_size[1] / width, source_size[0] / height) - 0.5
        # the half pixel outside of the outermost centres takes their value, not a mix with the blank
        inside = np.clip(scaled, 0, (source_size[1] - 1, source_size[0] - 1))
        xy = np.where(valid_mask[:, :, None], inside, OUTSIDE).astype(np.float32)
        return cls(ir_size, source_size, *_fixed_point(xy), valid_mask)

    def apply(self, image: NDArray[Any], blank: int = 0) -> NDArray[Any]:
        """Return ``image`` (H, W[, C]) uint8 or uint16 warped, ``blank`` outside of the ir camera's view."""
        if image.shape[:2] != self.ir_size:
            raise ValueError(f"planned for {self.ir_size}, got {image.shape[:2]}")
        cv2 = opencv()
        image = np.ascontiguousarray(image)
        if self.source_size != self.ir_size:
            image = cv2.resize(image, self.source_size[::-1], interpolation=cv2.INTER_AREA)
        out: NDArray[Any] = cv2.remap(
            image, self.xy, self.fraction, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(blank,) * 4
        )
        return out


class Registration:
    """Warps ir frames into the pixels of the rgb camera; planned once for a rig and the sizes of the frames.

    ``fit`` is the letterbox of the rgb frames for the network: `image` then returns the network's ir input, aligned
    pixel by pixel with its rgb input. Without it the network's input has the rgb camera's size.
    """

    def __init__(
        self, rig: Rig, rgb_size: Size, ir_size: Size, fit: Letterbox | None = None, distance_m: float | None = None
    ) -> None:
        self.fit = fit or Letterbox.plan(rgb_size, rgb_size)
        if (self.fit.camera_height, self.fit.camera_width) != rgb_size:
            raise ValueError(f"the letterbox is of {self.fit.camera_height}x{self.fit.camera_width}, not {rgb_size}")
        self.rig = (rig if distance_m is None else rig.at(distance_m)).resized(rgb_size, ir_size)
        inner = self.fit.scaled_height, self.fit.scaled_width
        ir_xy = np.full((self.fit.height, self.fit.width, 2), np.nan)
        ir_xy[: inner[0], : inner[1]] = ir_pixels(self.rig, inner)
        self.lookup = Lookup.plan(ir_xy, ir_size)
        self.coverage = float(self.lookup.valid_mask[: inner[0], : inner[1]].mean())

    @property
    def valid_mask(self) -> NDArray[np.bool_]:
        """Pixels of `image` in the ir camera's view, (height, width)."""
        return self.lookup.valid_mask

    def image(self, ir_image: NDArray[Any], channels: int | None = None, blank: int = 0) -> NDArray[np.uint8]:
        """Return an ir image (H, W[, 3]) uint8 as the network's input (height, width, channels) uint8.

        ``channels`` are the image's if None; ``blank`` fills what is outside of the ir camera's view.
        """
        if ir_image.dtype != np.uint8:
            raise ValueError(f"convert the image to 8 bits first, it is {ir_image.dtype}")
        num_channels = channels or (1 if ir_image.ndim == 2 else ir_image.shape[2])
        out = self.lookup.apply(with_channels(ir_image, num_channels), blank)
        return np.asarray(out, np.uint8).reshape(self.fit.height, self.fit.width, num_channels)

    def registered(self, ir_image: NDArray[Any], blank: int = 0) -> NDArray[Any]:
        """Return an ir image (H, W[, 3]), uint8 or uint16, in the pixels of the rgb camera."""
        return self._display.apply(ir_image, blank)

    @cached_property
    def _display(self) -> Lookup:
        return Lookup.plan(ir_pixels(self.rig, self.rig.rgb.size), self.rig.ir.size)

    def warning(self) -> str | None:
        """Return a warning where the ir camera sees less than half of the rgb image, None otherwise."""
        if self.coverage >= LOW_COVERAGE:
            return None
        rig = self.rig
        return (
            f"{flag(rig.ir.name)} sees {100 * self.coverage:.0f} % of what {flag(rig.rgb.name)} sees; "
            "check the rig file, or turn the cameras to the same scene and calibrate again"
        )


def ir_pixels(rig: Rig, size: Size) -> NDArray[np.float64]:
    """Return the ir pixel of every pixel of the rgb image resized to ``size``: (height, width, 2), NaN for none."""
    (height, width), camera = size, rig.rgb
    x = (np.arange(width) + 0.5) * camera.width / width - 0.5
    y = (np.arange(height) + 0.5) * camera.height / height - 0.5
    xy = np.stack(np.meshgrid(x, y), 2).reshape(-1, 2)
    return rgb_pixels_to_ir(rig, xy).reshape(height, width, 2)


def downscaling(ir_xy: NDArray[np.float64], valid_mask: NDArray[np.bool_]) -> float:
    """Return the median number of ir pixels per output pixel along a side, 0 where no pixel is valid."""
    right, down = ir_xy[:-1, 1:] - ir_xy[:-1, :-1], ir_xy[1:, :-1] - ir_xy[:-1, :-1]
    areas = np.abs(right[:, :, 0] * down[:, :, 1] - right[:, :, 1] * down[:, :, 0])
    areas = areas[valid_mask[:-1, :-1] & np.isfinite(areas)]
    return float(np.sqrt(np.median(areas))) if areas.size else 0.0


def preview(rig: Rig, rgb: NDArray[Any], ir: NDArray[Any], file: Path | None = None) -> NDArray[np.uint8]:
    """Return an image to check a rig by, (H, 2 W, 3) uint8 RGB, and write it as a new PNG file where one is given.

    Left, a checkerboard of tiles of the rgb image and the registered ir image: contours should continue across tiles.
    Right, the edges of the rgb image in green on the registered ir image: they should lie on its contours. Nearer or
    farther than the rig's distance they do not: for a board held near, use ``rig.at(its distance)``.
    """
    cv2 = opencv()
    registration = Registration(rig, rgb.shape[:2], ir.shape[:2])
    thermal = to_uint8(ir, ThermalRange())
    thermal = np.repeat((thermal if thermal.ndim == 3 else thermal[:, :, None])[:, :, :1], 3, 2)
    thermal, colour = registration.registered(thermal), with_channels(rgb, 3)
    rows, columns = (np.arange(side) // TILE_PX for side in colour.shape[:2])
    tiles = np.where(((rows[:, None] + columns) % 2)[:, :, None] == 1, thermal, colour)
    edges = cv2.Canny(cv2.GaussianBlur(colour, (0, 0), 1.0), 40, 100)
    overlay = np.where(edges[:, :, None] > 0, np.array([60, 255, 60], np.uint8), thermal)
    both: NDArray[np.uint8] = np.ascontiguousarray(np.concatenate([tiles, overlay], 1))
    if file is not None:
        with AtomicFile(file) as output:
            output.write(as_png(both))
    return both


def captioned(shown: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image of `preview` with what to look for below each half, enlarged to 400 pixels a half or more."""
    from ..draw.footers import footer
    from ..draw.layout import MIN_WIDTH

    factor = max(1, -(-2 * MIN_WIDTH // shown.shape[1]))
    shown = np.repeat(np.repeat(shown, factor, 0), factor, 1)
    width = shown.shape[1] // 2
    captions = [footer(text, None, width, max(0.4, 0.0006 * width), 1) for text in CAPTIONS]
    return np.concatenate([shown, np.concatenate(captions, 1)])


def as_png(image: NDArray[np.uint8]) -> bytes:
    """Return an RGB image as a PNG file."""
    _, data = opencv().imencode(".png", image[:, :, ::-1])
    return bytes(data.tobytes())


def _fixed_point(xy: NDArray[np.float32]) -> tuple[NDArray[np.int16], NDArray[np.uint16]]:
    cv2 = opencv()
    whole, fraction = cv2.convertMaps(xy, None, cv2.CV_16SC2)
    return np.asarray(whole), np.asarray(fraction)
