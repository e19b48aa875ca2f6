"""How a training and an export end: figures by task, one size for one network, and commands that are there."""

from __future__ import annotations

import re
import shlex

import pytest

from edgemtl.run import Run
from edgemtl.summary import export_summary, training_summary
from edgemtl_export import Shrunk
from edgemtl_export.model_card import MODEL_CARD
from edgemtl_runtime.bundle import Bundle

pytestmark = pytest.mark.fault("C3")
Exported = tuple[Bundle, Shrunk]


def command(text: str) -> list[str]:
    """Return the next command that a text names."""
    (line,) = re.findall(r"^next: edgemtl (.+)$", text, re.MULTILINE)
    return shlex.split(line)


def size_rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if re.match(r"(parameters|MFLOP) ", line.strip())]


@pytest.mark.slow
def test_a_training_ends_with_its_tasks_the_share_pruned_the_report_and_the_export(
    tiny_run: Run,
) -> None:
    text = training_summary(tiny_run)
    for head in tiny_run.interface.heads:
        assert re.search(rf"^\s*{head.name} \w+ [↑↓]", text, re.MULTILINE), head.name
    assert [row[0] for row in size_rows(text)] == ["parameters", "MFLOP"]
    assert all(row[-1].endswith("%") and float(row[-1][:-1]) > 0 for row in size_rows(text))
    assert f"report: {tiny_run.path / 'report.html'}" in text and (tiny_run.path / "report.html").is_file()
    assert len(text.splitlines()) < 30 and not re.search(r"conv\d|\.weight", text)
    assert command(text) == ["export", str(tiny_run.path), "--out", "BUNDLE"]


def test_one_network_has_one_size_wherever_it_is_named(tiny_run: Run, tiny_bundle: Exported) -> None:
    bundle, shrunk = tiny_bundle
    trained = training_summary(tiny_run)
    exported = export_summary(bundle, shrunk, tiny_run.path, [])
    assert size_rows(trained) == size_rows(exported) != []
    page = re.sub(r"<[^>]*>", " ", (tiny_run.path / "report.html").read_text())
    for name, before, after, _ in size_rows(trained):
        assert re.search(rf"{name}\s+{before}; {after} after removal", page)
    removed = bundle.manifest.removed
    assert removed is not None and f"{removed['parameters_after']:,}" in exported
    assert f"{removed['parameters_after']:,}" in (bundle.path / MODEL_CARD).read_text()


def test_an_export_ends_with_sizes_files_figures_and_a_command_but_no_layers(
    tiny_run: Run, tiny_bundle: Exported
) -> None:
    bundle, shrunk = tiny_bundle
    text = export_summary(bundle, shrunk, tiny_run.path, ["wrote here"])
    assert len(text.splitlines()) < 25 and "trunk" not in text and "wrote here" in text
    assert "held-out images: raw heads within" in text and "fp32" in text
    words = command(text)
    cameras = [f"--{spec.name}" for spec in bundle.manifest.inputs]
    assert words[:2] == ["run", str(bundle.path)] and [w for w in words if w in cameras] == cameras
    assert len(export_summary(bundle, shrunk, tiny_run.path, [], verbose=True)) > 2 * len(text)
