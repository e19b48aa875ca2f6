"""Images in a program: shared memory, ownership, and registration of other sizes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime  # noqa: F401 - it opens files of its own, which count with what is open before
import pytest
from conftest import write_frames
from programs import nothing_is_left as nothing_is_left  # checked after every test
from servers import Scripted, allow_absence, noise, steady

from edgemtl_runtime import Bundle, Frame, Pipeline, QueuePolicy
from edgemtl_runtime.camera import open_camera, open_cameras
from edgemtl_runtime.camera.wrappers import Adjusted
from edgemtl_runtime.engine.onnxruntime import OrtEngine
from edgemtl_runtime.rig import CameraModel, Rig

pytestmark = pytest.mark.realtime


class Reused:
    """A camera that draws every picture into the same memory, as many drivers do."""

    live, name = False, "rgb"

    def __init__(self, owned: bool | None) -> None:
        self.image = np.zeros((64, 96, 3), np.uint8)
        if owned is not None:
            self.owned_pictures = owned

    def frames(self) -> Iterator[Frame]:
        for index in range(30):
            self.image[:] = 255 * (index % 2)
            yield Frame(self.image, 1 + index * 33_000_000, self.name, index)
            self.image[:] = 77

    def close(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize("wrap", [lambda camera: camera, lambda camera: Adjusted(camera, offset_ns=5)])
def test_what_is_shown_is_what_was_run(toy_bundle: Path, wrap) -> None:  # type: ignore[no-untyped-def]
    opened = Bundle.open(allow_absence(toy_bundle))
    seen = 0
    for pair, result in Pipeline(opened, OrtEngine(opened.model, 1), {"rgb": wrap(Reused(None))}):
        labels = result.heads["semantic"].labels  # type: ignore[union-attr]
        assert (pair.frames["rgb"].image == 255 * (result.index % 2)).all()
        assert (labels == result.index % 2).all()
        seen += 1
    assert seen == 30


def test_pictures_that_are_owned_are_not_copied(toy_bundle: Path) -> None:
    camera = Reused(True)
    opened = Bundle.open(allow_absence(toy_bundle))
    with Pipeline(opened, OrtEngine(opened.model, 1), {"rgb": camera}) as pipe:
        pair, _ = pipe.read() or (None, None)
        assert pair is not None and pair.frames["rgb"].image is camera.image


def test_an_engine_may_answer_in_the_same_memory(toy_bundle: Path, tmp_path: Path) -> None:
    class Same:
        """As a binding of one's own does it."""

        name = "same"

        def __init__(self, engine: OrtEngine) -> None:
            self.engine = engine
            self.kept: dict[str, np.ndarray] = {}

        def run(self, inputs: dict) -> dict:
            for name, found in self.engine.run(inputs).items():
                self.kept.setdefault(name, found)[:] = found
            return self.kept

    opened = Bundle.open(toy_bundle)
    cameras = open_cameras({"rgb": str(write_frames(tmp_path / "a", 8)), "ir": "pattern:?fps=0&frames=8"})
    engine = Same(OrtEngine(opened.model, 1))
    results = [result for _, result in Pipeline(opened, engine, cameras)]  # type: ignore[arg-type]
    labels = [result.heads["semantic"].labels.max() for result in results]  # type: ignore[union-attr]
    assert labels == [0] * 3 + [1] * 5  # darker than the half and then brighter


@pytest.mark.parametrize(
    "uri", ["pattern:?fps=0", "{folder}", "{folder}?rotate=180", "{folder}?offset_ms=1", "pattern:?rotate=90&fps=0"]
)
def test_cameras_of_ours_own_their_pictures(uri: str, tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "f", 3)
    camera = open_camera(uri.format(folder=folder), "rgb")
    assert camera.owns_images  # type: ignore[attr-defined]
    first, second = (frame.image for frame, _ in zip(camera.frames(), range(2), strict=False))
    assert not np.shares_memory(first, second)
    camera.close()


def test_pictures_of_another_size_are_watched_where_both_see(toy_bundle: Path) -> None:
    """What is seen in common is another part of the picture once the thermal camera gives larger ones."""

    def changing() -> Iterator[tuple[float, np.ndarray, None]]:
        for index in range(30):
            yield 1 / 60, noise(index, (64, 96) if index < 12 else (128, 192)), None

    plain = {n: CameraModel(n, 96, 64, np.zeros((3, 3)), np.zeros(5)) for n in ("rgb", "ir")}
    rig = Rig(plain, homography_rgb_to_ir=np.array([[1, 0, 20], [0, 1, 10], [0, 0, 1.0]]))
    opened = Bundle.open(toy_bundle)
    cameras = {"rgb": Scripted("rgb", steady(30, 60.0)), "ir": Scripted("ir", changing())}
    watches = []
    with Pipeline(opened, OrtEngine(opened.model, 1), cameras, rig=rig, policy=QueuePolicy("queue")) as pipe:
        while pipe.read() is not None:
            if pipe.alignment.misalignment is not None and (
                not watches or watches[-1][1] is not pipe.alignment.misalignment
            ):
                watches.append((pipe.alignment.size, pipe.alignment.misalignment))
        seen = {size: pipe.loaded.preprocessor.registrations[size].valid_mask for size, _ in watches}
    assert [size for size, _ in watches] == [(64, 96), (128, 192)]
    assert all(watch.size == seen[size].shape for size, watch in watches)


def test_plans_are_made_while_others_are_looked_at(toy_bundle: Path) -> None:
    """Each thread fits its camera's frames while the results are made of those that are ready."""
    sizes = [(64 + 2 * n, 96 + 3 * n) for n in range(40)]

    def growing() -> Iterator[tuple[float, np.ndarray, None]]:
        for index, size in enumerate(sizes):
            yield 1 / 40, noise(index, size), None

    plain = {n: CameraModel(n, 96, 64, np.zeros((3, 3)), np.zeros(5)) for n in ("rgb", "ir")}
    opened = Bundle.open(allow_absence(toy_bundle))
    cameras = {"rgb": Scripted("rgb", steady(60, 40.0)), "ir": Scripted("ir", growing())}
    rig = Rig(plain, homography_rgb_to_ir=np.eye(3))
    stats = Pipeline(opened, OrtEngine(opened.model, 1), cameras, rig=rig, policy=QueuePolicy("queue", 100)).run()
    assert stats.pairs > 20
