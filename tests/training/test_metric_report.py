"""Metrics by subset and task: as metrics.json holds them today, and as version 0.1 wrote them."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from edgemtl.errors import EdgemtlError
from edgemtl.metric_report import MetricReport, flat, from_json, table, to_json
from edgemtl.run import Run
from edgemtl.run_files import read_metrics
from edgemtl.tasks import TASKS

OLD = Path(__file__).parents[1] / "fixtures" / "version-0.1"


def report() -> MetricReport:
    return MetricReport({"boxes": {"ap": 0.3, "ap50": 0.5}, "depth": {"abs_rel": 0.2}, "semantic": {}})


def test_a_primary_metric_is_asked_for_by_its_task() -> None:
    assert report().primary("boxes") == 0.5 and report().primary("depth") == 0.2
    assert report().primary("semantic") is None and report().primary("edges") is None
    assert report()["boxes"] == {"ap": 0.3, "ap50": 0.5} and report().flat() == {"ap": 0.3, "ap50": 0.5, "abs_rel": 0.2}
    with pytest.raises(AttributeError):
        report().by_task = {}  # type: ignore[misc]


def test_reports_are_written_by_task_and_read_again() -> None:
    reports = {"all": report(), "rgb missing": MetricReport({"boxes": {"ap": float("nan")}, "depth": {"abs_rel": 1.0}})}
    written = json.loads(json.dumps(to_json(reports)))
    assert written["evaluation"]["all"]["boxes"] == {"ap": 0.3, "ap50": 0.5}
    assert written["val"] == {"all": report().flat(), "rgb missing": written["val"]["rgb missing"]}  # as 0.1 had it
    assert from_json(written)["all"] == reports["all"]
    assert from_json({}) == {} and from_json({"steps": 3}) == {}
    assert table({"all": report(), "day": MetricReport({"depth": {"abs_rel": 0.25}})})[1:] == [
        ["ap", "0.300", "-"],
        ["ap50", "0.500", "-"],
        ["abs_rel", "0.200", "0.250"],
    ]


@pytest.mark.parametrize("value", [3, {"all": 3}, {"all": {"boxes": 0.3}}, {"all": {"boxes": {"ap": "good"}}}])
def test_what_is_no_report_is_one_error(value: object) -> None:
    with pytest.raises(EdgemtlError, match="cannot be read"):
        from_json({"evaluation": value})


@pytest.mark.parametrize("name", ["run", "run-aligned"])
def test_a_run_of_version_0_1_has_its_reports(name: str) -> None:
    metrics = read_metrics(OLD / name)
    reports = from_json(metrics)
    assert flat(reports) == metrics["val"]
    assert Run.open(OLD / name).reports == reports
    tasks = list(reports["all"].by_task)
    assert tasks == list(Run.open(OLD / name).config.tasks)
    assert all(reports["all"].primary(task) == metrics["val"]["all"][TASKS[task].primary] for task in tasks)


def test_an_evaluation_of_version_0_1_has_the_same_subsets_and_metrics() -> None:
    old = json.loads((OLD / "evaluation.json").read_text())
    subsets = {key: value for key, value in old.items() if isinstance(value, dict)}
    assert flat(from_json({"val": msgspec.convert(subsets, dict[str, dict[str, float]])})) == subsets
