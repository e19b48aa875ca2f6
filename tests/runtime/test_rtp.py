"""RTP packets to pictures: every order, loss and cut; and servers that say what they should not."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgemtl_runtime.camera.http_auth import authorization
from edgemtl_runtime.camera.rtsp import rtp, sdp
from edgemtl_runtime.camera.rtsp.depacketizer import H264, H265, START, AccessUnit, Depacketizer
from edgemtl_runtime.camera.rtsp.rtcp import SenderReport, sender_report
from edgemtl_runtime.camera.rtsp.rtp import JitterBuffer, RtpPacket
from edgemtl_runtime.camera.rtsp.session import Session
from edgemtl_runtime.errors import CameraError

UNITS = st.lists(st.binary(min_size=4, max_size=60), min_size=1, max_size=5)
FRAMES = st.lists(UNITS, min_size=1, max_size=12)


def packets(frames: list[list[bytes]], first: int, size: int, aggregate: bool) -> Iterator[RtpPacket]:
    """Yield H.264's packets as RFC 6184 has them: single units, in fragments of ``size``, or several in one."""
    sequence = first
    for index, units in enumerate(frames):
        units = [bytes([0x41 if n else 0x65]) + unit for n, unit in enumerate(units)]
        payloads: list[bytes] = []
        if aggregate and len(units) > 1:
            payloads = [b"\x78" + b"".join(struct.pack(">H", len(unit)) + unit for unit in units)]
        else:
            for unit in units:
                if len(unit) <= size:
                    payloads.append(unit)
                    continue
                parts = [unit[1:][i : i + size] for i in range(0, len(unit) - 1, size)]
                for n, part in enumerate(parts):
                    flags = 0x80 * (n == 0) | 0x40 * (n == len(parts) - 1)
                    payloads.append(bytes([unit[0] & 0xE0 | 28, flags | unit[0] & 31]) + part)
        for n, payload in enumerate(payloads):
            rtp_time = (0xFFFFF000 + 3000 * index) & 0xFFFFFFFF  # wraps on the way
            yield RtpPacket(96, sequence & 0xFFFF, rtp_time, n == len(payloads) - 1, 7, payload, 1000 * sequence)
            sequence += 1


def assembled(sent: list[RtpPacket], codec: type[Depacketizer] = H264) -> list[AccessUnit]:
    jitter_buffer, depacketizer, frames = JitterBuffer(), codec(), []
    for packet in sent:
        for due, lost in jitter_buffer.push(packet):
            frames += list(depacketizer.push(due, lost))
    return frames


def stream(units: list[bytes]) -> bytes:
    return b"".join(START + bytes([0x41 if n else 0x65]) + unit for n, unit in enumerate(units))


@given(FRAMES, st.integers(0, 0xFFFF), st.integers(3, 30), st.booleans())
def test_pictures_come_whole_when_their_last_packet_is_there(
    frames: list[list[bytes]], first: int, size: int, aggregate: bool
) -> None:
    sent = list(packets(frames, first, size, aggregate))
    access_units = assembled(sent)
    assert [unit.data for unit in access_units] == [stream(units) for units in frames]
    assert all(unit.complete and unit.is_key for unit in access_units)
    assert [unit.ticks for unit in access_units] == [3000 * index for index in range(len(frames))]
    firsts = {packet.rtp_time: packet.arrived_ns for packet in reversed(sent)}
    assert [unit.first_ns for unit in access_units] == list(firsts.values())[::-1]


@given(FRAMES, st.integers(0, 0xFFFF), st.randoms(use_true_random=False))
def test_packets_that_udp_shuffles_or_doubles_make_the_same_pictures(
    frames: list[list[bytes]], first: int, chance: object
) -> None:
    sent = list(packets(frames, first, 20, False))
    mixed = sorted(enumerate([*sent, *sent[1::3]]), key=lambda item: item[1].arrived_ns / 1000 + chance.uniform(0, 8))  # type: ignore[attr-defined]
    shuffled = [sent[0], *(packet for _, packet in mixed if packet is not sent[0])]
    assert [unit.data for unit in assembled(shuffled)] == [stream(units) for units in frames]


@given(FRAMES, st.integers(0, 0xFFFF), st.data())
def test_a_lost_packet_costs_its_picture_and_nothing_is_made_up(
    frames: list[list[bytes]], first: int, data: st.DataObject
) -> None:
    sent = list(packets(frames, first, 12, False))
    missing = data.draw(st.sets(st.integers(1, len(sent) - 1), max_size=4)) if len(sent) > 1 else set()
    filler = list(packets([[b"fill"]] * 40, first + len(sent), 12, False))
    access_units = assembled([packet for index, packet in enumerate(sent) if index not in missing] + filler)
    true = {stream(units) for units in frames} | {stream([b"fill"])}
    assert all(unit.data in true for unit in access_units if unit.complete)
    hit = {sent[index].rtp_time for index in missing}
    whole = sum(unit.complete and unit.data != stream([b"fill"]) for unit in access_units)
    assert whole >= len({packet.rtp_time for packet in sent} - hit) - len(missing)


@given(FRAMES, st.integers(0, 0xFFFF), st.randoms(use_true_random=False), st.integers(0, 3))
def test_the_first_picture_is_whole_though_its_packets_are_shuffled(
    frames: list[list[bytes]], first: int, chance: object, before: int
) -> None:
    """``before``: packets that the sender counted and did not send."""
    sent = list(packets([*frames, *[[b"last"]] * 40], first, 20, False))
    mixed = sorted(sent, key=lambda packet: packet.arrived_ns / 1000 + chance.uniform(0, 8))  # type: ignore[attr-defined]
    jitter_buffer, depacketizer, access_units = JitterBuffer(first=(first - before) & 0xFFFF), H264(), []
    for packet in [*mixed, replace(sent[-1], sequence=(sent[-1].sequence + 1) & 0xFFFF, arrived_ns=1 << 40)]:
        for due, lost in jitter_buffer.push(packet):
            access_units += list(depacketizer.push(due, lost))
    assert [unit.data for unit in access_units if unit.complete][: len(frames)] == [stream(units) for units in frames]
    assert all(not before or unit.complete for unit in access_units[:1])


@pytest.mark.parametrize("announced", [None, 5, 1001, 40_000])
def test_a_sender_that_does_not_begin_where_it_says_is_heard_at_once(announced: int | None) -> None:
    jitter_buffer, sent = JitterBuffer(first=announced), list(packets([[b"aaaa"], [b"bbbb"]], 1000, 20, False))
    assert [due.sequence for packet in sent for due, _ in jitter_buffer.push(packet)] == [1000, 1001]


def test_a_sender_whose_marker_means_nothing_is_found_out() -> None:
    sent = [RtpPacket(96, n, 3000 * (n // 3), True, 7, bytes([0x65, n, n, n]), n) for n in range(60)]
    access_units = assembled(sent)
    whole = [START + bytes([0x65, n]) + bytes([n] * 2) for n in range(60)]
    assert [unit.data for unit in access_units[-5:]] == [b"".join(whole[3 * n : 3 * n + 3]) for n in range(14, 19)]


@given(st.lists(st.binary(max_size=80), max_size=40), st.sampled_from([H264, H265]))
def test_nonsense_is_no_picture_and_no_error(payloads: list[bytes], codec: type[Depacketizer]) -> None:
    head = struct.pack(">BBHII", 0x80, 96, 0, 0, 7)
    for payload in payloads:
        rtp.parse(payload, 0)
        sender_report(payload)
        rtp.parse(bytes([0xBF]) + head[1:] + payload, 0)
    assembled([RtpPacket(96, n, n // 4, n % 4 == 3, 7, p, n) for n, p in enumerate(payloads)], codec)


@given(st.text(max_size=300))
def test_a_description_may_be_anything(text: str) -> None:
    sdp.parse(text)
    sdp.parse("m=video 0 RTP/AVP " + text + "\na=rtpmap:96 " + text + "\na=fmtp:96 " + text)
    for media in sdp.parse("m=video 0 RTP/AVP 96\na=rtpmap:96 H264/90000\na=fmtp:96 sprop-parameter-sets=" + text)[1]:
        assert isinstance(media.parameters, bytes)


def test_a_sender_report_tells_unix_time() -> None:
    data = struct.pack(">BBHIIIII", 0x80, 200, 6, 7, 2_208_988_800 + 1_700_000_000, 1 << 31, 90_000, 0) + bytes(4)
    assert sender_report(data) == SenderReport(1_700_000_000_500_000_000, 90_000)


def test_a_digest_is_that_of_the_standard() -> None:
    """RFC 7616, 3.9.1, with the nonces of its own example: there the client's is fixed, here the form is."""
    challenge = 'Digest realm="http-auth@example.org", nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"'
    value = authorization([challenge], "GET", "/dir/index.html", "Mufasa", "Circle of Life")
    assert value.startswith("Digest ") and 'username="Mufasa"' in value and "Circle" not in value
    # RFC 2069's form, computed by hand from its three hashes
    import hashlib

    def md5(*words: str) -> str:
        return hashlib.md5(":".join(words).encode()).hexdigest()

    secret, request_hash = md5("Mufasa", "http-auth@example.org", "Circle of Life"), md5("GET", "/dir/index.html")
    nonce = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
    assert f'response="{md5(secret, nonce, request_hash)}"' in value
    assert authorization(["Basic realm=x"], "GET", "/", "a", "b") == "Basic YTpi"
    assert authorization(["Negotiate"], "GET", "/", "a", "b") == ""
    assert "algorithm=SHA-256" in authorization([challenge, challenge + ", algorithm=SHA-256"], "GET", "/", "a", "b")


@contextlib.contextmanager
def answering(*answers: bytes) -> Iterator[int]:
    """A server that gives each request the next answer, whatever it is."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            client, _ = listening.accept()
            for answer in answers:
                if not client.recv(65536):
                    break
                client.sendall(answer)
            client.close()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.close()


OK = b"RTSP/1.0 200 OK\r\nCSeq: %d\r\n\r\n"


@pytest.mark.parametrize(
    "answers",
    [
        (b"\0" * 100_000,),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n",),
        (b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: 99999999999999999999\r\n\r\n",),
        (OK % 1, b"RTSP/1.0 200 OK\r\nCSeq: 2\r\nContent-Length: 5\r\n\r\nm=vid"),
        (OK % 1, b"RTSP/1.0 " + b"9" * 5000 + b" OK\r\nCSeq: 2\r\n\r\n"),
        (OK % 1, b"$\0\xff\xff" + b"x" * 70_000),
        (b"OPTIONS * RTSP/1.0\r\nCSeq: 5\r\n\r\n",),
        (b"RTSP/1.0 401 No\r\nCSeq: 1\r\nWWW-Authenticate: Digest realm=\r\n\r\n",) * 2,
    ],
)
def test_a_server_that_talks_nonsense_is_one_line_and_no_hang(answers: tuple[bytes, ...]) -> None:
    with answering(*answers) as port, pytest.raises(CameraError) as told:
        Session("--rgb rtsp://here", f"rtsp://me:secret@127.0.0.1:{port}/x", False, 0.5, 0.5)
    assert "\n" not in str(told.value) and "secret" not in str(told.value)


@given(st.binary(max_size=400))
@settings(max_examples=40, deadline=None)
def test_random_answers_are_one_line(answer: bytes) -> None:
    with answering(OK % 1, answer) as port, pytest.raises(CameraError):
        Session("--rgb rtsp://here", f"rtsp://127.0.0.1:{port}/x", False, 0.2, 0.2)
