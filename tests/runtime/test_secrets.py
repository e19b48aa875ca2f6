"""Passwords and tokens stand in no text that others see."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgemtl_runtime.camera import open_camera, open_cameras, redact
from edgemtl_runtime.camera.base import CameraEvents
from edgemtl_runtime.camera.options import split_options
from edgemtl_runtime.camera.redaction import scrub, secrets_in
from edgemtl_runtime.camera.secrets import fill, read_secret
from edgemtl_runtime.camera.wrappers import complete
from edgemtl_runtime.errors import CameraError, EdgemtlError

WORD = "Zq7"
"""What no address, message or format of ours holds: each secret begins and ends with it."""
SIGNS = "ab9/#?@:%&=+ ~!$*()[]{};,.'\"<>|^`ü✓-_"
secret = st.text(SIGNS, max_size=12).map(lambda text: f"{WORD}{text.replace('${', '')}{WORD}")
FORMS = {
    "rtsp": "rtsp://{user}:{password}@127.0.0.1:9/live",
    "one slash": "rtsp:/{user}:{password}@127.0.0.1:9/live",
    "no user": "rtsp://:{password}@127.0.0.1:9/live",
    "user alone": "rtsp://{password}@127.0.0.1:9/live",
    "http": "http://{user}:{password}@127.0.0.1:9/video?fps=3",
    "secure": "RTSPS://{user}:{password}@127.0.0.1:9",
    "without a scheme": "{user}:{password}@127.0.0.1:9/live",
    "recorded": "mcap:http://{user}:{password}@127.0.0.1:9/a.mcap#/ir",
    "bag": "bag:http://{user}:{password}@127.0.0.1:9/a#/ir",
    "file": "file://{user}:{password}@127.0.0.1:9/a.mp4",
    "encoded": "rtsp://{encoded}:{encoded}@127.0.0.1:9/live",
    "all encoded": "rtsp://{encoded}%3A{encoded}%40127.0.0.1:9/live",
    "query": "http://127.0.0.1:9/video?password={encoded}&user={encoded}",
    "token": "http://127.0.0.1:9/video?token={encoded}&rotate=90",
    "plain key": "rtsp://127.0.0.1:9/live?a=1&key={password}",
    "key": "rtsp://127.0.0.1:9/live?a=1&key={encoded}",
    "local": "drive.mp4?password={encoded}",
    "pipeline": 'gst:rtspsrc location="rtsp://{encoded}:{encoded}@127.0.0.1:9/x" user-id={encoded} user-pw={encoded}',
    "unknown": "foo://{user}:{password}@127.0.0.1:9/live",
}


def shows(text: str) -> bool:
    return WORD in text


def chain(error: BaseException | None) -> str:
    """Return all that a traceback would show of an error and of those behind it."""
    text = ""
    while error is not None:
        text += f"{error} {error.args}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return text


@given(user=secret, password=secret, form=st.sampled_from(sorted(FORMS)))
@settings(max_examples=400, deadline=None)
def test_a_redacted_source_shows_no_secret(user: str, password: str, form: str) -> None:
    uri = FORMS[form].format(user=user, password=password, encoded=quote(password, safe=""))
    text = redact(uri)
    assert not shows(text) and (form in ("pipeline", "local") or "127.0.0.1:9" in text or text.endswith("..."))


@given(user=secret, password=secret, form=st.sampled_from(sorted(set(FORMS) - {"pipeline"})), wait=st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_error_of_opening_shows_a_secret(user: str, password: str, form: str, wait: bool) -> None:
    uri = FORMS[form].format(user=user, password=password, encoded=quote(password, safe=""))
    with pytest.raises(EdgemtlError) as error_info:
        open_camera(uri, "rgb")
    assert not shows(chain(error_info.value))


@given(user=secret, password=secret, form=st.sampled_from(["rtsp", "http", "token", "encoded"]))
@settings(max_examples=12, deadline=None)
def test_what_is_told_while_a_camera_is_lost_shows_no_secret(user: str, password: str, form: str) -> None:
    uri = FORMS[form].format(user=user, password=password, encoded=quote(password, safe=""))
    try:
        camera = open_cameras({"rgb": uri}, wait=True)["rgb"]
    except CameraError as error:
        assert not shows(chain(error))
        return
    details: list[str] = []

    class Events(CameraEvents):
        def state_changed(self, state: str, detail: str) -> None:
            details.append(detail)
            camera.close()

    assert list(complete(camera).frames(Events())) == [] and details and not shows(" ".join(details))


@given(user=secret, password=secret, form=st.sampled_from(sorted(FORMS)))
@settings(max_examples=200, deadline=None)
def test_secrets_are_taken_out_of_any_text(user: str, password: str, form: str) -> None:
    uri = FORMS[form].format(user=user, password=password, encoded=quote(password, safe=""))
    assert not shows(scrub(f"library: '{uri}' said {uri!s}", secrets_in(uri)))


@pytest.mark.parametrize(
    "uri, text",
    [
        ("rtsp://user:pa?sS3cret@h/x", "rtsp://h/x"),
        ("rtsp:/user:pw@h", "rtsp:/h"),
        ("mcap:http://u:pw@h", "mcap:http://h"),
        ("user:pw@host/path", "host/path"),
        ("rtsp://h/s?mail=a@b", "rtsp://..."),
        ("folder/with@sign", "folder/with@sign"),
        ("frames?fps=20", "frames?fps=20"),
        ("frames?fps=20&token=x", "frames"),
        ("v4l2:///dev/video0?format=Y16", "v4l2:///dev/video0?format=Y16"),
        ("0", "0"),
        ("mcap:drive.mcap#/ir", "mcap:drive.mcap#/ir"),
        ("pattern:", "pattern:"),
    ],
)
def test_what_is_left_of_a_source(uri: str, text: str) -> None:
    assert redact(uri) == text


def test_a_password_may_hold_the_sign_of_a_query() -> None:
    assert split_options("rtsp://u:p?rotate=90@h/x?transport=udp") == ("rtsp://u:p?rotate=90@h/x", {"transport": "udp"})
    assert split_options("http://h/x?mail=a@b&rotate=90") == ("http://h/x?mail=a@b", {"rotate": "90"})
    pipeline = "gst:rtspsrc location=rtsp://u:p@h/x?a=b ! decodebin"
    assert split_options(f"{pipeline}?format=GRAY8") == (pipeline, {"format": "GRAY8"})
    assert split_options(pipeline) == (pipeline, {})


def test_holes_are_filled_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAM_PW", "p@ss/w?rd")
    assert fill("rtsp://me:${CAM_PW}@h/x", "rgb") == ("rtsp://me:p%40ss%2Fw%3Frd@h/x", ["p@ss/w?rd"])
    assert fill("http://h/x?token=${CAM_PW}", "rgb")[0] == "http://h/x?token=p%40ss%2Fw%3Frd"
    monkeypatch.setenv("CAM_HOST", "10.0.0.9")
    assert fill("rtsp://me:${CAM_PW}@${CAM_HOST}/x", "rgb")[0] == "rtsp://me:p%40ss%2Fw%3Frd@10.0.0.9/x"
    monkeypatch.setenv("CAM_PW", 'a b"c')
    assert fill("gst:rtspsrc user-pw=${CAM_PW} ! fakesink", "rgb")[0] == r'gst:rtspsrc user-pw="a b\"c" ! fakesink'
    assert fill("plain", "rgb") == ("plain", [])


def test_an_empty_hole_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CAM_PW", raising=False)
    with pytest.raises(CameraError, match=re.escape("--ir: the environment has no 'CAM_PW'")):
        open_camera("rtsp://me:${CAM_PW}@h/x", "ir")


def test_a_secret_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "camera"
    file.write_text("Zq7 word\n")
    file.chmod(0o600)
    with caplog.at_level(logging.WARNING, "edgemtl_runtime"):
        assert fill(f"rtsp://me:${{file:{file}}}@h/x", "rgb")[0] == "rtsp://me:Zq7%20word@h/x"
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
        assert fill("rtsp://me:${file:camera}@h/x", "rgb")[0] == "rtsp://me:Zq7%20word@h/x"
        assert not caplog.records
        monkeypatch.delenv("CREDENTIALS_DIRECTORY")
        file.chmod(0o644)
        assert read_secret(file, "--token-file") == "Zq7 word"
    assert "other users may read" in caplog.text and "Zq7" not in caplog.text


@pytest.mark.parametrize("data", [b"", b"\n", b"two\nlines", b"\xff\xfe", b"x" * 5000, b"\x1b[2J"])
def test_a_file_without_a_secret_is_one_line(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "s").write_bytes(data)
    with pytest.raises(EdgemtlError) as error_info:
        read_secret(tmp_path / "s", "--token-file")
    assert "\n" not in str(error_info.value) and "two" not in str(error_info.value)
    with pytest.raises(EdgemtlError, match="cannot be read"):
        read_secret(tmp_path / "none", "--token-file")
