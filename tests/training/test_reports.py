"""Reports, data sheets and curves: complete, legible, of a sensible size, valid, and loading nothing from elsewhere."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import TINY

from edgemtl.cli import main
from edgemtl.config_file import load
from edgemtl.metric_report import MetricReport
from edgemtl.plots import MIN_POINTS, layer_stage, training_curves
from edgemtl.reports.metrics import task_tables
from edgemtl.run import Run
from edgemtl.sizes import RunLatency
from edgemtl.synthetic.streets import Streets, street
from edgemtl.train import train
from edgemtl.visualize import draw_labels, draw_results, label_results
from edgemtl_runtime.engine.cpu import cpu_name

pytestmark = pytest.mark.fault("C4")
VOID = {"meta", "img", "link", "br", "input"}


class Page(HTMLParser):
    """A page that is read strictly: every element is closed by its own end tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.addresses: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember an element."""
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            self.images.append(dict(attrs))
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        """Close the innermost element."""
        assert self.open.pop() == tag


def pixels(image: dict[str, str | None]) -> np.ndarray:
    """Return the image that is embedded in an element."""
    data = base64.b64decode(str(image["src"]).partition(",")[2])
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


def test_a_runs_report_is_valid_and_needs_nothing_else(tiny_run: Run) -> None:
    text = (tiny_run.path / "report.html").read_text()
    page = Page(text)
    assert all(address.startswith("data:image/") for address in page.addresses)
    assert all(image["alt"] for image in page.images) and "@import" not in text and "url(" not in text
    samples = [image for image in page.images if str(image["alt"]).endswith((": labels", ": predictions"))]
    assert len(samples) == 12 and all(pixels(image).shape[1] >= 400 for image in samples)
    assert len(text) < 4e6


def test_a_runs_report_has_data_share_pruned_and_device_and_intervals_with_their_metric(tiny_run: Run) -> None:
    text = (tiny_run.path / "report.html").read_text()
    title = re.search(r"<title>(.*?)</title>", text)
    share = f"{tiny_run.metrics['loss']['pruned']:.0%} of the parameters pruned"
    assert title and "streets" in title[1] and share in title[1]
    assert re.search(r"<th>device</th><td>[^<]+</td>", text)
    boxes = tiny_run.metrics["evaluation"]["all"]["boxes"]
    assert f"{boxes['ap50']:.3f} [{boxes['ap50_low']:.3f}, {boxes['ap50_high']:.3f}]" in text
    assert "<td>low</td>" not in text and "<td>small</td>" not in text
    assert text.index("<h3>boxes</h3>") < text.index("<td>ap50 ↑</td>") < text.index("<h3>semantic</h3>")


def test_a_training_that_takes_minutes_reports_its_milliseconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no part of what a shorter one waits for; see `tiny_run`."""
    monkeypatch.setattr("edgemtl.finish.MEASURED_FROM_S", 0.0)
    run = train(
        load(None, [*TINY, "steps=4", "data.synthetic.num_train=16", "data.synthetic.num_val=4"]), tmp_path / "r"
    )
    latency = RunLatency.in_metrics(run.metrics)
    assert latency and 0 < latency.after_ms < latency.before_ms
    text = (run.path / "report.html").read_text()
    assert f"{latency.before_ms:.2f} ms; {latency.after_ms:.2f} ms after removal" in text
    assert cpu_name() in latency.measured_on and latency.measured_on in text


def test_a_short_training_measures_no_milliseconds(tiny_run: Run) -> None:
    assert RunLatency.in_metrics(tiny_run.metrics) is None
    assert "<th>latency</th>" not in (tiny_run.path / "report.html").read_text()


def test_metrics_are_grouped_by_task_and_names_of_classes_are_no_intervals() -> None:
    boxes = {"ap50": 0.5, "ap50_low": 0.4, "ap50_high": 0.6, "ap50_car": 0.5, "ap_small": 0.1, "miss_rate": 0.3}
    attributes = {"attribute_map": 0.7, "ap_small": 0.6, "ap_low": 0.8}
    tables = task_tables({"all": MetricReport({"boxes": boxes, "attributes": attributes})})
    assert tables["boxes"] == [
        [["", "all"], ["ap50 ↑", "0.500 [0.400, 0.600]"], ["ap, small objects", "0.100"], ["miss_rate", "0.300"]],
        [["class", "ap50"], ["car", "0.500"]],
    ]
    assert tables["attributes"][1] == [["class", "ap"], ["small", "0.600"], ["low", "0.800"]]


def test_labels_are_drawn_without_scores_and_predictions_with_them() -> None:
    sample = street(5, (96, 128), is_day=True)
    classes = {"boxes": Streets.classes["boxes"]}
    labels = draw_labels(sample, classes)
    assert labels.shape[1] >= 2 * 400
    assert not np.array_equal(labels, draw_results(sample, label_results(sample, classes), 440))


@pytest.mark.parametrize(("size", "suffix"), [((96, 128), "jpg"), ((720, 1280), "jpg"), ((720, 1280), "png")])
def test_a_sheet_is_of_a_sensible_size(size: tuple[int, int], suffix: str, tmp_path: Path) -> None:
    from conftest import write_pairs

    data = write_pairs(tmp_path / "pairs", train=3 if size[0] > 100 else 6, val=1, size=size)
    sheet = tmp_path / f"sheet.{suffix}"
    assert main(["data", "show", str(data), "--out", str(sheet)]) == 0
    image = cv2.imread(str(sheet))
    assert image is not None and 3 * 400 <= image.shape[1] <= 1800 and sheet.stat().st_size < 2e6


def test_a_single_evaluation_is_no_curve() -> None:
    rows = [{"step": float(i), "lr": 0.1, "boxes": 1.0 / (i + 1)} for i in range(20)]
    rows[-1]["val/boxes"] = 0.5
    bare = [{name: value for name, value in row.items() if name != "val/boxes"} for row in rows]
    assert training_curves(rows) == training_curves(bare)
    for row in rows[-MIN_POINTS:]:
        row["val/boxes"] = 0.5
    assert training_curves(rows) != training_curves(bare)


def test_layers_have_names() -> None:
    assert layer_stage("trunk.backbones.rgb.stage8.0.conv1.weight") == "rgb.stage8"
    assert layer_stage("heads.boxes.cv2.0.weight") == "boxes" and layer_stage("trunk.top16.conv") == "top16"
