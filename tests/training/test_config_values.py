"""Values of any YAML spelling are read by the type of their key; what cannot be is blamed on its word or its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgemtl.config import Config
from edgemtl.config_file import load
from edgemtl.errors import ConfigError
from edgemtl.other_tools import OTHER_TOOLS, known_elsewhere


def value_at(config: Config, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


VALUES: list[tuple[str, str, Any]] = [
    *(("lr", text, 1e-3) for text in ("1e-3", "1E-3", "0.001", ".001", "1.e-3", "1_0e-4", "+1e-3", "'1e-3'")),
    *(("steps", text, 1000) for text in ("1000", "1_000", "1e3", "1E+3", "1000.0", "0x3e8", "0o1750", "01000")),
    ("lr", ".5", 0.5),
    ("epochs", "010", 10.0),
    *(("augment.flip", text, False) for text in ("no", "No", "off", "OFF", "false", "False", "n", "0")),
    *(("data.balance_light", text, True) for text in ("yes", "on", "On", "true", "TRUE", "y", "1")),
    *(("init_from", text, text) for text in ("2024", "1e-3", "on", "0x10", "2024-01-01", "1:30", ".5", "no")),
    ("init_from", "'null'", "null"),
    *(("init_from", text, "") for text in ("", "null", "~", "Null")),
    ("data.source", "on", "on"),
    ("network", '"007.yaml"', "007.yaml"),
    *(
        ("tasks", text, ("boxes", "depth"))
        for text in ("[boxes, depth]", "boxes,depth", "boxes, depth", "[boxes,depth,]")
    ),
    ("tasks", "depth", ("depth",)),
    ("freeze", "[]", ()),
    ("freeze", "null", ()),
    *(("input_size", text, (64, 96)) for text in ("[64, 96]", "64,96", "[6.4e1, '96']")),
    *(("loss_weights", text, {"boxes": 0.5}) for text in ("{boxes: .5}", "{boxes:5e-1}", "boxes:0.5")),
    ("method", "Joint", "joint"),
    ("task_weighting", "PCGrad", "pcgrad"),
    ("precision", "BF16", "bf16"),
]


@pytest.mark.fault("L1")
@pytest.mark.parametrize(("key", "text", "expected"), VALUES, ids=[f"{key}={text}" for key, text, _ in VALUES])
def test_a_value_is_read_by_the_type_of_its_key(key: str, text: str, expected: Any, tmp_path: Path) -> None:
    """In a file as in a word of the command line."""
    *sections, last = key.split(".")
    lines = [f"{'  ' * depth}{name}:" for depth, name in enumerate(sections)]
    file = tmp_path / "c.yaml"
    file.write_text("\n".join([*lines, f"{'  ' * len(sections)}{last}: {text}"]) + "\n")
    assert value_at(load(file), key) == expected == value_at(load(None, [f"{key}={text}"]), key)


@pytest.mark.fault("L1")
@settings(max_examples=25)
@given(st.floats(1e-9, 10), st.sampled_from(["{:e}", "{:E}", "{!r}", "{:.17g}"]))
def test_any_spelling_of_a_number_is_that_number(value: float, spelling: str) -> None:
    text = spelling.format(value)
    if 1e-9 <= float(text) <= 10:
        assert load(None, [f"lr={text}"]).lr == float(text)


@pytest.mark.fault("L1")
def test_nothing_of_a_file_comes_back_with_a_null_word(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("init_from: runs/a\nepochs: 3\n")
    config = load(tmp_path / "c.yaml", ["init_from=null"])
    assert (config.init_from, config.epochs) == ("", 3)


WRONG = {
    "epochs=four": "epochs=four is no number",
    "batch_size=16.5": "batch_size=16.5 is no whole number",
    "lr=0,001": "lr=0,001 is no number; write 0.001",
    "sparsity.target=50%": "sparsity.target=50% is no number; write 0.5",
    "lr=nan": "lr=nan is no number",
    "lr=.inf": "lr=.inf is not between 1e-09 and 10",
    "augment.flip=ja": "augment.flip=ja is neither true nor false",
    "precision=bf8": "precision=bf8 is not one of auto, bf16, fp32; did you mean 'bf16'?",
    "input_size=640": "input_size=640: input_size=[640]: wants 2 values, not 1",
    "tasks={boxes: 1}": "tasks={boxes: 1}: wants a list, like [a, b]",
    "network=[a]": "network=[a]: wants one value, not several",
    "data=folder": "data=folder: data holds keys; write data.source=",
    "data.source=[{tasks: [boxes]}]": "data.source=[{tasks: [boxes]}]: data.source[0]: has no 'source'",
    "clip=-1": "clip=-1: grad_clip_norm=-1 is not between",
    "sparsity.begin=0.5": "sparsity.begin=0.5: sparsity.end=0.4 is before sparsity.begin=0.5",
    "steps=[1": "'steps=[1': the value cannot be read; do its brackets and quotes close?",
    "loss_weights={boxes: -1}": "loss_weights={boxes: -1}: loss_weights.boxes=-1 is not between 0 and 1e+38",
    "loss_weights={boxes: 0, semantic: 0}": "loss_weights={boxes: 0, semantic: 0}: loss_weights are 0 of all tasks",
    "thermal_range.kind=hot": "thermal_range.kind=hot: thermal_range kind is",
}


@pytest.mark.fault("L1", "C2")
@pytest.mark.parametrize("word", WRONG)
def test_an_error_of_a_word_names_the_word(word: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("weight_decay: 0.1\n")
    for file in (None, tmp_path / "c.yaml"):
        with pytest.raises(ConfigError) as error:
            load(file, ["seed=1", word])
        assert str(error.value).startswith(WRONG[word]) and "c.yaml" not in str(error.value)
        assert "\n" not in str(error.value) and "Expected" not in str(error.value)


@pytest.mark.fault("L1")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lr: 1\nepochs: four\n", "c.yaml:2: epochs=four is no number"),
        ("lr: 1\nsparsity:\n  target: 2\n", "c.yaml:3: sparsity.target=2 is not between 0 and 0.95"),
        ("sparsity:\n  targt: 0.2\n", "c.yaml:2: unknown key 'sparsity.targt'; did you mean 'target'?"),
        ("lr: 1\nsparsity: {begin: 0.5}\n", "c.yaml:2: sparsity.end=0.4 is before sparsity.begin=0.5"),
        ("lr: 1\nimgsz: 640\n", "c.yaml:2: unknown key 'imgsz': here it is input_size=[640,640] (height, width)"),
        ("tasks:\n- boxes\nloss_weights:\n  boxs: 1\n", "c.yaml:4: loss_weights names 'boxs'; did you mean 'boxes'?"),
        ("lr: 1\nepochs: 2\nlr: 2\n", "line 3: 'lr' stands in line 1 already"),
        ("lr: [1\nseed: 2\n", "line 2: "),
    ],
)
def test_an_error_of_a_file_names_the_line(text: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError) as error:
        load(tmp_path / "c.yaml", ["weight_decay=0.1"])
    assert expected in str(error.value) and str(tmp_path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.fault("L1")
def test_files_of_other_editors_are_read(tmp_path: Path) -> None:
    for data in (b"\xef\xbb\xbfepochs: 3\r\nlr: 1e-2\r\n", "epochs: 3\nlr: 1e-2\n".encode("utf-16")):
        (tmp_path / "c.yaml").write_bytes(data)
        config = load(tmp_path / "c.yaml")
        assert (config.epochs, config.lr) == (3, 0.01)


@pytest.mark.fault("C2")
def test_escape_codes_of_a_word_do_not_reach_the_terminal() -> None:
    with pytest.raises(ConfigError) as error:
        load(None, ["epochs=\x1b[31mred\x07\x1b]0;title\x07"])
    assert str(error.value).isprintable() and "epochs=red?" in str(error.value)


@pytest.mark.fault("C2")
def test_words_of_other_tools_name_ours() -> None:
    names = {known.split("=")[0] for known in OTHER_TOOLS.values() if "." in known or known.isidentifier()}
    for name in names - {"not chosen: AdamW"}:
        if " " not in name:
            value_at(Config(), name)
    assert known_elsewhere("imgsz", "640") == "input_size=[640,640] (height, width)"
    assert known_elsewhere("mosaic") == "augment.mosaic" and known_elsewhere("target").startswith("sparsity.target or ")
    assert known_elsewhere("nonsense") == ""
