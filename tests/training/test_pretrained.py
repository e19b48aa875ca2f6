"""Weights are taken over by meaning: classes, heads and cameras by name, whatever order either network has them in."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import edgemtl_models
from edgemtl.checkpoint import check_meaning, meaning
from edgemtl.config import Config
from edgemtl.errors import ConfigError, EdgemtlError
from edgemtl.initial_weights import read_initial_weights
from edgemtl.named_axes import class_dimensions
from edgemtl.pretrained import load_pretrained
from edgemtl.run import Interface, interface_of, write_weights
from edgemtl.tasks import TASKS
from edgemtl_models import MultiTask
from edgemtl_models.description import read as read_description

SIZE = (64, 64)
Classes = dict[str, Sequence[str]]
FUSIONS = {
    "concat": {"kind": "concat"},
    "early": {"kind": "early"},
    "mid": {"kind": "mid", "level": "p3"},
    "aligned": {"kind": "aligned", "fuse_at": ["p2", "p3", "p4", "p5"], "align": ["stage3", "neck"]},
    "tied": {"kind": "aligned", "fuse_at": ["p2", "p3", "p4", "p5"], "shared": ["stage3.0.conv", "stage4.0.conv"]},
    "head taps": {},
}


def described(cameras: Sequence[str] = ("rgb", "ir")) -> dict[str, Any]:
    file = Path(edgemtl_models.__file__).parent / "zoo" / "rgbir-n.yaml"
    description = read_description(file)
    streams = description["streams"] | {"depth": description["streams"]["ir"]}
    return description | {"streams": {name: streams[name] for name in cameras}}


def network_of(
    classes: Classes, seed: int, cameras: Sequence[str] = ("rgb", "ir"), **options: Any
) -> tuple[MultiTask, Interface]:
    """A network whose every number is drawn, batch statistics too, so that no two channels are alike."""
    torch.manual_seed(seed)
    tasks = {name: TASKS[name](tuple(names)) for name, names in classes.items()}
    channels = {name: task.channels for name, task in tasks.items()}
    network = edgemtl_models.build(described(cameras), channels, SIZE, pretrained=False, **options)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(0.1 * torch.rand_like(tensor) + 0.01)
    interface = interface_of(network, Config(input_size=SIZE), tuple(task.head() for task in tasks.values()))
    return network.eval(), interface


def saved(folder: Path, network: MultiTask, interface: Interface) -> Path:
    folder.mkdir(exist_ok=True)
    write_weights(folder, Config(input_size=SIZE), network, interface)
    (folder / "metrics.json").write_text("{}")
    return folder


def outputs(network: MultiTask) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = {
        name: torch.rand(2, spec.channels, *SIZE, generator=generator) for name, spec in sorted(network.inputs.items())
    }
    with torch.no_grad():
        return {name: out for name, out in network(**images).items()}


CLASSES: Classes = {"boxes": ("redcar", "bluebus"), "semantic": ("road", "sky", "tree"), "attributes": ("day", "rain")}


@pytest.mark.fault("D7")
def test_another_order_of_the_classes_gives_the_same_logits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = network_of(CLASSES, 0)
    reordered: Classes = {
        "attributes": ("rain", "day"),
        "boxes": ("bluebus", "redcar"),
        "semantic": ("tree", "road", "sky"),
    }
    new = network_of(reordered, 1)
    load_pretrained(*new, str(saved(tmp_path / "run", *old)))
    before, after = outputs(old[0]), outputs(new[0])
    for task, first in (("boxes", 4), ("semantic", 0), ("attributes", 0)):
        order = [CLASSES[task].index(name) for name in reordered[task]]
        dim = 2 if task == "boxes" else 1
        expected = before[task].index_select(dim, torch.tensor([*range(first), *(first + i for i in order)]))
        assert torch.equal(after[task], expected), task
    printed = capsys.readouterr().err
    total = len(new[0].state_dict())
    assert f"{total} of {total} tensors" in printed and "new" not in printed and printed.count("\n") == 1


@pytest.mark.fault("D7")
def test_a_hidden_layer_as_wide_as_there_are_classes_is_none_of_classes(tmp_path: Path) -> None:
    names = [f"c{index}" for index in range(64)]  # of 64 classes the hidden layers of the branch are 64 wide
    old, new = network_of({"boxes": names}, 0), network_of({"boxes": names[::-1]}, 1)
    assert all(set(dims) == {0} for dims in class_dimensions(new[1]).values())
    load_pretrained(*new, str(saved(tmp_path / "run", *old)))
    before, after = outputs(old[0])["boxes"], outputs(new[0])["boxes"]
    assert torch.equal(after[..., :4], before[..., :4]) and torch.equal(after[..., 4:], before[..., 4:].flip(-1))


@pytest.mark.fault("D7")
def test_new_classes_heads_and_cameras_are_listed_and_the_known_ones_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = network_of({"boxes": ("car", "bus"), "semantic": ("road", "sky"), "edges": ()}, 0, ("rgb", "ir"))
    new = network_of({"boxes": ("truck", "bus"), "semantic": ("sky", "road"), "depth": ()}, 1, ("depth", "rgb"))
    fresh = {name: tensor.clone() for name, tensor in new[0].state_dict().items()}
    load_pretrained(*new, str(saved(tmp_path / "run", *old)))
    printed = capsys.readouterr().err.strip()
    for part in (
        "new head: depth",
        "new camera: depth",
        "new classes of boxes: truck",
        "not used: head edges",
        "not used: camera ir",
        "not used: classes of boxes: car",
    ):
        assert part in printed, printed
    assert "new: " not in printed
    state, source = new[0].state_dict(), old[0].state_dict()
    for level in range(3):
        row = state[f"heads.boxes.detect.cv3.{level}.2.weight"]
        assert torch.equal(row[1], source[f"heads.boxes.detect.cv3.{level}.2.weight"][1])
        assert torch.equal(row[0], fresh[f"heads.boxes.detect.cv3.{level}.2.weight"][0])
        fused, given = (s[f"trunk.fuse.{level}.conv.weight"] for s in (state, source))
        half = fused.shape[1] // 2
        assert torch.equal(fused[:, half:], given[:, :half])  # rgb's columns: the second camera here, the first there
        assert torch.equal(fused[:, :half], fresh[f"trunk.fuse.{level}.conv.weight"][:, :half])
    assert torch.equal(state["trunk.backbones.rgb.stem.conv.weight"], source["trunk.backbones.rgb.stem.conv.weight"])
    assert torch.equal(state["heads.semantic.out.bias"], source["heads.semantic.out.bias"].flip(0))


@pytest.mark.fault("D7")
@pytest.mark.parametrize("fusion", FUSIONS)
def test_cameras_in_another_order_give_the_same_outputs(fusion: str, tmp_path: Path) -> None:
    options: dict[str, Any] = (
        {"fusion": FUSIONS[fusion]} if FUSIONS[fusion] else {"head_taps": {"semantic": "stage16.1"}}
    )
    classes: Classes = {"semantic": ("road", "sky")}
    old, new = network_of(classes, 0, ("rgb", "ir"), **options), network_of(classes, 1, ("ir", "rgb"), **options)
    if fusion == "tied":
        untied = {"fusion": FUSIONS["aligned"]}
        new = network_of(classes, 1, ("ir", "rgb"), **untied)
    load_pretrained(*new, str(saved(tmp_path / "run", *old)))
    before, after = outputs(old[0])["semantic"], outputs(new[0])["semantic"]
    assert torch.allclose(before, after, rtol=1e-4, atol=1e-5) and before.std() > 1e-3


@pytest.mark.fault("D7")
def test_the_branches_of_a_head_are_matched_by_their_strides(tmp_path: Path) -> None:
    """A head that reads strides 16 and 32 alone has no first branch of stride 8."""
    fine, coarse = ({"kind": "aligned", "fuse_at": levels} for levels in (["p3", "p4", "p5"], ["p4", "p5"]))
    old, new = (network_of({"boxes": ("car",)}, seed, fusion=f) for seed, f in ((0, fine), (1, coarse)))
    load_pretrained(*new, str(saved(tmp_path / "run", *old)))
    for index in range(2):
        name = "heads.boxes.detect.cv3.{}.2.bias"
        assert torch.equal(new[0].state_dict()[name.format(index)], old[0].state_dict()[name.format(index + 1)])


@pytest.mark.fault("D7")
@pytest.mark.parametrize("prefix", ["", "_orig_mod.module."])
def test_a_file_without_a_description_is_loaded_in_its_order_and_that_is_said(
    prefix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classes: Classes = {"boxes": ("car",), "semantic": ("road", "sky")}
    (old, _), new = network_of(classes, 0), network_of(classes, 1)
    tensors = {f"{prefix}{name}": tensor for name, tensor in old.state_dict().items()}
    if prefix:
        torch.save({"epoch": 3, "state_dict": tensors}, file := tmp_path / "w.pt")
    else:
        save_file(tensors, file := tmp_path / "w.safetensors")
    load_pretrained(*new, str(file))
    assert all(torch.equal(tensor, old.state_dict()[name]) for name, tensor in new[0].state_dict().items())
    assert "the classes of semantic and the cameras are taken to be in" in capsys.readouterr().err


@pytest.mark.fault("D7")
def test_the_weights_file_of_a_run_is_as_good_as_the_run(tmp_path: Path) -> None:
    old, new = network_of({"boxes": ("a", "b")}, 0), network_of({"boxes": ("b", "a")}, 1)
    load_pretrained(*new, str(saved(tmp_path / "run", *old) / "weights.safetensors"))
    name = "heads.boxes.detect.one2one_cv3.0.2.bias"
    assert torch.equal(new[0].state_dict()[name], old[0].state_dict()[name].flip(0))


@pytest.mark.fault("D7")
def test_a_run_of_version_0_1_names_its_classes(capsys: pytest.CaptureFixture[str]) -> None:
    run = Path(__file__).parents[1] / "fixtures" / "version-0.1" / "run"
    weights = read_initial_weights(run)
    assert weights.interface is not None
    classes = {head.name: head.classes for head in weights.interface.heads}
    reverse: Classes = {name: names[::-1] for name, names in classes.items()}
    description = weights.interface.network
    torch.manual_seed(0)
    channels = {name: TASKS[name](tuple(names)).channels for name, names in reverse.items()}
    network = edgemtl_models.build(description, channels, SIZE, pretrained=False)
    heads = tuple(TASKS[name](tuple(names)).head() for name, names in reverse.items())
    load_pretrained(network, interface_of(network, Config(input_size=SIZE), heads), str(run))
    old = weights.state.tensors["heads.semantic.out.bias"]
    assert torch.equal(network.state_dict()["heads.semantic.out.bias"], old.flip(0))
    assert "new" not in capsys.readouterr().err


class Foreign:
    """Stands for a class of another library in a pickle."""


@pytest.mark.fault("C2")
def test_a_pickle_of_another_library_is_refused_in_a_short_line(tmp_path: Path) -> None:
    torch.save({"model": Foreign()}, tmp_path / "x.pt")
    with pytest.raises(
        ConfigError, match=r"holds objects of .*Foreign, not tensors alone: save its state_dict"
    ) as error:
        read_initial_weights(tmp_path / "x.pt")
    assert str(error.value).isprintable() and len(str(error.value)) < 250
    (tmp_path / "y.pt").write_bytes(pickle.dumps([1, 2], 2))
    with pytest.raises(ConfigError, match="no tensors in it"):
        read_initial_weights(tmp_path / "y.pt")


@pytest.mark.fault("D7")
def test_a_training_is_not_resumed_on_data_whose_classes_have_another_order() -> None:
    _, before = network_of(CLASSES, 0)
    _, after = network_of(CLASSES | {"boxes": ("bluebus", "redcar")}, 0)
    stored = json.loads(json.dumps(meaning(before)))
    check_meaning(stored, meaning(before))
    check_meaning({}, meaning(after))  # a state that an earlier version left
    with pytest.raises(EdgemtlError, match=r"the classes of boxes were redcar, bluebus when .* bluebus, redcar now"):
        check_meaning(stored, meaning(after))
