"""When the pictures of a GStreamer pipeline's network source came, and what their senders stamped them with.

The pipeline's own stamps follow the arrivals of single packets and, with B-frames, the order of coding. The packets
tell better: the sender's time of each picture, and the moment at which its first packet came.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

from .clock import SourceClock

REMEMBERED = 256
"""Pictures that may be on their way through decoders."""
SAME_NS = 2_000_000
"""A picture and its packets are stamped alike by the pipeline, to this."""


class RtpWatch:
    """Looks at what goes into each depayloader of a pipeline; `stamp` gives the time of a decoded picture."""

    def __init__(self, gst: Any, pipeline: Any) -> None:
        self.gst = gst
        self.clock, self.lock = SourceClock(), threading.Lock()
        self.known: deque[tuple[int, int]] = deque(maxlen=REMEMBERED)
        self.time: int | None = None
        self.ticks = 0
        self.pads: list[tuple[Any, int]] = []
        pipeline.connect("deep-element-added", self._added)
        elements = pipeline.iterate_recurse()
        while (found := elements.next())[0] == gst.IteratorResult.OK:
            self._watch(found[1])

    def stamp(self, pts_ns: int) -> tuple[int, int] | None:
        """Return when a picture was taken and how far that may be off; None where it did not come by RTP."""
        with self.lock:
            if not self.known:
                return None
            told_ns, source_ns = min(self.known, key=lambda each: abs(each[0] - pts_ns))
            if abs(told_ns - pts_ns) > SAME_NS:
                return None
            return self.clock.stamp(source_ns)

    def close(self) -> None:
        """Look no more."""
        while self.pads:
            pad, number = self.pads.pop()
            pad.remove_probe(number)

    def _added(self, _: Any, __: Any, element: Any) -> None:
        self._watch(element)

    def _watch(self, element: Any) -> None:
        factory = element.get_factory()
        if factory is None or "Depayloader" not in (factory.get_metadata("klass") or ""):
            return
        pad = element.get_static_pad("sink")
        if pad is not None:
            self.pads.append((pad, pad.add_probe(self.gst.PadProbeType.BUFFER, self._came)))

    def _came(self, pad: Any, info: Any) -> Any:
        now_ns, buffer = time.monotonic_ns(), info.get_buffer()
        keep = self.gst.PadProbeReturn.OK
        if buffer is None or buffer.pts == self.gst.CLOCK_TIME_NONE or buffer.get_size() < 12:
            return keep
        told = int.from_bytes(buffer.extract_dup(4, 4), "big")
        if told == self.time:
            return keep
        caps = pad.get_current_caps()
        form = caps.get_structure(0) if caps else None
        if form is None or form.get_value("media") not in ("video", None):
            return keep
        step = 0 if self.time is None else (told - self.time + 0x80000000 & 0xFFFFFFFF) - 0x80000000
        self.time, self.ticks = told, self.ticks + step
        source_ns = self.ticks * 1_000_000_000 // int(form.get_value("clock-rate") or 90_000)
        with self.lock:
            self.clock.observe(source_ns, now_ns)
            self.known.append((int(buffer.pts), source_ns))
        return keep
