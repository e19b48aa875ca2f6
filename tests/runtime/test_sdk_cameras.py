"""Cameras by their makers' libraries: librealsense itself on a device of software, DepthAI and GenICam on stand-ins."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from topics import take

from edgemtl_runtime.camera import open_camera, open_cameras
from edgemtl_runtime.camera.sdk import Session, in_millimetres
from edgemtl_runtime.camera.sdk.genicam import FORMATS, decoded
from edgemtl_runtime.camera.wrappers import complete
from edgemtl_runtime.errors import CameraError, UsageError
from edgemtl_runtime.frame import Frame

WIDTH, HEIGHT = 64, 48


@pytest.fixture(autouse=True)
def no_session_is_left() -> Iterator[None]:
    yield
    assert not Session.open_sessions


class SoftwareDevice:
    """A device of librealsense whose frames come from here, twenty a second: depth of 1 + n counts, colour of n."""

    def __init__(self, unit_m: float = 0.001) -> None:
        self.rs = rs = pytest.importorskip("pyrealsense2", reason="needs pyrealsense2")
        self.device = rs.software_device()
        self.device.register_info(rs.camera_info.serial_number, "SOFT1")
        self.device.register_info(rs.camera_info.name, "software")
        self.sensors = [self.device.add_sensor(name) for name in ("Stereo Module", "RGB Camera")]
        self.sensors[0].add_read_only_option(rs.option.depth_units, unit_m)
        self.unit_m = unit_m
        self.profiles = [
            self.sensors[0].add_video_stream(self._stream(rs.stream.depth, rs.format.z16, 2, 0)),
            self.sensors[0].add_video_stream(self._stream(rs.stream.infrared, rs.format.y8, 1, 2, index=1)),
            self.sensors[1].add_video_stream(self._stream(rs.stream.color, rs.format.rgb8, 3, 1)),
        ]
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._feed, daemon=True)

    def _stream(self, kind: Any, form: Any, size: int, uid: int, index: int = 0) -> Any:
        stream, lens = self.rs.video_stream(), self.rs.intrinsics()
        lens.width, lens.height, lens.fx, lens.fy, lens.coeffs = WIDTH, HEIGHT, 60.0, 60.0, [0.0] * 5
        stream.type, stream.index, stream.uid, stream.fmt, stream.bpp = kind, index, uid, form, size
        stream.width, stream.height, stream.fps, stream.intrinsics = WIDTH, HEIGHT, 20, lens
        return stream

    def _feed(self) -> None:
        number = 0
        while not self.ended.wait(0.05):
            number += 1
            images = (
                np.full((HEIGHT, WIDTH), 1 + number, np.uint16),
                np.full((HEIGHT, WIDTH), 3, np.uint8),
                np.full((HEIGHT, WIDTH, 3), number, np.uint8),
            )
            for sensor, profile, image in zip((self.sensors[0], *self.sensors), self.profiles, images, strict=True):
                frame = self.rs.software_video_frame()
                size = image.nbytes // (WIDTH * HEIGHT)
                frame.pixels, frame.bpp, frame.stride, frame.frame_number = image, size, WIDTH * size, number
                frame.timestamp, frame.domain = time.time() * 1e3, self.rs.timestamp_domain.global_time
                frame.profile = profile.as_video_stream_profile()
                if profile is self.profiles[0]:
                    frame.depth_units = self.unit_m
                sensor.on_video_frame(frame)


@pytest.fixture
def realsense(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., SoftwareDevice]]:
    """Connects software devices: librealsense itself does not list them."""
    devices: list[SoftwareDevice] = []

    def connect(**options: Any) -> SoftwareDevice:
        soft = SoftwareDevice(**options)
        devices.append(soft)
        soft.thread.start()
        real = soft.rs.context
        context = lambda: SimpleNamespace(  # noqa: E731
            query_devices=lambda: [one.device for one in devices], load_device=real().load_device
        )
        monkeypatch.setattr(soft.rs, "context", context)
        return soft

    yield connect
    for soft in devices:
        soft.ended.set()
        soft.thread.join()


def test_streams_of_one_device_are_cameras_that_pair(realsense: Callable[..., SoftwareDevice]) -> None:
    realsense()
    cameras = open_cameras({"rgb": "realsense://", "depth": "realsense://?clock=header"})
    frames: dict[str, list[Frame]] = {}
    threads = [
        threading.Thread(target=lambda n=name, c=camera: frames.update({n: take(c, 6)}))
        for name, camera in cameras.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    for colour in frames["rgb"]:
        assert colour.image.shape == (HEIGHT, WIDTH, 3) and colour.stamp_source == "driver"
        number = int(colour.image[0, 0, 0])
        nearest = min(frames["depth"], key=lambda depth: abs(depth.stamp_ns - colour.stamp_ns))
        assert nearest.image.dtype == np.uint16 and abs(int(nearest.image[0, 0]) - 1 - number) <= 1
    assert abs(frames["rgb"][-1].stamp_ns - frames["rgb"][-1].arrived_ns) < 50_000_000


def test_depth_is_in_millimetres_whatever_the_devices_unit(realsense: Callable[..., SoftwareDevice]) -> None:
    realsense(unit_m=0.0001)
    frames = take(open_camera("realsense://SOFT1", "depth"), 12)
    assert frames[-1].image.max() <= 30 and {int(frame.image[0, 0]) for frame in frames} >= {1}
    assert in_millimetres(np.array([[12_345]], np.uint16), 0.0001).tolist() == [[1234]]
    assert in_millimetres(np.array([[60_000]], np.uint16), 0.01).tolist() == [[65_535]]


def test_infrared_is_a_thermal_cameras_stand_in(realsense: Callable[..., SoftwareDevice]) -> None:
    realsense()
    assert take(open_camera("realsense://", "ir"), 1)[0].image.shape == (HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("uri", "name", "line"),
    [
        ("realsense://OTHER", "rgb", "no such camera; there are SOFT1"),
        ("realsense://?width=1280", "rgb", "has no stream color of that size and rate; there are 64x48 at 20"),
        ("realsense://?stream=infrared2", "ir", "has no stream infrared2 of that size and rate; it has no such sensor"),
        ("realsense://?stream=colour", "rgb", "option stream=colour is not one of color, depth, infrared, infrared2"),
        ("realsense://?sped=2", "rgb", "unknown option 'sped'"),
        ("realsense:/no/where.db3", "rgb", "there is no such file"),
    ],
)
def test_a_realsense_that_is_not_there_is_one_line(
    realsense: Callable[..., SoftwareDevice], uri: str, name: str, line: str
) -> None:
    realsense()
    with pytest.raises(CameraError) as raised:
        open_camera(uri, name)
    assert line in str(raised.value) and "\n" not in str(raised.value)


def test_a_recorded_file_is_read_to_its_end(tmp_path: Path) -> None:
    soft = SoftwareDevice()
    file = tmp_path / "drive.db3"
    recorder = soft.rs.recorder(str(file), soft.device)
    sensors = recorder.query_sensors()
    for sensor in sensors:
        sensor.open(sensor.get_stream_profiles())
        sensor.start(lambda frame: None)
    soft.thread.start()
    time.sleep(1.0)
    soft.ended.set()
    soft.thread.join()
    for sensor in sensors:
        sensor.stop()
        sensor.close()
    del sensor, sensors, recorder
    frames = list(complete(open_camera(f"realsense:{file}?stream=depth", "depth")).frames())
    counts = [int(frame.image[0, 0]) for frame in frames]
    assert len(counts) > 10 and counts == sorted(set(counts)) and frames[0].stamp_source == "stream"
    steps_ms = np.diff([frame.stamp_ns for frame in frames]) / 1e6
    assert 45 < np.median(steps_ms) < 60


@pytest.mark.slow
def test_depth_is_recorded_next_to_colour(tmp_path: Path) -> None:
    """`record` keeps depth as 16-bit images of millimetres, which training reads as one more modality."""
    pytest.importorskip("pyrealsense2", reason="needs pyrealsense2")
    program = (
        "import sys, test_sdk_cameras as t\n"
        "from types import SimpleNamespace\n"
        "soft = t.SoftwareDevice(); soft.thread.start()\n"
        "soft.rs.context = lambda: SimpleNamespace(query_devices=lambda: [soft.device])\n"
        "from edgemtl_runtime.cli import main\n"
        "import threading, signal, os\n"
        "threading.Timer(3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()\n"
        "cameras = ['--rgb', 'realsense://', '--camera', 'depth=realsense://']\n"
        f"main(['record', *cameras, '--out', {str(tmp_path / 'set')!r}])\n"
        "os._exit(0)\n"
    )
    here = Path(__file__).parent
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=here, capture_output=True, text=True, timeout=60, check=False
    )
    colours = sorted((tmp_path / "set").rglob("rgb/**/*.png")) + sorted((tmp_path / "set").rglob("rgb/**/*.jpg"))
    depths = sorted((tmp_path / "set").rglob("depth/**/*.png"))
    assert len(depths) == len(colours) > 10, ran.stderr
    image = cv2.imread(str(depths[3]), cv2.IMREAD_UNCHANGED)
    assert image.dtype == np.uint16 and image.shape == (HEIGHT, WIDTH) and 1 < image[0, 0] < 100


class FakeDepthAI:
    """What the camera uses of DepthAI 3; frames are pushed by `push`."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.callbacks: list[Callable[[Any], None]] = []

    def module(self) -> ModuleType:
        fake = self

        class Output:
            def __init__(self, label: str) -> None:
                self.label = label

            def createOutputQueue(self, size: int, blocking: bool) -> Any:
                fake.calls.append(f"queue of {self.label}, {size}, {blocking}")
                return SimpleNamespace(addCallback=fake.callbacks.append)

            def link(self, target: str) -> None:
                fake.calls.append(f"{self.label} to {target}")

        class CameraNode:
            def build(self, socket: str) -> Any:
                def request(size: tuple[int, int], kind: str, fps: float) -> Output:
                    return Output(f"{socket} {size[0]}x{size[1]} {kind} at {fps:g}")

                return SimpleNamespace(requestOutput=request)

        class Pipeline:
            def __init__(self, device: Any) -> None:
                fake.calls.append(f"device {device.info}")

            def create(self, node: str) -> Any:
                return CameraNode() if node == "Camera" else SimpleNamespace(left="L", right="R", depth=Output("depth"))

            def start(self) -> None:
                fake.calls.append("start")

            def stop(self) -> None:
                fake.calls.append("stop")

        def device(info: str = "any") -> Any:
            if info == "gone":
                raise RuntimeError("No available devices")
            return SimpleNamespace(info=info)

        module = ModuleType("depthai")
        vars(module).update(
            Device=device, DeviceInfo=str, Pipeline=Pipeline,
            node=SimpleNamespace(Camera="Camera", StereoDepth="Stereo"),
            CameraBoardSocket=SimpleNamespace(CAM_A="A", CAM_B="B", CAM_C="C"),
            ImgFrame=SimpleNamespace(Type=SimpleNamespace(RGB888i="rgb", GRAY8="grey")),
        )  # fmt: skip
        return module

    def push(self, index: int, image: np.ndarray, age_s: float) -> None:
        stamp = timedelta(seconds=time.monotonic() - age_s)
        message = SimpleNamespace(getTimestamp=lambda: stamp, getFrame=lambda: image)
        self.callbacks[index](message)


def test_an_oaks_streams_by_a_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeDepthAI()
    monkeypatch.setitem(sys.modules, "depthai", fake.module())
    cameras = open_cameras({"rgb": "oak://18443?fps=15", "depth": "oak://18443?width=320&height=200"})
    rgb, depth = (complete(camera).frames() for camera in cameras.values())
    pushing = threading.Event()

    def push() -> None:
        while not pushing.wait(0.02):
            if len(fake.callbacks) == 2:
                fake.push(0, np.full((400, 640, 3), 9, np.uint8), 0.030)
                fake.push(1, np.full((200, 320), 1500, np.uint16), 0.060)

    thread = threading.Thread(target=push)
    thread.start()
    first, second = next(rgb), next(depth)
    pushing.set()
    thread.join()
    for camera in cameras.values():
        camera.close()
    rgb.close()  # type: ignore[attr-defined]
    depth.close()  # type: ignore[attr-defined]
    assert first.image.shape == (400, 640, 3) and second.image[0, 0] == 1500 and first.stamp_source == "driver"
    for frame, age_ms in ((first, 30), (second, 60)):
        assert abs((frame.arrived_ns - frame.stamp_ns) / 1e6 - age_ms) < 5
    assert fake.calls == [
        "device 18443", "queue of A 640x400 rgb at 15, 4, False",
        "B 320x200 grey at 30 to L", "C 320x200 grey at 30 to R",
        "queue of depth, 4, False", "start", "stop",
    ]  # fmt: skip


def test_an_oak_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "depthai", FakeDepthAI().module())
    camera = complete(open_camera("oak://gone", "rgb")).unwrapped
    session = Session.open_sessions[next(iter(Session.open_sessions))]
    with pytest.raises(CameraError, match="oak://gone: cannot be opened"):
        session.begin(session.cameras[0])
    complete(camera).close()
    session.leave(session.cameras[0]) if session.cameras else None


class FakeHarvester:
    """What the camera uses of Harvesters; two devices, of which each gives images of a time of its own clock."""

    log: list[str]
    pixel_format = "Mono16"

    def __init__(self) -> None:
        self.device_info_list = [SimpleNamespace(serial_number=n, user_defined_name=f"cam-{n}") for n in ("A1", "B2")]

    def add_file(self, file: str) -> None:
        self.log.append(f"producer {Path(file).name}")

    def update(self) -> None:
        self.log.append("update")

    def reset(self) -> None:
        self.log.append("reset")

    def create(self, index: int) -> Any:
        self.log.append(f"create {index}")

        def fetch(timeout: float) -> Any:
            time.sleep(0.03)
            data = np.arange(6 * 8, dtype=np.uint16) * 256
            part = SimpleNamespace(data_format=self.pixel_format, height=6, width=8, data=data)
            boot_ns = time.monotonic_ns() // 1000 * 1000 + 5_000_000_000_000
            return SimpleNamespace(
                payload=SimpleNamespace(components=[part]), timestamp_ns=boot_ns, queue=lambda: self.log.append("queue")
            )

        return SimpleNamespace(
            start=lambda: self.log.append("start"), try_fetch=fetch, stop=lambda: self.log.append("stop"),
            destroy=lambda: self.log.append("destroy"),
        )  # fmt: skip


@pytest.fixture
def harvesters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    FakeHarvester.log = []
    core = ModuleType("harvesters.core")
    vars(core).update(Harvester=FakeHarvester)
    monkeypatch.setitem(sys.modules, "harvesters", ModuleType("harvesters"))
    monkeypatch.setitem(sys.modules, "harvesters.core", core)
    (tmp_path / "maker.cti").touch()
    monkeypatch.setenv("GENICAM_GENTL64_PATH", str(tmp_path))
    return FakeHarvester.log


@pytest.mark.parametrize("device", ["B2", "cam-B2"])
def test_a_genicam_camera_by_a_stand_in(harvesters: list[str], device: str) -> None:
    frames = take(open_camera(f"genicam://{device}", "ir"), 4)
    assert frames[0].image.dtype == np.uint16 and frames[0].image[0].tolist() == [n * 256 for n in range(8)]
    assert {frame.stamp_source for frame in frames} == {"stream"} and np.ptp(
        np.diff([f.stamp_ns for f in frames])
    ) < 20e6
    assert harvesters[:4] == ["producer maker.cti", "update", "create 1", "start"]
    assert harvesters[-3:] == ["stop", "destroy", "reset"] and "queue" in harvesters


def test_a_genicam_camera_that_is_not_there_is_one_line(harvesters: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CameraError, match=r"no.cti is not there; give \?cti=FILE"):
        open_camera("genicam://B2?cti=no.cti", "ir")
    monkeypatch.delenv("GENICAM_GENTL64_PATH")
    with pytest.raises(CameraError, match="GENICAM_GENTL64_PATH names no folder with one"):
        open_camera("genicam://B2", "ir")


def test_pixel_formats_of_the_standard() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    np.testing.assert_array_equal(decoded("RGB8", 6, 8, colours.ravel()), colours)
    np.testing.assert_array_equal(decoded("BGR8", 6, 8, colours[:, :, ::-1].ravel()), colours)
    flat = np.full((6, 8), 90, np.uint8)
    for name in FORMATS:
        if name.startswith("Bayer") or name == "Mono8":
            assert (decoded(name, 6, 8, flat.ravel()) == 90).all()
    with pytest.raises(CameraError, match="cannot read the pixel format Mono12p; set PixelFormat to one of Mono8"):
        decoded("Mono12p", 6, 8, flat)


@pytest.mark.parametrize("uri", ["realsense://", "oak://", "genicam://?cti=here.cti"])
def test_without_its_library_a_camera_names_what_to_install(
    uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("here.cti").touch()
    for name in ("pyrealsense2", "depthai", "harvesters.core"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(CameraError, match=r"is missing: pip install 'edgemtl-runtime\[(realsense|oak|genicam)\]'"):
        open_camera(uri, "rgb")


def test_options_that_an_oak_does_not_have_are_one_line() -> None:
    with pytest.raises(UsageError, match="unknown option 'size'"):
        open_camera("oak://?size=3", "rgb")
