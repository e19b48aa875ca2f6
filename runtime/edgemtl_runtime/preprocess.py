"""Preprocessing: frames of every camera to network inputs, by letterbox and registration, and the way back."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .bundle import Input
from .errors import CameraError, EdgemtlError, flag
from .frame import Frame, FramePair, PreparedFrame, fields_of
from .letterbox import Letterbox, to_uint8
from .pixels import PixelError, as_modality

if TYPE_CHECKING:
    from .frame import Size
    from .rig import Rig
    from .rig.register import Registration


class Preprocessor:
    """Plans a letterbox for each camera and image size; with a rig the thermal camera's image is registered as well.

    With a rig all results are in the pixels of its reference camera, also while that one is silent; without, they are
    in those of the first camera that has a frame. Each camera's thread prepares its frames; any thread may look up
    plans.
    """

    def __init__(self, inputs: Sequence[Input], rig: Rig | None = None) -> None:
        self.inputs = {spec.name: spec for spec in inputs}
        self.rig = rig
        self.letterboxes: dict[tuple[str, Size], Letterbox] = {}
        self.registrations: dict[Size, Registration] = {}
        self.reference_size: Size | None = None
        self._warm_up()

    def _warm_up(self) -> None:
        """Letterbox one image of each input: the imports would make the cameras' first frames late.

        What fails, without OpenCV for one, may turn out not to be needed; the first frame raises it again.
        """
        for name, spec in self.inputs.items():
            size = 2 * spec.height, 2 * spec.width
            with contextlib.suppress(EdgemtlError):
                letterbox = Letterbox.plan(size, (spec.height, spec.width))
                letterbox.image(np.zeros((*size, spec.channels), np.uint8), spec.channels, spec.blank)
                if self.rig is not None and self.is_registered(name):
                    from .rig import misalignment  # noqa: F401

                    self._registration(self.rig.ir.size, spec)

    def network_input(self, frame: Frame) -> NDArray[np.uint8]:
        """Return a frame's network input, (height, width, C); raises `CameraError`.

        That is where it is no image of the input's modality, or its size is not the rig's.
        """
        spec = self.inputs[frame.camera]
        try:
            image = to_uint8(as_modality(frame.image, spec.modality), spec.thermal_range)
        except PixelError as error:
            raise CameraError(f"{flag(frame.camera)}: frame {frame.name or frame.index} {error}") from None
        if self.is_registered(frame.camera):
            return self._registration(frame.size, spec).image(image, spec.channels, spec.blank)
        if self.rig is not None and frame.camera == self.rig.reference and frame.size != self.reference_size:
            self.rig.resized(frame.size, self.rig.ir.size)
            self.reference_size = frame.size
        return self._letterbox(frame.camera, frame.size).image(image, spec.channels, spec.blank)

    def prepare(self, frame: Frame) -> PreparedFrame:
        """Return a frame with its network input; called in the camera's thread."""
        return PreparedFrame(
            **fields_of(frame),
            network_input=self.network_input(frame),
            registered=self.is_registered(frame.camera),
            preprocessor=self,
        )

    def is_registered(self, camera: str) -> bool:
        """Whether a camera's images are registered to those of the rig's reference."""
        return self.rig is not None and camera == self.rig.ir.name

    def reference(self, pair: FramePair) -> tuple[str, Letterbox]:
        """Return the camera in whose pixels a pair's results are, and its letterbox."""
        if self.rig is not None:
            name = self.rig.reference
            size = pair.frames[name].size if name in pair.frames else self.reference_size or self.rig.rgb.size
            return name, self._letterbox(name, size)
        name, frame = next(iter(pair.frames.items()))
        return name, self._letterbox(name, frame.size)

    def registration(self, frame: PreparedFrame) -> Registration | None:
        """Return the registration of a frame, None where it was not registered."""
        return self.registrations.get(frame.size) if frame.registered else None

    def _letterbox(self, camera: str, size: Size) -> Letterbox:
        if (camera, size) not in self.letterboxes:
            spec = self.inputs[camera]
            self.letterboxes[camera, size] = Letterbox.plan(size, (spec.height, spec.width))
        return self.letterboxes[camera, size]

    def _registration(self, size: Size, spec: Input) -> Registration:
        if size not in self.registrations:
            from .rig.register import Registration

            assert self.rig is not None
            rgb_size = self.rig.rgb.size
            letterbox = Letterbox.plan(rgb_size, (spec.height, spec.width))
            self.registrations[size] = Registration(self.rig, rgb_size, size, letterbox)
        return self.registrations[size]
