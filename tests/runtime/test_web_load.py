"""The web page under load: slow clients, many of them, requests without end, and a stop at any time."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from web_page import RunState, ask, latest, sample, wait_until

from edgemtl_runtime.sink.web import Web
from edgemtl_runtime.sink.web.connections import Limits
from edgemtl_runtime.sink.web.latest import MAX_CACHED
from edgemtl_runtime.sink.web.panels import MAX_HEAD_SELECTIONS
from edgemtl_runtime.stats import Stats

pytestmark = pytest.mark.realtime

LIMITS = Limits()


@pytest.fixture
def web() -> Iterator[Web]:
    """A page without a token at a free port."""
    with closing(Web("0", "", RunState())) as served:
        yield served


@pytest.fixture
def limited() -> Iterator[Callable[..., Web]]:
    """Serves pages with limits other than the default ones."""
    with contextlib.ExitStack() as stack:
        yield lambda **limits: stack.enter_context(closing(Web("0", "", RunState(), limits=Limits(**limits))))


def connect(web: Web, request: bytes = b"", receive_buffer: int = 0) -> socket.socket:
    """Return a connection on which a request is sent."""
    line = socket.socket()
    if receive_buffer:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    line.settimeout(5)
    line.connect(web.server.address)
    line.sendall(request)
    return line


GET_LATEST = b"GET /latest HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_health_is_answered_within_a_second_whoever_else_is_connected() -> None:
    """500 half-open connections and 200 viewers, each with another selection of heads."""
    words = [sys.executable, str(Path(__file__).with_name("web_load.py")), "500", "200", "4"]
    for _ in range(3):  # what else runs on this machine makes it slower, never faster
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=120)
        report = json.loads(done.stdout)
        if report["healthz_ms"]["100"] < 1000 and not report["failed"]:
            break
    assert report["failed"] == 0 and report["asked"] > 5
    assert report["healthz_ms"]["100"] < 1000
    assert report["loaded_mb"] < 1.2 * report["one_viewer_mb"]
    assert report["viewers"]["answered"] > 50


def test_words_of_a_client_draw_nothing_new(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgemtl_runtime import draw as drawing

    drawn: list[Any] = []
    real = drawing.camera_panel

    def counted(pair: Any, result: Any, name: str, heads: Any, size: Any) -> Any:
        drawn.append((name, heads))
        return real(pair, result, name, heads, size)

    monkeypatch.setattr(drawing, "camera_panel", counted)
    web.write(*sample())
    for heads in ("boxes,semantic", "semantic,boxes", "boxes,semantic,odd", "odd,,semantic,boxes,boxes"):
        assert latest(web, f"panels=rgb&heads={heads}")["panels"]
    assert len(drawn) == 1
    every = "boxes,semantic,depth,normals,edges,attributes"
    assert latest(web, f"panels=rgb&heads={every}")["panels"] == latest(web, "panels=rgb")["panels"]
    for number in range(64):
        names = [name for bit, name in enumerate(every.split(",")) if number >> bit & 1]
        assert latest(web, f"panels=rgb,x{number}&heads={','.join(names)}")["panels"]
    assert len(drawn) <= MAX_HEAD_SELECTIONS + 1
    assert web.feed.latest is not None and len(web.feed.latest.cache) <= MAX_CACHED == 32


# Slow senders


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /healthz HTTP/1.1\r\nX-Long: " + b"x" * 20_000,
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
def test_a_long_request_is_cut_off(web: Web, request_: bytes) -> None:
    with connect(web) as line:
        answer = b""
        with contextlib.suppress(ConnectionError):
            line.sendall(request_)
            answer = line.recv(100)
        assert answer == b""
    wait_until(lambda: not web.server.connections)
    assert ask(web, "/healthz")[0] == 200


@pytest.mark.parametrize("first", [b"", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_a_trickle_of_bytes_is_cut_off(limited: Callable[..., Web], first: bytes) -> None:
    """Also on a connection that is kept alive after an answer."""
    assert LIMITS.request_timeout_s == 2
    web = limited(request_timeout_s=0.4)
    with connect(web, first) as line:
        begin = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() - begin < 5:
                line.sendall(b"x")
                time.sleep(0.05)
        assert time.monotonic() - begin < 3
    wait_until(lambda: not web.server.connections)


def test_connections_are_bounded_and_their_slots_come_free(web: Web) -> None:
    threads = threading.active_count()
    lines = [connect(web) for _ in range(2 * LIMITS.max_pending)]
    wait_until(lambda: len(web.server.connections) == LIMITS.max_pending == 64)
    assert lines[0].recv(1) == b""  # the oldest makes room
    assert ask(web, "/healthz")[0] == 200
    assert threading.active_count() == threads
    for line in lines:
        line.close()
    wait_until(lambda: not web.server.connections)
    assert ask(web, "/healthz")[0] == 200


def test_new_connections_are_bounded_too(limited: Callable[..., Web]) -> None:
    web = limited(max_new=8, settle_s=30)
    lines = [connect(web) for _ in range(20)]
    wait_until(lambda: lines[11].recv(1) == b"")
    assert len(web.server.connections) == 8
    for line in lines:
        line.close()


def test_the_oldest_without_a_request_makes_room(limited: Callable[..., Web]) -> None:
    web = limited(poll_timeout_s=30, request_timeout_s=30)
    connections = web.server.connections
    asked = connect(web, GET_LATEST.replace(b"latest", b"latest?after=9"))
    wait_until(lambda: len(connections.watching) == 1)
    begun = connect(web, b"GET /heal")
    silent = connect(web)
    wait_until(lambda: len(connections.pending) == 2)
    lines = [connect(web) for _ in range(LIMITS.max_pending)]
    wait_until(lambda: len(connections.pending) == LIMITS.max_pending and not connections.new)
    assert silent.recv(1) == b""
    for line in (asked, begun):  # what has asked stays, and what has begun to
        line.setblocking(False)
        with pytest.raises(BlockingIOError):
            line.recv(1)
    for line in (asked, begun, silent, *lines):
        line.close()


def test_a_connection_is_kept_alive_for_further_requests(web: Web) -> None:
    connection = http.client.HTTPConnection(*web.server.address, timeout=5)
    with closing(connection):
        for _ in range(3):
            connection.request("GET", "/healthz")
            reply = connection.getresponse()
            assert reply.status == 200 and reply.read() == b"running\n" and not reply.will_close
        assert len(web.server.connections) == 1


# Slow receivers


def test_a_slow_client_does_not_hold_up_the_network(web: Web) -> None:
    web.write(*sample(0))
    lines = [connect(web, GET_LATEST, 2048) for _ in range(8)]  # they ask, and receive nothing
    samples = [sample(index) for index in range(1, 300)]
    begin = time.monotonic()
    for pair, result in samples:
        web.write(pair, result)
    assert time.monotonic() - begin < 1
    assert latest(web)["index"] == 299
    for line in lines:
        line.close()


def test_a_client_that_does_not_receive_its_answer_is_cut_off(limited: Callable[..., Web]) -> None:
    assert (LIMITS.send_timeout_s, LIMITS.response_timeout_s) == (5, 15)
    web = limited(send_timeout_s=0.3)
    web.write(*sample(size=(1080, 1920)))
    with connect(web, GET_LATEST * 40, 2048):  # more than the system's buffers hold
        wait_until(lambda: web.server.connections.watching)
        wait_until(lambda: not web.server.connections)


def test_an_answer_that_takes_too_long_is_cut_off(limited: Callable[..., Web]) -> None:
    web = limited(poll_timeout_s=30, response_timeout_s=0.3)
    with connect(web, GET_LATEST) as line:
        assert line.recv(1) == b""
    wait_until(lambda: not web.server.connections)


def test_nothing_is_drawn_for_a_client_that_has_closed(
    limited: Callable[..., Web], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from edgemtl_runtime import draw as drawing

    drawn: list[str] = []
    monkeypatch.setattr(drawing, "camera_panel", lambda *words: drawn.append(words[2]))
    caplog.set_level(logging.WARNING)
    web = limited(poll_timeout_s=30)
    with connect(web, GET_LATEST):
        wait_until(lambda: web.server.connections.watching)
    wait_until(lambda: not web.server.connections)
    web.write(*sample())
    assert ask(web, "/healthz")[0] == 200 and not drawn and not caplog.records


def test_too_many_who_watch_are_rejected(limited: Callable[..., Web]) -> None:
    assert LIMITS.max_watching == 256
    web = limited(max_watching=3, poll_timeout_s=30)
    waiting = [threading.Thread(target=lambda: latest(web, "after=9")) for _ in range(3)]
    for thread in waiting:
        thread.start()
    wait_until(lambda: len(web.server.connections.watching) == 3)
    code, headers, _ = ask(web, "/latest")
    assert code == 503 and headers["Retry-After"] == "5" and ask(web, "/healthz")[0] == 200
    web.write(*sample(10))
    for thread in waiting:
        thread.join()
    wait_until(lambda: not web.server.connections.watching)


def test_the_oldest_that_does_not_watch_makes_room(limited: Callable[..., Web]) -> None:
    assert LIMITS.max_active == 320
    web = limited(max_active=2, poll_timeout_s=30)
    lines = []
    for count in (1, 2):
        lines.append(connect(web, GET_LATEST))
        wait_until(lambda count=count: len(web.server.connections.watching) == count)
    assert ask(web, "/healthz")[0] == 200  # all watch: the oldest of all
    assert lines[0].recv(1) == b"" and len(web.server.connections.watching) == 1
    for line in lines:
        line.close()


def test_health_waits_for_nobody_who_draws(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgemtl_runtime import draw as drawing

    release = threading.Event()
    monkeypatch.setattr(drawing, "camera_panel", lambda *_: release.wait(20) and None)
    web.write(*sample())
    drawer = threading.Thread(target=lambda: ask(web, "/latest"))
    drawer.start()
    wait_until(lambda: web.server.connections.watching)
    for path in ("/healthz", "/readyz", "/metrics", "/status"):
        begin = time.monotonic()
        assert ask(web, path)[0] in (200, 503) and time.monotonic() - begin < 1
    release.set()
    drawer.join()


# The end


def test_closing_answers_those_who_wait_and_is_prompt(web: Web) -> None:
    web.write(*sample(0))
    stuck = connect(web)
    answers: list[float] = []

    def poll() -> None:
        assert latest(web, "after=0")["panels"] == {}
        answers.append(time.monotonic())

    pollers = [threading.Thread(target=poll) for _ in range(3)]
    for poller in pollers:
        poller.start()
    wait_until(lambda: len(web.server.connections) == 4 and len(web.server.connections.watching) == 3)
    begin = time.monotonic()
    web.close()
    web.close()
    assert time.monotonic() - begin < 1.5
    for poller in pollers:
        poller.join(5)
    assert len(answers) == 3 and max(answers) - begin < 1.5
    assert stuck.recv(1) == b"" and not web.server.thread.is_alive()
    Web(urlsplit(web.url).netloc, "", RunState()).close()  # the port is free again
    web.write(*sample(1))  # a result that comes too late is no error


def test_closing_waits_for_nobody_who_is_slow(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    web.write(*sample(size=(1080, 1920)))
    lines = [connect(web, GET_LATEST * 20, 2048) for _ in range(4)]
    wait_until(lambda: len(web.server.connections.watching) == 4)
    begin = time.monotonic()
    web.close()
    assert time.monotonic() - begin < 1.5 and not web.server.thread.is_alive() and not caplog.records
    for line in lines:
        line.close()


def test_a_page_may_close_as_soon_as_it_is_open() -> None:
    begin = time.monotonic()
    web = Web("0", "", RunState())
    web.close()
    assert not web.server.thread.is_alive() and time.monotonic() - begin < 2


def test_percentiles_are_counted_once_for_all_viewers(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgemtl_runtime import stats as module

    stats, counted = Stats(), [0]
    real = module.np.percentile

    def percentile(*given: Any) -> Any:
        counted[0] += 1
        return real(*given)

    stats.skew.append(5_000_000)
    monkeypatch.setattr(module.np, "percentile", percentile)
    for _ in range(50):
        assert stats.to_dict(recent=True)["skew_ms"]["p50"] == 5.0
    assert counted == [1]
    stats.skew.append(9_000_000)
    assert stats.to_dict()["skew_ms"]["max"] == 9.0
