"""Configurations: read, overridden, refused with the nearest right word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from edgemtl.config import Config, Sparsity
from edgemtl.config_file import json_schema, load, save, starter
from edgemtl.errors import ConfigError
from edgemtl.methods import METHODS
from edgemtl.methods.weighting import TASK_WEIGHTINGS
from edgemtl.renamed_keys import RENAMED
from edgemtl.tasks import TASKS


def test_words_override_the_file(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("epochs: 3\nsparsity: {target: 0.5}\n")
    config = load(
        tmp_path / "c.yaml", ["sparsity.min_keep_ratio=0.4", "lr=1e-3", "input_size=[64,96]", "data.source=here"]
    )
    assert (config.epochs, config.sparsity.target, config.sparsity.min_keep_ratio) == (3, 0.5, 0.4)
    assert config.lr == 1e-3 and config.input_size == (64, 96) and config.data.source == "here"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["epoch=3"], "unknown key 'epoch'; did you mean 'epochs'"),
        (["sparsity.targt=0.3"], "unknown key 'sparsity.targt'; did you mean 'target'"),
        (["epochs"], "not key=value"),
        (["=3"], "not key=value"),
        (["epochs=many"], "epochs"),
        (["batch_size=0"], "batch_size=0 is not between"),
        (["sparsity.target=1.5"], "sparsity.target=1.5 is not between 0 and 0.95"),
        (["epochs=0"], "nothing to train"),
        (["data.label_policy=blue"], "data.label_policy"),
        (["epochs=2", "epochs.x=1"], "epochs holds a value, not keys"),
        (["input_size=[0,0]"], r"input_size\[0\]=0 is not between 32 and 8192"),
        (["clip=-1"], "grad_clip_norm=-1"),
        (["imgsz=640"], "unknown key 'imgsz': here it is input_size"),
        (["sparsity.begin=0.5"], "sparsity.end=0.4 is before sparsity.begin=0.5"),
        (["seed=-1"], "seed=-1"),
        (["augment.mosaic_zoom=5"], "augment.mosaic_zoom=5"),
        (["loss_weights.boxs=2"], "loss_weights names 'boxs'; did you mean 'boxes'"),
        (["thermal_range.kind=hot"], "thermal_range"),
        (["lr=[1"], "cannot be read"),
    ],
)
def test_what_is_wrong_is_named(words: list[str], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        load(None, words)


@pytest.mark.parametrize("text", ["- a\n", "a: [", "\xff"])
def test_a_file_that_is_no_configuration(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.yaml").write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError, match=r"c\.yaml"):
        load(tmp_path / "c.yaml")
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "nowhere.yaml")


@given(st.floats(0, 0.95), st.integers(1, 1000), st.sampled_from(["rgbir-n", "x.yaml"]))
def test_what_is_saved_is_what_is_loaded(target: float, batch: int, network: str) -> None:
    import tempfile

    config = Config(network=network, batch_size=batch, sparsity=Sparsity(target=target))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "c.yaml"
        save(config, file)
        assert load(file) == config


OLD = [(section, old, new) for section, names in RENAMED.items() for old, new in names.items()]


@pytest.mark.parametrize(("section", "old", "new"), OLD, ids=[f"{s}.{o}" for s, o, _ in OLD])
def test_an_older_key_is_read_and_its_new_name_is_in_one_line(
    section: str, old: str, new: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    value: Any = Config()
    for name in [*([section] if section else []), *new.split(".")]:
        value = getattr(value, name)
    other = {"str": "x", "bool": value is False, "dict": {"boxes": 1.0}}.get(type(value).__name__)
    if other is None:
        other = [*value[:1]] if isinstance(value, tuple) and len(value) != 2 else value
    special = {"head_taps": {"boxes": "stage8"}, "label_policy": "ir", "metric": "flops", "granularity": "layer"}
    special |= {"task_weighting": "dwa", "level": "p2", "inner_optimizer": "sgd", "modalities": ["rgb"]}
    other = special.get(new, other)
    if isinstance(other, float) and not isinstance(other, bool):
        other = {"begin": 0.2, "end": 0.9}.get(new, 0.5)
    if new == "max_cost":
        other = 5.0
    tree: dict[str, Any] = {section: {old: other}} if section else {old: other}
    today: dict[str, Any] = {}
    at = today.setdefault(section, {}) if section else today
    *path, last = new.split(".")
    for part in path:
        at = at.setdefault(part, {})
    at[last] = other
    if old == "freeze_zeros":
        tree["init_from"] = today["init_from"] = "runs/x"
    if old in ("held", "learned"):
        both = {"method": "meta_sparsity"} | ({"alignment": {"strength": 1.0}} if old == "learned" else {})
        tree = both | tree | ({"alignment": {"strength": 1.0, old: True}} if old == "learned" else {})
        today = both | today | ({"alignment": {"strength": 1.0, new: True}} if old == "learned" else {})
    files = tmp_path / "old.yaml", tmp_path / "new.yaml"
    for file, content in zip(files, (tree, today), strict=True):
        file.write_text(yaml.safe_dump(content))
    with caplog.at_level("WARNING"):
        assert load(files[0]) == load(files[1])
    prefix = f"{section}." if section else ""
    assert [record.getMessage() for record in caplog.records] == [
        f"renamed keys, read for one version more: {prefix}{old} -> {prefix}{new}"
    ]
    word = f"{prefix}{old}={json.dumps(other)}"
    with pytest.raises(ConfigError, match="both are given"):
        load(files[1], [word])


def test_a_run_of_the_older_version_is_read_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    config = load(Path(__file__).parents[1] / "fixtures" / "version-0.1" / "run" / "config.yaml")
    assert (config.batch_size, config.grad_clip_norm, config.loss_weights) == (4, 5.0, {"boxes": 2.0})
    assert (config.data.synthetic.num_train, config.augment.modality_dropout) == (32, 0.2) and not caplog.records


def test_a_configuration_of_the_older_version_is_overridden_by_todays_keys() -> None:
    file = Path(__file__).parents[1] / "fixtures" / "version-0.1" / "run" / "config.yaml"
    config = load(file, ["batch_size=8", "loss_weights={}", "data.synthetic.num_train=16"])
    assert (config.batch_size, config.loss_weights, config.data.synthetic.num_train) == (8, {}, 16)


def test_the_weightings_are_those_that_there_are() -> None:
    text = starter("x.yaml")
    assert all(name in text for name in (*TASK_WEIGHTINGS, *METHODS, *TASKS))


@pytest.mark.fault("L12")
def test_editors_complete_names_and_take_those_of_plugins() -> None:
    keys = json_schema()["$defs"]["Config"]["properties"]
    parts = (keys["tasks"]["items"], TASKS), (keys["method"], METHODS), (keys["task_weighting"], TASK_WEIGHTINGS)
    for schema, names in parts:
        known, others = schema["anyOf"]
        assert set(names) <= set(known["enum"]) and others == {"type": "string"}
