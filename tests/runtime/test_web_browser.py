"""The web page in a browser."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import cv2
import numpy as np
import pytest
from web_page import RunState, sample, wait_until

from edgemtl_runtime.frame import Frame, FramePair
from edgemtl_runtime.result import Result
from edgemtl_runtime.sink.web import Web

pytestmark = pytest.mark.realtime


@pytest.fixture
def state() -> RunState:
    """The state of a run that is as it should be."""
    return RunState()


@pytest.fixture
def web(state: RunState) -> Iterator[Web]:
    """A page without a token at a free port."""
    with contextlib.closing(Web("0", "", state)) as served:
        yield served


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
        capabilities = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        wait_until(self.is_ready, 20)
        self.base += "/session/" + self("", {"capabilities": {"alwaysMatch": capabilities}}, "/session")["sessionId"]

    def is_ready(self) -> bool:
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
        """Click as a person does: on what can really be clicked."""
        element = self("/element", {"using": "css selector", "value": selector})
        self(f"/element/{next(iter(element.values()))}/click", {})

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
def live(web: Web, state: RunState) -> Iterator[Callable[[str], None]]:
    """The page fed with drawn streets; call it with a camera's name to lose that camera."""
    from edgemtl.synthetic.streets import Streets, street
    from edgemtl.visualize import perfect_result

    samples = [street(5, (120, 160), is_day=True, time_s=0.2 * i) for i in range(4)]
    heads = [{t: perfect_result(t, s.labels[t], Streets.classes[t]) for t in Streets.classes} for s in samples]
    ended, missing = threading.Event(), []

    def feed() -> None:
        index = 0
        while not ended.wait(0.1):
            now = time.monotonic_ns()
            images = samples[index % 4].images.items()
            frames = {n: Frame(i, now, n, index, arrived_ns=now) for n, i in images if n not in missing}
            result = Result(heads[index % 4], "rgb", now, 2_000_000, index, missing=tuple(missing))
            web.write(FramePair(frames), result)
            state.values["stats"]["pairs"] = index = index + 1

    def lose(camera: str) -> None:
        missing.append(camera)
        state.values["cameras"][camera] |= {"state": "lost", "detail": "unplugged <b>here</b>"}

    thread = threading.Thread(target=feed)
    thread.start()
    yield lose
    ended.set()
    thread.join()


IMAGES = "return [...document.querySelectorAll('.view img')].filter(i => i.naturalWidth).length"
REQUESTS = "return performance.getEntriesByType('resource').map(e => e.name).filter(n => n.includes('heads='))"


def requested(browser: Browser, name: str) -> list[str]:
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
    wait_until(lambda: page.run(IMAGES) == 5, 20)
    heads = ["boxes", "semantic", "depth", "normals", "edges", "attributes"]
    wait_until(lambda: requested(page, "heads") == heads)
    assert page.run("return document.querySelector('#link').textContent") == "running"
    rows = page.run("return [...document.querySelectorAll('.view')].map(v => v.getBoundingClientRect().top)")
    assert rows[0] == rows[1] < rows[2] == rows[3] == rows[4]  # cameras side by side, maps below

    first = page.run("return document.querySelector('[data-name=rgb] img').src")
    wait_until(lambda: page.run("return document.querySelector('[data-name=rgb] img').src") != first)
    page.run("performance.clearResourceTimings()")
    page.click("button[data-head=boxes]")
    page.click("button[data-head=depth]")
    wait_until(lambda: requested(page, "heads") == ["semantic", "normals", "edges", "attributes"])
    assert requested(page, "panels") == ["rgb", "ir", "normals", "edges"]
    assert page.run("return document.querySelector('[data-head=boxes]').getAttribute('aria-pressed')") == "false"
    wait_until(lambda: page.run(IMAGES) == 4)
    page("/url", {"url": web.url})  # what was switched off stays off
    wait_until(lambda: "boxes" not in requested(page, "heads") and requested(page, "heads") != ["nothing"])
    page.click("button[data-head=boxes]")
    page.click("button[data-head=depth]")
    wait_until(lambda: requested(page, "heads") == heads and page.run(IMAGES) == 5)

    inked = "return [...document.querySelectorAll('canvas')].map(c => c.getContext('2d')"
    inked += ".getImageData(0, 0, c.width, c.height).data.some(v => v))"
    assert wait_until(lambda: all(page.run(inked)))
    shot = cv2.imdecode(np.frombuffer(base64.b64decode(page("/screenshot")), np.uint8), cv2.IMREAD_COLOR)
    assert shot.shape == (900, 1400, 3) and shot.std() > 30
    assert not page("/se/log", {"type": "browser"})


def test_a_lost_camera_is_seen_at_once_and_its_detail_is_text(
    web: Web, live: Callable[[str], None], page: Browser
) -> None:
    page.resize(420, 800)
    page("/url", {"url": web.url})
    wait_until(lambda: page.run(IMAGES) == 5, 20)
    assert page.run("const e = document.documentElement; return e.clientWidth > 380 && e.scrollWidth <= e.clientWidth")
    tops = page.run("return [...document.querySelectorAll('.view')].map(v => v.getBoundingClientRect().top)")
    assert tops == sorted(set(tops))  # one below the other
    veil = "const v = document.querySelector('[data-name=ir] .veil'); return v.checkVisibility() ? v.innerText : ''"
    assert page.run(veil) == ""
    live("ir")
    assert wait_until(lambda: page.run(veil)).split() == ["lost", "unplugged", "<b>here</b>"]
    assert page.run("return document.querySelector('#link').textContent") == "running, a camera is lost"
    assert not page("/se/log", {"type": "browser"})


TICKS = """
const area = tick => [tick.getBoundingClientRect().left, tick.getBoundingClientRect().right, tick.textContent];
return [...document.querySelectorAll('.scale:not([hidden]) .ticks')].map(ticks => [...ticks.children].map(area));
"""


@pytest.mark.fault("C4")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_scales_are_legible_on_a_phone_in_light_and_dark(
    scheme: str, web: Web, live: Callable[[str], None], page: Browser
) -> None:
    feature = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    page("/goog/cdp/execute", {"cmd": "Emulation.setEmulatedMedia", "params": feature})
    page.resize(360, 800)
    page("/url", {"url": web.url})
    wait_until(lambda: page.run(IMAGES) == 5 and len(page.run(TICKS)) == 3, 20)  # of ir, depth and edges
    for ticks in page.run(TICKS):
        assert all(0 <= left < right <= 360 for left, right, _ in ticks)
        ordered = sorted(ticks)
        assert all(one[1] < other[0] for one, other in pairwise(ordered))
    texts = [[text for *_, text in ticks] for ticks in page.run(TICKS)]
    assert texts[0][-1] == "255 grey level" and texts[1][0].endswith(" m") and texts[1][-1].endswith(" m")
    ground = page.run("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground))) > 600) == (scheme == "light")
    assert not page("/se/log", {"type": "browser"})


def test_the_page_reports_a_lost_server_and_connects_again(web: Web, state: RunState, page: Browser) -> None:
    web.write(*sample(7))
    page("/url", {"url": web.url})
    wait_until(lambda: page.run(IMAGES) == 5, 20)
    web.close()
    link = "return document.querySelector('#link').textContent"
    wait_until(lambda: page.run(link) == "no connection to the robot")
    with contextlib.closing(Web(urlsplit(web.url).netloc, "", state)) as again:  # its results count from 0 again
        again.write(*sample(0))
        wait_until(lambda: page.run(link) == "running")
        page("/url", {"url": "about:blank"})
