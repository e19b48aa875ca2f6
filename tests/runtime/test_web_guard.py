"""Who may open the web page: addresses, tokens, host names, methods and headers."""

from __future__ import annotations

import contextlib
import socket
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from web_page import RunState, ask, sample

from edgemtl_runtime.errors import EdgemtlError
from edgemtl_runtime.sink.web import Web
from edgemtl_runtime.sink.web.address import is_loopback, is_loopback_host, parse_address


@pytest.fixture(scope="module")
def served() -> Iterator[Web]:
    """One page without a token at a free port, for all tests of this file."""
    with contextlib.closing(Web("0", "", RunState())) as opened:
        yield opened


@pytest.fixture
def state(served: Web) -> RunState:
    """The state of a run that is as it should be."""
    assert isinstance(served.status, RunState)
    served.status.reset()
    return served.status


@pytest.fixture
def web(served: Web, state: RunState) -> Web:
    """The page, before the first result."""
    served.feed.latest = None
    return served


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
def test_a_wrong_address_is_rejected(address: str) -> None:
    with pytest.raises(EdgemtlError, match="give HOST:PORT"):
        parse_address(address)


@given(st.ip_addresses(v=4))
def test_only_127_is_loopback(ip: Any) -> None:
    assert is_loopback_host(str(ip)) == is_loopback(f"{ip}:80") == str(ip).startswith("127.")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "[::]", "robot.local", "127.0.0.1.example.org"])
def test_another_host_than_loopback_needs_a_token(host: str, state: RunState) -> None:
    with pytest.raises(EdgemtlError, match="give --token"):
        Web(f"{host}:0", "", state)


def test_a_port_in_use_is_reported(web: Web, state: RunState) -> None:
    with pytest.raises(EdgemtlError, match=r"cannot be served \(Address already in use\)"):
        Web(urlsplit(web.url).netloc, "", state)


def test_ipv6_is_served_too(state: RunState) -> None:
    try:
        served = Web("[::1]:0", "", state)
    except EdgemtlError as error:
        pytest.skip(str(error))
    with contextlib.closing(served), urllib.request.urlopen(f"{served.url}healthz", timeout=5) as reply:
        assert reply.status == 200


@pytest.mark.parametrize("path", ["/nothing", "/page.html", "/../server.py", "/%2e%2e/server.py", "/latest/", "*"])
def test_there_are_no_other_pages(web: Web, path: str) -> None:
    assert ask(web, path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "BREW"])
def test_other_methods_are_rejected(web: Web, method: str) -> None:
    code, headers, body = ask(web, "/latest", method=method)
    assert code == 405 and headers["Allow"] == "GET" and (method != "HEAD" or not body)


@pytest.mark.parametrize("token", ["secret", "schlüssel; =\"',", "a b+c%&/?#"])
def test_a_token_is_asked_for_everything(state: RunState, token: str) -> None:
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


def test_with_a_token_another_host_is_served(state: RunState) -> None:
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
def test_a_name_that_was_rebound_to_this_machine_is_rejected(web: Web, host: str, code: int) -> None:
    assert ask(web, "/healthz", {"Host": host})[0] == code


def test_a_request_without_a_host_is_rejected(web: Web) -> None:
    with socket.create_connection(web.server.address, timeout=5) as line:
        line.sendall(b"GET /status HTTP/1.0\r\n\r\n")
        assert b" 403 " in line.makefile("rb").readline()


def test_the_page_is_one_file_with_a_custom_policy(web: Web) -> None:
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
    web.write(*sample())
    headers = ask(web, path)[1]
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Cache-Control"] == "no-store"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


def test_a_failure_is_reported_and_the_page_goes_on(web: Web, state: RunState) -> None:
    cameras = state.values.pop("cameras")
    code, _, body = ask(web, "/readyz")
    assert code == 500 and body == b"KeyError: 'cameras'\n"
    state.values["cameras"] = cameras
    assert ask(web, "/readyz")[0] == 200
