"""Tables as text, Markdown and HTML, and figures as files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgemtl import plots
from edgemtl.metric_report import MetricReport
from edgemtl.plots import BarPanel
from edgemtl.tables import as_html, as_markdown, as_text
from edgemtl.training_log import read_log

TABLE = [["", "all", "day"], ["ap50 ↑", "0.512", "-"], ["a<b", "10.000", "0.250"]]
LOG = Path(__file__).parents[1] / "fixtures" / "version-0.1" / "run" / "log.csv"


def test_columns_are_aligned_numbers_to_the_right() -> None:
    assert as_text(TABLE).splitlines() == ["           all    day", "ap50 ↑   0.512      -", "a<b     10.000  0.250"]
    assert as_text(TABLE, "title", numeric=1).splitlines()[:3] == ["title", "           all  day", "ap50 ↑   0.512  -"]


def test_a_table_is_markdown_and_html() -> None:
    assert as_markdown(TABLE).splitlines()[:3] == ["|  | all | day |", "| --- | --- | --- |", "| ap50 ↑ | 0.512 | - |"]
    assert "<td>a&lt;b</td>" in as_html(TABLE) and as_html(TABLE).count("<tr>") == 3


def test_rows_of_different_lengths_are_no_table() -> None:
    with pytest.raises(ValueError, match="shorter"):
        as_text([["a", "b"], ["c"]])


def test_every_figure_is_an_image() -> None:
    reports = {
        subset: MetricReport({"boxes": {"ap50": value}})
        for subset, value in {"all": 0.5, "shift 2 px": 0.4, "turn 1°": 0.3}.items()
    }
    profiles = {"depth": {"stage4.0": 1.0, "stage8.0": 0.2}}
    for figure in (
        plots.training_curves(read_log(LOG)),
        plots.metric_over_steps({"run": [(1, 0.1), (2, 0.3)]}, "depth"),
        plots.layer_profiles(profiles, {"depth": "stage8"}, 0.01),
        plots.misalignment(reports, ["boxes"], [2], [1]),
        plots.bar_panels(
            [
                BarPanel("ap50", ["a", "b"], {"ap50": [[0.5, 0.6], []]}),
                BarPanel("x", ["b"], {"y": [[1.0]], "Δm": [[2.0]]}),
            ]
        ),
        plots.bar_panels([BarPanel("ap50", ["a"], {"ap50": [[0.5]]})]),
        plots.channels_by_layer([8, 16], [8, 4], ["rgb.stage4", "boxes"], 3.4),
    ):
        pixels = cv2.imdecode(np.frombuffer(figure, np.uint8), cv2.IMREAD_COLOR)
        assert pixels is not None and pixels.std() > 5
    assert plots.bar_panels([BarPanel("x", ["a"], {"x": [[1.0]]})], "svg").lstrip().startswith(b"<?xml")
