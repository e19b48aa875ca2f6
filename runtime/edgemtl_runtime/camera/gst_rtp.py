"""Arrival times and sender timestamps of the frames of a GStreamer pipeline's network source, by pad probes.

The pipeline's own stamps follow the arrivals of single packets and, with B-frames, the coding order. The packets are
more accurate: the RTP timestamp of each frame, and the arrival of its first packet. Of a container (MPEG-TS,
Matroska) the demultiplexer's output is observed.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

from .clock import SourceClock

HISTORY = 256
"""Maximum number of frames in the decoders."""
SAME_PTS_NS = 2_000_000
"""Tolerance within which a frame and its packets have one presentation timestamp in the pipeline."""
DELAYED_DEMUXERS = ("tsdemux", "mpegpsdemux")
"""Demultiplexers that output a frame when the next one begins."""


class TimestampProbe:
    """Pad probes at the input of each depayloader of a pipeline, or the output of a demultiplexer.

    `stamp` returns the capture time of a decoded frame; ``is_remote``: the frames come from a network or a file, so
    that the pipeline's own stamps are no capture times.
    """

    def __init__(self, gst: Any, pipeline: Any) -> None:
        self.gst = gst
        self.clock, self.lock = SourceClock(), threading.Lock()
        self.observed: deque[tuple[int, int]] = deque(maxlen=HISTORY)
        self.rtp_time: int | None = None
        self.ticks = 0
        self.previous_ns: int | None = None
        self.is_remote = False
        self.pads: list[tuple[Any, int]] = []
        pipeline.connect("deep-element-added", self._on_element_added)
        elements = pipeline.iterate_recurse()
        while (item := elements.next())[0] == gst.IteratorResult.OK:
            self._attach(item[1])

    def stamp(self, pts_ns: int) -> tuple[int, int] | None:
        """Return the capture time and its uncertainty, nanoseconds; None where the frame did not come by RTP."""
        with self.lock:
            if not self.observed:
                return None
            nearest_ns, source_ns = min(self.observed, key=lambda times: abs(times[0] - pts_ns))
            if abs(nearest_ns - pts_ns) > SAME_PTS_NS or self.clock.base_ns is None:
                return None
            return self.clock.stamp(source_ns)

    def close(self) -> None:
        """Remove the probes."""
        while self.pads:
            pad, number = self.pads.pop()
            pad.remove_probe(number)

    def _on_element_added(self, _: Any, __: Any, element: Any) -> None:
        self._attach(element)

    def _attach(self, element: Any) -> None:
        factory = element.get_factory()
        element_class = (factory.get_metadata("klass") or "") if factory is not None else ""
        self.is_remote = self.is_remote or "Source/Network" in element_class or "Source/File" in element_class
        if "Depayloader" in element_class and (pad := element.get_static_pad("sink")) is not None:
            self._probe(pad, self._on_packet)
        elif "Demuxer" in element_class:
            callback = self._on_delayed_frame if factory.get_name() in DELAYED_DEMUXERS else self._on_frame
            element.connect("pad-added", lambda _, pad: self._probe(pad, callback))

    def _probe(self, pad: Any, callback: Any) -> None:
        self.pads.append((pad, pad.add_probe(self.gst.PadProbeType.BUFFER, callback)))

    def _on_delayed_frame(self, pad: Any, info: Any) -> Any:
        """Observe a frame that arrived when the one before it was output."""
        return self._on_frame(pad, info, delayed=True)

    def _on_frame(self, pad: Any, info: Any, delayed: bool = False) -> Any:
        now_ns, buffer, caps = time.monotonic_ns(), info.get_buffer(), pad.get_current_caps()
        video = caps is not None and caps.get_structure(0).get_name().startswith(("video/", "image/"))
        if video and buffer is not None and buffer.pts != self.gst.CLOCK_TIME_NONE:
            arrived_ns, self.previous_ns = self.previous_ns if delayed else now_ns, now_ns
            with self.lock:
                if arrived_ns is not None:
                    self.clock.observe(int(buffer.pts), arrived_ns)
                self.observed.append((int(buffer.pts), int(buffer.pts)))
        return self.gst.PadProbeReturn.OK

    def _on_packet(self, pad: Any, info: Any) -> Any:
        now_ns, buffer = time.monotonic_ns(), info.get_buffer()
        keep = self.gst.PadProbeReturn.OK
        if buffer is None or buffer.pts == self.gst.CLOCK_TIME_NONE or buffer.get_size() < 12:
            return keep
        rtp_time = int.from_bytes(buffer.extract_dup(4, 4), "big")
        if rtp_time == self.rtp_time:
            return keep
        caps = pad.get_current_caps()
        structure = caps.get_structure(0) if caps else None
        if structure is None or structure.get_value("media") not in ("video", None):
            return keep
        step = 0 if self.rtp_time is None else (rtp_time - self.rtp_time + 0x80000000 & 0xFFFFFFFF) - 0x80000000
        self.rtp_time, self.ticks = rtp_time, self.ticks + step
        source_ns = self.ticks * 1_000_000_000 // int(structure.get_value("clock-rate") or 90_000)
        with self.lock:
            self.clock.observe(source_ns, now_ns)
            self.observed.append((int(buffer.pts), source_ns))
        return keep
