"""Commands around a training: a configuration to start from, labels to look at, pictures to predict on."""

from __future__ import annotations

import argparse
import json
import re
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import jsonschema
import msgspec
import numpy as np
import pytest
import yaml

from edgemtl import cli, demo
from edgemtl.cli import main
from edgemtl.config import Config
from edgemtl.config_file import load, starter
from edgemtl.data.datasets import evenly_spaced
from edgemtl.data.sample import IGNORE
from edgemtl.methods.weighting import TASK_WEIGHTINGS
from edgemtl.run import Run
from edgemtl.synthetic.streets import street
from edgemtl.tasks import TASKS
from edgemtl.visualize import perfect_result
from edgemtl_runtime.result import Attributes, LabelMap


def test_the_starter_has_every_key_at_its_default(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(tmp_path / "mine")]) == 0
    file = tmp_path / "mine.yaml"
    assert load(file) == Config() and "edgemtl train mine.yaml" in file.read_text()
    written = yaml.safe_load(file.read_text())
    assert set(written) == {field.name for field in msgspec.structs.fields(Config)}
    for part in ("data", "fusion", "sparsity", "alignment", "episodes", "lomt", "augment"):
        assert set(written[part]) == {field.name for field in msgspec.structs.fields(type(getattr(Config(), part)))}
    capsys.readouterr()
    assert main(["init", str(file)]) == 2 and "is there already" in capsys.readouterr().err


def test_the_schema_is_that_of_the_starter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(tmp_path / "mine"), "--schema"]) == 0
    schema = json.loads((tmp_path / "mine.schema.json").read_text())
    written = yaml.safe_load((tmp_path / "mine.yaml").read_text())
    jsonschema.validate(written, schema)
    for wrong in ({"batch_size": 0}, {"sparsity": {"target": 0.99}}, {"input_size": [64]}, {"imgsz": 640}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(written | wrong, schema)
    assert (tmp_path / "mine.yaml").read_text().startswith("# yaml-language-server: $schema=mine.schema.json\n")


def test_the_starter_names_what_there_is() -> None:
    text = starter("mine.yaml")
    assert all(re.search(rf"\b{name}\b", text) for name in (*TASK_WEIGHTINGS, *TASKS))


def test_labels_are_shown_on_a_sheet(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "sheet.png"
    assert main(["data", "show", str(pairs), "--split", "val", "--count", "3", "--out", str(out)]) == 0
    assert "3 of 4 images" in capsys.readouterr().out
    picture = cv2.imread(str(out))
    assert picture is not None and picture.std() > 20
    before = out.read_bytes()
    assert main(["data", "show", str(pairs), "--out", str(out)]) == 2
    assert "sheet.png: is there already; --overwrite replaces it" in capsys.readouterr().err
    assert out.read_bytes() == before
    assert main(["data", "show", str(pairs), "--out", str(out), "--overwrite"]) == 0 and out.read_bytes() != before
    (pairs / "rgb" / "val").joinpath(sorted(p.name for p in (pairs / "rgb" / "val").iterdir())[0]).unlink()
    assert main(["data", "show", str(pairs), "--out", str(out)]) == 2


def test_labels_become_results() -> None:
    sample = street(3, (64, 96))
    sample.labels["semantic"][:5] = IGNORE
    sample.labels["attributes"][1] = np.nan
    from edgemtl.synthetic.streets import Streets

    shown = {task: perfect_result(task, label, Streets.classes[task]) for task, label in sample.labels.items()}
    labels, attributes = shown["semantic"], shown["attributes"]
    assert isinstance(labels, LabelMap) and (labels.labels[:5] == len(labels.names) - 1).all()
    assert isinstance(attributes, Attributes) and len(attributes.names) == len(Streets.classes["attributes"]) - 1


def test_places_are_evenly_spread() -> None:
    assert evenly_spaced(10, 4) == [0, 3, 6, 9] and evenly_spaced(3, 9) == [0, 1, 2] and evenly_spaced(5, 1) == [0]


def write_views(root: Path, count: int = 3) -> Path:
    for seed in range(count):
        sample = street(700_000 + seed, (128, 160))
        for name, image in sample.images.items():
            (root / name).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(root / name / f"{seed}.png"), image if image.ndim == 2 else image[:, :, ::-1])
    return root


def test_predictions_are_pictures_and_coco(tiny_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from faster_coco_eval import COCO

    views, out = write_views(tmp_path / "views"), tmp_path / "seen"
    assert main(["predict", str(tiny_run.path), str(views), "--out", str(out)]) == 0
    assert "3 images" in capsys.readouterr().out
    assert [file.name for file in sorted((out / "pictures").iterdir())] == ["0.png", "1.png", "2.png"]
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    told = json.loads((out / "boxes.json").read_text())
    assert [line["name"] for line in lines] == ["0", "1", "2"]
    assert len(told["annotations"]) == sum(len(line["heads"]["boxes"]["boxes"]) for line in lines)
    coco = COCO(str(out / "boxes.json"))
    assert len(coco.getImgIds()) == 3 and [c["name"] for c in coco.loadCats(coco.getCatIds())] == list(
        next(head.classes for head in tiny_run.interface.heads if head.name == "boxes")
    )
    before = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    assert main(["predict", str(tiny_run.path), str(views), "--out", str(out)]) == 2
    assert "--overwrite replaces it" in capsys.readouterr().err
    assert before == {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    assert main(["predict", str(tiny_run.path), str(views), "--out", str(out), "--overwrite"]) == 0


def test_pictures_without_partners_are_told(tiny_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    views = write_views(tmp_path / "views")
    (views / "ir" / "1.png").unlink()
    assert main(["predict", str(tiny_run.path), str(views), "--out", str(tmp_path / "seen")]) == 2
    assert "1.png: has no ir partner" in capsys.readouterr().err and not (tmp_path / "seen").exists()
    shutil.rmtree(views / "ir")
    assert main(["predict", str(tiny_run.path), str(views), "--out", str(tmp_path / "seen")]) == 2
    assert "needs the folders rgb/ and ir/" in capsys.readouterr().err
    (views / "ir").mkdir()
    assert main(["predict", str(tiny_run.path), str(tmp_path / "nowhere"), "--out", str(tmp_path / "seen")]) == 2
    assert "there is no such folder" in capsys.readouterr().err


def test_a_run_has_its_report(tiny_run: Run) -> None:
    """One file that needs nothing beside it: figures, labels beside predictions, curves, active channels."""
    page = (tiny_run.path / "report.html").read_text()
    figures = tiny_run.metrics["val"]["all"]
    after = tiny_run.metrics["sizes"]["parameters_after"]
    for words in ("ap50 ↑", f"{figures['miou']:.3f}", f"{after:,} after removal", "Active channels"):
        assert words in page
    assert page.count("data:image/jpeg;base64") == 12 and page.count("data:image/png;base64") == 2
    assert 'src="http' not in page and len(page) < 4e6
    names = [name.removeprefix("iou_") for name in figures if name.startswith("iou_")]
    assert len(names) >= 3 and all(f"<td>{name}</td>" in page for name in names)


def test_a_sheet_without_a_name_counts_up(pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sheet.jpg").write_text("mine")
    for _ in range(2):
        assert main(["data", "show", str(pairs), "--count", "1"]) == 0
    assert sorted(file.name for file in tmp_path.glob("*.jpg")) == ["sheet-2.jpg", "sheet-3.jpg", "sheet.jpg"]
    assert Path("sheet.jpg").read_text() == "mine"


WRITES = ("--out", "--engine-out", "--preview", "--triton")


def test_every_command_that_writes_a_file_or_folder_asks_before_it_replaces() -> None:
    """`record` adds to what is there, under names of its own; `sweep` goes on with a sweep of its key alone."""

    def found(parser: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, set[str]]]:
        yield name, {option for action in parser._actions for option in action.option_strings}
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for inner, command in action.choices.items():
                    yield from found(command, f"{name} {inner}".strip())

    writing = {name: options for name, options in found(cli.parser(), "") if options & set(WRITES)}
    assert {"train", "adapt", "eval", "compare", "predict", "data show", "shrink", "export", "demo"} <= writing.keys()
    assert {name for name, options in writing.items() if "--overwrite" not in options} == {"record", "sweep"}


def test_a_full_disk_gives_no_prediction(tiny_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where only the pictures do not fit, which OpenCV would tell on standard error alone."""
    views, before = write_views(tmp_path / "views"), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, before[1]))
    try:
        assert main(["predict", str(tiny_run.path), str(views), "--out", str(tmp_path / "seen")]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "File too large" in capsys.readouterr().err and [path.name for path in tmp_path.iterdir()] == ["views"]


def test_the_demo_replaces_its_own_folder_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def drawn(out: Path, steps: int) -> dict[str, float]:
        (out / "demo.json").write_text(str(steps))
        return {"seconds": 1.0}

    monkeypatch.setattr(demo, "_demo_into", drawn)
    monkeypatch.chdir(tmp_path)
    for steps in ("1", "2"):
        assert main(["demo", "--steps", steps]) == 0
    assert main(["demo", "--steps", "3", "--out", "out/demo"]) == 2
    assert "a finished demo stands here; --overwrite replaces it, out/demo-2 is free" in capsys.readouterr().err
    assert Path("out/demo/demo.json").read_text() == "2"
    assert main(["demo", "--steps", "3", "--out", "out/demo", "--overwrite"]) == 0
    Path("out/demo/notes.txt").write_text("mine")
    for words in ([], ["--out", "out/demo", "--overwrite"]):
        assert main(["demo", *words]) == 2 and "holds notes.txt" in capsys.readouterr().err
    assert Path("out/demo/notes.txt").read_text() == "mine" and Path("out/demo/demo.json").read_text() == "3"
