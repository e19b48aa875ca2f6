"""Objects keep their numbers: through crossings, gaps, uneven frames and the drop-out of a camera."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import folder_of
from hypothesis import given, settings
from hypothesis import strategies as st

from edgemtl_runtime.bytetrack import KalmanFilters, Tracker, assign
from edgemtl_runtime.errors import EdgemtlError
from edgemtl_runtime.result import NO_TRACK, Boxes

NAMES = ("person", "car")


def seen(
    centres: Sequence[Sequence[float]],
    scores: float | Sequence[float] = 0.9,
    classes: int | Sequence[int] = 0,
    size: tuple[float, float] = (40, 60),
) -> Boxes:
    """Boxes of one size around (x, y) centres in pixels."""
    centre, half = np.array(centres, np.float32).reshape(-1, 2), np.array(size, np.float32) / 2
    count = len(centre)
    xyxy = np.concatenate([centre - half, centre + half], 1)
    return Boxes(xyxy, np.full(count, scores, np.float32), np.full(count, classes, np.int64), NAMES)


def ns(seconds: float) -> int:
    return round(seconds * 1e9)


def numbers(boxes: Boxes) -> list[int]:
    assert boxes.tracks is not None
    return boxes.tracks.tolist()


@pytest.mark.parametrize("fps", [9, 30])
@pytest.mark.parametrize("hidden", [False, True])
def test_two_objects_that_cross_keep_their_numbers(fps: int, hidden: bool) -> None:
    tracker, rng = Tracker(), np.random.default_rng(0)
    for step in range(3 * fps + 1):
        x = 100 + 120 * step / fps
        centres = np.array([[x, 200], [560 - x, 206]]) + rng.normal(0, 1, (2, 2))
        covered = hidden and abs(x - 280) < 12  # the farther one is not seen while the nearer covers it
        found = tracker.update(seen(centres[: 1 if covered else 2]), ns(step / fps))
        assert numbers(found) == [1, 2][: len(found)]
    assert x == 460


@pytest.mark.parametrize("silent", [False, True])
def test_a_gap_of_half_a_second_keeps_numbers_and_a_longer_one_ends_them(silent: bool) -> None:
    tracker = Tracker(keep_s=1.0)

    def run(first_s: float, last_s: float, there: bool = True) -> set[int]:
        given: set[int] = set()
        for stamp in np.arange(first_s, last_s, 1 / 30):
            if there or not silent:  # nothing is seen, or no frame comes at all
                centres = [(50 + 100 * stamp, 100), (600 - 100 * stamp, 300)] if there else []
                given |= set(numbers(tracker.update(seen(centres), ns(stamp))))
        return given

    assert run(0, 1) == {1, 2}
    assert run(1, 1.5, there=False) == set()
    assert run(1.5, 2) == {1, 2}
    assert run(2, 3.5, there=False) == set()
    assert run(3.5, 4) == {3, 4}


def test_uneven_frames_are_followed_by_their_time() -> None:
    tracker, rng, stamp = Tracker(), np.random.default_rng(1), 0.0
    for step in range(60):
        # 250 pixels a second: up to 62 pixels between frames, more than the object is wide
        found = tracker.update(seen([(20 + 250 * stamp, 100), (4000 - 250 * stamp, 100)]), ns(stamp))
        assert numbers(found) == [1, 2]
        stamp += 1 / 30 if step < 5 else float(rng.choice([1 / 60, 1 / 30, 1 / 9, 0.25]))
    counted = Tracker()  # the same places without their time lose both
    given = {
        number
        for step, at in enumerate([0, 1 / 30, 2 / 30, 3 / 30, 0.35, 0.6, 0.63])
        for number in numbers(counted.update(seen([(20 + 250 * at, 100)]), ns(step / 30)))
    }
    assert len(given) > 1


def walk(tracker: Tracker, fps: int) -> tuple[list[int], list[int], list[int]]:
    """Five people turn around while a camera is out for a second, which brings their scores from 0.8 to 0.3.

    Return the numbers before it, those told during it, and those after it.
    """
    rng, told = np.random.default_rng(2), []
    for step in range(3 * fps):
        stamp = step / fps
        turn = min(max(stamp - 1, 0), 1)  # 60 pixels a second one way become, evenly, 60 the other way
        x = 60 * min(stamp, 1) + 60 * (turn - turn**2) - 60 * max(stamp - 2, 0)
        centres = [(100 + x, 100 + 90 * lane) for lane in range(5)] + rng.normal(0, 1, (5, 2))
        told.append(numbers(tracker.update(seen(centres, 0.3 if 1 <= stamp < 2 else 0.8), ns(stamp))))
    return told[fps - 1], sorted(set(itertools.chain(*told[fps : 2 * fps]))), told[-1]


@pytest.mark.parametrize("fps", [9, 30])
def test_a_camera_that_drops_out_for_a_second_costs_no_number(fps: int) -> None:
    assert walk(Tracker(), fps) == ([1, 2, 3, 4, 5],) * 3
    before, during, after = walk(Tracker(low=0.5), fps)  # a plain threshold
    assert before == [1, 2, 3, 4, 5] and during == [] and not set(before) & set(after)


def test_weak_boxes_follow_but_do_not_begin() -> None:
    tracker = Tracker(high=0.5, low=0.1, new_score=0.6)
    assert len(tracker.update(seen([(50, 50)], 0.4), 0)) == 0
    assert numbers(tracker.update(seen([(50, 50)], 0.55), ns(0.1))) == [NO_TRACK]
    assert numbers(tracker.update(seen([(50, 50)], 0.7), ns(0.2))) == [1]
    assert len(tracker.update(seen([(50, 50)], 0.3), ns(0.3))) == 0  # once seen is not enough to take a weak box
    assert numbers(tracker.update(seen([(50, 50)], 0.7), ns(0.4))) == [2]
    assert numbers(tracker.update(seen([(50, 50)], 0.55), ns(0.5))) == [2]
    weak = tracker.update(seen([(50, 50), (300, 300)], 0.3), ns(0.6))
    assert numbers(weak) == [2] and weak.scores.tolist() == [pytest.approx(0.3)]
    assert len(tracker.update(seen([(50, 50)], 0.05), ns(0.7))) == 0


def test_a_confident_box_is_matched_before_a_weak_one() -> None:
    tracker = Tracker()
    for step in range(3):
        tracker.update(seen([(50, 50)]), ns(step / 10))
    found = tracker.update(seen([(56, 50), (50, 50)], [0.9, 0.3]), ns(0.3))
    assert numbers(found) == [1] and found.xyxy[0, 0] == 36


@pytest.mark.parametrize("place", [(91, 50), (50, 111), (120, 135), (200, 300)])
def test_boxes_that_hardly_touch_are_two_objects(place: tuple[float, float]) -> None:
    tracker = Tracker()
    tracker.update(seen([(50, 50)]), 0)
    assert numbers(tracker.update(seen([place]), ns(0.03))) == [2]


def test_an_object_that_was_covered_bit_by_bit_is_known_again() -> None:
    tracker = Tracker()
    for step in range(13):
        tracker.update(seen([(50, 50)], size=(40, 60 - 2 * step)), ns(step / 30))
    for step in range(13, 34):
        tracker.update(seen([]), ns(step / 30))
    assert numbers(tracker.update(seen([(50, 50)], size=(40, 36)), ns(34 / 30))) == [1]


def test_weak_boxes_may_come_apart() -> None:
    one, two = Tracker(), Tracker()
    rng = np.random.default_rng(3)
    for step in range(40):
        scores = np.sort(rng.random(4))[::-1].astype(np.float32)
        whole = seen([(100 * lane + 3 * step, 100) for lane in range(4)], scores.tolist())
        strong = scores >= 0.5
        first = one.update(whole, ns(step / 30))
        second = two.update(whole.pick(strong), ns(step / 30), whole.pick(~strong))
        assert first.to_dict() == second.to_dict()
    with pytest.raises(ValueError, match="different classes"):
        one.update(whole, ns(2), Boxes(whole.xyxy, whole.scores, whole.classes, ("person",)))


def test_an_object_keeps_its_class_unless_told_otherwise() -> None:
    given = []
    for within_class in (True, False):
        tracker = Tracker(within_class=within_class)
        tracker.update(seen([(50, 50)], classes=0), 0)
        found = tracker.update(seen([(50, 50)], classes=1), ns(0.1))
        assert found.classes.tolist() == [1]
        given.append(numbers(found))
    assert given == [[2], [1]]


def test_scores_may_be_said_for_each_class() -> None:
    tracker = Tracker(high=np.array([0.3, 0.8]), new_score=[0.3, 0.85])
    found = tracker.update(seen([(50, 50), (200, 50), (400, 50), (600, 50)], [0.9, 0.82, 0.7, 0.4], [1, 1, 1, 0]), 0)
    assert numbers(found) == [1, NO_TRACK, 2] and found.scores.tolist() == pytest.approx([0.9, 0.82, 0.4])
    with pytest.raises(ValueError, match="3 classes, but the boxes have 2"):
        Tracker(high=np.full(3, 0.5)).update(seen([(50, 50)]), 0)


@pytest.mark.parametrize(
    "wrong", [{"high": 1.5}, {"low": -0.1}, {"new_score": [0.5, 2]}, {"min_iou": 7}, {"keep_s": -1}, {"high": np.nan}]
)
def test_settings_that_cannot_be_are_told_in_one_line(wrong: dict[str, float]) -> None:
    with pytest.raises(EdgemtlError, match=f"tracking: {next(iter(wrong))} is"):
        Tracker(**wrong)


def test_a_stamp_that_jumps_back_begins_anew() -> None:
    tracker = Tracker()
    for step in range(5):
        assert numbers(tracker.update(seen([(50, 50)]), ns(10 + step / 30))) == [1]
    for step in range(5):
        assert numbers(tracker.update(seen([(50, 50)]), ns(step / 30))) == [2]
    tracker.reset()
    assert numbers(tracker.update(seen([(50, 50)]), ns(1))) == [3]


def test_boxes_are_returned_as_they_were_detected() -> None:
    tracker, rng = Tracker(), np.random.default_rng(4)
    for step in range(10):
        boxes = seen(rng.normal([(50, 50), (200, 50), (400, 50)], 2), [0.9, 0.8, 0.7], [0, 1, 0])
        found = tracker.update(boxes, ns(step / 30))
        assert {k: v for k, v in found.to_dict().items() if k != "track"} and found.names == NAMES
        assert np.array_equal(found.xyxy, boxes.xyxy) and np.array_equal(found.scores, boxes.scores)
        assert boxes.tracks is None and len(found.to_dict()["boxes"]) == 3


def crowd(seed: int, frames: int) -> list[tuple[Boxes, int]]:
    """Frames of up to 12 boxes in a small place, at uneven times that now and then jump ahead or back."""
    rng, stamp, given = np.random.default_rng(seed), 10.0, []
    for _ in range(frames):
        stamp = max(0.0, stamp + float(rng.choice([0, 1 / 30, 1 / 9, 1.5, -3], p=[0.05, 0.5, 0.35, 0.05, 0.05])))
        count = int(rng.integers(0, 13))
        corner, size = rng.integers(0, 100, (count, 2)), rng.integers(0, 80, (count, 2))
        xyxy = np.concatenate([corner, corner + size], 1).astype(np.float32)
        scores = np.sort(rng.random(count))[::-1].astype(np.float32)
        given.append((Boxes(xyxy, scores, rng.integers(0, 2, count), NAMES), ns(stamp)))
    return given


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40))
def test_numbers_are_single_rise_and_are_never_used_again(seed: int, frames: int) -> None:
    tracker, again, last_seen_ns, top, before_ns = Tracker(), Tracker(), dict[int, int](), 0, 0
    for boxes, stamp_ns in crowd(seed, frames):
        found = tracker.update(boxes, stamp_ns)
        assert found.to_dict() == again.update(boxes, stamp_ns).to_dict()  # and the same is done with the same
        if stamp_ns < before_ns:  # what was before a jump back is over
            last_seen_ns = dict.fromkeys(last_seen_ns, -(10**18))
        before_ns = stamp_ns
        followed = [number for number in numbers(found) if number != NO_TRACK]
        assert len(set(followed)) == len(followed)
        fresh = [number for number in followed if number not in last_seen_ns]
        assert fresh == list(range(top + 1, top + 1 + len(fresh)))
        assert all(stamp_ns - last_seen_ns[n] <= ns(1) for n in followed if n in last_seen_ns)
        top += len(fresh)
        last_seen_ns |= dict.fromkeys(followed, stamp_ns)
        assert (found.scores >= 0.5).sum() == (boxes.scores >= 0.5).sum()
        assert all(n != NO_TRACK for n, s in zip(numbers(found), found.scores, strict=True) if s >= 0.601 or s < 0.5)


@settings(deadline=None)
@given(st.integers(0, 5), st.integers(0, 5), st.data())
def test_the_assignment_is_the_best_there_is(rows: int, columns: int, data: st.DataObject) -> None:
    value = st.one_of(st.integers(-2, 3).map(float), st.floats(-1, 1))  # whole numbers make ties
    gain = np.array(data.draw(st.lists(value, min_size=rows * columns, max_size=rows * columns))).reshape(rows, columns)
    chosen = assign(gain)
    made = [(row, column) for row, column in enumerate(chosen.tolist()) if column >= 0]
    assert len({column for _, column in made}) == len(made) and all(gain[pair] > 0 for pair in made)
    none = [*range(columns), *[-1] * rows]
    best = max(
        sum(max(gain[row, column], 0) for row, column in enumerate(order) if column >= 0)
        for order in set(itertools.permutations(none, rows))
    )
    assert sum(gain[pair] for pair in made) == pytest.approx(best, abs=1e-9)


STEP = st.floats(0, 0.5)
PLACE = np.array([[100.0, 50, 40, 60], [300, 90, 20, 20]])


@given(STEP, STEP)
def test_two_short_steps_are_one_long_step(first: float, second: float) -> None:
    motion = KalmanFilters.start(PLACE).predict(0.1).correct(PLACE + 3)
    twice, once = motion.predict(first).predict(second), motion.predict(first + second)
    for name in ("position", "speed", "covariance"):
        assert np.allclose(getattr(twice, name), getattr(once, name), rtol=1e-9, atol=1e-9)


@given(st.lists(st.tuples(st.floats(0.01, 0.5), st.floats(-20, 20)), min_size=1, max_size=8))
def test_the_filter_is_kalmans(steps: list[tuple[float, float]]) -> None:
    motion, size = KalmanFilters.start(PLACE[:1]), np.sqrt(40 * 60)
    mean, spread = np.array([100.0, 0.0]), np.diag([(0.06 * size) ** 2, (2.5 * size) ** 2])
    for seconds, off in steps:  # the textbook's matrices for the first coordinate alone
        move = np.array([[1, seconds], [0, 1]])
        noise = (1.5 * size) ** 2 * np.array([[seconds**3 / 3, seconds**2 / 2], [seconds**2 / 2, seconds]])
        mean, spread = move @ mean, move @ spread @ move.T + noise
        gain = spread[:, 0] / (spread[0, 0] + (0.06 * size) ** 2)
        mean = mean + gain * (100 + off - mean[0])
        spread = spread - np.outer(gain, spread[0])
        motion = motion.predict(seconds).correct(PLACE[:1] + np.array([off, 0, 0, 0]))
        assert np.allclose([motion.position[0, 0], motion.speed[0, 0]], mean, rtol=1e-7)
        assert np.allclose(motion.covariance[:, 0, 0], [spread[0, 0], spread[0, 1], spread[1, 1]], rtol=1e-6)


@pytest.mark.parametrize("side", [2000, 300])
def test_a_hundred_objects_take_less_than_ten_milliseconds(side: int) -> None:
    tracker, rng, took = Tracker(), np.random.default_rng(5), []
    places, speeds = rng.random((100, 2)) * side, rng.normal(0, 20, (100, 2))
    for step in range(40):
        scores = (0.3 + 0.7 * rng.random(100)).tolist()
        boxes = seen(places + speeds * step / 30 + rng.normal(0, 1, (100, 2)), scores)
        begun = time.perf_counter()
        tracker.update(boxes, ns(step / 30))
        took.append(time.perf_counter() - begun)
    assert np.percentile(took[5:], 25) < 0.010  # the lower quartile, because others may use the machine


def people(session: object, image: np.ndarray, cells: np.ndarray) -> Boxes:
    """YOLOX-nano's people in a BGR picture, from the score 0.1 on."""
    scale = 416 / max(image.shape[:2])
    small = cv2.resize(image, None, fx=scale, fy=scale)
    fitted = np.full((416, 416, 3), 114, np.float32)
    fitted[: small.shape[0], : small.shape[1]] = small
    raw = session.run(None, {"images": fitted.transpose(2, 0, 1)[None]})[0][0]  # type: ignore[attr-defined]
    scores = raw[:, 4] * raw[:, 5]
    raw, cells, scores = raw[scores >= 0.1], cells[scores >= 0.1], scores[scores >= 0.1]
    centre, half = (raw[:, :2] + cells[:, :2]) * cells[:, 2:], np.exp(raw[:, 2:4]) * cells[:, 2:] / 2
    xyxy = (np.concatenate([centre - half, centre + half], 1) / scale).astype(np.float32)
    sides = np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], 1)
    kept = np.array(cv2.dnn.NMSBoxes(sides.tolist(), scores.tolist(), 0.1, 0.6), np.intp).ravel()
    return Boxes(xyxy[kept], scores[kept].astype(np.float32), np.zeros(len(kept), np.int64), ("person",))


@pytest.fixture(scope="module")
def street() -> list[Boxes]:
    """The first 15 seconds of real people before a camera, 10 frames a second: eight of them, by eye."""
    ort = pytest.importorskip("onnxruntime")
    video: Path = folder_of("EDGEMTL_DATA", "video/vtest.avi")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(folder_of("EDGEMTL_WEIGHTS", "yolox_nano.onnx")), options)
    grids = [(np.indices((416 // side, 416 // side))[::-1].reshape(2, -1).T, side) for side in (8, 16, 32)]
    cells = np.concatenate([np.concatenate([grid, np.full((len(grid), 1), side)], 1) for grid, side in grids])
    reader = cv2.VideoCapture(str(video))
    return [people(session, reader.read()[1], cells) for _ in range(150)]


def number_at(boxes: Boxes, x: float, y: float) -> int:
    """The number of the box whose centre is nearest to a place."""
    return numbers(boxes)[int(np.abs((boxes.xyxy[:, :2] + boxes.xyxy[:, 2:]) / 2 - (x, y)).sum(1).argmin())]


@pytest.mark.parametrize("every", [1, 3])
def test_people_in_a_real_video_keep_their_numbers(street: list[Boxes], every: int) -> None:
    tracker = Tracker()
    found = {index: tracker.update(street[index], ns(index / 10)) for index in range(0, 150, every)}
    given = set(itertools.chain(*map(numbers, found.values()))) - {NO_TRACK}
    assert 8 <= len(given) <= 16
    # Three people who walk through the picture apart from the group behind the post, 7.5 seconds apart.
    early, late = ([(523, 261), (566, 261), (692, 317)], [(588, 159), (610, 159), (678, 160)])
    before, after = [number_at(found[51], *place) for place in early], [number_at(found[126], *place) for place in late]
    assert before == after and len(set(before) - {NO_TRACK}) == 3
