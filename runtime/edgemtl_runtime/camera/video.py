"""Video files read by PyAV, stamped by their presentation timestamps."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CameraError
from ..frame import Frame, StampSource
from .base import NO_EVENTS, CameraEvents, PlaybackCamera, checked_size
from .clock import Epoch, Pace
from .libav import has_timestamps, open_container, reason, to_image
from .options import NOMINAL_FPS, Options, take

log = logging.getLogger("edgemtl_runtime")


class AvVideoCamera(PlaybackCamera):
    """A video file, upright; ``?fps=20`` paces it at that rate, ``?speed=1`` by its presentation timestamps."""

    def __init__(self, name: str, file: Path, epoch: Epoch, options: Options) -> None:
        self.name, self.uri = name, str(file)
        fps, self.speed = take(options, str(file), fps=0, speed=0)
        self.live = fps > 0 or self.speed > 0
        self.rated = fps > 0
        self.pace = Pace(epoch, fps or 1.0, self.live, self.speed)
        self.container = open_container(self.label, str(file))
        self.stream = self.container.streams.video[0]
        file_fps = float(self.stream.average_rate or NOMINAL_FPS)
        self.rate = fps or file_fps * (self.speed or 1.0)
        self.stream.thread_type = "AUTO"
        self.timed = has_timestamps(self.container)
        if not self.timed and not self.rated:
            log.warning("%s: holds no times; %g images a second are assumed: give ?fps=", self.label, file_fps)
        self.reading = False

    def frames(self, events: CameraEvents = NO_EVENTS) -> Iterator[Frame]:
        """Yield the video's frames; raises `CameraError` where it holds none, or cannot be read on."""
        return checked_size(self._read(), lambda frame: f"{self.label} frame {frame.index}")

    def _read(self) -> Iterator[Frame]:
        import av

        index, begin, self.reading = 0, None, True
        if self.pace.closed:
            return
        try:
            for decoded in self.container.decode(self.stream):
                if self.pace.closed:
                    return
                seconds = float(
                    decoded.time if decoded.time is not None else index / float(self.stream.average_rate or NOMINAL_FPS)
                )
                begin = seconds if begin is None else begin
                if self.rated:
                    stamp_ns = self.pace.wait(index)
                else:
                    stamp_ns = self.pace.wait_until(self.pace.epoch.now_ns + round((seconds - begin) * 1e9))
                source: StampSource = "file" if self.timed and not self.rated else "rate"
                yield Frame(
                    upright(to_image(decoded), decoded),
                    stamp_ns,
                    self.name,
                    index,
                    source,
                    f"{index:06d}",
                    time.monotonic_ns(),
                )
                index += 1
        except (av.error.FFmpegError, OSError) as error:
            raise CameraError(f"{self.label}: cannot be read past frame {index} ({reason(error)})") from None
        finally:
            self.container.close()
        if not index:
            raise CameraError(f"{self.label}: holds no readable frame")

    def close(self) -> None:
        """Stop the reading; the reading thread, where there is one, closes the file."""
        super().close()
        if not self.reading:
            self.container.close()


def upright(image: NDArray[Any], decoded: Any) -> NDArray[Any]:
    """Return an image (H, W[, 3]) turned in quarters and mirrored by the display matrix; phones film in landscape."""
    side_data = decoded.side_data.get("DISPLAYMATRIX")
    if side_data is None:
        return image
    matrix = np.frombuffer(bytes(side_data), np.int32).reshape(3, 3)[:2, :2].astype(float)
    to_x, to_y = np.where(np.abs(matrix) > np.abs(matrix).max() / 100, np.sign(matrix), 0).T  # from (x, y)
    if not to_x[0] and not to_y[1]:
        image, to_x, to_y = image.swapaxes(0, 1), to_x[::-1], to_y[::-1]
    if to_x[1] or to_y[0]:  # not in quarters
        return image
    return np.ascontiguousarray(image[:: int(to_y[1]) or 1, :: int(to_x[0]) or 1])
