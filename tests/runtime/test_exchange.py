"""A bundle is exchanged for another while it runs: nothing is lost, and one that is bad is given up."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from conftest import write_frames, write_toy_bundle
from mcap.reader import make_reader
from onnx import numpy_helper
from processes import wait_for
from programs import LIVE
from servers import allow_absence

from edgemtl_runtime import Bundle, Pipeline
from edgemtl_runtime.atomic import AtomicFolder
from edgemtl_runtime.bundle import BUNDLE, MODEL, write_bundle
from edgemtl_runtime.bundle_link import LAST_GOOD, BundleLink, Opened, is_link, open_target, resolved
from edgemtl_runtime.camera import open_cameras
from edgemtl_runtime.engine.onnxruntime import OrtEngine
from edgemtl_runtime.errors import BundleError, EdgemtlError, EngineError
from edgemtl_runtime.frame import Frame, FramePair
from edgemtl_runtime.loaded_bundle import PROBATION, LoadedBundle
from edgemtl_runtime.result import Boxes, LabelMap, Result
from edgemtl_runtime.self_test import SELF_TEST, check_self_test, write_self_test
from edgemtl_runtime.sink.mcap import McapFile


def with_self_test(folder: Path, at: Path, edit: Callable[[onnx.ModelProto], None] = lambda _: None) -> Path:
    """Write a copy of a bundle with a self-test; ``edit`` changes its network afterwards, and the hashes agree."""
    bundle = Bundle.open(folder)
    rng = np.random.default_rng(1)
    frame = {s.name: rng.integers(0, 100, (1, s.height, s.width, s.channels), np.uint8) for s in bundle.manifest.inputs}
    with OrtEngine(bundle.model) as engine, AtomicFolder(at, BUNDLE) as output:
        write_self_test(output.folder / SELF_TEST, frame, {"fp32": engine.run(frame)}, bundle.manifest.heads)
        network = onnx.load(str(bundle.model))
        edit(network)
        onnx.save(network, str(output.folder / MODEL))
        write_bundle(output, msgspec.structs.replace(bundle.manifest, files={}))
    return at


def worse(network: onnx.ModelProto) -> None:
    """Move the box that the network always finds, as damaged weights do."""
    rows = next(part for part in network.graph.initializer if part.name == "rows")
    rows.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(rows) * np.float32(0.8), "rows"))


def opened(folder: Path) -> Opened:
    bundle = Bundle.open(folder)
    engine = OrtEngine(bundle.model, 1)
    check_self_test(bundle, engine, "fp32")
    return Opened(bundle, engine, {})


def point(link: Path, target: Path) -> None:
    """Point a link elsewhere as `ln -sfn` does it, which removes it first."""
    link.unlink(missing_ok=True)
    link.symlink_to(target.name)


@contextmanager
def linked(folder: Path, first: Path, uri: str = LIVE) -> Iterator[tuple[Path, Pipeline]]:
    """Run a pipeline of a link to a bundle."""
    link = folder / "current"
    point(link, first)
    begun = open_target(link, opened, print)
    with Pipeline(begun.bundle, begun.engine, open_cameras({"rgb": uri, "ir": uri})) as pipe:
        watching = BundleLink(link, pipe, opened)
        try:
            yield link, pipe
        finally:
            watching.close()


def read_until(pipe: Pipeline, condition: Callable[[], object], seconds: float = 30) -> list[str]:
    """Read results until a condition holds; returns the name of the box in each."""
    names, end = [], time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, pipe.events + pipe.warnings
        pair, result = pipe.read() or (None, None)
        assert pair is not None and result is not None and not result.missing
        boxes = result.heads["boxes"]
        names.append(boxes.names[boxes.classes[0]])  # type: ignore[union-attr]
    return names


def test_the_bundle_of_a_changed_link_takes_over_and_no_pair_is_lost(tmp_path: Path) -> None:
    first, second = write_toy_bundle(tmp_path / "one"), write_toy_bundle(tmp_path / "two", classes=("human", "truck"))
    with linked(tmp_path, first) as (link, pipe):
        good = link.with_name("current" + LAST_GOOD)
        assert set(read_until(pipe, good.is_symlink)) == {"person"} and good.resolve() == first
        point(link, second)
        names = read_until(pipe, lambda: good.resolve() == second)
        assert names.count("human") >= PROBATION and names == sorted(names, reverse=True)
        assert pipe.loaded.bundle.path == second and "two takes over" in str(pipe.events[-1])
        assert not {cause for cause in pipe.stats.drops if cause.startswith("pair: failed")} and not pipe.warnings


def test_a_bundle_of_another_size_gets_what_was_prepared_for_the_one_before(tmp_path: Path) -> None:
    rgb, ir = write_frames(tmp_path / "rgb", 40), write_frames(tmp_path / "ir", 40, channels=1, depth=16)
    bundles = [Bundle.open(write_toy_bundle(tmp_path / str(width), width=width)) for width in (96, 48)]
    pipe = Pipeline(bundles[0], OrtEngine(bundles[0].model, 1), open_cameras({"rgb": str(rgb), "ir": str(ir)}))
    labels = []
    for _, result in pipe:
        labels.append(result.heads["semantic"].labels.mean())  # type: ignore[union-attr]
        if result.index == 20:
            pipe.exchange(bundles[1], OrtEngine(bundles[1].model, 1))
    assert labels == [0] * 19 + [1] * 21 and pipe.loaded.bundle is bundles[1] and not pipe.stats.drops
    pipe.close_other_engines().engine.close()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (
            lambda folder: with_self_test(write_toy_bundle(folder / "made"), folder / "bad", worse),
            "fails its self-test",
        ),
        (lambda folder: write_toy_bundle(folder / "bad", warmest=120), "runs on"),
        (lambda folder: damaged(folder / "bad"), "damaged"),
        (lambda folder: (folder / "bad").mkdir() or folder / "bad", "no bundle here"),
    ],
    ids=["another network", "fails on what the cameras see", "damaged", "empty"],
)
def test_a_bad_bundle_is_given_up_within_a_second(
    make: Callable[[Path], Path], reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, bad = write_toy_bundle(tmp_path / "one"), make(tmp_path)
    with linked(tmp_path, first) as (link, pipe):
        read_until(pipe, lambda: pipe.stats.pairs > 20)
        point(link, bad)
        begun = time.monotonic()
        read_until(pipe, lambda: pipe.warnings)
        assert time.monotonic() - begun < 1 and pipe.loaded.bundle.path == first and link.resolve() == first
        assert reason in str(pipe.warnings[0]) and str(pipe.warnings[0]).endswith(
            f"one runs on, and {link} points to it again"
        )
        pairs = pipe.stats.pairs
        read_until(pipe, lambda: pipe.stats.pairs > pairs + 20)
        assert len(pipe.warnings) == 1 and not any("failed" in cause for cause in pipe.stats.drops)


def damaged(folder: Path) -> Path:
    write_toy_bundle(folder)
    with (folder / MODEL).open("ab") as stream:
        stream.write(b"x")
    return folder


def test_what_may_be_missing_and_tracks_are_of_the_bundle_in_use(tmp_path: Path) -> None:
    first = Bundle.open(write_toy_bundle(tmp_path / "one"))
    lenient = Bundle.open(allow_absence(write_toy_bundle(tmp_path / "two", warmest=120)))
    wide = Bundle.open(write_toy_bundle(tmp_path / "wide", width=192, height=128))
    engines = [OrtEngine(bundle.model, 1) for bundle in (first, lenient, wide)]
    with Pipeline(first, engines[0], open_cameras({"rgb": LIVE, "ir": LIVE}), track=True) as pipe:
        read_until(pipe, lambda: pipe.stats.pairs > 3)
        tracks = pipe.loaded.trackers
        failed = pipe.exchange(lenient, engines[1])
        read_until(pipe, failed.done)
        assert failed.exception() is not None and pipe.capture.pairing.optional == frozenset()
        pipe.exchange(wide, engines[2])
        read_until(pipe, lambda: pipe.loaded.bundle is wide)
        assert tracks is not None and pipe.loaded.trackers is not None
        assert pipe.loaded.trackers.trackers is not tracks.trackers  # which are in the pixels of another network
    pipe.close_other_engines().engine.close()


def test_the_link_is_pointed_to_what_really_runs(tmp_path: Path) -> None:
    first, second, empty = write_toy_bundle(tmp_path / "one"), write_toy_bundle(tmp_path / "two"), tmp_path / "empty"
    empty.mkdir()
    with linked(tmp_path, first) as (link, pipe):
        read_until(pipe, lambda: pipe.stats.pairs > 5)
        point(link, second)
        read_until(pipe, lambda: pipe.loaded.bundle.path == second)
        point(link, empty)  # while the second one is not proven yet
        read_until(pipe, lambda: pipe.warnings)
        assert "two runs on" in str(pipe.warnings[0]) and link.resolve() == second
        read_until(pipe, lambda: link.with_name("current" + LAST_GOOD).resolve() == second)


def test_a_link_that_points_to_itself_is_no_end_of_the_watching(tmp_path: Path) -> None:
    first, second = write_toy_bundle(tmp_path / "one"), write_toy_bundle(tmp_path / "two")
    with linked(tmp_path, first) as (link, pipe):
        read_until(pipe, lambda: pipe.stats.pairs > 5)
        point(link, link)
        pairs = pipe.stats.pairs
        read_until(pipe, lambda: pipe.stats.pairs > pairs + 60)
        point(link, second)
        read_until(pipe, lambda: pipe.loaded.bundle.path == second)
    point(link, link)
    assert is_link(link) and resolved(link) is None
    with pytest.raises(BundleError, match="points to itself"):
        open_target(link, opened, print)


def test_where_neither_bundle_opens_both_are_named(tmp_path: Path) -> None:
    link, bad = tmp_path / "current", damaged(tmp_path / "bad")
    (tmp_path / "empty").mkdir()
    point(link, tmp_path / "empty")
    point(link.with_name("current" + LAST_GOOD), bad)
    with pytest.raises(BundleError, match=r"empty: no bundle here.*nor does bad, the last good one, open \(.*damaged"):
        open_target(link, opened, print)


def test_the_future_of_an_exchange_may_be_cancelled_and_always_ends(tmp_path: Path) -> None:
    bundles = [Bundle.open(write_toy_bundle(tmp_path / name, warmest=most)) for name, most in (("a", 255), ("b", 120))]
    with Pipeline(bundles[0], OrtEngine(bundles[0].model, 1), open_cameras({"rgb": LIVE, "ir": LIVE})) as pipe:
        for bundle in (bundles[1], bundles[0]):
            pipe.exchange(bundle, OrtEngine(bundle.model, 1)).cancel()
            pairs = pipe.stats.pairs
            read_until(pipe, lambda pairs=pairs: pipe.stats.pairs > pairs + PROBATION + 5)
        last = pipe.exchange(bundles[0], OrtEngine(bundles[0].model, 1))
        read_until(pipe, lambda: pipe.stats.pairs > pairs + 2)
    pipe.close_other_engines().engine.close()
    assert last.cancelled()


def test_a_head_of_the_same_name_and_another_type_has_a_channel_of_its_own(tmp_path: Path) -> None:
    frame = Frame(np.zeros((8, 8, 3), np.uint8), 1, "rgb", 0)
    sink = McapFile(tmp_path / "x.mcap", 0)
    boxes = Boxes(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), ("a",))
    for index, head in enumerate((boxes, LabelMap(np.zeros((8, 8), np.uint8), ("a",)))):
        sink.write(FramePair({"rgb": frame}), Result({"out": head}, "rgb", 1 + index, 0, index))
    sink.close()
    with (tmp_path / "x.mcap").open("rb") as stream:
        kinds = [(schema.name) for schema, channel, _ in make_reader(stream).iter_messages(topics="/out") if schema]
    assert kinds == ["vision_msgs/msg/Detection2DArray", "sensor_msgs/msg/Image"]


def test_a_pair_without_a_camera_that_the_new_bundle_needs_is_not_run(tmp_path: Path) -> None:
    lenient, strict = allow_absence(write_toy_bundle(tmp_path / "lenient")), write_toy_bundle(tmp_path / "strict")
    loaded = [LoadedBundle(Bundle.open(path), OrtEngine(path / MODEL, 1)) for path in (lenient, strict)]
    alone = FramePair({"rgb": Frame(np.zeros((8, 8, 3), np.uint8), 1, "rgb", 0)})
    assert [part.takes(alone) for part in loaded] == [True, False]
    for part in loaded:
        part.engine.close()


def test_the_end_does_not_wait_for_a_bundle_that_is_being_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgemtl_runtime.bundle_link.JOIN_S", 0.1)
    first, second = write_toy_bundle(tmp_path / "one"), write_toy_bundle(tmp_path / "two")
    begun, built, engines = threading.Event(), threading.Event(), list[OrtEngine]()

    def slow(folder: Path) -> Opened:
        answer = opened(folder)
        engines.append(answer.engine)  # type: ignore[arg-type]
        if folder == second:
            begun.set()
            built.wait(20)
        return answer

    link = tmp_path / "current"
    point(link, first)
    start = slow(first)
    with Pipeline(start.bundle, start.engine, open_cameras({"rgb": LIVE, "ir": LIVE})) as pipe:
        watching = BundleLink(link, pipe, slow)
        point(link, second)
        read_until(pipe, begun.is_set)
    begun_s = time.monotonic()
    watching.close()
    assert time.monotonic() - begun_s < 2 and pipe.loaded.bundle.path == first
    built.set()
    watching._thread.join(10)
    for engine in engines:
        with pytest.raises(EngineError, match="is closed"):
            engine.run({})


def test_a_third_bundle_goes_back_to_the_last_that_was_proven(tmp_path: Path) -> None:
    paths = [
        write_toy_bundle(tmp_path / "good"),
        write_toy_bundle(tmp_path / "hasty"),
        write_toy_bundle(tmp_path / "bad", warmest=120),
    ]
    bundles = [Bundle.open(path) for path in paths]
    engines = [OrtEngine(bundle.model, 1) for bundle in bundles]
    with Pipeline(bundles[0], engines[0], open_cameras({"rgb": LIVE, "ir": LIVE})) as pipe:
        read_until(pipe, lambda: pipe.stats.pairs > 2)
        hasty = pipe.exchange(bundles[1], engines[1])
        read_until(pipe, lambda: pipe.loaded.bundle is bundles[1])
        bad = pipe.exchange(bundles[2], engines[2])
        read_until(pipe, bad.done)
        assert pipe.loaded.bundle is bundles[0] and hasty.cancelled() and bad.exception() is not None
        read_until(pipe, lambda: pipe.stats.pairs > 20)
    pipe.close_other_engines().engine.close()


def test_a_bundle_that_needs_another_camera_is_rejected_at_once(tmp_path: Path) -> None:
    first = Bundle.open(write_toy_bundle(tmp_path / "one"))
    manifest = msgspec.structs.replace(first.manifest, inputs=first.manifest.inputs[:1])
    cameras = open_cameras({"rgb": LIVE, "ir": LIVE})
    with (
        OrtEngine(first.model, 1) as engine,
        Pipeline(first, engine, cameras) as pipe,
        pytest.raises(EdgemtlError, match="no input ir"),
    ):
        pipe.exchange(Bundle(first.path, manifest), engine)


def test_a_start_finds_the_last_good_bundle(tmp_path: Path) -> None:
    good, bad = write_toy_bundle(tmp_path / "good"), damaged(tmp_path / "bad")
    link, messages = tmp_path / "current", list[str]()
    point(link, bad)
    with pytest.raises(BundleError, match="damaged"):
        open_target(link, opened, messages.append)
    point(link.with_name("current" + LAST_GOOD), good)
    begun = open_target(link, opened, messages.append)
    begun.engine.close()
    assert begun.bundle.path == good and link.resolve() == good
    assert "damaged" in messages[0] and messages[0].endswith(f"good is run in its place, and {link} points to it again")


def test_the_program_exchanges_and_says_so(tmp_path: Path) -> None:
    first, second = write_toy_bundle(tmp_path / "one"), write_toy_bundle(tmp_path / "two", classes=("human", "truck"))
    bad = with_self_test(write_toy_bundle(tmp_path / "made"), tmp_path / "bad", worse)
    link, lines = tmp_path / "current", tmp_path / "results.jsonl"
    point(link, first)
    words = ["run", str(link), "--rgb", LIVE, "--ir", LIVE, "--jsonl", str(lines), "--json", "--threads", "1"]
    program = subprocess.Popen(
        [sys.executable, "-m", "edgemtl_runtime", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    good = link.with_name("current" + LAST_GOOD)
    wait_for(good.is_symlink, program)
    for target in (second, bad):
        point(link, target)
        wait_for(lambda: good.resolve() == second and link.resolve() == second, program)
    program.send_signal(2)
    out, err = program.communicate(timeout=30)
    assert program.returncode in (0, 130), err
    first_line, second_line = err.splitlines()[:2]
    assert "two takes over" in first_line and "bad: fails its self-test" in second_line and "two runs on" in second_line
    names = [
        json.loads(line)["heads"]["boxes"]["boxes"][0]["class"]
        for line in lines.read_text().splitlines()
        if '"heads"' in line
    ]
    assert set(names) == {"person", "human"} and json.loads(out)["pairs"] == len(names)
    assert link.readlink() == Path("two")
