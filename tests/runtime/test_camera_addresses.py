"""Addresses of cameras as people write them: what can be read is read, else one line names what is there."""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import write_frames
from servers import jpeg
from test_mcap import HEAD, of_array, write_bag, write_raw

from edgemtl_runtime.camera import open_camera, redact
from edgemtl_runtime.camera.address import encoded, split
from edgemtl_runtime.camera.source import normalised, source_of
from edgemtl_runtime.errors import CameraError
from edgemtl_runtime.event_log import StandardError
from edgemtl_runtime.frame import Frame

pytestmark = pytest.mark.fault("D8")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with frames, a video's name, a recording and a bag."""
    from rosbags.rosbag2 import StoragePlugin

    write_frames(tmp_path / "night run#1", 3)
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "drive.mp4").touch()
    write_frames(tmp_path / "set" / "train", 1)
    image = of_array(np.arange(6, dtype=np.uint8).reshape(2, 3), "mono8", HEAD)
    write_raw(tmp_path / "drive#2.MCAP", [("/eye", image, 1), ("/other", image, 2)])
    write_bag(tmp_path / "bag", StoragePlugin.SQLITE3, [("/eye", image, 1)])
    (tmp_path / "lone").mkdir()
    shutil.copy(next((tmp_path / "bag").glob("*.db3")), tmp_path / "lone" / "x.db3")
    (tmp_path / "old.bag").touch()
    os.mkfifo(tmp_path / "fifo")
    shutil.copy(tmp_path / "night run#1" / "0000.png", tmp_path / "why?.png")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("uri", "count"),
    [
        ("night run#1", 3),
        ("  'night run#1' ", 3),
        ('"~/night run#1/"\n', 3),
        ("~/night run#1", 3),
        ("file:night run#1", 3),
        ("file://{}/night run#1", 3),
        ("FILE:///{}/night%20run%231", 3),
        ("file://localhost{}/night%20run%231", 3),
        ("night run#1/*.png", 3),
        ("night run#1/%06d.png", 3),
        ("night run#1/0001.png", 1),
        ("night run#1/000?.png", 3),
        ("night run#1/0?0[12].png?fps=100", 2),
        ("why?.png", 1),
        (r"set\train", 1),
        ("drive#2.MCAP#/eye", 1),
        ("MCAP:~/drive#2.MCAP#/eye", 1),
        ("bag:drive#2.MCAP#/eye", 1),
        ("bag", 1),
        ("~/bag#/eye", 1),
        ("mcap:bag#/eye", 1),
        ("bag/metadata.yaml", 1),
        ("bag/bag.db3", 1),
        ("bag:bag/bag.db3#/eye", 1),
        ("PATTERN:?frames=4&fps=0", 4),
    ],
)
def test_what_can_be_read_is_read(home: Path, uri: str, count: int) -> None:
    assert len(list(open_camera(uri.replace("{}", str(home)), "rgb").frames())) == count


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("", "names no camera"),
        ("videos", r"holds no images, but videos \(drive.mp4\): give one of them"),
        ("set", r"holds no images, but folders with images \(train\): give one of them"),
        ("lone", r"holds no images, but recordings \(x.db3\)"),
        ("lone/x.db3", "no metadata.yaml beside it"),
        ("old.bag", "a bag of ROS 1; convert it"),
        ("drive#2.MCAP", "several image topics; choose one of /eye, /other"),
        ("night run#1/*.tif", "no image has such a name"),
        ("*/train/0.png", "wildcards may stand in the last part"),
        (r"C:\videos\drive.mp4", "it is a Windows path"),
        (r"\\server\share\frames", "it is a Windows path"),
        ("videos/drive.mp5", "did you mean 'drive.mp4'"),
        ("rstp://10.0.0.9/live", "there are no rstp:// streams; did you mean rtsp://"),
        ("rtps://10.0.0.9/live", "there are no rtps:// streams; did you mean rtsp://"),
        ("rtsp:/10.0.0.9/live", "a URL begins with rtsp://"),
        ("10.0.0.9:554/live", "give rtsp:// or http:// before it"),
        ("me:hush@cam.local/live", "give rtsp:// or http:// before it"),
        ("/dev/video99", "/dev/video99: cannot be opened"),
        ("v4l2:99", "/dev/video99: cannot be opened"),
        ("~/nowhere", "no such folder or file"),
        ("fifo", "fifo: is a pipe or a socket; give a file, a folder or a stream's URL"),
        ("night run#1/9?.png", "no image has such a name"),
    ],
)
def test_what_cannot_be_read_is_named_in_one_line(home: Path, uri: str, expected: str) -> None:
    with pytest.raises(CameraError, match=expected) as caught:
        list(open_camera(uri, "rgb").frames())
    assert "\n" not in str(caught.value) and "hush" not in str(caught.value)
    assert str(caught.value).startswith(("--rgb", uri))


def test_a_pattern_is_colour_or_thermal_by_name_or_by_option() -> None:
    shapes = {}
    for name, options in (("rgb", ""), ("ir", ""), ("warm", "&channels=1"), ("ir", "&channels=3")):
        frame = next(iter(open_camera(f"pattern:?frames=1&fps=0{options}", name).frames()))
        shapes[name + options] = frame.image.shape
    assert list(shapes.values()) == [(240, 320, 3), (240, 320), (240, 320), (240, 320, 3)]
    with pytest.raises(CameraError, match="channels is 3"):
        open_camera("pattern:?channels=2", "rgb")


def test_devices_are_devices_however_they_are_written() -> None:
    for uri in ("/dev/video0", "v4l2:///dev/video0", "V4L2:/dev/video0", "v4l2:0", "v4l2://0", " 0 "):
        source = source_of(normalised(uri), "rgb")
        assert (source.kind, source.address.removeprefix("/dev/video")) == ("device", "0")
    assert source_of("csi:0", "rgb").address == "csi://0"
    assert source_of("/dev/null", "rgb").kind == "device"


@pytest.mark.parametrize("password", ["pa#ss", "a/b?c#d", "x@y", "50%#", "a:b"])
def test_any_password_reaches_every_library(password: str) -> None:
    url = f"RTSP://me:{password}@cam.local:554/live?channel=1"
    address = split("--rgb", normalised(url))
    assert (address.user, address.password, address.authority) == ("me", password, "cam.local:554")
    safe = encoded(normalised(url))
    assert safe.endswith("@cam.local:554/live?channel=1") and not set(safe[7:].split("@cam")[0]) & set("#/?@")
    assert split("--rgb", safe) == address
    assert password not in redact(url)


class Snapshots:
    """A server that answers with one JPEG a request, a new one each time."""

    def __init__(self, content_type: str = "image/jpeg") -> None:
        self.asked = 0
        self.images: list[bytes] = [jpeg(n) for n in range(20)]
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                data = owner.images[min(owner.asked, len(owner.images) - 1)]
                owner.asked += 1
                self.send_response(200)
                self.send_header("Content-Type", content_type)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/snapshot.jpg"


@pytest.fixture
def snapshots(monkeypatch: pytest.MonkeyPatch) -> Iterator[Snapshots]:
    monkeypatch.setattr("edgemtl_runtime.camera.snapshot.INTERVAL_S", 0.01)
    server = Snapshots()
    yield server
    server.server.shutdown()


def test_a_snapshot_address_is_asked_again_and_again(snapshots: Snapshots) -> None:
    snapshots.images[4] = snapshots.images[3]  # nothing new
    snapshots.images[5] = snapshots.images[5][:-40]  # cut off
    camera = open_camera(snapshots.url, "rgb")
    frames: list[Frame] = []
    for frame in camera.frames():
        frames.append(frame)
        if len(frames) == 6:
            camera.close()
    expected = [cv2.imdecode(np.frombuffer(snapshots.images[n], np.uint8), 1)[:, :, ::-1] for n in (1, 2, 3, 6, 7, 8)]
    assert all(np.array_equal(frame.image, image) for frame, image in zip(frames, expected, strict=True))
    assert frames[0].uncertainty_ns > frames[1].uncertainty_ns > 0 and frames[0].stamp_source == "arrival"
    stamps = [frame.stamp_ns for frame in frames]
    assert stamps == sorted(stamps) and all(f.arrived_ns >= f.stamp_ns for f in frames)


class Answers(BaseHTTPRequestHandler):
    """Answers as cameras and their web servers do, by the path that is asked for."""

    def do_GET(self) -> None:
        content_type = "multipart/x-mixed-replace; boundary=announced"
        places = {"/loop": "/loop", "/elsewhere": "rtsp://me:hush@127.0.0.1/live", "/moved": "/locked"}
        if place := places.get(self.path):
            self.send_response(302)
            self.send_header("Location", place)
        elif self.path == "/page":
            content_type = "text/html; charset=utf-8"
            self.send_response(200)
        elif self.path == "/rude":
            self.send_response(500, "\x1b[2Jfailed " + "at length " * 40)
        elif self.path == "/locked" and "Authorization" not in self.headers:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
        else:
            self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.end_headers()
        if content_type.startswith("multipart"):
            for index in range(3):
                self.wfile.write(b"--other\r\nContent-Type: image/jpeg\r\n\r\n" + jpeg(index) + b"\r\n")

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def answers() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("loop", "loop: is redirected without an end, or to no http:// address"),
        ("elsewhere", "elsewhere: is redirected without an end, or to no http:// address"),
        ("page", "page: is text/html, no images; give the address of the stream itself"),
        ("rude", "rude: the camera answers 500 failed at length at length"),
    ],
)
def test_what_a_web_server_answers_is_one_plain_line(answers: str, path: str, expected: str) -> None:
    with pytest.raises(CameraError) as caught:
        open_camera(f"http://me:hush@{answers}/{path}", "rgb")
    message = str(caught.value)
    assert f"--rgb http://{answers}/{expected}" in message
    assert message.isprintable() and "hush" not in message and len(message) < 250


@pytest.mark.parametrize("path", ["stream", "moved"])
def test_another_boundary_than_announced_and_a_redirect_with_a_password(answers: str, path: str) -> None:
    camera = open_camera(f"http://me:hush@{answers}/{path}", "rgb")
    frame = next(iter(camera.frames()))
    camera.close()
    expected = cv2.imdecode(np.frombuffer(jpeg(0), np.uint8), 1)[:, :, ::-1]
    assert np.abs(frame.image.astype(int) - expected).max() <= 8  # of another decoder


def test_what_a_camera_answers_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    record = logging.LogRecord("edgemtl_runtime", logging.WARNING, "", 0, "lost: \x1b[2J404 \x07Not Found", None, None)
    StandardError().emit(record)
    assert capsys.readouterr().err == "lost: 404 ?Not Found\n"
