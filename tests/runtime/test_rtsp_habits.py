"""RTSP as cameras speak it: their own ways of describing, numbering, redirecting, keeping alive and ending."""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from clockface import read_face
from odd_rtsp import Habits, OddRtsp

from edgemtl_runtime.camera import open_camera
from edgemtl_runtime.camera.base import CameraEvents
from edgemtl_runtime.camera.rtsp import RtspCamera
from edgemtl_runtime.camera.rtsp.session import Session
from edgemtl_runtime.errors import CameraError
from edgemtl_runtime.frame import Frame

pytestmark = pytest.mark.realtime


@contextmanager
def serving(habits: Habits, family: socket.AddressFamily = socket.AF_INET) -> Iterator[OddRtsp]:
    server = OddRtsp(habits, family)
    try:
        yield server
    finally:
        server.kill()


def read(url: str, count: int, options: dict[str, str] | None = None) -> tuple[list[Frame], dict[str, int]]:
    """Return so many frames of our own reader and what it dropped."""
    drops: Counter[str] = Counter()

    class Events(CameraEvents):
        def frame_dropped(self, cause: str) -> None:
            drops[cause] += 1

    stream = RtspCamera("rgb", url, options or {}).frames(Events())
    frames = list(itertools.islice(stream, count))
    stream.close()  # type: ignore[attr-defined]
    return frames, dict(drops)


def right(frames: list[Frame], skip: int = 0) -> None:
    """Check that every picture is read, and stamped by when it was drawn."""
    truths = [read_face(frame.image) for frame in frames]
    assert None not in truths
    errors = [abs(f.stamp_ns - t) / 1e6 for f, t in zip(frames, truths, strict=True) if t is not None][skip:]
    assert float(np.median(errors)) < 6, errors


def audio(channel: int) -> bytes:
    """Return what another stream sends: a picture's worth of sound, and a report of its own clock."""
    sound = struct.pack(">BBHII", 0x80, 0, 7, 1234, 99) + bytes(160)
    report = struct.pack(">BBHIIIIII", 0x80, 200, 6, 99, 2_208_988_800 + 1_000_000, 0, 1234, 0, 0)
    return b"".join(
        b"$" + bytes([number]) + len(data).to_bytes(2, "big") + data
        for number, data in ((channel, sound), (channel + 1, report))
    )


def padding(sequence: int, ticks: int, source: int) -> list[bytes]:
    return [struct.pack(">BBHII", 0xA0, 96, sequence & 0xFFFF, ticks & 0xFFFFFFFF, source) + bytes([0, 0, 0, 4])]


def undefined(sequence: int, ticks: int, source: int) -> list[bytes]:
    return [struct.pack(">BBHII", 0x80, 96, sequence & 0xFFFF, ticks & 0xFFFFFFFF, source) + b"\x1e nothing"]


def repair(sequence: int, ticks: int, source: int) -> list[bytes]:
    return [
        struct.pack(">BBHII", 0x80, 127, sequence & 0xFFFF, ticks & 0xFFFFFFFF, source) + b"forward error correction"
    ]


UNUSABLE = (
    "m=audio 0 RTP/AVP 0\r\na=control:track=9\r\n"
    "m=video 0 RTP/AVP 98\r\na=rtpmap:98 VND.ONVIF.METADATA/90000\r\na=control:track=8\r\n"
    "m=video 0 RTP/AVP 99\r\na=rtpmap:99 VP8/90000\r\na=control:track=7\r\n"
)
HABITS = {
    "plain": Habits(),
    "no base": Habits(base=False),
    "absolute control": Habits(control="rtsp://{host}:{port}/live/track=1?part=2"),
    "control with a query": Habits(control="track=1?part=2&x=/y"),
    "no aggregate control": Habits(session=""),
    "channels of its own": Habits(transport="RTP/AVP/TCP;unicast; interleaved=4-5 ;ssrc=1", channel=4),
    "names in capitals": Habits(transport="RTP/AVP/TCP;unicast;Interleaved=6-7", channel=6),
    "unusable streams first": Habits(before=UNUSABLE),
    "sound between": Habits(others=lambda: audio(2)),
    "asks by our number": Habits(asks=True),
    "byte by byte": Habits(piece=1),
    "no markers": Habits(marker=False),
    "fragments without an end": Habits(ends=False),
    "fragments without an end or a marker": Habits(ends=False, marker=False),
    "padding between": Habits(between=padding),
    "an undefined kind of unit between": Habits(between=undefined),
    "another payload between": Habits(between=repair),
    "parameter sets in the description": Habits(sets_in_band=False),
    "a nonce for each request": Habits(password="secret", nonce_uses=1),
}


@pytest.mark.parametrize("name", HABITS)
def test_a_camera_s_own_ways_cost_no_picture(name: str) -> None:
    with serving(HABITS[name]) as server:
        frames, drops = read(server.url, 20)
    right(frames)
    assert not drops


def test_a_camera_may_have_an_address_of_ipv6() -> None:
    with serving(Habits(), socket.AF_INET6) as server:
        right(read(server.url, 10)[0])


def test_a_redirected_camera_is_followed_and_a_ring_of_them_is_not() -> None:
    with serving(Habits()) as target, serving(Habits(redirect=target.url)) as redirecting:
        right(read(redirecting.url, 10)[0])
        assert "TEARDOWN" not in redirecting.methods()
        redirecting.habits.redirect = redirecting.url
        with pytest.raises(CameraError, match="without an end"):
            open_camera(redirecting.url, "rgb")


@pytest.mark.parametrize(
    "uses", [pytest.param(1000, id="one nonce", marks=pytest.mark.slow), pytest.param(1, id="stale nonces")]
)
def test_a_session_is_kept_alive(uses: int) -> None:
    with serving(Habits(timeout_s=2, password="secret", nonce_uses=uses)) as server:
        begun = time.monotonic()
        frames, drops = read(server.url, 150)
        assert time.monotonic() - begun > 4.5 and not drops
        assert "GET_PARAMETER" in server.methods()
    right(frames)


def test_the_end_of_a_stream_is_told_at_once_and_said_goodbye_to() -> None:
    with serving(Habits(bye_after=15)) as server:
        camera: Any = RtspCamera("rgb", server.url, {})
        last = 0.0
        with pytest.raises(CameraError, match="has ended the stream"):
            for _ in camera.frames():
                last = time.monotonic()
        assert time.monotonic() - last < 1.5  # less than it would wait for a stream that is silent
        end = time.monotonic() + 30
        while server.methods()[-1] != "TEARDOWN":
            assert time.monotonic() < end, server.methods()
            time.sleep(0.01)


def test_a_server_that_sends_without_end_and_answers_nothing_is_given_up() -> None:
    listening = socket.create_server(("127.0.0.1", 0))

    def flood() -> None:
        with contextlib.suppress(OSError):
            client, _ = listening.accept()
            while True:
                client.sendall(b"$\0\0\4junk" * 100)

    threading.Thread(target=flood, daemon=True).start()
    begun = time.monotonic()
    with pytest.raises(CameraError, match="no answer"):
        Session("--rgb rtsp://here", f"rtsp://127.0.0.1:{listening.getsockname()[1]}/", False, 0.5, 0.5)
    assert time.monotonic() - begun < 10
    listening.close()


def test_a_camera_that_counts_a_nominal_rate_is_never_trusted_and_may_be_stamped_on_arrival() -> None:
    with serving(Habits(fps=20, ticks=lambda index, drawn_ns: 3000 * index)) as server:
        believed, _ = read(server.url, 60)
        taken, _ = read(server.url, 60, {"clock": "none"})
    for frame in believed:
        truth = read_face(frame.image)
        assert truth is not None and (abs(frame.stamp_ns - truth) < 30e6 or frame.uncertainty_ns > 30e6)
    right(taken, skip=30)
    assert taken[-1].stamp_source == "arrival" and max(frame.uncertainty_ns for frame in taken[30:]) < 30e6


@pytest.mark.parametrize(("rejected", "asked", "other"), [("/TCP", "tcp", "udp"), ("client_port", "udp", "tcp")])
def test_a_camera_that_sends_by_one_way_alone_says_which(rejected: str, asked: str, other: str) -> None:
    with (
        serving(Habits(rejected=rejected)) as server,
        pytest.raises(CameraError, match=rf"does not send by {asked.upper()}; add \?transport={other}"),
    ):
        RtspCamera("rgb", server.url, {"transport": asked})
