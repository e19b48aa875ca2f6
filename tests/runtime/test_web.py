"""The web page: what it answers, to whom, and that it works in a browser."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgemtl_runtime.draw import camera_panel, cameras, canvas, draw, map_panel, write
from edgemtl_runtime.errors import EdgemtlError
from edgemtl_runtime.frame import Frame, FramePair
from edgemtl_runtime.result import Attributes, Boxes, DepthMap, EdgeMap, LabelMap, NormalMap, Result
from edgemtl_runtime.sink.web import Web, is_loopback, places
from edgemtl_runtime.sink.web.places import MOST_ASKING
from edgemtl_runtime.sink.web.server import is_loopback_host, parse_address

SIZE = (48, 64)


def seen(index: int = 0, absent: tuple[str, ...] = (), size: tuple[int, int] = SIZE) -> tuple[FramePair, Result]:
    """Return a pair and a result of every kind of head; the pictures' brightness rises with the index."""
    grey = np.full(size, 100 + index % 100, np.uint8)
    images = {"rgb": np.dstack([grey, grey // 2, grey // 3]), "ir": grey}
    now = time.monotonic_ns()
    frames = {n: Frame(i, now, n, index, arrived_ns=now) for n, i in images.items() if n not in absent}
    heads = {
        "boxes": Boxes(
            np.array([[8, 8, 40, 40]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int64), ("person", "car")
        ),
        "semantic": LabelMap((np.arange(size[0])[:, None] * np.ones(size) > 20).astype(np.uint8), ("sky", "road")),
        "depth": DepthMap(np.linspace(1, 30, size[0] * size[1], dtype=np.float32).reshape(size)),
        "normals": NormalMap(np.full((*size, 3), 1 / np.sqrt(3), np.float32)),
        "edges": EdgeMap(np.eye(*size, dtype=np.float32), 0.5),
        "attributes": Attributes(np.array([0.9], np.float32), ("day",), 0.5),
    }
    return FramePair(frames), Result(heads, "rgb", now, 2_000_000, index, absent=absent)


class State:
    """A run's state, to be changed by a test."""

    def __init__(self) -> None:
        camera = {"fps": 9.0, "age_ms": 12.0, "stamp_source": "driver", "frames": 40, "reconnects": 2}
        latency = {"p50": 20.0, "p90": 25.0, "p99": 40.0, "max": 50.0}
        self.told: dict[str, Any] = {
            "running": True,
            "cameras": {name: {"state": "live", "detail": "", **camera} for name in ("rgb", "ir")},
            "stats": {
                "frames": {"rgb": 40, "ir": 41},
                "pairs": 39,
                "uncertain": 2,
                "drops": {"ir: no partner": 2, 'odd "cause"\\': 1},
                "seconds": 4.0,
                "pairs_per_second": 9.5,
                "skew_ms": {"p50": 3.0, "p90": 4.0, "p99": 5.0, "max": 6.0},
                "latency_ms": {"infer": dict.fromkeys(latency, 7.0), "total": latency},
            },
            "last_result_age_ms": 30.0,
            "warnings": [],
        }

    def __call__(self) -> dict[str, Any]:
        return json.loads(json.dumps(self.told))  # type: ignore[no-any-return]


@pytest.fixture
def state() -> State:
    """The state of a run that is as it should be."""
    return State()


@pytest.fixture
def web(state: State) -> Iterator[Web]:
    """A page without a token at a free port."""
    served = Web("0", "", state)
    yield served
    served.close()


def ask(
    web: Web, path: str, headers: dict[str, str] | None = None, method: str = "GET"
) -> tuple[int, dict[str, str], bytes]:
    """Return the code, the headers and the body of one answer; redirects are not followed."""
    connection = http.client.HTTPConnection("127.0.0.1", web.server.server_address[1], timeout=10)
    with contextlib.closing(connection):
        connection.request(method, path, headers=headers or {})
        reply = connection.getresponse()
        return reply.status, dict(reply.getheaders()), reply.read()


def latest(web: Web, query: str = "") -> dict[str, Any]:
    """Return the answer of /latest."""
    code, _, body = ask(web, f"/latest?{query}")
    assert code == 200, body
    return json.loads(body)  # type: ignore[no-any-return]


def decoded(url: str) -> np.ndarray:
    """Return the RGB picture of a data URL."""
    kind, _, data = url.partition(",")
    assert kind == "data:image/jpeg;base64"
    return cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]


def until(what: Callable[[], Any], seconds: float = 10) -> Any:
    """Wait until something holds, and return it."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.05)
    return found


# Panels


def test_a_picture_of_all_is_its_panels_side_by_side() -> None:
    pair, result = seen()
    size = canvas(pair, result)
    panels = [camera_panel(pair, result, name) for name in ("rgb", "ir")]
    panels += [p for head in result.heads.values() if (p := map_panel(head, size)) is not None]
    whole = draw(pair, result)
    assert len(panels) == 5 and whole.shape == (size.height, 5 * size.width, 3)
    upper = np.concatenate(panels, 1)[: size.height - 20]  # below, every panel's name is written
    assert np.array_equal(whole[: size.height - 20], upper)


@pytest.mark.parametrize("absent", ["rgb", "ir"])
def test_an_absent_camera_keeps_its_place_in_a_drawing(absent: str) -> None:
    pair, result = seen(0, (absent,))
    assert draw(pair, result).shape == draw(*seen()).shape and cameras(pair, result) == ["rgb", "ir"]
    panel = camera_panel(pair, result, absent)
    assert (panel == 60).all(2).mean() > 0.9 and (panel == panel[:, :, :1]).all() and panel.max() > 150
    there = camera_panel(pair, result, "ir" if absent == "rgb" else "rgb", {"semantic"})
    plain = camera_panel(pair, result, "ir" if absent == "rgb" else "rgb", set())
    assert not np.array_equal(there, plain)  # the label map is laid over the camera that is left


def test_a_tracked_box_keeps_the_colour_of_its_class_and_tells_its_number() -> None:
    pair, result = seen()
    plain = camera_panel(pair, result, "ir", {"boxes"})
    boxes = result.heads["boxes"]
    assert isinstance(boxes, Boxes)
    for track, alike in ((7, False), (-1, True)):  # -1 is a box that no track follows
        result.heads["boxes"] = replace(boxes, tracks=np.array([track]))
        tracked = camera_panel(pair, result, "ir", {"boxes"})
        assert np.array_equal(plain, tracked) == alike
        lower = slice(60, None)  # the box itself, below its writing
        assert np.array_equal(plain[lower], tracked[lower])


def test_writing_at_the_edge_is_moved_inside() -> None:
    inside, edge = np.zeros((2, 60, 200, 3), np.uint8)
    write(inside, "person 0.91", (20, 30), 0.35, (255, 255, 255))
    write(edge, "person 0.91", (180, 30), 0.35, (255, 255, 255))
    assert inside.any() and inside.sum() == edge.sum()


@pytest.mark.parametrize("depth_m", [0.0, np.nan, np.inf])
def test_a_depth_without_meaning_is_drawn_without_a_warning(depth_m: float) -> None:
    depth = np.ones(SIZE, np.float32)
    depth[0] = depth_m
    panel = map_panel(DepthMap(depth), canvas(*seen()))
    assert panel is not None and np.array_equal(panel[0, 0], [0, 0, 0])


# Addresses


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("8080", ("127.0.0.1", 8080)),
        (":8080", ("127.0.0.1", 8080)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:80", ("::1", 80)),
    ],
)
def test_an_address_is_a_port_with_or_without_a_host(address: str, expected: tuple[str, int]) -> None:
    assert parse_address(address) == expected


@pytest.mark.parametrize("address", ["", "host", "host:", "1:2:3", "127.0.0.1:65536", "http://x:80", ":-1", "::1:80"])
def test_a_wrong_address_is_told(address: str) -> None:
    with pytest.raises(EdgemtlError, match="give HOST:PORT"):
        parse_address(address)


@given(st.ip_addresses(v=4))
def test_only_127_is_loopback(ip: Any) -> None:
    assert is_loopback_host(str(ip)) == is_loopback(f"{ip}:80") == str(ip).startswith("127.")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "[::]", "robot.local", "127.0.0.1.example.org"])
def test_another_host_than_loopback_needs_a_token(host: str, state: State) -> None:
    with pytest.raises(EdgemtlError, match="give --token"):
        Web(f"{host}:0", "", state)


def test_a_port_that_is_taken_is_told(web: Web, state: State) -> None:
    with pytest.raises(EdgemtlError, match=r"cannot be served \(Address already in use\)"):
        Web(urlsplit(web.url).netloc, "", state)


def test_ipv6_is_served_too(state: State) -> None:
    try:
        served = Web("[::1]:0", "", state)
    except EdgemtlError as error:
        pytest.skip(str(error))
    with contextlib.closing(served), urllib.request.urlopen(f"{served.url}healthz", timeout=5) as reply:
        assert reply.status == 200


# The latest result


def test_a_new_result_is_waited_for_and_comes_with_its_pictures(web: Web) -> None:
    threading.Timer(0.4, lambda: web.write(*seen(3))).start()
    begun = time.monotonic()
    told = latest(web, "after=-1")
    assert 0.3 < time.monotonic() - begun < 1.9
    assert told["index"] == 3 and told["result"] == seen(3)[1].to_dict() | {"stamp_ns": told["result"]["stamp_ns"]}
    assert list(told["panels"]) == ["rgb", "ir", "depth", "normals", "edges"]
    assert all(decoded(url).shape == (480, 640, 3) for url in told["panels"].values())
    assert 0 <= told["latency_ms"] < 1000 and told["status"]["stats"]["pairs"] == 39
    assert told["views"]["heads"]["semantic"]["colours"].keys() == {"sky", "road"}
    assert {n: h["kind"] for n, h in told["views"]["heads"].items()} == {
        **dict.fromkeys(("boxes", "semantic", "attributes"), "overlay"),
        **dict.fromkeys(("depth", "normals", "edges"), "map"),
    }


def test_without_a_new_result_the_state_is_told_after_two_seconds(web: Web) -> None:
    web.write(*seen(5))
    begun = time.monotonic()
    told = latest(web, "after=5")
    assert 1.9 < time.monotonic() - begun < 4 and told["panels"] == {} and told["index"] == 5
    assert told["status"]["cameras"]["rgb"]["state"] == "live"


def test_panels_and_heads_are_drawn_as_asked(web: Web) -> None:
    web.write(*seen())
    bare, boxed, labelled = (
        {n: decoded(u) for n, u in latest(web, f"panels=rgb,ir,nothing&heads={heads}")["panels"].items()}
        for heads in ("", "boxes", "semantic,unknown")
    )
    assert bare.keys() == boxed.keys() == {"rgb", "ir"}
    assert np.ptp(bare["ir"]) < 8 and np.ptp(boxed["ir"]) > 100 and np.ptp(labelled["ir"]) < 8
    assert np.abs(bare["rgb"].astype(int) - labelled["rgb"]).max() > 20
    assert list(latest(web, "heads=boxes,depth")["panels"]) == ["rgb", "ir", "depth"]


def test_a_large_picture_is_shown_smaller(web: Web) -> None:
    web.write(*seen(size=(1080, 1920)))
    assert decoded(latest(web, "panels=rgb,depth")["panels"]["rgb"]).shape == (540, 960, 3)


def test_an_absent_camera_is_told_and_never_shown_by_its_old_picture(web: Web) -> None:
    web.write(*seen(0))
    before = decoded(latest(web)["panels"]["ir"])
    web.write(*seen(1, ("ir",)))
    told = latest(web, "after=0")
    after = decoded(told["panels"]["ir"])
    assert told["views"]["absent"] == ["ir"] == told["result"]["absent"] and before.mean() > 90
    assert abs(int(np.median(after)) - 60) <= 1 and set(told["panels"]) >= {"rgb", "ir"}


def test_an_index_that_is_none_is_refused(web: Web) -> None:
    assert ask(web, "/latest?after=x")[0] == 400


def test_what_many_look_at_is_drawn_once(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgemtl_runtime import draw as drawing

    count, real = [0], drawing.camera_panel

    def counted(*given: Any) -> Any:
        count[0] += 1
        return real(*given)

    monkeypatch.setattr(drawing, "camera_panel", counted)
    web.write(*seen())
    assert count == [0]  # nobody looks, nothing is drawn
    for _ in range(5):
        latest(web, "panels=rgb&heads=boxes")
    assert count == [1]


# For monitoring


def test_metrics_say_what_the_state_says(web: Web) -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    code, headers, body = ask(web, "/metrics")
    assert code == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4")
    values = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in parser.text_string_to_metric_families(body.decode())
        for sample in family.samples
    }
    assert values["edgemtl_frames_total", "ir"] == 41 and values["edgemtl_pairs_total",] == 39
    assert values["edgemtl_drops_total", "ir: no partner"] == 2 and values["edgemtl_drops_total", 'odd "cause"\\'] == 1
    assert values["edgemtl_latency_seconds", "0.99", "total"] == 0.04
    assert values["edgemtl_latency_seconds", "1", "infer"] == 0.007
    assert values["edgemtl_skew_seconds", "0.5"] == 0.003 and values["edgemtl_camera_up", "rgb"] == 1
    assert values["edgemtl_camera_reconnects_total", "ir"] == 2
    assert values["edgemtl_last_result_age_seconds",] == 0.03 and len(values) == 25
    assert values["edgemtl_pairs_uncertain_total",] == 2


def test_metrics_follow_a_lost_camera_and_a_run_without_a_result(web: Web, state: State) -> None:
    pytest.importorskip("prometheus_client")
    state.told["cameras"]["rgb"]["state"] = "lost"
    state.told["cameras"]["ir"] = {"state": "absent", "detail": "left out", "fps": 0.0, "age_ms": None}
    state.told["last_result_age_ms"] = None
    body = ask(web, "/metrics")[2].decode()
    assert 'edgemtl_camera_up{camera="rgb"} 0.0' in body and 'edgemtl_camera_up{camera="ir"} 0.0' in body
    assert 'edgemtl_camera_reconnects_total{camera="ir"} 0.0' in body and "last_result_age" not in body


def test_without_prometheus_client_it_is_told_what_to_install(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    code, _, body = ask(web, "/metrics")
    assert code == 503 and body.count(b"\n") == 1 and b"pip install 'edgemtl-runtime[metrics]'" in body


def test_health_is_that_of_the_run(web: Web, state: State) -> None:
    assert ask(web, "/healthz")[0] == 200 and json.loads(ask(web, "/status")[2]) == state.told
    state.told["running"] = False
    assert ask(web, "/healthz")[0] == 503


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"last_result_age_ms": None}, "no result yet"),
        ({"last_result_age_ms": 2500.0}, "the last result is 2.5 s old"),
        ({"running": False}, "the run is not going"),
        ({"state": "lost", "detail": "unplugged"}, "ir: lost: unplugged"),
        ({"state": "starting"}, "ir: starting"),
        ({"state": "stale"}, None),
        ({"state": "absent"}, None),
    ],
)
def test_readiness_tells_every_reason(web: Web, state: State, change: dict[str, Any], reason: str | None) -> None:
    assert ask(web, "/readyz")[0] == 200
    (state.told["cameras"]["ir"] if "state" in change else state.told).update(change)
    code, _, body = ask(web, "/readyz")
    assert (code, body.decode()) == ((200, "ready\n") if reason is None else (503, f"{reason}\n"))
    state.told["cameras"]["rgb"]["state"] = "lost"
    lines = ask(web, "/readyz")[2].decode().splitlines()
    assert sorted(lines) == sorted(["rgb: lost", *([reason] if reason else [])])


# Who may look, and at what


@pytest.mark.parametrize("path", ["/nothing", "/page.html", "/../server.py", "/%2e%2e/server.py", "/latest/", "*"])
def test_there_are_no_other_pages(web: Web, path: str) -> None:
    assert ask(web, path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "BREW"])
def test_other_methods_are_refused(web: Web, method: str) -> None:
    code, headers, body = ask(web, "/latest", method=method)
    assert code == 405 and headers["Allow"] == "GET" and (method != "HEAD" or not body)


@pytest.mark.parametrize("token", ["secret", "schlüssel; =\"',", "a b+c%&/?#"])
def test_a_token_is_asked_for_everything(state: State, token: str) -> None:
    with contextlib.closing(Web("127.0.0.1:0", token, state)) as web:
        for path in ("/", "/latest", "/status", "/metrics", "/healthz", "/readyz", "/nothing"):
            assert ask(web, path)[0] == 401
        assert ask(web, "/status", method="POST")[0] == 401
        assert ask(web, f"/?token={quote(token[:-1])}")[0] == ask(web, "/?token=")[0] == 401
        bearer = {"Authorization": f"Bearer {token}".encode()}
        assert ask(web, "/healthz", bearer)[0] == 200  # type: ignore[arg-type]
        assert ask(web, "/healthz", {"Authorization": "Bearer x"})[0] == 401
        parts = urlsplit(web.link)
        code, headers, _ = ask(web, f"{parts.path}?{parts.query}")
        assert code == 303 and headers["Location"] == "/"
        cookie, *flags = headers["Set-Cookie"].split("; ")
        assert {"HttpOnly", "SameSite=Strict"} <= set(flags) and token not in cookie
        assert ask(web, "/", {"Cookie": cookie})[0] == 200
        assert ask(web, "/", {"Cookie": cookie[:-1] + ("0" if cookie[-1] != "0" else "1")})[0] == 401
        assert ask(web, "/", {"Cookie": "a=b; =;;"})[0] == 401


def test_with_a_token_another_host_is_served(state: State) -> None:
    with contextlib.closing(Web("0.0.0.0:0", "secret", state)) as web:
        assert ask(web, "/healthz", {"Host": "robot.example", "Authorization": "bearer secret"})[0] == 200
        assert "0.0.0.0" not in web.url and web.link.endswith("/?token=secret")


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("127.0.0.1", 200),
        ("127.8.9.1:1", 200),
        ("LOCALHOST:9000", 200),
        ("[::1]:80", 200),
        ("evil.example", 403),
        ("localhost.evil.example:8080", 403),
        ("127.0.0.1.evil.example", 403),
        ("evil.example:127.0.0.1", 403),
        ("192.0.2.1", 403),
        ("", 403),
    ],
)
def test_a_name_that_was_rebound_to_this_machine_is_refused(web: Web, host: str, code: int) -> None:
    assert ask(web, "/healthz", {"Host": host})[0] == code


def test_a_request_without_a_host_is_refused(web: Web) -> None:
    with socket.create_connection(web.server.server_address[:2], timeout=5) as line:
        line.sendall(b"GET /status HTTP/1.0\r\n\r\n")
        assert b" 403 " in line.makefile("rb").readline()


def test_the_page_is_one_file_with_a_policy_of_its_own(web: Web) -> None:
    _, headers, body = ask(web, "/")
    page, policy = body.decode(), headers["Content-Security-Policy"]
    nonce = policy.split("script-src 'nonce-")[1].split("'")[0]
    assert page.count(f'<script nonce="{nonce}">') == page.count("<script") == 1
    assert page.count(f'<style nonce="{nonce}">') == page.count("<style") == 1
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert set(part.split("'")[0].split('"')[0] for part in page.split("http://")[1:]) == {"www.w3.org/2000/svg"}
    assert "https://" not in page and 'style="' not in page and "innerHTML" not in page
    assert nonce not in ask(web, "/")[1]["Content-Security-Policy"]


@pytest.mark.parametrize("path", ["/", "/latest", "/nothing"])
def test_every_answer_is_guarded(web: Web, path: str) -> None:
    web.write(*seen())
    headers = ask(web, path)[1]
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Cache-Control"] == "no-store"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


def test_a_mistake_is_told_and_the_page_goes_on(web: Web, state: State) -> None:
    told = state.told.pop("cameras")
    code, _, body = ask(web, "/readyz")
    assert code == 500 and body == b"KeyError: 'cameras'\n"
    state.told["cameras"] = told
    assert ask(web, "/readyz")[0] == 200


# Those who are slow, and the end


def test_a_slow_client_does_not_hold_up_the_network(web: Web) -> None:
    web.write(*seen(0))
    lines = []
    for _ in range(8):  # they ask, and take nothing
        line = socket.socket()
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        line.connect(web.server.server_address[:2])
        line.sendall(b"GET /latest HTTP/1.1\r\nHost: localhost\r\n\r\n")
        lines.append(line)
    made = [seen(index) for index in range(1, 300)]
    begun = time.monotonic()
    for pair, result in made:
        web.write(pair, result)
    assert time.monotonic() - begun < 1
    assert latest(web)["index"] == 299
    for line in lines:
        line.close()


def test_connections_are_bounded_and_their_places_come_free(web: Web) -> None:
    lines = [socket.create_connection(web.server.server_address[:2], timeout=5) for _ in range(2 * MOST_ASKING)]
    until(lambda: len(web.server.places) == MOST_ASKING)
    assert lines[0].recv(1) == b""  # the oldest makes room
    assert ask(web, "/healthz")[0] == 200
    assert threading.active_count() < MOST_ASKING + 20
    for line in lines:
        line.close()
    until(lambda: not web.server.places)
    assert ask(web, "/healthz")[0] == 200


def test_a_trickle_of_bytes_is_cut_off(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "ASKING_S", 0.5)
    with socket.create_connection(web.server.server_address[:2], timeout=5) as line:
        begun = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() - begun < 5:
                line.sendall(b"x")
                time.sleep(0.05)
        assert time.monotonic() - begun < 3


def test_closing_answers_those_who_wait_and_is_prompt(state: State) -> None:
    web = Web("0", "", state)
    web.write(*seen(0))
    stuck = socket.create_connection(web.server.server_address[:2])
    answers: list[float] = []

    def poll() -> None:
        assert latest(web, "after=0")["panels"] == {}
        answers.append(time.monotonic())

    pollers = [threading.Thread(target=poll) for _ in range(3)]
    for poller in pollers:
        poller.start()
    until(lambda: len(web.server.places) == 4)
    time.sleep(0.2)
    begun = time.monotonic()
    web.close()
    web.close()
    assert time.monotonic() - begun < 1.5
    for poller in pollers:
        poller.join(5)
    assert len(answers) == 3 and max(answers) - begun < 1.5
    assert stuck.recv(1) == b"" and not web.server.thread.is_alive()
    Web(urlsplit(web.url).netloc, "", state).close()  # the port is free again


def test_a_run_is_watched_while_it_goes_and_after_it_has_stopped(toy_bundle: Path) -> None:
    from edgemtl_runtime.bundle import Bundle
    from edgemtl_runtime.camera import open_cameras
    from edgemtl_runtime.engine.onnxruntime import OrtEngine
    from edgemtl_runtime.pipeline import Pipeline

    opened = Bundle.open(toy_bundle)
    given = open_cameras(dict.fromkeys(("rgb", "ir"), "pattern:?fps=30"))
    pipeline = Pipeline(opened, OrtEngine(opened.model, 1), given)
    web = Web("0", "", pipeline.status)
    run = threading.Thread(target=pipeline.run, args=([web],), daemon=True)
    run.start()
    try:
        first = latest(web)
        told = latest(web, f"after={first['index']}")
        assert told["index"] > first["index"] >= 0 and set(told["panels"]) == {"rgb", "ir"}
        until(lambda: ask(web, "/readyz")[0] == 200)
        assert b"edgemtl_pairs_total" in ask(web, "/metrics")[2]
        assert set(json.loads(ask(web, "/status")[2])["cameras"]) == {"rgb", "ir"}
    finally:
        pipeline.stop()
    run.join(5)
    assert not run.is_alive() and not web.server.thread.is_alive()


# In a browser


class Browser:
    """A headless Chromium, driven through chromedriver (W3C WebDriver) without a library."""

    def __init__(self, folder: Path) -> None:
        chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
        if not chromium or not driver:
            pytest.skip("needs chromium and chromedriver")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.base = f"http://127.0.0.1:{free.getsockname()[1]}"
        self.process = subprocess.Popen(
            [driver, f"--port={self.base.rpartition(':')[2]}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        flags = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
        flags += f"disable-component-update disable-sync user-data-dir={folder}"
        options = {"binary": chromium, "args": [f"--{flag}" for flag in flags.split()]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        until(self.is_there, 20)
        self.base += "/session/" + self("", {"capabilities": {"alwaysMatch": wanted}}, "/session")["sessionId"]

    def is_there(self) -> bool:
        """Whether the driver answers."""
        try:
            return bool(self("", None, "/status")["ready"])
        except OSError:
            return False

    def __call__(self, path: str, body: dict[str, Any] | None = None, prefix: str = "") -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(self.base + prefix + path, data), timeout=30) as reply:
            return json.loads(reply.read())["value"]

    def run(self, script: str) -> Any:
        """Run a script in the page and return what it returns."""
        return self("/execute/sync", {"script": script, "args": []})

    def resize(self, width: int, height: int) -> None:
        """Set the size of the page."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self("/goog/cdp/execute", {"cmd": "Emulation.setDeviceMetricsOverride", "params": size})

    def click(self, selector: str) -> None:
        """Click as a person does: on what is really there to be clicked."""
        found = self("/element", {"using": "css selector", "value": selector})
        self(f"/element/{next(iter(found.values()))}/click", {})

    def close(self) -> None:
        """End the browser and its driver."""
        with contextlib.suppress(OSError):
            urllib.request.urlopen(urllib.request.Request(self.base, method="DELETE"), timeout=10).close()
        self.process.terminate()
        self.process.wait(10)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests."""
    opened = Browser(tmp_path_factory.mktemp("chromium"))
    yield opened
    opened.close()


@pytest.fixture
def page(web: Web, browser: Browser) -> Iterator[Browser]:
    """The browser; it leaves the page before its server goes."""
    yield browser
    browser("/url", {"url": "about:blank"})
    browser("/se/log", {"type": "browser"})


@pytest.fixture
def live(web: Web, state: State) -> Iterator[Callable[[str], None]]:
    """The page fed with drawn streets; call it with a camera's name to lose that camera."""
    from edgemtl.synthetic.streets import Streets, street
    from edgemtl.visualize import perfect_result

    samples = [street(5, (120, 160), is_day=True, time_s=0.2 * i) for i in range(4)]
    heads = [{t: perfect_result(t, s.labels[t], Streets.classes[t]) for t in Streets.classes} for s in samples]
    ended, absent = threading.Event(), []

    def feed() -> None:
        index = 0
        while not ended.wait(0.1):
            now = time.monotonic_ns()
            images = samples[index % 4].images.items()
            frames = {n: Frame(i, now, n, index, arrived_ns=now) for n, i in images if n not in absent}
            result = Result(heads[index % 4], "rgb", now, 2_000_000, index, absent=tuple(absent))
            web.write(FramePair(frames), result)
            state.told["stats"]["pairs"] = index = index + 1

    def lose(camera: str) -> None:
        absent.append(camera)
        state.told["cameras"][camera] |= {"state": "lost", "detail": "unplugged <b>here</b>"}

    thread = threading.Thread(target=feed)
    thread.start()
    yield lose
    ended.set()
    thread.join()


PICTURES = "return [...document.querySelectorAll('.view img')].filter(i => i.naturalWidth).length"
REQUESTS = "return performance.getEntriesByType('resource').map(e => e.name).filter(n => n.includes('heads='))"


def asked(browser: Browser, name: str) -> list[str]:
    """Return a list in the page's latest request."""
    requests = browser.run(REQUESTS)
    return (
        parse_qs(urlsplit(requests[-1]).query, keep_blank_values=True)[name][0].split(",") if requests else ["nothing"]
    )


def test_the_page_shows_cameras_and_maps_and_heads_are_switched(
    web: Web, live: Callable[[str], None], page: Browser
) -> None:
    page.resize(1400, 900)
    page("/url", {"url": web.url})
    until(lambda: page.run(PICTURES) == 5, 20)
    heads = ["boxes", "semantic", "depth", "normals", "edges", "attributes"]
    until(lambda: asked(page, "heads") == heads)
    assert page.run("return document.querySelector('#link').textContent") == "running"
    rows = page.run("return [...document.querySelectorAll('.view')].map(v => v.getBoundingClientRect().top)")
    assert rows[0] == rows[1] < rows[2] == rows[3] == rows[4]  # cameras side by side, maps below

    first = page.run("return document.querySelector('[data-name=rgb] img').src")
    until(lambda: page.run("return document.querySelector('[data-name=rgb] img').src") != first)
    page.run("performance.clearResourceTimings()")
    page.click("button[data-head=boxes]")
    page.click("button[data-head=depth]")
    until(lambda: asked(page, "heads") == ["semantic", "normals", "edges", "attributes"])
    assert asked(page, "panels") == ["rgb", "ir", "normals", "edges"]
    assert page.run("return document.querySelector('[data-head=boxes]').getAttribute('aria-pressed')") == "false"
    until(lambda: page.run(PICTURES) == 4)
    page("/url", {"url": web.url})  # what was switched off stays off
    until(lambda: "boxes" not in asked(page, "heads") and asked(page, "heads") != ["nothing"])
    page.click("button[data-head=boxes]")
    page.click("button[data-head=depth]")
    until(lambda: asked(page, "heads") == heads and page.run(PICTURES) == 5)

    inked = "return [...document.querySelectorAll('canvas')].map(c => c.getContext('2d')"
    inked += ".getImageData(0, 0, c.width, c.height).data.some(v => v))"
    assert until(lambda: all(page.run(inked)))
    shot = cv2.imdecode(np.frombuffer(base64.b64decode(page("/screenshot")), np.uint8), cv2.IMREAD_COLOR)
    assert shot.shape == (900, 1400, 3) and shot.std() > 30
    assert not page("/se/log", {"type": "browser"})


def test_a_lost_camera_is_seen_at_once_and_its_detail_is_text(
    web: Web, live: Callable[[str], None], page: Browser
) -> None:
    page.resize(420, 800)
    page("/url", {"url": web.url})
    until(lambda: page.run(PICTURES) == 5, 20)
    assert page.run("const e = document.documentElement; return e.clientWidth > 380 && e.scrollWidth <= e.clientWidth")
    tops = page.run("return [...document.querySelectorAll('.view')].map(v => v.getBoundingClientRect().top)")
    assert tops == sorted(set(tops))  # one below the other
    veil = "const v = document.querySelector('[data-name=ir] .veil'); return v.checkVisibility() ? v.innerText : ''"
    assert page.run(veil) == ""
    live("ir")
    assert until(lambda: page.run(veil)).split() == ["lost", "unplugged", "<b>here</b>"]
    assert page.run("return document.querySelector('#link').textContent") == "running, a camera is lost"
    assert not page("/se/log", {"type": "browser"})


def test_the_page_tells_that_its_server_is_gone_and_finds_it_again(web: Web, state: State, page: Browser) -> None:
    web.write(*seen(7))
    page("/url", {"url": web.url})
    until(lambda: page.run(PICTURES) == 5, 20)
    web.close()
    told = "return document.querySelector('#link').textContent"
    until(lambda: page.run(told) == "no connection to the robot")
    with contextlib.closing(Web(urlsplit(web.url).netloc, "", state)) as again:  # its results count from 0 again
        again.write(*seen(0))
        until(lambda: page.run(told) == "running")
        page("/url", {"url": "about:blank"})
