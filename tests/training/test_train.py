"""Training end to end on small data: what a run holds, and that it can be repeated."""

from __future__ import annotations

import csv
import json
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import TINY

from edgemtl.cli import main
from edgemtl.config_file import load
from edgemtl.data.datasets import open_datasets
from edgemtl.data.sample import Dataset
from edgemtl.errors import ConfigError, EdgemtlError
from edgemtl.evaluate import Predictor, evaluate
from edgemtl.run import Run
from edgemtl.synthetic.streets import HELD_OUT, Streets
from edgemtl.train import begin, train
from edgemtl.trainer import learning_rate
from edgemtl_runtime.atomic import INVENTORY
from edgemtl_runtime.result import Boxes, LabelMap

pytestmark = pytest.mark.usefixtures("undrawn")

SHORT = (*TINY, "steps=4", "data.synthetic.num_train=16", "data.synthetic.num_val=4")


def test_a_run_holds_what_it_should(tiny_run: Run) -> None:
    names = {file.name for file in tiny_run.path.iterdir()}
    written = {"config.yaml", "weights.safetensors", "metrics.json", "log.csv", "curves.png", "report.html"}
    assert names == {*written, INVENTORY}
    rows = list(csv.DictReader((tiny_run.path / "log.csv").open()))
    assert len(rows) == 90 and float(rows[-1]["boxes"]) < float(rows[0]["boxes"])
    assert float(rows[-1]["pruned"]) >= 0.6
    metrics = json.loads((tiny_run.path / "metrics.json").read_text())
    assert metrics["val"]["all"]["miou"] > 0 and metrics["judged"] == metrics["evals"]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    runs = [train(load(None, (*SHORT, f"seed={seed}")), tmp_path / str(i)) for i, seed in enumerate((3, 3, 4))]
    states = [run.network.state_dict() for run in runs]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not all(torch.equal(states[0][name], states[2][name]) for name in states[0])


def test_a_failed_training_leaves_the_last_run(tmp_path: Path) -> None:
    train(load(None, SHORT), tmp_path / "run", evaluate=False)
    before = (tmp_path / "run" / "weights.safetensors").read_bytes()
    with pytest.raises(ConfigError, match=r"no longer finite.*lower lr"):
        train(load(None, (*SHORT, "loss_weights={boxes: 1.0e+38}")), tmp_path / "run", overwrite=True)
    assert (tmp_path / "run" / "weights.safetensors").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["run"]


class BoxesOnly(Streets):
    """Streets whose segmentation nobody drew."""

    classes = {"boxes": Streets.classes["boxes"]}  # noqa: RUF012

    def __getitem__(self, index: int):  # type: ignore[no-untyped-def]
        import dataclasses

        sample = super().__getitem__(index)
        return dataclasses.replace(sample, labels={"boxes": sample.labels["boxes"]})


def test_a_head_without_labels_is_not_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data: dict[str, Dataset] = {"train": BoxesOnly(16, (96, 128), 0), "val": BoxesOnly(4, (96, 128), 50)}
    run = train(load(None, SHORT), tmp_path / "run", data)
    assert [head.name for head in run.interface.heads] == ["boxes"]
    assert "no semantic labels" in capsys.readouterr().err


@pytest.mark.parametrize("emulated", [True, False])
def test_a_processor_that_emulates_bf16_is_named(
    emulated: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("edgemtl.train.emulates_bf16", lambda device: emulated)
    for precision in ("bf16", "fp32", "auto"):
        config = load(None, [*SHORT, f"precision={precision}"])
        begin(config, open_datasets(config))
        warned = "precision=bf16 is slow on this processor" in capsys.readouterr().err
        assert warned == (emulated and precision == "bf16")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["network=nothing"], "the zoo has"),
        (["input_size=[100,128]"], "does not divide by 32"),
        (["tasks=[depths]"], "'depths' is not one of"),
        (["data.source=/nowhere"], "there is no such folder"),
    ],
)
def test_an_impossible_training_is_rejected(tmp_path: Path, words: list[str], expected: str) -> None:
    with pytest.raises(EdgemtlError, match=expected):
        train(load(None, (*SHORT, *words)), tmp_path / "run")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["config.yaml", "weights.safetensors", "metrics.json"])
def test_a_damaged_run_is_an_error(tmp_path: Path, tiny_run: Run, name: str) -> None:
    import shutil

    copy = shutil.copytree(tiny_run.path, tmp_path / "run")
    (copy / name).write_text("{")
    with pytest.raises(EdgemtlError):
        Run.open(copy)
    (copy / name).unlink()
    with pytest.raises(EdgemtlError, match="is missing"):
        Run.open(copy)


def test_the_learning_rate_rises_then_falls() -> None:
    config = load(None, ["warmup_steps=10", "lr=0.1"])
    rates = [learning_rate(step, 100, config) for step in range(100)]
    assert rates[9] == pytest.approx(0.1) == max(rates) and rates[0] == pytest.approx(0.01)
    assert all(a >= b for a, b in pairwise(rates[9:])) and rates[-1] < 0.002


def test_no_seed_trains_on_held_out_streets() -> None:
    for seed in (0, 1, 833, 10**9):
        first = open_datasets(load(None, [f"seed={seed}"]))["train"].first_seed  # type: ignore[attr-defined]
        assert first >= 0 and first + 1200 <= HELD_OUT


def test_a_custom_network_is_stored_in_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import resources

    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path / "folder")
    text = (resources.files("edgemtl_models") / "zoo" / "rgbir-n.yaml").read_text()
    Path("mine.yaml").write_text(text.replace("name: rgbir-n", "name: mine"))
    train(load(None, (*SHORT, "network=mine.yaml")), tmp_path / "run", evaluate=False)
    monkeypatch.chdir(tmp_path)
    assert Run.open("run").interface.network["name"] == "mine"
    Path("bad.yaml").write_text(text.replace("backbone:", "spine:"))
    with pytest.raises(ConfigError, match=r"network bad\.yaml: 'backbone' is missing"):
        train(load(None, (*SHORT, "network=bad.yaml")), tmp_path / "bad")


class Oracle(Predictor):
    """Predicts the labels."""

    def __init__(self, run: Run, shift: float = 0.0) -> None:
        super().__init__(run.deployed(), run.interface.inputs, run.interface.heads, 0.0)
        self.shift = shift

    def predict(self, samples, corruptions):  # type: ignore[no-untyped-def]
        return [self.labels_of(sample) for sample in samples]

    def labels_of(self, sample):  # type: ignore[no-untyped-def]
        import numpy as np

        known = sample.labels["boxes"]
        scores = np.ones(len(known.classes), np.float32)
        boxes = Boxes(known.xyxy + np.float32(self.shift), scores, known.classes, Streets.classes["boxes"])
        return {"boxes": boxes, "semantic": LabelMap(sample.labels["semantic"], Streets.classes["semantic"])}


def test_the_metrics_of_an_oracle_are_one(tiny_run: Run) -> None:
    figures = evaluate(Oracle(tiny_run), Streets(12, (96, 128), 0))
    assert set(figures) == {"all", "day", "night"}
    for part in figures.values():
        assert part["boxes"]["ap"] == pytest.approx(1)
        assert part["semantic"]["miou"] == 1 and part["semantic"]["pixel_accuracy"] == 1
    far = evaluate(Oracle(tiny_run, shift=60), Streets(12, (96, 128), 0))
    assert far["all"]["boxes"]["ap50"] < 0.1 and far["all"]["semantic"]["miou"] == 1


def test_other_classes_are_rejected(tiny_run: Run) -> None:
    class Animals(Streets):
        classes = {"boxes": ("cat", "dog", "cow")}  # noqa: RUF012

    with pytest.raises(EdgemtlError, match="knows the classes person, bicycle, car; the data have cat, dog, cow"):
        evaluate(
            Predictor(tiny_run.deployed(), tiny_run.interface.inputs, tiny_run.interface.heads, 0),
            Animals(2, (96, 128), 0),
        )


@pytest.mark.parametrize("from_file", [False, True])
def test_a_run_is_continued_with_new_classes_and_a_frozen_trunk(
    from_file: bool, tiny_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Matching tensors start from the run's weights; the new head is trained; frozen ones stay to the last bit."""
    words = [
        "input_size=[96,128]",
        "data.synthetic.num_train=16",
        "data.synthetic.num_val=4",
        "steps=3",
        "batch_size=4",
        "augment.mosaic=0",
        "precision=fp32",
    ]
    source = tiny_run.path / "weights.safetensors" if from_file else tiny_run.path
    words += [f"init_from={source}", "freeze=[trunk]", "tasks=[boxes,semantic,depth]", "task_weighting=upgrad"]
    run = train(load(None, words), tmp_path / "run", evaluate=False)
    printed = capsys.readouterr().err
    assert "loaded from" in printed and "new head: depth" in printed
    before, after = tiny_run.network.state_dict(), run.network.state_dict()
    for name, tensor in before.items():
        if name.startswith("trunk."):
            assert torch.equal(tensor, after[name]), name
    assert not torch.equal(before["heads.semantic.out.weight"], after["heads.semantic.out.weight"])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["freeze=[trunk.nothing]"],
            "freeze names 'trunk.nothing', which is no part of the network; there are trunk, ",
        ),
        (["freeze=[trunk,heads]"], "leaves nothing to train"),
        (["freeze=[trunk]", "sparsity.target=0.5"], "a frozen part cannot lose channels"),
        (["init_from=/nowhere"], "no run here"),
        ([f"init_from={__file__}"], "no tensors in it"),
    ],
)
def test_an_unusable_start_is_one_line(
    words: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(
            [
                "train",
                "data.synthetic.num_train=4",
                "data.synthetic.num_val=2",
                "input_size=[32,64]",
                *words,
                "--out",
                str(tmp_path / "run"),
            ]
        )
        == 2
    )
    assert expected in capsys.readouterr().err


def test_tensorboard_shows_every_step_and_the_end(tmp_path: Path) -> None:
    event = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    words = [
        *TINY,
        "modalities=[rgb]",
        "steps=3",
        "data.synthetic.num_train=16",
        "data.synthetic.num_val=2",
        "task_weighting=uncertainty",
    ]
    run = train(load(None, [*words, f"tensorboard={tmp_path / 'board'}"]), tmp_path / "one")
    shown = event.EventAccumulator(str(tmp_path / "board" / "one"))
    shown.Reload()
    losses = [entry.value for entry in shown.Scalars("loss/semantic")]
    assert len(losses) == 3 and losses[-1] == pytest.approx(run.metrics["loss"]["semantic"])
    assert shown.Scalars("val all/miou")[0].value == pytest.approx(run.metrics["val"]["all"]["miou"])
    assert "loss_weight/boxes" in shown.Tags()["scalars"] and "training/learning rate" in shown.Tags()["scalars"]


def test_a_head_without_a_known_label_is_named(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in (pairs / "depth").rglob("*.png"):
        cv2.imwrite(str(file), np.zeros((96, 128), np.uint16))
    words = (*TINY, "steps=1", "batch_size=2", f"data.source={pairs}", "tasks=[depth,semantic]")
    train(load(None, words), tmp_path / "run", evaluate=False)
    err = capsys.readouterr().err
    assert "warning: no step had a known label of depth: its head is not trained" in err and "label of sem" not in err
