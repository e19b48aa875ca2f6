"""What streams and video files share of PyAV."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CameraError

if TYPE_CHECKING:
    import av


def opened(what: str, place: str, timeout: tuple[float, float] | None = None, **options: str) -> Any:
    """Open a container; ``what`` stands in errors in place of the place, which may hold a password."""
    import av

    av.logging.set_level(av.logging.PANIC)  # its own lines name the whole URL
    try:
        container = av.open(place, timeout=timeout, options=options)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise CameraError(f"{what}: cannot be opened ({reason(error)}); check that it is there") from None
    if not container.streams.video:
        container.close()
        raise CameraError(f"{what}: holds no video")
    return container


def reason(error: BaseException) -> str:
    """Return what went wrong without the address that FFmpeg writes behind it."""
    return getattr(error, "strerror", None) or type(error).__name__


def picture(frame: av.VideoFrame) -> NDArray[Any]:
    """Return a frame as (H, W, 3) RGB, or (H, W) where it is grey, of 8 or 16 bits."""
    import av

    kind = frame.format.name
    # From 17 on PyAV converts on a thread a core, and a frame that small waits for them longer than it takes.
    alone: dict[str, Any] = {"threads": 1} if int(av.__version__.partition(".")[0]) >= 17 else {}
    if kind.startswith("gray"):
        deep = frame.format.components[0].bits > 8
        grey = frame.to_ndarray(format="gray16le" if deep else "gray", **alone)
        return np.ascontiguousarray(grey)
    return np.ascontiguousarray(frame.to_ndarray(format="rgb24", **alone))
