"""A page under load still says how the run is, and does not grow."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from test_web import State, ask, latest, seen, until

from edgemtl_runtime.sink.web import MOST_CHOICES, Web, places
from edgemtl_runtime.sink.web.places import MOST_ASKING, Places
from edgemtl_runtime.stats import Stats


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_health_is_told_within_a_second_whoever_else_is_there() -> None:
    """500 half-open connections and 200 viewers, each with a choice of heads of its own."""
    words = [sys.executable, str(Path(__file__).with_name("web_load.py")), "500", "200", "6"]
    told = json.loads(subprocess.run(words, capture_output=True, text=True, check=True, timeout=120).stdout)
    assert told["failed"] == 0 and told["asked"] > 5
    assert told["healthz_ms"]["100"] < 1000
    assert told["loaded_mb"] < 1.2 * told["one_viewer_mb"]
    assert told["viewers"]["answered"] > 200


@pytest.fixture
def web() -> Any:
    served = Web("0", "", State())
    yield served
    served.close()


def test_words_of_a_client_draw_nothing_new(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgemtl_runtime import draw as drawing

    drawn: list[Any] = []
    real = drawing.camera_panel

    def counted(pair: Any, result: Any, name: str, heads: Any, size: Any) -> Any:
        drawn.append((name, heads))
        return real(pair, result, name, heads, size)

    monkeypatch.setattr(drawing, "camera_panel", counted)
    web.write(*seen())
    for heads in ("boxes,semantic", "semantic,boxes", "boxes,semantic,odd", "odd,,semantic,boxes,boxes"):
        assert latest(web, f"panels=rgb&heads={heads}")["panels"]
    assert len(drawn) == 1
    every = "boxes,semantic,depth,normals,edges,attributes"
    assert latest(web, f"panels=rgb&heads={every}")["panels"] == latest(web, "panels=rgb")["panels"]
    for number in range(64):
        names = [name for bit, name in enumerate(every.split(",")) if number >> bit & 1]
        assert latest(web, f"panels=rgb,x{number}&heads={','.join(names)}")["panels"]
    assert len(drawn) <= MOST_CHOICES + 1 and web.latest is not None and len(web.latest.drawn) <= 32


@pytest.mark.parametrize(
    "request_", [b"GET /healthz HTTP/1.1\r\nX-Long: " + b"x" * 20_000, b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n"]
)
def test_a_long_request_is_cut_off(web: Web, request_: bytes) -> None:
    with socket.create_connection(web.server.server_address[:2], timeout=5) as line:
        answer = b""
        with contextlib.suppress(ConnectionError):
            line.sendall(request_)
            answer = line.recv(100)
        assert answer == b""
    until(lambda: not web.server.places)
    assert ask(web, "/healthz")[0] == 200


def test_too_many_who_watch_are_told_so(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "MOST_WATCHING", 3)
    waiting = [threading.Thread(target=lambda: latest(web, "after=9")) for _ in range(3)]
    for thread in waiting:
        thread.start()
    until(lambda: len(web.server.places.watching) == 3)
    code, headers, _ = ask(web, "/latest")
    assert code == 503 and headers["Retry-After"] == "5" and ask(web, "/healthz")[0] == 200
    for thread in waiting:
        thread.join()
    until(lambda: not web.server.places.watching)


def test_health_waits_for_nobody_who_draws(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgemtl_runtime import draw as drawing

    release = threading.Event()
    monkeypatch.setattr(drawing, "camera_panel", lambda *_: release.wait(20) and None)
    web.write(*seen())
    drawer = threading.Thread(target=lambda: ask(web, "/latest"))
    drawer.start()
    until(lambda: web.server.places.watching)
    for path in ("/healthz", "/readyz", "/metrics", "/status"):
        begun = time.monotonic()
        assert ask(web, path)[0] in (200, 503) and time.monotonic() - begun < 1
    release.set()
    drawer.join()


def test_the_oldest_that_has_not_asked_makes_room() -> None:
    pairs = [socket.socketpair() for _ in range(MOST_ASKING + 2)]
    held = Places()
    for ours, _ in pairs[:2]:
        held.enter(ours)
    held.asked(pairs[0][0])
    for ours, _ in pairs[2:]:
        held.enter(ours)
    assert pairs[1][1].recv(1) == b"" and len(held.asking) == MOST_ASKING  # the first has asked and stays
    pairs[0][1].setblocking(False)
    with pytest.raises(BlockingIOError):
        pairs[0][1].recv(1)
    for pair in pairs:
        for end in pair:
            end.close()


def test_percentiles_are_counted_once_for_all_who_look(monkeypatch: pytest.MonkeyPatch) -> None:
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
