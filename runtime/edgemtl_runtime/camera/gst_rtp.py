"""When the pictures of a GStreamer pipeline's network source came, and what their senders stamped them with.

The pipeline's own stamps follow the arrivals of single packets and, with B-frames, the order of coding. The packets
tell better: the sender's time of each picture, and the moment at which its first packet came. Of what comes in a
container (MPEG-TS, Matroska) the demultiplexer's pictures tell it.
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


AHEAD = ("tsdemux", "mpegpsdemux")
"""Demultiplexers that give a picture when the next one begins."""


class RtpWatch:
    """Looks at what goes into each depayloader of a pipeline, or comes out of a demultiplexer.

    `stamp` gives the time of a decoded picture; ``from_afar`` says that the pictures come from a network or a file, so
    that what else the pipeline stamps them with is no time of capture.
    """

    def __init__(self, gst: Any, pipeline: Any) -> None:
        self.gst = gst
        self.clock, self.lock = SourceClock(), threading.Lock()
        self.known: deque[tuple[int, int]] = deque(maxlen=REMEMBERED)
        self.time: int | None = None
        self.ticks = 0
        self.before_ns: int | None = None
        self.from_afar = False
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
            if abs(told_ns - pts_ns) > SAME_NS or self.clock.base_ns is None:
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
        kind = (factory.get_metadata("klass") or "") if factory is not None else ""
        self.from_afar = self.from_afar or "Source/Network" in kind or "Source/File" in kind
        if "Depayloader" in kind and (pad := element.get_static_pad("sink")) is not None:
            self._probe(pad, self._came)
        elif "Demuxer" in kind:
            came_out = self._came_before if factory.get_name() in AHEAD else self._came_out
            element.connect("pad-added", lambda _, pad: self._probe(pad, came_out))

    def _probe(self, pad: Any, looked: Any) -> None:
        self.pads.append((pad, pad.add_probe(self.gst.PadProbeType.BUFFER, looked)))

    def _came_before(self, pad: Any, info: Any) -> Any:
        """Note a picture that came when the one before it was given."""
        return self._came_out(pad, info, ahead=True)

    def _came_out(self, pad: Any, info: Any, ahead: bool = False) -> Any:
        now_ns, buffer, caps = time.monotonic_ns(), info.get_buffer(), pad.get_current_caps()
        video = caps is not None and caps.get_structure(0).get_name().startswith(("video/", "image/"))
        if video and buffer is not None and buffer.pts != self.gst.CLOCK_TIME_NONE:
            came_ns, self.before_ns = self.before_ns if ahead else now_ns, now_ns
            with self.lock:
                if came_ns is not None:
                    self.clock.observe(int(buffer.pts), came_ns)
                self.known.append((int(buffer.pts), int(buffer.pts)))
        return self.gst.PadProbeReturn.OK

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
