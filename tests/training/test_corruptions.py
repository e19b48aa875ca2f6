"""Modality dropout and misalignment in training items, and evaluation under these corruptions."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from test_augment import INPUTS, SIZE, STILL, TARGETS, boxes_of, extent, marked, semantic_of

from edgemtl.cli import main
from edgemtl.config import Augment
from edgemtl.config_file import load
from edgemtl.corruptions import ROTATIONS_DEG, SHIFTS_PX, Corruption, misalignments, missing_modalities
from edgemtl.data.augment import Augmenter, to_item
from edgemtl.data.box_targets import BatchBoxTarget
from edgemtl.data.loader import Batches, fitted_images
from edgemtl.errors import EdgemtlError
from edgemtl.evaluate import evaluate, of_run
from edgemtl.run import Run, interface_of
from edgemtl.synthetic.streets import Streets
from edgemtl_models import build


def with_settings(**settings: object) -> Augmenter:
    still = {name: getattr(STILL, name) for name in STILL.__struct_fields__}
    return Augmenter(Augment(**{**still, **settings}), INPUTS)


@pytest.mark.parametrize("fill", ["blank", "noise", "frozen"])
def test_one_modality_is_dropped_by_the_settings(fill: str) -> None:
    augment, item, other = (
        with_settings(modality_dropout=0.5, modality_dropout_fill=(fill,)),
        to_item(marked(), INPUTS, TARGETS),
        None,
    )
    other = to_item(marked(80, 60, 120, 90), INPUTS, TARGETS)
    dropped = {"rgb": 0, "ir": 0, "": 0}
    for seed in range(200):
        out = augment(item, [], torch.Generator().manual_seed(seed), lambda: other)
        changed = [name for name in INPUTS if not torch.equal(out.images[name], item.images[name])]
        assert len(changed) <= 1
        dropped[changed[0] if changed else ""] += 1
        assert torch.equal(semantic_of(out), semantic_of(item)) and torch.equal(boxes_of(out), boxes_of(item))
        for name in changed:
            if fill == "frozen":
                assert torch.equal(out.images[name], other.images[name])
            elif fill == "blank":
                assert (out.images[name] == INPUTS[name].blank).all()
            else:
                assert out.images[name].float().std() > 60
    assert 70 < dropped[""] < 130 and 25 < dropped["rgb"] < 80 and 25 < dropped["ir"] < 80


def test_cameras_but_the_first_are_misaligned_and_labels_stay_with_the_first() -> None:
    augment, item = with_settings(max_misalignment=0.1, max_misalignment_deg=3.0), to_item(marked(), INPUTS, TARGETS)
    far = []
    for seed in range(40):
        out = augment(item, [], torch.Generator().manual_seed(seed))
        assert torch.equal(out.images["rgb"], item.images["rgb"]) and torch.equal(boxes_of(out), boxes_of(item))
        x0, y0, x1, y1 = extent(out.images["ir"][0] > 180)
        far.append(max(abs((x0 + x1) / 2 - 56), abs((y0 + y1) / 2 - 46)))
    assert 6 < max(far) <= 0.1 * SIZE[1] + 2 and min(far) < 5


def test_settings_that_ask_for_nothing_change_no_batch() -> None:
    """Runs from before there were corruptions are repeated by the same seed."""
    config = load(None, [f"input_size=[{SIZE[0]},{SIZE[1]}]", "tasks=[boxes]", "batch_size=4"])
    asked = load(
        None, [f"input_size=[{SIZE[0]},{SIZE[1]}]", "tasks=[boxes]", "batch_size=4", "augment.modality_dropout=1"]
    )
    batches = [Batches(Streets(8, SIZE, 0), c, INPUTS, {"boxes": TARGETS["boxes"]}, 4) for c in (config, asked)]
    (plain, corrupted), again = (b[1] for b in batches), batches[1][1]
    boxes = [batch.target("boxes", BatchBoxTarget) for batch in (plain, corrupted)]
    assert boxes[0] is not None and boxes[1] is not None and torch.equal(boxes[0].cxcywh, boxes[1].cxcywh)
    assert all(not torch.equal(plain.images[name], corrupted.images[name]) for name in INPUTS)
    assert all(torch.equal(again.images[name], corrupted.images[name]) for name in INPUTS)
    alone = Batches(Streets(8, SIZE, 0), asked, {"ir": INPUTS["ir"]}, {"boxes": TARGETS["boxes"]}, 4)
    assert float(alone[1].images["ir"].flatten(1).std(1).min()) > 0.05  # the only modality is never missing


def test_a_shift_is_in_pixels_of_the_labels() -> None:
    sample = marked()
    large = {
        name: spec.__class__(name, 192, 256, spec.channels, spec.mean, spec.std, name) for name, spec in INPUTS.items()
    }
    images = fitted_images(sample, large, Corruption(shift_px=(8, -4)))
    assert extent(torch.from_numpy(images["rgb"][0, :, :, 0]) > 180) == [80, 60, 144, 124]
    assert extent(torch.from_numpy(images["ir"][0, :, :, 0]) > 180) == [96, 52, 160, 116]
    dropped = fitted_images(sample, large, Corruption(missing="rgb"))
    assert (dropped["rgb"] == large["rgb"].blank).all() and (dropped["ir"] == fitted_images(sample, large)["ir"]).all()


def test_a_network_is_evaluated_with_each_modality_missing_and_misaligned(tiny_run: Run, tmp_path: Path) -> None:
    predictor, samples = of_run(tiny_run), Streets(6, (96, 128), 0)
    corruptions = {**missing_modalities(predictor.inputs), **misalignments(predictor.inputs)}
    figures = evaluate(predictor, samples, corruptions=corruptions)
    expected = [
        "rgb absent",
        "ir absent",
        *(f"shift {px} px" for px in SHIFTS_PX),
        *(f"turn {d}°" for d in ROTATIONS_DEG),
    ]
    assert list(figures)[3:] == expected and list(figures)[:3] == ["all", "day", "night"]
    assert len({figures[part]["semantic"]["pixel_accuracy"] for part in expected}) > 4  # each has been another picture
    for name, values in evaluate(predictor, samples).items():
        assert figures[name] == values
    blank = samples[0].images | {"ir": np.full(SIZE, 114, np.uint8)}
    by_hand = predictor(samples[0].__class__(blank, samples[0].labels))["semantic"]
    assert (predictor(samples[0], Corruption(missing="ir"))["semantic"].labels == by_hand.labels).all()  # type: ignore[union-attr]


def test_eval_reports_and_plots_corruptions(tiny_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "corruptions.png"
    words = ["eval", str(tiny_run.path), "--absent", "--misaligned", "--out", str(out), "--json"]
    assert main(words) == 0
    report = json.loads(capsys.readouterr().out)
    assert {"rgb absent", "ir absent", "shift 8 px", "turn 2°"} <= report.keys() and out.stat().st_size > 5000
    assert main(["eval", str(tiny_run.path), "--out", str(out)]) == 2
    assert "--misaligned" in capsys.readouterr().err


def test_the_only_modality_cannot_be_missing() -> None:
    with pytest.raises(EdgemtlError, match="one camera, rgb"):
        missing_modalities({"rgb": INPUTS["rgb"]})


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), False),
        (("augment.modality_dropout=0.2",), True),
        (("unimodal_aux_loss=true",), False),
        (("unimodal_aux_loss=true", "fusion.kind=aligned"), True),
    ],
)
def test_the_manifest_records_whether_a_modality_may_be_missing(words: tuple[str, ...], expected: bool) -> None:
    config = load(None, ["input_size=[96,128]", *words])
    fusion = msgspec.to_builtins(config.fusion) if config.fusion.kind else None
    network = build("rgbir-n", {"boxes": 2}, config.input_size, fusion=fusion)
    assert [spec.may_be_missing for spec in interface_of(network, config, ()).inputs] == [expected] * 2
    alone = build("rgbir-n", {"boxes": 2}, config.input_size, modalities=("rgb",))
    assert not interface_of(alone, config, ()).inputs[0].may_be_missing
