"""Recordings and folders: what is of one moment is a pair, whatever the order, the names and the speed."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcap.writer import Writer

from edgemtl_runtime.camera import open_cameras
from edgemtl_runtime.camera.bag import REORDER_WINDOW, in_order
from edgemtl_runtime.errors import CameraError
from edgemtl_runtime.frame import FramePair
from edgemtl_runtime.messages.ros import header, of_array
from edgemtl_runtime.messages.store import Image, definition, serialize
from edgemtl_runtime.recording import Recording

pytestmark = pytest.mark.realtime

MS = 1_000_000
UNIX = 1_700_000_000_000_000_000


def folder(root: Path, names: list[str], grey: bool = False) -> Path:
    """Write pictures that show their own number."""
    root.mkdir()
    for name in names:
        number = int("".join(c for c in name if c.isdigit()) or 0)
        image = np.full((16, 24) if grey else (16, 24, 3), 7 * number, np.uint8)
        cv2.imwrite(str(root / f"{name}.png"), image)
    return root


def paired(rgb: str, ir: str) -> tuple[list[tuple[str, str]], Recording]:
    """Return the names of what was paired."""
    run = Recording(open_cameras({"rgb": rgb, "ir": ir}), 30)
    return [(pair.frames["rgb"].name, pair.frames["ir"].name) for pair in run], run


@pytest.mark.parametrize("fps", ["", "?fps=100"])
def test_folders_are_paired_by_their_names(tmp_path: Path, fps: str) -> None:
    rgb = folder(tmp_path / "rgb", [f"{i:04d}" for i in range(6)])
    ir = folder(tmp_path / "ir", [f"{i:04d}" for i in range(6) if i != 1], grey=True)
    names, run = paired(f"{rgb}{fps}", f"{ir}{fps}")
    assert names == [(f"{i:04d}",) * 2 for i in range(6) if i != 1]
    assert dict(run.stats.drops) == {"rgb: no partner": 1}


def test_numbers_in_names_count_as_numbers(tmp_path: Path) -> None:
    names = [str(i) for i in (1, 2, 10, 11)]
    matched, _ = paired(str(folder(tmp_path / "rgb", names)), str(folder(tmp_path / "ir", names, True)))
    assert matched == [(name, name) for name in names]


@pytest.mark.parametrize(
    ("rgb", "ir"),
    [
        (["0001", "0002", "0010"], ["1", "2", "10"]),
        (["a_007_x", "b 1"], ["a_7_x", "b 01"]),
        (["ma\u00dfe", "stra\u00dfe \u00e9 1"], ["ma\u00dfe", "stra\u00dfe e\u0301 1"]),
        (["0.05", "0.5"], ["0.05", "0.5"]),
    ],
    ids=["leading zeros", "zeros within", "composed and not", "fractions"],
)
def test_names_that_mean_the_same_are_of_one_moment(tmp_path: Path, rgb: list[str], ir: list[str]) -> None:
    matched, run = paired(str(folder(tmp_path / "rgb", rgb)), str(folder(tmp_path / "ir", ir, True)))
    assert sorted(matched) == sorted(zip(rgb, ir, strict=True)) and not run.stats.drops


def test_what_is_hidden_or_a_folder_is_no_picture(tmp_path: Path) -> None:
    rgb = folder(tmp_path / "rgb", ["1", "2", ".hidden", "._1"])
    (rgb / "3.png").mkdir()
    matched, run = paired(str(rgb), str(folder(tmp_path / "ir", ["1", "2"], True)))
    assert matched == [("1", "1"), ("2", "2")] and not run.stats.drops


def test_folders_that_share_no_name_are_refused_unless_their_order_is_meant(tmp_path: Path) -> None:
    rgb, ir = folder(tmp_path / "rgb", ["rgb_1", "rgb_2"]), folder(tmp_path / "ir", ["ir_1", "ir_2"], True)
    with pytest.raises(CameraError, match=r"share no names \(rgb_1.png, ir_1.png\).*\?pair=order"):
        paired(str(rgb), str(ir))
    matched, _ = paired(f"{rgb}?pair=order", f"{ir}?pair=order")
    assert matched == [("rgb_1", "ir_1"), ("rgb_2", "ir_2")]


def test_a_name_that_stands_for_two_pictures_is_refused(tmp_path: Path) -> None:
    rgb, ir = folder(tmp_path / "rgb", ["1", "2"]), folder(tmp_path / "ir", ["1", "2"], True)
    cv2.imwrite(str(rgb / "1.jpg"), np.zeros((16, 24, 3), np.uint8))
    with pytest.raises(CameraError, match=r"1\.jpg and 1\.png are called alike"):
        paired(str(rgb), str(ir))


def record(file: Path, samples_ms: list[int]) -> str:
    """Write pairs of these capture times, in this order, as a recorder that gets them so would."""
    with file.open("wb") as stream:
        writer = Writer(stream)
        writer.start("ros2", "a recorder")
        schema = writer.register_schema(Image.__msgtype__, "ros2msg", definition(Image.__msgtype__).encode())
        channels = {name: writer.register_channel(f"/{name}", "cdr", schema) for name in ("rgb", "ir")}
        for index, at in enumerate(samples_ms):
            for name, shape in (("rgb", (16, 24, 3)), ("ir", (16, 24))):
                image = np.full(shape, index % 250, np.uint8)
                encoding = "rgb8" if image.ndim == 3 else "mono8"
                head = header(UNIX + at * MS, name)
                message = of_array(image, encoding, head)
                written_ns = UNIX + index * 10 * MS
                writer.add_message(channels[name], written_ns, serialize(message), written_ns, index)
        writer.finish()
    return f"mcap:{file}"


def replayed(place: str, query: str = "") -> tuple[list[FramePair], Recording]:
    uris = {name: f"{place}#/{name}{query}" for name in ("rgb", "ir")}
    run = Recording(open_cameras(uris), 30)
    return list(run), run


def test_frames_that_were_recorded_the_wrong_way_round_are_not_lost(tmp_path: Path) -> None:
    samples = [40 * i for i in range(40)]
    for place in range(3, 36, 5):
        samples[place], samples[place + 1] = samples[place + 1], samples[place]
    pairs, run = replayed(record(tmp_path / "a.mcap", samples))
    assert len(pairs) == 40 and not run.stats.drops
    assert all(p.frames["rgb"].index == p.frames["ir"].index for p in pairs)


@given(st.lists(st.integers(0, 10**6), max_size=60))
def test_nothing_is_lost_by_putting_in_order(times: list[int]) -> None:
    matched = [stamp_ns for stamp_ns, _ in in_order((t * MS, np.zeros(1)) for t in times)]
    assert sorted(matched) == sorted(t * MS for t in times)


@given(st.permutations(range(REORDER_WINDOW + 1)), st.integers(0, 20))
def test_neighbours_are_put_in_order(order: list[int], before: int) -> None:
    times = [*range(before), *(before + place for place in order), *range(before + len(order), before + 30)]
    ordered = [stamp_ns for stamp_ns, _ in in_order((t * MS, np.zeros(1)) for t in times)]
    assert ordered == [t * MS for t in sorted(times)]


def test_speed_changes_when_a_recording_is_played_and_not_what_it_tells(tmp_path: Path) -> None:
    place = record(tmp_path / "a.mcap", [40 * i for i in range(12)])
    pairs, _ = replayed(place, "?speed=4")
    steps = np.diff([p.stamp_ns for p in pairs]) / MS
    assert np.allclose(steps, 40) and all(p.frames["rgb"].unix_ns == p.unix_ns for p in pairs)
    took = (pairs[-1].arrived_ns - pairs[0].arrived_ns) / MS
    assert 60 < took < 400  # 440 ms at its own speed


@pytest.mark.parametrize("back_ms", [600, 4_000, 86_400_000 * 400])
def test_a_recording_that_begins_anew_loses_nothing(tmp_path: Path, back_ms: int) -> None:
    """Also far before this machine's start."""
    samples = [back_ms + 40 * i for i in range(20)] + [40 * i for i in range(20)]
    pairs, run = replayed(record(tmp_path / "a.mcap", samples))
    assert len(pairs) == 40 and not run.stats.drops
    assert all(p.skew_ns == 0 and p.frames["rgb"].index == p.frames["ir"].index for p in pairs)
