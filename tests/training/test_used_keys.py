"""A key that is given is used, or rejected by name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgemtl.cli import main
from edgemtl.config import Config
from edgemtl.config_file import load, save
from edgemtl.errors import ConfigError
from edgemtl.used_keys import USES, changed_keys, check_used

pytestmark = pytest.mark.fault("L3")

UNUSED = (
    ("sparsity.strength=0.001",),
    ("sparsity.strength=0.001", "method=sparse", "sparsity.target=0.5"),
    ("sparsity.scope=trunk",),
    ("sparsity.end=0.5", "method=sparse"),
    ("sparsity.reg_ratio=0.2", "method=sparse"),
    ("sparsity.channel_multiple=4", "sparsity.target=0.5", "sparsity.groups=output"),
    ("sparsity.granularity=stage", "method=sparse"),
    ("sparsity.metric=flops", "method=mtml"),
    ("sparsity.groups=output", "method=lomt"),
    ("fusion.level=p4",),
    ("fusion.level=p4", "fusion.kind=aligned"),
    ("fusion.registration_radius=2",),
    ("fusion.align=[stage2,neck]", "fusion.kind=mid"),
    ("fusion.kind=aligned", "modalities=[rgb]"),
    ("alignment.kind=squared",),
    ("alignment.end=0.5", "alignment.strength=0.3", "fusion.kind=aligned"),
    ("distill_weight=2",),
    ("episodes.subsets=2",),
    ("episodes.inner_lr=0.1", "method=sparse"),
    ("episodes.strength_lr=0.1", "method=mtml"),
    ("episodes.inner_lr=0.1", "method=mtml", "episodes.inner_steps=0"),
    ("lomt.seeds=3",),
    ("data.synthetic.num_val=7", "data.source=somewhere"),
    ("data.label_policy=ir",),
    ("data.val_fraction=0.2",),
    ("augment.mosaic_zoom=0.5", "augment.mosaic=0"),
    ("augment.modality_dropout_fill=[noise]",),
    ("augment.modality_dropout=0.2", "modalities=[rgb]"),
    ("augment.max_misalignment=0.1", "modalities=[ir]"),
    ("thermal_range={kind: radiometric, low: 1000, high: 3000}", "modalities=[rgb]"),
)
USED = (
    ("sparsity.strength=0.001", "method=sparse"),
    ("sparsity.strength=0.001", "method=lomt"),
    ("sparsity.strength=0", "method=meta_sparsity", "alignment.trainable=true", "alignment.strength=0.3"),
    ("sparsity.target=0.6", "sparsity.end=0.5", "sparsity.metric=flops"),
    ("sparsity.scope=trunk", "keep_sparsity=true", "init_from=run"),
    ("sparsity.granularity=layer", "method=meta_sparsity", "episodes.query_fraction=0.2", "episodes.strength_lr=0.1"),
    ("episodes.subsets=2", "method=mtml"),
    ("fusion.kind=mid", "fusion.level=p4"),
    ("fusion.kind=aligned", "fusion.registration_radius=2", "alignment.target=0.5", "alignment.end=0.5"),
    ("teachers={ir: run}", "distill_weight=2"),
    ("lomt.seeds=3", "method=lomt"),
    ("data.label_policy=ir", "data.source=somewhere"),
    ("steps=10", "epochs=3"),
    ("task_weighting=pcgrad", "loss_weights={boxes: 2}", "method=single"),
)


@pytest.mark.parametrize("words", UNUSED, ids=" ".join)
def test_a_key_that_is_not_used_is_named(words: tuple[str, ...]) -> None:
    key = words[0].partition("=")[0]
    with pytest.raises(ConfigError, match=rf"^{re.escape(key)}[=.].* is not used: it is for "):
        check_used(load(None, words))


@pytest.mark.parametrize("words", USED, ids=" ".join)
def test_a_key_that_is_used_passes(words: tuple[str, ...]) -> None:
    check_used(load(None, words))


@pytest.mark.parametrize("method", ["joint", "single", "sparse", "lomt", "mtml", "meta_sparsity"])
def test_the_whole_configuration_of_a_run_is_taken_as_it_is(method: str, tmp_path: Path) -> None:
    words = [f"method={method}", *(["episodes.query_fraction=0.2"] if method == "meta_sparsity" else [])]
    config = load(None, words)
    save(config, tmp_path / "config.yaml")
    again = load(tmp_path / "config.yaml")
    check_used(again)
    assert again == config and dict(changed_keys(config, Config())).keys() == {w.partition("=")[0] for w in words} - (
        {"method"} if method == "joint" else set()
    )


def test_every_entry_is_a_key() -> None:
    for use in USES:
        value: object = Config()
        for name in use.key.split("."):
            value = getattr(value, name)


def test_the_command_answers_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.yaml").write_text("method: joint\nepisodes: {inner_steps: 3}\n")
    words = ["sparsity.strength=0.001", "--out", str(tmp_path / "run")]
    assert main(["train", str(tmp_path / "mine.yaml"), *words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "sparsity.strength=0.001 is not used" in line and "episodes.inner_steps=3 is not used" in line
    assert "here method=joint" in line and not (tmp_path / "run").exists()
