"""Every camera's frames to pictures of the network, and results back to the pixels they are told in."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .bundle import Input
from .errors import EdgemtlError
from .frame import Frame, FramePair
from .letterbox import Fit, to_uint8

if TYPE_CHECKING:
    from .frame import Size
    from .rig import Rig
    from .rig.register import Registration


class Fitting:
    """Plans a letterbox for each camera and size of picture; with a rig the thermal camera's is registered as well.

    With a rig all results are in the pixels of its reference camera, also while that one is silent; without, they are
    in those of the first camera that has a frame. Each camera's thread fits its own frames; plans are looked up by any.
    """

    def __init__(self, inputs: Sequence[Input], rig: Rig | None = None) -> None:
        self.specs = {spec.name: spec for spec in inputs}
        self.rig = rig
        self.fits: dict[tuple[str, Size], Fit] = {}
        self.registrations: dict[Size, Registration] = {}
        self.reference_size: Size | None = None
        self._rehearse()

    def _rehearse(self) -> None:
        """Fit a picture of each input once: what is imported for it would make the first frames of cameras late.

        What fails here, without OpenCV for one, may turn out not to be needed; the first frame tells.
        """
        for name, spec in self.specs.items():
            size = 2 * spec.height, 2 * spec.width
            with contextlib.suppress(EdgemtlError):
                fit = Fit.plan(size, (spec.height, spec.width))
                fit.image(np.zeros((*size, spec.channels), np.uint8), spec.channels, spec.blank)
                if self.rig is not None and self.is_registered(name):
                    from .rig import misalignment  # noqa: F401

                    self._registration(self.rig.ir.size, spec)

    def image(self, frame: Frame) -> NDArray[np.uint8]:
        """Return a frame as the network takes it; raises `CameraError` where its size is not the rig's."""
        spec = self.specs[frame.camera]
        image = to_uint8(frame.image, spec.thermal_range)
        if self.is_registered(frame.camera):
            return self._registration(frame.size, spec).image(image, spec.channels, spec.blank)
        if self.rig is not None and frame.camera == self.rig.reference and frame.size != self.reference_size:
            self.rig.resized(frame.size, self.rig.ir.size)
            self.reference_size = frame.size
        return self._fit(frame.camera, frame.size).image(image, spec.channels, spec.blank)

    def fitted(self, frame: Frame) -> Frame:
        """Return a frame with its picture as the network takes it; called in the camera's thread."""
        return replace(frame, network=self.image(frame), registered=self.is_registered(frame.camera))

    def is_registered(self, camera: str) -> bool:
        """Whether a camera's pictures are brought into those of the rig's reference."""
        return self.rig is not None and camera == self.rig.ir.name

    def told_in(self, pair: FramePair) -> tuple[str, Fit]:
        """Return the camera in whose pixels a pair's results are, and the fit that leads there."""
        if self.rig is not None:
            name = self.rig.reference
            size = pair.frames[name].size if name in pair.frames else self.reference_size or self.rig.rgb.size
            return name, self._fit(name, size)
        name, frame = next(iter(pair.frames.items()))
        return name, self._fit(name, frame.size)

    def registration(self, frame: Frame) -> Registration | None:
        """Return what a frame was registered by, None where it was not."""
        return self.registrations.get(frame.size) if frame.registered else None

    def _fit(self, camera: str, size: Size) -> Fit:
        if (camera, size) not in self.fits:
            spec = self.specs[camera]
            self.fits[camera, size] = Fit.plan(size, (spec.height, spec.width))
        return self.fits[camera, size]

    def _registration(self, size: Size, spec: Input) -> Registration:
        if size not in self.registrations:
            from .rig.register import Registration

            assert self.rig is not None
            rgb_size = self.rig.rgb.size
            fit = Fit.plan(rgb_size, (spec.height, spec.width))
            self.registrations[size] = Registration(self.rig, rgb_size, size, fit)
        return self.registrations[size]
