"""What a camera can do: the base class with its defaults, minimal custom cameras, and names of version 0.1."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from edgemtl_runtime.camera import open_camera
from edgemtl_runtime.camera.base import CameraBase, CameraEvents
from edgemtl_runtime.camera.wrappers import (
    Adjusted,
    Copied,
    CustomCamera,
    _warn_renamed,
    complete,
    with_offsets,
    with_owned_images,
)
from edgemtl_runtime.frame import Frame


class Minimal:
    """The least that a camera is."""

    name, live = "rgb", True

    def __init__(self) -> None:
        self.closed = False

    def frames(self) -> Iterator[Frame]:
        yield Frame(np.zeros((4, 4, 3), np.uint8), 1, self.name, 0)

    def close(self) -> None:
        self.closed = True


class Old(Minimal):
    """A camera with the optional attributes of version 0.1."""

    owned_pictures = drops_repeats = True
    rate = 12.5

    def __init__(self) -> None:
        super().__init__()
        self.told: Callable[[str, str], None] = lambda state, detail: None
        self.dropped: Callable[[str], None] = lambda cause: None

    def frames(self) -> Iterator[Frame]:
        self.told("lost", "unplugged")
        self.dropped("corrupt frame")
        yield from super().frames()


class Events(CameraEvents):
    def __init__(self) -> None:
        self.received: list[tuple[str, ...]] = []

    def state_changed(self, state: str, detail: str) -> None:
        self.received.append((state, detail))

    def frame_dropped(self, cause: str) -> None:
        self.received.append((cause,))


def test_a_minimal_camera_has_the_defaults_of_the_base_class() -> None:
    source = Minimal()
    camera = complete(source)
    assert isinstance(camera, CustomCamera) and camera.name == "rgb" and camera.live
    assert not (camera.owns_images or camera.drops_repeats or camera.finished or camera.rate)
    assert camera.unwrapped is source and isinstance(with_owned_images(camera), Copied)
    camera.start(0)
    assert [frame.stamp_ns for frame in camera.frames(Events())] == [1]
    camera.close()
    assert source.closed


def test_names_of_version_0_1_are_read_with_one_line_each(caplog: pytest.LogCaptureFixture) -> None:
    _warn_renamed.cache_clear()
    events = Events()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            camera = complete(Old())
            assert camera.owns_images and camera.drops_repeats and camera.rate == 12.5
            assert with_owned_images(camera) is camera and len(list(camera.frames(events))) == 1
    assert events.received == [("lost", "unplugged"), ("corrupt frame",)] * 2
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3 and "owned_pictures is owns_images now" in lines[0] and "events.state_changed" in lines[1]


def test_what_derives_from_the_base_class_is_not_wrapped() -> None:
    camera = open_camera("pattern:?fps=0&frames=2", "rgb")
    assert isinstance(camera, CameraBase) and complete(camera) is camera and camera.owns_images and camera.uri
    assert camera.label == "--rgb pattern:"


def test_wrappers_forward_all_that_a_camera_can_do() -> None:
    source = open_camera("pattern:?fps=0&frames=2", "rgb")
    adjusted = with_offsets({"rgb": source}, {"rgb": 5.0})["rgb"]
    assert isinstance(adjusted, Adjusted) and adjusted.unwrapped is source and adjusted.owns_images
    assert (adjusted.name, adjusted.uri, adjusted.live, adjusted.rate) == ("rgb", "pattern:", False, source.rate)  # type: ignore[attr-defined]
    adjusted.start(1_000)
    assert next(iter(adjusted.frames())).stamp_ns == 5_001_000
