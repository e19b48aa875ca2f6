"""Pairs by capture time: nearest partners, each frame once, every loss counted."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgemtl_runtime.frame import Frame, FramePair
from edgemtl_runtime.pairing import Pairing

IMAGE = np.zeros((8, 8), np.uint8)
MS = 1_000_000


def frame(camera: str, stamp_ms: float, index: int = 0) -> Frame:
    return Frame(IMAGE, int(stamp_ms * MS), camera, index)


def feed(pairing: Pairing, rgb: list[float], ir: list[float]) -> list[FramePair]:
    """Push both streams in the order of their stamps, end them, and return all pairs."""
    order = sorted([(t, "rgb") for t in rgb] + [(t, "ir") for t in ir])
    pairs = [pair for t, name in order for pair in pairing.push(frame(name, t))]
    return pairs + pairing.end("rgb") + pairing.end("ir")


def stamps(pairs: list[FramePair]) -> list[tuple[float, float]]:
    return [(p.frames["rgb"].stamp_ns / MS, p.frames["ir"].stamp_ns / MS) for p in pairs]


RISING = st.lists(st.integers(0, 2000), unique=True, max_size=40).map(sorted)


@given(RISING, RISING, st.integers(1, 100))
def test_every_frame_is_paired_once_within_tolerance_or_counted(
    rgb: list[float], ir: list[float], tolerance: int
) -> None:
    pairing = Pairing(["rgb", "ir"], tolerance * MS)
    pairs = feed(pairing, rgb, ir)
    assert all(pair.skew_ns <= tolerance * MS for pair in pairs)
    for name, sent in (("rgb", rgb), ("ir", ir)):
        used = [pair.frames[name].stamp_ns for pair in pairs]
        assert used == sorted(set(used))
        assert len(used) + pairing.drops[f"{name}: no partner"] == len(sent)


@given(st.integers(5, 60), st.integers(0, 10**6), st.integers(1, 40))
def test_equal_rates_with_an_offset_pair_completely(period: int, seed: int, count: int) -> None:
    offset = np.random.default_rng(seed).uniform(-0.45, 0.45) * period
    rgb = [1000 + i * period for i in range(count)]
    pairing = Pairing(["rgb", "ir"], period * MS)
    pairs = feed(pairing, rgb, [t + offset for t in rgb])
    assert len(pairs) == count and not pairing.drops


def test_equal_stamps_are_emitted_at_once() -> None:
    pairing = Pairing(["rgb", "ir"], 30 * MS)
    assert not pairing.push(frame("rgb", 10))
    assert len(pairing.push(frame("ir", 10))) == 1


def test_no_waiting_for_the_next_frame_once_the_interval_is_known() -> None:
    pairing = Pairing(["rgb", "ir"], 30 * MS)
    emitted = []
    for i in range(5):
        emitted.append((len(pairing.push(frame("rgb", 40 * i))), len(pairing.push(frame("ir", 40 * i + 8)))))
    # The first pair waits for the second colour frame; from then on 40 ms between frames rule out a nearer one.
    assert emitted == [(0, 0), (1, 1), (0, 1), (0, 1), (0, 1)]


def test_the_nearer_of_two_partners_wins() -> None:
    pairing = Pairing(["rgb", "ir"], 50 * MS)
    assert stamps(feed(pairing, [0, 30], [28])) == [(30, 28)]
    assert pairing.drops == {"rgb: no partner": 1}


def test_a_slow_thermal_camera_gets_its_nearest_frames() -> None:
    rgb = [i * 33.0 for i in range(30)]
    ir = [5 + i * 111.0 for i in range(8)]
    pairing = Pairing(["rgb", "ir"], 20 * MS)
    pairs = stamps(feed(pairing, rgb, ir))
    assert len(pairs) == 8
    assert all(abs(a - b) == min(abs(t - b) for t in rgb) for a, b in pairs)


def test_a_lost_frame_costs_one_pair_not_the_order() -> None:
    rgb = [i * 40.0 for i in range(10)]
    pairs = stamps(feed(Pairing(["rgb", "ir"], 15 * MS), rgb, [t for t in rgb if t != 120]))
    assert pairs == [(t, t) for t in rgb if t != 120]


def test_a_stamp_that_falls_back_is_dropped_and_counted() -> None:
    pairing = Pairing(["rgb", "ir"], 15 * MS)
    pairing.push(frame("rgb", 50))
    pairing.push(frame("rgb", 40))
    assert pairing.drops == {"rgb: stamp did not rise": 1}


def test_a_silent_camera_makes_nothing_grow() -> None:
    pairing = Pairing(["rgb", "ir"], 15 * MS, depth=8)
    for i in range(100):
        pairing.push(frame("rgb", 40 * i))
    assert len(pairing.waiting["rgb"]) == 8 and pairing.drops == {"rgb: no partner": 92}


def test_one_camera_makes_pairs_of_its_own() -> None:
    pairing = Pairing(["rgb"], MS)
    assert [len(pairing.push(frame("rgb", t))) for t in (0, 1, 2)] == [1, 1, 1]
