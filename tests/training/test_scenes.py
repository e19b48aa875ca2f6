"""The synthetic streets: their labels agree with each other and with the image, by day and by night."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgemtl.synthetic import CLASSES, SEMANTIC_CLASSES, Scene, draw

FIRST_OBJECT = SEMANTIC_CLASSES.index(CLASSES[0])
ARRAYS = ("rgb", "ir", "boxes", "classes", "semantic", "depth_m", "normals", "edges")
GEOMETRY = ("boxes", "classes", "semantic", "depth_m", "normals", "edges")

seeds = st.integers(min_value=0, max_value=2**40)
times_s = st.floats(min_value=0.0, max_value=600.0, allow_nan=False)


def same(a: Scene, b: Scene, names: tuple[str, ...] = ARRAYS) -> bool:
    return all(getattr(a, name).tobytes() == getattr(b, name).tobytes() for name in names)


@pytest.fixture(scope="module")
def pairs() -> list[tuple[Scene, Scene]]:
    """The same streets by day and by night."""
    return [(draw(seed, is_day=True), draw(seed, is_day=False)) for seed in range(60)]


@settings(max_examples=12, deadline=None)
@given(seed=seeds, time_s=times_s)
def test_same_arguments_give_the_same_bytes(seed: int, time_s: float) -> None:
    assert same(draw(seed, time_s=time_s), draw(seed, time_s=time_s))


def test_seeds_differ() -> None:
    assert len({draw(seed).rgb.tobytes() for seed in range(30)}) == 30


@pytest.mark.parametrize(
    ("width", "height"), [(160, 128), (32, 32), (33, 47), (97, 61), (320, 256), (200, 64), (40, 200)]
)
def test_shapes_and_types(width: int, height: int) -> None:
    for seed in range(4):
        scene = draw(seed, width=width, height=height)
        count = len(scene.classes)
        expected = {
            "rgb": ((height, width, 3), np.uint8),
            "ir": ((height, width), np.uint8),
            "boxes": ((count, 4), np.float32),
            "classes": ((count,), np.int64),
            "semantic": ((height, width), np.uint8),
            "depth_m": ((height, width), np.float32),
            "normals": ((height, width, 3), np.float32),
            "edges": ((height, width), np.uint8),
        }
        for name, (shape, dtype) in expected.items():
            array = getattr(scene, name)
            assert (array.shape, array.dtype) == (shape, dtype), name


@settings(max_examples=40, deadline=None)
@example(seed=533698, time_s=574.5, width=32, height=32, is_day=None)  # an object without a labelled pixel
@given(
    seed=seeds,
    time_s=times_s,
    width=st.integers(32, 200),
    height=st.integers(32, 200),
    is_day=st.sampled_from((None, True, False)),
)
def test_labels_agree(seed: int, time_s: float, width: int, height: int, is_day: bool | None) -> None:
    scene = draw(seed, width=width, height=height, time_s=time_s, is_day=is_day)
    assert scene.semantic.max() < len(SEMANTIC_CLASSES)
    assert set(np.unique(scene.edges)) <= {0, 1}
    assert np.isfinite(scene.depth_m).all() and np.isfinite(scene.normals).all()

    is_sky = scene.semantic == SEMANTIC_CLASSES.index("sky")
    assert (scene.depth_m[is_sky] == 0).all() and (scene.depth_m[~is_sky] > 0).all()
    lengths = np.linalg.norm(scene.normals, axis=-1)
    assert (lengths[is_sky] == 0).all()
    np.testing.assert_allclose(lengths[~is_sky], 1.0, atol=1e-3)
    is_ground = np.isin(scene.semantic, [SEMANTIC_CLASSES.index(name) for name in ("road", "pavement")])
    np.testing.assert_allclose(scene.normals[is_ground], [[0.0, -1.0, 0.0]] * int(is_ground.sum()), atol=1e-6)

    assert ((scene.classes >= 0) & (scene.classes < len(CLASSES))).all()
    covered = np.zeros(scene.semantic.shape, bool)
    scale = 0.9 * min(width, 1.25 * height) / 144
    for (x0, y0, x1, y1), class_id in zip(scene.boxes, scene.classes, strict=True):
        assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
        assert x1 - x0 >= 5 * scale and y1 - y0 >= 6 * scale
        area = np.s_[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))]
        assert (scene.semantic[area] == FIRST_OBJECT + class_id).any()
        covered[area] = True
    assert covered[scene.semantic >= FIRST_OBJECT].all(), "an object in the image has no box"


def test_depth_of_the_ground_is_that_of_the_plane() -> None:
    scene = draw(5)
    focal, horizon, height_m = 144.0, 0.45 * 128, 1.4
    is_road = scene.semantic == SEMANTIC_CLASSES.index("road")
    rows = np.nonzero(is_road)[0] + 0.5
    np.testing.assert_allclose(scene.depth_m[is_road], focal * height_m / (rows - horizon), rtol=1e-3)


def test_edges_lie_on_class_boundaries_and_are_thin(pairs: list[tuple[Scene, Scene]]) -> None:
    for day, _ in pairs[:20]:
        semantic = day.semantic
        assert day.edges[:, 1:][semantic[:, 1:] != semantic[:, :-1]].all()
        assert day.edges[1:][semantic[1:] != semantic[:-1]].all()
        assert 0.01 < day.edges.mean() < 0.2


def test_day_and_night_show_the_same_geometry(pairs: list[tuple[Scene, Scene]]) -> None:
    for seed, (day, night) in enumerate(pairs):
        assert day.is_day and not night.is_day
        assert same(day, night, GEOMETRY)
        by_seed = draw(seed)
        assert same(by_seed, day if by_seed.is_day else night)
    assert 15 <= sum(draw(seed).is_day for seed in range(60)) <= 45


def test_night_is_darker(pairs: list[tuple[Scene, Scene]]) -> None:
    assert all(night.rgb.mean() < 0.75 * day.rgb.mean() for day, night in pairs)
    assert np.mean([night.rgb.mean() for _, night in pairs]) < 0.5 * np.mean([day.rgb.mean() for day, _ in pairs])


def warmth_of_persons(scene: Scene) -> list[float]:
    """How much warmer than the scenery around it each person is in the thermal image, in grey levels."""
    differences = []
    for (x0, y0, x1, y1), class_id in zip(scene.boxes, scene.classes, strict=True):
        area = np.s_[max(0, int(y0) - 3) : int(y1) + 4, max(0, int(x0) - 3) : int(x1) + 4]
        is_person = scene.semantic[area] == FIRST_OBJECT
        around = scene.semantic[area] < FIRST_OBJECT
        if class_id == 0 and around.any():
            differences.append(float(scene.ir[area][is_person].mean()) - float(scene.ir[area][around].mean()))
    return differences


def test_persons_are_warm(pairs: list[tuple[Scene, Scene]]) -> None:
    by_day = [d for day, _ in pairs for d in warmth_of_persons(day)]
    by_night = [d for _, night in pairs for d in warmth_of_persons(night)]
    assert np.mean(by_day) > 15 and np.mean(by_night) > 50
    assert np.mean(np.array(by_day) > 0) > 0.9 and min(by_night) > 0


def test_every_class_is_frequent_and_no_image_is_crowded() -> None:
    scenes = [draw(seed) for seed in range(200)]
    counts = np.bincount(np.concatenate([scene.classes for scene in scenes]), minlength=len(CLASSES))
    assert counts.min() > 0.25 * counts.sum()
    assert all(1 <= len(scene.classes) <= 6 for scene in scenes)


def test_objects_move_smoothly() -> None:
    step_s, compared = 0.04, 0
    moved: list[float] = []
    for seed in range(30):
        frames = [draw(seed, time_s=i * step_s) for i in range(4)]
        for before, after in pairwise(frames):
            assert before.rgb.tobytes() != after.rgb.tobytes(), "the camera noise differs from frame to frame"
            if before.classes.tolist() == after.classes.tolist():
                compared += 1
                moved += np.abs(after.boxes - before.boxes).max(axis=1).tolist() if len(after.boxes) else []
    assert compared > 75, "objects come and go too often"
    assert max(moved) < 14 and 0 < np.mean(moved) < 3
    assert not same(draw(1), draw(1, time_s=5.0), GEOMETRY) or not same(draw(2), draw(2, time_s=5.0), GEOMETRY)


@pytest.mark.parametrize("arguments", [{"seed": -1}, {"seed": 0, "width": 31}, {"seed": 0, "height": 8}])
def test_rejects_what_it_cannot_draw(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="need width and height"):
        draw(**arguments)  # type: ignore[arg-type]


def test_fast_enough_to_train_from() -> None:
    # The target is 100 pairs a second on one core; the bound leaves room for a busy machine.
    best = 0.0
    for batch in range(5):
        start = time.process_time()
        for seed in range(40):
            draw(40 * batch + seed)
        best = max(best, 40 / (time.process_time() - start))
        if best >= 100:
            break
    assert best >= 60
