"""PyAV helpers for streams and video files: opening a container, error reasons, images of decoded frames.

PyAV's logging stays off, as it is by default: at its quietest level too it calls Python in the thread that logs, which
waits for the interpreter while a container that is closed waits for that thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CameraError
from ..pixels import as_frame

if TYPE_CHECKING:
    import av

NO_TIMESTAMPS = 0x80
"""FFmpeg's AVFMT_NOTIMESTAMPS."""
COUNTS = ("gray10le", "gray12le", "gray14le")
"""Grey formats of counts below 16 bits, which a conversion would stretch."""


def open_container(label: str, url: str, timeout: tuple[float, float] | None = None, **options: str) -> Any:
    """Open a container; errors name ``label`` in place of the URL, which may hold a password."""
    import av

    try:
        container = av.open(url, timeout=timeout, options=options)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise CameraError(f"{label}: cannot be opened ({reason(error)}); check that it is there") from None
    if not container.streams.video:
        container.close()
        raise CameraError(f"{label}: holds no video")
    return container


def has_timestamps(container: Any) -> bool:
    """Whether a container's format has presentation timestamps; else FFmpeg counts frames, mostly at 25 a second."""
    return not container.format.flags & NO_TIMESTAMPS


def reason(error: BaseException) -> str:
    """Return an error's reason without the URL that FFmpeg appends to it."""
    import av

    if isinstance(error, av.error.ExitError):  # as a time-out ends
        return "nothing in time"
    text = error.strerror if isinstance(error, OSError | av.error.FFmpegError) else ""
    return text or type(error).__name__


def to_image(frame: av.VideoFrame) -> NDArray[Any]:
    """Return a frame as (H, W, 3) RGB, or (H, W) where it is grey, of 8 or 16 bits."""
    import av

    pixel_format = frame.format.name
    # From 17 on PyAV converts with a thread a core; for frames this small starting them takes longer than the work.
    single: dict[str, Any] = {"threads": 1} if int(av.__version__.partition(".")[0]) >= 17 else {}
    deep = frame.format.components[0].bits > 8
    if pixel_format.startswith("gray"):
        if pixel_format in COUNTS:
            return np.ascontiguousarray(frame.to_ndarray())
        return np.ascontiguousarray(frame.to_ndarray(format="gray16le" if deep else "gray", **single))
    if deep and frame.format.is_rgb:  # three equal channels are thermal counts
        return as_frame(np.ascontiguousarray(frame.to_ndarray(format="rgb48le", **single)))
    return np.ascontiguousarray(frame.to_ndarray(format="rgb24", **single))


def jpeg_is_damaged(data: bytes) -> bool:
    """Whether FFmpeg's decoder finds that JPEG data are invalid; False of kinds that it does not decode."""
    import av

    codec: Any = av.CodecContext.create("mjpeg", "r")
    codec.thread_type = "SLICE"
    codec.options = {"err_detect": "explode"}
    try:
        frames = codec.decode(av.Packet(data))
    except av.error.InvalidDataError:
        return True
    except (av.error.FFmpegError, ValueError):
        return False
    return any(frame.is_corrupt for frame in frames)
