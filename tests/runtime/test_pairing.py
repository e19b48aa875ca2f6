"""Pairs by capture time: nearest partners, each frame once, every loss counted."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgemtl_runtime.frame import Frame, FramePair
from edgemtl_runtime.pairing import Pairing

IMAGE = np.zeros((8, 8), np.uint8)
MS = 1_000_000


def frame(camera: str, stamp_ms: float, index: int = 0) -> Frame:
    return Frame(IMAGE, int(stamp_ms * MS), camera, index)


def counted(cameras: list[str], tolerance_ns: int, **more: object) -> tuple[Pairing, Counter[str]]:
    """Return a pairing and what it drops."""
    drops: Counter[str] = Counter()
    pairing = Pairing(cameras, tolerance_ns, drop=lambda name, cause: drops.update([f"{name}: {cause}"]), **more)  # type: ignore[arg-type]
    return pairing, drops


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
    pairing, drops = counted(["rgb", "ir"], tolerance * MS)
    pairs = feed(pairing, rgb, ir)
    assert all(pair.skew_ns <= tolerance * MS for pair in pairs)
    for name, sent in (("rgb", rgb), ("ir", ir)):
        used = [pair.frames[name].stamp_ns for pair in pairs]
        assert used == sorted(set(used))
        assert len(used) + drops[f"{name}: no partner"] == len(sent)


@given(st.integers(5, 60), st.integers(0, 10**6), st.integers(1, 40))
def test_equal_rates_with_an_offset_pair_completely(period: int, seed: int, count: int) -> None:
    offset = np.random.default_rng(seed).uniform(-0.45, 0.45) * period
    rgb = [1000 + i * period for i in range(count)]
    pairing, drops = counted(["rgb", "ir"], period * MS)
    pairs = feed(pairing, rgb, [t + offset for t in rgb])
    assert len(pairs) == count and not drops


def test_equal_stamps_are_emitted_at_once() -> None:
    pairing, _ = counted(["rgb", "ir"], 30 * MS)
    assert not pairing.push(frame("rgb", 10))
    assert len(pairing.push(frame("ir", 10))) == 1


def test_no_waiting_for_the_next_frame_once_the_interval_is_known() -> None:
    pairing, _ = counted(["rgb", "ir"], 30 * MS)
    emitted = []
    for i in range(5):
        emitted.append((len(pairing.push(frame("rgb", 40 * i))), len(pairing.push(frame("ir", 40 * i + 8)))))
    # The first pair waits for the second colour frame; from then on 40 ms between frames rule out a nearer one.
    assert emitted == [(0, 0), (1, 1), (0, 1), (0, 1), (0, 1)]


def test_the_nearer_of_two_partners_wins() -> None:
    pairing, drops = counted(["rgb", "ir"], 50 * MS)
    assert stamps(feed(pairing, [0, 30], [28])) == [(30, 28)]
    assert drops == {"rgb: no partner": 1}


def test_a_slow_thermal_camera_gets_its_nearest_frames() -> None:
    rgb = [i * 33.0 for i in range(30)]
    ir = [5 + i * 111.0 for i in range(8)]
    pairing, _ = counted(["rgb", "ir"], 20 * MS)
    pairs = stamps(feed(pairing, rgb, ir))
    assert len(pairs) == 8
    assert all(abs(a - b) == min(abs(t - b) for t in rgb) for a, b in pairs)


def test_a_lost_frame_costs_one_pair_not_the_order() -> None:
    rgb = [i * 40.0 for i in range(10)]
    pairs = stamps(feed(Pairing(["rgb", "ir"], 15 * MS), rgb, [t for t in rgb if t != 120]))
    assert pairs == [(t, t) for t in rgb if t != 120]


def test_a_stamp_that_falls_back_is_dropped_and_counted() -> None:
    pairing, drops = counted(["rgb", "ir"], 15 * MS)
    pairing.push(frame("rgb", 50))
    pairing.push(frame("rgb", 40))
    assert drops == {"rgb: stamp did not rise": 1}


def test_a_silent_camera_makes_nothing_grow() -> None:
    pairing, drops = counted(["rgb", "ir"], 15 * MS, depth=8)
    for i in range(100):
        pairing.push(frame("rgb", 40 * i))
    assert len(pairing.waiting["rgb"]) == 8 and drops == {"rgb: no partner": 92}


def test_one_camera_makes_pairs_of_its_own() -> None:
    pairing, _ = counted(["rgb"], MS)
    assert [len(pairing.push(frame("rgb", t))) for t in (0, 1, 2)] == [1, 1, 1]


def test_while_a_camera_is_silent_the_other_goes_on_alone_and_then_they_pair_again() -> None:
    pairing, drops = counted(["rgb", "ir"], 15 * MS, optional=["ir"])
    for i in range(5):
        pairing.push(frame("ir", 40 * i))
        pairing.push(frame("rgb", 40 * i + 2))
    assert not pairing.push(frame("rgb", 202))  # it may still find its partner
    assert [list(pair.frames) for pair in pairing.leave("ir")] == [["rgb"]]
    assert [list(pair.frames) for pair in pairing.push(frame("rgb", 242))] == [["rgb"]]
    pairing.push(frame("ir", 280))
    assert [list(pair.frames) for pair in pairing.push(frame("rgb", 282))] == [["rgb", "ir"]]
    assert not drops


def test_a_silent_camera_that_may_not_be_absent_costs_the_other_s_frames() -> None:
    pairing, drops = counted(["rgb", "ir"], 15 * MS, optional=["ir"])
    pairing.leave("rgb")
    assert not pairing.push(frame("ir", 0)) and drops == {"ir: no partner": 1}


@given(RISING, RISING, st.lists(st.tuples(st.integers(0, 2000), st.sampled_from(["rgb", "ir"])), max_size=6))
def test_nothing_is_lost_uncounted_whoever_falls_silent_when(
    rgb: list[float], ir: list[float], silences: list[tuple[int, str]]
) -> None:
    pairing, drops = counted(["rgb", "ir"], 15 * MS, optional=["rgb"])
    events = [(t, 0, "rgb") for t in rgb] + [(t, 0, "ir") for t in ir] + [(t, 1, name) for t, name in silences]
    pairs = []
    for t, kind, name in sorted(events):
        pairs += pairing.leave(name) if kind else pairing.push(frame(name, t))
    pairs += pairing.end("rgb") + pairing.end("ir")
    assert not any(list(pair.frames) == ["rgb"] for pair in pairs)  # only rgb may be absent
    for name, sent in (("rgb", rgb), ("ir", ir)):
        used = [pair.frames[name].stamp_ns for pair in pairs if name in pair.frames]
        assert used == sorted(set(used)) and len(used) + drops[f"{name}: no partner"] == len(sent)


@given(st.integers(2, 10**6), st.booleans())
def test_a_clock_that_jumps_begins_anew(jump_ms: int, back: bool) -> None:
    pairing, drops = counted(["rgb", "ir"], 15 * MS)
    base = 10**7
    for i in range(10):
        pairing.push(frame("rgb", base + 40 * i)), pairing.push(frame("ir", base + 40 * i))
    later = base + 400 + (-jump_ms if back else jump_ms)
    pairs = []
    for i in range(20):
        for name in ("rgb", "ir"):
            pairs += pairing.push(frame(name, later + 40 * i))
    assert len(pairs) >= 17 and sum(drops.values()) <= 6


def test_a_warning_comes_once_and_says_what_to_do() -> None:
    pairing, _ = counted(["rgb", "ir"], 10 * MS)
    warnings = []
    for i in range(200):
        pairing.push(frame("rgb", 400 * i)), pairing.push(frame("ir", 400 * i + 120))
        warnings.append(pairing.warning())
    told = [text for text in warnings if text]
    assert len(told) == 1 and "add ?offset_ms=-120 to --ir" in told[0] and "--tolerance-ms" in told[0]
    for i in range(200, 240):  # with what it says
        pairing.push(frame("rgb", 400 * i)), pairing.push(frame("ir", 400 * i))
        assert not pairing.warning()
    for i in range(240, 400):  # a second time is told again
        pairing.push(frame("rgb", 400 * i)), pairing.push(frame("ir", 400 * i + 120))
        warnings.append(pairing.warning())
    assert len([text for text in warnings if text]) == 2


def ahead(pairing: Pairing, rgb: list[Frame], ir: list[Frame], lead: int) -> list[FramePair]:
    """Push two recordings of which one is read ahead of the other, and return all pairs."""
    pairs = []
    for index in range(len(rgb) + lead):
        pairs += pairing.push(rgb[index]) if index < len(rgb) else []
        pairs += pairing.push(ir[index - lead]) if 0 <= index - lead < len(ir) else []
    return pairs + pairing.end("rgb") + pairing.end("ir")


@given(st.integers(41, 3000), st.integers(0, 30), st.integers(1, 4))
def test_recordings_that_jump_back_lose_nothing(back_ms: int, lead: int, times: int) -> None:
    pairing, drops = counted(["rgb", "ir"], 15 * MS)
    pairing.hold_ns = 1 << 62
    recorded = []
    for name in ("rgb", "ir"):
        at, frames = 10_000, []
        for jump in range(times + 1):
            for _ in range(12):
                at += 40
                frames.append(Frame(IMAGE, at * MS, name, len(frames), "file"))
            at -= back_ms + 40 * bool(jump)
        recorded.append(frames)
    pairs = ahead(pairing, recorded[0], recorded[1], lead)
    assert len(pairs) == 12 * (times + 1) and not drops
    assert all(p.frames["rgb"].index == p.frames["ir"].index for p in pairs)


@given(st.integers(50, 5000).filter(lambda back: back != 280), st.integers(0, 3))
def test_a_jump_of_one_recording_alone_costs_a_few_frames(back_ms: int, lead: int) -> None:
    """Not of 280 ms: then the new time would begin with the very stamp that the old one ended with."""
    pairing, drops = counted(["rgb", "ir"], 15 * MS)
    rgb = [Frame(IMAGE, (10_000 + 40 * i - back_ms * (i >= 20)) * MS, "rgb", i, "file") for i in range(60)]
    ir = [Frame(IMAGE, (10_000 + 40 * i) * MS, "ir", i, "file") for i in range(20)]
    ir += [Frame(IMAGE, (10_000 + 40 * i - back_ms) * MS, "ir", i, "file") for i in range(26, 60)]
    pairs = ahead(pairing, rgb, ir, lead)
    assert len(pairs) >= 54 - 6 and all(p.skew_ns == 0 for p in pairs), (len(pairs), drops)


def test_a_pair_is_trusted_where_it_holds_whatever_its_stamps_may_be_off() -> None:
    for unsure_ms, trusted in ((0, True), (11, True), (12, False)):
        pairing, _ = counted(["rgb", "ir"], 30 * MS)
        pairing.push(Frame(IMAGE, 1000 * MS, "rgb", 0, uncertainty_ns=11 * MS))
        pairing.push(Frame(IMAGE, 1008 * MS, "ir", 0, uncertainty_ns=unsure_ms * MS))
        (pair,) = pairing.end("rgb") + pairing.end("ir")
        assert pair.trusted is trusted


def test_names_pair_what_stamps_would_not() -> None:
    pairing, drops = counted(["rgb", "ir"], 30 * MS)
    at = {name: index for index, name in enumerate("abcdef")}

    def named(camera: str, name: str) -> Frame:
        return Frame(IMAGE, at[name] * 10 * MS, camera, at[name], "rate", name, sample_id=name)

    pairs = [p for n in "abdef" for p in pairing.push(named("ir", n))]
    pairs += [p for n in "abcdf" for p in pairing.push(named("rgb", n))] + pairing.end("ir") + pairing.end("rgb")
    assert [(p.frames["rgb"].name, p.frames["ir"].name) for p in pairs] == [(n, n) for n in "abdf"]
    assert drops == {"rgb: no partner": 1, "ir: no partner": 1}
