"""Single images over HTTP (a camera's "snapshot" address), asked for again and again."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator

from ..errors import CameraError
from ..frame import UNKNOWN_NS, Frame
from ..image_file import ImageFileError
from ..pixels import as_frame, decode
from .base import LiveCamera
from .mjpeg import MAX_BYTES, READ_S, open_url, reason
from .options import Options, check_known
from .redaction import redact

INTERVAL_S = 0.1
"""Least time between two questions."""


class SnapshotCamera(LiveCamera):
    """An address that answers with one JPEG or PNG; answers with the bytes of the one before hold no new image.

    An image is stamped when the answer begins. It was taken since the question before, so that is its uncertainty.
    """

    def __init__(self, name: str, url: str, options: Options) -> None:
        super().__init__(name, redact(url))
        check_known(options, url, [])
        self.url = url
        self.latest, self.asked_ns, self.answered_ns = b"", 0, 0
        self._ask()

    def _ask(self) -> None:
        """Replace ``latest``; raises `CameraError` when the camera does not answer."""
        self.asked_ns = time.monotonic_ns()
        try:
            with open_url(self.label, self.url) as response:
                self.answered_ns = time.monotonic_ns()
                self.latest = response.read(MAX_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise CameraError(f"{self.label}: gives no image ({reason(error)})") from None

    def _frames(self) -> Iterator[Frame]:
        index, before, before_ns, changed_s = 0, b"", 0, time.monotonic()
        while not self.closed:
            if self.latest != before:
                try:
                    image = as_frame(decode(self.latest).upright())
                except ImageFileError:
                    self.events.frame_dropped("corrupt packet")
                else:
                    now_ns, stamp_ns = time.monotonic_ns(), self.answered_ns
                    uncertainty_ns = stamp_ns - before_ns if before_ns else UNKNOWN_NS
                    yield Frame(image, stamp_ns, self.name, index, "arrival", "", now_ns, uncertainty_ns=uncertainty_ns)
                    index += 1
                changed_s = time.monotonic()
            elif time.monotonic() - changed_s > READ_S:
                raise CameraError(f"{self.label}: gives the same image for {READ_S:g} s")
            before, before_ns = self.latest, self.asked_ns
            time.sleep(max(0.0, INTERVAL_S - (time.monotonic_ns() - self.asked_ns) / 1e9))
            if not self.closed:
                self._ask()

    def _release(self) -> None:
        """Do nothing: each question is a connection of its own."""
