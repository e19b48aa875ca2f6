"""Names of version 0.1: still accepted, each with one warning that names the new; files of then are read."""

from __future__ import annotations

import argparse
import importlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

import edgemtl_runtime
from edgemtl_runtime import Bundle, Frame, Pipeline, PreparedFrame, QueuePolicy, Result, Stats, open_cameras
from edgemtl_runtime.cli_run import add_run
from edgemtl_runtime.engine.onnxruntime import OrtEngine
from edgemtl_runtime.renamed_names import PUBLIC
from edgemtl_runtime.result import schema

VERSION_0_1 = Path(__file__).parents[1] / "fixtures" / "version-0.1"
IMAGE = np.zeros((4, 4), np.uint8)
PATTERN = "pattern:?fps=0&frames=3&width=96&height=64"


@pytest.mark.parametrize(("old", "new"), PUBLIC.items())
def test_a_public_name_is_the_new_one(old: str, new: str) -> None:
    module = importlib.reload(edgemtl_runtime)
    with pytest.warns(DeprecationWarning, match=rf"^edgemtl_runtime\.{old} is {new} now; the old name goes") as warned:
        exec(f"from edgemtl_runtime import {old}")
        exec(f"from edgemtl_runtime import {old}")
    assert len(warned) == 1 and warned[0].filename == "<string>"
    assert getattr(module, old) is getattr(module, new)
    assert old not in module.__all__ and new in module.__all__
    del vars(module)[old]


def test_a_name_that_never_was_is_an_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Ways'"):
        _ = edgemtl_runtime.Ways  # type: ignore[attr-defined]


MADE: list[tuple[Callable[..., Any], dict[str, Any], str, str]] = [
    (QueuePolicy, {"kind": "queue"}, "kind", "mode"),
    (QueuePolicy, {"depth": 3}, "depth", "size"),
    (lambda **given: Frame(IMAGE, 0, "ir", 0, **given), {"moment": "a"}, "moment", "sample_id"),
    (
        lambda **given: PreparedFrame(IMAGE, 0, "ir", 0, registered=False, **given),
        {"network": IMAGE},
        "network",
        "network_input",
    ),
    (lambda **given: Result({}, "rgb", 0, 0, 0, **given), {"absent": ("ir",)}, "absent", "missing"),
    (lambda **given: Result({}, "rgb", 0, 0, 0, **given), {"stamps": {"rgb": "file"}}, "stamps", "stamp_sources"),
]


@pytest.mark.parametrize(
    ("make", "given", "old", "new"), MADE, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_field_is_given_and_read_by_its_old_name(
    make: Callable[..., Any], given: dict[str, Any], old: str, new: str
) -> None:
    with pytest.warns(DeprecationWarning, match=f"^argument {old} is {new} now") as warned:
        value = make(**given)
    assert len(warned) == 1 and warned[0].filename == __file__
    with pytest.warns(DeprecationWarning, match=rf"\.{old} is {new} now") as warned:
        assert getattr(value, old) is getattr(value, new) is given[old]
    assert len(warned) == 1 and warned[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert getattr(make(**{new: given[old]}), new) is given[old]
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = value.nothing


def test_statistics_are_read_by_their_old_name() -> None:
    stats = Stats()
    with pytest.warns(DeprecationWarning, match=r"Stats\.alone is unpaired now"):
        assert stats.alone is stats.unpaired  # type: ignore[attr-defined]


def test_a_pipeline_hears_events_and_gives_its_status_by_the_old_names(toy_bundle: Path) -> None:
    bundle, events = Bundle.open(toy_bundle), []
    cameras = open_cameras({"rgb": PATTERN, "ir": PATTERN})
    with pytest.warns(DeprecationWarning, match="argument told is on_event now"):
        pipeline = Pipeline(bundle, OrtEngine(bundle.model, 1), cameras, told=events.append)  # type: ignore[call-arg]
    pipeline.run()
    assert {event.state for event in events} >= {"live", "ended"}
    status = pipeline.status()
    with pytest.warns(DeprecationWarning, match=r"status\(\)\.cameras"):
        assert status["cameras"] == status.cameras and set(status.cameras) == {"rgb", "ir"}
    assert list(status.to_dict())[:5] == ["running", "cameras", "stats", "last_result_age_ms", "warnings"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (["--policy", "queue", "--depth", "3"], ["--queue-policy", "queue", "--queue-size", "3"]),
        (["--wait"], ["--wait-for-cameras"]),
    ],
)
def test_options_of_run_are_accepted(old: list[str], new: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser("edgemtl-runtime")
    add_run(parser.add_subparsers())
    assert parser.parse_args(["run", "bundle", *old]) == parser.parse_args(["run", "bundle", *new])
    lines = capsys.readouterr().err.splitlines()
    expected = [word for word in old if word.startswith("--")]
    assert [line.split()[2] for line in lines] == expected and all("now; the old name goes" in line for line in lines)


def keys(value: Any, path: str = "") -> set[str]:
    """Return the paths of all keys of a JSON value."""
    if not isinstance(value, dict):
        return {path}
    return {path}.union(*(keys(part, f"{path}.{name}") for name, part in value.items()))


def test_a_summary_has_every_key_of_version_0_1() -> None:
    old = json.loads((VERSION_0_1 / "summary.json").read_text())
    stats = Stats()
    stats.frames.update(old["frames"])
    report = stats.to_dict()
    assert keys(old) <= keys(report)
    assert report["alone"] == report["unpaired"] and report["latency_ms"]["fit"] == report["latency_ms"]["preprocess"]
    assert keys(report) - keys(old) >= {".unpaired", ".latency_ms.preprocess"}


def test_lines_of_version_0_1_are_accepted_as_they_were() -> None:
    """The generated schema takes and refuses what the written one did, but for the key that is new."""
    before = jsonschema.Draft202012Validator(json.loads((VERSION_0_1 / "results.schema.json").read_text()))
    after = jsonschema.Draft202012Validator(schema())
    lines = [json.loads(line) for line in (VERSION_0_1 / "results.jsonl").read_text().splitlines()]
    assert len(lines) > 3
    for line in lines:
        assert before.is_valid(line) and after.is_valid(line | {"missing": line["absent"]})
        for key in line:
            part = {name: value for name, value in line.items() if name != key}
            assert not before.is_valid(part) and not after.is_valid(part | {"missing": []})
            for value in (None, -1, "x", [1], {"x": {"y": 1}}, True, 0.5, 10**20):
                changed = line | {key: value}
                assert before.is_valid(changed) == after.is_valid(changed | {"missing": []}), (key, value)
        for head in line["heads"]:
            for name, value in [("share", {"x": 1.5}), ("boxes", [{}]), ("depth_m", {}), ("more", 1)]:
                changed = line | {"heads": {head: {name: value}}}
                assert before.is_valid(changed) == after.is_valid(changed | {"missing": []}), (head, name)
