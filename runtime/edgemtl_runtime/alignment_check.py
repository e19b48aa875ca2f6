"""Check of a rig while it runs: whether registered images still lie on one another."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from .errors import flag
from .frame import Frame, FramePair, PreparedFrame, Size
from .preprocess import Preprocessor

if TYPE_CHECKING:
    from .rig.camera_model import CameraModel
    from .rig.misalignment import Misalignment


LENS_TOLERANCE = 0.02
"""Share of an image's width by which two calibrations of one camera may differ."""


class AlignmentCheck:
    """Measures the misalignment of the pairs that it is fed, and warns once of each thing that is wrong."""

    def __init__(self) -> None:
        self.misalignment: Misalignment | None = None
        self._preprocessor: Preprocessor | None = None
        self.size: Size | None = None
        self._warned: set[str] = set()

    @property
    def shift_px(self) -> float | None:
        """How far the images lie from one another, in the network's pixels; None where it is not known."""
        shift = self.misalignment and self.misalignment.shift_px
        return round(math.hypot(*shift), 2) if shift else None

    def feed(self, pair: FramePair, preprocessor: Preprocessor) -> list[str]:
        """Take a pair that was prepared, and return new warnings."""
        rig = preprocessor.rig
        if rig is None:
            return []
        rgb, ir = pair.frames.get(rig.rgb.name), pair.frames.get(rig.ir.name)
        if not isinstance(rgb, PreparedFrame) or not isinstance(ir, PreparedFrame):
            return []
        registration = preprocessor.registration(ir)
        if registration is None or not rgb.preprocessor is ir.preprocessor is preprocessor:
            return []
        warnings: dict[str, str | None] = {
            f"lens {frame.camera}": lens_warning(rig.cameras[frame.camera], frame) for frame in (rgb, ir)
        }
        if self.misalignment is None or self.size != ir.size or self._preprocessor is not preprocessor:
            from .rig.misalignment import Misalignment  # another size shows another field of view

            valid_mask, self.size, self._preprocessor = registration.valid_mask, ir.size, preprocessor
            self.misalignment = Misalignment(valid_mask.shape, valid_mask)
            warnings["coverage"] = registration.warning()
        self.misalignment.feed(rgb.network_input, ir.network_input)
        warnings["shift"] = self.misalignment.warning()
        new = {topic: text for topic, text in warnings.items() if text and topic not in self._warned}
        self._warned |= new.keys()
        return list(new.values())


def lens_warning(model: CameraModel, frame: Frame) -> str | None:
    """Return a warning where the calibration that a camera's source states is not the rig's, None otherwise."""
    lens = frame.lens
    if lens is None or not model.calibrated or not model.has_shape(lens.size):
        return None
    known, stated = model.resized(lens.size).camera_matrix, lens.camera_matrix
    if np.abs(known - stated).max() <= LENS_TOLERANCE * lens.width:
        return None
    return (
        f"{flag(frame.camera)}: the rig has a focal length of {known[0, 0]:.0f} px and its middle at "
        f"({known[0, 2]:.0f}, {known[1, 2]:.0f}), the camera's own camera_info {stated[0, 0]:.0f} px and "
        f"({stated[0, 2]:.0f}, {stated[1, 2]:.0f}); is the rig of this camera?"
    )
