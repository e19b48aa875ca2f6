"""Three cameras and more: what belongs together is one group, and every frame is given or dropped once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import write_frames, write_toy_bundle
from hypothesis import given, settings
from hypothesis import strategies as st
from test_exchange import read_until

from edgemtl_runtime import Bundle, Pipeline
from edgemtl_runtime.camera import open_cameras
from edgemtl_runtime.cli import main
from edgemtl_runtime.engine.onnxruntime import OrtEngine
from edgemtl_runtime.frame import Frame, FramePair
from edgemtl_runtime.group_pairing import GroupPairing, pairing_of
from edgemtl_runtime.pairing import Pairing

MS = 1_000_000
NAMES = ["rgb", "ir", "depth"]
IMAGE = np.zeros((2, 2), np.uint8)


class Fed:
    """A pairing that was fed frames, and what came of them."""

    def __init__(self, cameras: list[str] = NAMES, tolerance_ms: float = 20, optional: tuple[str, ...] = ()) -> None:
        self.drops: Counter[str] = Counter()
        self.pushed: Counter[str] = Counter()
        self.pairs: list[FramePair] = []
        self.pairing = pairing_of(
            cameras, round(tolerance_ms * MS), optional, lambda name, _: self.drops.update([name])
        )

    def push(self, name: str, stamp_ms: float, uncertainty_ms: float = 0.0, sample: str = "") -> None:
        self.pushed[name] += 1
        frame = Frame(
            IMAGE,
            round(stamp_ms * MS),
            name,
            self.pushed[name],
            uncertainty_ns=round(uncertainty_ms * MS),
            sample_id=sample,
        )
        self.pairs += self.pairing.push(frame)

    def end(self) -> None:
        for name in self.pairing.cameras:
            self.pairs += self.pairing.end(name)

    @property
    def stamps(self) -> list[dict[str, float]]:
        return [{name: frame.stamp_ns / MS for name, frame in pair.frames.items()} for pair in self.pairs]

    def check(self) -> None:
        """Every frame was given once, dropped once, or waits."""
        given = Counter(name for pair in self.pairs for name in pair.frames)
        waiting = {name: len(queue) for name, queue in self.pairing.waiting.items()}
        for name in self.pairing.cameras:
            assert given[name] + self.drops[name] + waiting[name] == self.pushed[name], name
        frames = [frame for pair in self.pairs for frame in pair.frames.values()]
        assert len({id(frame) for frame in frames}) == len(frames)


def test_one_camera_and_two_are_paired_as_before() -> None:
    assert isinstance(pairing_of(["rgb"], MS), Pairing) and isinstance(pairing_of(["rgb", "ir"], MS), Pairing)
    with pytest.raises(ValueError, match="groups are of 3 to 8"):
        GroupPairing(["rgb", "ir"], MS, (), lambda *_: None)


def test_cameras_of_one_rate_with_delays_are_grouped() -> None:
    fed = Fed()
    for n in range(30):
        for name, delay in (("depth", 5), ("rgb", 0), ("ir", -8)):
            fed.push(name, 50 * n + delay)
    fed.end()
    fed.check()
    assert len(fed.pairs) == 30 and not fed.drops
    assert all(group == {"rgb": 50 * n, "ir": 50 * n - 8, "depth": 50 * n + 5} for n, group in enumerate(fed.stamps))
    assert list(fed.stamps[0]) == NAMES and all(pair.trusted for pair in fed.pairs)


def test_of_a_faster_camera_the_nearest_frames_are_taken() -> None:
    fed = Fed()
    events = [(33.3 * n, "rgb") for n in range(60)] + [(111 * n + 3, "ir") for n in range(18)]
    events += [(50 * n + 1, "depth") for n in range(40)]
    for stamp, name in sorted(events):
        fed.push(name, stamp)
    fed.end()
    fed.check()
    assert fed.pairs and all(set(group) == set(NAMES) for group in fed.stamps)
    for group in fed.stamps:
        assert max(group.values()) - min(group.values()) <= 20
        assert abs(group["ir"] - group["rgb"]) <= 33.3 / 2 + 1e-6


def test_two_others_apart_by_more_than_the_tolerance_are_no_group() -> None:
    fed = Fed()
    for n in range(20):
        for name, delay in (("rgb", 0), ("ir", -15), ("depth", 15)):  # each within 20 ms of the first camera alone
            fed.push(name, 100 * n + delay)
    fed.end()
    fed.check()
    assert not fed.pairs and fed.drops == Counter(dict.fromkeys(NAMES, 20))


def test_a_silent_camera_that_may_be_missing_is_left_out() -> None:
    fed = Fed(optional=("depth",))
    for n in range(10):
        for name in NAMES:
            fed.push(name, 50 * n)
    fed.pairs += fed.pairing.leave("depth")
    assert fed.pairing.silent == {"depth"}
    for n in range(10, 20):
        fed.push("rgb", 50 * n)
        fed.push("ir", 50 * n)
    fed.push("depth", 1000)
    assert fed.pairing.silent == set()
    for name in NAMES[:2]:
        fed.push(name, 1000)
    fed.end()
    fed.check()
    assert [sorted(group) for group in fed.stamps] == [sorted(NAMES)] * 10 + [["ir", "rgb"]] * 10 + [sorted(NAMES)]


def test_a_silent_camera_that_is_needed_stops_the_groups() -> None:
    fed = Fed(optional=("ir",))
    fed.pairs += fed.pairing.leave("depth")
    for n in range(10):
        fed.push("rgb", 50 * n)
        fed.push("ir", 50 * n)
    fed.end()
    fed.check()
    assert not fed.pairs


def test_while_the_first_camera_is_silent_the_others_are_paired() -> None:
    fed = Fed(optional=tuple(NAMES))
    fed.pairs += fed.pairing.leave("rgb")
    for n in range(10):
        fed.push("ir", 50 * n)
        fed.push("depth", 50 * n + 4)
    for n in range(10, 14):
        for name in NAMES:
            fed.push(name, 50 * n)
    fed.end()
    fed.check()
    assert [sorted(group) for group in fed.stamps] == [["depth", "ir"]] * 10 + [sorted(NAMES)] * 4


def test_what_may_be_off_by_more_is_not_trusted() -> None:
    fed = Fed()
    for n in range(3):
        fed.push("rgb", 100 * n, 1)
        fed.push("ir", 100 * n + 5, 1)
        fed.push("depth", 100 * n + 5, 1 if n else 18)
    fed.end()
    assert [pair.trusted for pair in fed.pairs] == [False, True, True]


def test_samples_are_grouped_by_their_identity() -> None:
    fed = Fed()
    for n in range(5):
        for name, late in (("rgb", 0), ("ir", 500), ("depth", 900)):
            fed.push(name, 1000 * n + late, sample=f"s{n}")
    fed.end()
    assert len(fed.pairs) == 5 and all(pair.trusted for pair in fed.pairs)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.sampled_from(["rgb", "ir"]), st.integers(1, 60)), max_size=60), st.booleans())
def test_a_third_camera_that_always_fits_changes_nothing(events: list[tuple[str, int]], ends: bool) -> None:
    """With a frame of it for every frame of the first, the other two are paired as without it."""
    two, three, now = Fed(NAMES[:2], tolerance_ms=30), Fed(tolerance_ms=30), dict.fromkeys(NAMES, 0)
    for name, step in events:
        now[name] += step
        two.push(name, now[name])
        three.push(name, now[name])
        if name == "rgb":
            three.push("depth", now[name])
    if ends:
        two.end()
        three.end()
        expected = [(group.get("rgb"), group.get("ir")) for group in two.stamps]
        assert [(group.get("rgb"), group.get("ir")) for group in three.stamps] == expected
    three.check()


def test_a_drop_after_a_pair_is_of_the_right_frame() -> None:
    fed = Fed(["b", "a", "c"], tolerance_ms=30)
    for name, stamp in (
        ("a", 0),
        ("b", 5),
        ("c", 5),
        ("a", 25),
        ("b", 25),
        ("c", 25),
        ("a", 45),
        ("b", 100),
        ("c", 101),
    ):
        fed.push(name, stamp)
    fed.end()
    fed.check()
    assert fed.stamps[0]["b"] - fed.stamps[0]["a"] == 5 and fed.stamps[0]["c"] == 5


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(NAMES), st.integers(-30, 120)),
            st.tuples(st.just("leave"), st.sampled_from(NAMES)),
        ),
        max_size=80,
    ),
    st.sets(st.sampled_from(NAMES)),
    st.booleans(),
)
def test_every_frame_is_given_or_dropped_once(
    events: list[tuple[str, int | str]], optional: set[str], ends: bool
) -> None:
    fed = Fed(optional=tuple(optional))
    now = dict.fromkeys(NAMES, 0)
    for name, value in events:
        if name == "leave":
            fed.pairs += fed.pairing.leave(str(value))
            continue
        now[name] += int(value)
        fed.push(name, now[name])
        fed.check()
    if ends:
        fed.end()
        fed.check()
    for pair in fed.pairs:
        assert pair.skew_ns <= 20 * MS and set(NAMES) - pair.frames.keys() <= optional


def test_a_network_of_three_cameras_is_run(tmp_path: Path) -> None:
    bundle = Bundle.open(write_toy_bundle(tmp_path / "toy", third="depth"))
    uri = "pattern:?fps=50&width=96&height=64&channels="
    cameras = open_cameras({"rgb": f"{uri}3", "ir": f"{uri}1", "depth": f"{uri}1"})
    with OrtEngine(bundle.model, 1) as engine, Pipeline(bundle, engine, cameras) as pipe:
        read_until(pipe, lambda: pipe.stats.pairs > 30)
        assert set(pipe.status().cameras) == set(NAMES) and not pipe.stats.unpaired


def test_three_cameras_are_recorded_and_read_by_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from edgemtl.config_file import load
    from edgemtl.data.datasets import open_datasets

    folders = {"rgb": write_frames(tmp_path / "a", 12), "ir": write_frames(tmp_path / "b", 12, channels=1)}
    folders["depth"] = write_frames(tmp_path / "c", 12, channels=1, depth=16)
    words = [word for name, folder in folders.items() for word in ("--camera", f"{name}={folder}")]
    assert main(["record", *words, "--out", str(tmp_path / "set"), "--json"]) == 0
    depths = sorted((tmp_path / "set").rglob("depth/**/*.png"))
    assert len(depths) == 12 and cv2.imread(str(depths[5]), cv2.IMREAD_UNCHANGED).dtype == np.uint16
    sample = open_datasets(load(None, [f"data.source={tmp_path / 'set'}", "modalities=[rgb,ir,depth]"]), ("train",))[
        "train"
    ][0]
    assert set(sample.images) == set(NAMES)
