"""Every source on real files and a real server, and what each says when something is wrong."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import folder_of, write_frames

from edgemtl_runtime.camera import open_camera, open_cameras, redact
from edgemtl_runtime.errors import CameraError
from edgemtl_runtime.frame import Frame


def read(uri: object, name: str = "rgb") -> list[Frame]:
    return list(open_camera(str(uri), name).frames())


def test_a_folder_gives_its_pictures_in_order(tmp_path: Path) -> None:
    frames = read(write_frames(tmp_path, 5))
    assert [frame.name for frame in frames] == [f"{i:04d}" for i in range(5)]
    assert np.diff([frame.stamp_ns for frame in frames]).min() > 0


def test_sixteen_bits_stay_sixteen(tmp_path: Path) -> None:
    frames = read(write_frames(tmp_path, 2, channels=1, depth=16), "ir")
    assert frames[0].image.dtype == np.uint16 and frames[1].image.max() == 60_000


def test_colours_come_as_rgb(tmp_path: Path) -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, :, 2] = 255  # red, as OpenCV writes it
    cv2.imwrite(str(tmp_path / "red.png"), image)
    assert read(tmp_path)[0].image[0, 0].tolist() == [255, 0, 0]


def test_a_paced_folder_keeps_its_rate(tmp_path: Path) -> None:
    start = time.monotonic()
    frames = read(f"{write_frames(tmp_path, 6)}?fps=50")
    assert time.monotonic() - start >= 0.1
    assert np.allclose(np.diff([frame.stamp_ns for frame in frames]), 20e6, atol=2)


def test_two_cameras_of_one_epoch_share_their_stamps(tmp_path: Path) -> None:
    write_frames(tmp_path, 4)
    cameras = open_cameras({"rgb": str(tmp_path), "ir": str(tmp_path)})
    streams = [[frame.stamp_ns for frame in camera.frames()] for camera in cameras.values()]
    assert streams[0] == streams[1]


def test_the_pattern_moves_and_ends() -> None:
    frames = read("pattern:?fps=0&frames=5&width=64&height=48")
    assert len(frames) == 5 and frames[0].image.shape == (48, 64, 3)
    assert not np.array_equal(frames[0].image, frames[4].image)
    assert read("pattern:?fps=0&frames=1", "ir")[0].image.ndim == 2


def test_a_real_video() -> None:
    frames = open_camera(str(folder_of("EDGEMTL_DATA", "video/vtest.avi")), "rgb").frames()
    first, second = next(frames), next(frames)
    assert first.image.shape == (576, 768, 3) and first.stamp_source == "file"
    assert second.stamp_ns - first.stamp_ns == pytest.approx(1e8, rel=0.01)  # 10 frames a second


def test_a_size_change_names_both_sizes(tmp_path: Path) -> None:
    write_frames(tmp_path, 2)
    cv2.imwrite(str(tmp_path / "zz.png"), np.zeros((10, 20, 3), np.uint8))
    with pytest.raises(CameraError, match="zz: is 20x10, the stream began with 96x64"):
        read(tmp_path)


def test_an_unreadable_picture_is_named(tmp_path: Path) -> None:
    write_frames(tmp_path, 1)
    (tmp_path / "bad.png").write_text("no picture")
    with pytest.raises(CameraError, match=r"bad\.png: cannot be read"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("nowhere", "no such folder or file"),
        ("pattern:?fbs=3", "unknown option 'fbs'; did you mean 'fps'"),
        ("pattern:?fps=fast", "not a number"),
        ("pattern:?fps=-1", "from 0"),
        ("99", "/dev/video99: cannot be opened"),
        ("http://user:secret@127.0.0.1:9/x", "http://127.0.0.1:9/x: cannot be opened"),
    ],
)
def test_what_cannot_be_opened_is_told(uri: str, expected: str) -> None:
    with pytest.raises(CameraError, match=expected) as caught:
        read(uri)
    assert "secret" not in str(caught.value)


def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(CameraError, match="holds no images"):
        read(tmp_path)


def test_credentials_are_redacted() -> None:
    assert redact("rtsp://me:pw@cam.local:554/s?x=1") == "rtsp://cam.local:554/s"
    assert redact("folder/with@sign") == "folder/with@sign"
