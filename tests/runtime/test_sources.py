"""Streams, pipelines and recordings: real servers and files, their stamps, and the options of every source."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from conftest import write_frames
from servers import Mjpeg, Rtsp, descriptors, noise

from edgemtl_runtime.camera import Camera, open_camera, open_cameras, redact
from edgemtl_runtime.camera.options import split_options
from edgemtl_runtime.errors import CameraError
from edgemtl_runtime.frame import Frame, FramePair
from edgemtl_runtime.sink.mcap import McapFile

MS = 1_000_000


def some(camera: Camera, count: int) -> list[Frame]:
    """Return a camera's first frames, and close it."""
    frames = camera.frames()
    taken = list(itertools.islice(frames, count))
    camera.close()
    frames.close()  # type: ignore[attr-defined]
    return taken


@pytest.fixture
def mjpeg() -> Iterator[Mjpeg]:
    server = Mjpeg()
    yield server
    server.kill()


def test_mjpeg_over_http(mjpeg: Mjpeg) -> None:
    frames = some(open_camera(mjpeg.url, "rgb"), 20)
    assert [frame.index for frame in frames] == list(range(20)) and frames[0].image.shape == (64, 96, 3)
    assert all(frame.stamp_ns <= frame.arrived_ns for frame in frames)


def test_mjpeg_is_decoded_at_half_its_size(mjpeg: Mjpeg) -> None:
    frames = some(open_camera(f"{mjpeg.url}?reduce=2", "rgb"), 3)
    assert frames[0].image.shape == (32, 48, 3)
    with pytest.raises(CameraError, match="option reduce=3 is not one of 1, 2, 4, 8"):
        open_camera(f"{mjpeg.url}?reduce=3", "rgb")


def test_rtsp_is_stamped_by_its_presentation_times() -> None:
    server = Rtsp()
    try:
        frames = some(open_camera(server.url("rgb"), "rgb"), 40)
    finally:
        server.kill()
    assert {frame.stamp_source for frame in frames[2:]} == {"stream"}
    steps_ms = np.diff([frame.stamp_ns for frame in frames[5:]]) / MS
    assert abs(np.median(steps_ms) - 33.3) < 1.5 and steps_ms.min() > 0
    assert all(frame.stamp_ns <= frame.arrived_ns for frame in frames)


def needs_gstreamer() -> None:
    """Skip where GStreamer's Python modules are not to be had."""
    path = "/usr/lib/python3/dist-packages"
    if "gi" not in sys.modules and path not in sys.path:
        sys.path.append(path)  # Debian's, which an environment of pip does not see
    gi = pytest.importorskip("gi", reason="python3-gi is not installed for this Python")
    try:
        gi.require_version("GstApp", "1.0")
    except ValueError:
        pytest.skip("GStreamer's introspection data are not installed (gir1.2-gst-plugins-base-1.0)")


def test_a_camera_that_was_never_read_is_closed_by_close(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", [0.1 * n for n in range(4)])
    needs_gstreamer()
    for uri in (str(tmp_path / "v.mp4"), "gst:videotestsrc is-live=true"):
        left = []
        for _ in range(30):
            camera = open_camera(uri, "rgb")
            camera.close()
            assert not list(camera.frames())
            del camera
            left.append((descriptors(), len(list(Path("/proc/self/task").iterdir()))))
        # Files that are loaded the first time stay, and GStreamer keeps a few threads for the next one.
        assert min(left[-5:]) <= max(left[:10]), (uri, left)


def test_a_gstreamer_pipeline_is_stamped_when_its_frames_were_made() -> None:
    needs_gstreamer()
    size = "video/x-raw,width=64,height=48,framerate=50/1"
    frames = some(open_camera(f"gst:videotestsrc is-live=true pattern=smpte ! {size}", "rgb"), 10)
    assert frames[0].image.shape == (48, 64, 3) and {frame.stamp_source for frame in frames} == {"driver"}
    assert abs(np.median(np.diff([frame.stamp_ns for frame in frames])) / MS - 20) < 2
    assert np.abs(frames[0].image[5, 50].astype(int) - (255, 0, 0)).max() < 90  # the sixth bar is red
    deep = some(open_camera(f"gst:videotestsrc is-live=true ! {size}?format=GRAY16_LE", "ir"), 2)
    assert deep[0].image.dtype == np.uint16 and deep[0].image.shape == (48, 64) and deep[0].image.max() > 40_000
    ended = open_camera(f"gst:videotestsrc num-buffers=5 ! {size}", "rgb")
    assert len(list(ended.frames())) == 5  # the end of a pipeline is an end
    with pytest.raises(CameraError, match="no such pipeline"):
        open_camera("gst:nosuchthing", "rgb")
    with pytest.raises(CameraError, match=r"csi://0: GStreamer has neither nvarguscamerasrc|does not start|no such"):
        open_camera("csi://0", "rgb")
    with pytest.raises(CameraError, match="format=YUY2 is not one of RGB"):
        open_camera("gst:videotestsrc?format=YUY2", "rgb")


def write_video(file: Path, times: list[float], size: tuple[int, int] = (64, 96)) -> None:
    """Write a video whose frames have presentation times of their own."""
    from fractions import Fraction

    with av.open(str(file), "w") as container:
        stream = container.add_stream("mpeg4", rate=1000)
        stream.width, stream.height, stream.pix_fmt = size[1], size[0], "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for index, seconds in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.full((*size, 3), 5 * index, np.uint8), format="rgb24")
            frame.pts, frame.time_base = round(1000 * seconds), Fraction(1, 1000)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def test_a_video_of_a_varying_rate_keeps_its_times(tmp_path: Path) -> None:
    times = [0, 0.04, 0.08, 0.3, 0.35, 0.36]
    write_video(tmp_path / "v.mp4", times)
    frames = list(open_camera(str(tmp_path / "v.mp4"), "rgb").frames())
    stamps = np.array([frame.stamp_ns for frame in frames])
    assert np.allclose((stamps - stamps[0]) / 1e9, times, atol=0.002) and frames[0].stamp_source == "file"
    begun = time.monotonic()
    paced = open_camera(f"{tmp_path}/v.mp4?speed=2", "rgb")
    assert paced.live and len(list(paced.frames())) == 6 and 0.15 < time.monotonic() - begun < 10


def test_a_damaged_video_is_told(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(CameraError, match=r"v\.mp4: cannot be opened"):
        open_camera(str(tmp_path / "v.mp4"), "rgb")


def test_folders_whose_names_are_times_keep_them_to_each_other(tmp_path: Path) -> None:
    for name, first in (("rgb", 1_700_000_000_000_000_000), ("ir", 1_700_000_000_007_000_000)):
        (tmp_path / name).mkdir()
        for index in range(4):
            cv2.imwrite(str(tmp_path / name / f"{first + index * 50 * MS}.png"), noise(index))
    cameras = open_cameras({name: f"{tmp_path / name}?stamps=name" for name in ("rgb", "ir")})
    stamps = {name: np.array([frame.stamp_ns for frame in camera.frames()]) for name, camera in cameras.items()}
    assert (stamps["ir"] - stamps["rgb"] == 7 * MS).all() and (np.diff(stamps["rgb"]) == 50 * MS).all()
    (tmp_path / "rgb" / "first.png").write_bytes((tmp_path / "rgb" / f"{1_700_000_000_000_000_000}.png").read_bytes())
    with pytest.raises(CameraError, match="stamps=name wants names that are nanoseconds"):
        open_camera(f"{tmp_path / 'rgb'}?stamps=name", "rgb")


def test_pictures_that_tell_when_they_were_taken(tmp_path: Path) -> None:
    pil = pytest.importorskip("PIL.Image")
    for index in range(3):
        image = pil.fromarray(noise(index, (48, 64, 3)))
        exif = image.getexif()
        exif.get_ifd(0x8769).update({0x9003: f"2026:05:01 10:00:0{index}", 0x9291: "250"})
        image.save(tmp_path / f"{index}.jpg", exif=exif)
    stamps = [frame.stamp_ns for frame in open_camera(f"{tmp_path}?stamps=exif", "rgb").frames()]
    assert np.diff(stamps).tolist() == [10**9, 10**9]
    cv2.imwrite(str(tmp_path / "9.png"), noise(1))
    with pytest.raises(CameraError, match=r"9\.png: \?stamps=exif, but it does not hold its capture time"):
        list(open_camera(f"{tmp_path}?stamps=exif", "rgb").frames())


def write_mcap(file: Path, count: int = 5) -> list[np.ndarray]:
    """Write pairs of colour and 16-bit thermal pictures, 40 ms apart, the thermal ones 3 ms later."""
    sink, deep = McapFile(file, 0), []
    for index in range(count):
        stamp_ns = 1_700_000_000_000_000_000 + index * 40 * MS
        thermal = (noise(index).astype(np.uint16) << 6) + 7000
        deep.append(thermal)
        rgb = Frame(cv2.resize(noise(index, (8, 12, 3)), (96, 64)), stamp_ns, "rgb", index)
        sink.write_pair(FramePair({"rgb": rgb, "ir": Frame(thermal, stamp_ns + 3 * MS, "ir", index)}))
    sink.close()
    return deep


def test_an_mcap_file_is_two_cameras(tmp_path: Path) -> None:
    deep = write_mcap(tmp_path / "drive.mcap")
    uris = {
        "rgb": f"mcap:{tmp_path}/drive.mcap#/camera/rgb/image/compressed",
        "ir": f"mcap:{tmp_path}/drive.mcap#/camera/ir/image",
    }
    frames = {name: list(camera.frames()) for name, camera in open_cameras(uris).items()}
    assert all(np.array_equal(frame.image, image) for frame, image in zip(frames["ir"], deep, strict=True))
    assert {f.stamp_ns - r.stamp_ns for r, f in zip(frames["rgb"], frames["ir"], strict=True)} == {3 * MS}
    assert frames["rgb"][0].stamp_source == "file" and frames["rgb"][0].image.shape == (64, 96, 3)
    begun = time.monotonic()
    live = open_cameras({name: f"{uri}?speed=1" for name, uri in uris.items()})
    assert live["ir"].live and len(list(live["ir"].frames())) == 5 and time.monotonic() - begun > 0.15
    with pytest.raises(CameraError, match=r"/camera/ir/image"):
        open_camera(f"mcap:{tmp_path}/drive.mcap#/nothing", "ir")
    with pytest.raises(CameraError, match="no such file"):
        open_camera(f"mcap:{tmp_path}/none.mcap#/x", "ir")


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_pictures_are_turned_clockwise(tmp_path: Path, turn: int) -> None:
    image = np.zeros((4, 6), np.uint8)
    image[0, 0] = 255  # the top left corner
    cv2.imwrite(str(tmp_path / "0.png"), image)
    turned = next(iter(open_camera(f"{tmp_path}?rotate={turn}", "ir").frames())).image
    corner = {90: (0, -1), 180: (-1, -1), 270: (-1, 0)}[turn]
    assert turned[corner] == 255 and turned.shape == ((6, 4) if turn != 180 else (4, 6))


def test_stamps_are_moved(tmp_path: Path) -> None:
    write_frames(tmp_path, 3)
    cameras = open_cameras({"rgb": str(tmp_path), "ir": f"{tmp_path}?offset_ms=-120.5"})
    stamps = [[frame.stamp_ns for frame in camera.frames()] for camera in cameras.values()]
    assert {b - a for a, b in zip(*stamps, strict=True)} == {-120_500_000}


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("{}?rotate=45", "rotate=45 is not one of 0, 90, 180, 270"),
        ("{}?offset_ms=soon", "offset_ms=soon is not a number"),
        ("{}?offset_ms=1e99", "offset_ms=1e99 is not a number of up to"),
        ("{}?offset_ms=nan", "offset_ms=nan is not a number"),
        ("{}?repeats=some", "repeats=some is not one of drop, keep"),
        ("{}?rotat=90", "unknown option 'rotat'; did you mean 'rotate'"),
        ("{}?fps=inf", "options are numbers from 0"),
        ("rtsp://me:hush@127.0.0.1:9/x?transport=pigeon", "transport=pigeon is not one of tcp, udp"),
        ("rtsp://me:hush@127.0.0.1:9/x", "rtsp://127.0.0.1:9/x: cannot be opened"),
        ("http://127.0.0.1:9/x?password=hush&channel=2", "http://127.0.0.1:9/x: cannot be opened"),
    ],
)
def test_options_that_are_wrong_are_told_without_what_is_secret(uri: str, expected: str, tmp_path: Path) -> None:
    write_frames(tmp_path, 1)
    with pytest.raises(CameraError, match=expected.replace("?", r"\?")) as caught:
        open_camera(uri.format(tmp_path), "rgb")
    assert "hush" not in f"{caught.value}{caught.value.__cause__}"


def test_a_stream_s_own_query_stays_its_own() -> None:
    assert split_options("rtsp://h/s?channel=1&rotate=90&sub=0") == ("rtsp://h/s?channel=1&sub=0", {"rotate": "90"})
    assert split_options("rtsp://h/s?channel=1") == ("rtsp://h/s?channel=1", {})
    url = "rtsp://h/s?channel=1"
    for pipeline, options in {
        f"gst:rtspsrc location={url} ! decodebin": {},
        f"gst:rtspsrc location={url} ! decodebin?format=GRAY8&rotate=90": {"format": "GRAY8", "rotate": "90"},
        "gst:rtspsrc location=rtsp://h/s ! decodebin?format=GRAY8": {"format": "GRAY8"},
        f"gst:uridecodebin uri={url}": {},
        f'gst:uridecodebin uri="{url}"': {},
        f"gst:uridecodebin uri={url}?format=GRAY16_LE": {"format": "GRAY16_LE"},
        f'gst:uridecodebin uri="{url}"?offset_ms=5': {"offset_ms": "5"},
    }.items():
        given = pipeline.rpartition("?")[0] if options else pipeline
        assert split_options(pipeline) == (given, options)
    joined = split_options("gst:uridecodebin uri=http://h/s?a=1&format=GRAY8&b=2")
    assert joined == ("gst:uridecodebin uri=http://h/s?a=1&b=2", {"format": "GRAY8"})
    assert split_options("gst:videotestsrc?form=RGB") == ("gst:videotestsrc", {"form": "RGB"})  # to be told of
    assert split_options("v4l2:///dev/video0?format=Y16") == ("v4l2:///dev/video0", {"format": "Y16"})
    assert split_options("http://h/x?q=a/b,c&rotate=90&real_stream") == (
        "http://h/x?q=a/b,c&real_stream",
        {"rotate": "90"},
    )


@pytest.mark.parametrize(
    "uri",
    [
        "rtsp://10.0.0.9:554/user=admin&password=hush&channel=1&stream=0.sdp",
        "rtsp://admin:hu/hush@10.0.0.9:554/live",
        "http://10.0.0.9:554/cgi?loginuse=admin&loginpas=hush",
        "http://10.0.0.9:554/video?psw=hush;a=1",
        "rtsp://10.0.0.9:554/admin:hush/ch1",
        "rtsp://hush:hush@10.0.0.9:554",
        "gst:rtspsrc user-pw=hush location=rtsp://a:hush@10.0.0.9:554/x ! decodebin",
    ],
)
def test_passwords_are_found_wherever_cameras_want_them(uri: str) -> None:
    assert "hush" not in redact(uri) and ("10.0.0.9:554" in redact(uri) or uri.startswith("gst:"))
