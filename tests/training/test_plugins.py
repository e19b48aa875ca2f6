"""Plugins: a file of the user's adds parts of every kind; somebody else's file runs only where it is trusted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import cv2
import extending
import pytest
from conftest import TINY

from edgemtl import plugins, run_plugins
from edgemtl.cli import main
from edgemtl.config_file import load, save, starter
from edgemtl.data.formats import FORMATS
from edgemtl.errors import ConfigError, EdgemtlError
from edgemtl.methods.weighting import TASK_WEIGHTINGS
from edgemtl.run import Run
from edgemtl.tasks import TASKS

pytestmark = pytest.mark.fault("L12")
WORDS = ["tasks=[temperature]", "input_size=[64,96]", "batch_size=4", "steps=2", "augment.mosaic=1"]
MARK = "from pathlib import Path\nPath(__file__).with_suffix('.ran').touch()\n"
"""Code that leaves a trace."""


@pytest.fixture(autouse=True)
def unloaded() -> Iterator[None]:
    """Nothing that a test loads stays."""
    yield
    for name in plugins.loaded():
        plugins.unload(name)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files and data of docs/extending.md, with a short training of the task in ``run``."""
    folder = extending.write(tmp_path_factory.mktemp("extending"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", "plugins=[temperature.py]", *WORDS, "data.source=thermal", "--out", "run"]) == 0
    for name in plugins.loaded():
        plugins.unload(name)
    return folder


def answer(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    """Return a command's exit code, standard output and standard error."""
    code = main([str(word) for word in words])
    return code, *capsys.readouterr()


def test_the_documents_task_is_checked_shown_trained_reported_and_evaluated(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained)
    code, out, _ = answer(capsys, "data", "check", "thermal", "--plugin", "temperature.py", "--json")
    counts = json.loads(out)["splits"]["train"]
    assert code == 0 and counts["labelled"]["temperature"] == 8 and counts["temperature"]["known"] == 0.9375
    assert answer(capsys, "data", "show", "thermal", "--plugin", "temperature.py", "--out", "shown.png")[0] == 0
    report = (trained / "run" / "report.html").read_text()
    assert "temperature_mae_c \u2193" in report and report.count("<img") >= 4
    code, out, _ = answer(capsys, "eval", "run", "--plugin", "temperature.py", "--json")
    error = json.loads(out)["all"]["temperature_mae_c"]
    assert code == 0 and error == Run.open(trained / "run").metrics["val"]["all"]["temperature_mae_c"]
    code, out, _ = answer(capsys, "compare", "run", "--plugin", "temperature.py")
    assert code == 0 and "temperature_mae_c \u2193" in out
    assert answer(capsys, "compare", "run")[0] == 0  # metrics are numbers: no plugin is needed


def test_wrong_labels_of_a_custom_task_are_problems_with_their_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(extending.write(tmp_path, 2, 1))
    file = Path("thermal/temperature/train/1.png")
    file.write_bytes(Path("thermal/rgb/train/1.png").read_bytes())
    code, _, err = answer(capsys, "data", "check", "thermal", "--plugin", "temperature.py")
    assert code == 2 and f"{file}: a temperature map has one channel of 16 bits" in err


def test_the_documents_format_is_asked_first(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugin = [word for name in ("temperature.py", "listed.py") for word in ("--plugin", trained / name)]
    code, out, _ = answer(capsys, "data", "check", trained / "listed", *plugin)
    assert code == 0 and "labelled: temperature" in out and "depth" not in out
    assert "listed" in FORMATS


@pytest.mark.parametrize(
    "command", [["eval", "RUN"], ["export", "RUN", "--out", "b"], ["predict", "RUN", "thermal", "--out", "p"]]
)
def test_the_code_that_a_run_names_runs_only_when_trusted(
    trained: Path, command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained)
    code, _, err = answer(capsys, *(word.replace("RUN", "run") for word in command))
    assert code == 2 and err.count("\n") == 1 and "temperature" not in TASKS
    assert f"run names the plugin {trained / 'temperature.py'}, whose code would run" in err and "--trust" in err


def test_a_trusted_run_is_opened_and_a_changed_plugin_is_reported(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained)
    code, _, err = answer(capsys, "eval", "run", "--trust")
    assert code == 0 and "has changed" not in err
    plugins.unload(str(trained / "temperature.py"))
    moved = tmp_path / "temperature.py"  # another copy of the file, which the user gives instead
    moved.write_text((trained / "temperature.py").read_text() + "\n# edited\n")
    code, _, err = answer(capsys, "eval", "run", "--plugin", moved)
    assert code == 0 and f"the plugin {moved} has changed since run was trained with it" in err


def test_what_a_configuration_names_runs_only_when_trusted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plugin, file = tmp_path / "other.py", tmp_path / "other.yaml"
    plugin.write_text(MARK)
    file.write_text(f"plugins: [{plugin}]\ndata: {{source: nowhere}}\n")
    for words in (["other.yaml"], ["other.yaml", "--resume"], ["other.yaml", "epochs=2"]):
        code, _, err = answer(capsys, "train", *words)
        assert code == 2 and f"other.yaml names the plugin {plugin}" in err and f"plugins=[{plugin}]" in err
        assert err.count("\n") == 1 and not (tmp_path / "other.ran").exists()
    for words in (
        ["other.yaml", "--trust"],
        ["other.yaml", f"plugins=[{plugin}]"],
        ["plugins=[other.py]", "data.source=nowhere"],
    ):
        (tmp_path / "other.ran").unlink(missing_ok=True)
        code, _, err = answer(capsys, "train", *words)
        assert "nowhere: there is no such folder" in err and (tmp_path / "other.ran").exists()
        plugins.unload(str(plugin))


def test_a_plugin_next_to_its_configuration_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "near.py").write_text(MARK)
    (tmp_path / "near.yaml").write_text("plugins: [near.py]\ndata: {source: nowhere}\n")
    answer(capsys, "train", tmp_path / "near.yaml", "--trust")
    assert (tmp_path / "near.ran").exists()


def test_a_start_names_its_plugins_too(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = answer(capsys, "train", f"init_from={trained / 'run'}", "--out", trained / "second")
    assert code == 2 and "names the plugin" in err and "--trust" in err


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import nothing_of_that_name", "line 1: ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("x = 1\nx +", "line 2: SyntaxError: "),
        ("def f():\n    raise ValueError('no')\nf()", "line 2: ValueError: no"),
        (
            "from edgemtl.plugins import *\nregister_head('new')(object)\nregister_task('depth')(object)",
            "line 3: there is a task 'depth' already; choose another name",
        ),
        ("from edgemtl.plugins import *\nregister_task('a b')", "line 2: a task is named by letters, digits"),
        (
            "from edgemtl.plugins import *\n@register_task('new')\nclass New: primary = 'x'",
            "line 2: task 'new' has no higher_is_better, class_key, label_files, default_head, target_type, head, "
            "loss, metric, as_result; derive it from edgemtl.tasks.base.SimpleTask",
        ),
        ("import sys\nsys.exit(3)", "line 2: SystemExit: 3"),
    ],
)
def test_a_plugin_that_cannot_be_loaded_is_one_line_and_registers_nothing(
    tmp_path: Path, code: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "broken.py"
    file.write_text(code)
    exit_code, _, err = answer(capsys, "data", "check", tmp_path, "--plugin", file)
    assert exit_code == 2 and err.startswith(f"edgemtl: plugin {file}: {message}") and err.count("\n") == 1
    assert "new" not in {*TASKS, *plugins.HEADS} and not plugins.loaded()


@pytest.mark.parametrize("name", ["missing.py", "notes.txt"])
def test_what_is_no_plugin_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=f"plugin .*{name}: (cannot be read|is no Python file)"):
        plugins.load(tmp_path / name)


def test_a_plugin_is_run_once(tmp_path: Path) -> None:
    (tmp_path / "once.py").write_text("import builtins\nbuiltins.times = getattr(builtins, 'times', 0) + 1\n")
    assert plugins.load(tmp_path / "once.py") is plugins.load(tmp_path / "once.py")
    import builtins

    assert vars(builtins).pop("times") == 1


def test_installed_plugins_are_loaded_and_a_broken_one_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "packaged_weighting.py").write_text(extending.files()["random_weighting.py"])
    monkeypatch.syspath_prepend(str(tmp_path))
    entries = [EntryPoint(*words, plugins.GROUP) for words in (("ours", "packaged_weighting"), ("bad", "no"))]
    monkeypatch.setattr(plugins, "entry_points", lambda group: entries if group == plugins.GROUP else [])
    monkeypatch.setattr(plugins._state, "searched", False)
    plugins.load_installed()
    assert "random" in TASK_WEIGHTINGS and set(plugins.loaded()) == {"ours"}
    assert "plugin bad of the package no: ModuleNotFoundError" in capsys.readouterr().err
    used = run_plugins.used(load(None, ["task_weighting=random"]), {})
    assert used == {"ours": "packaged_weighting"} and run_plugins.used(load(None, []), {}) == {}
    plugins.unload("ours")
    with pytest.raises(EdgemtlError, match="needs the plugin ours of the package packaged_weighting: install it"):
        run_plugins.check(tmp_path, used)


def test_a_configuration_keeps_plugins_and_their_options(tmp_path: Path) -> None:
    config = load(None, ["plugins=[a.py,b.py]", "options.random={depth: 2, on: true, mode: fast, lr: 1e-3}"])
    save(config, tmp_path / "config.yaml")
    assert load(tmp_path / "config.yaml") == config and config.plugins == ("a.py", "b.py")
    assert config.options == {"random": {"depth": 2, "on": True, "mode": "fast", "lr": 0.001}}
    assert "plugins: []" in starter("x.yaml")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("return [x, x, x]", r"gives \(1, 3, 128, 128\), .* wanted are a list of three .* of 32x32, 16x16, 8x8"),
        ("return x[:, :, ::4, ::4]", "wanted are a list of three feature maps"),
    ],
)
def test_a_backbone_with_other_strides_is_rejected_with_what_it_gives(tmp_path: Path, code: str, message: str) -> None:
    from edgemtl.data.datasets import open_datasets
    from edgemtl.train import begin

    file = tmp_path / "wrong.py"
    file.write_text(
        "from torch import nn\nfrom edgemtl.plugins import register_backbone\n@register_backbone('plain')\n"
        f"class Plain(nn.Module):\n    def __init__(self, channels, widths): super().__init__()\n"
        f"    def forward(self, x): {code}\n"
    )
    plugins.load(file)
    (tmp_path / "plain.yaml").write_text(extending.files()["plain.yaml"])
    config = load(None, [*TINY, "tasks=[depth]", f"network={tmp_path / 'plain.yaml'}", "steps=1"])
    with pytest.raises(ConfigError, match=f"backbone 'plain' .*{message}"):
        begin(config, open_datasets(config))


def test_a_tasks_key_folder_and_file_types_are_read_from_the_task(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A key of classes in data.yaml, another folder, and labels as TIFF: as those of the built-in tasks."""
    text = (trained / "temperature.py").read_text()
    key = "    label_files = LabelFiles(read_celsius)"
    assert key in text
    plugin = tmp_path / "temperature.py"
    plugin.write_text(text.replace(key, f'    class_key = "surfaces"\n{key}'))
    data = tmp_path / "thermal"
    shutil.copytree(trained / "thermal", data)
    (data / "temperature").rename(data / "celsius")
    for file in (data / "celsius").glob("*/*.png"):
        pixels = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        assert pixels is not None and cv2.imwrite(str(file.with_suffix(".tif")), pixels)
        file.unlink()
    (data / "data.yaml").write_text("surfaces: [wall, floor]\nfolders: {temperature: celsius}\n")
    code, out, _ = answer(capsys, "data", "check", data, "--plugin", plugin, "--json")
    assert code == 0 and json.loads(out)["splits"]["train"]["labelled"]["temperature"] == 8
    (data / "data.yaml").write_text("surface: [wall, floor]\n")
    code, _, err = answer(capsys, "data", "check", data, "--plugin", plugin)
    assert code == 2 and "unknown key 'surface'; did you mean 'surfaces'?" in err
