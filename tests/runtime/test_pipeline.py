"""Two cameras to results, live and recorded, with sinks that are slow or break."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import write_frames

from edgemtl_runtime.bundle import Bundle
from edgemtl_runtime.camera import Camera, open_camera, open_cameras
from edgemtl_runtime.engine.onnxruntime import OrtEngine, open_ort_engine
from edgemtl_runtime.errors import BundleError, CameraError, EdgemtlError
from edgemtl_runtime.frame import Frame, FramePair
from edgemtl_runtime.pipeline import Pipeline
from edgemtl_runtime.result import Boxes, LabelMap, Result
from edgemtl_runtime.sink.jsonl import JsonLines
from edgemtl_runtime.sink.video import Video


def pipeline(bundle: Path, rgb: object, ir: object, tolerance_ms: float = 30.0) -> Pipeline:
    opened = Bundle.open(bundle)
    cameras = open_cameras({"rgb": str(rgb), "ir": str(ir)})
    return Pipeline(opened, OrtEngine(opened.model, 1), cameras, tolerance_ms)


class Slow:
    """A sink that takes its time."""

    name = "slow"
    on_main_thread = False

    def __init__(self, seconds: float) -> None:
        self.seconds, self.seen, self.closed = seconds, 0, False

    def write(self, pair: FramePair, result: Result) -> None:
        time.sleep(self.seconds)
        self.seen += 1

    def close(self) -> None:
        self.closed = True


class Broken(Slow):
    """A sink whose disk is full."""

    def write(self, pair: FramePair, result: Result) -> None:
        raise OSError(28, "No space left on device")


def test_recorded_streams_are_used_to_the_last_frame(toy_bundle: Path, tmp_path: Path) -> None:
    rgb, ir = write_frames(tmp_path / "rgb", 40), write_frames(tmp_path / "ir", 40, channels=1, depth=16)
    slow = Slow(0.005)
    stats = pipeline(toy_bundle, rgb, ir).run([slow])
    assert stats.pairs == 40 and not stats.drops and slow.seen == 40 and slow.closed


def test_results_are_typed_and_in_camera_pixels(toy_bundle: Path, tmp_path: Path) -> None:
    rgb = write_frames(tmp_path / "rgb", 2, size=(128, 192))
    ir = write_frames(tmp_path / "ir", 2, size=(32, 48), channels=1)
    pair, result = next(iter(pipeline(toy_bundle, rgb, ir)))
    boxes, labels = result.heads["boxes"], result.heads["semantic"]
    assert isinstance(boxes, Boxes) and isinstance(labels, LabelMap)
    assert boxes.xyxy.tolist() == [[48, 32, 144, 96]] and boxes.names[boxes.classes[0]] == "person"
    assert labels.labels.shape == (128, 192) and pair.skew_ns == 0


def test_live_cameras_lose_what_is_late_and_count_it(toy_bundle: Path) -> None:
    pipe = pipeline(toy_bundle, "pattern:?fps=200&frames=100", "pattern:?fps=200&frames=100")
    slow = Slow(0.05)
    stats = pipe.run([slow])
    assert stats.frames == {"rgb": 100, "ir": 100}
    lost = stats.drops.get("pair: superseded", 0)
    unpaired = sum(count for cause, count in stats.drops.items() if "partner" in cause)
    assert 2 * (stats.pairs + lost) + unpaired == 200
    assert stats.pairs == slow.seen + stats.drops.get("sink slow: too slow", 0) and slow.seen < 100


def test_different_rates_pair_by_time(toy_bundle: Path) -> None:
    stats = pipeline(toy_bundle, "pattern:?fps=60&frames=60", "pattern:?fps=20&frames=20", 10).run()
    assert stats.pairs + stats.drops["pair: superseded"] == 20
    assert stats.to_dict()["skew_ms"]["max"] <= 10


def test_a_broken_sink_ends_the_run_with_its_own_error(toy_bundle: Path, tmp_path: Path) -> None:
    jsonl = JsonLines(tmp_path / "o.jsonl")
    pipe = pipeline(toy_bundle, "pattern:?fps=100", "pattern:?fps=100")
    with pytest.raises(OSError, match="No space left"):
        pipe.run([Broken(0), jsonl])
    assert jsonl.closed


def test_a_camera_error_ends_the_run_and_finishes_the_files(toy_bundle: Path, tmp_path: Path) -> None:
    rgb, ir = write_frames(tmp_path / "rgb", 12), write_frames(tmp_path / "ir", 12, channels=1)
    cv2.imwrite(str(rgb / "99.png"), np.zeros((10, 20, 3), np.uint8))
    with pytest.raises(CameraError, match="20x10"):
        pipeline(toy_bundle, rgb, ir).run([JsonLines(tmp_path / "o.jsonl"), Video(tmp_path / "o.mp4", 10)])
    assert len((tmp_path / "o.jsonl").read_text().splitlines()) == 12
    assert cv2.VideoCapture(str(tmp_path / "o.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 12


class Late:
    """A recorded camera that is read more slowly than the other."""

    def __init__(self, camera: Camera) -> None:
        self.camera, self.name, self.live, self.close = camera, camera.name, camera.live, camera.close

    def frames(self) -> Iterator[Frame]:
        for frame in self.camera.frames():
            time.sleep(0.02)
            yield frame


@pytest.mark.parametrize("late", ["rgb", "ir"])
def test_what_was_read_before_a_camera_failed_still_finds_its_partners(
    toy_bundle: Path, tmp_path: Path, late: str
) -> None:
    rgb, ir = write_frames(tmp_path / "rgb", 6), write_frames(tmp_path / "ir", 20, channels=1)
    cv2.imwrite(str(rgb / "99.png"), np.zeros((10, 20, 3), np.uint8))
    pipe = pipeline(toy_bundle, rgb, ir)
    cameras = dict(pipe.capture.cameras)
    cameras[late] = Late(cameras[late])
    opened = Bundle.open(toy_bundle)
    pipe = Pipeline(opened, OrtEngine(opened.model, 1), cameras)
    with pytest.raises(CameraError, match="20x10"):
        pipe.run([])
    assert pipe.stats.pairs == 6


def test_json_lines_and_video_say_the_same(toy_bundle: Path, tmp_path: Path) -> None:
    rgb, ir = write_frames(tmp_path / "rgb", 5), write_frames(tmp_path / "ir", 5, channels=1)
    pipeline(toy_bundle, rgb, ir).run([JsonLines(tmp_path / "o.jsonl"), Video(tmp_path / "o.mp4", 10)])
    rows = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert [row["index"] for row in rows] == [0, 1, 2, 3, 4] and rows[0]["name"] == "0000"
    assert rows[0]["heads"]["boxes"]["boxes"][0]["class"] == "person"
    video = cv2.VideoCapture(str(tmp_path / "o.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 5 and video.get(cv2.CAP_PROP_FRAME_WIDTH) == 2 * 480
    assert not list(tmp_path.glob("*.part*"))


def test_stop_ends_an_endless_stream(toy_bundle: Path) -> None:
    pipe = pipeline(toy_bundle, "pattern:?fps=100", "pattern:?fps=100")
    for index, _ in enumerate(pipe):
        if index == 5:
            pipe.stop()
    assert pipe.stats.pairs == 6


def test_a_stream_that_ends_ends_the_run_though_the_other_goes_on(toy_bundle: Path) -> None:
    stats = pipeline(toy_bundle, "pattern:?fps=50&frames=10", "pattern:?fps=50").run()
    assert stats.pairs + stats.drops["pair: superseded"] == 10


def test_a_recording_beside_a_live_camera_is_refused(toy_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(CameraError, match="--rgb is a recording next to a live camera: pace it"):
        pipeline(toy_bundle, write_frames(tmp_path / "rgb", 2), "pattern:")


def test_a_video_may_be_left_at_any_moment(toy_bundle: Path, tmp_path: Path) -> None:
    rgb, ir = write_frames(tmp_path / "rgb", 60), write_frames(tmp_path / "ir", 60, channels=1)
    pipeline(toy_bundle, rgb, ir).run([Video(tmp_path / "v.mp4", 30)])
    for stop in (1, 5, 9):
        pipe = pipeline(toy_bundle, tmp_path / "v.mp4", ir)
        for index, _ in enumerate(pipe):
            if index == stop:
                break
        del pipe


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"height": 32}, "the manifest says"),
        ({"name": "colour"}, "the manifest says"),
        ({"dtype": "float32"}, "this runtime feeds uint8 NHWC"),
        ({"channels": 2}, "impossible shape"),
        ({"height": 0}, "impossible shape"),
    ],
)
def test_a_network_that_is_not_the_manifests_is_refused(
    toy_bundle: Path, change: dict[str, object], expected: str
) -> None:
    manifest = json.loads((toy_bundle / "manifest.json").read_text())
    manifest["inputs"][0].update(change)
    (toy_bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=expected):
        open_ort_engine(Bundle.open(toy_bundle))


@pytest.mark.parametrize(("given", "expected"), [({"rgb"}, "needs --ir"), ({"rgb", "ir", "depth"}, "no input depth")])
def test_cameras_must_fit_the_bundle(toy_bundle: Path, given: set[str], expected: str) -> None:
    opened = Bundle.open(toy_bundle)
    cameras = {name: open_camera("pattern:", name) for name in given}
    with pytest.raises(EdgemtlError, match=expected):
        Pipeline(opened, OrtEngine(opened.model), cameras)


@pytest.mark.parametrize("absent", ["rgb", "ir"])
def test_an_absent_camera_is_the_blank_frame_where_the_manifest_allows_it(
    absent: str, toy_bundle: Path, tmp_path: Path
) -> None:
    manifest = json.loads((toy_bundle / "manifest.json").read_text())
    for spec in manifest["inputs"]:
        spec |= {"may_be_missing": True, "blank": 200}
    (toy_bundle / "manifest.json").write_text(json.dumps(manifest))
    opened, there = Bundle.open(toy_bundle), {"rgb": "ir", "ir": "rgb"}[absent]
    frames = write_frames(tmp_path / there, 3, size=(128, 192), channels=3 if there == "rgb" else 1)
    pipeline = Pipeline(opened, OrtEngine(opened.model, 1), {there: open_camera(str(frames), there)})
    results = [result for _, result in pipeline]
    assert len(results) == 3 and all(r.missing == (absent,) and r.camera == there for r in results)
    assert results[0].to_dict()["missing"] == results[0].to_dict()["absent"] == [absent]
    labels = results[0].heads["semantic"]
    assert isinstance(labels, LabelMap) and labels.labels.shape == (128, 192)
    if absent == "rgb":
        assert (labels.labels == 1).all()  # the toy's semantic is where red is bright, and blank is
    with pytest.raises(EdgemtlError, match="needs --rgb and --ir"):
        Pipeline(opened, OrtEngine(opened.model, 1), {})


def test_a_network_that_is_no_onnx_is_told(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no network")
    with pytest.raises(BundleError, match="cannot load it"):
        OrtEngine(tmp_path / "model.onnx")
