"""Which licence a run and its bundle are under: edgemtl's own, and what the weights that it began with bring along."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
import tomllib
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from edgemtl.config import Config
from edgemtl.licence import AGPL, licence, origins_of
from edgemtl.run import Run, read_interface
from edgemtl.run_files import WEIGHTS

ROOT = Path(__file__).parents[2]


def rewritten(run: Run, folder: Path, **changes: Any) -> Path:
    """Copy a run with other words in its interface; None takes them away, as they are not in older runs."""
    shutil.copytree(run.path, folder)
    with safe_open(run.path / WEIGHTS, "pt") as file:
        metadata = dict(file.metadata())
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    interface = msgspec.json.decode(metadata["interface"])
    for name, value in changes.items():
        interface.pop(name, None)
        if value is not None:
            interface[name] = value
    save_file(state, folder / WEIGHTS, metadata | {"interface": msgspec.json.encode(interface).decode()})
    return folder


def test_a_run_from_scratch_is_free_of_agpl_and_says_so(tiny_run: Run) -> None:
    assert tiny_run.interface.origins == {}
    assert tiny_run.licence.startswith("Apache-2.0: ") and AGPL not in tiny_run.licence
    assert "training data" in tiny_run.licence
    assert f">{tiny_run.licence.replace(chr(39), '&#x27;')}<" in (tiny_run.path / "report.html").read_text()


def test_an_older_run_opens_and_keeps_the_licence_of_the_modules_it_was_trained_by(
    tiny_run: Run, tmp_path: Path
) -> None:
    older = Run.open(rewritten(tiny_run, tmp_path / "older", origins=None))
    assert older.interface.origins is None and older.licence.startswith(f"{AGPL}: trained by an older edgemtl")
    on_it = origins_of(Config(init_from=str(older.path)), {})
    assert on_it == {"older": AGPL} and licence(on_it).startswith(
        f"{AGPL}: it comes from older, trained by ultralytics"
    )


@pytest.mark.parametrize(
    ("metadata", "of"),
    [
        ({"ultralytics": "{}"}, AGPL),
        ({"format": "pt"}, ""),
        (None, ""),
        *(({"interface": text}, "") for text in ("{", "[]", '{"origins": [1]}', '{"origins": {"a": 1}}')),
    ],
    ids=str,
)
def test_a_training_is_bound_by_what_it_begins_with(metadata: dict[str, str] | None, of: str, tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(1)}, tmp_path / "start.safetensors", metadata)
    origins = origins_of(Config(init_from=str(tmp_path / "start.safetensors")), {})
    assert origins == {"start.safetensors": of}
    assert licence(origins).startswith(AGPL if of else "Apache-2.0") and "start.safetensors" in licence(origins)


def test_what_bound_a_run_binds_those_that_begin_with_it_or_are_taught_by_it(tiny_run: Run, tmp_path: Path) -> None:
    bound = rewritten(tiny_run, tmp_path / "bound", origins={"yolo11n.safetensors": AGPL})
    imagenet = rewritten(tiny_run, tmp_path / "imagenet", origins={"lite0.pth": ""})
    for config in (Config(init_from=str(bound)), Config(teacher=str(bound)), Config(teachers={"boxes": str(bound)})):
        assert origins_of(config, {}) == {"yolo11n.safetensors": AGPL}
    both = origins_of(Config(init_from=str(imagenet), teacher=str(bound)), {})
    assert both == {"lite0.pth": "", "yolo11n.safetensors": AGPL} and licence(both).startswith(AGPL)
    assert origins_of(Config(init_from=str(tiny_run.path)), {}) == {}


def test_weights_that_a_backbone_starts_from_are_named() -> None:
    stream = {"backbone": {"kind": "timm", "model": "mobilenetv2_100", "weights": "folder/imagenet.pth"}}
    origins = origins_of(Config(), {"streams": {"rgb": stream, "ir": {"backbone": [[1]]}}})
    assert origins == {"imagenet.pth": ""} and "imagenet.pth" in licence(origins)


def test_the_licence_of_a_backbone_s_weights_is_named_where_it_is_stated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEMTL_WEIGHTS", str(tmp_path))
    save_file({"weight": torch.zeros(1)}, tmp_path / "timm-a.safetensors", {"license": "MIT"})
    names = {"rgb": "efficientnet-lite0", "ir": "timm-a.safetensors", "depth": "nowhere.pth"}
    streams = {camera: {"backbone": {"kind": "timm", "weights": name}} for camera, name in names.items()}
    origins = origins_of(Config(), {"streams": streams})
    assert origins == {"efficientnet-lite0": "Apache-2.0", "timm-a.safetensors": "MIT", "nowhere.pth": ""}
    assert "efficientnet-lite0 (Apache-2.0), timm-a.safetensors (MIT), nowhere.pth" in licence(origins)


def test_the_interface_keeps_where_weights_come_from(tiny_run: Run) -> None:
    interface = msgspec.structs.replace(tiny_run.interface, origins={"a.pth": ""})
    assert read_interface(msgspec.json.encode(interface).decode()).origins == {"a.pth": ""}


def test_agpl_is_of_the_files_that_stand_on_ultralytics_alone() -> None:
    """The import contract says that one file imports it; the other subclasses its trainer."""
    marked, standing = set(), set()
    for file in [*(ROOT / "edgemtl").rglob("*.py"), *(ROOT / "models").rglob("*.py")]:
        text = file.read_text()
        if "SPDX-License-Identifier: AGPL" in text:
            marked.add(file.name)
        if re.search(r"^(from|import) (ultralytics|\.yolo )", text, re.M):
            standing.add(file.name)
    assert marked == standing == {"yolo.py", "yolo_training.py"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert not [name for name in project["dependencies"] if "ultralytics" in name]
    assert len(project["optional-dependencies"]["yolo"]) == 1
    for file, words in (("LICENSE", "Apache License"), ("LICENSE.AGPL-3.0", "GNU AFFERO GENERAL PUBLIC LICENSE")):
        assert words in (ROOT / file).read_text()[:200] and file in project["license-files"]
