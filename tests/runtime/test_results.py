"""Results told as JSON by their schema, thresholds said at run time, and boxes for supervision."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgemtl_runtime.bundle import Bundle, Head
from edgemtl_runtime.decode import decode
from edgemtl_runtime.engine.onnxruntime import OrtEngine
from edgemtl_runtime.errors import EdgemtlError, EngineError
from edgemtl_runtime.frame import Frame, FramePair, StampSource
from edgemtl_runtime.generic_result import Points, ScalarMap, Scalars, Tensor, VectorMap
from edgemtl_runtime.letterbox import Letterbox
from edgemtl_runtime.network_map import later, percentiles
from edgemtl_runtime.postprocess import parse_thresholds
from edgemtl_runtime.result import Attributes, Boxes, DepthMap, EdgeMap, HeadResult, LabelMap, NormalMap, Result, schema
from edgemtl_runtime.sink.jsonl import JsonLines

VALIDATOR = jsonschema.Draft202012Validator(schema())
SHARE = st.floats(0, 1, width=32)
NAMES = st.lists(st.text(max_size=8), min_size=1, max_size=4, unique=True).map(tuple)
SIDES = st.tuples(st.integers(1, 5), st.integers(1, 5))
HEADS = (
    Head("boxes", "detection", "topk_boxes", ("person", "car", "traffic.light")),
    Head("scene", "attributes", "attributes", ("day", "rain"), threshold=0.5),
    Head("edges", "edges", "edge_map", (), threshold=0.5),
    Head("semantic", "semantic", "label_map", ("road", "sky")),
    Head("boxes.far", "detection", "topk_boxes", ("person",)),
)
PLAIN = Letterbox.plan((4, 6), (4, 6))


@st.composite
def boxes(draw: st.DrawFn) -> Boxes:
    names, n = draw(NAMES), draw(st.integers(0, 5))
    corners = draw(arrays(np.float32, (n, 4), elements=st.floats(0, 4000, width=32)))
    classes = draw(arrays(np.int64, n, elements=st.integers(0, len(names) - 1)))
    track = st.one_of(st.just(-1), st.integers(1, 2**53))
    ids = draw(st.one_of(st.none(), st.lists(track, min_size=n, max_size=n)))
    if ids is not None:  # an id twice is no id
        ids = np.array([t if t not in ids[:i] else -1 for i, t in enumerate(ids)], np.int64)
    return Boxes(corners, draw(arrays(np.float32, n, elements=SHARE)), classes, names, ids)


@st.composite
def maps(draw: st.DrawFn) -> HeadResult:
    height, width = draw(SIDES)
    kind = draw(st.sampled_from([LabelMap, DepthMap, NormalMap, EdgeMap, Attributes]))
    if kind is LabelMap:
        names = draw(NAMES)
        labels = draw(arrays(np.uint8, (height, width), elements=st.integers(0, len(names) - 1)))
        return LabelMap(labels, names)
    if kind is DepthMap:
        return DepthMap(draw(arrays(np.float32, (height, width), elements=st.floats(0, 1000, width=32))))
    if kind is NormalMap:
        vectors = draw(arrays(np.float64, (height, width, 3), elements=st.floats(-1, 1)))
        return NormalMap((vectors / np.maximum(np.linalg.norm(vectors, axis=2, keepdims=True), 1e-9)).astype("f4"))
    if kind is EdgeMap:
        return EdgeMap(draw(arrays(np.float32, (height, width), elements=SHARE)), draw(SHARE))
    names = draw(NAMES)
    return Attributes(draw(arrays(np.float32, len(names), elements=SHARE)), names, draw(SHARE))


RESULTS = st.builds(
    Result,
    heads=st.dictionaries(st.text(max_size=8), st.one_of(boxes(), maps()), max_size=4),
    camera=st.sampled_from(["rgb", "ir"]),
    stamp_ns=st.integers(0, 2**62),
    skew_ns=st.integers(0, 10**9),
    index=st.integers(0, 10**9),
    name=st.text(max_size=8),
    missing=st.sampled_from([(), ("ir",), ("rgb", "ir")]),
    stamp_sources=st.dictionaries(st.sampled_from(["rgb", "ir"]), st.sampled_from(get_args(StampSource))),
)


def example() -> dict[str, Any]:
    found = Boxes(np.array([[1, 2, 30, 40]], "f4"), np.array([0.9], "f4"), np.array([0]), ("person",), np.array([7]))
    kinds = {
        "boxes": found,
        "semantic": LabelMap(np.zeros((2, 2), np.uint8), ("road", "sky")),
        "depth": DepthMap(np.ones((2, 2), np.float32)),
        "normals": NormalMap(np.tile(np.float32([0, 0, -1]), (2, 2, 1))),
        "edges": EdgeMap(np.ones((2, 2), np.float32), 0.5),
        "scene": Attributes(np.array([0.4], np.float32), ("day",), 0.5),
        "temperature": ScalarMap(np.float32([[20, np.nan]]), "°C", (0, 50)),
        "flow": VectorMap(np.ones((2, 2, 2), np.float32), ("right", "down"), "pixels a frame"),
        "feet": Points(np.float32([[1, 2]]), np.float32([0.5]), np.array([0]), ("left",)),
        "speed": Scalars(np.float32([np.nan, 1.5]), ("forward", "sideways"), "m/s"),
        "embedding": Tensor(np.ones((3, 4), np.float16)),
    }
    assert {type(kind) for kind in kinds.values()} == set(get_args(HeadResult))
    return Result(kinds, "rgb", 5, 1, 0, "0001", ("ir",), {"rgb": "file"}).to_dict()


@settings(max_examples=150, deadline=None)
@given(RESULTS)
def test_every_result_is_told_as_the_schema_says(result: Result) -> None:
    VALIDATOR.validate(json.loads(json.dumps(result.to_dict())))


def test_one_result_of_every_kind_is_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    VALIDATOR.validate(example())


def test_the_schema_knows_every_source_of_stamps() -> None:
    assert schema()["properties"]["stamp_source"]["additionalProperties"]["enum"] == list(get_args(StampSource))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("index",), -1),
        (("index",), 1.5),
        (("stamp_ns",), "5"),
        (("skew_ns",), -1),
        (("camera",), ""),
        (("absent",), ["ir", "ir"]),
        (("stamp_source", "rgb"), "guessed"),
        (("comment",), "more than is known"),
        (("heads", "boxes", "boxes", 0, "score"), 1.01),
        (("heads", "boxes", "boxes", 0, "xyxy"), [1, 2, 3]),
        (("heads", "boxes", "boxes", 0, "xyxy"), [1, 2, 3, None]),
        (("heads", "boxes", "boxes", 0, "class"), 0),
        (("heads", "boxes", "boxes", 0, "track"), -1),
        (("heads", "boxes", "boxes", 0, "age"), 3),
        (("heads", "semantic", "share", "road"), 1.5),
        (("heads", "semantic", "boxes"), []),
        (("heads", "depth", "depth_m", "mean"), 3.0),
        (("heads", "depth", "depth_m", "p5"), None),
        (("heads", "normals", "mean_normal"), [0, 0]),
        (("heads", "edges", "edge_share"), -0.1),
        (("heads", "scene", "attributes", "day"), True),
        (("heads", "speed"), {"metres_per_second": 3}),
    ],
)
def test_what_is_no_result_is_not_valid(place: tuple[str | int, ...], value: object) -> None:
    told = example()
    part: Any = told
    for step in place[:-1]:
        part = part[step]
    part[place[-1]] = value
    assert not VALIDATOR.is_valid(told)


@pytest.mark.parametrize("key", list(example()))
def test_no_part_of_a_result_may_be_missing(key: str) -> None:
    told = example()
    del told[key]
    assert not VALIDATOR.is_valid(told)


def test_the_lines_of_the_sink_are_valid(toy_bundle: Path, tmp_path: Path) -> None:
    opened = Bundle.open(toy_bundle)
    sink, engine = JsonLines(tmp_path / "o.jsonl"), OrtEngine(opened.model, 1)
    for index in range(3):
        rgb = np.full((64, 96, 3), 100 * index, np.uint8)
        outputs = engine.run({"rgb": rgb[None], "ir": rgb[None, :, :, :1]})
        fit = Letterbox.plan((128, 192), (64, 96))
        heads = decode({name: output[0] for name, output in outputs.items()}, opened.manifest.heads, fit)
        assert isinstance(heads["boxes"], Boxes)
        heads["boxes"] = replace(heads["boxes"], tracks=np.array([index + 1]))
        pair = FramePair({"rgb": Frame(np.zeros((128, 192, 3), np.uint8), index, "rgb", index, "file")})
        stamps = {name: frame.stamp_source for name, frame in pair.frames.items()}
        sink.write(pair, Result(heads, "rgb", index, 0, index, stamp_sources=dict(stamps)))
    sink.close()
    lines = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    for line in lines:
        VALIDATOR.validate(line)
    assert [line["heads"]["boxes"]["boxes"][0]["track"] for line in lines] == [1, 2, 3]
    assert lines[0]["stamp_source"] == {"rgb": "file"} and lines[2]["heads"]["semantic"]["share"]["bright"] == 1


@pytest.mark.parametrize("tracks", [[1], [1, 1], [0, 1], [-2, 1], [1.0, 2.0]])
def test_tracks_are_one_number_a_box_each_once(tracks: list[float]) -> None:
    two = np.zeros((2, 4), np.float32), np.ones(2, np.float32), np.zeros(2, np.int64), ("a",)
    with pytest.raises(ValueError, match="tracks"):
        Boxes(*two, tracks=np.array(tracks))
    assert Boxes(*two, tracks=np.array([-1, -1])).to_dict() == Boxes(*two).to_dict()


@given(boxes(), st.randoms())
def test_picked_boxes_keep_what_belongs_to_them(found: Boxes, random: Any) -> None:
    mask = np.array([random.random() < 0.5 for _ in range(len(found))], np.bool_)
    picked, told = found.pick(mask).to_dict()["boxes"], found.to_dict()["boxes"]
    assert picked == [box for box, kept in zip(told, mask, strict=True) if kept]


@pytest.mark.parametrize("rows", [[0, 1, 2], []])
@pytest.mark.parametrize("tracks", [None, np.array([4, -1, 9])])
def test_boxes_become_supervisions_detections(rows: list[int], tracks: np.ndarray | None) -> None:
    supervision = pytest.importorskip("supervision")
    xyxy = np.arange(12, dtype=np.float32).reshape(3, 4)
    found = Boxes(xyxy, np.array([0.9, 0.8, 0.7], np.float32), np.array([1, 0, 1]), ("car", "person"), tracks)
    detections = found.pick(np.array(rows, np.intp)).to_supervision()
    assert isinstance(detections, supervision.Detections) and len(detections) == len(rows)
    assert np.array_equal(detections.xyxy, xyxy[rows]) and detections.class_id.tolist() == [1, 0, 1][: len(rows)]
    assert detections["class_name"].tolist() == ["person", "car", "person"][: len(rows)]
    expected = None if tracks is None else [4, -1, 9][: len(rows)]
    assert (None if detections.tracker_id is None else detections.tracker_id.tolist()) == expected
    assert len(detections[detections.confidence > 0.75]) == min(2, len(rows))


def test_without_supervision_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(EdgemtlError, match="pip install supervision"):
        Boxes(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), ()).to_supervision()


def rows(*scores_and_classes: tuple[float, int]) -> np.ndarray:
    return np.array([[0, 0, 4, 4, score, index] for score, index in scores_and_classes], np.float32)


def test_every_class_has_the_threshold_that_was_said() -> None:
    head = HEADS[:1]
    output = {"boxes": rows((0.9, 0), (0.6, 1), (0.35, 0), (0.3, 1), (0.3, 2), (0.2, 2))}

    def kept(*texts: str) -> list[tuple[float, str]]:
        found = decode(output, head, PLAIN, parse_thresholds(texts, head))["boxes"]
        return [(box["score"], box["class"]) for box in found.to_dict()["boxes"]]

    both = [(0.9, "person"), (0.6, "car")]
    assert kept() == [*both, (0.35, "person"), (0.3, "car"), (0.3, "traffic.light")]
    assert kept("boxes=0.3") == kept() and kept("boxes=0.4") == both
    assert kept("boxes=0.4", "boxes.traffic.light=0.2") == [*both, (0.3, "traffic.light"), (0.2, "traffic.light")]
    assert kept("boxes.car=0.7") == [(0.9, "person"), (0.35, "person"), (0.3, "traffic.light")]
    assert kept("boxes=1") == [] and len(kept("boxes=0")) == 6


def test_a_class_that_is_none_of_the_heads_is_still_refused() -> None:
    with pytest.raises(EngineError, match="gives a class 3, the manifest names 3"):
        decode({"boxes": rows((0.9, 3))}, HEADS[:1], PLAIN, parse_thresholds(["boxes.person=0.3"], HEADS))


def test_attributes_and_edges_take_their_thresholds() -> None:
    heads, scores = HEADS[1:3], np.array([0.45, 0.45], np.float32)
    outputs = {"scene": scores, "edges": np.tile(np.float32([0.1, 0.3, 0.6]), (4, 2))}

    def read(*texts: str) -> tuple[Attributes, EdgeMap]:
        found = decode(outputs, heads, PLAIN, parse_thresholds(texts, heads))
        assert isinstance(found["scene"], Attributes) and isinstance(found["edges"], EdgeMap)
        return found["scene"], found["edges"]

    assert read()[0].holds.tolist() == [False, False] and read()[0].threshold == 0.5
    even, edges = read("scene=0.4", "edges=0.2")
    assert even.holds.tolist() == [True, True] and even.threshold == pytest.approx(0.4) and even.thresholds is None
    assert edges.to_dict() == {"edge_share": 0.6667} and read()[1].to_dict() == {"edge_share": 0.3333}
    assert read("scene.rain=0.4")[0].holds.tolist() == [False, True]
    with pytest.raises(ValueError, match="thresholds"):
        replace(even, thresholds=np.zeros(3, np.float32))


@given(st.permutations(["boxes=0.3", "boxes.car=0.7", "edges=0.2"]))
def test_a_class_counts_more_than_its_head_in_any_order(texts: list[str]) -> None:
    found = parse_thresholds(texts, HEADS)
    assert found.keys() == {"boxes", "edges"} and found["edges"].shape == ()
    assert found["boxes"].dtype == np.float32 and np.allclose(found["boxes"], [0.3, 0.7, 0.3])


@given(st.sampled_from([(h, c) for h in HEADS if h.decoder != "label_map" for c in ("", *h.classes)]), SHARE)
def test_a_threshold_changes_what_it_names_and_nothing_else(place: tuple[Head, str], value: float) -> None:
    head, name = place
    found = parse_thresholds([f"{head.name}{'.' if name else ''}{name}={value!r}"], HEADS)[head.name]
    expected = [value if name in ("", other) else head.threshold for other in head.classes] or value
    assert np.array_equal(found, np.float32(expected))


def test_the_last_of_the_same_counts() -> None:
    assert np.allclose(parse_thresholds(["boxes=0.3", "boxes=0.6"], HEADS)["boxes"], 0.6)
    assert parse_thresholds(["boxes.far=0.7"], HEADS).keys() == {"boxes.far"}  # a head's own name, not a class of boxes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("boxs=0.3", "no head 'boxs'; did you mean 'boxes'?"),
        ("boxes.persn=0.3", "no class 'persn'; did you mean 'person'?"),
        ("boxes=1.2", "a value from 0 to 1"),
        ("boxes=-0.1", "a value from 0 to 1"),
        ("boxes=nan", "a value from 0 to 1"),
        ("boxes=", "write HEAD=VALUE"),
        ("boxes", "write HEAD=VALUE"),
        ("0.3", "write HEAD=VALUE"),
        ("=0.3", "no head ''"),
        ("semantic=0.3", "semantic has no threshold; heads that have one: boxes, scene, edges, boxes.far"),
        ("edges.strong=0.3", "write edges=0.3"),
    ],
)
def test_a_threshold_that_cannot_be_is_told_in_one_line(text: str, expected: str) -> None:
    with pytest.raises(EdgemtlError) as raised:
        parse_thresholds(["boxes=0.5", text], HEADS)
    assert expected in str(raised.value) and f"'{text}'" in str(raised.value) and "\n" not in str(raised.value)


SIDE = st.integers(1, 90)


@settings(max_examples=200, deadline=None)
@given(SIDE, SIDE, SIDE, SIDE, st.sampled_from([(), (3,)]), st.sampled_from([np.uint8, np.float32]))
def test_a_map_shows_the_nearest_pixel_of_the_network(
    h: int, w: int, height: int, width: int, rest: tuple[int, ...], kind: type
) -> None:
    fit = Letterbox.plan((h, w), (height, width))
    values = np.arange(height * width * int(np.prod(rest)), dtype=np.float32).astype(kind).reshape(height, width, *rest)
    # In whole numbers, so that the centre of a pixel is exact: floor((2 i + 1) m / (2 n)).
    at_row = [min((2 * i + 1) * fit.scaled_height // (2 * h), fit.scaled_height - 1) for i in range(h)]
    at_column = [min((2 * i + 1) * fit.scaled_width // (2 * w), fit.scaled_width - 1) for i in range(w)]
    assert np.array_equal(fit.map_to_camera(values), values[at_row][:, at_column])


CAMERA = st.tuples(st.integers(1, 40), st.integers(1, 40))


@settings(deadline=None)
@given(CAMERA, st.integers(0, 2**32 - 1))
def test_a_map_tells_the_same_enlarged_or_not(camera: tuple[int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    letterbox = Letterbox.plan(camera, (12, 16))
    values = rng.integers(-3, 3, (12, 16)).astype(np.float32)
    values[rng.random((12, 16)) < 0.1] = np.nan
    vectors = rng.normal(size=(12, 16, 3)).astype(np.float32)
    makers: list[Callable[[Any], Any]] = [
        lambda lay: LabelMap(lay(rng_labels(seed)), ("a", "b", "c")),
        lambda lay: DepthMap(lay(vectors[..., 0])),
        lambda lay: NormalMap(lay(vectors)),
        lambda lay: EdgeMap(lay(vectors[..., 1]), 0.2),
        lambda lay: ScalarMap(lay(values), "K"),
        lambda lay: VectorMap(lay(vectors), ("x", "y", "z")),
    ]
    for make in makers:
        kept, enlarged = make(lambda output: later(output, letterbox)), make(letterbox.map_to_camera)
        untouched = kept.to_dict()
        assert kept.MAP not in vars(kept)
        np.testing.assert_array_equal(getattr(kept, kept.MAP), getattr(enlarged, enlarged.MAP))
        assert json.dumps(untouched) == json.dumps(enlarged.to_dict()) == json.dumps(kept.to_dict())
        assert getattr(copy.deepcopy(kept), kept.MAP).shape[:2] == camera


def rng_labels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 3, (12, 16), np.uint8)


@given(arrays(np.float32, st.integers(1, 30), elements=st.floats(-9, 9, width=32)), st.data())
def test_percentiles_of_repeated_values(values: np.ndarray, data: st.DataObject) -> None:
    counts = data.draw(arrays(np.int64, values.shape, elements=st.integers(1, 5)))
    expected = np.percentile(values.astype(np.float64).repeat(counts), (0, 5, 50, 95, 100))
    np.testing.assert_allclose(percentiles(values, counts, (0, 5, 50, 95, 100)), expected, atol=1e-9)


def test_a_map_that_was_changed_tells_what_it_holds_now() -> None:
    labels = LabelMap(later(np.zeros((12, 16), np.uint8), Letterbox.plan((24, 32), (12, 16))), ("a", "b"))
    assert labels.to_dict()["share"] == {"a": 1.0, "b": 0.0}
    labels.labels[:12] = 1
    assert labels.to_dict()["share"] == {"a": 0.5, "b": 0.5}
