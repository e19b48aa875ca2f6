"""Checkpoints of ultralytics: read without running what is in them, and built to what ultralytics' own loader gives."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from edgemtl_models.ultralytics_checkpoint import CheckpointError, read_checkpoint

build_network = pytest.importorskip("edgemtl_models.yolo", reason="ultralytics is not installed").build_network

RAN = "EDGEMTL_TEST_RAN"


def saved(name: str, file: Path) -> torch.nn.Module:
    """Save a network as ultralytics does, and return it as its own loader gives it."""
    from ultralytics import YOLO

    torch.manual_seed(0)
    YOLO(f"{name}.yaml").save(str(file))
    network: torch.nn.Module = torch.load(file, weights_only=False)["model"].float().eval()
    return network


def tensors(tree: object) -> list[Tensor]:
    leaves, _ = torch.utils._pytree.tree_flatten(tree)
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "name",
    [
        "yolo11n",
        *(pytest.param(n, marks=SLOW) for n in ("yolov5n", "yolov8n", "yolov9t", "yolov10n", "yolo12n", "yolo26n")),
        pytest.param("yolov8n-seg", marks=SLOW),
        pytest.param("yolo11n-pose", marks=SLOW),
    ],
)
def test_a_network_answers_as_by_its_own_loader(name: str, tmp_path: Path) -> None:
    whole = saved(name, tmp_path / "net.pt")
    checkpoint = read_checkpoint(tmp_path / "net.pt")
    network = build_network(checkpoint)
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        wanted, given = tensors(whole(images)), tensors(network(images))
    assert len(wanted) == len(given) and all(torch.equal(a, b) for a, b in zip(wanted, given, strict=True))
    assert network.names == whole.names and torch.equal(network.stride, whole.stride)
    assert checkpoint.stride == whole.stride.tolist()


@pytest.mark.parametrize("name", ["yolo11n", pytest.param("yolo26n", marks=SLOW)])
@pytest.mark.parametrize("activation", ["Identity", "SiLU"])
def test_a_network_keeps_the_activations_of_the_release_that_it_was_trained_by(
    name: str, activation: str, tmp_path: Path
) -> None:
    """SPPF's first convolution: SiLU up to 8.3, none in 8.4.0, and later SiLU in the networks before YOLO26 alone."""
    whole = saved(name, tmp_path / "net.pt")
    whole.model[9].cv1.act = getattr(torch.nn, activation)()  # type: ignore[index, union-attr]
    torch.save({"model": whole}, tmp_path / "other.pt")
    network = build_network(read_checkpoint(tmp_path / "other.pt"))
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(tensors(whole(images))[0], tensors(network(images))[0])
    whole.model[9].cv1.act = torch.nn.Softmax()  # type: ignore[index, union-attr]
    torch.save({"model": whole}, tmp_path / "odd.pt")
    with pytest.raises(CheckpointError, match=r"its layer model\.9\.cv1\.act is a Softmax, which the ultralytics here"):
        build_network(read_checkpoint(tmp_path / "odd.pt"))


class Runs:
    """What runs a program when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.putenv, (RAN, "1")


class Calls:
    """What calls a class with arguments of the file when it is unpickled."""

    def __init__(self, cls: type, *args: object) -> None:
        self.call = cls, args

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


CODE = f"__import__('os').environ.__setitem__('{RAN}', '1') or nn.SiLU()"


def changed(network: torch.nn.Module, **changes: object) -> torch.nn.Module:
    network = copy.deepcopy(network)
    network.yaml = network.yaml | changes
    return network


def test_crafted_files_run_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ultralytics.nn.tasks import DetectionModel

    monkeypatch.delenv(RAN, raising=False)
    whole = saved("yolo11n", tmp_path / "net.pt")
    yaml = dict(whole.yaml)
    unpickles = [[-1, 1, "torch_safe_load", ["x.pt"]]]
    contents: dict[str, tuple[object, str]] = {
        "command": ({"model": Runs()}, r"names 'posix\.putenv', which is no layer of torch or ultralytics"),
        "call": ({"model": Calls(DetectionModel, yaml | {"activation": CODE})}, "with arguments"),
        "activation": ({"model": changed(whole, activation=CODE)}, "activation .__import__.* is none of SiLU"),
        "layer": (
            {"model": changed(whole, activation=None, backbone=unpickles)},
            "layer 'torch_safe_load' is none that",
        ),
        "os": ({"model": changed(whole, backbone=[[-1, 1, "os.system", ["true"]]])}, r"layer 'os\.system' is none"),
        "size": ({"model": changed(whole, backbone=[[-1, 1, "Conv", [1 << 40, 3]]])}, "holds the number 1.09951e"),
        "repeats": (
            {"model": changed(whole, backbone=[[-1, 10**9, "Conv", [64, 3]]])},
            "a Conv is repeated 1000000000",
        ),
        "nothing": ({"model": None, "epoch": 3}, "holds no network of ultralytics"),
        "list": ([1, 2], "holds no network of ultralytics"),
        "width": (
            {"model": changed(whole, backbone=yaml["backbone"], width_multiple=2.0, scales=None)},
            "not those of",
        ),
    }
    for name, (content, message) in contents.items():
        file = tmp_path / f"{name}.pt"
        torch.save(content, file)
        with pytest.raises(CheckpointError, match=message) as raised:
            build_network(read_checkpoint(file))
        assert "\n" not in str(raised.value), name
        assert os.environ.get(RAN) is None and "1" not in os.popen(f"echo ${RAN}").read(), name


def test_what_is_no_checkpoint_is_one_line(tmp_path: Path) -> None:
    for name, content, message in (
        ("text.pt", b"no network", "is no checkpoint of torch"),
        ("zip.pt", b"PK\x05\x06" + bytes(18), "cannot be read as a checkpoint"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=message):
            read_checkpoint(tmp_path / name)
    with pytest.raises(CheckpointError, match="there is no such file"):
        read_checkpoint(tmp_path / "none.pt")


def test_a_grey_network_is_built_of_one_channel(tmp_path: Path) -> None:
    from ultralytics import YOLO
    from ultralytics.nn.tasks import DetectionModel

    model = YOLO("yolo11n.yaml")
    model.model = DetectionModel("yolo11n.yaml", ch=1, nc=2, verbose=False)
    model.model.names = {0: "a", 1: "b"}
    model.save(str(tmp_path / "grey.pt"))
    network = build_network(read_checkpoint(tmp_path / "grey.pt"))
    assert next(network.parameters()).shape[1] == 1
