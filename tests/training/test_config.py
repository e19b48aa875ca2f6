"""Configurations: read, overridden, refused with the nearest right word."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgemtl.config import Config, Sparsity, load, save
from edgemtl.errors import ConfigError


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
        (["input_size=[0,0]"], "height of size=0 is not between"),
        (["clip=-1"], "clip=-1"),
        (["seed=-1"], "seed=-1"),
        (["augment.mosaic_zoom=5"], "augment.mosaic_zoom=5"),
        (["weights.boxs=2"], "weights names 'boxs'; did you mean 'boxes'"),
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
