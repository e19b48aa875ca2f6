"""The video sink: presentation times, encoders, sizes, and OpenCV where PyAV is missing."""

from __future__ import annotations

import signal
from pathlib import Path

import av
import pytest
from recorders import feed, image_count
from test_mcap import make_pair, make_result

from edgemtl_runtime.errors import EdgemtlError
from edgemtl_runtime.sink.rotation import RotationLimits
from edgemtl_runtime.sink.video import Video

pytestmark = pytest.mark.realtime


def test_a_video_plays_at_the_speed_at_which_it_was_taken(tmp_path: Path) -> None:
    """Nine images a second by the camera, though thirty are nominal; then a pause."""
    sink = Video(tmp_path / "r.mp4", 30)
    times_s = [index / 9 for index in range(18)] + [5.0, 5.5]
    for index, time_s in enumerate(times_s):
        pair = make_pair(round(time_s * 100), (49, 65))  # odd sides
        sink.write(pair, make_result(pair, index))
    sink.close()
    with av.open(str(tmp_path / "r.mp4")) as container:
        shown = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]
        assert container.streams.video[0].codec.name == "h264"
    assert shown == pytest.approx(times_s, abs=0.01)
    assert image_count(tmp_path / "r.mp4") == 20


@pytest.mark.parametrize("name", ["r.mp4", "r.mkv", "r.avi"])
def test_without_pyav_opencv_writes_what_survives(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgemtl_runtime.sink.video.find_spec", lambda module: None)
    feed(sink := Video(tmp_path / name, 10), 30, size=(49, 65))
    sink.close()
    assert sink.file == tmp_path / name.replace("mp4", "mkv") and image_count(sink.file) == 30
    sink.file.rename(sink.file.with_name(f".r.part{sink.file.suffix}"))  # as a kill leaves it
    (again := Video(tmp_path / name, 10)).close()
    assert list(again.tally.recovered) == [str(sink.file)] and image_count(sink.file) == 30
    with pytest.raises(EdgemtlError, match="--keep-mb needs PyAV"):
        Video(tmp_path / name, 10, RotationLimits.of(keep_mb=5))


def test_without_x264_mpeg_4_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    feed(sink := Video(tmp_path / "r.mp4", 10), 15)
    sink.close()
    assert image_count(tmp_path / "r.mp4") == 15


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_an_image_of_another_size_is_resized(tmp_path: Path) -> None:
    sink = Video(tmp_path / "r.mp4", 10)
    for index, size in enumerate([(48, 64), (96, 128), (48, 64)]):
        pair = make_pair(index * 10, size)
        sink.write(pair, make_result(pair, index))
    sink.close()
    assert image_count(tmp_path / "r.mp4") == 3
