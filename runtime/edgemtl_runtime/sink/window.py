"""Window sink: annotated images on this machine's screen."""

from __future__ import annotations

import os
import sys

import cv2

from ..draw import draw
from ..errors import EdgemtlError
from ..frame import FramePair
from ..result import Result

QUIT_KEYS = (27, ord("q"))


class Window:
    """A window on this machine's screen; Esc or q ends the run, as Ctrl-C does."""

    name = "window"
    on_main_thread = True

    def __init__(self) -> None:
        self.asks_to_end = False
        if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise EdgemtlError("--show: there is no screen here (DISPLAY is not set); use --video FILE instead")
        try:
            cv2.namedWindow("edgemtl", cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
        except cv2.error as error:
            raise EdgemtlError("--show: this OpenCV has no windows; pip install opencv-python") from error

    def write(self, pair: FramePair, result: Result) -> None:
        """Show one image."""
        cv2.imshow("edgemtl", cv2.cvtColor(draw(pair, result), cv2.COLOR_RGB2BGR))
        if cv2.waitKey(1) & 0xFF in QUIT_KEYS:
            self.asks_to_end = True

    def close(self) -> None:
        """Close the window."""
        cv2.destroyAllWindows()
